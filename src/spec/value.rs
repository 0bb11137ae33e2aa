//! Single-value binary: how bounds are stored in manifests.

use uuid::Uuid;

use super::{Datum, PrimitiveLiteral, PrimitiveType};

/// Decodes a bound as `as_type`. A bound written before a promotion is shorter than the type
/// (4 bytes under `long` or `double`) and is widened.
///
/// Returns `None` for bytes that do not fit the type: a broken statistic proves nothing.
///
/// # Source
/// Iceberg spec v2, "Binary single-value serialization" and "Schema Evolution".
pub fn datum_from_bound(bytes: &[u8], as_type: &PrimitiveType) -> Option<Datum> {
    match (as_type, bytes.len()) {
        (PrimitiveType::Boolean, 1) => {}
        (PrimitiveType::Long, 4) => {
            return Some(Datum::long(i32::from_le_bytes(bytes.try_into().ok()?)));
        }
        (PrimitiveType::Double, 4) => {
            return Some(Datum::double(f32::from_le_bytes(bytes.try_into().ok()?)));
        }
        (PrimitiveType::Int | PrimitiveType::Date | PrimitiveType::Float, 4) => {}
        (
            PrimitiveType::Long
            | PrimitiveType::Double
            | PrimitiveType::Time
            | PrimitiveType::Timestamp
            | PrimitiveType::Timestamptz
            | PrimitiveType::TimestampNs
            | PrimitiveType::TimestamptzNs,
            8,
        ) => {}
        (PrimitiveType::Uuid, 16) => {}
        (PrimitiveType::Decimal { .. }, 1..=16) => {}
        (PrimitiveType::String | PrimitiveType::Binary, _) => {}
        (PrimitiveType::Fixed(n), len) if *n == len as u64 => {}
        _ => return None,
    }
    Datum::try_from_bytes(bytes, as_type.clone()).ok()
}

/// Encodes a value as a bound. `None` for values that have no encoding.
pub fn datum_to_bound(value: &Datum) -> Option<Vec<u8>> {
    value.to_bytes().ok().map(|b| b.into_vec())
}

/// A literal with its type, such as a partition value. `None` when the two do not go together.
pub fn datum_of(value_type: &PrimitiveType, value: &PrimitiveLiteral) -> Option<Datum> {
    use {PrimitiveLiteral as Lit, PrimitiveType as Ty};
    Some(match (value_type, value) {
        (Ty::Boolean, Lit::Boolean(v)) => Datum::bool(*v),
        (Ty::Int, Lit::Int(v)) => Datum::int(*v),
        (Ty::Date, Lit::Int(v)) => Datum::date(*v),
        (Ty::Long, Lit::Long(v)) => Datum::long(*v),
        (Ty::Long, Lit::Int(v)) => Datum::long(*v),
        (Ty::Time, Lit::Long(v)) => Datum::time_micros(*v).ok()?,
        (Ty::Timestamp, Lit::Long(v)) => Datum::timestamp_micros(*v),
        (Ty::Timestamptz, Lit::Long(v)) => Datum::timestamptz_micros(*v),
        (Ty::TimestampNs, Lit::Long(v)) => Datum::timestamp_nanos(*v),
        (Ty::TimestamptzNs, Lit::Long(v)) => Datum::timestamptz_nanos(*v),
        (Ty::Float, Lit::Float(v)) => Datum::float(v.0),
        (Ty::Double, Lit::Double(v)) => Datum::double(v.0),
        (Ty::Double, Lit::Float(v)) => Datum::double(f64::from(v.0)),
        (Ty::String, Lit::String(v)) => Datum::string(v),
        (Ty::Binary, Lit::Binary(v)) => Datum::binary(v.iter().copied()),
        (Ty::Fixed(_), Lit::Binary(v)) => Datum::fixed(v.iter().copied()),
        (Ty::Uuid, Lit::UInt128(v)) => Datum::uuid(Uuid::from_u128(*v)),
        (Ty::Decimal { .. }, Lit::Int128(v)) => {
            Datum::try_from_bytes(&v.to_be_bytes(), value_type.clone()).ok()?
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_written_before_a_promotion_are_widened() {
        let int = datum_from_bound(&7i32.to_le_bytes(), &PrimitiveType::Long);
        assert_eq!(int, Some(Datum::long(7)));
        let float = datum_from_bound(&1.5f32.to_le_bytes(), &PrimitiveType::Double);
        assert_eq!(float, Some(Datum::double(1.5)));
    }

    #[test]
    fn a_bound_of_the_wrong_length_proves_nothing() {
        assert_eq!(datum_from_bound(&[1, 2, 3], &PrimitiveType::Int), None);
        assert_eq!(datum_from_bound(&[], &PrimitiveType::Boolean), None);
    }
}
