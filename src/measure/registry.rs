//! Adds measurements up, and writes them as Prometheus reads them. Memory: a few hundred bytes a
//! metric and set of labels, whatever is measured.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

use super::ALL;

/// Upper bounds of histograms, in seconds: from a local commit to a large compaction.
const BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

/// Series by name, then by labels as they are written.
type Series<T> = Arc<Mutex<BTreeMap<String, BTreeMap<String, Arc<T>>>>>;

/// A recorder that keeps sums. Clones share everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Registry {
    counters: Series<Number>,
    gauges: Series<Number>,
    histograms: Series<Distribution>,
}

/// A whole number, or the bits of a fraction.
#[derive(Debug, Default)]
struct Number(AtomicU64);

#[derive(Debug, Default)]
struct Distribution {
    /// Values up to each bound and above the one before, and those above all.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    sum: Number,
}

impl Number {
    fn fraction(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn change(&self, change: impl Fn(f64) -> f64) {
        let change = |bits| Some(change(f64::from_bits(bits)).to_bits());
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}

impl CounterFn for Number {
    fn increment(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

impl GaugeFn for Number {
    fn increment(&self, by: f64) {
        self.change(|value| value + by);
    }

    fn decrement(&self, by: f64) {
        self.change(|value| value - by);
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

impl HistogramFn for Distribution {
    fn record(&self, value: f64) {
        let bucket = BUCKETS.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.change(|sum| sum + value);
    }
}

impl Recorder for Registry {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(one(&self.counters, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(one(&self.gauges, key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(one(&self.histograms, key))
    }
}

fn one<T: Default>(series: &Series<T>, key: &Key) -> Arc<T> {
    let mut series = series.lock().unwrap_or_else(PoisonError::into_inner);
    let named = series.entry(key.name().to_string()).or_default();
    named.entry(labels_of(key)).or_default().clone()
}

/// Such as `table="ns.t",stream="s"`.
fn labels_of(key: &Key) -> String {
    let escaped =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels = key.labels().map(|l| format!("{}=\"{}\"", l.key(), escaped(l.value())));
    labels.collect::<Vec<_>>().join(",")
}

impl Registry {
    /// Everything that was measured, in Prometheus's text format.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        each(&self.counters, "counter", &mut text, |text, name, labels, value| {
            let value = value.0.load(Ordering::Relaxed);
            line(text, name, labels, &value.to_string());
        });
        each(&self.gauges, "gauge", &mut text, |text, name, labels, value| {
            line(text, name, labels, &value.fraction().to_string());
        });
        each(&self.histograms, "histogram", &mut text, distribution);
        text
    }
}

fn each<T>(
    series: &Series<T>,
    kind: &str,
    text: &mut String,
    write: impl Fn(&mut String, &str, &str, &T),
) {
    for (name, series) in series.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        if let Some(metric) = ALL.iter().find(|metric| metric.name == name) {
            let _ = writeln!(text, "# HELP {name} {}", metric.help);
        }
        let _ = writeln!(text, "# TYPE {name} {kind}");
        series.iter().for_each(|(labels, value)| write(text, name, labels, value));
    }
}

fn distribution(text: &mut String, name: &str, labels: &str, of: &Distribution) {
    let before = if labels.is_empty() { String::new() } else { format!("{labels},") };
    let bounds = BUCKETS.iter().map(f64::to_string).chain(["+Inf".to_string()]);
    let mut count = 0;
    for (bound, bucket) in bounds.zip(&of.buckets) {
        count += bucket.load(Ordering::Relaxed);
        let labels = format!("{before}le=\"{bound}\"");
        line(text, &format!("{name}_bucket"), &labels, &count.to_string());
    }
    line(text, &format!("{name}_sum"), labels, &of.sum.fraction().to_string());
    line(text, &format!("{name}_count"), labels, &count.to_string());
}

fn line(text: &mut String, name: &str, labels: &str, value: &str) {
    // Writing to a string does not fail.
    let _ = match labels.is_empty() {
        true => writeln!(text, "{name} {value}"),
        false => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::measure;

    #[test]
    fn sums_are_written_as_prometheus_reads_them() {
        let registry = Registry::default();
        metrics::with_local_recorder(&registry, || {
            measure::STREAM_RETRIES.add(&[], 2);
            measure::STREAM_ROWS.add(&["ns.\"t\"", "a\\b\nc", "insert"], 7);
            measure::STREAM_LAG_SECONDS.gauge(&["ns.t", ""]).set(1.5);
            for ms in [1, 3, 700_000] {
                measure::STREAM_PLANNING.took(&["ns.t"], Duration::from_millis(ms));
            }
        });
        let text = registry.to_text();
        for line in [
            "# HELP meltwater_stream_rows_total Rows that a stream gave, by kind of change.",
            "# TYPE meltwater_stream_rows_total counter",
            r#"meltwater_stream_rows_total{table="ns.\"t\"",stream="a\\b\nc",kind="insert"} 7"#,
            "meltwater_stream_retries_total 2",
            "# TYPE meltwater_stream_lag_seconds gauge",
            r#"meltwater_stream_lag_seconds{table="ns.t",stream=""} 1.5"#,
            r#"meltwater_stream_planning_seconds_bucket{table="ns.t",le="0.001"} 1"#,
            r#"meltwater_stream_planning_seconds_bucket{table="ns.t",le="0.005"} 2"#,
            r#"meltwater_stream_planning_seconds_bucket{table="ns.t",le="600"} 2"#,
            r#"meltwater_stream_planning_seconds_bucket{table="ns.t",le="+Inf"} 3"#,
            r#"meltwater_stream_planning_seconds_sum{table="ns.t"} 700.004"#,
            r#"meltwater_stream_planning_seconds_count{table="ns.t"} 3"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
    }
}
