//! Reads manifests: the files of a table, with their inherited numbers filled in.
//!
//! In: the bytes of one manifest and its entry in the manifest list. Out: entries in file
//! order. Pure; many manifests are best decoded in parallel by the caller.

use std::sync::Arc;

use serde_json::Value;

use super::avro::schema::{Field, Node, Schema};
use super::avro::{ContainerReader, Cursor};
use super::partition::PartitionPlan;
use super::plan::{BytesShape, LongShape, LongsShape, PairsShape, identify, record_fields};
use crate::error::{Error, Result};
use crate::spec::{
    DataContentType, DataFile, DataFileFormat, IdBytes, IdMap, IdSet, ManifestEntry, ManifestFile,
    ManifestStatus, SequenceNumber, SnapshotId, Struct, Type,
};

/// What to decode, and how.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// Keep counts, sizes and bounds by column (default: yes). Without them an entry takes a
    /// fraction of the memory, which is enough where neither filters nor deletes look at them.
    pub statistics: bool,
    /// The types of the partition values today, in the order of the spec's fields. Values
    /// written before a promotion (int to long, float to double) are widened to them, so that
    /// old and new files of one partition compare equal (MAN-10). Without: as written.
    pub partition_types: Option<Arc<[Type]>>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { statistics: true, partition_types: None }
    }
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Number(Number),
    File,
    Partition,
    Bytes(Blob),
    SplitOffsets,
    EqualityIds,
    Counts(Counts),
    Bounds(Bounds),
}

/// Numbers of an entry; the discriminant is the place in [`Draft::numbers`].
#[derive(Debug, Clone, Copy)]
enum Number {
    Status,
    SnapshotId,
    Sequence,
    FileSequence,
    Content,
    RecordCount,
    FileSize,
    SortOrder,
}

#[derive(Debug, Clone, Copy)]
enum Blob {
    Path,
    Format,
    KeyMetadata,
    ReferencedDataFile,
}

#[derive(Debug, Clone, Copy)]
enum Counts {
    Sizes,
    Values,
    Nulls,
    Nans,
}

#[derive(Debug, Clone, Copy)]
enum Bounds {
    Lower,
    Upper,
}

const ENTRY_FIELDS: &[(i32, &[&str], Target)] = &[
    (0, &["status"], Target::Number(Number::Status)),
    (1, &["snapshot_id"], Target::Number(Number::SnapshotId)),
    (3, &["sequence_number"], Target::Number(Number::Sequence)),
    (4, &["file_sequence_number"], Target::Number(Number::FileSequence)),
    (2, &["data_file"], Target::File),
];

const FILE_FIELDS: &[(i32, &[&str], Target)] = &[
    (134, &["content"], Target::Number(Number::Content)),
    (100, &["file_path"], Target::Bytes(Blob::Path)),
    (101, &["file_format"], Target::Bytes(Blob::Format)),
    (102, &["partition"], Target::Partition),
    (103, &["record_count"], Target::Number(Number::RecordCount)),
    (104, &["file_size_in_bytes"], Target::Number(Number::FileSize)),
    (108, &["column_sizes"], Target::Counts(Counts::Sizes)),
    (109, &["value_counts"], Target::Counts(Counts::Values)),
    (110, &["null_value_counts"], Target::Counts(Counts::Nulls)),
    (137, &["nan_value_counts"], Target::Counts(Counts::Nans)),
    (125, &["lower_bounds"], Target::Bounds(Bounds::Lower)),
    (128, &["upper_bounds"], Target::Bounds(Bounds::Upper)),
    (131, &["key_metadata"], Target::Bytes(Blob::KeyMetadata)),
    (132, &["split_offsets"], Target::SplitOffsets),
    (135, &["equality_ids"], Target::EqualityIds),
    (140, &["sort_order_id"], Target::Number(Number::SortOrder)),
    (143, &["referenced_data_file"], Target::Bytes(Blob::ReferencedDataFile)),
];

enum Step {
    Skip(Node),
    Number(Number, LongShape),
    Bytes(Blob, BytesShape),
    Partition(PartitionPlan),
    SplitOffsets(LongsShape),
    EqualityIds(LongsShape),
    Counts(Counts, PairsShape),
    Bounds(Bounds, PairsShape),
}

/// One entry while it is decoded; the buffers live on from entry to entry.
#[derive(Default)]
struct Draft {
    numbers: [Option<i64>; 8],
    path: String,
    format: Option<DataFileFormat>,
    key_metadata: Option<Vec<u8>>,
    referenced: Option<String>,
    partition: Option<Struct>,
    split_offsets: Option<Vec<i64>>,
    equality_ids: Option<Vec<i64>>,
    counts: [IdMap; 4],
    bounds: [IdBytes; 2],
}

