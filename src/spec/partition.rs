//! Partitions: the value of one partition, its name in a path, and the types of its values.

use std::fmt::Write;
use std::hash::{Hash, Hasher};

use super::{
    Literal, NestedFieldRef, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema, Struct,
    TableMetadata, Transform, Type,
};
use crate::error::{Error, Result};

/// One partition of a table: the spec and the values under it.
///
/// Floats compare by their bits with NaN made canonical, so `-0.0` and `0.0` are two
/// partitions and every NaN is the same one.
#[derive(Debug, Clone)]
pub struct PartitionKey {
    /// The partition spec.
    pub spec_id: i32,
    /// Values in the order of the spec's fields.
    pub values: Struct,
}

impl PartitionKey {
    /// The only partition of a spec without fields.
    pub fn unpartitioned(spec_id: i32) -> Self {
        Self { spec_id, values: Struct::empty() }
    }
}

impl PartialEq for PartitionKey {
    fn eq(&self, other: &Self) -> bool {
        self.spec_id == other.spec_id
            && self.values.fields().len() == other.values.fields().len()
            && self.values.iter().zip(other.values.iter()).all(|(a, b)| match (a, b) {
                (Some(a), Some(b)) => float_bits(a) == float_bits(b) && (is_float(a) || a == b),
                (None, None) => true,
                _ => false,
            })
    }
}

impl Eq for PartitionKey {}

impl Hash for PartitionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec_id.hash(state);
        for value in self.values.iter() {
            match value {
                Some(v) if is_float(v) => float_bits(v).hash(state),
                other => other.hash(state),
            }
        }
    }
}

/// Values as today's types have them, if a promotion (int to long, float to double) changed one
/// since they were written (MAN-10).
pub(crate) fn promoted(values: &Struct, types: &[Type]) -> Option<Struct> {
    use {PrimitiveLiteral as Lit, PrimitiveType as Ty};
    let wide = |value: Option<&Literal>, value_type: &Type| match (value, value_type) {
        (Some(Literal::Primitive(Lit::Int(v))), Type::Primitive(Ty::Long)) => {
            Some(Literal::long(*v))
        }
        (Some(Literal::Primitive(Lit::Float(v))), Type::Primitive(Ty::Double)) => {
            Some(Literal::double(v.0))
        }
        _ => None,
    };
    let pairs = || values.iter().zip(types);
    if values.fields().len() != types.len() || !pairs().any(|(v, t)| wide(v, t).is_some()) {
        return None;
    }
    Some(pairs().map(|(value, to)| wide(value, to).or_else(|| value.cloned())).collect())
}

fn is_float(value: &Literal) -> bool {
    matches!(value, Literal::Primitive(PrimitiveLiteral::Float(_) | PrimitiveLiteral::Double(_)))
}

fn float_bits(value: &Literal) -> Option<u64> {
    match value {
        Literal::Primitive(PrimitiveLiteral::Float(v)) => {
            Some(u64::from(if v.is_nan() { f32::NAN.to_bits() } else { v.0.to_bits() }))
        }
        Literal::Primitive(PrimitiveLiteral::Double(v)) => {
            Some(if v.is_nan() { f64::NAN.to_bits() } else { v.0.to_bits() })
        }
        _ => None,
    }
}

/// The types of a spec's values, looked up in every schema the table ever had, so that a spec
/// whose source column was dropped can still be read.
///
/// # Errors
/// `CorruptData` if no schema knows a source column and its transform does not fix the type.
pub fn partition_types(spec: &PartitionSpec, metadata: &TableMetadata) -> Result<Vec<Type>> {
    let find = |id: i32| -> Option<NestedFieldRef> {
        let current = metadata.current_schema().field_by_id(id);
        current.or_else(|| metadata.schemas_iter().find_map(|s| s.field_by_id(id))).cloned()
    };
    spec.fields().iter().map(|field| field_type(field.transform, find(field.source_id))).collect()
}

fn field_type(transform: Transform, source: Option<NestedFieldRef>) -> Result<Type> {
    match (transform, source) {
        (Transform::Void, None) => Ok(Type::Primitive(PrimitiveType::String)),
        (Transform::Bucket(_) | Transform::Year | Transform::Month | Transform::Hour, None) => {
            Ok(Type::Primitive(PrimitiveType::Int))
        }
        (Transform::Day, None) => Ok(Type::Primitive(PrimitiveType::Date)),
        (transform, Some(field)) => Ok(transform.result_type(&field.field_type)?),
        (transform, None) => Err(Error::corrupt(
            "no schema of the table knows the source column of a partition field",
        )
        .with_context("transform", transform)),
    }
}

/// The folder of a partition, such as `day=2024-01-31/bucket=3`; empty when unpartitioned.
/// Everything but letters, digits and `-_.` in a value is percent-encoded.
pub fn partition_path(spec: &PartitionSpec, schema: &Schema, values: &Struct) -> String {
    let mut path = String::new();
    for (field, value) in spec.fields().iter().zip(values.iter()) {
        let source = schema.field_by_id(field.source_id).cloned();
        let text = match field_type(field.transform, source) {
            Ok(value_type) => human(field.transform, &value_type, value),
            Err(_) => "unknown".to_string(),
        };
        if !path.is_empty() {
            path.push('/');
        }
        encode(&field.name, &mut path);
        path.push('=');
        encode(&text, &mut path);
    }
    path
}

/// A partition value in words. Times are ours: the crate's words for a time with a zone panic
/// before 1970 when there is a fraction of a second.
fn human(transform: Transform, value_type: &Type, value: Option<&Literal>) -> String {
    let micros = match (value_type, value) {
        (
            Type::Primitive(PrimitiveType::Timestamp | PrimitiveType::Timestamptz),
            Some(Literal::Primitive(PrimitiveLiteral::Long(micros))),
        ) => *micros,
        _ => return transform.to_human_string(value_type, value),
    };
    let zone = match value_type {
        Type::Primitive(PrimitiveType::Timestamptz) => "+00:00",
        _ => "",
    };
    match chrono::DateTime::from_timestamp_micros(micros) {
        Some(time) => format!("{}{zone}", time.format("%Y-%m-%dT%H:%M:%S%.6f")),
        None => micros.to_string(),
    }
}

/// A partition field's name as folders write it.
pub(crate) fn encoded_name(name: &str) -> String {
    let mut encoded = String::new();
    encode(name, &mut encoded);
    encoded
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(byte as char),
            // `.` alone stays readable; `..` cannot climb because `/` is encoded.
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_with_a_fraction_has_words() {
        for (kind, zone) in [(PrimitiveType::Timestamptz, "+00:00"), (PrimitiveType::Timestamp, "")]
        {
            let words = human(
                Transform::Identity,
                &Type::Primitive(kind),
                Some(&Literal::long(-1_500_000)),
            );
            assert_eq!(words, format!("1969-12-31T23:59:58.500000{zone}"));
        }
    }

    #[test]
    fn partitions_compare_floats_by_bits_with_one_nan() {
        let key = |v: f64| PartitionKey {
            spec_id: 1,
            values: Struct::from_iter([Some(Literal::double(v))]),
        };
        assert_eq!(key(f64::NAN), key(-f64::NAN));
        assert_ne!(key(0.0), key(-0.0));
        assert_eq!(key(1.5), key(1.5));
        assert_ne!(key(1.5), key(2.5));
    }
}
