//! One lane's side of the enumerator: its planning cursor and its bounded queue of splits.

use std::collections::VecDeque;
use std::sync::Arc;

use super::columns::Turn;
use super::split::{Queued, Split};
use super::timeline::Step;

/// When planning for a lane stops, and when it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueMarks {
    /// Planning goes on when fewer splits wait (default: 8).
    pub low_splits: usize,
    /// Planning stops at this many splits (default: 64).
    pub high_splits: usize,
    /// Planning goes on when these splits have fewer bytes as well (default: 64 MiB), or when no
    /// split waits.
    pub low_bytes: u64,
    /// Planning stops at this many bytes (default: 512 MiB).
    pub high_bytes: u64,
}

impl Default for QueueMarks {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self { low_splits: 8, high_splits: 64, low_bytes: 64 * MIB, high_bytes: 512 * MIB }
    }
}

/// Where planning for a lane goes on: in a step, at a manifest or unit, some entries in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct PlanCursor {
    pub step: u64,
    /// The manifest's or unit's place in the step's plan.
    pub at: usize,
    /// Files of that manifest that were looked at.
    pub offset: usize,
}

impl PlanCursor {
    pub fn at_step(step: u64) -> Self {
        Self { step, at: 0, offset: 0 }
    }
}

/// Splits that wait for a lane, oldest first.
#[derive(Debug)]
pub(super) struct LaneQueue {
    pub cursor: PlanCursor,
    marks: QueueMarks,
    waiting: VecDeque<Queued>,
    splits: usize,
    bytes: u64,
    /// Planning runs from below the low mark up to the high mark.
    filling: bool,
}

impl LaneQueue {
    pub fn new(marks: QueueMarks) -> Self {
        let cursor = PlanCursor::default();
        Self { cursor, marks, waiting: VecDeque::new(), splits: 0, bytes: 0, filling: true }
    }

    /// True when the planner should add splits (STR-3).
    pub fn wants_more(&mut self) -> bool {
        let QueueMarks { low_splits, high_splits, low_bytes, high_bytes } = self.marks;
        if self.splits >= high_splits.max(1) || self.bytes >= high_bytes.max(1) {
            self.filling = false;
        } else if self.splits == 0 || (self.splits < low_splits && self.bytes < low_bytes) {
            self.filling = true;
        }
        self.filling
    }

    /// Splits that may be added now: at least one, so that planning always gets on.
    pub fn room(&self) -> usize {
        self.marks.high_splits.saturating_sub(self.splits).max(1)
    }

    /// Bytes that may be added now.
    pub fn room_bytes(&self) -> u64 {
        self.marks.high_bytes.saturating_sub(self.bytes)
    }

    pub fn push(&mut self, split: Split) {
        self.splits += 1;
        self.bytes += split.bytes;
        self.waiting.push_back(Queued::Split(Arc::new(split)));
    }

    /// Adjacent boundaries are one: the later says more.
    pub fn push_boundary(&mut self, step: Arc<Step>) {
        if let Some(Queued::Boundary(last)) = self.waiting.back_mut() {
            *last = step;
        } else {
            self.waiting.push_back(Queued::Boundary(step));
        }
    }

    /// Comes before the splits of its step.
    pub fn push_turn(&mut self, turn: Arc<Turn>) {
        self.waiting.push_back(Queued::Turn(turn));
    }

    /// Puts back what was not read, where it was (STR-2).
    pub fn put_back(&mut self, queued: Queued) {
        if let Queued::Split(split) = &queued {
            self.splits += 1;
            self.bytes += split.bytes;
        }
        self.waiting.push_front(queued);
    }

    pub fn front(&self) -> Option<&Queued> {
        self.waiting.front()
    }

    /// The first split, with nothing but boundaries before it.
    pub fn first_split(&self) -> Option<&Arc<Split>> {
        match self.waiting.iter().find(|queued| !matches!(queued, Queued::Boundary(_)))? {
            Queued::Split(split) => Some(split),
            Queued::Boundary(_) | Queued::Turn(_) => None,
        }
    }

    /// The splits that wait for the same readers, in order.
    pub fn next_splits(&self) -> impl Iterator<Item = &Arc<Split>> {
        let until_turn = self.waiting.iter().take_while(|q| !matches!(q, Queued::Turn(_)));
        until_turn.filter_map(Queued::split)
    }

    /// Lets go of everything that waits.
    pub fn clear(&mut self) {
        self.waiting.clear();
        (self.splits, self.bytes) = (0, 0);
    }

    pub fn pop(&mut self) -> Option<Queued> {
        let queued = self.waiting.pop_front()?;
        if let Queued::Split(split) = &queued {
            self.splits -= 1;
            self.bytes = self.bytes.saturating_sub(split.bytes);
        }
        Some(queued)
    }

    #[cfg(test)]
    pub fn splits(&self) -> usize {
        self.splits
    }
}