impl Draft {
    fn number(&self, number: Number) -> Option<i64> {
        self.numbers.get(number as usize).copied().flatten()
    }
}

/// Buffers and shared id sets of one file's decoding.
#[derive(Default)]
struct Scratch {
    ids: Vec<i32>,
    values: Vec<u64>,
    ends: Vec<u32>,
    bytes: Vec<u8>,
    /// The id sets met lately, newest first: most entries describe the same columns.
    sets: Vec<IdSet>,
}

impl Scratch {
    fn shared_ids(&mut self) -> IdSet {
        if let Some(at) = self.sets.iter().position(|set| **set == *self.ids) {
            self.sets.swap(0, at);
        } else {
            self.sets.insert(0, self.ids.as_slice().into());
            self.sets.truncate(8);
        }
        self.sets.first().cloned().unwrap_or_default()
    }

    fn read_counts(&mut self, shape: PairsShape, cursor: &mut Cursor<'_>) -> Result<IdMap> {
        let (ids, values) = (&mut self.ids, &mut self.values);
        ids.clear();
        values.clear();
        shape.read(cursor, Cursor::long, |id, value| {
            // Writers that do not know a count write a negative one: no count at all.
            if let Ok(value) = u64::try_from(value) {
                ids.push(id);
                values.push(value);
            }
        })?;
        if ids.is_empty() {
            return Ok(IdMap::default());
        }
        if !ids.is_sorted_by(|a, b| a < b) {
            return Ok(ids.iter().copied().zip(values.iter().copied()).collect());
        }
        Ok(IdMap::from_sorted(&self.shared_ids(), &self.values))
    }

    fn read_bounds(&mut self, shape: PairsShape, cursor: &mut Cursor<'_>) -> Result<IdBytes> {
        let (ids, ends, bytes) = (&mut self.ids, &mut self.ends, &mut self.bytes);
        ids.clear();
        ends.clear();
        bytes.clear();
        shape.read(cursor, Cursor::bytes, |id, value| {
            ids.push(id);
            bytes.extend_from_slice(value);
            ends.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        })?;
        if ids.is_empty() {
            return Ok(IdBytes::default());
        }
        if bytes.len() > u32::MAX as usize {
            return Err(Error::corrupt("bounds of one file take more than 4 GiB"));
        }
        if !ids.is_sorted_by(|a, b| a < b) {
            let starts = std::iter::once(0).chain(ends.iter().copied());
            let pairs = ids.iter().zip(starts.zip(ends.iter().copied())).map(|(id, (from, to))| {
                (*id, bytes.get(from as usize..to as usize).unwrap_or_default())
            });
            return Ok(pairs.collect());
        }
        Ok(IdBytes::from_sorted(&self.shared_ids(), &self.ends, &self.bytes))
    }
}

/// Reads a manifest: its entries in file order, deleted ones included.
///
/// Snapshot id and sequence numbers that an entry leaves out are inherited from `list_entry`;
/// the spec id comes from there too.
///
/// # Errors
/// `CorruptData` naming the manifest; `Unsupported` for an unknown Avro codec.
///
/// # Source
/// Iceberg spec v2, "Manifests" and "Sequence Number Inheritance".
pub fn read_manifest(bytes: &[u8], list_entry: &ManifestFile) -> Result<Vec<ManifestEntry>> {
    read_manifest_with(bytes, list_entry, &ReadOptions::default())
}

/// As [`read_manifest`], with a say in what is decoded.
///
/// # Errors
/// As [`read_manifest`].
pub fn read_manifest_with(
    bytes: &[u8],
    list_entry: &ManifestFile,
    options: &ReadOptions,
) -> Result<Vec<ManifestEntry>> {
    decode(bytes, list_entry, options)
        .map_err(|e| e.with_context("manifest", &list_entry.manifest_path))
}

fn decode(
    bytes: &[u8],
    list_entry: &ManifestFile,
    options: &ReadOptions,
) -> Result<Vec<ManifestEntry>> {
    let mut reader = ContainerReader::open(bytes)?;
    let spec_fields = reader.text("partition-spec").map(spec_fields).transpose()?;
    let steps = compile(&reader.schema, spec_fields.as_deref(), options)?;
    let mut scratch = Scratch::default();
    let mut entries = Vec::new();
    reader.for_each_block(|schema, count, cursor| {
        // An entry takes some hundred bytes of memory and, packed, at least one in the file.
        if entries.len().saturating_add(count) > bytes.len().saturating_add(100_000) {
            return Err(Error::corrupt("manifest unpacks to an absurd number of entries"));
        }
        entries.reserve(count.min(cursor.remaining() / 16));
        for _ in 0..count {
            let mut draft = Draft::default();
            for step in &steps {
                run(step, schema, cursor, &mut draft, &mut scratch)?;
            }
            let at = entries.len();
            entries.push(finish(draft, list_entry).map_err(|e| e.with_context("entry", at))?);
        }
        Ok(())
    })?;
    entries.shrink_to_fit();
    Ok(entries)
}

