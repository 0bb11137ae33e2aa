//! What one snapshot changes, and what tells any two snapshots apart: the files to look at, found
//! from manifests alone.
//!
//! In: a snapshot and its [`Base`]: its parent, or any other. Out: [`SnapshotChanges`], either
//! *nothing*, or *inserts* that are streamed manifest by manifest, or *mixed* changes as change
//! units of small references. No data file is opened here.

mod diff;
mod net;
mod plan;
#[cfg(test)]
mod tests;
mod units;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::deletes::{DeleteFile, DeleteFileIndex};
use crate::error::{Error, Result};
use crate::spec::{
    DataFile, ManifestContentType, ManifestFile, PartitionKey, SequenceNumber, SnapshotId,
    SnapshotRef,
};
use crate::table::Table;

use super::FileScanTask;
use super::plan::check_readable;

/// How the changes of a snapshot are cut into units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Grouping {
    /// One unit a partition.
    #[default]
    Partition,
    /// One unit for the whole snapshot.
    Snapshot,
}

/// What changes are measured from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    /// The snapshot's parent.
    Parent,
    /// The parent, whether or not the snapshot claims to change nothing (CHG-13).
    Unclaimed,
    /// Any snapshot of the table, or an empty table (CHG-10).
    Snapshot(Option<SnapshotId>),
}

/// What kind of changes a snapshot makes, judged by its files and not by its operation (CHG-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeClass {
    /// No row: a rewrite, a marked conversion, or no files at all (CHG-2).
    Nothing,
    /// New rows only.
    Inserts,
    /// Rows may go as well.
    Mixed,
}

/// The changes that one snapshot makes to its parent. Cheap to share; knows its table.
#[derive(Debug)]
pub struct SnapshotChanges {
    table: Table,
    snapshot: SnapshotRef,
    class: ChangeClass,
    /// Every live file counts as added: the snapshot is read whole.
    whole: bool,
    spec_ids: BTreeSet<i32>,
    added_manifests: Vec<(u32, ManifestFile)>,
    /// The manifests of the snapshot, and behind them those of its parent where they are needed.
    manifests: Vec<ManifestFile>,
    units: Vec<ChangeUnit>,
    deletes: Deletes,
    base: Base,
    /// For net differences: the one set of columns that all equality deletes compare.
    equality_ids: Option<Vec<i32>>,
    tally: Tally,
}

/// How many files and bytes a plan looks at, and how many it need not look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Data files that came.
    pub added_files: u64,
    /// Their bytes.
    pub added_bytes: u64,
    /// Data files that went.
    pub removed_files: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Data files that stayed, and whose rows deletes may have taken or given back.
    pub touched_files: u64,
    /// Their bytes.
    pub touched_bytes: u64,
    /// Data files that stayed as they were and are not read.
    pub untouched_files: u64,
    /// Manifests of either snapshot.
    pub manifests: u64,
    /// Those of them that were not opened.
    pub manifests_skipped: u64,
}

/// Delete files by what they are good for.
#[derive(Debug, Default)]
struct Deletes {
    before: Arc<DeleteFileIndex>,
    after: Arc<DeleteFileIndex>,
    added: Arc<DeleteFileIndex>,
    removed: Arc<DeleteFileIndex>,
}

/// A file whose rows were all added, as one task.
#[derive(Debug, Clone)]
pub struct AddedFile {
    /// Index of its manifest in the snapshot's manifest list.
    pub manifest: u32,
    /// Index of its entry in the manifest.
    pub entry: u32,
    /// The file, with the deletes that its own snapshot applies to it.
    pub task: FileScanTask,
}

/// The changes of one snapshot to one partition, or to the whole table: what is ordered and
/// paired together (CHG-5).
#[derive(Debug, Clone)]
pub struct ChangeUnit {
    partition: Option<PartitionKey>,
    files: Vec<FileRef>,
    bytes: u64,
    rows: u64,
    keys: u64,
    digest: u64,
}

/// A file by its place in the manifests of its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct FileRef {
    manifest: u32,
    entry: u32,
    role: Role,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It came.
    Added,
    /// It went.
    Removed,
    /// It stayed, and deletes of its rows came or went.
    Touched,
}

/// A file of a change unit with the deletes that decide over its rows.
#[derive(Debug, Clone)]
pub struct ChangedFile {
    /// Whether it came, went or stayed.
    pub role: Role,
    /// The data file.
    pub file: Arc<DataFile>,
    /// Its data sequence number.
    pub sequence_number: SequenceNumber,
    /// The deletes that applied to it in the parent; empty for added files.
    pub before: Vec<DeleteFile>,
    /// The deletes that the snapshot added and that may apply to it.
    pub added: Vec<DeleteFile>,
    /// The deletes that the snapshot removed and that may have applied to it.
    pub removed: Vec<DeleteFile>,
    /// The deletes that apply to it in the snapshot; empty for removed files.
    pub after: Vec<DeleteFile>,
}

impl SnapshotChanges {
    /// The snapshot that makes the changes.
    pub fn snapshot(&self) -> &SnapshotRef {
        &self.snapshot
    }

    /// The table, as it was when the changes were planned.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What they are measured from.
    pub fn base(&self) -> Base {
        self.base
    }

    /// True for net differences: rows that both sides have are no change, wherever they lie.
    pub fn is_net(&self) -> bool {
        self.base != Base::Parent
    }

