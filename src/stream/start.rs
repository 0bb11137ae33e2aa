//! Where a stream begins and ends.

use super::breaks::Breaks;
use super::timeline::{head_of, snapshots_after};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{SnapshotId, SnapshotRef};
use crate::table::{Place, Table, Token};

/// Where a stream begins if no position is stored under its name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// The rows of the oldest snapshot that the branch still has, then all changes since.
    Earliest,
    /// After the current snapshot.
    #[default]
    Latest,
    /// The rows of the current snapshot, then all changes since.
    LatestFull,
    /// After a snapshot of the branch.
    AfterSnapshot(SnapshotId),
    /// At the first snapshot committed at or after this time, in milliseconds since the epoch.
    SinceTime(i64),
    /// Where another stream of the same promise stopped.
    At(Token),
}

/// Where a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Until {
    /// Nowhere: it waits for the next commit.
    #[default]
    Forever,
    /// After the snapshot that is current when the stream opens.
    CaughtUp,
    /// After this snapshot.
    Snapshot(SnapshotId),
}

impl Start {
    /// The place to begin at; `None` for a token, which has many.
    ///
    /// # Errors
    /// `NotFound` for an unknown snapshot; `PositionExpired` for a time before what is kept;
    /// `HistoryRewritten` for a snapshot of another branch.
    pub(super) fn place(
        &self,
        table: &Table,
        branch: &str,
        breaks: Breaks,
    ) -> Result<Option<Place>> {
        let head = head_of(table, branch)?;
        let full = |s: &SnapshotRef| Place::Full(SnapshotId(s.snapshot_id()), None);
        let after = |s: &SnapshotRef| Place::After(SnapshotId(s.snapshot_id()));
        Ok(Some(match self {
            Self::At(_) => return Ok(None),
            Self::AfterSnapshot(id) => after_snapshot(table, branch, *id, breaks)?,
            _ if head.is_none() => Place::Origin,
            Self::Earliest => oldest(table, head.as_ref()).map_or(Place::Origin, |s| full(&s)),
            Self::Latest => head.as_ref().map_or(Place::Origin, after),
            Self::LatestFull => head.as_ref().map_or(Place::Origin, full),
            Self::SinceTime(time_ms) => since(table, branch, head.as_ref(), *time_ms)?,
        }))
    }
}

fn oldest(table: &Table, head: Option<&SnapshotRef>) -> Option<SnapshotRef> {
    table.ancestors(SnapshotId(head?.snapshot_id())).last().cloned()
}

fn after_snapshot(table: &Table, branch: &str, id: SnapshotId, breaks: Breaks) -> Result<Place> {
    match snapshots_after(table, branch, Some(id)) {
        Ok(_) => Ok(Place::After(id)),
        Err(e) if breaks.allows(&e) && table.snapshot(id).is_ok() => Ok(Place::After(id)),
        // A snapshot that the table does not know was never there, as far as anybody can tell.
        Err(e) if e.kind() == ErrorKind::HistoryRewritten => {
            Err(table.snapshot(id).err().unwrap_or(e))
        }
        Err(e) => Err(e),
    }
}

fn since(table: &Table, branch: &str, head: Option<&SnapshotRef>, time_ms: i64) -> Result<Place> {
    let Some(head) = head else { return Ok(Place::Origin) };
    let head_id = SnapshotId(head.snapshot_id());
    let mut ancestors: Vec<&SnapshotRef> = table.ancestors(head_id).collect();
    ancestors.reverse();
    let mut latest_ms = i64::MIN;
    let first = ancestors.into_iter().find(|snapshot| {
        latest_ms = latest_ms.max(snapshot.timestamp_ms());
        latest_ms >= time_ms
    });
    let Some(first) = first else { return Ok(Place::After(head_id)) };
    let Some(parent) = first.parent_snapshot_id() else { return Ok(Place::Origin) };
    if table.metadata().snapshot_by_id(parent).is_some() {
        return Ok(Place::After(SnapshotId(parent)));
    }
    // Whether the time lies before or after the parent, nobody knows any more.
    Err(Error::new(ErrorKind::PositionExpired, "the history at that time has expired")
        .with_context("table", table.ident())
        .with_context("branch", branch)
        .with_context("time_ms", time_ms)
        .with_context("earliest usable", format!("after:{parent}"))
        .with_context("earliest commit ms", first.timestamp_ms())
        .with_hint("start later, at the earliest usable position, or with a full read"))
}
