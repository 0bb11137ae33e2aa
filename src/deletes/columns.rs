//! The columns that an equality delete compares: found in every schema the table ever had,
//! and taken out of Arrow batches by field id.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StructArray, make_array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Fields, SchemaRef as ArrowSchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::spec::{NestedFieldRef, PrimitiveType, StructType, TableMetadata, Type};

/// One equality column.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyColumn {
    /// The column's field id.
    pub field_id: i32,
    /// The widest type the column ever had; keys are compared in it.
    pub key_type: PrimitiveType,
    /// The field itself and the structs around it, outermost first.
    pub path: Vec<NestedFieldRef>,
}

/// The exact set of columns that a group of equality deletes compares, ascending by field id.
///
/// Columns that were dropped since are found in historic schemas (DEL-8).
#[derive(Debug, Clone, PartialEq)]
pub struct KeyColumns {
    columns: Vec<KeyColumn>,
}

impl KeyColumns {
    /// Looks the columns up: current schema first, then the others, newest first; the widest
    /// type of all wins.
    ///
    /// # Errors
    /// `CorruptData` if no schema knows a column, or if it is not a primitive inside structs only.
    pub fn resolve(ids: &[i32], metadata: &TableMetadata) -> Result<Self> {
        let mut schemas: Vec<_> = metadata.schemas_iter().collect();
        schemas.sort_by_key(|s| {
            (s.schema_id() != metadata.current_schema_id(), std::cmp::Reverse(s.schema_id()))
        });
        let mut columns = Vec::with_capacity(ids.len());
        for &field_id in ids {
            let mut found: Option<KeyColumn> = None;
            for schema in &schemas {
                let Some(path) = path_to(schema.as_struct(), field_id) else { continue };
                let Some(Type::Primitive(key_type)) = path.last().map(|f| &*f.field_type) else {
                    continue;
                };
                match &mut found {
                    None => {
                        let key_type = key_type.clone();
                        found = Some(KeyColumn { field_id, key_type, path });
                    }
                    Some(column) if is_wider(key_type, &column.key_type) => {
                        column.key_type = key_type.clone();
                    }
                    Some(_) => {}
                }
            }
            columns.push(found.ok_or_else(|| {
                Error::corrupt("equality delete compares a column that no schema of the table has")
                    .with_context("field id", field_id)
            })?);
        }
        columns.sort_by_key(|c| c.field_id);
        columns.dedup_by_key(|c| c.field_id);
        Ok(Self { columns })
    }

    /// The columns, ascending by field id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &KeyColumn> {
        self.columns.iter()
    }

    /// Their field ids, ascending.
    pub fn ids(&self) -> Vec<i32> {
        self.columns.iter().map(|c| c.field_id).collect()
    }

    /// Takes the columns out of a batch as arrays of their key types. A null struct makes the
    /// fields inside it null.
    ///
    /// # Errors
    /// `CorruptData` if the batch lacks a column or holds it in a type that does not widen to
    /// the key type.
    pub fn arrays(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let schema = batch.schema();
        self.columns.iter().map(|column| column.array(&schema, batch)).collect()
    }
}

impl KeyColumn {
    fn array(&self, schema: &ArrowSchemaRef, batch: &RecordBatch) -> Result<ArrayRef> {
        let mut steps = Vec::new();
        if !find_steps(schema.fields(), self.field_id, &mut steps) {
            return Err(Error::corrupt("a batch lacks a column that equality deletes compare")
                .with_context("field id", self.field_id));
        }
        let mut steps = steps.into_iter();
        let first = steps.next().unwrap_or_default();
        let mut array = batch.column(first).clone();
        for step in steps {
            let Some(parent) = array.as_any().downcast_ref::<StructArray>() else {
                return Err(Error::internal("a key column's parent is not a struct"));
            };
            array = child_with_parent_nulls(parent, step)?;
        }
        let wanted = key_data_type(&self.key_type);
        if *array.data_type() == wanted {
            return Ok(array);
        }
        cast(&array, &wanted).map_err(|e| {
            Error::corrupt("a column cannot be compared with the keys of an equality delete")
                .with_context("field id", self.field_id)
                .with_context("type", array.data_type())
                .with_source(e)
        })
    }
}