    /// For net differences: the columns that all equality deletes of both sides compare, if
    /// those are the same for all.
    pub fn equality_ids(&self) -> Option<&[i32]> {
        self.equality_ids.as_deref()
    }

    /// For mixed changes: how many files they touch.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// What kind of changes they are.
    pub fn class(&self) -> ChangeClass {
        self.class
    }

    /// The partition specs of the added files.
    pub fn spec_ids(&self) -> &BTreeSet<i32> {
        &self.spec_ids
    }

    /// For inserts: the manifests that hold added files, each with its index in the snapshot's
    /// manifest list.
    pub fn added_manifests(&self) -> &[(u32, ManifestFile)] {
        &self.added_manifests
    }

    /// For inserts: the added files of one of the [`SnapshotChanges::added_manifests`], in the
    /// order of its entries. Memory: one manifest.
    ///
    /// # Errors
    /// What reading a manifest gives; `Unsupported` for data files that are not Parquet.
    pub async fn added_files(&self, at: usize) -> Result<Vec<AddedFile>> {
        let Some((index, manifest)) = self.added_manifests.get(at) else { return Ok(Vec::new()) };
        let entries = self.table.entries(manifest).await.map_err(|e| self.named(e))?;
        let mut found = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            if !(self.whole && entry.is_live() || diff::is_added(entry)) {
                continue;
            }
            check_readable(&entry.file)?;
            let task = FileScanTask {
                file: entry.file.clone(),
                sequence_number: entry.sequence_number,
                deletes: self.deletes.after.for_data_file(&entry.file, entry.sequence_number)?,
                residual: None,
                snapshot_id: self.id(),
            };
            found.push(AddedFile { manifest: *index, entry: place as u32, task });
        }
        Ok(found)
    }

    /// For a snapshot that changes no row: the data files that it took out all the same, their
    /// rows lie in others now.
    ///
    /// # Errors
    /// What reading a manifest gives.
    pub async fn replaced_files(&self) -> Result<Vec<Arc<DataFile>>> {
        if self.is_net() || self.class != ChangeClass::Nothing {
            return Ok(Vec::new());
        }
        let is_of_snapshot = |m: &&ManifestFile| {
            let is_data = m.content == ManifestContentType::Data;
            is_data && m.added_snapshot_id == self.id().0 && m.deleted_files_count != Some(0)
        };
        let mut gone = Vec::new();
        for manifest in self.table.manifests(&self.snapshot).await?.iter().filter(is_of_snapshot) {
            let entries = self.table.entries(manifest).await?;
            gone.extend(entries.iter().filter(|e| !e.is_live()).map(|e| e.file.clone()));
        }
        Ok(gone)
    }

    /// For mixed changes: the units, in a fixed order.
    pub fn units(&self) -> &[ChangeUnit] {
        &self.units
    }

    /// The files of one unit, in the order of manifests and entries.
    ///
    /// # Errors
    /// As [`SnapshotChanges::added_files`].
    pub async fn files_of(&self, unit: &ChangeUnit) -> Result<Vec<ChangedFile>> {
        let mut files = Vec::with_capacity(unit.files.len());
        let mut open = None;
        for reference in &unit.files {
            let entries = match open.take() {
                Some((manifest, entries)) if manifest == reference.manifest => entries,
                _ => {
                    let manifest = self.manifests.get(reference.manifest as usize);
                    let manifest = manifest.ok_or_else(lost)?;
                    self.table.entries(manifest).await.map_err(|e| self.named(e))?
                }
            };
            let entry = entries.get(reference.entry as usize).ok_or_else(lost)?;
            check_readable(&entry.file)?;
            files.push(self.changed(reference.role, &entry.file, entry.sequence_number)?);
            open = Some((reference.manifest, entries));
        }
        Ok(files)
    }

    fn changed(
        &self,
        role: Role,
        file: &Arc<DataFile>,
        sequence_number: SequenceNumber,
    ) -> Result<ChangedFile> {
        let of = |wanted: bool, index: &DeleteFileIndex| match wanted {
            true => index.for_data_file(file, sequence_number),
            false => Ok(Vec::new()),
        };
        let Deletes { before, after, added, removed } = &self.deletes;
        Ok(ChangedFile {
            role,
            file: file.clone(),
            sequence_number,
            before: of(role != Role::Added, before)?,
            added: of(role == Role::Touched, added)?,
            removed: of(role == Role::Touched, removed)?,
            after: of(role != Role::Removed, after)?,
        })
    }

    /// True when deletes were taken back: rows may have come to life.
    pub fn removes_deletes(&self) -> bool {
        !self.deletes.removed.is_empty()
    }

    /// The id of [`SnapshotChanges::snapshot`].
    pub fn id(&self) -> SnapshotId {
        SnapshotId(self.snapshot.snapshot_id())
    }

    fn named(&self, error: Error) -> Error {
        error.with_context("snapshot", self.id())
    }
}

fn lost() -> Error {
    Error::internal("a change unit points at a manifest entry that is not there")
}

impl ChangeUnit {
    /// The partition, or none when the unit is a whole snapshot.
    pub fn partition(&self) -> Option<&PartitionKey> {
        self.partition.as_ref()
    }

    /// A hash of what the unit consists of; the same for the same snapshot, for ever.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// About how many bytes its files have: those that came or went, and a little for others.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// About how many rows it tells of: those of files that came or went, and those that position
    /// deletes name.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many keys the equality deletes name that came with it.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// How many files it looks at.
    pub fn files(&self) -> usize {
        self.files.len()
    }
}
