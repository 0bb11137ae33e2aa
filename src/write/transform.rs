//! Partition transforms over whole columns.
//!
//! Pure. Calendar arithmetic rounds towards the past on both sides of 1970 and knows every
//! timestamp that 64 bits can hold; hashing is the `iceberg` crate's.
//!
//! # Source
//! Iceberg spec v2, "Partition Transforms".

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Date32Array, Float32Array, Float64Array, Int32Array,
    StringArray, new_null_array,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampNanosecondType,
};

use crate::error::{Error, Result};
use crate::spec::{Transform, create_transform_function};

const MICROS_PER_HOUR: i64 = 3_600_000_000;
const HOURS_PER_DAY: i64 = 24;

/// The partition values of a source column (WR-1).
///
/// # Errors
/// `Unsupported` for transforms or source types that this version does not know.
pub(crate) fn transform(source: &ArrayRef, transform: Transform) -> Result<ArrayRef> {
    match transform {
        Transform::Identity => Ok(identity(source)),
        Transform::Void => Ok(new_null_array(source.data_type(), source.len())),
        Transform::Year => calendar(source, transform, |date| i64::from(date.year) - 1970),
        Transform::Month => calendar(source, transform, |date| {
            (i64::from(date.year) - 1970) * 12 + i64::from(date.month) - 1
        }),
        Transform::Day => {
            let days = days(source).ok_or_else(|| unknown(source, transform))?;
            Ok(Arc::new(Date32Array::new(days.values().clone(), days.nulls().cloned())))
        }
        Transform::Hour => hours(source).ok_or_else(|| unknown(source, transform)),
        Transform::Bucket(_) => {
            Ok(create_transform_function(&transform)?.transform(source.clone())?)
        }
        Transform::Truncate(width) => {
            truncate(source, width).ok_or_else(|| unknown(source, transform))
        }
        Transform::Unknown => Err(unknown(source, transform)),
    }
}

fn unknown(source: &ArrayRef, transform: Transform) -> Error {
    Error::unsupported(format!("partitioning by {transform} of {}", source.data_type()))
}

/// One NaN stands for all: partitions are told apart by bits.
fn identity(source: &ArrayRef) -> ArrayRef {
    match source.data_type() {
        DataType::Float32 => {
            let array = source.as_primitive::<Float32Type>();
            let one: Float32Array = array.unary(|v| if v.is_nan() { f32::NAN } else { v });
            Arc::new(one)
        }
        DataType::Float64 => {
            let array = source.as_primitive::<Float64Type>();
            let one: Float64Array = array.unary(|v| if v.is_nan() { f64::NAN } else { v });
            Arc::new(one)
        }
        _ => source.clone(),
    }
}

/// Days since 1970-01-01.
fn days(source: &ArrayRef) -> Option<Int32Array> {
    let per_day = MICROS_PER_HOUR * HOURS_PER_DAY;
    Some(match source.data_type() {
        DataType::Date32 => source.as_primitive::<Date32Type>().unary(|d| d),
        DataType::Timestamp(TimeUnit::Microsecond, _) => source
            .as_primitive::<TimestampMicrosecondType>()
            .unary(|t| t.div_euclid(per_day) as i32),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => source
            .as_primitive::<TimestampNanosecondType>()
            .unary(|t| t.div_euclid(per_day * 1_000) as i32),
        _ => return None,
    })
}

fn hours(source: &ArrayRef) -> Option<ArrayRef> {
    let hours: Int32Array = match source.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => source
            .as_primitive::<TimestampMicrosecondType>()
            .unary(|t| t.div_euclid(MICROS_PER_HOUR) as i32),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => source
            .as_primitive::<TimestampNanosecondType>()
            .unary(|t| t.div_euclid(MICROS_PER_HOUR * 1_000) as i32),
        _ => return None,
    };
    Some(Arc::new(hours))
}

/// A day of the proleptic Gregorian calendar.
struct Date {
    year: i32,
    month: u8,
}

fn calendar(source: &ArrayRef, what: Transform, value: fn(Date) -> i64) -> Result<ArrayRef> {
    let days = days(source).ok_or_else(|| unknown(source, what))?;
    let values: Int32Array = days.unary(|day| value(civil(i64::from(day))) as i32);
    Ok(Arc::new(values))
}

