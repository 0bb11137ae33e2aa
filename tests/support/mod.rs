//! What the model test and the simulation share: a small table, its rows as plain values, and a
//! scan as a sorted list of them.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod breaks;
pub mod history;
pub mod lanes;
pub mod replay;
pub mod seeds;
pub mod sink;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use meltwater::arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, StringArray};
use meltwater::arrow::datatypes::{DataType, Int32Type, Int64Type};
use meltwater::arrow::record_batch::RecordBatch;
use meltwater::file::arrow_schema;
use meltwater::spec::{NestedField, PrimitiveType, Schema, SchemaRef, Type};
use meltwater::table::{At, Table};
use meltwater::{Error, Result};

/// A value of one column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Int(i64),
    Text(String),
}

/// A row: values by field id; a null or a column added later is absent.
pub type Row = BTreeMap<i32, Value>;

pub const ID: i32 = 1;
pub const REGION: i32 = 2;
pub const AMOUNT: i32 = 3;
pub const NAME: i32 = 4;

/// `id long, region string` (the key), `amount int, name string`.
pub fn schema() -> Schema {
    Schema::builder()
        .with_fields([
            NestedField::required(ID, "id", Type::Primitive(PrimitiveType::Long)).into(),
            NestedField::required(REGION, "region", Type::Primitive(PrimitiveType::String)).into(),
            NestedField::optional(AMOUNT, "amount", Type::Primitive(PrimitiveType::Int)).into(),
            NestedField::optional(NAME, "name", Type::Primitive(PrimitiveType::String)).into(),
        ])
        .with_identifier_field_ids([ID, REGION])
        .build()
        .expect("the schema is valid")
}

pub fn region(n: u64) -> String {
    ["north", "south", "east"][(n % 3) as usize].to_string()
}

pub fn row(id: i64, region: &str, amount: Option<i64>, name: Option<&str>) -> Row {
    let mut row = Row::from([(ID, Value::Int(id)), (REGION, Value::Text(region.into()))]);
    row.extend(amount.map(|a| (AMOUNT, Value::Int(a))));
    row.extend(name.map(|n| (NAME, Value::Text(n.into()))));
    row
}

pub fn key(row: &Row) -> (Value, Value) {
    (row[&ID].clone(), row[&REGION].clone())
}

/// Rows as a batch in the shape of `schema`; columns a row does not have are null.
pub fn batch(schema: &SchemaRef, rows: &[Row]) -> Result<RecordBatch> {
    let arrow = arrow_schema(schema)?;
    let columns = schema.as_struct().fields().iter().zip(arrow.fields()).map(|(field, target)| {
        let values = rows.iter().map(|r| r.get(&field.id));
        let int = |v: Option<&Value>| match v {
            Some(Value::Int(v)) => Some(*v),
            _ => None,
        };
        match target.data_type() {
            DataType::Int32 => {
                Arc::new(values.map(|v| int(v).map(|v| v as i32)).collect::<Int32Array>())
                    as ArrayRef
            }
            DataType::Int64 => Arc::new(values.map(int).collect::<Int64Array>()),
            _ => Arc::new(
                values
                    .map(|v| match v {
                        Some(Value::Text(v)) => Some(v.as_str()),
                        _ => None,
                    })
                    .collect::<StringArray>(),
            ),
        }
    });
    Ok(RecordBatch::try_new(arrow.clone(), columns.collect())?)
}

/// The rows of batches that carry field ids, in order.
pub fn rows(schema: &SchemaRef, batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        for at in 0..batch.num_rows() {
            let mut row = Row::new();
            for field in schema.as_struct().fields() {
                let column = batch.column_by_name(&field.name).expect("every column is read");
                if column.is_null(at) {
                    continue;
                }
                let value = match column.data_type() {
                    DataType::Int32 => {
                        Value::Int(i64::from(column.as_primitive::<Int32Type>().value(at)))
                    }
                    DataType::Int64 => Value::Int(column.as_primitive::<Int64Type>().value(at)),
                    _ => Value::Text(column.as_string::<i32>().value(at).to_string()),
                };
                row.insert(field.id, value);
            }
            rows.push(row);
        }
    }
    rows
}

/// Everything a scan gives, sorted.
pub async fn scan(table: &Table, at: At) -> Result<Vec<Row>> {
    let schema = match table.snapshot_at(&at)? {
        None => return Ok(Vec::new()),
        Some(snapshot) if matches!(at, At::Snapshot(_)) => table.schema_of(&snapshot).clone(),
        Some(_) => table.schema().clone(),
    };
    let batches: Vec<RecordBatch> = table.scan().at(at).to_batches().await?.try_collect().await?;
    let mut found = rows(&schema, &batches);
    found.sort();
    Ok(found)
}

/// A failed check as an error that names the step.
pub fn differ(step: &str, expected: &[Row], found: &[Row]) -> Error {
    let missing: Vec<_> = expected.iter().filter(|r| !found.contains(r)).take(3).collect();
    let extra: Vec<_> = found.iter().filter(|r| !expected.contains(r)).take(3).collect();
    Error::internal(format!(
        "after {step}: expected {} rows, found {}; missing {missing:?}, extra {extra:?}",
        expected.len(),
        found.len()
    ))
}
