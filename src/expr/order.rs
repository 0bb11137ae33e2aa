//! How two values of one column compare, and sets of values.
//!
//! Floats compare as IEEE 754 says, not by total order: `-0.0` equals `0.0` and NaN compares with
//! nothing (EXP-3). A value of a narrower type (an `int` in a partition written before a promotion)
//! compares with the wider one.

use std::cmp::Ordering;

use crate::spec::PrimitiveLiteral;

/// Orders two values; `None` if either is NaN or the types do not go together.
pub(crate) fn compare(a: &PrimitiveLiteral, b: &PrimitiveLiteral) -> Option<Ordering> {
    use PrimitiveLiteral as P;
    match (a, b) {
        (P::Boolean(a), P::Boolean(b)) => Some(a.cmp(b)),
        (P::Int(a), P::Int(b)) => Some(a.cmp(b)),
        (P::Long(a), P::Long(b)) => Some(a.cmp(b)),
        (P::Int(a), P::Long(b)) => Some(i64::from(*a).cmp(b)),
        (P::Long(a), P::Int(b)) => Some(a.cmp(&i64::from(*b))),
        (P::Float(a), P::Float(b)) => a.0.partial_cmp(&b.0),
        (P::Double(a), P::Double(b)) => a.0.partial_cmp(&b.0),
        (P::Float(a), P::Double(b)) => f64::from(a.0).partial_cmp(&b.0),
        (P::Double(a), P::Float(b)) => a.0.partial_cmp(&f64::from(b.0)),
        (P::String(a), P::String(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (P::Binary(a), P::Binary(b)) => Some(a.cmp(b)),
        (P::Int128(a), P::Int128(b)) => Some(a.cmp(b)),
        (P::UInt128(a), P::UInt128(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// The bytes of a string or binary value.
pub(crate) fn bytes_of(value: &PrimitiveLiteral) -> Option<&[u8]> {
    match value {
        PrimitiveLiteral::String(s) => Some(s.as_bytes()),
        PrimitiveLiteral::Binary(b) => Some(b),
        _ => None,
    }
}

/// True if both are text or bytes and `value` begins with `prefix`.
pub(crate) fn starts_with(value: &PrimitiveLiteral, prefix: &PrimitiveLiteral) -> bool {
    match (bytes_of(value), bytes_of(prefix)) {
        (Some(value), Some(prefix)) => value.starts_with(prefix),
        _ => false,
    }
}

/// Distinct values of one type in ascending order; NaN is never a member.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Values {
    sorted: Vec<PrimitiveLiteral>,
}

impl Values {
    /// Values that compare with nothing are left out: nothing can equal them.
    pub(crate) fn new(values: impl IntoIterator<Item = PrimitiveLiteral>) -> Self {
        let mut sorted: Vec<_> = values.into_iter().filter(|v| compare(v, v).is_some()).collect();
        sorted.sort_by(|a, b| compare(a, b).unwrap_or(Ordering::Equal));
        sorted.dedup_by(|a, b| compare(a, b) == Some(Ordering::Equal));
        Self { sorted }
    }

    pub(crate) fn contains(&self, value: &PrimitiveLiteral) -> bool {
        let at = self.sorted.partition_point(|v| compare(v, value) == Some(Ordering::Less));
        self.sorted.get(at).is_some_and(|v| compare(v, value) == Some(Ordering::Equal))
    }

    /// True if some member lies within the closed range; an absent end is open.
    pub(crate) fn any_within(
        &self,
        lower: Option<&PrimitiveLiteral>,
        upper: Option<&PrimitiveLiteral>,
    ) -> bool {
        let at = match lower {
            None => 0,
            Some(low) => self.sorted.partition_point(|v| compare(v, low) == Some(Ordering::Less)),
        };
        match (self.sorted.get(at), upper) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(first), Some(high)) => compare(first, high) != Some(Ordering::Greater),
        }
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &PrimitiveLiteral> {
        self.sorted.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }
}
