//! From manifests to the changes of a snapshot.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::TryStreamExt;
use tracing::debug;

use super::diff::ManifestDiff;
use super::{ChangeClass, ChangeUnit, Deletes, FileRef, Grouping, Role, SnapshotChanges};
use crate::deletes::{DeleteFile, DeleteFileIndex};
use crate::error::{Error, Result};
use crate::spec::{
    DataContentType, DataFile, FormatVersion, ManifestContentType, ManifestEntry, ManifestFile,
    Operation, PartitionKey, SnapshotRef, StableHasher,
};
use crate::table::{Table, summary_key};

/// What opening a touched file costs about.
const TOUCH_BYTES: u64 = 64 * 1024;

impl Table {
    /// Finds what a snapshot changes.
    ///
    /// * Cost: the manifests that the snapshot and its parent do not share; for deletes of files
    ///   that stayed, the data manifests that may list those files.
    /// * Memory: flat for inserts; about 16 bytes a file for mixed changes, and the delete files.
    ///
    /// # Errors
    /// `Unsupported` for format versions above 2; what reading manifests gives.
    pub async fn plan_changes(
        &self,
        snapshot: &SnapshotRef,
        grouping: Grouping,
    ) -> Result<Arc<SnapshotChanges>> {
        check_version(self)?;
        let planned = plan(self, snapshot, grouping).await;
        let changes = planned.map_err(|e| e.with_context("snapshot", snapshot.snapshot_id()))?;
        debug!(snapshot = snapshot.snapshot_id(), class = ?changes.class,
            units = changes.units.len(), "planned changes");
        Ok(Arc::new(changes))
    }

    /// A whole snapshot as if every live row had just been inserted: the start of a stream.
    ///
    /// # Errors
    /// As [`Table::plan_changes`].
    pub async fn plan_all_rows(&self, snapshot: &SnapshotRef) -> Result<Arc<SnapshotChanges>> {
        check_version(self)?;
        let manifests = self.manifests(snapshot).await?.to_vec();
        let after = deletes_of(self, &manifests).await?;
        let holds_data = |m: &&ManifestFile| {
            let some = |count: Option<u32>| count != Some(0);
            m.content == ManifestContentType::Data
                && (some(m.added_files_count) || some(m.existing_files_count))
        };
        let numbered = (0u32..).zip(&manifests).filter(|(_, m)| holds_data(m));
        let added_manifests: Vec<_> = numbered.map(|(at, m)| (at, m.clone())).collect();
        Ok(Arc::new(SnapshotChanges {
            whole: true,
            class: ChangeClass::Inserts,
            spec_ids: added_manifests.iter().map(|(_, m)| m.partition_spec_id).collect(),
            added_manifests,
            deletes: Deletes { after, ..Deletes::default() },
            ..nothing(self, snapshot)
        }))
    }
}

fn check_version(table: &Table) -> Result<()> {
    let version = table.metadata().format_version();
    if matches!(version, FormatVersion::V1 | FormatVersion::V2) {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "table `{}` has format version {}",
        table.ident(),
        version as u8
    ))
    .with_hint("this version reads format versions 1 and 2"))
}

fn nothing(table: &Table, snapshot: &SnapshotRef) -> SnapshotChanges {
    SnapshotChanges {
        table: table.clone(),
        snapshot: snapshot.clone(),
        class: ChangeClass::Nothing,
        whole: false,
        spec_ids: BTreeSet::new(),
        added_manifests: Vec::new(),
        manifests: Vec::new(),
        units: Vec::new(),
        deletes: Deletes::default(),
    }
}

/// True for rewrites and for our own marked conversions (CHG-2).
fn is_logically_empty(snapshot: &SnapshotRef) -> bool {
    let summary = snapshot.summary();
    summary.operation == Operation::Replace
        || summary
            .additional_properties
            .get(summary_key::LOGICAL_CHANGE)
            .is_some_and(|v| v == "none")
}

