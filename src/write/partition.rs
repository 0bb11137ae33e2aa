//! Rows grouped by the partition they belong to.
//!
//! Pure. A batch of one partition, the common case, is recognised by comparing encoded rows and
//! passed on whole; partition values become literals once per partition, not once per row.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow::row::{RowConverter, Rows, SortField};

use super::transform::transform;
use crate::error::{Error, Result};
use crate::file::{leaf_at, leaf_path};
use crate::spec::{
    Datum, Literal, PartitionField, PartitionKey, PartitionSpec, PrimitiveLiteral, PrimitiveType,
    Schema, Struct, Transform, Type, datum_of,
};

/// The rows of a batch that belong to one partition.
#[derive(Debug)]
pub(super) struct Group {
    /// The partition's number within one [`Partitioner`].
    pub partition: usize,
    /// The rows, in their old order.
    pub rows: RecordBatch,
    /// Where they stood in the batch; `None` when the batch is whole.
    pub indices: Option<Vec<u32>>,
}

/// One partition field: where its source is, and what its values are.
#[derive(Debug)]
struct Field {
    path: Vec<usize>,
    transform: Transform,
    uuid: bool,
}

/// Splits batches by one partition spec.
#[derive(Debug)]
pub(super) struct Partitioner {
    spec_id: i32,
    fields: Vec<Field>,
    /// Made with the first batch, when the types are known.
    converter: Option<RowConverter>,
    numbers: HashMap<Box<[u8]>, usize>,
    /// Numbers of partitions that callers named.
    known: HashMap<PartitionKey, usize>,
    keys: Vec<PartitionKey>,
}

impl Partitioner {
    /// Splits batches of `schema` by `spec`.
    ///
    /// # Errors
    /// `InvalidInput` when the schema lacks a source column.
    pub(super) fn new(spec: &PartitionSpec, schema: &Schema) -> Result<Self> {
        let field = |f: &PartitionField| {
            let source = schema.field_by_id(f.source_id).map(|s| s.field_type.as_ref());
            let uuid = matches!(source, Some(Type::Primitive(PrimitiveType::Uuid)));
            match leaf_path(schema, f.source_id) {
                Some(path) => Ok(Field { path, transform: f.transform, uuid }),
                // A void field is null whatever its source is, even one that was dropped.
                None if f.transform == Transform::Void => {
                    Ok(Field { path: Vec::new(), transform: f.transform, uuid })
                }
                None => Err(Error::invalid("rows lack the source column of a partition field")
                    .with_context("partition field", &f.name)
                    .with_context("source id", f.source_id)),
            }
        };
        let fields = spec.fields().iter().map(field).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            spec_id: spec.spec_id(),
            fields,
            converter: None,
            numbers: HashMap::new(),
            known: HashMap::new(),
            keys: Vec::new(),
        })
    }

    /// The partition of a group.
    pub(super) fn key(&self, partition: usize) -> Result<&PartitionKey> {
        self.keys.get(partition).ok_or_else(|| Error::internal("a partition has no number"))
    }

    /// A group for rows whose partition the caller knows, of whatever spec.
    pub(super) fn group_of(&mut self, key: &PartitionKey, rows: RecordBatch) -> Group {
        let partition = match self.known.get(key) {
            Some(number) => *number,
            None => {
                self.keys.push(key.clone());
                self.known.insert(key.clone(), self.keys.len() - 1);
                self.keys.len() - 1
            }
        };
        Group { partition, rows, indices: None }
    }

    /// Splits a batch; the order of rows within a partition is kept.
    ///
    /// # Errors
    /// `Unsupported` for a transform that is not known.
    pub(super) fn split(&mut self, batch: &RecordBatch) -> Result<Vec<Group>> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let values = self.values(batch)?;
        if values.is_empty() {
            let partition = self.number(&[], &[], 0)?;
            return Ok(vec![Group { partition, rows: batch.clone(), indices: None }]);
        }
        let encoded = self.encode(&values)?;
        let first = encoded.row(0);
        if (1..batch.num_rows()).all(|i| encoded.row(i) == first) {
            let partition = self.number(first.as_ref(), &values, 0)?;
            return Ok(vec![Group { partition, rows: batch.clone(), indices: None }]);
        }
        let mut order: Vec<usize> = Vec::new();
        let mut members: HashMap<usize, Vec<u32>> = HashMap::new();
        let mut last: Option<(usize, usize)> = None;
        for index in 0..batch.num_rows() {
            let row = encoded.row(index);
            let partition = match last {
                // Neighbours often share a partition.
                Some((at, partition)) if encoded.row(at) == row => partition,
                _ => self.number(row.as_ref(), &values, index)?,
            };
            last = Some((index, partition));
            let rows = members.entry(partition).or_insert_with(|| {
                order.push(partition);
                Vec::new()
            });
            rows.push(index as u32);
        }
        order
            .into_iter()
            .map(|partition| group(batch, partition, members.remove(&partition)))
            .collect()
    }

    fn values(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.fields
            .iter()
            .map(|field| {
                if field.transform == Transform::Void {
                    return Ok(arrow::array::new_null_array(&DataType::Int32, batch.num_rows()));
                }
                let source = leaf_at(batch, &field.path)
                    .ok_or_else(|| Error::internal("a partition source column is missing"))?;
                transform(&source, field.transform)
            })
            .collect()
    }

    fn encode(&mut self, values: &[ArrayRef]) -> Result<Rows> {
        let converter = match &mut self.converter {
            Some(converter) => converter,
            none => {
                let fields = values.iter().map(|v| SortField::new(v.data_type().clone()));
                none.insert(RowConverter::new(fields.collect())?)
            }
        };
        Ok(converter.convert_columns(values)?)
    }

    fn number(&mut self, encoded: &[u8], values: &[ArrayRef], index: usize) -> Result<usize> {
        if let Some(number) = self.numbers.get(encoded) {
            return Ok(*number);
        }
        let literals =
            values.iter().zip(&self.fields).map(|(array, f)| literal_at(array, index, f.uuid));
        let values = Struct::from_iter(literals.collect::<Result<Vec<_>>>()?);
        self.keys.push(PartitionKey { spec_id: self.spec_id, values });
        let number = self.keys.len() - 1;
        self.numbers.insert(encoded.into(), number);
        Ok(number)
    }
}

