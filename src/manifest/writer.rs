//! Writes manifests, v2, the way the reference implementation lays them out.

use bytes::Bytes;
use serde_json::{Value, json};

use super::avro::{ContainerWriter, ManifestCodec, put_bytes, put_long, put_string};
use super::list::UNASSIGNED;
use super::partition;
use super::summary::{SummaryBuilder, add_partition};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{
    DataContentType, DataFile, DataFileFormat, IdBytes, IdMap, ManifestContentType, ManifestEntry,
    ManifestFile, ManifestStatus, PartitionSpec, PartitionSpecRef, PrimitiveType, Schema,
    SchemaRef, SequenceNumber, SnapshotId, Type,
};

/// Writes one manifest into memory: one partition spec, one kind of content.
///
/// The file is finished before anyone knows the commit's sequence number: new entries leave
/// theirs out and inherit it from the manifest list, so that a manifest survives retries
/// (MAN-4).
#[derive(Debug)]
pub struct ManifestWriter {
    content: ManifestContentType,
    spec_id: i32,
    snapshot_id: SnapshotId,
    types: Vec<PrimitiveType>,
    /// An error of the arguments to `new`, told at the first call that can fail.
    file: Result<ContainerWriter, (ErrorKind, String)>,
    summaries: Vec<SummaryBuilder>,
    /// Files and rows by [`ManifestStatus`].
    files: [u32; 3],
    rows: [u64; 3],
    min_sequence_number: Option<i64>,
}

impl ManifestWriter {
    /// Starts a manifest of the commit `snapshot_id`.
    ///
    /// `partition_types` are the types of the spec's values in the order of its fields, as
    /// [`crate::spec::partition_types`] finds them. If they do not fit the spec, every later
    /// call fails with `InvalidInput`.
    pub fn new(
        content: ManifestContentType,
        schema: SchemaRef,
        spec: PartitionSpecRef,
        partition_types: Vec<Type>,
        snapshot_id: SnapshotId,
        codec: ManifestCodec,
    ) -> Self {
        let types = primitive_types(&spec, &partition_types);
        let file = types.as_ref().map_err(copy).and_then(|types| {
            start(content, &schema, &spec, types, snapshot_id, codec).map_err(|e| copy(&e))
        });
        Self {
            content,
            spec_id: spec.spec_id(),
            snapshot_id,
            types: types.unwrap_or_default(),
            file,
            summaries: vec![SummaryBuilder::default(); spec.fields().len()],
            files: [0; 3],
            rows: [0; 3],
            min_sequence_number: None,
        }
    }

    /// Adds a new file. Without a `sequence_number` it gets the commit's; a rewrite passes the
    /// age of the rows it rewrote (MAN-9).
    ///
    /// # Errors
    /// `InvalidInput` if the file's content, spec or partition does not fit the manifest.
    pub fn add(&mut self, file: &DataFile, sequence_number: Option<SequenceNumber>) -> Result<()> {
        let numbers = [Some(self.snapshot_id.0), sequence_number.map(|n| n.0), None];
        self.put(ManifestStatus::Added, numbers, file)
    }

    /// Keeps a live file of an older manifest, with the numbers it has.
    ///
    /// # Errors
    /// As [`ManifestWriter::add`].
    pub fn existing(&mut self, entry: &ManifestEntry) -> Result<()> {
        self.put(ManifestStatus::Existing, numbers(entry.snapshot_id, entry), &entry.file)
    }

    /// Marks a file as removed by this commit; its numbers stay.
    ///
    /// # Errors
    /// As [`ManifestWriter::add`].
    pub fn delete(&mut self, entry: &ManifestEntry) -> Result<()> {
        self.put(ManifestStatus::Deleted, numbers(self.snapshot_id, entry), &entry.file)
    }

    /// Bytes so far, the last block not yet compressed: for rolling to the next manifest.
    pub fn len_hint(&self) -> usize {
        self.file.as_ref().map_or(0, ContainerWriter::len)
    }

    /// Entries so far.
    pub fn entry_count(&self) -> usize {
        self.files.iter().map(|n| *n as usize).sum()
    }

    /// The file and its manifest list entry, whose sequence number, and minimum if no entry
    /// says otherwise, are left for the manifest list to assign.
    ///
    /// # Errors
    /// `InvalidInput` for arguments of `new` that did not fit, `Internal` if compression fails.
    pub fn finish(self, location: &str) -> Result<(Bytes, ManifestFile)> {
        let bytes = self.file.map_err(|(kind, message)| Error::new(kind, message))?.finish()?;
        let summaries = self.summaries.iter().zip(&self.types).map(|(s, t)| s.finish(t)).collect();
        let [existing_files, added_files, deleted_files] = self.files;
        let [existing_rows, added_rows, deleted_rows] = self.rows;
        let manifest = ManifestFile {
            manifest_path: location.to_string(),
            manifest_length: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
            partition_spec_id: self.spec_id,
            content: self.content,
            sequence_number: UNASSIGNED,
            min_sequence_number: self.min_sequence_number.unwrap_or(UNASSIGNED),
            added_snapshot_id: self.snapshot_id.0,
            added_files_count: Some(added_files),
            existing_files_count: Some(existing_files),
            deleted_files_count: Some(deleted_files),
            added_rows_count: Some(added_rows),
            existing_rows_count: Some(existing_rows),
            deleted_rows_count: Some(deleted_rows),
            partitions: Some(summaries),
            key_metadata: None,
            first_row_id: None,
        };
        Ok((Bytes::from(bytes), manifest))
    }

