//! Text to values, exactly: CSV fields, JSON numbers and columns of text.
//!
//! A text is a value of its column or it is refused. Nothing is rounded to fit: `1.5` is no
//! `int`, `1.239` no `decimal(9,2)`, `1e300` no `float`. Floats take the nearest value, and
//! digits finer than a microsecond are left off, as when other engines' files are read.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, PrimitiveBuilder, StringArray,
};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use chrono::Utc;
use std::sync::Arc;

use super::conform::Place;
use crate::error::{Error, Result};
use crate::expr::exact_number;

/// Whether values of a type are read here when they come as text.
pub(super) fn is_spelled(target: &DataType) -> bool {
    matches!(
        target,
        DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128(..)
            | DataType::Date32
            | DataType::Time64(TimeUnit::Microsecond)
            | DataType::Timestamp(TimeUnit::Microsecond, _)
    )
}

/// Reads a column of text as values of a type that [`is_spelled`].
///
/// # Errors
/// `InvalidInput` naming column, row and the text that is no such value.
pub(super) fn values(text: &StringArray, target: &DataType, place: &Place<'_>) -> Result<ArrayRef> {
    let whole = |text: &str, min: i64, max: i64| exact_number(text, 0, min.into(), max.into());
    match target {
        DataType::Int32 => each::<Int32Type>(text, target, place, |v| {
            let wide = || whole(v, i32::MIN.into(), i32::MAX.into());
            v.parse().ok().or_else(|| i32::try_from(wide()?).ok())
        }),
        DataType::Int64 => each::<Int64Type>(text, target, place, |v| {
            v.parse().ok().or_else(|| i64::try_from(whole(v, i64::MIN, i64::MAX)?).ok())
        }),
        DataType::Float32 => each::<Float32Type>(text, target, place, |v| {
            v.parse().ok().filter(|f: &f32| !f.is_infinite() || names_infinity(v))
        }),
        DataType::Float64 => each::<Float64Type>(text, target, place, |v| {
            v.parse().ok().filter(|f: &f64| !f.is_infinite() || names_infinity(v))
        }),
        DataType::Decimal128(precision, scale) => {
            let limit = 10i128.checked_pow((*precision).into()).map_or(i128::MAX, |p| p - 1);
            let scale = u32::from(scale.unsigned_abs());
            each::<Decimal128Type>(text, target, place, |v| exact_number(v, scale, -limit, limit))
        }
        DataType::Date32 => each::<Date32Type>(text, target, place, date),
        DataType::Time64(_) => each::<Time64MicrosecondType>(text, target, place, |v| {
            // A bare number does not say its unit.
            v.contains(':').then(|| Time64MicrosecondType::parse(v))?
        }),
        _ => each::<TimestampMicrosecondType>(text, target, place, |v| {
            Some(string_to_datetime(&Utc, v).ok()?.timestamp_micros())
        }),
    }
}

