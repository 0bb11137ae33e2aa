//! What others committed meanwhile, and whether it breaks what this commit relies on.
//!
//! Every check runs on every attempt, against the base that the attempt commits to. The
//! snapshots looked at are those after the delta's start, up to the branch head (CMT-12).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::expr::{self, FileStats, PartitionFilter};
use crate::spec::{
    BoundPredicate, DataContentType, DataFile, ManifestContentType, ManifestEntry, ManifestFile,
    ManifestStatus, Operation, PartitionKey, SequenceNumber, SnapshotId, SnapshotRef,
};

use super::delta::{Delta, Isolation, OperationKind, RemovedFile};
use super::produce::may_hold;
use super::{SnapshotRange, Table};

/// Checks a delta against the branch head that it is about to be committed on.
///
/// # Errors
/// `ValidationFailed` naming the file and the snapshot in the way; `InvalidInput` if the
/// conflict filter does not bind.
pub(super) async fn validate(
    base: &Table,
    head: Option<&SnapshotRef>,
    manifests: &[ManifestFile],
    delta: &Delta,
) -> Result<()> {
    covered_specs(delta, manifests)?;
    equality_removals(base, manifests, delta).await?;
    let Some(head) = head else {
        return no_head(delta);
    };
    if !delta.validate {
        return referenced_are_live(base, manifests, delta).await;
    }
    let filter = match &delta.conflict_filter {
        Some(filter) => Some(expr::bind(filter, base.schema(), true)?),
        None => None,
    };
    let history = History::new(base, delta.start, head, filter)?;
    if !delta.referenced.is_empty() {
        history.referenced_files_stay(delta).await?;
    }
    if delta.kind == OperationKind::ReplacePartitions {
        let partitions = delta.added_data.iter().map(DataFile::partition_key).collect();
        return history.partitions_untouched(&partitions).await;
    }
    let checks_rows =
        !matches!(delta.kind, OperationKind::Rewrite) && delta.isolation == Isolation::Serializable;
    if checks_rows {
        history.no_new_data().await?;
    }
    if delta.check_moves {
        history.no_moved_data().await?;
    }
    if !delta.removed_data.is_empty() {
        history.no_new_deletes_for(delta).await?;
    }
    if delta.check_new_deletes {
        history.no_new_deletes().await?;
    }
    Ok(())
}

fn no_head(delta: &Delta) -> Result<()> {
    match delta.start {
        Some(start) if delta.validate => Err(history_unknown(start)),
        _ => delta.referenced.first().map_or(Ok(()), |path| Err(gone(path))),
    }
}

/// Rule CMT-4: the equality deletes of an upsert reach every spec that still has live rows.
fn covered_specs(delta: &Delta, manifests: &[ManifestFile]) -> Result<()> {
    let Some(covered) = &delta.covered_specs else { return Ok(()) };
    let live = manifests.iter().filter(|m| {
        m.content == ManifestContentType::Data && (m.has_added_files() || m.has_existing_files())
    });
    match live.map(|m| m.partition_spec_id).find(|id| !covered.contains(id)) {
        None => Ok(()),
        Some(spec_id) => Err(Error::new(
            ErrorKind::ValidationFailed,
            format!(
                "rows live under partition spec {spec_id}, which the upsert's deletes do not reach"
            ),
        )
        .with_hint("open a new upsert writer on the refreshed table and write the batch again")),
    }
}

/// Rule CMT-3, second half: an equality delete may go only if every live row it could still
/// reach was seen by the planner or goes with it.
async fn equality_removals(base: &Table, manifests: &[ManifestFile], delta: &Delta) -> Result<()> {
    let removed = removed_equality(base, manifests, delta).await?;
    let Some(youngest) = removed.iter().map(|(_, number)| *number).max() else { return Ok(()) };
    let leaving: HashSet<&str> = delta.removed_data.iter().map(|f| f.path.as_str()).collect();
    for manifest in manifests.iter().filter(|m| m.content == ManifestContentType::Data) {
        if manifest.min_sequence_number >= youngest.0 {
            continue;
        }
        for entry in base.entries(manifest).await?.iter().filter(|e| e.is_live()) {
            let path = entry.file.file_path.as_str();
            if leaving.contains(path) || delta.planned.contains(path) {
                continue;
            }
            for (delete, number) in &removed {
                if entry.sequence_number < *number
                    && in_scope(base, &delete.partition, &entry.file)?
                {
                    return Err(Error::new(
                        ErrorKind::ValidationFailed,
                        "an equality delete to remove still applies to a file that was not planned",
                    )
                    .with_context("delete_file", &delete.path)
                    .with_context("data_file", path)
                    .with_hint("plan again on the refreshed table"));
                }
            }
        }
    }
    Ok(())
}

