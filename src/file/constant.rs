//! Columns of one repeated value: partition values, metadata columns and defaults.
//!
//! Pure.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int32Array, Int64Array, StringArray, StructArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray, new_null_array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, TimeUnit};

use crate::error::{Error, Result};
use crate::spec::{Literal, PrimitiveLiteral};

/// `rows` times `value` as the Arrow type `data_type`; `None` is null.
///
/// An `int` serves a `long` column and a `float` a `double` one, because partition values are
/// not rewritten when their source column is promoted.
///
/// # Errors
/// `CorruptData` for a value that is not of the type.
pub(crate) fn constant(
    value: Option<&Literal>,
    data_type: &DataType,
    rows: usize,
) -> Result<ArrayRef> {
    let Some(value) = value else {
        return Ok(new_null_array(data_type, rows));
    };
    let one = single(value, data_type)?;
    if rows == 1 {
        return Ok(one);
    }
    let indices = Int32Array::from(vec![0; rows]);
    Ok(take(&one, &indices, None)?)
}

/// An array of one value.
fn single(value: &Literal, data_type: &DataType) -> Result<ArrayRef> {
    match (value, data_type) {
        (Literal::Primitive(value), _) => primitive(value, data_type),
        (Literal::Struct(values), DataType::Struct(fields))
            if values.fields().len() == fields.len() =>
        {
            let columns = fields
                .iter()
                .zip(values.iter())
                .map(|(field, value)| constant(value, field.data_type(), 1))
                .collect::<Result<Vec<_>>>()?;
            if fields.is_empty() {
                return Ok(Arc::new(StructArray::new_empty_fields(1, None)));
            }
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns, None)?))
        }
        _ => Err(unfit(value, data_type)),
    }
}

fn primitive(value: &PrimitiveLiteral, data_type: &DataType) -> Result<ArrayRef> {
    use PrimitiveLiteral as L;
    Ok(match (value, data_type) {
        (L::Boolean(v), DataType::Boolean) => Arc::new(BooleanArray::from(vec![*v])),
        (L::Int(v), DataType::Int32) => Arc::new(Int32Array::from(vec![*v])),
        (L::Int(v), DataType::Int64) => Arc::new(Int64Array::from(vec![i64::from(*v)])),
        (L::Int(v), DataType::Date32) => Arc::new(Date32Array::from(vec![*v])),
        (L::Long(v), DataType::Int64) => Arc::new(Int64Array::from(vec![*v])),
        (L::Float(v), DataType::Float32) => Arc::new(Float32Array::from(vec![v.0])),
        (L::Float(v), DataType::Float64) => Arc::new(Float64Array::from(vec![f64::from(v.0)])),
        (L::Double(v), DataType::Float64) => Arc::new(Float64Array::from(vec![v.0])),
        (L::Long(v), DataType::Time64(TimeUnit::Microsecond)) => {
            Arc::new(Time64MicrosecondArray::from(vec![*v]))
        }
        (L::Long(v), DataType::Timestamp(TimeUnit::Microsecond, zone)) => {
            Arc::new(TimestampMicrosecondArray::from(vec![*v]).with_timezone_opt(zone.clone()))
        }
        (L::Long(v), DataType::Timestamp(TimeUnit::Nanosecond, zone)) => {
            Arc::new(TimestampNanosecondArray::from(vec![*v]).with_timezone_opt(zone.clone()))
        }
        (L::String(v), DataType::Utf8) => Arc::new(StringArray::from(vec![v.as_str()])),
        (L::Binary(v), DataType::Binary) => Arc::new(BinaryArray::from(vec![v.as_slice()])),
        (L::Binary(v), DataType::FixedSizeBinary(length))
            if v.len() as i64 == i64::from(*length) =>
        {
            fixed(v)?
        }
        (L::UInt128(v), DataType::FixedSizeBinary(16)) => fixed(&v.to_be_bytes())?,
        (L::Int128(v), DataType::Decimal128(..)) => {
            Arc::new(Decimal128Array::from(vec![*v]).with_data_type(data_type.clone()))
        }
        _ => return Err(unfit(&Literal::Primitive(value.clone()), data_type)),
    })
}

fn fixed(bytes: &[u8]) -> Result<ArrayRef> {
    Ok(Arc::new(FixedSizeBinaryArray::try_from_iter(std::iter::once(bytes))?))
}

fn unfit(value: &Literal, data_type: &DataType) -> Error {
    Error::corrupt("a constant is not of its column's type")
        .with_context("value", format!("{value:?}"))
        .with_context("type", data_type)
}