/// Whether `a` is what the spec allows `b` to be promoted to.
fn is_wider(a: &PrimitiveType, b: &PrimitiveType) -> bool {
    match (a, b) {
        (PrimitiveType::Long, PrimitiveType::Int) => true,
        (PrimitiveType::Double, PrimitiveType::Float) => true,
        (
            PrimitiveType::Decimal { precision: wide, scale },
            PrimitiveType::Decimal { precision: narrow, scale: same },
        ) => scale == same && wide > narrow,
        _ => false,
    }
}

/// The field of `id` and the structs around it, outermost first.
pub(crate) fn path_to(fields: &StructType, id: i32) -> Option<Vec<NestedFieldRef>> {
    for field in fields.fields() {
        if field.id == id {
            return Some(vec![field.clone()]);
        }
        if let Type::Struct(inner) = &*field.field_type
            && let Some(mut path) = path_to(inner, id)
        {
            path.insert(0, field.clone());
            return Some(path);
        }
    }
    None
}

fn find_steps(fields: &Fields, id: i32, steps: &mut Vec<usize>) -> bool {
    for (at, field) in fields.iter().enumerate() {
        steps.push(at);
        if field_id(field.metadata()) == Some(id) {
            return true;
        }
        if let DataType::Struct(inner) = field.data_type()
            && find_steps(inner, id, steps)
        {
            return true;
        }
        steps.pop();
    }
    false
}

fn field_id(metadata: &HashMap<String, String>) -> Option<i32> {
    metadata.get(crate::deletes::columns::FIELD_ID_KEY)?.parse().ok()
}

/// Where Arrow fields keep the Iceberg field id.
pub(super) const FIELD_ID_KEY: &str = "PARQUET:field_id";

fn child_with_parent_nulls(parent: &StructArray, at: usize) -> Result<ArrayRef> {
    let child = parent.column(at);
    if parent.null_count() == 0 {
        return Ok(child.clone());
    }
    let nulls = NullBuffer::union(parent.nulls(), child.nulls());
    let data = child.to_data().into_builder().nulls(nulls).build()?;
    Ok(make_array(data))
}

/// The Arrow type in which keys of a type are compared.
pub(super) fn key_data_type(key_type: &PrimitiveType) -> DataType {
    match key_type {
        PrimitiveType::Boolean => DataType::Boolean,
        PrimitiveType::Int => DataType::Int32,
        PrimitiveType::Long => DataType::Int64,
        PrimitiveType::Float => DataType::Float32,
        PrimitiveType::Double => DataType::Float64,
        PrimitiveType::Decimal { precision, scale } => {
            DataType::Decimal128(*precision as u8, *scale as i8)
        }
        PrimitiveType::Date => DataType::Date32,
        PrimitiveType::Time => DataType::Time64(TimeUnit::Microsecond),
        PrimitiveType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        PrimitiveType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, utc()),
        PrimitiveType::TimestampNs => DataType::Timestamp(TimeUnit::Nanosecond, None),
        PrimitiveType::TimestamptzNs => DataType::Timestamp(TimeUnit::Nanosecond, utc()),
        PrimitiveType::String => DataType::Utf8,
        PrimitiveType::Uuid => DataType::FixedSizeBinary(16),
        PrimitiveType::Fixed(size) => {
            DataType::FixedSizeBinary(i32::try_from(*size).unwrap_or(i32::MAX))
        }
        PrimitiveType::Binary => DataType::LargeBinary,
    }
}

fn utc() -> Option<Arc<str>> {
    Some(Arc::from("+00:00"))
}
