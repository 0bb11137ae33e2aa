//! The canonical form of rows: sorted JSON lines that any engine's rows can be brought to, so
//! that equal tables have equal bytes (`sha256sum` compares them).
//!
//! Keys sorted by their bytes, no blanks. Numbers for `int` and `long`; floats as text in
//! exponent form (`1.5e0`, `NaN`, `inf`); decimals as text with exactly their scale; dates,
//! times and timestamps as ISO text with six digits; UUIDs with hyphens; binary as hex; maps
//! as pairs sorted by key. `testdata/fixtures/SOURCES.md` says the same.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::spec::{PrimitiveType, Schema, Type};

/// One line per row, unsorted, without line ends. Columns are taken by name.
pub(super) fn canonical_lines(batch: &RecordBatch, schema: &Schema) -> Result<Vec<String>> {
    let columns = batch.schema();
    let typed: Vec<_> = columns
        .fields()
        .iter()
        .map(|f| {
            (
                f.name().clone(),
                schema.field_by_name(f.name()).map(|n| n.field_type.as_ref().clone()),
            )
        })
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let mut object = Map::new();
            for ((name, kind), column) in typed.iter().zip(batch.columns()) {
                object.insert(name.clone(), value(column.as_ref(), row, kind.as_ref())?);
            }
            Ok(Value::Object(object).to_string())
        })
        .collect()
}

fn value(array: &dyn Array, row: usize, kind: Option<&Type>) -> Result<Value> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    match kind {
        Some(Type::Struct(fields)) => {
            let source = array.as_struct();
            let mut object = Map::new();
            for (field, child) in source.fields().iter().zip(source.columns()) {
                let inner = fields.field_by_name(field.name()).map(|f| f.field_type.as_ref());
                object.insert(field.name().clone(), value(child.as_ref(), row, inner)?);
            }
            Ok(Value::Object(object))
        }
        Some(Type::List(list)) => {
            let items = array.as_list::<i32>().value(row);
            let kind = Some(list.element_field.field_type.as_ref());
            (0..items.len()).map(|i| value(items.as_ref(), i, kind)).collect()
        }
        Some(Type::Map(map)) => {
            let entries = array.as_map().value(row);
            let mut pairs = (0..entries.len())
                .map(|i| {
                    let key = value(
                        entries.column(0).as_ref(),
                        i,
                        Some(map.key_field.field_type.as_ref()),
                    )?;
                    let item = value(
                        entries.column(1).as_ref(),
                        i,
                        Some(map.value_field.field_type.as_ref()),
                    )?;
                    Ok((key.to_string(), Value::Array(vec![key, item])))
                })
                .collect::<Result<Vec<_>>>()?;
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(pairs.into_iter().map(|(_, pair)| pair).collect())
        }
        Some(Type::Primitive(PrimitiveType::Uuid)) => {
            let bytes = array.as_fixed_size_binary().value(row);
            let uuid = Uuid::from_slice(bytes)
                .map_err(|e| Error::corrupt("a UUID is not 16 bytes").with_source(e))?;
            Ok(uuid.hyphenated().to_string().into())
        }
        _ => primitive(array, row),
    }
}

fn primitive(array: &dyn Array, row: usize) -> Result<Value> {
    Ok(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float32 => format!("{:e}", array.as_primitive::<Float32Type>().value(row)).into(),
        DataType::Float64 => format!("{:e}", array.as_primitive::<Float64Type>().value(row)).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Binary => hex(array.as_binary::<i32>().value(row)).into(),
        DataType::LargeBinary => hex(array.as_binary::<i64>().value(row)).into(),
        DataType::FixedSizeBinary(_) => hex(array.as_fixed_size_binary().value(row)).into(),
        DataType::Decimal128(..) => {
            array.as_primitive::<Decimal128Type>().value_as_string(row).into()
        }
        DataType::Date32 => date(array.as_primitive::<Date32Type>().value(row))?.into(),
        DataType::Time64(_) => {
            time(array.as_primitive::<Time64MicrosecondType>().value(row))?.into()
        }
        DataType::Timestamp(_, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            timestamp(micros, zone.is_some())?.into()
        }
        other => return Err(Error::unsupported(format!("no canonical form for {other}"))),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn date(days: i32) -> Result<String> {
    NaiveDate::from_ymd_opt(1970, 1, 1)
        .and_then(|epoch| epoch.checked_add_signed(TimeDelta::days(days.into())))
        .map(|date| date.format("%Y-%m-%d").to_string())
        .ok_or_else(|| Error::corrupt(format!("no such date: {days} days after 1970")))
}

fn time(micros: i64) -> Result<String> {
    u32::try_from(micros / 1_000_000)
        .ok()
        .and_then(|seconds| {
            let nanos = u32::try_from(micros % 1_000_000 * 1000).ok()?;
            NaiveTime::from_num_seconds_from_midnight_opt(seconds, nanos)
        })
        .map(|time| time.format("%H:%M:%S%.6f").to_string())
        .ok_or_else(|| Error::corrupt(format!("no such time of day: {micros} µs")))
}

fn timestamp(micros: i64, zoned: bool) -> Result<String> {
    let time = DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| Error::corrupt(format!("no such timestamp: {micros} µs after 1970")))?;
    let zone = if zoned { "+00:00" } else { "" };
    Ok(format!("{}{zone}", time.format("%Y-%m-%dT%H:%M:%S%.6f")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_six_digits_and_floats_an_exponent() {
        assert_eq!(timestamp(-1, true).unwrap(), "1969-12-31T23:59:59.999999+00:00");
        assert_eq!(time(3_723_000_004).unwrap(), "01:02:03.000004");
        assert_eq!(date(-1).unwrap(), "1969-12-31");
        assert_eq!(format!("{:e}", 1.5f64), "1.5e0");
        assert!(timestamp(i64::MAX, false).is_err());
    }
}