/// Reads a column of hex digits, as CSV holds bytes, as an array of a binary type.
///
/// # Errors
/// `InvalidInput` naming the column and the text that is no such value.
pub(super) fn bytes(text: &StringArray, target: &DataType, place: &Place<'_>) -> Result<ArrayRef> {
    let length = match target {
        DataType::FixedSizeBinary(length) => usize::try_from(*length).ok(),
        _ => None,
    };
    let mut found = Vec::with_capacity(text.len());
    for (row, value) in text.iter().enumerate() {
        let bytes = value.map(|value| {
            let bytes = unhex(value.trim()).filter(|b| length.is_none_or(|l| b.len() == l));
            let kind = length.map_or("binary".to_string(), |length| format!("fixed[{length}]"));
            let hint = "write bytes as pairs of hex digits, such as 00ff";
            bytes.ok_or_else(|| place.refuse_as(row, &format!("'{value}'"), &kind, hint))
        });
        found.push(bytes.transpose()?);
    }
    let found: BinaryArray = found.iter().map(Option::as_deref).collect();
    Ok(cast(&found, target)?)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

/// A date, or a timestamp at midnight: a time of day would be lost.
fn date(text: &str) -> Option<i32> {
    let day = text.split_once(['T', ' ']).map_or(text, |(day, _)| day);
    let at = Date32Type::parse(day)?;
    if day.len() < text.len() {
        let micros = string_to_datetime(&Utc, text).ok()?.timestamp_micros();
        (micros == i64::from(at) * 86_400_000_000).then_some(())?;
    }
    Some(at)
}

fn names_infinity(text: &str) -> bool {
    text.to_ascii_lowercase().contains("inf")
}

fn each<T: ArrowPrimitiveType>(
    text: &StringArray,
    target: &DataType,
    place: &Place<'_>,
    read: impl Fn(&str) -> Option<T::Native>,
) -> Result<ArrayRef> {
    let mut out = PrimitiveBuilder::<T>::with_capacity(text.len());
    for (row, value) in text.iter().enumerate() {
        match value {
            None => out.append_null(),
            Some(value) => match read(value.trim()) {
                Some(found) => out.append_value(found),
                None => return Err(place.refuse(row, &format!("'{value}'"), target)),
            },
        }
    }
    Ok(Arc::new(out.finish().with_data_type(target.clone())))
}

impl Place<'_> {
    /// The error for a value that the column cannot hold as it is.
    pub(super) fn refuse(&self, row: usize, value: &str, target: &DataType) -> Error {
        let (kind, hint) = match target {
            DataType::Boolean => ("boolean".into(), "write true or false"),
            DataType::Int32 => ("int".into(), "write a whole number between -2^31 and 2^31 - 1"),
            DataType::Int64 => ("long".into(), "write a whole number between -2^63 and 2^63 - 1"),
            DataType::Float32 => ("float".into(), "write a number below 3.5e38, NaN or Infinity"),
            DataType::Float64 => ("double".into(), "write a number below 1.8e308, NaN or Infinity"),
            DataType::Decimal128(p, s) => {
                (format!("decimal({p}, {s})"), "round it before; nothing is rounded here")
            }
            DataType::Date32 => ("date".into(), "write such as 2026-01-31"),
            DataType::Time64(_) => ("time".into(), "write such as 12:30:00"),
            DataType::Timestamp(_, None) => {
                ("timestamp".into(), "write such as 2026-01-31T12:30:00; a number has no unit")
            }
            DataType::Timestamp(_, Some(_)) => {
                ("timestamptz".into(), "write such as 2026-01-31T12:30:00Z; a number has no unit")
            }
            other => (other.to_string(), "change it before it is written"),
        };
        self.refuse_as(row, value, &kind, hint)
    }

    /// The same for a type that Arrow does not tell from others.
    pub(super) fn refuse_as(&self, row: usize, value: &str, kind: &str, hint: &str) -> Error {
        let path = &self.path;
        let error = Error::invalid(format!("column `{path}`: {value} is no value of type {kind}"));
        let error = match self.first_row {
            Some(first) => error.with_context("row", first + row as u64),
            None => error,
        };
        error.with_hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::util::display::array_value_to_string;

    /// The value as Arrow shows it, or the error.
    fn read(text: &str, target: DataType) -> Result<String> {
        let place = Place { path: "c".into(), first_row: Some(7) };
        let values = values(&StringArray::from(vec![text]), &target, &place)?;
        assert_eq!(values.data_type(), &target);
        Ok(array_value_to_string(&values, 0)?)
    }

    #[test]
    fn a_text_is_exactly_a_value_or_is_refused() {
        use DataType::*;
        let micros = TimeUnit::Microsecond;
        let table = [
            (Int32, "7", Some("7")),
            (Int32, " -7 ", Some("-7")),
            (Int32, "7.0", Some("7")),
            (Int32, "7e1", Some("70")),
            (Int32, "1.5", None),
            (Int32, "3000000000", None),
            (Int32, "x", None),
            (Int32, "", None),
            (Int64, "9007199254740993.0", Some("9007199254740993")),
            (Int64, "9223372036854775808", None),
            (Float32, "0.1", Some("0.1")),
            (Float32, "1e300", None),
            (Float32, "-Infinity", Some("-inf")),
            (Float64, "1e400", None),
            (Float64, "NaN", Some("NaN")),
            (Decimal128(9, 2), "1.20", Some("1.20")),
            (Decimal128(9, 2), "1.2e2", Some("120.00")),
            (Decimal128(9, 2), "1.239", None),
            (Decimal128(9, 2), "12345678.9", None),
            (
                Decimal128(38, 0),
                "99999999999999999999999999999999999999",
                Some("99999999999999999999999999999999999999"),
            ),
            (Date32, "2024-02-29", Some("2024-02-29")),
            (Date32, "2024-02-29T00:00:00", Some("2024-02-29")),
            (Date32, "2024-02-29T05:00:00", None),
            (Date32, "2023-02-29", None),
            (Date32, "19000", None),
            (Time64(micros), "12:30", Some("12:30:00")),
            (Time64(micros), "1230", None),
            (
                Timestamp(micros, None),
                "1969-12-31T23:59:59.999999999",
                Some("1969-12-31T23:59:59.999999"),
            ),
            (Timestamp(micros, None), "1700000000", None),
            (
                Timestamp(micros, Some("+00:00".into())),
                "2024-01-01 00:00:00+05:30",
                Some("2023-12-31T18:30:00Z"),
            ),
        ];
        for (target, text, expected) in table {
            let found = read(text, target.clone());
            match (&found, expected) {
                (Ok(found), Some(expected)) => assert_eq!(found, expected, "{text} as {target}"),
                (Err(error), None) => {
                    let told = error.to_string();
                    assert!(told.contains("`c`") && told.contains("row: 7"), "{told}");
                    assert!(error.hint().is_some(), "{told}");
                }
                _ => panic!("{text} as {target}: {found:?}, not {expected:?}"),
            }
        }
    }
}
