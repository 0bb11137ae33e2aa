//! May a lane take its next split now? Barriers and alignment between lanes, and nothing else.

use std::collections::BTreeSet;

use super::timeline::Step;

/// Where a lane stands, as far as other lanes care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Steps before this one were delivered.
    pub finished: u64,
    /// The time of the oldest step that the lane still has something of, or that was not yet
    /// looked at for it; `None` when it is up to date.
    pub time_ms: Option<i64>,
}

/// The rules that lanes of one stream follow together.
#[derive(Debug, Default)]
pub(super) struct Assigner {
    /// Steps that nobody begins before all have delivered everything before them (STR-6).
    barriers: BTreeSet<u64>,
    /// How far a lane may run ahead of the slowest one, in milliseconds of commit time.
    max_drift_ms: Option<i64>,
}

impl Assigner {
    pub fn new(max_drift: Option<std::time::Duration>) -> Self {
        let ms = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        Self { barriers: BTreeSet::new(), max_drift_ms: max_drift.map(ms) }
    }

    pub fn add_barrier(&mut self, step: u64) {
        self.barriers.insert(step);
    }

    pub fn forget_before(&mut self, step: u64) {
        // The last barrier passed stays of no effect: all have finished what is before it.
        self.barriers = self.barriers.split_off(&step);
    }

    /// The slowest lane's next split may always be taken, so lanes that wait for each other are
    /// never all of them (STR-7).
    pub fn may_take(&self, step: &Step, lanes: impl Iterator<Item = Standing> + Clone) -> bool {
        let barrier = self.barriers.range(..=step.number).next_back();
        if barrier.is_some_and(|barrier| lanes.clone().any(|lane| lane.finished < *barrier)) {
            return false;
        }
        let Some(drift) = self.max_drift_ms else { return true };
        let slowest = lanes.filter_map(|lane| lane.time_ms).min();
        slowest.is_none_or(|slowest| step.time_ms() <= slowest.saturating_add(drift))
    }
}