/// Year and month of a day: eras of 400 years that begin in March, so that the leap day is the
/// last of its year.
fn civil(days_since_epoch: i64) -> Date {
    const DAYS_PER_ERA: i64 = 146_097;
    let day = days_since_epoch + 719_468; // since 0000-03-01
    let era = day.div_euclid(DAYS_PER_ERA);
    let day_of_era = day.rem_euclid(DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    Date { year: year as i32, month: month as u8 }
}

fn truncate(source: &ArrayRef, width: u32) -> Option<ArrayRef> {
    if width == 0 {
        return None;
    }
    let chars = usize::try_from(width).unwrap_or(usize::MAX);
    Some(match source.data_type() {
        DataType::Int32 => {
            let width = i64::from(width);
            let array = source.as_primitive::<Int32Type>();
            let cut: Int32Array = array.unary(|v| {
                let v = i64::from(v);
                (v - v.rem_euclid(width)) as i32
            });
            Arc::new(cut)
        }
        DataType::Int64 => {
            let width = i64::from(width);
            let array = source.as_primitive::<Int64Type>();
            Arc::new(array.unary::<_, Int64Type>(|v| v.wrapping_sub(v.rem_euclid(width))))
        }
        DataType::Decimal128(..) => {
            let width = i128::from(width);
            let array = source.as_primitive::<Decimal128Type>();
            let cut = array.unary::<_, Decimal128Type>(|v| v.wrapping_sub(v.rem_euclid(width)));
            Arc::new(cut.with_data_type(source.data_type().clone()))
        }
        DataType::Utf8 => {
            let cut = source.as_string::<i32>().iter().map(|v| {
                v.map(|text| {
                    let end = text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
                    &text[..end]
                })
            });
            Arc::new(cut.collect::<StringArray>())
        }
        DataType::Binary => {
            let cut = source.as_binary::<i32>().iter();
            let cut = cut.map(|v| v.map(|bytes| bytes.get(..chars).unwrap_or(bytes)));
            Arc::new(cut.collect::<BinaryArray>())
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, TimestampMicrosecondArray};
    use proptest::prelude::*;

    use super::*;
    use crate::spec::Datum;

    fn ints(array: ArrayRef) -> Vec<i32> {
        match array.data_type() {
            DataType::Date32 => array.as_primitive::<Date32Type>().values().to_vec(),
            _ => array.as_primitive::<Int32Type>().values().to_vec(),
        }
    }

    #[test]
    fn transforms_follow_the_truth_table() {
        // 2017-11-16T22:31:08, one microsecond before 1970, and 1960-01-01.
        let times = [1_510_871_468_000_000, -1, -315_619_200_000_000];
        let source: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times.to_vec()));
        let table = [
            (Transform::Year, [47, -1, -10]),
            (Transform::Month, [574, -1, -120]),
            (Transform::Day, [17_486, -1, -3_653]),
            (Transform::Hour, [419_686, -1, -87_672]),
        ];
        for (what, expected) in table {
            assert_eq!(ints(transform(&source, what).unwrap()), expected, "{what}");
        }
        let source: ArrayRef = Arc::new(Int32Array::from(vec![34, -1, 1, i32::MAX]));
        assert_eq!(
            ints(transform(&source, Transform::Truncate(10)).unwrap()),
            [30, -10, 0, 2_147_483_640]
        );
        let bucketed = transform(&source, Transform::Bucket(16)).unwrap();
        assert_eq!(ints(bucketed)[0], 2_017_239_379 % 16, "the spec's hash of 34");
        let source: ArrayRef = Arc::new(StringArray::from(vec![Some("æøå!"), None]));
        let cut = transform(&source, Transform::Truncate(3)).unwrap();
        assert_eq!(cut.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("æøå"), None]);
        let source: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        assert!(transform(&source, Transform::Void).unwrap().is_null(0));
        assert!(transform(&source, Transform::Day).is_err());
    }

    proptest! {
        #[test]
        fn calendar_agrees_with_the_crate_that_plans(micros in -62_000_000_000_000_000i64..200_000_000_000_000_000) {
            let source: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![micros]));
            for what in [Transform::Year, Transform::Month, Transform::Day] {
                let theirs = create_transform_function(&what).unwrap()
                    .transform_literal(&Datum::timestamp_micros(micros)).unwrap().unwrap();
                let ours = ints(transform(&source, what).unwrap())[0];
                prop_assert_eq!(theirs.literal(), &crate::spec::PrimitiveLiteral::Int(ours));
            }
        }
    }
}
