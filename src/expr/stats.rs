//! Filters against column statistics: can a file hold a matching row, and does every row match?

use super::facts::Facts;
use super::filter::{Cmp, Column, Filter, Leaf, Test};
use crate::spec::{BoundPredicate, DataFile, Datum, PrimitiveLiteral, PrimitiveType, Schema};

/// What is known about the columns of a file, a row group or a page. Every method may answer
/// `None`, which means "unknown" and never "none".
pub trait ColumnStats {
    /// A value not above any non-null, non-NaN value of the column.
    fn lower(&self, field_id: i32) -> Option<Datum>;
    /// A value not below any non-null, non-NaN value of the column.
    fn upper(&self, field_id: i32) -> Option<Datum>;
    /// How many values are null.
    fn null_count(&self, field_id: i32) -> Option<u64>;
    /// How many values are NaN.
    fn nan_count(&self, field_id: i32) -> Option<u64>;
    /// How many values there are, nulls and NaNs included.
    fn value_count(&self, field_id: i32) -> Option<u64>;
    /// True is a proof that no row has this value; Bloom filters know such things.
    fn excludes(&self, _field_id: i32, _value: &PrimitiveLiteral) -> bool {
        false
    }
}

/// Whether some row may pass the filter. False is a proof that none does; unknown is true.
///
/// Compiles the filter on every call; keep a [`Filter`] to ask about many files.
pub fn might_match(filter: &BoundPredicate, stats: &dyn ColumnStats) -> bool {
    Filter::new(filter).might_match(stats)
}

/// Whether every row passes the filter. True is a proof (of SQL's TRUE); unknown is false.
///
/// Compiles the filter on every call; keep a [`Filter`] to ask about many files.
pub fn must_match(filter: &BoundPredicate, stats: &dyn ColumnStats) -> bool {
    Filter::new(filter).must_match(stats)
}

impl Filter {
    /// Whether some row may pass; see [`might_match`] (EXP-4).
    pub fn might_match(&self, stats: &dyn ColumnStats) -> bool {
        self.root.holds(&mut |leaf| {
            facts(&leaf.column, stats).might_pass(&leaf.test) && !excluded(leaf, stats)
        })
    }

    /// Whether every row passes; see [`must_match`] (EXP-5).
    pub fn must_match(&self, stats: &dyn ColumnStats) -> bool {
        self.root.holds(&mut |leaf| facts(&leaf.column, stats).must_pass(&leaf.test))
    }
}

/// True when each of the values that the test asks for is known to be absent.
fn excluded(leaf: &Leaf, stats: &dyn ColumnStats) -> bool {
    match &leaf.test {
        Test::Compare(Cmp::Eq, value) => stats.excludes(leaf.column.id, value),
        Test::In(values) => values.iter().all(|value| stats.excludes(leaf.column.id, value)),
        _ => false,
    }
}

fn facts(column: &Column, stats: &dyn ColumnStats) -> Facts {
    let id = column.id;
    let bound = |datum: Option<Datum>| datum.map(|d| d.literal().clone());
    let nulls = stats.null_count(id);
    let nans = if column.is_float() { stats.nan_count(id) } else { Some(0) };
    let mut facts = Facts {
        lower: bound(stats.lower(id)),
        upper: bound(stats.upper(id)),
        may_be_null: nulls != Some(0),
        may_be_nan: nans != Some(0),
        may_be_value: true,
        exact: false,
    }
    .without_broken_bounds();
    // A bound says that a value is there, whatever the counts add up to.
    if facts.lower.is_none()
        && facts.upper.is_none()
        && let (Some(nulls), Some(values)) = (nulls, stats.value_count(id))
    {
        let others = values.saturating_sub(nulls);
        facts.may_be_nan &= others > 0;
        facts.may_be_value = others > 0 && nans.is_none_or(|nans| nans < others);
    }
    facts
}

/// The statistics that a manifest holds about one data file, decoded as the columns of a schema.
///
/// Bounds written before a type promotion are widened (EXP-7).
#[derive(Debug, Clone, Copy)]
pub struct FileStats<'a>(pub &'a DataFile, pub &'a Schema);

impl FileStats<'_> {
    fn kind(&self, field_id: i32) -> Option<&PrimitiveType> {
        self.1.field_by_id(field_id)?.field_type.as_primitive_type()
    }
}

impl ColumnStats for FileStats<'_> {
    fn lower(&self, field_id: i32) -> Option<Datum> {
        self.0.lower_bound(field_id, self.kind(field_id)?)
    }

    fn upper(&self, field_id: i32) -> Option<Datum> {
        self.0.upper_bound(field_id, self.kind(field_id)?)
    }

    fn null_count(&self, field_id: i32) -> Option<u64> {
        self.0.null_value_counts.get(field_id)
    }

    fn nan_count(&self, field_id: i32) -> Option<u64> {
        self.0.nan_value_counts.get(field_id)
    }

    fn value_count(&self, field_id: i32) -> Option<u64> {
        self.0.value_counts.get(field_id)
    }
}
