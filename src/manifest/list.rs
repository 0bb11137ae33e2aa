//! Manifest lists: which manifests make up a snapshot.

use bytes::Bytes;

use super::avro::schema::{Node, Schema};
use super::avro::{
    ContainerReader, ContainerWriter, Cursor, ManifestCodec, put_bool, put_bytes, put_long,
    put_string,
};
use super::plan::Nullness;
use super::plan::{
    BoolShape, BytesShape, LongShape, identify, record_fields, split_null, unexpected,
};
use crate::error::{Error, Result};
use crate::spec::{
    FieldSummary, FormatVersion, ManifestContentType, ManifestFile, SequenceNumber, SnapshotId,
};

/// The sequence number of a manifest that no manifest list has been written for yet.
pub const UNASSIGNED: i64 = -1;

#[derive(Debug, Clone, Copy)]
enum Target {
    Path,
    KeyMetadata,
    Partitions,
    Number(Number),
}

/// Numbers of a manifest list entry; the discriminant is the place in [`Draft::numbers`].
#[derive(Debug, Clone, Copy)]
enum Number {
    Length,
    SpecId,
    Content,
    Sequence,
    MinSequence,
    SnapshotId,
    AddedFiles,
    ExistingFiles,
    DeletedFiles,
    AddedRows,
    ExistingRows,
    DeletedRows,
}

const NUMBERS: usize = 12;

const FIELDS: &[(i32, &[&str], Target)] = &[
    (500, &["manifest_path"], Target::Path),
    (501, &["manifest_length"], Target::Number(Number::Length)),
    (502, &["partition_spec_id"], Target::Number(Number::SpecId)),
    (517, &["content"], Target::Number(Number::Content)),
    (515, &["sequence_number"], Target::Number(Number::Sequence)),
    (516, &["min_sequence_number"], Target::Number(Number::MinSequence)),
    (503, &["added_snapshot_id"], Target::Number(Number::SnapshotId)),
    (504, &["added_files_count", "added_data_files_count"], Target::Number(Number::AddedFiles)),
    (
        505,
        &["existing_files_count", "existing_data_files_count"],
        Target::Number(Number::ExistingFiles),
    ),
    (
        506,
        &["deleted_files_count", "deleted_data_files_count"],
        Target::Number(Number::DeletedFiles),
    ),
    (512, &["added_rows_count"], Target::Number(Number::AddedRows)),
    (513, &["existing_rows_count"], Target::Number(Number::ExistingRows)),
    (514, &["deleted_rows_count"], Target::Number(Number::DeletedRows)),
    (507, &["partitions"], Target::Partitions),
    (519, &["key_metadata"], Target::KeyMetadata),
];

#[derive(Debug, Clone, Copy)]
enum SummaryPart {
    ContainsNull,
    ContainsNan,
    Lower,
    Upper,
}

const SUMMARY_FIELDS: &[(i32, &[&str], SummaryPart)] = &[
    (509, &["contains_null"], SummaryPart::ContainsNull),
    (518, &["contains_nan"], SummaryPart::ContainsNan),
    (510, &["lower_bound"], SummaryPart::Lower),
    (511, &["upper_bound"], SummaryPart::Upper),
];

enum Step {
    Skip(Node),
    Path(BytesShape),
    KeyMetadata(BytesShape),
    Number(Number, LongShape),
    Partitions(Nullness, Vec<SummaryStep>),
}

enum SummaryStep {
    Skip(Node),
    ContainsNull(BoolShape),
    ContainsNan(BoolShape),
    Lower(BytesShape),
    Upper(BytesShape),
}

#[derive(Default)]
struct Draft {
    path: Option<String>,
    key_metadata: Option<Vec<u8>>,
    partitions: Option<Vec<FieldSummary>>,
    numbers: [Option<i64>; NUMBERS],
}

impl Draft {
    fn number(&self, number: Number) -> Option<i64> {
        self.numbers.get(number as usize).copied().flatten()
    }
}

/// Reads a manifest list, in file order.
///
/// * In: the whole file; `format_version` is the table's, and decides what a missing sequence
///   number means: 0 in v1, corruption in v2.
/// * Counts that v1 writers left out stay `None`: take them for "some".
///
/// # Errors
/// `CorruptData` naming `location`; `Unsupported` for an unknown Avro codec.
///
/// # Source
/// Iceberg spec v2, "Manifest Lists".
pub fn read_manifest_list(
    bytes: &[u8],
    location: &str,
    format_version: FormatVersion,
) -> Result<Vec<ManifestFile>> {
    decode(bytes, format_version).map_err(|e| e.with_context("manifest list", location))
}

