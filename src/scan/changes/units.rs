//! Change units: files that came, went or were touched, put together by what is ordered together.

use std::collections::{BTreeSet, HashMap};

use futures::TryStreamExt;

use super::diff::ManifestDiff;
use super::{Base, ChangeUnit, Deletes, FileRef, Grouping, Role, Tally};
use crate::deletes::DeleteFileIndex;
use crate::error::Result;
use crate::spec::{
    DataContentType, DataFile, ManifestContentType, ManifestEntry, ManifestFile, PartitionKey,
    SequenceNumber, SnapshotRef, StableHasher, TableMetadata,
};

/// What opening a touched file costs about.
const TOUCH_BYTES: u64 = 64 * 1024;

/// Change units in the making.
pub(super) struct Units {
    grouping: Grouping,
    by_partition: HashMap<Option<PartitionKey>, Files>,
    pub tally: Tally,
}

/// The files of one unit.
#[derive(Default)]
struct Files {
    refs: Vec<FileRef>,
    bytes: u64,
    /// Of those that came or went, and of the rest as many as position deletes name that came.
    rows: u64,
    /// Of the equality deletes that came.
    keys: u64,
}

impl Units {
    fn unit_of(&self, file: &DataFile) -> Option<PartitionKey> {
        match self.grouping {
            Grouping::Partition => Some(file.partition_key()),
            Grouping::Snapshot => None,
        }
    }

    /// Counts what a delete file names. Deletes of every partition are counted with none.
    fn count(&mut self, delete: &DataFile) {
        let Some(files) = self.by_partition.get_mut(&self.unit_of(delete)) else { return };
        match delete.content {
            DataContentType::EqualityDeletes => files.keys += delete.record_count,
            _ => files.rows += delete.record_count,
        }
    }

    fn add(&mut self, manifest: usize, entry: usize, role: Role, file: &DataFile) {
        let files = self.by_partition.entry(self.unit_of(file)).or_default();
        files.refs.push(FileRef { manifest: manifest as u32, entry: entry as u32, role });
        let size = file.file_size_in_bytes;
        let (bytes, rows) = match role {
            Role::Touched => (TOUCH_BYTES.min(size), 0),
            Role::Added | Role::Removed => (size, file.record_count),
        };
        (files.bytes, files.rows) = (files.bytes + bytes, files.rows + rows);
        let tally = &mut self.tally;
        let (files, bytes) = match role {
            Role::Added => (&mut tally.added_files, &mut tally.added_bytes),
            Role::Removed => (&mut tally.removed_files, &mut tally.removed_bytes),
            Role::Touched => (&mut tally.touched_files, &mut tally.touched_bytes),
        };
        (*files, *bytes) = (*files + 1, *bytes + size);
    }

    /// The specs of all files.
    pub(super) fn specs(&self) -> BTreeSet<i32> {
        self.by_partition.keys().flatten().map(|partition| partition.spec_id).collect()
    }

    /// Puts everything into one unit.
    pub(super) fn into_one(self) -> Self {
        let mut all = Files::default();
        for files in self.by_partition.into_values() {
            all.refs.extend(files.refs);
            (all.bytes, all.rows) = (all.bytes + files.bytes, all.rows + files.rows);
            all.keys += files.keys;
        }
        let whole = (!all.refs.is_empty()).then_some((None, all));
        Self { by_partition: whole.into_iter().collect(), ..self }
    }

    /// In a fixed order: by spec, then by the hash of the partition. No names are involved, so
    /// that an evolved schema keeps the order.
    pub(super) fn finish(self, base: Base, snapshot: &SnapshotRef) -> Vec<ChangeUnit> {
        let mut units: Vec<_> = self
            .by_partition
            .into_iter()
            .map(|(partition, Files { refs: mut files, bytes, rows, keys })| {
                files.sort_unstable();
                let place = partition.as_ref().map(|key| (key.spec_id, key.stable_hash()));
                let digest = digest(base, snapshot, place.unwrap_or_default().1, &files);
                (place, ChangeUnit { partition, files, bytes, rows, keys, digest })
            })
            .collect();
        units.sort_by_key(|(place, _)| *place);
        units.into_iter().map(|(_, unit)| unit).collect()
    }
}

fn digest(base: Base, snapshot: &SnapshotRef, partition: u64, files: &[FileRef]) -> u64 {
    let mut hasher = StableHasher::default();
    hasher.number(snapshot.snapshot_id() as u64).number(partition);
    if let Base::Snapshot(base) = base {
        hasher.number(base.map_or(0, |id| id.0 as u64));
    }
    for file in files {
        hasher
            .number(u64::from(file.manifest))
            .number(u64::from(file.entry) << 2 | file.role as u64);
    }
    hasher.finish()
}

