//! A year of real flights as the airline that operates them would write it down.
//!
//! In: the rows of `testdata/flights`, built into the binary. Out: batches to commit, in the
//! order in which the world learned about them: the schedule first, then, window by window of
//! each day, departures, arrivals and cancellations. Pure: no table, no clock.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, RecordBatch, UInt32Array, new_null_array,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::{Error, Result};

const FLIGHTS: &[u8] = include_bytes!("../../../testdata/flights/flights.parquet");

/// What names a flight.
pub(super) const KEY: [&str; 4] = ["time_hour", "carrier", "flight", "origin"];

/// Known once a flight has left.
const AT_DEPARTURE: [&str; 3] = ["tailnum", "dep_time", "dep_delay"];
/// Known once it has arrived.
const AT_ARRIVAL: [&str; 3] = ["arr_time", "arr_delay", "air_time"];

/// Hours of local time at which a window of the day ends.
const WINDOWS: [i32; 4] = [900, 1300, 1800, 2400];

/// One day of the calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Day {
    /// 1 to 12.
    pub(super) month: i32,
    /// Day of the month.
    pub(super) day: i32,
    rows: Range<usize>,
}

impl Day {
    /// How many flights are scheduled.
    pub(super) fn scheduled(&self) -> usize {
        self.rows.len()
    }
}

/// What the world learned in one window of a day: one commit.
#[derive(Debug)]
pub(super) struct News {
    /// Whole rows of flights that left or arrived; several for one flight come in order.
    pub(super) upserts: Vec<RecordBatch>,
    /// Keys of flights that will not leave.
    pub(super) cancelled: Option<RecordBatch>,
    /// How many left.
    pub(super) departures: usize,
    /// How many arrived.
    pub(super) arrivals: usize,
}

impl News {
    /// Rows that travel with this commit.
    pub(super) fn rows(&self) -> usize {
        let upserts: usize = self.upserts.iter().map(RecordBatch::num_rows).sum();
        upserts + self.cancellations()
    }

    /// How many were cancelled.
    pub(super) fn cancellations(&self) -> usize {
        self.cancelled.as_ref().map_or(0, RecordBatch::num_rows)
    }
}

/// The year.
#[derive(Debug)]
pub(super) struct Airline {
    flights: RecordBatch,
    days: Vec<Day>,
}

impl Airline {
    /// Decodes the built-in data.
    ///
    /// # Errors
    /// `CorruptData` if the binary was built from damaged data.
    pub(super) fn open() -> Result<Self> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from_static(FLIGHTS))?;
        let schema = builder.schema().clone();
        let batches = builder.with_batch_size(1 << 15).build()?.collect::<Result<Vec<_>, _>>()?;
        Self::of(concat_batches(&schema, &batches)?)
    }

    /// Rows sorted by local date.
    fn of(flights: RecordBatch) -> Result<Self> {
        let (months, days) = (integers(&flights, "month")?, integers(&flights, "day")?);
        let mut found: Vec<Day> = Vec::new();
        for row in 0..flights.num_rows() {
            let (month, day) = (months.value(row), days.value(row));
            match found.last_mut() {
                Some(last) if last.month == month && last.day == day => last.rows.end = row + 1,
                _ => found.push(Day { month, day, rows: row..row + 1 }),
            }
        }
        Ok(Self { flights, days: found })
    }

    /// The days of the year that have flights, in order.
    pub(super) fn days(&self) -> &[Day] {
        &self.days
    }

    /// The columns, the key's required.
    pub(super) fn schema(&self) -> Schema {
        let fields = self.flights.schema_ref().fields().iter().map(|f| f.as_ref().clone());
        Schema::new(fields.collect::<Vec<Field>>())
    }

    /// The schedule of one month: every flight, with nothing known about what becomes of it.
    ///
    /// # Errors
    /// `Internal` if the data lacks a column.
    pub(super) fn schedule(&self, month: i32) -> Result<RecordBatch> {
        let mut days = self.days.iter().filter(|d| d.month == month);
        let first = days.next().map_or(0..0, |d| d.rows.clone());
        let end = days.next_back().map_or(first.end, |d| d.rows.end);
        let rows = self.flights.slice(first.start, end - first.start);
        unknown(&rows, &[&AT_DEPARTURE[..], &AT_ARRIVAL[..]].concat())
    }

    /// What became known in each window of a day, the night's arrivals last.
    ///
    /// # Errors
    /// `Internal` if the data lacks a column.
    pub(super) fn news(&self, day: &Day) -> Result<Vec<News>> {
        let rows = self.flights.slice(day.rows.start, day.rows.len());
        let (scheduled, departed) =
            (integers(&rows, "sched_dep_time")?, integers(&rows, "dep_time")?);
        let window_of = |row: usize| {
            let time = scheduled.value(row);
            WINDOWS.iter().position(|end| time < *end).unwrap_or(WINDOWS.len() - 1)
        };
        let in_window = |window: Option<usize>, flown: bool| -> Vec<u32> {
            (0..rows.num_rows())
                .filter(|row| Some(window_of(*row)) == window && departed.is_valid(*row) == flown)
                .filter_map(|row| u32::try_from(row).ok())
                .collect()
        };
        let mut news = Vec::new();
        for window in 0..=WINDOWS.len() {
            let leaving = in_window(Some(window).filter(|w| *w < WINDOWS.len()), true);
            let landing = in_window(window.checked_sub(1), true);
            let cancelled = in_window(Some(window).filter(|w| *w < WINDOWS.len()), false);
            let mut upserts = Vec::new();
            let (departures, arrivals) = (leaving.len(), landing.len());
            if departures > 0 {
                upserts.push(unknown(&pick(&rows, leaving)?, &AT_ARRIVAL)?);
            }
            if arrivals > 0 {
                upserts.push(pick(&rows, landing)?);
            }
            let cancelled = match cancelled.is_empty() {
                true => None,
                false => Some(keys_of(&pick(&rows, cancelled)?)?),
            };
            if !upserts.is_empty() || cancelled.is_some() {
                news.push(News { upserts, cancelled, departures, arrivals });
            }
        }
        Ok(news)
    }
}

