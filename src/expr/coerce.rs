//! Literals become values of the column they are compared with (EXP-2).
//!
//! A literal may lie between two values of the column (`id > 1.5`) or beyond them all
//! (`id < 99999999999` on an `int`); then the comparison is rewritten into one that means the
//! same, never rounded and never an error.

use super::filter::Cmp;
use super::number::{Number, Place, decimal_limit};
use super::time;
use crate::spec::{
    BinaryExpression, Datum, Predicate, PredicateOperator, PrimitiveLiteral, PrimitiveType,
    Reference, UnaryExpression, datum_from_bound,
};

/// A literal before it knows its column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    Number(String),
    Text(String),
    Bytes(Vec<u8>),
    Bool(bool),
    Date(String),
    Time(String),
    Timestamp(String),
    Value(Datum),
}

/// A literal among the values of its column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Coerced {
    /// A value of the column's type.
    Value(Datum),
    /// Strictly between this value and the next one.
    JustAbove(Datum),
    BelowAll,
    AboveAll,
    /// A finite number beyond what the float type holds; the infinity on its side.
    Overflow(Datum),
}

/// Reads a literal as a value of type `kind`. The error says what is wrong without naming the
/// column, which the caller knows.
pub(super) fn coerce(raw: &Raw, kind: &PrimitiveType) -> Result<Coerced, String> {
    match raw {
        Raw::Value(datum) => from_datum(datum, kind),
        Raw::Number(text) => match kind {
            PrimitiveType::Float | PrimitiveType::Double => float(text, kind),
            _ => number(text, kind).ok_or_else(|| refuse(&format!("number {text}"), kind)),
        },
        Raw::Bool(value) if *kind == PrimitiveType::Boolean => {
            Ok(Coerced::Value(Datum::bool(*value)))
        }
        Raw::Bool(value) => Err(refuse(&value.to_string().to_uppercase(), kind)),
        Raw::Bytes(bytes) => from_bytes(bytes, kind),
        Raw::Text(text) => from_text(text, kind),
        Raw::Date(text) => match kind {
            PrimitiveType::Date => from_text(text, kind),
            PrimitiveType::Timestamp | PrimitiveType::Timestamptz
                if time::parse_date(text).is_some() =>
            {
                from_text(text, kind)
            }
            _ => Err(refuse(&format!("DATE '{text}'"), kind)),
        },
        Raw::Time(text) if *kind == PrimitiveType::Time => from_text(text, kind),
        Raw::Time(text) => Err(refuse(&format!("TIME '{text}'"), kind)),
        Raw::Timestamp(text) => match kind {
            PrimitiveType::Timestamp | PrimitiveType::Timestamptz => from_text(text, kind),
            _ => Err(refuse(&format!("TIMESTAMP '{text}'"), kind)),
        },
    }
}

fn refuse(literal: &str, kind: &PrimitiveType) -> String {
    let hint = match kind {
        PrimitiveType::String => "write text in single quotes",
        PrimitiveType::Date => "write DATE '2024-01-31'",
        PrimitiveType::Time => "write TIME '12:30:00'",
        PrimitiveType::Timestamp => "write TIMESTAMP '2024-01-31 12:30:00'",
        PrimitiveType::Timestamptz => "write TIMESTAMP '2024-01-31 12:30:00Z'",
        PrimitiveType::Uuid => "write the uuid in single quotes",
        PrimitiveType::Binary | PrimitiveType::Fixed(_) => "write bytes as X'0A1B'",
        PrimitiveType::Boolean => "write TRUE or FALSE",
        _ => "write a number",
    };
    format!("{literal} is no value of type {kind}: {hint}")
}

/// An exact number as a whole number or decimal; `None` for types that are neither.
fn number(text: &str, kind: &PrimitiveType) -> Option<Coerced> {
    placed(&Number::parse(text)?, kind)
}

fn placed(number: &Number, kind: &PrimitiveType) -> Option<Coerced> {
    let place = match kind {
        PrimitiveType::Int => number.place(0, i32::MIN.into(), i32::MAX.into()),
        PrimitiveType::Long => number.place(0, i64::MIN.into(), i64::MAX.into()),
        PrimitiveType::Decimal { precision, scale } => {
            let limit = decimal_limit(*precision).ok()?;
            number.place(*scale, -limit, limit)
        }
        _ => return None,
    };
    Some(match place {
        Place::BelowAll => Coerced::BelowAll,
        Place::AboveAll => Coerced::AboveAll,
        Place::At(value) => Coerced::Value(integer_datum(value, kind)?),
        Place::JustAbove(value) => Coerced::JustAbove(integer_datum(value, kind)?),
    })
}

fn integer_datum(value: i128, kind: &PrimitiveType) -> Option<Datum> {
    match kind {
        PrimitiveType::Int => Some(Datum::int(i32::try_from(value).ok()?)),
        PrimitiveType::Long => Some(Datum::long(i64::try_from(value).ok()?)),
        _ => datum_from_bound(&value.to_be_bytes(), kind),
    }
}

