//! One column of any Arrow type brought to the Arrow type of an Iceberg primitive.
//!
//! Serves both ways: what foreign Parquet files decode to, and what callers hand in. An array
//! that has the type already is passed on, not copied. Pure.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeBinaryArray, FixedSizeBinaryBuilder,
    PrimitiveArray, StringArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    ArrowPrimitiveType, ArrowTimestampType, DataType, Decimal128Type, Int64Type,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow::error::ArrowError;

use super::schema::arrow_primitive;
use crate::spec::PrimitiveType;

/// Why a column cannot be brought to a type.
#[derive(Debug)]
pub(crate) enum Mismatch {
    /// The two types do not go together.
    Type,
    /// A value does not fit; the words say which.
    Value(String),
}

impl From<ArrowError> for Mismatch {
    fn from(error: ArrowError) -> Self {
        Self::Value(error.to_string())
    }
}

/// Brings `array` to the Arrow type of `target` (FIL-3).
///
/// Integers and floats widen, and integers narrow when every value fits; decimals change
/// precision but never scale downwards; timestamps change unit (finer ones are rounded down)
/// and zone (a zone is a label: values are UTC either way); bytes become text if they are UTF-8.
///
/// # Errors
/// [`Mismatch`] without context; the caller knows the column and whose fault it is.
pub(crate) fn convert(array: &ArrayRef, target: &PrimitiveType) -> Result<ArrayRef, Mismatch> {
    let data_type = arrow_primitive(target).map_err(|e| Mismatch::Value(e.to_string()))?;
    if array.data_type() == &data_type {
        return Ok(array.clone());
    }
    match array.data_type() {
        DataType::Null => return Ok(new_null_array(&data_type, array.len())),
        DataType::Dictionary(_, values) => {
            let plain = strict_cast(array, values)?;
            return convert(&plain, target);
        }
        DataType::RunEndEncoded(_, values) => {
            let plain = strict_cast(array, values.data_type())?;
            return convert(&plain, target);
        }
        _ => {}
    }
    match target {
        PrimitiveType::Int | PrimitiveType::Long if array.data_type().is_integer() => {
            strict_cast(array, &data_type)
        }
        PrimitiveType::Float => only(array, &[DataType::Float16], &data_type),
        PrimitiveType::Double => only(array, &[DataType::Float16, DataType::Float32], &data_type),
        PrimitiveType::Date => only(array, &[DataType::Date64], &data_type),
        PrimitiveType::Decimal { precision, scale } => {
            decimal(array, &data_type, *precision, *scale)
        }
        PrimitiveType::Time => time(array),
        PrimitiveType::Timestamp
        | PrimitiveType::Timestamptz
        | PrimitiveType::TimestampNs
        | PrimitiveType::TimestamptzNs => timestamp(array, &data_type),
        PrimitiveType::String => text(array),
        PrimitiveType::Binary => bytes(array),
        PrimitiveType::Fixed(_) | PrimitiveType::Uuid => fixed(array, &data_type, target),
        _ => Err(Mismatch::Type),
    }
}

fn strict_cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, Mismatch> {
    Ok(cast_with_options(array, to, &CastOptions { safe: false, ..Default::default() })?)
}

fn only(array: &ArrayRef, from: &[DataType], to: &DataType) -> Result<ArrayRef, Mismatch> {
    if from.contains(array.data_type()) { strict_cast(array, to) } else { Err(Mismatch::Type) }
}

fn decimal(
    array: &ArrayRef,
    to: &DataType,
    precision: u32,
    scale: u32,
) -> Result<ArrayRef, Mismatch> {
    let (from_precision, from_scale) = match array.data_type() {
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => (u32::from(*p), i64::from(*s)),
        _ => return Err(Mismatch::Type),
    };
    let scale = i64::from(scale);
    if from_scale > scale {
        return Err(Mismatch::Type); // digits would be lost
    }
    if let Some(same_width) = array.as_primitive_opt::<Decimal128Type>()
        && from_scale == scale
        && from_precision <= precision
    {
        return Ok(Arc::new(same_width.clone().with_data_type(to.clone())));
    }
    strict_cast(array, to)
}

fn time(array: &ArrayRef) -> Result<ArrayRef, Mismatch> {
    type Out = Time64MicrosecondType;
    match array.data_type() {
        DataType::Time32(TimeUnit::Second) => scale_up::<Time32SecondType, Out>(array, 1_000_000),
        DataType::Time32(TimeUnit::Millisecond) => {
            scale_up::<Time32MillisecondType, Out>(array, 1_000)
        }
        DataType::Time64(TimeUnit::Nanosecond) => round_down::<Time64NanosecondType, Out>(array),
        _ => Err(Mismatch::Type),
    }
}

