//! A recorder for tests, which remembers what was measured on its thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

use super::{ALL, MetricKind};

type Values = Arc<Mutex<BTreeMap<String, Vec<f64>>>>;

/// Remembers every value, by name and labels.
#[derive(Debug, Default)]
pub(crate) struct TestRecorder {
    values: Values,
}

impl TestRecorder {
    /// Runs work on this thread, all tasks of it included, and gives what it measured.
    pub(crate) fn measure(work: impl Future<Output = ()>) -> Self {
        let recorder = Self::default();
        metrics::with_local_recorder(&recorder, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(work);
        });
        recorder
    }

    /// The sum of a counter over all labels that hold `with`.
    pub(crate) fn sum(&self, name: &str, with: &str) -> f64 {
        self.all(name, with).iter().sum()
    }

    /// Every value, over all labels that hold `with`.
    pub(crate) fn all(&self, name: &str, with: &str) -> Vec<f64> {
        let values = self.values.lock().unwrap();
        let is_asked = |key: &str| key.starts_with(&format!("{name}{{")) && key.contains(with);
        values.iter().filter(|(key, _)| is_asked(key)).flat_map(|(_, v)| v.clone()).collect()
    }

    fn slot(&self, key: &Key, kind: MetricKind) -> Arc<Slot> {
        let known = ALL.iter().find(|metric| metric.name == key.name());
        let known = known.unwrap_or_else(|| panic!("`{}` is not in the list", key.name()));
        assert_eq!(known.kind, kind, "{}", known.name);
        let names: Vec<&str> = key.labels().map(|label| label.key()).collect();
        assert_eq!(names, known.labels, "{}", known.name);
        let labels: Vec<String> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let key = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::new(Slot { key, values: self.values.clone() })
    }
}

struct Slot {
    key: String,
    values: Values,
}

impl Slot {
    fn push(&self, value: f64) {
        self.values.lock().unwrap().entry(self.key.clone()).or_default().push(value);
    }

    fn last(&self) -> f64 {
        let values = self.values.lock().unwrap();
        values.get(&self.key).and_then(|of| of.last().copied()).unwrap_or_default()
    }
}

impl CounterFn for Slot {
    fn increment(&self, value: u64) {
        self.push(value as f64);
    }

    fn absolute(&self, value: u64) {
        self.values.lock().unwrap().insert(self.key.clone(), vec![value as f64]);
    }
}

impl GaugeFn for Slot {
    fn increment(&self, value: f64) {
        self.push(self.last() + value);
    }

    fn decrement(&self, value: f64) {
        self.push(self.last() - value);
    }

    fn set(&self, value: f64) {
        self.push(value);
    }
}

impl HistogramFn for Slot {
    fn record(&self, value: f64) {
        self.push(value);
    }
}

impl Recorder for TestRecorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.slot(key, MetricKind::Counter))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.slot(key, MetricKind::Gauge))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.slot(key, MetricKind::Histogram))
    }
}