/// Finds the units of a plan.
///
/// A manifest that both sides have is opened only if a delete that came or went can reach its
/// files: by spec and by age (CHG-11).
pub(super) async fn units(
    metadata: &TableMetadata,
    diff: &ManifestDiff,
    deletes: &Deletes,
    grouping: Grouping,
) -> Result<Units> {
    let mut units = Units { grouping, by_partition: HashMap::new(), tally: Tally::default() };
    let mut moved = diff.moved(ManifestContentType::Data).await?.into_iter().peekable();
    let reach = Reach::new(deletes, metadata);
    let wanted = wanted_manifests(diff, moved.len() > 0, &reach);
    units.tally.manifests = diff.manifests.len() as u64;
    units.tally.manifests_skipped = skipped_manifests(diff, deletes, &wanted);
    let data = diff.manifests.iter().take(diff.own);
    let live = data.filter(|m| m.content == ManifestContentType::Data).map(live_files).sum::<u64>();
    let wanted = wanted.into_iter().filter_map(|at| Some((at, diff.manifests.get(at)?)));
    let mut read = diff.read(wanted.collect());
    while let Some((manifest, entries)) = read.try_next().await? {
        for (at, entry) in entries.iter().enumerate() {
            let is_moved = moved.peek().is_some_and(|m| (m.manifest, m.entry) == (manifest, at));
            if is_moved {
                let role = match moved.next() {
                    Some(found) if found.added => Role::Added,
                    _ => Role::Removed,
                };
                units.add(manifest, at, role, &entry.file);
            } else if manifest < diff.own && entry.is_live() && touched(deletes, entry)? {
                units.add(manifest, at, Role::Touched, &entry.file);
            }
        }
    }
    deletes.added.files().for_each(|delete| units.count(&delete.file));
    let Tally { added_files, touched_files, .. } = units.tally;
    units.tally.untouched_files = live.saturating_sub(added_files + touched_files);
    Ok(units)
}

fn live_files(manifest: &ManifestFile) -> u64 {
    let count = |count: Option<u32>| u64::from(count.unwrap_or(0));
    count(manifest.added_files_count) + count(manifest.existing_files_count)
}

/// Data manifests to open: those that may list files that came or went, and those that deletes
/// which came or went can reach.
fn wanted_manifests(diff: &ManifestDiff, some_moved: bool, reach: &Reach) -> Vec<usize> {
    let wanted = |(at, manifest): &(usize, &ManifestFile)| {
        let differs = diff.is_new.get(*at).copied().unwrap_or(true);
        manifest.content == ManifestContentType::Data
            && (differs && some_moved || *at < diff.own && reach.can_meet(manifest))
    };
    diff.manifests.iter().enumerate().filter(wanted).map(|(at, _)| at).collect()
}

/// Delete manifests of the snapshot are read for the deletes of its files, the others only where
/// they differ.
fn skipped_manifests(diff: &ManifestDiff, deletes: &Deletes, wanted: &[usize]) -> u64 {
    let opened = |(at, manifest): &(usize, &ManifestFile)| match manifest.content {
        ManifestContentType::Data => {
            wanted.contains(at) || diff.is_new.get(*at).copied().unwrap_or(true)
        }
        ManifestContentType::Deletes => !(deletes.before.is_empty() && deletes.after.is_empty()),
    };
    let opened = diff.manifests.iter().enumerate().filter(opened).count();
    (diff.manifests.len() - opened) as u64
}

/// Which files the deletes that came or went can speak of, as far as a manifest list tells.
struct Reach {
    /// The youngest equality delete that applies to every partition.
    global: Option<SequenceNumber>,
    /// By spec: the youngest equality delete, and the youngest position delete.
    by_spec: HashMap<i32, (Option<SequenceNumber>, Option<SequenceNumber>)>,
}

impl Reach {
    fn new(deletes: &Deletes, metadata: &TableMetadata) -> Self {
        let mut reach = Self { global: None, by_spec: HashMap::new() };
        for delete in deletes.added.files().chain(deletes.removed.files()) {
            let age = Some(delete.sequence_number);
            let spec = metadata.partition_spec_by_id(delete.file.spec_id);
            let (equality, positions) = reach.by_spec.entry(delete.file.spec_id).or_default();
            if delete.file.content == DataContentType::PositionDeletes {
                *positions = age.max(*positions);
            } else if spec.is_none_or(|spec| spec.is_unpartitioned()) {
                reach.global = age.max(reach.global);
            } else {
                *equality = age.max(*equality);
            }
        }
        reach
    }

    fn can_meet(&self, manifest: &ManifestFile) -> bool {
        let oldest = Some(SequenceNumber(manifest.min_sequence_number));
        let spec = self.by_spec.get(&manifest.partition_spec_id);
        let (equality, positions) = spec.copied().unwrap_or_default();
        self.global > oldest || equality > oldest || positions >= oldest
    }
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