fn decode(bytes: &[u8], format_version: FormatVersion) -> Result<Vec<ManifestFile>> {
    let mut reader = ContainerReader::open(bytes)?;
    // A v2 table still lists what it listed as v1, so the file's own word counts first.
    let version = match reader.text("format-version") {
        Some("1") => FormatVersion::V1,
        _ => format_version,
    };
    let steps = compile(&reader.schema)?;
    let mut manifests = Vec::new();
    reader.for_each_block(|schema, count, cursor| {
        for _ in 0..count {
            let mut draft = Draft::default();
            for step in &steps {
                run(step, schema, cursor, &mut draft)?;
            }
            manifests.push(finish(draft, version)?);
        }
        Ok(())
    })?;
    Ok(manifests)
}

fn compile(schema: &Schema) -> Result<Vec<Step>> {
    record_fields(schema, &schema.root)?
        .iter()
        .map(|field| {
            Ok(match identify(field, FIELDS) {
                None => Step::Skip(field.node.clone()),
                Some(Target::Path) => Step::Path(BytesShape::new(field)?),
                Some(Target::KeyMetadata) => Step::KeyMetadata(BytesShape::new(field)?),
                Some(Target::Number(number)) => Step::Number(number, LongShape::new(field)?),
                Some(Target::Partitions) => {
                    let (null, node) = split_null(&field.node)?;
                    match node {
                        Node::Array(item) => Step::Partitions(null, compile_summary(schema, item)?),
                        Node::Null => Step::Partitions(null, Vec::new()),
                        _ => return Err(unexpected(field)),
                    }
                }
            })
        })
        .collect()
}

fn compile_summary(schema: &Schema, item: &Node) -> Result<Vec<SummaryStep>> {
    record_fields(schema, item)?
        .iter()
        .map(|field| {
            Ok(match identify(field, SUMMARY_FIELDS) {
                None => SummaryStep::Skip(field.node.clone()),
                Some(SummaryPart::ContainsNull) => {
                    SummaryStep::ContainsNull(BoolShape::new(field)?)
                }
                Some(SummaryPart::ContainsNan) => SummaryStep::ContainsNan(BoolShape::new(field)?),
                Some(SummaryPart::Lower) => SummaryStep::Lower(BytesShape::new(field)?),
                Some(SummaryPart::Upper) => SummaryStep::Upper(BytesShape::new(field)?),
            })
        })
        .collect()
}

fn run(step: &Step, schema: &Schema, cursor: &mut Cursor<'_>, draft: &mut Draft) -> Result<()> {
    match step {
        Step::Skip(node) => cursor.skip(schema, node)?,
        Step::Path(shape) => draft.path = shape.read_text(cursor)?.map(str::to_string),
        Step::KeyMetadata(shape) => draft.key_metadata = shape.read(cursor)?.map(<[u8]>::to_vec),
        Step::Number(number, shape) => {
            let value = shape.read(cursor)?;
            if let Some(slot) = draft.numbers.get_mut(*number as usize) {
                *slot = value;
            }
        }
        Step::Partitions(null, steps) => {
            if null.has_value(cursor)? {
                draft.partitions = Some(read_summaries(steps, schema, cursor)?);
            }
        }
    }
    Ok(())
}

fn read_summaries(
    steps: &[SummaryStep],
    schema: &Schema,
    cursor: &mut Cursor<'_>,
) -> Result<Vec<FieldSummary>> {
    let mut summaries = Vec::new();
    loop {
        let count = cursor.item_count()?;
        if count == 0 {
            return Ok(summaries);
        }
        for _ in 0..count {
            let before = cursor.remaining();
            // Unknown nulls prune nothing.
            let mut summary = FieldSummary { contains_null: true, ..Default::default() };
            for step in steps {
                match step {
                    SummaryStep::Skip(node) => cursor.skip(schema, node)?,
                    SummaryStep::ContainsNull(shape) => {
                        summary.contains_null = shape.read(cursor)?.unwrap_or(true);
                    }
                    SummaryStep::ContainsNan(shape) => summary.contains_nan = shape.read(cursor)?,
                    SummaryStep::Lower(shape) => {
                        summary.lower_bound = shape.read(cursor)?.map(|b| b.to_vec().into());
                    }
                    SummaryStep::Upper(shape) => {
                        summary.upper_bound = shape.read(cursor)?.map(|b| b.to_vec().into());
                    }
                }
            }
            if cursor.remaining() == before {
                return Err(Error::corrupt("partition summary takes no bytes"));
            }
            summaries.push(summary);
        }
    }
}

