//! Files written and read back, and files of other writers.

mod blooms;
mod evolution;
mod foreign;
mod metrics;
mod pruning;
mod round_trip;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use futures::TryStreamExt;
use object_store::memory::InMemory;

use super::*;
use crate::error::Result;
use crate::spec::{
    DataContentType, DataFile, NestedField, NestedFieldRef, PartitionKey, PrimitiveType, Schema,
    SchemaRef, Type,
};
use crate::storage::Storage;

pub(super) fn memory() -> Storage {
    Storage::default().with_store("memory://", Arc::new(InMemory::new()))
}

pub(super) fn primitive(p: PrimitiveType) -> Type {
    Type::Primitive(p)
}

pub(super) fn optional(id: i32, name: &str, field_type: Type) -> NestedFieldRef {
    NestedField::optional(id, name, field_type).into()
}

pub(super) fn required(id: i32, name: &str, field_type: Type) -> NestedFieldRef {
    NestedField::required(id, name, field_type).into()
}

pub(super) fn schema_of(fields: impl IntoIterator<Item = NestedFieldRef>) -> SchemaRef {
    Arc::new(Schema::builder().with_fields(fields).build().unwrap())
}

pub(super) async fn write_file(
    storage: &Storage,
    location: &str,
    schema: &SchemaRef,
    batches: &[RecordBatch],
    options: &WriterOptions,
) -> Result<DataFile> {
    let mut writer = ParquetFileWriter::create(storage, location, schema.clone(), options)?;
    for batch in batches {
        writer.write(batch).await?;
    }
    writer.close(DataContentType::Data, PartitionKey::unpartitioned(0)).await
}

pub(super) async fn read_all(storage: &Storage, request: FileRead) -> Result<RecordBatch> {
    let schema = arrow_schema(&request.schema)?;
    let batches: Vec<RecordBatch> = read(storage, request).await?.try_collect().await?;
    for batch in &batches {
        assert_eq!(batch.schema(), schema);
    }
    Ok(concat_batches(&schema, &batches)?)
}