fn timestamp(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, Mismatch> {
    let DataType::Timestamp(from, _) = array.data_type() else {
        return Err(Mismatch::Type);
    };
    let DataType::Timestamp(unit, zone) = to else {
        return Err(Mismatch::Type);
    };
    type Micros = TimestampMicrosecondType;
    type Nanos = TimestampNanosecondType;
    let scaled = match (from, unit) {
        (from, to) if from == to => array.clone(),
        (TimeUnit::Second, TimeUnit::Microsecond) => {
            scale_up::<TimestampSecondType, Micros>(array, 1_000_000)?
        }
        (TimeUnit::Millisecond, TimeUnit::Microsecond) => {
            scale_up::<TimestampMillisecondType, Micros>(array, 1_000)?
        }
        (TimeUnit::Nanosecond, TimeUnit::Microsecond) => round_down::<Nanos, Micros>(array)?,
        (TimeUnit::Second, _) => scale_up::<TimestampSecondType, Nanos>(array, 1_000_000_000)?,
        (TimeUnit::Millisecond, _) => {
            scale_up::<TimestampMillisecondType, Nanos>(array, 1_000_000)?
        }
        (TimeUnit::Microsecond, _) => scale_up::<Micros, Nanos>(array, 1_000)?,
        _ => return Err(Mismatch::Type),
    };
    match unit {
        TimeUnit::Microsecond => zoned::<Micros>(&scaled, zone),
        TimeUnit::Nanosecond => zoned::<Nanos>(&scaled, zone),
        _ => Err(Mismatch::Type),
    }
}

/// Same values under another zone; shares the buffers.
fn zoned<T: ArrowTimestampType>(
    array: &ArrayRef,
    zone: &Option<Arc<str>>,
) -> Result<ArrayRef, Mismatch> {
    let array = array.as_primitive_opt::<T>().ok_or(Mismatch::Type)?;
    Ok(Arc::new(array.clone().with_timezone_opt(zone.clone())))
}

fn scale_up<From, To>(array: &ArrayRef, factor: i64) -> Result<ArrayRef, Mismatch>
where
    From: ArrowPrimitiveType,
    From::Native: Into<i64>,
    To: ArrowPrimitiveType<Native = i64>,
{
    let array = array.as_primitive_opt::<From>().ok_or(Mismatch::Type)?;
    let scaled: PrimitiveArray<To> = array.try_unary(|value| {
        let value: i64 = value.into();
        value.checked_mul(factor).ok_or_else(|| {
            ArrowError::ComputeError(format!("{value} is too far away for its new time unit"))
        })
    })?;
    Ok(Arc::new(scaled))
}

fn round_down<From, To>(array: &ArrayRef) -> Result<ArrayRef, Mismatch>
where
    From: ArrowPrimitiveType<Native = i64>,
    To: ArrowPrimitiveType<Native = i64>,
{
    let array = array.as_primitive_opt::<From>().ok_or(Mismatch::Type)?;
    // Towards the past also before 1970, so that order is kept.
    Ok(Arc::new(array.unary::<_, To>(|nanos| nanos.div_euclid(1_000))))
}

fn text(array: &ArrayRef) -> Result<ArrayRef, Mismatch> {
    match array.data_type() {
        DataType::LargeUtf8 | DataType::Utf8View => strict_cast(array, &DataType::Utf8),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let binary = strict_cast(array, &DataType::Binary)?;
            Ok(Arc::new(StringArray::try_from_binary(binary.as_binary::<i32>().clone())?))
        }
        DataType::FixedSizeBinary(_) => {
            let binary = strict_cast(array, &DataType::Binary)?;
            text(&binary)
        }
        _ => Err(Mismatch::Type),
    }
}

fn bytes(array: &ArrayRef) -> Result<ArrayRef, Mismatch> {
    match array.data_type() {
        DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_)
        | DataType::Utf8
        | DataType::LargeUtf8 => strict_cast(array, &DataType::Binary),
        DataType::Utf8View => bytes(&strict_cast(array, &DataType::Utf8)?),
        _ => Err(Mismatch::Type),
    }
}

fn fixed(array: &ArrayRef, to: &DataType, target: &PrimitiveType) -> Result<ArrayRef, Mismatch> {
    let DataType::FixedSizeBinary(length) = to else {
        return Err(Mismatch::Type);
    };
    match array.data_type() {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let binary = strict_cast(array, &DataType::Binary)?;
            fixed_from_binary(binary.as_binary::<i32>(), *length)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
            if matches!(target, PrimitiveType::Uuid) =>
        {
            let text = strict_cast(array, &DataType::Utf8)?;
            uuid_from_text(text.as_string::<i32>())
        }
        _ => Err(Mismatch::Type),
    }
}

fn fixed_from_binary(array: &BinaryArray, length: i32) -> Result<ArrayRef, Mismatch> {
    let mut out = FixedSizeBinaryBuilder::with_capacity(array.len(), length);
    for value in array {
        match value {
            Some(value) => out.append_value(value)?,
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn uuid_from_text(array: &StringArray) -> Result<ArrayRef, Mismatch> {
    let mut out = FixedSizeBinaryBuilder::with_capacity(array.len(), 16);
    for value in array {
        match value {
            Some(value) => {
                let uuid = uuid::Uuid::parse_str(value)
                    .map_err(|_| Mismatch::Value(format!("`{value}` is not a UUID")))?;
                out.append_value(uuid.as_bytes())?;
            }
            None => out.append_null(),
        }
    }
    let out: FixedSizeBinaryArray = out.finish();
    Ok(Arc::new(out))
}

/// Row numbers from a range of `u64`, for `_pos`.
pub(crate) fn positions(ranges: &[std::ops::Range<u64>]) -> ArrayRef {
    let values = ranges.iter().flat_map(|r| r.clone()).map(|p| p as i64);
    Arc::new(PrimitiveArray::<Int64Type>::from_iter_values(values))
}
