//! From a delta to the manifests of one snapshot.
//!
//! New manifests are written once and survive retries, because sequence numbers are inherited (CMT-5);
//! rewritten and merged ones are remembered by what they were made of, so that a retry redoes
//! only what changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{ManifestCodec, ManifestWriter, read_manifest};
use crate::spec::{
    DataFile, Datum, FieldSummary, ManifestContentType, ManifestEntry, ManifestFile,
    ManifestStatus, PartitionKey, PrimitiveType, SequenceNumber, SnapshotId, Type,
    datum_from_bound, datum_of, property,
};

use super::Table;
use super::delta::{AddedDelete, Delta, RemovedFile};
use super::summary::SummaryCounts;

/// Manifests roll at this many entries even when they are small, so that planning parallelises.
pub(crate) const MAX_ENTRIES: usize = 20_000;

/// The state that one commit keeps across its attempts.
#[derive(Debug)]
pub(super) struct Producer {
    snapshot_id: SnapshotId,
    name: String,
    next_manifest: usize,
    new_data: Option<Vec<ManifestFile>>,
    new_deletes: Option<Vec<ManifestFile>>,
    filtered: HashMap<String, Filtered>,
    merged: HashMap<Vec<String>, Vec<ManifestFile>>,
    /// Everything written so far, for clean-up.
    pub(super) written: Vec<String>,
}

#[derive(Debug, Clone)]
struct Filtered {
    removals: Vec<String>,
    floor: SequenceNumber,
    manifests: Vec<ManifestFile>,
    removed: Vec<Arc<DataFile>>,
}

/// What one attempt wants to put into the manifest list.
#[derive(Debug)]
pub(super) struct Produced {
    pub(super) manifests: Vec<ManifestFile>,
    pub(super) counts: SummaryCounts,
}

impl Producer {
    pub(super) fn new(snapshot_id: SnapshotId, name: String) -> Self {
        Self {
            snapshot_id,
            name,
            next_manifest: 0,
            new_data: None,
            new_deletes: None,
            filtered: HashMap::new(),
            merged: HashMap::new(),
            written: Vec::new(),
        }
    }

    /// The manifests of the new snapshot on top of `head`, the manifests of `base`'s branch.
    pub(super) async fn produce(
        &mut self,
        base: &Table,
        head: &[ManifestFile],
        delta: &Delta,
    ) -> Result<Produced> {
        if !delta.removed_manifests.is_empty() {
            return super::manifests::replace(self.snapshot_id, head, delta);
        }
        let mut counts = SummaryCounts::default();
        let (data, deletes): (Vec<_>, Vec<_>) =
            head.iter().cloned().partition(|m| m.content == ManifestContentType::Data);

        let new_data = self.new_data(base, delta).await?;
        let new_deletes = self.new_deletes(base, delta).await?;
        delta.added_data.iter().for_each(|f| counts.add(f));
        delta.added_deletes.iter().for_each(|d| counts.add(&d.file));

        let kept_data = if delta.merges() { live_only(data) } else { data };
        let none = SequenceNumber(0);
        let kept_data = self
            .filter(base, kept_data, &delta.removed_data, none, &mut counts)
            .await
            .map_err(|e| missing_hint(e, delta))?;

        let kept_deletes = if delta.merges() { live_only(deletes) } else { deletes };
        let floor = age_floor(base, &kept_data, delta);
        let kept_deletes =
            self.filter(base, kept_deletes, &delta.removed_deletes, floor, &mut counts).await?;

        let own: HashSet<String> =
            new_data.iter().chain(&new_deletes).map(|m| m.manifest_path.clone()).collect();
        let mut data: Vec<_> = new_data.into_iter().chain(kept_data).collect();
        let mut deletes: Vec<_> = new_deletes.into_iter().chain(kept_deletes).collect();
        if delta.merges() && base.properties().flag(property::MANIFEST_MERGE_ENABLED, true)? {
            data = self.merge(base, data, &own).await?;
            deletes = self.merge(base, deletes, &own).await?;
        }
        data.extend(deletes);
        self.count_manifests(head, &data, &mut counts);
        if delta.no_logical_change {
            check_rewrite_adds_no_rows(&counts)?;
        }
        Ok(Produced { manifests: data, counts })
    }