async fn plan(
    table: &Table,
    snapshot: &SnapshotRef,
    grouping: Grouping,
) -> Result<SnapshotChanges> {
    use ManifestContentType::{Data, Deletes as DeleteContent};
    if is_logically_empty(snapshot) {
        return Ok(nothing(table, snapshot));
    }
    let diff = ManifestDiff::load(table, snapshot).await?;
    let is_mixed =
        diff.may_remove(Data) || diff.may_remove(DeleteContent) || diff.may_add(DeleteContent);
    let (added_manifests, spec_ids) = added_manifests(&diff);
    if is_mixed {
        let deletes = deletes(table, &diff).await?;
        let units = units(snapshot, &diff, &deletes, grouping).await?;
        let class = if units.is_empty() { ChangeClass::Nothing } else { ChangeClass::Mixed };
        let manifests = diff.manifests;
        return Ok(SnapshotChanges {
            class,
            spec_ids,
            manifests,
            units,
            deletes,
            ..nothing(table, snapshot)
        });
    }
    if added_manifests.is_empty() {
        return Ok(nothing(table, snapshot));
    }
    // Only data that says to be older than its snapshot can be hit by deletes of others.
    let is_young = |m: &ManifestFile| m.min_sequence_number >= snapshot.sequence_number();
    let after = if added_manifests.iter().all(|(_, m)| is_young(m)) {
        Arc::default()
    } else {
        deletes_of(table, diff.manifests.get(..diff.own).unwrap_or_default()).await?
    };
    Ok(SnapshotChanges {
        class: ChangeClass::Inserts,
        spec_ids,
        added_manifests,
        deletes: Deletes { after, ..Deletes::default() },
        ..nothing(table, snapshot)
    })
}

fn added_manifests(diff: &ManifestDiff) -> (Vec<(u32, ManifestFile)>, BTreeSet<i32>) {
    let adds = |m: &ManifestFile| m.added_files_count != Some(0);
    let new = diff.new_manifests(ManifestContentType::Data).filter(|(_, m)| adds(m));
    let new: Vec<_> = new.map(|(at, m)| (at as u32, m.clone())).collect();
    let specs = new.iter().map(|(_, m)| m.partition_spec_id).collect();
    (new, specs)
}

/// The live delete files of manifests.
async fn deletes_of(table: &Table, manifests: &[ManifestFile]) -> Result<Arc<DeleteFileIndex>> {
    let mut found = Vec::new();
    for manifest in manifests.iter().filter(|m| m.content == ManifestContentType::Deletes) {
        let entries = table.entries(manifest).await?;
        found.extend(entries.iter().filter(|e| e.is_live()).map(delete_file));
    }
    Ok(Arc::new(DeleteFileIndex::new(found, table.metadata())?))
}

fn delete_file(entry: &ManifestEntry) -> DeleteFile {
    DeleteFile { file: entry.file.clone(), sequence_number: entry.sequence_number }
}

/// The deletes of the snapshot, and from them those of the parent, which may be gone itself:
/// without those that came, with those that went.
async fn deletes(table: &Table, diff: &ManifestDiff) -> Result<Deletes> {
    let moved = diff.moved(ManifestContentType::Deletes).await?;
    let (mut added, mut removed, mut after) = (Vec::new(), Vec::new(), Vec::new());
    let own = diff.manifests.iter().take(diff.own).enumerate();
    let own: Vec<_> = own.filter(|(_, m)| m.content == ManifestContentType::Deletes).collect();
    let mut read = diff.read(own);
    while let Some((_, entries)) = read.try_next().await? {
        after.extend(entries.iter().filter(|e| e.is_live()).map(delete_file));
    }
    drop(read);
    for file in &moved {
        let Some(manifest) = diff.manifests.get(file.manifest) else { continue };
        let entries = table.entries(manifest).await?;
        let Some(entry) = entries.get(file.entry) else { continue };
        if file.added { &mut added } else { &mut removed }.push(delete_file(entry));
    }
    let came: std::collections::HashSet<&str> =
        added.iter().map(|d: &DeleteFile| d.file.file_path.as_str()).collect();
    let stayed = after.iter().filter(|d| !came.contains(d.file.file_path.as_str()));
    let before: Vec<DeleteFile> = stayed.cloned().chain(removed.iter().cloned()).collect();
    let index =
        |deletes| Ok::<_, Error>(Arc::new(DeleteFileIndex::new(deletes, table.metadata())?));
    Ok(Deletes {
        before: index(before)?,
        after: index(after)?,
        added: index(added)?,
        removed: index(removed)?,
    })
}

