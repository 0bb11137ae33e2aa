//! Walking a table's past: ancestors, and which snapshot a reader means.

use chrono::{DateTime, SecondsFormat};

use crate::error::{Error, ErrorKind, Result};
use crate::spec::{MAIN_BRANCH, SnapshotId, SnapshotRef, TableMetadata};

use super::Table;

/// Which snapshot to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum At {
    /// The head of `main`.
    #[default]
    Current,
    /// One snapshot by id, whether or not a branch holds it.
    Snapshot(SnapshotId),
    /// The snapshot that was current on `main` at this time, in milliseconds since the epoch.
    TimeMs(i64),
    /// The head of a branch, or a tag.
    Ref(String),
}

/// The snapshots `(after, through]` of one branch, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotRange {
    /// Exclusive; `None` starts before the first snapshot.
    pub after: Option<SnapshotId>,
    /// Inclusive.
    pub through: SnapshotId,
}

impl Table {
    /// The snapshot that `at` names; `None` for the current one of a table without commits.
    ///
    /// # Errors
    /// `NotFound` naming the snapshot, ref or time and what there is instead.
    pub fn snapshot_at(&self, at: &At) -> Result<Option<SnapshotRef>> {
        match at {
            At::Current => Ok(self.current_snapshot().cloned()),
            At::Snapshot(id) => self.snapshot(*id).map(Some),
            At::TimeMs(time) => self.snapshot_as_of(*time).map(Some),
            At::Ref(name) => self.snapshot_of_ref(name),
        }
    }

    /// One snapshot by id.
    ///
    /// # Errors
    /// `NotFound` if the table does not keep it.
    pub fn snapshot(&self, id: SnapshotId) -> Result<SnapshotRef> {
        self.metadata().snapshot_by_id(id.0).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("table `{}` has no snapshot {id}", self.ident()),
            )
            .with_hint(format!("`meltwater inspect snapshots {}` lists them", self.ident()))
        })
    }

    fn snapshot_of_ref(&self, name: &str) -> Result<Option<SnapshotRef>> {
        if let Some(snapshot) = self.metadata().snapshot_for_ref(name) {
            return Ok(Some(snapshot.clone()));
        }
        if name == MAIN_BRANCH {
            return Ok(self.current_snapshot().cloned());
        }
        Err(Error::new(
            ErrorKind::NotFound,
            format!("table `{}` has no branch or tag `{name}`", self.ident()),
        )
        .with_hint(format!("`meltwater inspect refs {}` lists them", self.ident())))
    }

    /// Time travel follows the snapshot log, not parent links: a rollback is part of the past.
    fn snapshot_as_of(&self, time_ms: i64) -> Result<SnapshotRef> {
        let log = self.metadata().history();
        let entry = log.iter().rev().find(|e| e.timestamp_ms() <= time_ms);
        let Some(entry) = entry else {
            let error = Error::new(
                ErrorKind::NotFound,
                format!("table `{}` had no snapshot at that time", self.ident()),
            )
            .with_context("time_ms", time_ms)
            .with_hint(format!(
                "`meltwater inspect history {}` shows what there was",
                self.ident()
            ));
            return Err(match log.first() {
                Some(first) => {
                    let first = first.timestamp_ms();
                    let error = error.with_context("earliest_ms", first);
                    match DateTime::from_timestamp_millis(first) {
                        Some(at) => error.with_hint(format!(
                            "its history begins at {}",
                            at.to_rfc3339_opts(SecondsFormat::Millis, true)
                        )),
                        None => error,
                    }
                }
                None => error,
            });
        };
        self.snapshot(SnapshotId(entry.snapshot_id))
    }

    /// A snapshot and its ancestors that the table still keeps, newest first.
    pub fn ancestors(&self, from: SnapshotId) -> Ancestors<'_> {
        Ancestors {
            metadata: self.metadata(),
            next: Some(from.0),
            left: self.metadata().snapshots().len(),
        }
    }

    /// The snapshots of `range` that are still there, oldest first.
    ///
    /// # Errors
    /// `NotFound` if `through` is gone; `PositionExpired` if the walk back from it ends before
    /// it reaches `after`.
    pub fn snapshots_between(&self, range: SnapshotRange) -> Result<Vec<SnapshotRef>> {
        self.snapshot(range.through)?;
        let mut found = Vec::new();
        for snapshot in self.ancestors(range.through) {
            if Some(SnapshotId(snapshot.snapshot_id())) == range.after {
                found.reverse();
                return Ok(found);
            }
            found.push(snapshot.clone());
        }
        let oldest_parent = found.last().and_then(|s| s.parent_snapshot_id()).map(SnapshotId);
        if oldest_parent == range.after {
            found.reverse();
            return Ok(found);
        }
        Err(Error::new(ErrorKind::PositionExpired, "the history after a snapshot is not complete")
            .with_context("after", range.after.map_or("start".into(), |id| id.to_string()))
            .with_context("through", range.through))
    }

    /// True when `ancestor` is `head` or one of the ancestors the table still keeps.
    pub fn is_ancestor(&self, ancestor: SnapshotId, head: SnapshotId) -> bool {
        self.ancestors(head).any(|s| s.snapshot_id() == ancestor.0)
    }
}

/// Iterates a snapshot and its ancestors, newest first. Ends at the first one that is gone, and
/// on a cycle, after as many steps as the table has snapshots.
#[derive(Debug)]
pub struct Ancestors<'a> {
    metadata: &'a TableMetadata,
    next: Option<i64>,
    left: usize,
}

impl<'a> Iterator for Ancestors<'a> {
    type Item = &'a SnapshotRef;

    fn next(&mut self) -> Option<&'a SnapshotRef> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let snapshot = self.metadata.snapshot_by_id(self.next.take()?)?;
        self.next = snapshot.parent_snapshot_id();
        Some(snapshot)
    }
}