fn float(text: &str, kind: &PrimitiveType) -> Result<Coerced, String> {
    let value: f64 = text.trim().parse().map_err(|_| refuse(&format!("'{text}'"), kind))?;
    if value.is_nan() {
        return Err("NaN equals nothing: write IS NAN or IS NOT NAN".to_string());
    }
    let named = text.to_ascii_lowercase().contains("inf");
    let (datum, overflow) = match kind {
        // Rounded once, from the text: going through f64 could round twice.
        PrimitiveType::Float => {
            let narrow: f32 = text.trim().parse().map_err(|_| refuse(text, kind))?;
            (Datum::float(narrow), narrow.is_infinite())
        }
        _ => (Datum::double(value), value.is_infinite()),
    };
    Ok(if overflow && !named { Coerced::Overflow(datum) } else { Coerced::Value(datum) })
}

fn from_bytes(bytes: &[u8], kind: &PrimitiveType) -> Result<Coerced, String> {
    match kind {
        PrimitiveType::Binary => Ok(Coerced::Value(Datum::binary(bytes.iter().copied()))),
        PrimitiveType::Fixed(length) if *length == bytes.len() as u64 => {
            Ok(Coerced::Value(Datum::fixed(bytes.iter().copied())))
        }
        PrimitiveType::Fixed(length) => {
            Err(format!("the literal has {} bytes, the column {length}", bytes.len()))
        }
        _ => Err(refuse("X'…'", kind)),
    }
}

fn from_text(text: &str, kind: &PrimitiveType) -> Result<Coerced, String> {
    let quoted = format!("'{text}'");
    let value = match kind {
        PrimitiveType::String => Some(Datum::string(text)),
        PrimitiveType::Date => time::parse_date(text).map(Datum::date),
        PrimitiveType::Time => {
            time::parse_time(text).and_then(|micros| Datum::time_micros(micros).ok())
        }
        PrimitiveType::Timestamp | PrimitiveType::Timestamptz => {
            return timestamp(text, kind);
        }
        PrimitiveType::Uuid => Datum::uuid_from_str(text).ok(),
        PrimitiveType::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" => Some(Datum::bool(true)),
            "false" => Some(Datum::bool(false)),
            _ => None,
        },
        PrimitiveType::Float | PrimitiveType::Double => return float(text, kind),
        PrimitiveType::Int | PrimitiveType::Long | PrimitiveType::Decimal { .. } => {
            return number(text, kind).ok_or_else(|| refuse(&quoted, kind));
        }
        _ => None,
    };
    value.map(Coerced::Value).ok_or_else(|| refuse(&quoted, kind))
}

fn timestamp(text: &str, kind: &PrimitiveType) -> Result<Coerced, String> {
    let Some(parsed) = time::parse_timestamp(text) else {
        let finer = time::looks_like_timestamp(text);
        return Err(if finer {
            format!("'{text}' is finer than the microseconds of type {kind}")
        } else {
            refuse(&format!("'{text}'"), kind)
        });
    };
    match (kind, parsed.zoned) {
        (PrimitiveType::Timestamp, true) => {
            Err(format!("'{text}' names a time zone, and type {kind} has none: leave the zone out"))
        }
        (PrimitiveType::Timestamp, false) => {
            Ok(Coerced::Value(Datum::timestamp_micros(parsed.micros)))
        }
        // Without a zone the text means UTC, the zone in which values are stored.
        _ => Ok(Coerced::Value(Datum::timestamptz_micros(parsed.micros))),
    }
}

/// A typed value, as programs build predicates with.
fn from_datum(datum: &Datum, kind: &PrimitiveType) -> Result<Coerced, String> {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    let mismatch = || format!("a value of type {} is no value of type {kind}", datum.data_type());
    if datum.is_nan() {
        return Err("NaN equals nothing: ask is_nan or is_not_nan".to_string());
    }
    match (datum.literal(), datum.data_type(), kind) {
        (L::AboveMax, ..) => Ok(Coerced::AboveAll),
        (L::BelowMin, ..) => Ok(Coerced::BelowAll),
        (L::Int(v), T::Int | T::Date, T::Date) => Ok(Coerced::Value(Datum::date(*v))),
        (L::Int(days), T::Date, T::Timestamp | T::Timestamptz) => {
            // An i32 of days always fits an i64 of microseconds.
            let micros = i64::from(*days) * 86_400_000_000;
            Ok(Coerced::Value(micros_datum(micros, kind)))
        }
        (L::Long(v), T::Long | T::Timestamp | T::Timestamptz, T::Timestamp | T::Timestamptz) => {
            Ok(Coerced::Value(micros_datum(*v, kind)))
        }
        (L::Long(v), T::Long, T::Time) => {
            Datum::time_micros(*v).map(Coerced::Value).map_err(|e| e.message().to_string())
        }
        (L::Int(v), T::Int, T::Float | T::Double) => float(&v.to_string(), kind),
        (L::Long(v), T::Long, T::Float | T::Double) => float(&v.to_string(), kind),
        (L::Int(v), T::Int, _) => {
            placed(&Number::from_unscaled((*v).into(), 0), kind).ok_or_else(mismatch)
        }
        (L::Long(v), T::Long, _) => {
            placed(&Number::from_unscaled((*v).into(), 0), kind).ok_or_else(mismatch)
        }
        (L::Int128(v), T::Decimal { scale, .. }, T::Float | T::Double) => {
            float(&format!("{v}e-{scale}"), kind)
        }
        (L::Int128(v), T::Decimal { scale, .. }, _) => {
            placed(&Number::from_unscaled(*v, *scale), kind).ok_or_else(mismatch)
        }
        (L::Float(v), _, T::Double) => Ok(Coerced::Value(Datum::double(f64::from(v.0)))),
        (L::Double(v), _, T::Float) => float(&v.0.to_string(), kind),
        (L::Float(_) | L::Double(_), _, T::Float | T::Double) => Ok(Coerced::Value(datum.clone())),
        (L::Float(v), ..) => number(&v.0.to_string(), kind).ok_or_else(mismatch),
        (L::Double(v), ..) => number(&v.0.to_string(), kind).ok_or_else(mismatch),
        (L::String(text), ..) => from_text(text, kind),
        (L::Binary(bytes), ..) => from_bytes(bytes, kind),
        (_, own, kind) if own == kind => Ok(Coerced::Value(datum.clone())),
        _ => Err(mismatch()),
    }
}

