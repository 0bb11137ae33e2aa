//! What a stream does where history breaks: where snapshots expired that it had not delivered,
//! where its branch was rolled back, where a rewrite changed rows.

use std::str::FromStr;

use super::timeline::head_of;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{SnapshotId, SnapshotRef};
use crate::table::Table;

/// What to do when snapshots between a stream's position and the head of its branch have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnGap {
    /// End with `PositionExpired`.
    #[default]
    Refuse,
    /// If the snapshot of the position is still there, emit the net difference from it to the
    /// oldest snapshot from which the history to the head is whole, then go on (STR-20).
    Net,
}

/// What to do when the branch no longer contains what a stream has delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRollback {
    /// End with `HistoryRewritten`.
    #[default]
    Refuse,
    /// If the snapshot of the position is still there, emit the net difference from it to the new
    /// head, which undoes what was undone, then go on (STR-21).
    Net,
}

/// What to do with snapshots that claim to change no row: rewrites and marked conversions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyReplace {
    /// Pass over them unread.
    #[default]
    Trust,
    /// Read them, and end with `CorruptData` if they do change rows (STR-22).
    Refuse,
    /// Read them, and emit the rows that they do change.
    Emit,
}

impl FromStr for OnGap {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "net" => Ok(Self::Net),
            _ => Err(unknown(text, "refuse and net")),
        }
    }
}

impl FromStr for OnRollback {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "net" => Ok(Self::Net),
            _ => Err(unknown(text, "refuse and net")),
        }
    }
}

impl FromStr for VerifyReplace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "trust" => Ok(Self::Trust),
            "refuse" => Ok(Self::Refuse),
            "emit" => Ok(Self::Emit),
            _ => Err(unknown(text, "trust, refuse and emit")),
        }
    }
}

fn unknown(text: &str, known: &str) -> Error {
    Error::invalid(format!("unknown choice `{text}`")).with_hint(format!("the choices are {known}"))
}

/// How to get over breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Breaks {
    pub on_gap: OnGap,
    pub on_rollback: OnRollback,
}

impl Breaks {
    /// Whether this failure to go on is to be got over.
    pub fn allows(&self, error: &Error) -> bool {
        match error.kind() {
            ErrorKind::PositionExpired => self.on_gap == OnGap::Net,
            ErrorKind::HistoryRewritten => self.on_rollback == OnRollback::Net,
            _ => false,
        }
    }

    /// The snapshot to which the net difference from `last` leads, if there is to be one.
    ///
    /// # Errors
    /// `broken` if not.
    pub fn target(
        &self,
        table: &Table,
        branch: &str,
        last: Option<SnapshotId>,
        broken: Error,
    ) -> Result<SnapshotRef> {
        let is_there = last.is_none_or(|id| table.metadata().snapshot_by_id(id.0).is_some());
        let Some(head) = head_of(table, branch)?.filter(|_| is_there) else { return Err(broken) };
        if self.allows(&broken) {
            let is_gap = broken.kind() == ErrorKind::PositionExpired;
            let mut ancestors = table.ancestors(SnapshotId(head.snapshot_id()));
            return match is_gap {
                true => ancestors.last().cloned().ok_or(broken),
                false => ancestors.next().cloned().ok_or(broken),
            };
        }
        Err(broken)
    }
}