/// The equality deletes to remove with their ages; one that the caller left out is looked up. A
/// delete that is not there is refused when it is to be removed (CMT-11).
async fn removed_equality<'d>(
    base: &Table,
    manifests: &[ManifestFile],
    delta: &'d Delta,
) -> Result<Vec<(&'d RemovedFile, SequenceNumber)>> {
    let (mut removed, mut ageless) = (Vec::new(), HashMap::new());
    for file in &delta.removed_deletes {
        match (file.content, file.sequence_number) {
            (DataContentType::EqualityDeletes, Some(number)) => removed.push((file, number)),
            (DataContentType::EqualityDeletes, None) => {
                ageless.insert(file.path.as_str(), file);
            }
            _ => {}
        }
    }
    for manifest in manifests.iter().filter(|m| m.content == ManifestContentType::Deletes) {
        if ageless.is_empty() {
            break;
        }
        for entry in base.entries(manifest).await?.iter().filter(|e| e.is_live()) {
            let found = ageless.remove(entry.file.file_path.as_str());
            removed.extend(found.map(|file| (file, entry.sequence_number)));
        }
    }
    Ok(removed)
}

/// Without a start there is no history to look at: what position deletes are about must be live
/// (CMT-12). It lies in their own partition (CMT-2).
async fn referenced_are_live(
    base: &Table,
    manifests: &[ManifestFile],
    delta: &Delta,
) -> Result<()> {
    let mut missing: HashSet<&str> = delta.referenced.iter().map(String::as_str).collect();
    let partitions: HashSet<PartitionKey> =
        delta.added_deletes.iter().map(|d| d.file.partition_key()).collect();
    for manifest in manifests.iter().filter(|m| m.content == ManifestContentType::Data) {
        if missing.is_empty() {
            break;
        }
        let types = base.partition_types(manifest.partition_spec_id)?;
        if partitions.iter().any(|partition| may_hold(manifest, partition, &types)) {
            for entry in base.entries(manifest).await?.iter().filter(|e| e.is_live()) {
                missing.remove(entry.file.file_path.as_str());
            }
        }
    }
    match missing.into_iter().min() {
        None => Ok(()),
        Some(path) => Err(gone(path)),
    }
}

fn gone(path: &str) -> Error {
    Error::new(
        ErrorKind::ValidationFailed,
        "a data file that this commit deletes rows of is not part of the table",
    )
    .with_context("file", path)
    .with_hint("somebody replaced it meanwhile: refresh the table, look for the rows again and commit again")
}

fn in_scope(base: &Table, delete: &PartitionKey, file: &DataFile) -> Result<bool> {
    Ok(base.spec(delete.spec_id)?.is_unpartitioned() || *delete == file.partition_key())
}

/// The snapshots after a start, and what they changed.
struct History<'a> {
    base: &'a Table,
    start_sequence: SequenceNumber,
    snapshots: Vec<SnapshotRef>,
    filter: Option<BoundPredicate>,
}

impl<'a> History<'a> {
    fn new(
        base: &'a Table,
        start: Option<SnapshotId>,
        head: &SnapshotRef,
        filter: Option<BoundPredicate>,
    ) -> Result<Self> {
        let range = SnapshotRange { after: start, through: SnapshotId(head.snapshot_id()) };
        let snapshots = base.snapshots_between(range).map_err(|e| match start {
            Some(start) => history_unknown(start).with_source(e),
            None => e.with_kind(ErrorKind::ValidationFailed),
        })?;
        let start = start.and_then(|id| base.metadata().snapshot_by_id(id.0));
        let start_sequence = match (start, snapshots.first()) {
            (Some(start), _) => SequenceNumber(start.sequence_number()),
            (None, Some(first)) => SequenceNumber(first.sequence_number() - 1),
            (None, None) => SequenceNumber(head.sequence_number()),
        };
        Ok(Self { base, start_sequence, snapshots, filter })
    }