/// Change units in the making.
struct Units {
    grouping: Grouping,
    by_partition: HashMap<Option<PartitionKey>, (Vec<FileRef>, u64)>,
}

impl Units {
    fn add(&mut self, manifest: usize, entry: usize, role: Role, file: &DataFile) {
        let partition = match self.grouping {
            Grouping::Partition => Some(file.partition_key()),
            Grouping::Snapshot => None,
        };
        let (files, bytes) = self.by_partition.entry(partition).or_default();
        files.push(FileRef { manifest: manifest as u32, entry: entry as u32, role });
        *bytes += match role {
            Role::Touched => TOUCH_BYTES.min(file.file_size_in_bytes),
            Role::Added | Role::Removed => file.file_size_in_bytes,
        };
    }

    /// In a fixed order: by spec, then by the hash of the partition. No names are involved, so
    /// that an evolved schema keeps the order.
    fn finish(self, snapshot: &SnapshotRef) -> Vec<ChangeUnit> {
        let mut units: Vec<_> = self
            .by_partition
            .into_iter()
            .map(|(partition, (mut files, bytes))| {
                files.sort_unstable();
                let place = partition.as_ref().map(|key| (key.spec_id, key.stable_hash()));
                let digest = digest(snapshot, place.unwrap_or_default().1, &files);
                (place, ChangeUnit { partition, files, bytes, digest })
            })
            .collect();
        units.sort_by_key(|(place, _)| *place);
        units.into_iter().map(|(_, unit)| unit).collect()
    }
}

fn digest(snapshot: &SnapshotRef, partition: u64, files: &[FileRef]) -> u64 {
    let mut hasher = StableHasher::default();
    hasher.number(snapshot.snapshot_id() as u64).number(partition);
    for file in files {
        hasher
            .number(u64::from(file.manifest))
            .number(u64::from(file.entry) << 2 | file.role as u64);
    }
    hasher.finish()
}

async fn units(
    snapshot: &SnapshotRef,
    diff: &ManifestDiff,
    deletes: &Deletes,
    grouping: Grouping,
) -> Result<Vec<ChangeUnit>> {
    let mut units = Units { grouping, by_partition: HashMap::new() };
    let mut moved = diff.moved(ManifestContentType::Data).await?.into_iter().peekable();
    let touches = !deletes.added.is_empty() || !deletes.removed.is_empty();
    let changed: Vec<bool> = changed_manifests(diff, moved.len());
    let data = |m: &ManifestFile| m.content == ManifestContentType::Data;
    let wanted = diff.manifests.iter().enumerate().zip(changed);
    let wanted =
        wanted.filter(|((at, m), changed)| data(m) && (*changed || touches && *at < diff.own));
    let mut read = diff.read(wanted.map(|(numbered, _)| numbered).collect());
    while let Some((manifest, entries)) = read.try_next().await? {
        for (at, entry) in entries.iter().enumerate() {
            let is_moved = moved.peek().is_some_and(|m| (m.manifest, m.entry) == (manifest, at));
            if is_moved {
                let role = match moved.next() {
                    Some(found) if found.added => Role::Added,
                    _ => Role::Removed,
                };
                units.add(manifest, at, role, &entry.file);
            } else if touches && manifest < diff.own && entry.is_live() && touched(deletes, entry)?
            {
                units.add(manifest, at, Role::Touched, &entry.file);
            }
        }
    }
    Ok(units.finish(snapshot))
}

/// Manifests that may list files that came or went: the new ones, and the parent's own.
fn changed_manifests(diff: &ManifestDiff, moved: usize) -> Vec<bool> {
    let own = diff.is_new.iter().map(|is_new| *is_new && moved > 0);
    let gone = diff.manifests.iter().skip(diff.own).map(|_| moved > 0);
    own.chain(gone).collect()
}

/// Whether a delete that came or went may speak of a row of this file (CHG-4).
fn touched(deletes: &Deletes, entry: &ManifestEntry) -> Result<bool> {
    if entry.file.content != DataContentType::Data {
        return Ok(false);
    }
    let reaches = |index: &DeleteFileIndex| -> Result<bool> {
        if index.is_empty() {
            return Ok(false);
        }
        Ok(!index.for_data_file(&entry.file, entry.sequence_number)?.is_empty())
    };
    Ok(reaches(&deletes.added)? || reaches(&deletes.removed)?)
}
