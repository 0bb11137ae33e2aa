//! What a stream measures of itself.

use metrics::{Counter, Gauge, Histogram};

use super::split::Rows;
use super::state::State;
use crate::measure;
use crate::read::ChangeKind;
use crate::table::Table;

const KINDS: [ChangeKind; 4] =
    [ChangeKind::Insert, ChangeKind::UpdateBefore, ChangeKind::UpdateAfter, ChangeKind::Delete];

/// The meters of one stream, made when it is opened.
#[derive(Debug)]
pub(super) struct Meters {
    /// By kind.
    rows: [Counter; 4],
    batches: Counter,
    bytes: Counter,
    splits: Counter,
    full_readers: Gauge,
    lag_snapshots: Gauge,
    lag_seconds: Gauge,
    watermark: Gauge,
    latency: Histogram,
}

impl Meters {
    /// Of a stream, named or not.
    pub fn new(table: &Table, name: Option<&str>) -> Self {
        let table = table.ident().to_string();
        let name = name.unwrap_or_default();
        let labels = [table.as_str(), name];
        let rows = |kind: ChangeKind| measure::STREAM_ROWS.counter(&[&table, name, kind.as_str()]);
        Self {
            rows: KINDS.map(rows),
            batches: measure::STREAM_BATCHES.counter(&labels),
            bytes: measure::STREAM_BYTES.counter(&labels),
            splits: measure::STREAM_SPLITS.counter(&labels),
            full_readers: measure::STREAM_FULL_READERS.gauge(&labels),
            lag_snapshots: measure::STREAM_LAG_SNAPSHOTS.gauge(&labels),
            lag_seconds: measure::STREAM_LAG_SECONDS.gauge(&labels),
            watermark: measure::STREAM_WATERMARK.gauge(&labels),
            latency: measure::STREAM_LATENCY.histogram(&labels),
        }
    }

    /// A batch goes to the consumer.
    pub fn batch(&self, state: &State, rows: &Rows) {
        let mut left = rows.kinds.len();
        for (kind, counter) in KINDS.iter().zip(&self.rows) {
            if left == 0 {
                break; // most batches are of one kind
            }
            let of_kind = rows.kinds.iter().filter(|k| *k == kind).count();
            if of_kind > 0 {
                counter.increment(of_kind as u64);
            }
            left -= of_kind;
        }
        self.batches.increment(1);
        self.bytes.increment(rows.bytes);
        let commit = &rows.split.step.commit;
        if !commit.is_full {
            self.latency.record(seconds_since(state, commit.committed_at_ms));
        }
    }

    /// A split was given to its end.
    pub fn split(&self) {
        self.splits.increment(1);
    }

    /// A decoder began or ended to read rows of a whole snapshot.
    pub fn full_readers(&self, state: &State) {
        self.full_readers.set(state.read_beside() as f64);
    }

    /// A snapshot was given to its end, a new one was noticed, or time went by.
    pub fn lag(&self, state: &State) {
        let first = state.first_undelivered();
        self.lag_snapshots.set(state.timeline.end().saturating_sub(first) as f64);
        let oldest = state.timeline.get(first);
        let waits = oldest.map_or(0.0, |step| seconds_since(state, step.commit.committed_at_ms));
        self.lag_seconds.set(waits);
    }

    /// A watermark goes to the consumer.
    pub fn watermark(&self, time_ms: i64) {
        self.watermark.set(time_ms as f64 / 1000.0);
    }
}

fn seconds_since(state: &State, time_ms: i64) -> f64 {
    let now = state.table.environment().clock.now_ms();
    now.saturating_sub(time_ms).max(0) as f64 / 1000.0
}
