//! Filters as text that [`parse`](super::parse()) reads again.
//!
//! The crate's own `Display` panics on a `timestamptz` before 1970 with a fraction of a second,
//! so nothing of ours prints values through it.

use std::fmt::{self, Display, Write};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta};

use crate::spec::{
    BoundPredicate, BoundReference, Datum, PredicateOperator, PrimitiveLiteral, PrimitiveType,
};

/// How many members of an IN list are printed.
const MAX_MEMBERS: usize = 20;

/// Shows a filter in the grammar of [`parse`](super::parse()), for plans, logs and errors. Long
/// IN lists are shortened.
pub fn describe(filter: &BoundPredicate) -> impl Display {
    Shown(filter)
}

struct Shown<'a>(&'a BoundPredicate);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            BoundPredicate::AlwaysTrue => f.write_str("TRUE"),
            BoundPredicate::AlwaysFalse => f.write_str("FALSE"),
            BoundPredicate::Not(inner) => write!(f, "NOT ({})", Shown(inner.inputs()[0])),
            BoundPredicate::And(pair) => pair_of(f, pair.inputs(), "AND"),
            BoundPredicate::Or(pair) => pair_of(f, pair.inputs(), "OR"),
            BoundPredicate::Unary(e) => write!(f, "{} {}", Name(e.term()), e.op()),
            BoundPredicate::Binary(e) => match e.op() {
                PredicateOperator::StartsWith => {
                    write!(f, "{} LIKE {}", Name(e.term()), Prefix(e.literal()))
                }
                PredicateOperator::NotStartsWith => {
                    write!(f, "{} NOT LIKE {}", Name(e.term()), Prefix(e.literal()))
                }
                op => write!(f, "{} {op} {}", Name(e.term()), Literal(e.literal())),
            },
            BoundPredicate::Set(e) => {
                let mut members: Vec<String> =
                    e.literals().iter().map(|d| Literal(d).to_string()).collect();
                members.sort_unstable();
                let more = members.len().saturating_sub(MAX_MEMBERS);
                members.truncate(MAX_MEMBERS);
                write!(f, "{} {} ({}", Name(e.term()), e.op(), members.join(", "))?;
                if more > 0 {
                    write!(f, ", … {more} more")?;
                }
                f.write_char(')')
            }
        }
    }
}

fn pair_of(f: &mut fmt::Formatter<'_>, pair: [&BoundPredicate; 2], word: &str) -> fmt::Result {
    let [left, right] = pair;
    side(f, left, word)?;
    write!(f, " {word} ")?;
    side(f, right, word)
}

fn side(f: &mut fmt::Formatter<'_>, part: &BoundPredicate, word: &str) -> fmt::Result {
    match part {
        BoundPredicate::And(_) if word == "OR" => write!(f, "({})", Shown(part)),
        BoundPredicate::Or(_) if word == "AND" => write!(f, "({})", Shown(part)),
        _ => Shown(part).fmt(f),
    }
}

struct Name<'a>(&'a BoundReference);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.to_string();
        let plain = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if name.split('.').all(plain) {
            f.write_str(&name)
        } else {
            write!(f, "\"{}\"", name.replace('"', "\"\""))
        }
    }
}

struct Prefix<'a>(&'a Datum);

impl Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.literal() {
            PrimitiveLiteral::String(text) => {
                let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
                write!(f, "'{}%'", escaped.replace('\'', "''"))
            }
            _ => write!(f, "{}…", Literal(self.0)),
        }
    }
}

struct Literal<'a>(&'a Datum);

impl Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use PrimitiveLiteral as L;
        match (self.0.literal(), self.0.data_type()) {
            (L::Boolean(v), _) => f.write_str(if *v { "TRUE" } else { "FALSE" }),
            (L::Int(days), PrimitiveType::Date) => {
                match NaiveDate::default().checked_add_signed(TimeDelta::days((*days).into())) {
                    Some(date) => write!(f, "'{date}'"),
                    None => write!(f, "{days} days"),
                }
            }
            (L::Int(v), _) => v.fmt(f),
            (L::Long(micros), PrimitiveType::Time) => {
                match NaiveTime::MIN.overflowing_add_signed(TimeDelta::microseconds(*micros)) {
                    (time, 0) => write!(f, "'{time}'"),
                    _ => write!(f, "{micros} µs"),
                }
            }
            (L::Long(v), PrimitiveType::Timestamp) => timestamp(f, *v, ""),
            (L::Long(v), PrimitiveType::Timestamptz) => timestamp(f, *v, "Z"),
            (L::Long(v), _) => v.fmt(f),
            (L::Float(v), _) => float(f, v.0.into(), v.0),
            (L::Double(v), _) => float(f, v.0, v.0),
            (L::String(v), _) => write!(f, "'{}'", v.replace('\'', "''")),
            (L::Binary(bytes), _) => {
                f.write_str("X'")?;
                bytes.iter().try_for_each(|b| write!(f, "{b:02X}"))?;
                f.write_char('\'')
            }
            (L::Int128(v), PrimitiveType::Decimal { scale, .. }) => decimal(f, *v, *scale),
            (L::Int128(v), _) => v.fmt(f),
            (L::UInt128(v), _) => write!(f, "'{}'", uuid::Uuid::from_u128(*v)),
            (L::AboveMax | L::BelowMin, _) => f.write_str("(out of range)"),
        }
    }
}

fn timestamp(f: &mut fmt::Formatter<'_>, micros: i64, zone: &str) -> fmt::Result {
    match DateTime::from_timestamp_micros(micros) {
        Some(time) => write!(f, "'{}{zone}'", time.naive_utc().format("%Y-%m-%dT%H:%M:%S%.f")),
        None => write!(f, "{micros} µs"),
    }
}

fn float<T: Display>(f: &mut fmt::Formatter<'_>, wide: f64, shown: T) -> fmt::Result {
    if wide.is_finite() { shown.fmt(f) } else { write!(f, "'{shown}'") }
}

fn decimal(f: &mut fmt::Formatter<'_>, unscaled: i128, scale: u32) -> fmt::Result {
    let sign = if unscaled < 0 { "-" } else { "" };
    let scale = scale as usize;
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    write!(f, "{sign}{whole}")?;
    if scale > 0 { write!(f, ".{fraction}") } else { Ok(()) }
}
