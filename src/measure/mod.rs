//! What is measured, and under which name: the one place that knows them all.
//!
//! Measurements go through the `metrics` facade: a program installs the recorder it likes before it
//! opens tables and streams. Without one a measurement costs next to nothing; they are taken per
//! batch, file or commit, never per row. `METRICS.md` explains every name.

#[cfg(feature = "prometheus")]
mod exporter;
#[cfg(feature = "prometheus")]
mod registry;

use std::time::Duration;

use metrics::{Key, Label, Level, Metadata, with_recorder};

#[cfg(feature = "prometheus")]
pub use exporter::PrometheusExporter;

/// Something that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name, units last.
    pub name: &'static str,
    /// How it is counted.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// How something is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Many values, of which the distribution counts.
    Histogram,
}

/// Declares metrics, and the list of all.
macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric = Metric {
                name: $name,
                kind: MetricKind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*
        /// Every metric there is.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    STREAM_ROWS: Counter "meltwater_stream_rows_total" ["table", "stream", "kind"]
        "Rows that a stream gave, by kind of change.";
    STREAM_BATCHES: Counter "meltwater_stream_batches_total" ["table", "stream"]
        "Batches that a stream gave.";
    STREAM_BYTES: Counter "meltwater_stream_decoded_bytes_total" ["table", "stream"]
        "Bytes of these batches in memory.";
    STREAM_SPLITS: Counter "meltwater_stream_splits_total" ["table", "stream"]
        "Files and change units that a stream gave to the end.";
    STREAM_FULL_READERS: Gauge "meltwater_stream_full_readers" ["table", "stream"]
        "Decoders that read rows of a whole snapshot at this moment.";
    STREAM_LAG_SNAPSHOTS: Gauge "meltwater_stream_lag_snapshots" ["table", "stream"]
        "Snapshots that a stream knows of and has not given whole.";
    STREAM_LAG_SECONDS: Gauge "meltwater_stream_lag_seconds" ["table", "stream"]
        "Age of the oldest of these snapshots, told every second, 0 if there is none.";
    STREAM_WATERMARK: Gauge "meltwater_stream_watermark_timestamp_seconds" ["table", "stream"]
        "The last watermark, in seconds since the epoch: its age is now minus this.";
    STREAM_LATENCY: Histogram "meltwater_stream_commit_to_row_seconds" ["table", "stream"]
        "From a commit to each batch of its changes, by the clocks of writer and reader.";
    STREAM_PLANNING: Histogram "meltwater_stream_planning_seconds" ["table"]
        "How long one step of planning took.";
    STREAM_RETRIES: Counter "meltwater_stream_retries_total" []
        "Attempts of streams that a store or catalog gave no answer to.";
    TABLE_POLLS: Counter "meltwater_table_polls_total" ["table"]
        "Looks at a catalog for a new commit.";
    TABLE_COMMITS_NOTICED: Counter "meltwater_table_commits_noticed_total" ["table"]
        "Looks that found one.";
    SCAN_FILES_PLANNED: Counter "meltwater_scan_files_planned_total" []
        "Data files that scans have to read.";
    SCAN_FILES_PRUNED: Counter "meltwater_scan_files_pruned_total" []
        "Data files that scans leave out, because partition or statistics prove that no row passes.";
    SCAN_MANIFESTS_PRUNED: Counter "meltwater_scan_manifests_pruned_total" []
        "Manifests that scans leave out whole.";
    SCAN_ROWS: Counter "meltwater_scan_rows_total" []
        "Rows that were read from data files, past deletes and filters.";
    DELETE_FILES_LOADED: Counter "meltwater_delete_files_loaded_total" ["content"]
        "Delete files that were read: position or equality.";
    CACHE_REQUESTS: Counter "meltwater_cache_requests_total" ["cache"]
        "What was asked of a cache: footer or manifest.";
    CACHE_MISSES: Counter "meltwater_cache_misses_total" ["cache"]
        "What it did not have.";
    KEY_FILTER_ANSWERS: Counter "meltwater_key_filter_answers_total" ["answer"]
        "Whether a file holds a deleted key: absent, maybe, or unknown for want of a filter.";
    COMMITS: Counter "meltwater_commits_total" ["table", "kind", "outcome"]
        "Commits that ended: committed, conflict, unknown or failed.";
    COMMIT_ATTEMPTS: Counter "meltwater_commit_attempts_total" ["table", "kind"]
        "Attempts that these commits took.";
    COMMIT_SECONDS: Histogram "meltwater_commit_seconds" ["table", "kind"]
        "How long commits took, with all their attempts.";
    MAINTENANCE_RUNS: Counter "meltwater_maintenance_runs_total" ["table", "action"]
        "Maintenance actions that ran to an end.";
    MAINTENANCE_FILES: Counter "meltwater_maintenance_files_total" ["table", "action", "side"]
        "Files that they replaced or removed (before), and files in their place (after).";
    MAINTENANCE_BYTES: Counter "meltwater_maintenance_bytes_total" ["table", "action", "side"]
        "Bytes of these files.";
    MAINTENANCE_CONFLICTS: Counter "meltwater_maintenance_conflicts_total" ["table", "action"]
        "How often other commits were in their way.";
    MAINTENANCE_FAILURES: Counter "meltwater_maintenance_failures_total" ["table", "action"]
        "Parts of them that did not succeed.";
    MAINTENANCE_SECONDS: Histogram "meltwater_maintenance_seconds" ["table", "action"]
        "How long they took.";
}

impl Metric {
    /// Adds to a counter; label values in the order of [`Metric::labels`].
    pub(crate) fn add(&self, labels: &[&str], number: u64) {
        self.counter(labels).increment(number);
    }

    /// Adds a time to a histogram.
    pub(crate) fn took(&self, labels: &[&str], time: Duration) {
        self.histogram(labels).record(time);
    }

    /// The counter, to keep: made once and cheap to add to.
    pub(crate) fn counter(&self, labels: &[&str]) -> metrics::Counter {
        with_recorder(|recorder| recorder.register_counter(&self.key(labels), &METADATA))
    }

    /// The gauge, to keep.
    pub(crate) fn gauge(&self, labels: &[&str]) -> metrics::Gauge {
        with_recorder(|recorder| recorder.register_gauge(&self.key(labels), &METADATA))
    }

    /// The histogram, to keep.
    pub(crate) fn histogram(&self, labels: &[&str]) -> metrics::Histogram {
        with_recorder(|recorder| recorder.register_histogram(&self.key(labels), &METADATA))
    }

    fn key(&self, labels: &[&str]) -> Key {
        if labels.is_empty() {
            return Key::from_static_name(self.name);
        }
        let labels = self.labels.iter().zip(labels);
        let labels: Vec<Label> =
            labels.map(|(name, value)| Label::new(*name, (*value).to_string())).collect();
        Key::from_parts(self.name, labels)
    }
}

const METADATA: Metadata<'static> = Metadata::new("meltwater", Level::INFO, Some("meltwater"));

#[cfg(test)]
pub(crate) mod recorder;
#[cfg(test)]
mod tests;