    /// Entries of `status` in the manifests of `content` that the snapshots of the given
    /// operations wrote themselves.
    async fn entries(
        &self,
        operations: &[Operation],
        content: ManifestContentType,
        status: ManifestStatus,
    ) -> Result<Vec<(SnapshotId, ManifestEntry)>> {
        let mut found = Vec::new();
        for snapshot in &self.snapshots {
            if !operations.contains(&snapshot.summary().operation) {
                continue;
            }
            let id = snapshot.snapshot_id();
            let manifests = self.base.manifests(snapshot).await?;
            let own =
                manifests.iter().filter(|m| m.content == content && m.added_snapshot_id == id);
            for manifest in own {
                let entries = self.base.entries(manifest).await?;
                let hits = entries.iter().filter(|e| e.status == status && e.snapshot_id.0 == id);
                found.extend(hits.map(|e| (SnapshotId(id), e.clone())));
            }
        }
        Ok(found)
    }

    fn may_match(&self, file: &DataFile) -> Result<bool> {
        let Some(filter) = &self.filter else { return Ok(true) };
        let spec = self.base.spec(file.spec_id)?;
        let types = self.base.partition_types(file.spec_id)?;
        let partitions = PartitionFilter::new(filter, spec, &types, self.base.schema())?;
        if !partitions.partition_might_match(&file.partition) {
            return Ok(false);
        }
        // The statistics of a delete file describe deleted rows or keys: only partitions count.
        Ok(file.is_delete() || expr::might_match(filter, &FileStats(file, self.base.schema())))
    }

    /// Without this check a compaction would bring back the rows that position deletes hit.
    async fn referenced_files_stay(&self, delta: &Delta) -> Result<()> {
        let mut operations = vec![Operation::Overwrite, Operation::Replace];
        if delta.count_plain_deletes {
            operations.push(Operation::Delete);
        }
        let removed =
            self.entries(&operations, ManifestContentType::Data, ManifestStatus::Deleted).await?;
        for (snapshot, entry) in removed {
            if delta.referenced.contains(&entry.file.file_path) {
                return Err(conflict(
                    "a data file that this commit deletes rows of is gone",
                    &entry.file,
                    snapshot,
                ));
            }
        }
        Ok(())
    }

    /// A compaction keeps every row in its partition unless it writes under another spec (CMT-14).
    async fn no_moved_data(&self) -> Result<()> {
        let replaced = &[Operation::Replace];
        let data = ManifestContentType::Data;
        let left = self.entries(replaced, data, ManifestStatus::Deleted).await?;
        for (snapshot, entry) in self.entries(replaced, data, ManifestStatus::Added).await? {
            let spec_id = entry.file.spec_id;
            let moved = |(by, e): &(SnapshotId, ManifestEntry)| {
                *by == snapshot && e.file.spec_id != spec_id
            };
            if left.iter().any(moved) && self.may_match(&entry.file)? {
                return Err(conflict(
                    "a rewrite moved rows that may match to another partition spec",
                    &entry.file,
                    snapshot,
                ));
            }
        }
        Ok(())
    }

    async fn no_new_data(&self) -> Result<()> {
        let added = self
            .entries(
                &[Operation::Append, Operation::Overwrite],
                ManifestContentType::Data,
                ManifestStatus::Added,
            )
            .await?;
        for (snapshot, entry) in added {
            if self.may_match(&entry.file)? {
                return Err(conflict(
                    "another commit added rows that may match",
                    &entry.file,
                    snapshot,
                ));
            }
        }
        Ok(())
    }

    /// Deletes that `replace` snapshots add are looked at too: a conversion that some engine
    /// commits as `replace` would otherwise be lost to a concurrent compaction (CMT-3).
    async fn new_deletes(&self) -> Result<Vec<(SnapshotId, ManifestEntry)>> {
        self.entries(
            &[Operation::Overwrite, Operation::Delete, Operation::Replace],
            ManifestContentType::Deletes,
            ManifestStatus::Added,
        )
        .await
    }

    async fn no_new_deletes(&self) -> Result<()> {
        for (snapshot, entry) in self.new_deletes().await? {
            if self.may_match(&entry.file)? {
                return Err(conflict(
                    "another commit added deletes that may match",
                    &entry.file,
                    snapshot,
                ));
            }
        }
        Ok(())
    }