    fn put(
        &mut self,
        status: ManifestStatus,
        numbers: [Option<i64>; 3],
        file: &DataFile,
    ) -> Result<()> {
        self.check(file).map_err(|e| e.with_context("file", &file.file_path))?;
        let writer = match &mut self.file {
            Ok(writer) => writer,
            Err((kind, message)) => return Err(Error::new(*kind, message.clone())),
        };
        let types = &self.types;
        writer
            .record(|out| encode_entry(status, numbers, file, types, out))
            .map_err(|e| e.with_context("file", &file.file_path))?;
        add_partition(&mut self.summaries, &file.partition);
        if let Some(files) = self.files.get_mut(status as usize) {
            *files = files.saturating_add(1);
        }
        if let Some(rows) = self.rows.get_mut(status as usize) {
            *rows = rows.saturating_add(file.record_count);
        }
        let [_, sequence_number, _] = numbers;
        // (MAN-8)
        if status != ManifestStatus::Deleted
            && let Some(number) = sequence_number
        {
            let least = self.min_sequence_number.map_or(number, |least| least.min(number));
            self.min_sequence_number = Some(least);
        }
        Ok(())
    }

    fn check(&self, file: &DataFile) -> Result<()> {
        let is_delete_manifest = self.content == ManifestContentType::Deletes;
        if file.is_delete() != is_delete_manifest {
            return Err(Error::invalid("data and delete files do not share a manifest"));
        }
        if file.spec_id != self.spec_id {
            return Err(Error::invalid(format!(
                "file of spec {} does not belong into a manifest of spec {}",
                file.spec_id, self.spec_id
            )));
        }
        let has_ids = file.equality_ids.as_ref().is_some_and(|ids| !ids.is_empty());
        if has_ids != (file.content == DataContentType::EqualityDeletes) {
            return Err(Error::invalid("equality ids belong to equality deletes, and only there"));
        }
        Ok(())
    }
}

fn copy(error: &Error) -> (ErrorKind, String) {
    (error.kind(), error.message().to_string())
}

fn numbers(snapshot_id: SnapshotId, entry: &ManifestEntry) -> [Option<i64>; 3] {
    [Some(snapshot_id.0), Some(entry.sequence_number.0), Some(entry.file_sequence_number.0)]
}

fn primitive_types(spec: &PartitionSpec, types: &[Type]) -> Result<Vec<PrimitiveType>> {
    if types.len() != spec.fields().len() {
        return Err(Error::invalid(format!(
            "partition spec {} has {} fields but {} types",
            spec.spec_id(),
            spec.fields().len(),
            types.len()
        )));
    }
    types
        .iter()
        .map(|t| match t {
            Type::Primitive(primitive) => Ok(primitive.clone()),
            other => Err(Error::invalid(format!("{other} cannot be a partition value"))),
        })
        .collect()
}

fn start(
    content: ManifestContentType,
    schema: &Schema,
    spec: &PartitionSpec,
    types: &[PrimitiveType],
    snapshot_id: SnapshotId,
    codec: ManifestCodec,
) -> Result<ContainerWriter> {
    let json = |e: serde_json::Error| Error::internal("schema cannot be written").with_source(e);
    let schema_id = schema.schema_id().to_string();
    let spec_id = spec.spec_id().to_string();
    let schema = serde_json::to_string(schema).map_err(json)?;
    let fields = serde_json::to_string(spec.fields()).map_err(json)?;
    let header = [
        ("schema", schema.as_str()),
        ("schema-id", schema_id.as_str()),
        ("partition-spec", fields.as_str()),
        ("partition-spec-id", spec_id.as_str()),
        ("format-version", "2"),
        (
            "content",
            match content {
                ManifestContentType::Data => "data",
                ManifestContentType::Deletes => "deletes",
            },
        ),
    ];
    let avro = entry_schema(partition::record_schema(spec, types)).to_string();
    Ok(ContainerWriter::new(&avro, &header, codec, snapshot_id.0 as u64))
}