fn group(batch: &RecordBatch, partition: usize, rows: Option<Vec<u32>>) -> Result<Group> {
    let indices = rows.unwrap_or_default();
    let (first, last) = (indices.first().copied(), indices.last().copied());
    let rows = match (first, last) {
        // A run needs no copy.
        (Some(first), Some(last)) if (last - first) as usize + 1 == indices.len() => {
            batch.slice(first as usize, indices.len())
        }
        _ => take_record_batch(batch, &UInt32Array::from(indices.clone()))?,
    };
    Ok(Group { partition, rows, indices: Some(indices) })
}

/// UUIDs are numbers as partition values, other fixed bytes are bytes.
fn fixed(bytes: &[u8], uuid: bool) -> Literal {
    match <[u8; 16]>::try_from(bytes) {
        Ok(bytes) if uuid => {
            Literal::Primitive(PrimitiveLiteral::UInt128(u128::from_be_bytes(bytes)))
        }
        _ => Literal::binary(bytes.to_vec()),
    }
}

/// The values of a column as data of a type; nulls are left out.
///
/// # Errors
/// `Unsupported` for types that are no partition values.
pub(crate) fn datums_of(array: &ArrayRef, kind: &PrimitiveType) -> Result<Vec<Datum>> {
    let uuid = *kind == PrimitiveType::Uuid;
    let mut datums = Vec::with_capacity(array.len());
    for index in 0..array.len() {
        if let Some(Literal::Primitive(value)) = literal_at(array, index, uuid)? {
            let datum = datum_of(kind, &value);
            datums.push(datum.ok_or_else(|| Error::internal("a value is not of its type"))?);
        }
    }
    Ok(datums)
}

/// One value of an array as a literal; null is `None`.
fn literal_at(array: &ArrayRef, index: usize, uuid: bool) -> Result<Option<Literal>> {
    if array.is_null(index) {
        return Ok(None);
    }
    Ok(Some(match array.data_type() {
        DataType::Boolean => Literal::bool(array.as_boolean().value(index)),
        DataType::Int32 => Literal::int(array.as_primitive::<Int32Type>().value(index)),
        DataType::Int64 => Literal::long(array.as_primitive::<Int64Type>().value(index)),
        DataType::Float32 => Literal::float(array.as_primitive::<Float32Type>().value(index)),
        DataType::Float64 => Literal::double(array.as_primitive::<Float64Type>().value(index)),
        DataType::Date32 => Literal::date(array.as_primitive::<Date32Type>().value(index)),
        DataType::Time64(_) => {
            Literal::time(array.as_primitive::<Time64MicrosecondType>().value(index))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Literal::timestamp(array.as_primitive::<TimestampMicrosecondType>().value(index))
        }
        DataType::Timestamp(_, _) => {
            Literal::long(array.as_primitive::<TimestampNanosecondType>().value(index))
        }
        DataType::Decimal128(..) => {
            Literal::decimal(array.as_primitive::<Decimal128Type>().value(index))
        }
        DataType::Utf8 => Literal::string(array.as_string::<i32>().value(index)),
        DataType::Binary => Literal::binary(array.as_binary::<i32>().value(index).to_vec()),
        DataType::LargeBinary => Literal::binary(array.as_binary::<i64>().value(index).to_vec()),
        DataType::FixedSizeBinary(_) => fixed(array.as_fixed_size_binary().value(index), uuid),
        other => {
            return Err(Error::unsupported(format!("partition values of type {other}")));
        }
    }))
}