    /// Deletes of others that hit a data file which this commit removes. Equality deletes stay
    /// effective by sequence when the new files keep the age of what was read.
    async fn no_new_deletes_for(&self, delta: &Delta) -> Result<()> {
        let keeps_age = delta.data_sequence_number.is_some();
        let moves = moves_partition(delta);
        for (snapshot, entry) in self.new_deletes().await? {
            let file = &entry.file;
            if entry.sequence_number <= self.start_sequence {
                continue;
            }
            let hit = match (file.content, file.referenced_path()) {
                (DataContentType::EqualityDeletes, _) if keeps_age && !moves => None,
                (DataContentType::EqualityDeletes, _) if keeps_age => {
                    self.hit_by_move(delta, file)?
                }
                (DataContentType::EqualityDeletes, _) => self.hit_by_scope(delta, file)?,
                (_, Some(path)) => delta.removed_data.iter().find(|f| f.path == path),
                (_, None) => {
                    delta.removed_data.iter().find(|f| f.partition == file.partition_key())
                }
            };
            if let Some(hit) = hit {
                return Err(conflict(
                    "another commit deleted rows of a file that this one replaces",
                    file,
                    snapshot,
                )
                .with_context("data_file", &hit.path));
            }
        }
        Ok(())
    }

    fn hit_by_scope<'d>(
        &self,
        delta: &'d Delta,
        delete: &DataFile,
    ) -> Result<Option<&'d RemovedFile>> {
        let global = self.base.spec(delete.spec_id)?.is_unpartitioned();
        let key = delete.partition_key();
        Ok(delta.removed_data.iter().find(|f| global || f.partition == key))
    }

    /// A rewrite that moves rows to another spec takes them out of reach of equality deletes of
    /// the old partition and into reach of those of the new one (CMT-4); global ones reach both.
    fn hit_by_move<'d>(
        &self,
        delta: &'d Delta,
        delete: &DataFile,
    ) -> Result<Option<&'d RemovedFile>> {
        if self.base.spec(delete.spec_id)?.is_unpartitioned() {
            return Ok(None);
        }
        let key = delete.partition_key();
        let enters = delta.added_data.iter().any(|f| f.partition_key() == key);
        Ok(delta.removed_data.iter().find(|f| enters || f.partition == key))
    }

    async fn partitions_untouched(&self, partitions: &HashSet<PartitionKey>) -> Result<()> {
        let added = self
            .entries(
                &[Operation::Append, Operation::Overwrite],
                ManifestContentType::Data,
                ManifestStatus::Added,
            )
            .await?;
        let removed = self
            .entries(
                &[Operation::Overwrite, Operation::Replace, Operation::Delete],
                ManifestContentType::Data,
                ManifestStatus::Deleted,
            )
            .await?;
        let deletes = self.new_deletes().await?;
        for (snapshot, entry) in added.into_iter().chain(removed).chain(deletes) {
            let file: &Arc<DataFile> = &entry.file;
            let global = file.is_delete() && self.base.spec(file.spec_id)?.is_unpartitioned();
            if global || partitions.contains(&file.partition_key()) {
                return Err(conflict(
                    "another commit changed a partition that this one replaces",
                    file,
                    snapshot,
                ));
            }
        }
        Ok(())
    }
}

/// Whether rows end up in a partition that none of them came from.
fn moves_partition(delta: &Delta) -> bool {
    let from: HashSet<&PartitionKey> = delta.removed_data.iter().map(|f| &f.partition).collect();
    delta.added_data.iter().any(|f| !from.contains(&f.partition_key()))
}

fn conflict(what: &str, file: &DataFile, snapshot: SnapshotId) -> Error {
    Error::new(ErrorKind::ValidationFailed, what)
        .with_context("file", &file.file_path)
        .with_context("snapshot", snapshot)
        .with_hint("refresh the table, plan on the new snapshot and commit again")
}

fn history_unknown(start: SnapshotId) -> Error {
    Error::new(
        ErrorKind::ValidationFailed,
        format!("snapshot {start}, which this work was planned on, is not in the branch's history"),
    )
    .with_hint("it was expired or rolled back: refresh the table and plan again")
}
