//! Finished groups into the table: replaces their files, and carries over what others deleted
//! meanwhile.

use std::collections::HashSet;

use futures::TryStreamExt;

use super::CompactGroup;
use super::carry;
use super::outputs::Written;
use super::rewrite::Base;
use super::row_map::RowMap;
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::partitions::branch_scan;
use crate::spec::{DataFile, SnapshotId};
use crate::table::{Committed, RemovedFile, Table};

/// How often deletes are carried over before the groups are planned again: each round is quick, and
/// only a writer that is quicker still can win all of them.
const ROUNDS: u32 = 10;

/// A group whose new files are written and belong to no snapshot yet.
pub(super) struct Finished {
    /// The version that it was planned on.
    pub base: Base,
    pub group: CompactGroup,
    pub written: Written,
    /// Where each row went, if rows kept order and partition.
    pub map: Option<RowMap>,
    /// How often it was planned again.
    pub replans: u32,
}

impl Finished {
    /// Groups of one kind go into one commit. Of such as carry deletes over, all do; and whether
    /// rows enter a partition is asked of the commit as a whole (CMT-4).
    pub(super) fn kind(&self) -> (bool, bool) {
        (self.map.is_some(), self.group.stays())
    }
}

/// Committed groups.
#[derive(Debug)]
pub(super) struct Landed {
    pub committed: Committed,
    pub removed_delete_files: u64,
    pub carried_deletes: u64,
    /// How often others were in the way.
    pub conflicts: u64,
}

/// Commits groups of one kind that were read at `base` and written.
///
/// # Errors
/// `ValidationFailed` when some have to be planned again, `CommitStateUnknown` when nobody knows.
/// Written files are left to the caller.
pub(super) async fn commit(
    base: &Base,
    branch: &str,
    batch: &[Finished],
    memory_bytes: u64,
) -> Result<Landed> {
    let mut conflicts = 0;
    loop {
        let now = base.table.refresh().await?;
        let error = match attempt(base, branch, batch, &now, memory_bytes).await {
            Ok(landed) => return Ok(Landed { conflicts, ..landed }),
            Err(error) => error,
        };
        let again = match error.kind() {
            // Busy writers won every attempt; the new files are as good as before.
            ErrorKind::CommitConflict => true,
            ErrorKind::ValidationFailed => {
                batch.iter().all(|done| done.map.is_some())
                    && still_valid(base, branch, batch).await?.len() == batch.len()
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
    batch: &[Finished],
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
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    let mut carried = Carried::default();
    for done in batch {
        let going = carry::going_deletes(&done.group, &deletes)?;
        carried.removed_delete_files += going.len() as u64;
        let tasks = done.group.tasks.iter();
        removed.extend(tasks.map(|t| RemovedFile::new(&t.file, Some(t.sequence_number))));
        removed.extend(going);
        added.extend(done.written.files.iter().cloned());
        let Some(map) = &done.map else { continue };
        let dead = carry::deleted_meanwhile(now, &done.group, &deletes, map, memory_bytes);
        let written = match dead.await {
            Ok(dead) => {
                carried.rows += dead.values().map(|rows| rows.len()).sum::<u64>();
                carry::write(now, &done.written.files, &dead).await
            }
            Err(error) => Err(error),
        };
        match written {
            Ok(files) => carried.files.extend(files),
            Err(error) => {
                carry::discard(now, carried.files).await;
                return Err(error);
            }
        }
    }
    let mut commit = base.table.rewrite_files(removed, added, base.planned_at)?;
    if batch.iter().all(|done| done.map.is_some()) {
        commit = commit.with_carried_deletes(carried.files.clone(), head);
    }
    match commit.branch(branch).commit().await {
        Ok(committed) => Ok(Landed {
            committed,
            removed_delete_files: carried.removed_delete_files,
            carried_deletes: carried.rows,
            conflicts: 0,
        }),
        Err(error) => {
            // After an unknown outcome no file is removed (MNT-6).
            if error.kind() != ErrorKind::CommitStateUnknown {
                carry::discard(now, carried.files).await;
            }
            Err(error)
        }
    }
}

/// What goes along with the data files of a commit.
#[derive(Default)]
struct Carried {
    files: Vec<DataFile>,
    rows: u64,
    removed_delete_files: u64,
}

/// The groups, by number, of which every input is still part of the table; none when what was
/// read is no longer in the history. In the way of these were deletes, if anything.
pub(super) async fn still_valid(
    base: &Base,
    branch: &str,
    batch: &[Finished],
) -> Result<HashSet<usize>> {
    let now = base.table.refresh().await?;
    let context = branch_scan(&now, branch).context()?;
    let head = context.snapshot.as_ref().map(|s| SnapshotId(s.snapshot_id()));
    if !head.is_some_and(|head| now.is_ancestor(base.planned_at, head)) {
        return Ok(HashSet::new());
    }
    let inputs = batch.iter().flat_map(|done| &done.group.files);
    let wanted: HashSet<&str> = inputs.map(|f| f.path.as_str()).collect();
    let mut tasks = context.plan().await?.tasks;
    let mut found: HashSet<String> = HashSet::new();
    while let Some(task) = tasks.try_next().await? {
        if wanted.contains(task.file.file_path.as_str()) {
            found.insert(task.file.file_path.clone());
        }
    }
    let is_whole = |done: &Finished| done.group.files.iter().all(|f| found.contains(&f.path));
    let whole = batch.iter().enumerate().filter(|(_, done)| is_whole(done));
    Ok(whole.map(|(at, _)| at).collect())
}

fn rolled_back(base: &Base) -> Error {
    Error::new(
        ErrorKind::ValidationFailed,
        "the snapshot that was compacted is no longer in the branch's history",
    )
    .with_context("planned_at", base.planned_at)
    .with_hint("it was rolled back or expired: plan again")
}
