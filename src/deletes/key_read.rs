//! Reads the key columns of equality delete files.
//!
//! In: a delete file and the columns it compares. Out: batches of those columns, brought to
//! their widest types, whatever schema the file was written with.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::stream::BoxStream;

use super::columns::KeyColumns;
use crate::error::{Error, Result};
use crate::file::{FileRead, footer, read};
use crate::measure;
use crate::spec::{
    DataFile, Literal, NameMapping, NestedField, NestedFieldRef, Schema, SchemaRef, StructType,
    TableMetadata, Transform, Type,
};
use crate::storage::Storage;

const BATCH_ROWS: usize = 16 * 1024;

impl KeyColumns {
    /// A schema of these columns only, nested as in the table, all optional, in their widest
    /// types.
    ///
    /// # Errors
    /// `CorruptData` if the columns do not fit into one schema.
    pub fn schema(&self) -> Result<SchemaRef> {
        let paths = self.iter().map(|column| {
            let mut path = column.path.clone();
            if let Some(last) = path.pop() {
                let mut field = last.as_ref().clone();
                field.field_type = Box::new(Type::Primitive(column.key_type.clone()));
                path.push(Arc::new(field));
            }
            path
        });
        let mut fields = Vec::new();
        for path in paths {
            graft(&mut fields, &path);
        }
        let schema = Schema::builder().with_fields(fields).build().map_err(|e| {
            Error::corrupt("the columns of an equality delete make no schema").with_source(e)
        })?;
        Ok(Arc::new(schema))
    }
}

/// Adds a field with the structs around it to a tree of fields. Fields become optional; of
/// several top-level fields of one name the later are renamed, for files bind by field id.
pub(crate) fn graft(fields: &mut Vec<NestedFieldRef>, path: &[NestedFieldRef]) {
    let Some((first, rest)) = path.split_first() else { return };
    if let Some(at) = fields.iter().position(|f| f.id == first.id) {
        let Some(found) = fields.get_mut(at) else { return };
        if let (Type::Struct(inner), false) = (&*found.field_type, rest.is_empty()) {
            let mut children = inner.fields().to_vec();
            graft(&mut children, rest);
            *found = optional(found, found.name.clone(), Type::Struct(StructType::new(children)));
        }
        return;
    }
    let mut name = first.name.clone();
    while fields.iter().any(|f| f.name == name) {
        name.push_str(&format!("_{}", first.id));
    }
    let field_type = if rest.is_empty() {
        first.field_type.as_ref().clone()
    } else {
        let mut children = Vec::new();
        graft(&mut children, rest);
        Type::Struct(StructType::new(children))
    };
    fields.push(optional(first, name, field_type));
}

fn optional(field: &NestedField, name: String, field_type: Type) -> NestedFieldRef {
    let mut field = field.clone();
    (field.name, field.required, field.field_type) = (name, false, Box::new(field_type));
    Arc::new(field)
}

/// The values of identity-partitioned columns, which a file need not hold (RD-4).
///
/// # Errors
/// `CorruptData` if the table lacks the file's spec or the values do not belong to it.
pub fn identity_constants(
    file: &DataFile,
    metadata: &TableMetadata,
) -> Result<HashMap<i32, Literal>> {
    let Some(spec) = metadata.partition_spec_by_id(file.spec_id) else {
        return Err(Error::corrupt("a file has an unknown partition spec")
            .with_context("file", &file.file_path)
            .with_context("spec id", file.spec_id));
    };
    if spec.fields().len() != file.partition.fields().len() {
        return Err(Error::corrupt("a file's partition values do not belong to its spec")
            .with_context("file", &file.file_path)
            .with_context("spec id", file.spec_id));
    }
    let identity = |(field, value): (&crate::spec::PartitionField, Option<&Literal>)| {
        let value = value.filter(|_| field.transform == Transform::Identity)?;
        Some((field.source_id, value.clone()))
    };
    Ok(spec.fields().iter().zip(file.partition.iter()).filter_map(identity).collect())
}

/// Opens the key columns of one delete file.
///
/// # Errors
/// `CorruptData` if the file lacks one of the columns; what reading the file gives.
pub(super) async fn read_keys(
    storage: &Storage,
    metadata: &TableMetadata,
    name_mapping: Option<Arc<NameMapping>>,
    columns: &KeyColumns,
    file: &DataFile,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    measure::DELETE_FILES_LOADED.add(&["equality"], 1);
    let constants = identity_constants(file, metadata)?;
    check_columns(storage, columns, &constants, file).await?;
    let mut request = FileRead::new(file.file_path.clone(), columns.schema()?);
    request.file_size_in_bytes = Some(file.file_size_in_bytes);
    request.constants = constants;
    request.name_mapping = name_mapping;
    request.batch_size = BATCH_ROWS;
    read(storage, request).await
}

/// A column that is missing from a data file is null there; missing from the delete file that
/// compares it, it would delete every row with a null.
async fn check_columns(
    storage: &Storage,
    columns: &KeyColumns,
    constants: &HashMap<i32, Literal>,
    file: &DataFile,
) -> Result<()> {
    let footer = footer(storage, &file.file_path, Some(file.file_size_in_bytes)).await?;
    let schema = footer.file_metadata().schema_descr();
    let ids: BTreeSet<i32> = schema
        .columns()
        .iter()
        .map(|column| column.self_type().get_basic_info())
        .filter(|info| info.has_id())
        .map(|info| info.id())
        .collect();
    if ids.is_empty() {
        return Ok(()); // columns are found through the name mapping
    }
    for id in columns.ids() {
        if !ids.contains(&id) && !constants.contains_key(&id) {
            return Err(Error::corrupt("equality delete file lacks a column that it compares")
                .with_context("delete file", &file.file_path)
                .with_context("field id", id));
        }
    }
    Ok(())
}