fn finish(draft: Draft, version: FormatVersion) -> Result<ManifestFile> {
    let required = |number: Number, name: &str| {
        draft
            .number(number)
            .ok_or_else(|| Error::corrupt(format!("manifest list entry has no {name}")))
    };
    // Sequence numbers came with v2; everything older counts as written at 0 (MAN-3).
    let sequence = |number, name| match version {
        FormatVersion::V1 => Ok(draft.number(number).unwrap_or(0)),
        _ => required(number, name),
    };
    let sequence_number = sequence(Number::Sequence, "sequence number")?;
    let min_sequence_number = sequence(Number::MinSequence, "minimum sequence number")?;
    let content = match draft.number(Number::Content) {
        None | Some(0) => ManifestContentType::Data,
        Some(1) => ManifestContentType::Deletes,
        Some(other) => {
            return Err(Error::corrupt(format!("manifest has unknown content {other}")));
        }
    };
    Ok(ManifestFile {
        manifest_length: required(Number::Length, "length")?,
        partition_spec_id: narrow(draft.number(Number::SpecId).unwrap_or(0), "spec id")?,
        content,
        sequence_number,
        min_sequence_number,
        added_snapshot_id: match version {
            FormatVersion::V1 => draft.number(Number::SnapshotId).unwrap_or(UNASSIGNED),
            _ => required(Number::SnapshotId, "snapshot id")?,
        },
        added_files_count: count(&draft, Number::AddedFiles)?,
        existing_files_count: count(&draft, Number::ExistingFiles)?,
        deleted_files_count: count(&draft, Number::DeletedFiles)?,
        added_rows_count: count(&draft, Number::AddedRows)?,
        existing_rows_count: count(&draft, Number::ExistingRows)?,
        deleted_rows_count: count(&draft, Number::DeletedRows)?,
        partitions: draft.partitions,
        key_metadata: draft.key_metadata,
        first_row_id: None,
        manifest_path: match draft.path {
            Some(path) if !path.is_empty() => path,
            _ => return Err(Error::corrupt("manifest list entry has no manifest path")),
        },
    })
}

fn narrow<T: TryFrom<i64>>(value: i64, what: &str) -> Result<T> {
    T::try_from(value).map_err(|_| Error::corrupt(format!("manifest list has {value} as {what}")))
}

/// Some writers put -1 where they do not know a count.
fn count<T: TryFrom<i64>>(draft: &Draft, number: Number) -> Result<Option<T>> {
    match draft.number(number) {
        None | Some(-1) => Ok(None),
        Some(value) => narrow(value, "a count").map(Some),
    }
}

/// The Avro schema of v2 manifest lists, in the reference implementation's order.
const LIST_SCHEMA: &str = concat!(
    r#"{"type":"record","name":"manifest_file","fields":["#,
    r#"{"name":"manifest_path","type":"string","field-id":500},"#,
    r#"{"name":"manifest_length","type":"long","field-id":501},"#,
    r#"{"name":"partition_spec_id","type":"int","field-id":502},"#,
    r#"{"name":"content","type":"int","field-id":517},"#,
    r#"{"name":"sequence_number","type":"long","field-id":515},"#,
    r#"{"name":"min_sequence_number","type":"long","field-id":516},"#,
    r#"{"name":"added_snapshot_id","type":"long","field-id":503},"#,
    r#"{"name":"added_files_count","type":"int","field-id":504},"#,
    r#"{"name":"existing_files_count","type":"int","field-id":505},"#,
    r#"{"name":"deleted_files_count","type":"int","field-id":506},"#,
    r#"{"name":"added_rows_count","type":"long","field-id":512},"#,
    r#"{"name":"existing_rows_count","type":"long","field-id":513},"#,
    r#"{"name":"deleted_rows_count","type":"long","field-id":514},"#,
    r#"{"name":"partitions","type":["null",{"type":"array","items":{"type":"record","#,
    r#""name":"r508","fields":["#,
    r#"{"name":"contains_null","type":"boolean","field-id":509},"#,
    r#"{"name":"contains_nan","type":["null","boolean"],"default":null,"field-id":518},"#,
    r#"{"name":"lower_bound","type":["null","bytes"],"default":null,"field-id":510},"#,
    r#"{"name":"upper_bound","type":["null","bytes"],"default":null,"field-id":511}]},"#,
    r#""element-id":508}],"default":null,"field-id":507},"#,
    r#"{"name":"key_metadata","type":["null","bytes"],"default":null,"field-id":519}]}"#
);