fn micros_datum(micros: i64, kind: &PrimitiveType) -> Datum {
    match kind {
        PrimitiveType::Timestamptz => Datum::timestamptz_micros(micros),
        _ => Datum::timestamp_micros(micros),
    }
}

/// The comparison of a column with a coerced literal (EXP-2).
pub(super) fn comparison(column: &str, cmp: Cmp, literal: Coerced) -> Predicate {
    use Cmp::{Eq, Greater, GreaterEq, Less, LessEq, NotEq};
    let (cmp, datum) = match (literal, cmp) {
        (Coerced::Value(datum), cmp) => (cmp, datum),
        (Coerced::JustAbove(datum), Less | LessEq) => (LessEq, datum),
        (Coerced::JustAbove(datum), Greater | GreaterEq) => (Greater, datum),
        (Coerced::Overflow(datum), _) => return overflow(column, cmp, datum),
        (Coerced::BelowAll, Greater | GreaterEq)
        | (Coerced::AboveAll, Less | LessEq)
        | (_, NotEq) => return not_null(column),
        (_, Eq | Less | LessEq | Greater | GreaterEq) => return Predicate::AlwaysFalse,
    };
    binary(column, cmp, datum)
}

/// A finite number too large for the float type lies strictly between the largest finite value
/// and infinity.
fn overflow(column: &str, cmp: Cmp, infinity: Datum) -> Predicate {
    use Cmp::{Eq, Greater, GreaterEq, Less, LessEq, NotEq};
    let positive = match infinity.literal() {
        PrimitiveLiteral::Float(v) => v.0 > 0.0,
        PrimitiveLiteral::Double(v) => v.0 > 0.0,
        _ => true,
    };
    match (cmp, positive) {
        (Eq, _) => Predicate::AlwaysFalse,
        (NotEq, _) => not_null(column),
        (Less | LessEq, true) => binary(column, Less, infinity),
        (Less | LessEq, false) => binary(column, LessEq, infinity),
        (Greater | GreaterEq, true) => binary(column, GreaterEq, infinity),
        (Greater | GreaterEq, false) => binary(column, Greater, infinity),
    }
}

fn binary(column: &str, cmp: Cmp, datum: Datum) -> Predicate {
    let op = match cmp {
        Cmp::Less => PredicateOperator::LessThan,
        Cmp::LessEq => PredicateOperator::LessThanOrEq,
        Cmp::Greater => PredicateOperator::GreaterThan,
        Cmp::GreaterEq => PredicateOperator::GreaterThanOrEq,
        Cmp::Eq => PredicateOperator::Eq,
        Cmp::NotEq => PredicateOperator::NotEq,
    };
    Predicate::Binary(BinaryExpression::new(op, Reference::new(column), datum))
}

pub(super) fn not_null(column: &str) -> Predicate {
    let column = Reference::new(column);
    Predicate::Unary(UnaryExpression::new(PredicateOperator::NotNull, column))
}

/// `column IN (…)` or its negation; literals that no value can equal are left out.
pub(super) fn membership(column: &str, literals: Vec<Coerced>, negated: bool) -> Predicate {
    let some = !literals.is_empty();
    let values: Vec<Datum> = literals
        .into_iter()
        .filter_map(|literal| match literal {
            Coerced::Value(datum) => Some(datum),
            _ => None,
        })
        .collect();
    match (values.is_empty(), negated) {
        (true, false) => Predicate::AlwaysFalse,
        (true, true) if some => not_null(column),
        (true, true) => Predicate::AlwaysTrue,
        (false, false) => Reference::new(column).is_in(values),
        (false, true) => Reference::new(column).is_not_in(values),
    }
}
