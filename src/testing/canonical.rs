//! Rows as canonical JSON lines, which every engine can make alike: for comparing tables.
//!
//! One object a row, keys sorted by bytes, no blanks. Numbers: int and long; everything else
//! that JSON has no exact form for is a string: floats as Rust's `{:e}`, decimals with exactly
//! their scale, dates and times in ISO form with six digits (nine for nanoseconds), UUIDs with
//! hyphens, binary in hexadecimal. Lists are arrays, maps arrays of pairs sorted by key.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow::record_batch::RecordBatch;
use chrono::{DateTime, Duration, NaiveDate};
use meltwater::spec::{PrimitiveType, Schema, Type};
use serde_json::{Map, Value};

/// The rows of a batch of `schema` as canonical lines without line ends, in row order.
///
/// # Panics
/// When the batch is not of the schema: this is for tests.
pub fn canonical_lines(batch: &RecordBatch, schema: &Schema) -> Vec<String> {
    let fields = schema.as_struct().fields();
    let line = |row| {
        let columns = fields.iter().zip(batch.columns());
        let pairs = columns.map(|(f, a)| (f.name.clone(), value(a, row, &f.field_type)));
        Value::Object(pairs.collect::<Map<_, _>>()).to_string()
    };
    (0..batch.num_rows()).map(line).collect()
}

fn value(array: &ArrayRef, row: usize, data_type: &Type) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match data_type {
        Type::Primitive(primitive) => primitive_value(array, row, primitive),
        Type::Struct(fields) => {
            let columns = fields.fields().iter().zip(array.as_struct().columns());
            let pairs = columns.map(|(f, a)| (f.name.clone(), value(a, row, &f.field_type)));
            Value::Object(pairs.collect())
        }
        Type::List(list) => {
            let items = match array.as_list_opt::<i32>() {
                Some(array) => array.value(row),
                None => array.as_list::<i64>().value(row),
            };
            let item = |at| value(&items, at, &list.element_field.field_type);
            Value::Array((0..items.len()).map(item).collect())
        }
        Type::Map(map) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let pair = |at| {
                let key = value(keys, at, &map.key_field.field_type);
                Value::Array(vec![key, value(values, at, &map.value_field.field_type)])
            };
            let mut pairs: Vec<Value> = (0..entries.len()).map(pair).collect();
            pairs.sort_by_key(|pair| pair[0].to_string());
            Value::Array(pairs)
        }
    }
}

fn primitive_value(array: &ArrayRef, row: usize, primitive: &PrimitiveType) -> Value {
    let text = match primitive {
        PrimitiveType::Boolean => return array.as_boolean().value(row).into(),
        PrimitiveType::Int => return array.as_primitive::<Int32Type>().value(row).into(),
        PrimitiveType::Long => return array.as_primitive::<Int64Type>().value(row).into(),
        PrimitiveType::Float => exponent(array.as_primitive::<Float32Type>().value(row)),
        PrimitiveType::Double => exponent(array.as_primitive::<Float64Type>().value(row)),
        PrimitiveType::Decimal { .. } => {
            array.as_primitive::<Decimal128Type>().value_as_string(row)
        }
        PrimitiveType::Date => date(array.as_primitive::<Date32Type>().value(row)),
        PrimitiveType::Time => {
            let micros = array.as_primitive::<Time64MicrosecondType>().value(row);
            timestamp(micros / 1_000_000, micros % 1_000_000, 6).split_off(11)
        }
        PrimitiveType::Timestamp | PrimitiveType::Timestamptz => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            timestamp(micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000), 6)
        }
        PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs => {
            let nanos = array.as_primitive::<TimestampNanosecondType>().value(row);
            timestamp(nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000), 9)
        }
        PrimitiveType::String => array.as_string::<i32>().value(row).to_string(),
        PrimitiveType::Uuid => {
            let hex = hex(array.as_fixed_size_binary().value(row));
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            parts.join("-")
        }
        PrimitiveType::Fixed(_) => hex(array.as_fixed_size_binary().value(row)),
        PrimitiveType::Binary => match array.as_binary_opt::<i32>() {
            Some(array) => hex(array.value(row)),
            None => hex(array.as_binary::<i64>().value(row)),
        },
    };
    let zone = matches!(primitive, PrimitiveType::Timestamptz | PrimitiveType::TimestamptzNs);
    Value::String(if zone { text + "+00:00" } else { text })
}

fn exponent<F: std::fmt::LowerExp>(number: F) -> String {
    format!("{number:e}")
}

fn date(days: i32) -> String {
    let epoch = NaiveDate::default();
    (epoch + Duration::days(days.into())).format("%Y-%m-%d").to_string()
}

fn timestamp(seconds: i64, fraction: i64, digits: usize) -> String {
    let time = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    let mut text = time.format("%Y-%m-%dT%H:%M:%S").to_string();
    let _ = write!(text, ".{fraction:0digits$}");
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
