//! What the planner hands to a lane, and what a lane hands to its consumer.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use super::columns::{SchemaChange, Turn};
use super::timeline::Step;
use crate::error::Error;
use crate::read::ChangeKind;
use crate::scan::{FileScanTask, SnapshotChanges};
use crate::spec::SchemaRef;
use crate::table::{Cursor, Inside, Place};

/// A part of one step, of one group: a file, or a change unit.
#[derive(Debug, Clone)]
pub(super) struct Split {
    pub step: Arc<Step>,
    pub group: u8,
    /// The file or unit, at the first row to read.
    pub cursor: Cursor,
    pub digest: u64,
    /// What reading it will cost.
    pub bytes: u64,
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
    /// Same split with rows before `next` done.
    pub fn from(&self, next: u64) -> Self {
        Self { cursor: self.cursor.at_row(next), ..self.clone() }
    }

    /// True if the split may be read while `other` is: it needs no deletes of another snapshot.
    pub fn goes_beside(&self, other: &Self) -> bool {
        match &self.work {
            Work::File(task) => task.deletes.is_empty() || self.step.number == other.step.number,
            Work::Unit(..) => false,
        }
    }

    /// Where the split's group stands once rows before `next` are delivered.
    pub fn place(&self, next: u64) -> Place {
        let inside = Inside { cursor: self.cursor.at_row(next), digest: self.digest };
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
    /// What reading it will cost.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Split(split) => split.bytes,
            Self::Boundary(_) | Self::Turn(_) => 0,
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
    pub bytes: u64,
}
