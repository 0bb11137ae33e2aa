//! Single-value binary: how bounds are stored in manifests.

use super::{Datum, PrimitiveType};

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
