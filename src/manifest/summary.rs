//! Partition summaries: what a manifest list says about the values inside a manifest.

use std::cmp::Ordering;

use super::partition::single_value;
use crate::spec::{FieldSummary, Literal, PrimitiveLiteral, PrimitiveType, Struct};

/// Collects the summary of one partition field.
#[derive(Debug, Clone, Default)]
pub(super) struct SummaryBuilder {
    contains_null: bool,
    contains_nan: bool,
    lower: Option<PrimitiveLiteral>,
    upper: Option<PrimitiveLiteral>,
}

impl SummaryBuilder {
    /// Adds one value. NaN is counted apart and never a bound; -0.0 sorts below +0.0 (MAN-7).
    pub(super) fn add(&mut self, value: Option<&Literal>) {
        let value = match value {
            Some(Literal::Primitive(value)) => value,
            _ => {
                self.contains_null = true;
                return;
            }
        };
        if value.is_nan() {
            self.contains_nan = true;
            return;
        }
        if self.lower.as_ref().is_none_or(|lower| order(value, lower) == Ordering::Less) {
            self.lower = Some(value.clone());
        }
        if self.upper.as_ref().is_none_or(|upper| order(value, upper) == Ordering::Greater) {
            self.upper = Some(value.clone());
        }
    }

    /// The summary; bounds are whole values, never truncated.
    pub(super) fn finish(&self, as_type: &PrimitiveType) -> FieldSummary {
        let bound = |value: &Option<PrimitiveLiteral>| {
            value.as_ref().and_then(|v| single_value(v, as_type)).map(Into::into)
        };
        FieldSummary {
            contains_null: self.contains_null,
            contains_nan: Some(self.contains_nan),
            lower_bound: bound(&self.lower),
            upper_bound: bound(&self.upper),
        }
    }
}

/// Adds a tuple to the summaries of its fields.
pub(super) fn add_partition(summaries: &mut [SummaryBuilder], values: &Struct) {
    for (summary, value) in summaries.iter_mut().zip(values.iter()) {
        summary.add(value);
    }
}

fn order(a: &PrimitiveLiteral, b: &PrimitiveLiteral) -> Ordering {
    use PrimitiveLiteral as Lit;
    match (a, b) {
        (Lit::Float(a), Lit::Float(b)) => a.0.total_cmp(&b.0),
        (Lit::Double(a), Lit::Double(b)) => a.0.total_cmp(&b.0),
        // A file may be listed from before its column was widened.
        (Lit::Int(a), Lit::Long(b)) => i64::from(*a).cmp(b),
        (Lit::Long(a), Lit::Int(b)) => a.cmp(&i64::from(*b)),
        (Lit::Float(a), Lit::Double(b)) => f64::from(a.0).total_cmp(&b.0),
        (Lit::Double(a), Lit::Float(b)) => a.0.total_cmp(&f64::from(b.0)),
        (a, b) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
    }
}