/// Field ids and names of the header's `partition-spec`. Writers of v1 that had no field ids
/// yet counted from 1000.
fn spec_fields(json: &str) -> Result<Vec<(i32, String)>> {
    let corrupt = || Error::corrupt("header has a broken partition-spec");
    let value: Value = serde_json::from_str(json).map_err(|e| corrupt().with_source(e))?;
    let fields = match &value {
        Value::Array(fields) => fields,
        Value::Object(spec) => spec.get("fields").and_then(Value::as_array).ok_or_else(corrupt)?,
        _ => return Err(corrupt()),
    };
    (1000..)
        .zip(fields)
        .map(|(counted, field)| {
            let id = match field.get("field-id").map(Value::as_i64) {
                None => counted,
                Some(id) => id.and_then(|n| i32::try_from(n).ok()).ok_or_else(corrupt)?,
            };
            let name = field.get("name").and_then(Value::as_str).ok_or_else(corrupt)?;
            Ok((id, name.to_string()))
        })
        .collect()
}

fn compile(
    schema: &Schema,
    spec_fields: Option<&[(i32, String)]>,
    options: &ReadOptions,
) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for field in record_fields(schema, &schema.root)? {
        match identify(field, ENTRY_FIELDS) {
            Some(Target::File) => {
                for field in record_fields(schema, &field.node)? {
                    steps.push(step(schema, field, FILE_FIELDS, spec_fields, options)?);
                }
            }
            _ => steps.push(step(schema, field, ENTRY_FIELDS, spec_fields, options)?),
        }
    }
    Ok(steps)
}

fn step(
    schema: &Schema,
    field: &Field,
    known: &[(i32, &[&str], Target)],
    spec_fields: Option<&[(i32, String)]>,
    options: &ReadOptions,
) -> Result<Step> {
    let is_long = |n: &Node| matches!(n, Node::Int | Node::Long);
    let is_bytes = |n: &Node| matches!(n, Node::Bytes(_) | Node::String(_));
    Ok(match identify(field, known) {
        None | Some(Target::File) => Step::Skip(field.node.clone()),
        Some(Target::Counts(_) | Target::Bounds(_)) if !options.statistics => {
            Step::Skip(field.node.clone())
        }
        Some(Target::Number(number)) => Step::Number(number, LongShape::new(field)?),
        Some(Target::Bytes(blob)) => Step::Bytes(blob, BytesShape::new(field)?),
        Some(Target::Partition) => {
            let types = options.partition_types.as_deref();
            Step::Partition(PartitionPlan::new(schema, &field.node, spec_fields, types)?)
        }
        Some(Target::SplitOffsets) => Step::SplitOffsets(LongsShape::new(field)?),
        Some(Target::EqualityIds) => Step::EqualityIds(LongsShape::new(field)?),
        Some(Target::Counts(of)) => Step::Counts(of, PairsShape::new(schema, field, is_long)?),
        Some(Target::Bounds(of)) => Step::Bounds(of, PairsShape::new(schema, field, is_bytes)?),
    })
}

fn run(
    step: &Step,
    schema: &Schema,
    cursor: &mut Cursor<'_>,
    draft: &mut Draft,
    scratch: &mut Scratch,
) -> Result<()> {
    match step {
        Step::Skip(node) => cursor.skip(schema, node)?,
        Step::Number(number, shape) => {
            let value = shape.read(cursor)?;
            if let Some(slot) = draft.numbers.get_mut(*number as usize) {
                *slot = value;
            }
        }
        Step::Bytes(Blob::Path, shape) => {
            draft.path = shape.read_text(cursor)?.unwrap_or_default().to_string();
        }
        Step::Bytes(Blob::Format, shape) => {
            draft.format = shape.read_text(cursor)?.map(file_format).transpose()?;
        }
        Step::Bytes(Blob::KeyMetadata, shape) => {
            draft.key_metadata = shape.read(cursor)?.map(<[u8]>::to_vec);
        }
        Step::Bytes(Blob::ReferencedDataFile, shape) => {
            draft.referenced = shape.read_text(cursor)?.map(str::to_string);
        }
        Step::Partition(plan) => draft.partition = Some(plan.read(cursor)?),
        Step::SplitOffsets(shape) => draft.split_offsets = shape.read(cursor)?,
        Step::EqualityIds(shape) => draft.equality_ids = shape.read(cursor)?,
        Step::Counts(of, shape) => {
            let map = scratch.read_counts(*shape, cursor)?;
            if let Some(slot) = draft.counts.get_mut(*of as usize) {
                *slot = map;
            }
        }
        Step::Bounds(of, shape) => {
            let map = scratch.read_bounds(*shape, cursor)?;
            if let Some(slot) = draft.bounds.get_mut(*of as usize) {
                *slot = map;
            }
        }
    }
    Ok(())
}

