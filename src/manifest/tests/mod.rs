//! Tests of manifests and manifest lists as a whole.

mod fixtures;
mod hostile;
mod peer;
mod roundtrip;
mod rules;

use std::sync::Arc;

use super::*;
use crate::spec::{
    DataContentType, DataFile, ManifestContentType, ManifestFile, NestedField, PartitionKey,
    PartitionSpec, PartitionSpecRef, PrimitiveType, Schema, SchemaRef, SnapshotId, Transform, Type,
    UnboundPartitionField,
};

/// A table schema with one column per type, ids counting from 1.
pub(super) fn schema_of(types: &[PrimitiveType]) -> SchemaRef {
    let fields = (1..).zip(types).map(|(id, t)| {
        Arc::new(NestedField::optional(id, format!("c{id}"), Type::Primitive(t.clone())))
    });
    Arc::new(Schema::builder().with_schema_id(3).with_fields(fields).build().unwrap())
}

/// Identity partitioning on the columns with these ids.
pub(super) fn identity_spec(schema: &SchemaRef, columns: &[i32]) -> PartitionSpecRef {
    let mut builder = PartitionSpec::builder(schema.clone()).with_spec_id(5);
    for id in columns {
        let field = UnboundPartitionField::builder()
            .source_id(*id)
            .name(format!("c{id}"))
            .transform(Transform::Identity)
            .build();
        builder = builder.add_unbound_field(field).unwrap();
    }
    Arc::new(builder.build().unwrap())
}

/// A writer of snapshot 77 over `columns` of `types`.
pub(super) fn writer_of(
    content: ManifestContentType,
    types: &[PrimitiveType],
    codec: ManifestCodec,
) -> ManifestWriter {
    let schema = schema_of(types);
    let columns: Vec<i32> = (1..=types.len() as i32).collect();
    let spec = identity_spec(&schema, &columns);
    let types = types.iter().cloned().map(Type::Primitive).collect();
    ManifestWriter::new(content, schema, spec, types, SnapshotId(77), codec)
}

/// A data file without partition values.
pub(super) fn data_file(path: &str, rows: u64) -> DataFile {
    DataFile::new(DataContentType::Data, path, PartitionKey::unpartitioned(5), rows, rows * 10)
}

/// What a list would say about a finished manifest after the commit got its number.
pub(super) fn listed(mut manifest: ManifestFile, sequence_number: i64) -> ManifestFile {
    manifest.sequence_number = sequence_number;
    if manifest.min_sequence_number == UNASSIGNED {
        manifest.min_sequence_number = sequence_number;
    }
    manifest
}