/// The Avro schema of v2 manifests.
fn entry_schema(partition: Value) -> Value {
    let required =
        |id: i32, name: &str, kind: Value| json!({"name": name, "type": kind, "field-id": id});
    let optional = |id: i32, name: &str, kind: Value| json!({"name": name, "type": ["null", kind], "default": null, "field-id": id});
    let map = |key: i32, value: i32, kind: &str| {
        json!({
            "type": "array",
            "items": {
                "type": "record",
                "name": format!("k{key}_v{value}"),
                "fields": [
                    {"name": "key", "type": "int", "field-id": key},
                    {"name": "value", "type": kind, "field-id": value},
                ],
            },
            "logicalType": "map",
        })
    };
    let list =
        |element: i32, kind: &str| json!({"type": "array", "items": kind, "element-id": element});
    let data_file = json!({"type": "record", "name": "r2", "fields": [
        required(134, "content", json!("int")),
        required(100, "file_path", json!("string")),
        required(101, "file_format", json!("string")),
        required(102, "partition", partition),
        required(103, "record_count", json!("long")),
        required(104, "file_size_in_bytes", json!("long")),
        optional(108, "column_sizes", map(117, 118, "long")),
        optional(109, "value_counts", map(119, 120, "long")),
        optional(110, "null_value_counts", map(121, 122, "long")),
        optional(137, "nan_value_counts", map(138, 139, "long")),
        optional(125, "lower_bounds", map(126, 127, "bytes")),
        optional(128, "upper_bounds", map(129, 130, "bytes")),
        optional(131, "key_metadata", json!("bytes")),
        optional(132, "split_offsets", list(133, "long")),
        optional(135, "equality_ids", list(136, "int")),
        optional(140, "sort_order_id", json!("int")),
        optional(143, "referenced_data_file", json!("string")),
    ]});
    json!({"type": "record", "name": "manifest_entry", "fields": [
        required(0, "status", json!("int")),
        optional(1, "snapshot_id", json!("long")),
        optional(3, "sequence_number", json!("long")),
        optional(4, "file_sequence_number", json!("long")),
        required(2, "data_file", data_file),
    ]})
}

fn encode_entry(
    status: ManifestStatus,
    numbers: [Option<i64>; 3],
    file: &DataFile,
    types: &[PrimitiveType],
    out: &mut Vec<u8>,
) -> Result<()> {
    put_long(out, status as i64);
    for number in numbers {
        put_optional(out, number, put_long);
    }
    put_long(out, file.content as i64);
    put_string(out, &file.file_path);
    // Upper case: the reference implementation before 1.0 takes nothing else.
    put_string(
        out,
        match file.file_format {
            DataFileFormat::Parquet => "PARQUET",
            DataFileFormat::Avro => "AVRO",
            DataFileFormat::Orc => "ORC",
            DataFileFormat::Puffin => "PUFFIN",
        },
    );
    partition::encode(&file.partition, types, out)?;
    put_long(out, signed(file.record_count)?);
    put_long(out, signed(file.file_size_in_bytes)?);
    for counts in
        [&file.column_sizes, &file.value_counts, &file.null_value_counts, &file.nan_value_counts]
    {
        put_counts(out, counts)?;
    }
    put_bounds(out, &file.lower_bounds);
    put_bounds(out, &file.upper_bounds);
    put_optional(out, file.key_metadata.as_deref(), put_bytes);
    put_longs(out, file.split_offsets.as_ref().map(|v| v.iter().copied()));
    put_longs(out, file.equality_ids.as_ref().map(|v| v.iter().map(|id| i64::from(*id))));
    put_optional(out, file.sort_order_id.map(i64::from), put_long);
    put_optional(out, file.referenced_data_file.as_deref(), put_string);
    Ok(())
}

fn signed(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| Error::invalid("a count is beyond 63 bits"))
}

fn put_optional<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        None => put_long(out, 0),
        Some(value) => {
            put_long(out, 1);
            put(out, value);
        }
    }
}

fn put_counts(out: &mut Vec<u8>, counts: &IdMap) -> Result<()> {
    if counts.is_empty() {
        put_long(out, 0);
        return Ok(());
    }
    put_long(out, 1);
    put_long(out, counts.iter().len() as i64);
    for (id, value) in counts.iter() {
        put_long(out, i64::from(id));
        put_long(out, signed(value)?);
    }
    put_long(out, 0);
    Ok(())
}

fn put_bounds(out: &mut Vec<u8>, bounds: &IdBytes) {
    if bounds.is_empty() {
        return put_long(out, 0);
    }
    put_long(out, 1);
    put_long(out, bounds.iter().len() as i64);
    for (id, value) in bounds.iter() {
        put_long(out, i64::from(id));
        put_bytes(out, value);
    }
    put_long(out, 0);
}

fn put_longs(out: &mut Vec<u8>, values: Option<impl ExactSizeIterator<Item = i64>>) {
    let Some(values) = values else {
        return put_long(out, 0);
    };
    put_long(out, 1);
    if values.len() > 0 {
        put_long(out, values.len() as i64);
        values.for_each(|value| put_long(out, value));
    }
    put_long(out, 0);
}