    fn count_manifests(
        &self,
        head: &[ManifestFile],
        result: &[ManifestFile],
        counts: &mut SummaryCounts,
    ) {
        let before: HashSet<&str> = head.iter().map(|m| m.manifest_path.as_str()).collect();
        counts.manifests_kept =
            result.iter().filter(|m| before.contains(m.manifest_path.as_str())).count();
        counts.manifests_created = result.len() - counts.manifests_kept;
        counts.manifests_replaced = head.len() - counts.manifests_kept;
    }

    async fn new_data(&mut self, base: &Table, delta: &Delta) -> Result<Vec<ManifestFile>> {
        if let Some(done) = &self.new_data {
            return Ok(done.clone());
        }
        let age = delta.data_sequence_number;
        let files: Vec<_> = delta.added_data.iter().map(|f| (f, age)).collect();
        let written = self.write_added(base, ManifestContentType::Data, &files).await?;
        self.new_data = Some(written.clone());
        Ok(written)
    }

    async fn new_deletes(&mut self, base: &Table, delta: &Delta) -> Result<Vec<ManifestFile>> {
        if let Some(done) = &self.new_deletes {
            return Ok(done.clone());
        }
        let pair = |d: &'_ AddedDelete| d.sequence_number;
        let files: Vec<_> = delta.added_deletes.iter().map(|d| (&d.file, pair(d))).collect();
        let written = self.write_added(base, ManifestContentType::Deletes, &files).await?;
        self.new_deletes = Some(written.clone());
        Ok(written)
    }

    async fn write_added(
        &mut self,
        base: &Table,
        content: ManifestContentType,
        files: &[(&DataFile, Option<SequenceNumber>)],
    ) -> Result<Vec<ManifestFile>> {
        let mut by_spec: BTreeMap<i32, Vec<_>> = BTreeMap::new();
        for (file, age) in files {
            by_spec.entry(file.spec_id).or_default().push((*file, *age));
        }
        let mut manifests = Vec::new();
        for (spec_id, files) in by_spec.into_iter().rev() {
            let mut rolling = Rolling::new(base, content, spec_id)?;
            for (file, age) in files {
                rolling.writer(self)?.add(file, age)?;
                rolling.roll(self).await?;
            }
            manifests.extend(rolling.finish(self).await?);
        }
        Ok(manifests)
    }

    /// Removes files from `manifests`, and delete files older than `floor`, rewriting only
    /// manifests that hold one of them. A file to remove that is not there is a conflict (CMT-11).
    async fn filter(
        &mut self,
        base: &Table,
        manifests: Vec<ManifestFile>,
        removals: &[RemovedFile],
        floor: SequenceNumber,
        counts: &mut SummaryCounts,
    ) -> Result<Vec<ManifestFile>> {
        if removals.is_empty() && floor.0 == 0 {
            return Ok(manifests);
        }
        let mut missing: HashSet<&str> = removals.iter().map(|r| r.path.as_str()).collect();
        let mut kept = Vec::with_capacity(manifests.len());
        for manifest in manifests {
            let types = base.partition_types(manifest.partition_spec_id)?;
            let mut wanted: Vec<String> = removals
                .iter()
                .filter(|r| may_hold(&manifest, &r.partition, &types))
                .map(|r| r.path.clone())
                .collect();
            wanted.sort_unstable();
            let ages = floor.0 > 0
                && manifest.content == ManifestContentType::Deletes
                && manifest.min_sequence_number < floor.0;
            if wanted.is_empty() && !ages {
                kept.push(manifest);
                continue;
            }
            let done = self.filter_one(base, &manifest, wanted, floor).await?;
            for file in &done.removed {
                missing.remove(file.file_path.as_str());
                counts.remove(file);
            }
            counts.entries_processed +=
                if done.removed.is_empty() { 0 } else { live_count(&manifest) };
            kept.extend(done.manifests);
        }
        // Whoever removed it: what is to go must be live on this base (CMT-11).
        match missing.into_iter().min() {
            None => Ok(kept),
            Some(path) => Err(Error::new(
                ErrorKind::ValidationFailed,
                "a file to remove is no longer part of the table",
            )
            .with_context("file", path)
            .with_hint("somebody replaced it meanwhile: refresh the table and plan again")),
        }
    }