/// Writes the manifest list of one snapshot, v2.
///
/// Manifests whose sequence number or minimum is [`UNASSIGNED`] get `sequence_number`: this is
/// where the files of a commit get their age, so that a retry rewrites this one file (MAN-4).
///
/// # Errors
/// `InvalidInput` for a manifest newer than `sequence_number`, or one without counts.
pub fn write_manifest_list(
    manifests: &[ManifestFile],
    snapshot_id: SnapshotId,
    parent: Option<SnapshotId>,
    sequence_number: SequenceNumber,
    codec: ManifestCodec,
) -> Result<Bytes> {
    let snapshot = snapshot_id.to_string();
    let parent = parent.map_or_else(|| "null".to_string(), |id| id.to_string());
    let sequence = sequence_number.to_string();
    let header = [
        ("snapshot-id", snapshot.as_str()),
        ("parent-snapshot-id", parent.as_str()),
        ("sequence-number", sequence.as_str()),
        ("format-version", "2"),
    ];
    let mut writer = ContainerWriter::new(LIST_SCHEMA, &header, codec, snapshot_id.0 as u64);
    for manifest in manifests {
        writer
            .record(|out| encode(manifest, snapshot_id, sequence_number, out))
            .map_err(|e| e.with_context("manifest", &manifest.manifest_path))?;
    }
    Ok(Bytes::from(writer.finish()?))
}

fn encode(
    manifest: &ManifestFile,
    snapshot_id: SnapshotId,
    commit: SequenceNumber,
    out: &mut Vec<u8>,
) -> Result<()> {
    let assigned = |number: i64| if number == UNASSIGNED { commit.0 } else { number };
    let sequence = assigned(manifest.sequence_number);
    if manifest.sequence_number == UNASSIGNED && manifest.added_snapshot_id != snapshot_id.0 {
        return Err(Error::invalid("manifest of another snapshot has no sequence number"));
    }
    if sequence > commit.0 {
        return Err(Error::invalid("manifest is newer than the snapshot that lists it"));
    }
    put_string(out, &manifest.manifest_path);
    put_long(out, manifest.manifest_length);
    put_long(out, i64::from(manifest.partition_spec_id));
    put_long(out, manifest.content as i64);
    put_long(out, sequence);
    put_long(out, assigned(manifest.min_sequence_number));
    put_long(out, manifest.added_snapshot_id);
    let files =
        [manifest.added_files_count, manifest.existing_files_count, manifest.deleted_files_count];
    let rows =
        [manifest.added_rows_count, manifest.existing_rows_count, manifest.deleted_rows_count];
    let unknown = || Error::invalid("manifest has no counts of its files and rows");
    for count in files {
        put_long(out, i64::from(count.ok_or_else(unknown)?));
    }
    for count in rows {
        put_long(out, count.and_then(|n| i64::try_from(n).ok()).ok_or_else(unknown)?);
    }
    encode_summaries(manifest.partitions.as_deref(), out);
    put_optional_bytes(out, manifest.key_metadata.as_deref());
    Ok(())
}

fn encode_summaries(summaries: Option<&[FieldSummary]>, out: &mut Vec<u8>) {
    let Some(summaries) = summaries else {
        return put_long(out, 0);
    };
    put_long(out, 1);
    if !summaries.is_empty() {
        put_long(out, summaries.len() as i64);
    }
    for summary in summaries {
        put_bool(out, summary.contains_null);
        match summary.contains_nan {
            None => put_long(out, 0),
            Some(value) => {
                put_long(out, 1);
                put_bool(out, value);
            }
        }
        put_optional_bytes(out, summary.lower_bound.as_ref().map(|b| b.as_ref()));
        put_optional_bytes(out, summary.upper_bound.as_ref().map(|b| b.as_ref()));
    }
    put_long(out, 0);
}

fn put_optional_bytes(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => put_long(out, 0),
        Some(bytes) => {
            put_long(out, 1);
            put_bytes(out, bytes);
        }
    }
}