/// Writers disagree about upper and lower case.
fn file_format(name: &str) -> Result<DataFileFormat> {
    for (known, format) in [
        ("parquet", DataFileFormat::Parquet),
        ("avro", DataFileFormat::Avro),
        ("orc", DataFileFormat::Orc),
        ("puffin", DataFileFormat::Puffin),
    ] {
        if name.eq_ignore_ascii_case(known) {
            return Ok(format);
        }
    }
    Err(Error::unsupported("data file has an unknown format").with_context("format", name))
}

fn finish(draft: Draft, list_entry: &ManifestFile) -> Result<ManifestEntry> {
    let status = match draft.number(Number::Status) {
        Some(0) => ManifestStatus::Existing,
        Some(1) => ManifestStatus::Added,
        Some(2) => ManifestStatus::Deleted,
        Some(other) => return Err(Error::corrupt(format!("manifest entry has status {other}"))),
        None => return Err(Error::corrupt("manifest entry has no status")),
    };
    let sequence_number = inherit(draft.number(Number::Sequence), status, list_entry);
    let Some(sequence_number) = sequence_number else {
        return Err(Error::corrupt("manifest entry that is not new has no sequence number"));
    };
    // Writers before Iceberg 1.0 had no file sequence number; nothing but its data sequence
    // number is known of such a file's age.
    let file_sequence_number =
        inherit(draft.number(Number::FileSequence), status, list_entry).unwrap_or(sequence_number);
    let snapshot_id = draft.number(Number::SnapshotId).unwrap_or(list_entry.added_snapshot_id);
    Ok(ManifestEntry {
        status,
        snapshot_id: SnapshotId(snapshot_id),
        sequence_number: SequenceNumber(sequence_number),
        file_sequence_number: SequenceNumber(file_sequence_number),
        file: Arc::new(finish_file(draft, list_entry.partition_spec_id)?),
    })
}

/// A number left out is the manifest's own if the entry is new, or if the manifest is older
/// than sequence numbers (MAN-6).
fn inherit(own: Option<i64>, status: ManifestStatus, list_entry: &ManifestFile) -> Option<i64> {
    let inherits = status == ManifestStatus::Added || list_entry.sequence_number == 0;
    own.or(inherits.then_some(list_entry.sequence_number))
}

fn finish_file(draft: Draft, spec_id: i32) -> Result<DataFile> {
    let count = |number, name: &str| {
        let value = draft.number(number);
        value.and_then(|v| u64::try_from(v).ok()).ok_or_else(|| match value {
            None => Error::corrupt(format!("manifest entry has no {name}")),
            Some(v) => Error::corrupt(format!("manifest entry has {v} as {name}")),
        })
    };
    let narrow = |v: i64| {
        i32::try_from(v).map_err(|_| Error::corrupt("manifest entry has an id beyond 32 bits"))
    };
    let record_count = count(Number::RecordCount, "record count")?;
    let file_size_in_bytes = count(Number::FileSize, "file size")?;
    let content = match draft.number(Number::Content) {
        None | Some(0) => DataContentType::Data,
        Some(1) => DataContentType::PositionDeletes,
        Some(2) => DataContentType::EqualityDeletes,
        Some(other) => {
            return Err(Error::corrupt(format!("manifest entry has unknown content {other}")));
        }
    };
    let sort_order_id = draft.number(Number::SortOrder).map(narrow).transpose()?;
    let equality_ids =
        draft.equality_ids.map(|ids| ids.into_iter().map(narrow).collect()).transpose()?;
    if draft.path.is_empty() {
        return Err(Error::corrupt("manifest entry has no file path"));
    }
    let Some(file_format) = draft.format else {
        return Err(Error::corrupt("manifest entry has no file format"));
    };
    let Some(partition) = draft.partition else {
        return Err(Error::corrupt("manifest entry has no partition"));
    };
    let [column_sizes, value_counts, null_value_counts, nan_value_counts] = draft.counts;
    let [lower_bounds, upper_bounds] = draft.bounds;
    Ok(DataFile {
        content,
        file_path: draft.path,
        file_format,
        spec_id,
        partition,
        record_count,
        file_size_in_bytes,
        column_sizes,
        value_counts,
        null_value_counts,
        nan_value_counts,
        lower_bounds,
        upper_bounds,
        key_metadata: draft.key_metadata,
        split_offsets: draft.split_offsets,
        equality_ids,
        sort_order_id,
        referenced_data_file: draft.referenced,
    })
}