    async fn filter_one(
        &mut self,
        base: &Table,
        manifest: &ManifestFile,
        removals: Vec<String>,
        floor: SequenceNumber,
    ) -> Result<Filtered> {
        if let Some(done) = self.filtered.get(&manifest.manifest_path)
            && done.removals == removals
            && done.floor == floor
        {
            return Ok(done.clone());
        }
        let wanted: HashSet<&str> = removals.iter().map(String::as_str).collect();
        let goes = |entry: &ManifestEntry| {
            let aged = manifest.content == ManifestContentType::Deletes
                && entry.sequence_number.0 > 0
                && entry.sequence_number < floor;
            entry.is_live() && (aged || wanted.contains(entry.file.file_path.as_str()))
        };
        let entries = base.entries(manifest).await?;
        let removed: Vec<_> = entries.iter().filter(|e| goes(e)).map(|e| e.file.clone()).collect();
        let manifests = if removed.is_empty() {
            vec![manifest.clone()]
        } else {
            let mut rolling = Rolling::new(base, manifest.content, manifest.partition_spec_id)?;
            for entry in entries.iter().filter(|e| e.is_live()) {
                if goes(entry) {
                    rolling.writer(self)?.delete(entry)?;
                } else {
                    rolling.writer(self)?.existing(entry)?;
                }
                rolling.roll(self).await?;
            }
            rolling.finish(self).await?
        };
        let done = Filtered { removals, floor, manifests, removed };
        self.filtered.insert(manifest.manifest_path.clone(), done.clone());
        Ok(done)
    }

    /// Merges small manifests of one spec: bins are packed from the end, so that the newest bin
    /// is the one that is not full, and that one waits until it has enough members (CMT-15).
    async fn merge(
        &mut self,
        base: &Table,
        manifests: Vec<ManifestFile>,
        own: &HashSet<String>,
    ) -> Result<Vec<ManifestFile>> {
        let properties = base.properties();
        let target = properties.number(property::MANIFEST_TARGET_SIZE, 8 * 1024 * 1024)?;
        let min_count = properties.number(property::MANIFEST_MIN_MERGE, 100)?;
        let Some(newest) = manifests.first().map(|m| m.manifest_path.clone()) else {
            return Ok(manifests);
        };
        let mut by_spec: BTreeMap<i32, Vec<ManifestFile>> = BTreeMap::new();
        for manifest in manifests {
            by_spec.entry(manifest.partition_spec_id).or_default().push(manifest);
        }
        let mut result = Vec::new();
        for (_, group) in by_spec.into_iter().rev() {
            for bin in pack_from_end(group, target) {
                let waits =
                    bin.iter().any(|m| m.manifest_path == newest) && (bin.len() as u64) < min_count;
                if bin.len() == 1 || waits {
                    result.extend(bin);
                } else {
                    result.extend(self.merge_bin(base, bin, own).await?);
                }
            }
        }
        Ok(result)
    }

