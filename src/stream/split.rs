//! What the planner hands to a lane, and what a lane hands to its consumer.

use std::ops::Range;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use super::columns::{SchemaChange, Turn};
use super::timeline::Step;
use super::width::RowWidth;
use crate::error::Error;
use crate::read::{ChangeKind, ChangeReader};
use crate::scan::{FileScanTask, SnapshotChanges};
use crate::spec::{SchemaRef, SnapshotId};
use crate::table::{Cursor, Inside, Place};

/// A part of one step, of one group: a file, or a change unit.
#[derive(Debug, Clone)]
pub(super) struct Split {
    pub step: Arc<Step>,
    pub group: u8,
    /// The file or unit, at the first row to read.
    pub cursor: Cursor,
    /// As it was planned, whatever was read of it since.
    pub planned: Cursor,
    /// Behind the last row to read; [`Cursor::ALL`] for all there are.
    pub end: u64,
    pub digest: u64,
    /// What reading it will cost.
    pub bytes: u64,
    /// It is not to be cut into pieces any more.
    pub is_cut: bool,
    /// Its snapshot claims that it holds no change, and is held to it (STR-22).
    pub refuses_rows: bool,
    pub work: Work,
}

#[derive(Debug, Clone)]
pub(super) enum Work {
    File(FileScanTask),
    /// Rows are told apart by the columns of the schema.
    Unit(Arc<SnapshotChanges>, usize, SchemaRef),
}

impl Split {
    /// The story of its reading.
    pub fn span(&self, lane: usize) -> tracing::Span {
        tracing::debug_span!("stream.split", lane, snapshot = %self.step.id(), group = self.group,
            bytes = self.bytes)
    }

    /// Same split with rows before `next` done.
    pub fn from(&self, next: u64) -> Self {
        Self { cursor: self.cursor.at_row(next), ..self.clone() }
    }

    /// The snapshot that its changes are measured from, if files of that have to be read.
    pub fn reads_from(&self) -> Option<SnapshotId> {
        match (&self.work, self.step.commit.net) {
            (Work::File(_), _) => None,
            (Work::Unit(..), Some(net)) => net.from,
            (Work::Unit(..), None) => self.step.snapshot.parent_snapshot_id().map(SnapshotId),
        }
    }

    /// True if the split may be read while `other` is: it needs nothing of another snapshot.
    pub fn goes_beside(&self, other: &Self) -> bool {
        match &self.work {
            Work::File(task) => task.deletes.is_empty() || self.step.number == other.step.number,
            // Units of one snapshot share no file.
            Work::Unit(..) => self.step.number == other.step.number,
        }
    }

    /// True for rows of a whole snapshot, which are read side by side and in any order.
    pub fn is_full(&self) -> bool {
        self.step.commit.is_full
    }

    /// How many rows it has from the row `next` on, about.
    pub fn rows_from(&self, next: u64) -> u64 {
        let all = match &self.work {
            Work::File(task) => task.file.record_count,
            Work::Unit(changes, unit, _) => {
                changes.units().get(*unit).map_or(0, |unit| unit.rows())
            }
        };
        all.min(self.end).saturating_sub(next)
    }

    /// Bytes of its rows in memory, where the lane's rows are so wide.
    pub fn row_bytes(&self, width: &RowWidth) -> u64 {
        let bytes = width.of(self.rows_from(self.cursor.next_row()), self.bytes);
        match &self.work {
            Work::File(_) => bytes,
            Work::Unit(changes, unit, _) => {
                let keys = changes.units().get(*unit).map_or(0, |unit| unit.keys());
                // Deletes of other partitions may reach its files, and those that went bring rows
                // back.
                bytes.max(self.bytes).saturating_add(width.of_keys(keys))
            }
        }
    }

    /// Bytes of rows that are on their way while one decoder reads it: all, or as many as the
    /// decoder lets lie.
    pub fn bytes_on_the_way(&self, width: &RowWidth, reader: &ChangeReader) -> u64 {
        self.row_bytes(width).min(reader.on_the_way(width.batch()))
    }

    /// Bytes of rows that have to fit for it to be worthwhile to begin before its turn.
    pub fn bytes_begun(&self, width: &RowWidth, reader: &ChangeReader) -> u64 {
        match self.work {
            Work::File(_) => self.bytes_on_the_way(width, reader),
            // A unit holds more than rows until it is read to its end.
            Work::Unit(..) => u64::MAX,
        }
    }

    /// The split in pieces: these ranges of rows, as far as it has them, with the compressed bytes
    /// of each. One piece if they hold none of it.
    pub fn pieces(&self, ranges: Vec<(Range<u64>, u64)>) -> Vec<Self> {
        let (from, last) = (self.cursor.next_row(), ranges.len().saturating_sub(1));
        let piece = |(n, (rows, bytes)): (usize, (Range<u64>, u64))| {
            // Whatever the footer says, nothing behind the last piece is left out.
            let end = if n == last { self.end } else { rows.end.min(self.end) };
            let cursor = self.cursor.at_row(rows.start.max(from));
            let is_cut = true;
            let planned = if rows.start <= from { self.planned } else { cursor };
            (cursor.next_row() < end).then(|| Self {
                cursor,
                planned,
                end,
                bytes,
                is_cut,
                ..self.clone()
            })
        };
        let pieces: Vec<Self> = ranges.into_iter().enumerate().filter_map(piece).collect();
        match pieces.is_empty() {
            true => vec![Self { is_cut: true, ..self.clone() }],
            false => pieces,
        }
    }

    /// The point in the split before the row `next`.
    pub fn inside(&self, next: u64) -> Inside {
        Inside { cursor: self.cursor.at_row(next), digest: self.digest }
    }

    /// Where the split's group stands once rows before `next` are delivered.
    pub fn place(&self, next: u64) -> Place {
        let inside = self.inside(next);
        let (id, commit) = (self.step.id(), &self.step.commit);
        match commit.net {
            Some(net) => Place::Net(net, Some(inside)),
            None if commit.is_full => Place::Full(id, Some(inside)),
            None => Place::Within(id, inside),
        }
    }
}

/// One entry of a lane's queue.
#[derive(Debug)]
pub(super) enum Queued {
    Split(Arc<Split>),
    /// This step, and every one before it, holds nothing more for the lane.
    Boundary(Arc<Step>),
    /// What comes now has other readers.
    Turn(Arc<Turn>),
}

impl Queued {
    pub fn split(&self) -> Option<&Arc<Split>> {
        match self {
            Self::Split(split) => Some(split),
            Self::Boundary(_) | Self::Turn(_) => None,
        }
    }
}

/// What waits for the lane's consumer, in order.
#[derive(Debug)]
pub(super) enum Out {
    Rows(Rows),
    /// The split was read to its end.
    Finished(Arc<Split>),
    Boundary(Arc<Step>),
    Schema(SchemaChange),
    Failure(Error),
}

/// Rows of one split.
#[derive(Debug)]
pub(super) struct Rows {
    pub split: Arc<Split>,
    pub records: RecordBatch,
    pub kinds: Vec<ChangeKind>,
    pub ordinals: Vec<u64>,
    /// The first ordinal after this batch, rows that were filtered out included.
    pub next: u64,
    /// How many rows of the split were read for them.
    pub read: u64,
    pub bytes: u64,
}
