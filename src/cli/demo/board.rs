//! The departures board: what a person wants to know about the rows that are alive.

use std::collections::HashMap;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};

use super::airline::integers;
use crate::error::{Error, Result};

/// Flights that routes need before their mean delay says anything.
const ENOUGH: u64 = 30;

/// Counts and delays of a set of flights.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Tally {
    /// Rows that are alive.
    pub(super) flights: u64,
    /// Those that have left.
    pub(super) departed: u64,
    /// Those that have arrived.
    pub(super) arrived: u64,
    dep_delay: i64,
    arr_delay: i64,
    late: u64,
}

impl Tally {
    fn add(&mut self, dep_delay: Option<i32>, arr_delay: Option<i32>) {
        self.flights += 1;
        if let Some(delay) = dep_delay {
            self.departed += 1;
            self.dep_delay += i64::from(delay);
            self.late += u64::from(delay > 15);
        }
        if let Some(delay) = arr_delay {
            self.arrived += 1;
            self.arr_delay += i64::from(delay);
        }
    }

    /// Mean minutes late at departure.
    pub(super) fn mean_departure_delay(&self) -> f64 {
        mean(self.dep_delay, self.departed)
    }

    /// Mean minutes late at arrival.
    pub(super) fn mean_arrival_delay(&self) -> f64 {
        mean(self.arr_delay, self.arrived)
    }

    /// Share of departures more than 15 minutes late, in percent.
    pub(super) fn late_percent(&self) -> f64 {
        100.0 * mean(i64::try_from(self.late).unwrap_or(i64::MAX), self.departed)
    }
}

fn mean(sum: i64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { sum as f64 / count as f64 }
}

/// Tallies in total, per route and per airline.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Everything.
    pub(super) total: Tally,
    routes: HashMap<(String, String), Tally>,
    carriers: HashMap<String, Tally>,
}

impl Board {
    /// Counts a scanned batch with columns carrier, origin, dest, dep_delay and arr_delay.
    ///
    /// # Errors
    /// `Internal` if the scan did not return them.
    pub(super) fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let (dep, arr) = (integers(rows, "dep_delay")?, integers(rows, "arr_delay")?);
        let text = |name: &str| {
            rows.column_by_name(name)
                .and_then(|c| c.as_string_opt::<i32>())
                .ok_or_else(|| Error::internal(format!("no text column `{name}`")))
        };
        let (carrier, origin, dest) = (text("carrier")?, text("origin")?, text("dest")?);
        for row in 0..rows.num_rows() {
            let departure = dep.is_valid(row).then(|| dep.value(row));
            let arrival = arr.is_valid(row).then(|| arr.value(row));
            self.total.add(departure, arrival);
            let route = (origin.value(row).to_string(), dest.value(row).to_string());
            self.routes.entry(route).or_default().add(departure, arrival);
            self.carriers
                .entry(carrier.value(row).to_string())
                .or_default()
                .add(departure, arrival);
        }
        Ok(())
    }

    /// Routes by mean arrival delay, worst first, among those flown often enough.
    pub(super) fn worst_routes(&self, count: usize) -> Vec<(String, Tally)> {
        let often = self.routes.iter().filter(|(_, t)| t.arrived >= ENOUGH);
        let mut routes: Vec<_> = often.map(|((o, d), t)| (format!("{o}-{d}"), *t)).collect();
        sort_by_delay(&mut routes);
        routes.truncate(count);
        routes
    }

    /// Airlines by mean arrival delay, best first.
    pub(super) fn best_carriers(&self, count: usize) -> Vec<(String, Tally)> {
        let often = self.carriers.iter().filter(|(_, t)| t.arrived >= ENOUGH);
        let mut carriers: Vec<_> = often.map(|(c, t)| (c.clone(), *t)).collect();
        sort_by_delay(&mut carriers);
        carriers.reverse();
        carriers.truncate(count);
        carriers
    }
}

fn sort_by_delay(tallies: &mut [(String, Tally)]) {
    tallies.sort_by(|a, b| {
        let by_delay = b.1.mean_arrival_delay().total_cmp(&a.1.mean_arrival_delay());
        by_delay.then_with(|| a.0.cmp(&b.0))
    });
}

/// Durations of one kind of work.
#[derive(Debug, Default)]
pub(super) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Notes one.
    pub(super) fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// How many.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The duration that `percent` of them do not exceed.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(rank).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_count_only_flights_that_flew() {
        let mut tally = Tally::default();
        tally.add(Some(20), Some(10));
        tally.add(Some(0), None);
        tally.add(None, None);
        assert_eq!((tally.flights, tally.departed, tally.arrived), (3, 2, 1));
        assert_eq!((tally.mean_departure_delay(), tally.mean_arrival_delay()), (10.0, 10.0));
        assert_eq!(tally.late_percent(), 50.0);
    }

    #[test]
    fn percentiles_are_ranks() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(50), Duration::ZERO);
        (1..=100).for_each(|ms| latencies.add(Duration::from_millis(ms)));
        assert_eq!(latencies.percentile(50), Duration::from_millis(50));
        assert_eq!(latencies.percentile(95), Duration::from_millis(95));
    }
}