    async fn merge_bin(
        &mut self,
        base: &Table,
        bin: Vec<ManifestFile>,
        own: &HashSet<String>,
    ) -> Result<Vec<ManifestFile>> {
        let inputs: Vec<String> = bin.iter().map(|m| m.manifest_path.clone()).collect();
        if let Some(done) = self.merged.get(&inputs) {
            return Ok(done.clone());
        }
        let mut rolling = Rolling::new(base, bin[0].content, bin[0].partition_spec_id)?;
        for manifest in &bin {
            let ours = own.contains(&manifest.manifest_path);
            let entries = if ours {
                // Past the cache: these numbers are not final before the commit.
                let bytes = base.storage().read(&manifest.manifest_path).await?;
                Arc::new(read_manifest(&bytes, manifest)?)
            } else {
                base.entries(manifest).await?
            };
            for entry in entries.iter() {
                let mine = entry.snapshot_id == self.snapshot_id;
                let writer = rolling.writer(self)?;
                match entry.status {
                    // An inherited number stays inherited: it is not known before the commit.
                    ManifestStatus::Added if ours => {
                        writer.add(&entry.file, explicit(entry.sequence_number))?;
                    }
                    ManifestStatus::Deleted if mine => writer.delete(entry)?,
                    ManifestStatus::Deleted => continue,
                    _ => writer.existing(entry)?,
                }
                rolling.roll(self).await?;
            }
        }
        let merged = rolling.finish(self).await?;
        self.merged.insert(inputs, merged.clone());
        Ok(merged)
    }

    fn next_location(&mut self, base: &Table) -> String {
        let number = self.next_manifest;
        self.next_manifest += 1;
        format!("{}/{}-m{number}.avro", base.manifest_location(), self.name)
    }
}

/// A manifest of this commit is read back with "unassigned" (-1) where it inherits.
fn explicit(number: SequenceNumber) -> Option<SequenceNumber> {
    (number.0 >= 0).then_some(number)
}

/// Writes one manifest after the other of one spec and content.
struct Rolling<'a> {
    base: &'a Table,
    content: ManifestContentType,
    spec_id: i32,
    types: Vec<Type>,
    codec: ManifestCodec,
    target: u64,
    current: Option<ManifestWriter>,
    entries: usize,
    done: Vec<ManifestFile>,
}

impl<'a> Rolling<'a> {
    fn new(base: &'a Table, content: ManifestContentType, spec_id: i32) -> Result<Self> {
        let properties = base.properties();
        Ok(Self {
            base,
            content,
            spec_id,
            types: base.partition_types(spec_id)?,
            codec: super::commit::manifest_codec(base)?,
            target: properties.number(property::MANIFEST_TARGET_SIZE, 8 * 1024 * 1024)?,
            current: None,
            entries: 0,
            done: Vec::new(),
        })
    }

    fn writer(&mut self, producer: &Producer) -> Result<&mut ManifestWriter> {
        let writer = match self.current.take() {
            Some(writer) => writer,
            None => ManifestWriter::new(
                self.content,
                self.base.schema().clone(),
                self.base.spec(self.spec_id)?.clone(),
                self.types.clone(),
                producer.snapshot_id,
                self.codec,
            ),
        };
        self.entries += 1;
        Ok(self.current.insert(writer))
    }

    async fn roll(&mut self, producer: &mut Producer) -> Result<()> {
        let full = self.entries >= MAX_ENTRIES
            || self.current.as_ref().is_some_and(|w| w.len_hint() as u64 >= self.target);
        if full { self.close(producer).await } else { Ok(()) }
    }

    async fn close(&mut self, producer: &mut Producer) -> Result<()> {
        self.entries = 0;
        let Some(writer) = self.current.take() else { return Ok(()) };
        let location = producer.next_location(self.base);
        let (bytes, manifest) = writer.finish(&location)?;
        producer.written.push(location.clone());
        self.base.storage().write(&location, bytes).await?;
        self.done.push(manifest);
        Ok(())
    }

    async fn finish(mut self, producer: &mut Producer) -> Result<Vec<ManifestFile>> {
        self.close(producer).await?;
        Ok(self.done)
    }
}