fn pick(rows: &RecordBatch, indices: Vec<u32>) -> Result<RecordBatch> {
    Ok(take_record_batch(rows, &UInt32Array::from(indices))?)
}

fn keys_of(rows: &RecordBatch) -> Result<RecordBatch> {
    let indices = KEY.iter().map(|name| rows.schema_ref().index_of(name));
    Ok(rows.project(&indices.collect::<Result<Vec<_>, _>>()?)?)
}

/// The same rows with these columns blank.
fn unknown(rows: &RecordBatch, columns: &[&str]) -> Result<RecordBatch> {
    let fields = rows.schema_ref().fields().iter();
    let arrays = fields.zip(rows.columns()).map(|(field, array)| -> ArrayRef {
        match columns.contains(&field.name().as_str()) {
            true => new_null_array(field.data_type(), rows.num_rows()),
            false => array.clone(),
        }
    });
    Ok(RecordBatch::try_new(rows.schema(), arrays.collect())?)
}

/// An integer column by name.
///
/// # Errors
/// `Internal` if there is no such column.
pub(super) fn integers(rows: &RecordBatch, name: &str) -> Result<Arc<Int32Array>> {
    match rows.column_by_name(name) {
        Some(column) if column.data_type() == &DataType::Int32 => {
            Ok(Arc::new(column.as_primitive::<Int32Type>().clone()))
        }
        _ => Err(Error::internal(format!("no integer column `{name}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_year_is_whole_and_its_key_is_required() {
        let airline = Airline::open().unwrap();
        assert_eq!(airline.days().len(), 365);
        assert_eq!(airline.days().iter().map(Day::scheduled).sum::<usize>(), 336_776);
        for name in KEY {
            assert!(!airline.schema().field_with_name(name).unwrap().is_nullable());
        }
    }

    #[test]
    fn every_flight_of_a_day_leaves_and_arrives_once_or_is_cancelled() {
        let airline = Airline::open().unwrap();
        let day = &airline.days()[0];
        let news = airline.news(day).unwrap();
        let total = |count: fn(&News) -> usize| news.iter().map(count).sum::<usize>();
        assert_eq!(total(|n| n.departures), total(|n| n.arrivals));
        assert_eq!(total(|n| n.departures) + total(News::cancellations), day.scheduled());
        assert_eq!(day.scheduled(), 842);
    }

    #[test]
    fn the_schedule_knows_nothing_of_the_future() {
        let airline = Airline::open().unwrap();
        let schedule = airline.schedule(1).unwrap();
        assert_eq!(schedule.num_rows(), 27_004);
        for name in ["dep_time", "arr_delay", "tailnum"] {
            let column = schedule.column_by_name(name).unwrap();
            assert_eq!(column.null_count(), schedule.num_rows(), "{name}");
        }
    }
}
