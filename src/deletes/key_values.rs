//! Key columns read as plain integers or bytes, which is faster than as encoded rows. Pure.

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};

use crate::error::{Error, Result};

pub(super) fn is_int_like(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Time64(TimeUnit::Microsecond)
            | DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _)
    )
}

/// A column of integers, dates or times, read as integers.
pub(crate) enum IntValues<'a> {
    I32(&'a [i32]),
    I64(&'a [i64]),
}

impl IntValues<'_> {
    /// The value of a row; whatever its slot holds if it is null.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> i64 {
        match self {
            Self::I32(values) => values.get(row).copied().map_or(0, i64::from),
            Self::I64(values) => values.get(row).copied().unwrap_or(0),
        }
    }

    /// Smallest and largest value; slots of nulls count too, which only widens the range.
    pub(super) fn range(&self) -> Option<(i64, i64)> {
        match self {
            Self::I32(values) => min_max(values).map(|(a, b)| (i64::from(a), i64::from(b))),
            Self::I64(values) => min_max(values),
        }
    }
}

fn min_max<T: Copy + Ord>(values: &[T]) -> Option<(T, T)> {
    let first = *values.first()?;
    Some(values.iter().fold((first, first), |(low, high), v| (low.min(*v), high.max(*v))))
}

/// The integers of a column and which of them are there; `None` for other types.
pub(crate) fn int_values(array: &ArrayRef) -> Option<(IntValues<'_>, Option<&NullBuffer>)> {
    fn of<T: ArrowPrimitiveType>(array: &ArrayRef) -> Option<&PrimitiveArray<T>> {
        array.as_primitive_opt::<T>()
    }
    let values = match array.data_type() {
        DataType::Int32 => IntValues::I32(of::<Int32Type>(array)?.values()),
        DataType::Date32 => IntValues::I32(of::<Date32Type>(array)?.values()),
        DataType::Int64 => IntValues::I64(of::<Int64Type>(array)?.values()),
        DataType::Time64(_) => IntValues::I64(of::<Time64MicrosecondType>(array)?.values()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            IntValues::I64(of::<TimestampMicrosecondType>(array)?.values())
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            IntValues::I64(of::<TimestampNanosecondType>(array)?.values())
        }
        _ => return None,
    };
    Some((values, array.nulls()))
}

/// A column of strings or binaries, read as bytes.
pub(crate) enum BytesColumn<'a> {
    Utf8(&'a arrow::array::StringArray),
    Binary(&'a arrow::array::LargeBinaryArray),
    Fixed(&'a arrow::array::FixedSizeBinaryArray),
}

impl<'a> BytesColumn<'a> {
    /// # Errors
    /// `Internal` for other types.
    pub(crate) fn new(array: &'a ArrayRef) -> Result<Self> {
        let column = match array.data_type() {
            DataType::Utf8 => array.as_string_opt::<i32>().map(Self::Utf8),
            DataType::LargeBinary => array.as_binary_opt::<i64>().map(Self::Binary),
            DataType::FixedSizeBinary(_) => array.as_fixed_size_binary_opt().map(Self::Fixed),
            _ => None,
        };
        column.ok_or_else(|| Error::internal("a byte key column is of another type"))
    }

    /// The bytes of a row; `None` if it is null.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Self::Utf8(a) => a.is_valid(row).then(|| a.value(row).as_bytes()),
            Self::Binary(a) => a.is_valid(row).then(|| a.value(row)),
            Self::Fixed(a) => a.is_valid(row).then(|| a.value(row)),
        }
    }
}

/// Floats with every NaN replaced by one, so that NaN equals NaN once encoded (DEL-7).
pub(crate) fn canonical(arrays: &[ArrayRef]) -> Vec<ArrayRef> {
    let one_nan = |array: &ArrayRef| -> ArrayRef {
        match array.data_type() {
            DataType::Float32 => {
                let floats: &Float32Array = array.as_primitive();
                let fix = |v: f32| if v.is_nan() { f32::NAN } else { v };
                std::sync::Arc::new(floats.unary::<_, Float32Type>(fix))
            }
            DataType::Float64 => {
                let floats: &Float64Array = array.as_primitive();
                let fix = |v: f64| if v.is_nan() { f64::NAN } else { v };
                std::sync::Arc::new(floats.unary::<_, Float64Type>(fix))
            }
            _ => array.clone(),
        }
    };
    arrays.iter().map(one_nan).collect()
}