/// Rule CMT-1, the age floor: delete files older than every live data file do nothing and go.
/// The data that *this* commit adds with an explicit age counts too; without that term a
/// compaction drops deletes that its own outputs still need, and rows come back to life.
///
/// Zero when the commit does not remove data: then delete manifests are left unopened.
fn age_floor(base: &Table, kept_data: &[ManifestFile], delta: &Delta) -> SequenceNumber {
    if delta.removed_data.is_empty() {
        return SequenceNumber(0);
    }
    let live = kept_data.iter().filter(|m| m.has_added_files() || m.has_existing_files());
    let kept = live.map(|m| m.min_sequence_number).filter(|n| *n >= 0).min();
    let own = delta.data_sequence_number.filter(|_| !delta.added_data.is_empty()).map(|n| n.0);
    let newest = base.metadata().last_sequence_number();
    SequenceNumber([kept, own].into_iter().flatten().min().unwrap_or(newest).min(newest))
}

fn check_rewrite_adds_no_rows(counts: &SummaryCounts) -> Result<()> {
    let (added, removed) = counts.records();
    if added > removed {
        return Err(Error::invalid("a rewrite adds more rows than it removes")
            .with_context("added", added)
            .with_context("removed", removed));
    }
    Ok(())
}

fn missing_hint(error: Error, delta: &Delta) -> Error {
    match delta.start {
        Some(start) => error.with_context("planned_at", start),
        None => error,
    }
}

/// Manifests that list no live file are kept by the snapshot that wrote them and dropped by the
/// next merging commit.
fn live_only(manifests: Vec<ManifestFile>) -> Vec<ManifestFile> {
    manifests.into_iter().filter(|m| m.has_added_files() || m.has_existing_files()).collect()
}

pub(super) fn live_count(manifest: &ManifestFile) -> u64 {
    u64::from(manifest.added_files_count.unwrap_or(0))
        + u64::from(manifest.existing_files_count.unwrap_or(0))
}

/// Whether a manifest's partition summaries allow it to list a file of `partition`.
pub(crate) fn may_hold(manifest: &ManifestFile, partition: &PartitionKey, types: &[Type]) -> bool {
    if manifest.partition_spec_id != partition.spec_id {
        return false;
    }
    let Some(summaries) = &manifest.partitions else { return true };
    let values = partition.values.iter();
    summaries.iter().zip(values).zip(types).all(|((summary, value), value_type)| {
        let Type::Primitive(primitive) = value_type else { return true };
        let Some(value) = value.and_then(|v| v.as_primitive_literal()) else {
            return summary.contains_null;
        };
        if value.is_nan() {
            return summary.contains_nan.unwrap_or(true);
        }
        datum_of(primitive, &value).is_none_or(|value| within(summary, &value, primitive))
    })
}

fn within(summary: &FieldSummary, value: &Datum, primitive: &PrimitiveType) -> bool {
    let lower = summary.lower_bound.as_ref().and_then(|b| datum_from_bound(b, primitive));
    let upper = summary.upper_bound.as_ref().and_then(|b| datum_from_bound(b, primitive));
    !lower.is_some_and(|lower| *value < lower) && !upper.is_some_and(|upper| *value > upper)
}

/// Bins of at most `target` bytes, packed from the last manifest to the first; the order of
/// manifests is kept.
fn pack_from_end(manifests: Vec<ManifestFile>, target: u64) -> Vec<Vec<ManifestFile>> {
    let mut bins: Vec<Vec<ManifestFile>> = Vec::new();
    let mut size = u64::MAX;
    for manifest in manifests.into_iter().rev() {
        let length = u64::try_from(manifest.manifest_length).unwrap_or(0);
        match bins.last_mut() {
            Some(bin) if size.saturating_add(length) <= target => {
                bin.push(manifest);
                size += length;
            }
            _ => {
                bins.push(vec![manifest]);
                size = length;
            }
        }
    }
    bins.iter_mut().for_each(|bin| bin.reverse());
    bins.reverse();
    bins
}
