//! One group into the table: replaces its files, and carries over what others deleted meanwhile.

use std::collections::HashSet;

use futures::TryStreamExt;

use super::CompactGroup;
use super::carry;
use super::outputs::Written;
use super::rewrite::Base;
use super::row_map::RowMap;
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::partitions::branch_scan;
use crate::spec::SnapshotId;
use crate::table::{Committed, RemovedFile, Table};

/// How often deletes are carried over before the group is planned again: each round is quick, and
/// only a writer that is quicker still can win all of them.
const ROUNDS: u32 = 10;

/// A committed group.
#[derive(Debug)]
pub(super) struct Landed {
    pub committed: Committed,
    pub removed_delete_files: u64,
    pub carried_deletes: u64,
    /// How often others were in the way.
    pub conflicts: u64,
}

/// Commits a group that was read at `base` and written to `written`.
///
/// # Errors
/// `ValidationFailed` when the group has to be planned again, `CommitStateUnknown` when nobody
/// knows. The files of `written` are left to the caller.
pub(super) async fn commit(
    base: &Base,
    branch: &str,
    group: &CompactGroup,
    written: &Written,
    map: Option<&RowMap>,
    memory_bytes: u64,
) -> Result<Landed> {
    let mut conflicts = 0;
    loop {
        let now = base.table.refresh().await?;
        let error = match attempt(base, branch, group, written, map, &now, memory_bytes).await {
            Ok(landed) => return Ok(Landed { conflicts, ..landed }),
            Err(error) => error,
        };
        let again = match error.kind() {
            // Busy writers won every attempt; the new files are as good as before.
            ErrorKind::CommitConflict => true,
            ErrorKind::ValidationFailed => {
                map.is_some() && still_valid(base, branch, group).await?
            }
            _ => false,
        };
        if !again || conflicts >= u64::from(ROUNDS) {
            return Err(error);
        }
        tracing::debug!(%error, "others were quicker: carrying over what they deleted");
        conflicts += 1;
    }
}

async fn attempt(
    base: &Base,
    branch: &str,
    group: &CompactGroup,
    written: &Written,
    map: Option<&RowMap>,
    now: &Table,
    memory_bytes: u64,
) -> Result<Landed> {
    let context = branch_scan(now, branch).context()?;
    let Some(head) = context.snapshot.as_ref().map(|s| SnapshotId(s.snapshot_id())) else {
        return Err(rolled_back(base));
    };
    // What was read may have been undone (MNT-5).
    if !now.is_ancestor(base.planned_at, head) {
        return Err(rolled_back(base));
    }
    // Only the deletes are wanted; data manifests are not opened.
    let deletes = context.plan().await?.deletes;
    let going = carry::going_deletes(group, &deletes)?;
    let (carried, carried_deletes) = match map {
        None => (Vec::new(), 0),
        Some(map) => {
            let dead = carry::deleted_meanwhile(now, group, &deletes, map, memory_bytes).await?;
            let rows = dead.values().map(|rows| rows.len()).sum();
            (carry::write(now, &written.files, &dead).await?, rows)
        }
    };
    let removed_delete_files = going.len() as u64;
    let inputs = group.tasks.iter().map(|t| RemovedFile::new(&t.file, Some(t.sequence_number)));
    let removed = inputs.chain(going).collect();
    let mut commit = base.table.rewrite_files(removed, written.files.clone(), base.planned_at)?;
    if map.is_some() {
        commit = commit.with_carried_deletes(carried.clone(), head);
    }
    match commit.branch(branch).commit().await {
        Ok(committed) => {
            Ok(Landed { committed, removed_delete_files, carried_deletes, conflicts: 0 })
        }
        Err(error) => {
            // After an unknown outcome no file is removed (MNT-6).
            if error.kind() != ErrorKind::CommitStateUnknown {
                carry::discard(now, carried).await;
            }
            Err(error)
        }
    }
}

/// Whether what was read is still in the history and every input still part of the table: then
/// only deletes were in the way.
async fn still_valid(base: &Base, branch: &str, group: &CompactGroup) -> Result<bool> {
    let now = base.table.refresh().await?;
    let context = branch_scan(&now, branch).context()?;
    let head = context.snapshot.as_ref().map(|s| SnapshotId(s.snapshot_id()));
    if !head.is_some_and(|head| now.is_ancestor(base.planned_at, head)) {
        return Ok(false);
    }
    let wanted: HashSet<&str> = group.files.iter().map(|f| f.path.as_str()).collect();
    let mut tasks = context.plan().await?.tasks;
    let mut found = 0;
    while let Some(task) = tasks.try_next().await? {
        found += usize::from(wanted.contains(task.file.file_path.as_str()));
    }
    Ok(found == wanted.len())
}

fn rolled_back(base: &Base) -> Error {
    Error::new(
        ErrorKind::ValidationFailed,
        "the snapshot that was compacted is no longer in the branch's history",
    )
    .with_context("planned_at", base.planned_at)
    .with_hint("it was rolled back or expired: plan again")
}
