//! What is known about a set of values of one column, and what follows for a test.
//!
//! One [`Facts`] describes the values of a column in a file, a row group, the partitions of a
//! manifest, or a single partition value. Two questions: may some value pass (inclusive), and do
//! all values pass (strict)? Absent knowledge answers "maybe" to the first and "no" to the second.

use std::cmp::Ordering;

use super::filter::{Cmp, Test};
use super::order::{bytes_of, compare, starts_with};
use crate::spec::PrimitiveLiteral;

/// Bounds of text this long or longer may have been cut by whoever wrote them.
const CUT_AT: usize = 16;

/// What is known about some values of one column.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// Not above any value that is neither null nor NaN.
    pub(super) lower: Option<PrimitiveLiteral>,
    /// Not below any such value.
    pub(super) upper: Option<PrimitiveLiteral>,
    pub(super) may_be_null: bool,
    pub(super) may_be_nan: bool,
    /// A value that is neither null nor NaN may be there.
    pub(super) may_be_value: bool,
    /// The bounds are values themselves, never cut.
    pub(super) exact: bool,
}

impl Facts {
    /// Nothing is known.
    pub(super) fn unknown(float: bool) -> Self {
        Self {
            lower: None,
            upper: None,
            may_be_null: true,
            may_be_nan: float,
            may_be_value: true,
            exact: false,
        }
    }

    /// Exactly one value, or null.
    pub(super) fn of_value(value: Option<PrimitiveLiteral>) -> Self {
        let nan = value.as_ref().is_some_and(PrimitiveLiteral::is_nan);
        let bound = if nan { None } else { value.clone() };
        Self {
            may_be_null: value.is_none(),
            may_be_nan: nan,
            may_be_value: bound.is_some(),
            lower: bound.clone(),
            upper: bound,
            exact: true,
        }
    }

    /// Drops bounds that prove nothing: NaN, and pairs that are the wrong way round.
    pub(super) fn without_broken_bounds(mut self) -> Self {
        self.lower = self.lower.filter(|v| !v.is_nan());
        self.upper = self.upper.filter(|v| !v.is_nan());
        if let (Some(low), Some(high)) = (&self.lower, &self.upper)
            && !matches!(compare(low, high), Some(Ordering::Less | Ordering::Equal))
        {
            self.lower = None;
            self.upper = None;
        }
        self
    }

    /// False only if no value described here passes the test (EXP-4).
    pub(super) fn might_pass(&self, test: &Test) -> bool {
        match test {
            Test::IsNull => self.may_be_null,
            Test::NotNull => self.may_be_value || self.may_be_nan,
            Test::IsNan => self.may_be_nan,
            Test::NotNan => self.may_be_value || self.may_be_null,
            Test::Compare(cmp, value) => match cmp {
                Cmp::Less => self.may_be_value && !self.all_from(value),
                Cmp::LessEq => self.may_be_value && !self.all_above(value),
                Cmp::Greater => self.may_be_value && !self.all_up_to(value),
                Cmp::GreaterEq => self.may_be_value && !self.all_below(value),
                Cmp::Eq => self.may_be_value && !self.all_above(value) && !self.all_below(value),
                Cmp::NotEq => self.may_be_nan || (self.may_be_value && !self.only(value)),
            },
            Test::StartsWith(prefix) => {
                self.may_be_value
                    && !self.all_below(prefix)
                    && (!self.all_above(prefix) || self.lower_starts_with(prefix))
            }
            Test::NotStartsWith(prefix) => self.may_be_value && !self.all_start_with(prefix),
            Test::In(values) => {
                self.may_be_value && values.any_within(self.lower.as_ref(), self.upper.as_ref())
            }
            Test::NotIn(values) => {
                self.may_be_nan
                    || (self.may_be_value && !self.single().is_some_and(|v| values.contains(v)))
            }
        }
    }

    /// True only if every value described here passes the test (EXP-5).
    pub(super) fn must_pass(&self, test: &Test) -> bool {
        let never_null = !self.may_be_null;
        let only_values = never_null && !self.may_be_nan;
        match test {
            Test::IsNull => !self.may_be_value && !self.may_be_nan,
            Test::NotNull => never_null,
            Test::IsNan => never_null && !self.may_be_value,
            Test::NotNan => !self.may_be_nan,
            Test::Compare(cmp, value) => match cmp {
                Cmp::Less => only_values && self.surely_below(value, Ordering::Less),
                Cmp::LessEq => only_values && self.surely_below(value, Ordering::Equal),
                Cmp::Greater => only_values && self.all_above(value),
                Cmp::GreaterEq => only_values && self.all_from(value),
                Cmp::Eq => only_values && self.only(value),
                Cmp::NotEq => {
                    never_null
                        && (!self.may_be_value
                            || self.all_above(value)
                            || self.surely_below(value, Ordering::Less))
                }
            },
            Test::StartsWith(prefix) => only_values && self.all_start_with(prefix),
            Test::NotStartsWith(prefix) => {
                never_null
                    && (self.surely_below(prefix, Ordering::Less)
                        || (self.all_above(prefix) && !self.lower_starts_with(prefix)))
            }
            Test::In(values) => only_values && self.single().is_some_and(|v| values.contains(v)),
            Test::NotIn(values) => never_null && (!self.may_be_value || self.none_of(values)),
        }
    }

    fn lower_is(&self, value: &PrimitiveLiteral) -> Option<Ordering> {
        compare(self.lower.as_ref()?, value)
    }

    fn upper_is(&self, value: &PrimitiveLiteral) -> Option<Ordering> {
        compare(self.upper.as_ref()?, value)
    }

    fn all_above(&self, value: &PrimitiveLiteral) -> bool {
        self.lower_is(value) == Some(Ordering::Greater)
    }

    fn all_from(&self, value: &PrimitiveLiteral) -> bool {
        matches!(self.lower_is(value), Some(Ordering::Greater | Ordering::Equal))
    }

    fn all_below(&self, value: &PrimitiveLiteral) -> bool {
        self.upper_is(value) == Some(Ordering::Less)
    }

    fn all_up_to(&self, value: &PrimitiveLiteral) -> bool {
        matches!(self.upper_is(value), Some(Ordering::Less | Ordering::Equal))
    }

    /// `all_below`, or `all_up_to` for `Ordering::Equal`, fit to drop files by: some writers cut
    /// an upper bound of text without raising it, so the largest value may be any continuation of
    /// the bound (EXP-6).
    fn surely_below(&self, value: &PrimitiveLiteral, loosest: Ordering) -> bool {
        let Some(upper) = &self.upper else { return false };
        let below = match compare(upper, value) {
            Some(Ordering::Less) => true,
            Some(Ordering::Equal) => loosest == Ordering::Equal,
            _ => false,
        };
        below && (self.exact || bytes_of(upper).is_none() || !starts_with(value, upper))
    }

    /// The one value that all are equal to, if the bounds prove it (EXP-6).
    fn single(&self) -> Option<&PrimitiveLiteral> {
        let (low, high) = (self.lower.as_ref()?, self.upper.as_ref()?);
        let cut = !self.exact && bytes_of(low).is_some_and(|b| b.len() >= CUT_AT);
        (compare(low, high) == Some(Ordering::Equal) && !cut).then_some(low)
    }

    fn only(&self, value: &PrimitiveLiteral) -> bool {
        self.single().is_some_and(|v| compare(v, value) == Some(Ordering::Equal))
    }

    fn lower_starts_with(&self, prefix: &PrimitiveLiteral) -> bool {
        self.lower.as_ref().is_some_and(|low| starts_with(low, prefix))
    }

    /// Whatever lies between two texts with a common prefix has that prefix too.
    fn all_start_with(&self, prefix: &PrimitiveLiteral) -> bool {
        self.lower_starts_with(prefix)
            && self.upper.as_ref().is_some_and(|high| starts_with(high, prefix))
    }

    fn none_of(&self, values: &super::order::Values) -> bool {
        if self.lower.is_none() && self.upper.is_none() {
            return values.len() == 0;
        }
        let text = self.upper.as_ref().is_some_and(|u| bytes_of(u).is_some());
        if text && !self.exact {
            return values
                .iter()
                .all(|v| self.all_above(v) || self.surely_below(v, Ordering::Less));
        }
        !values.any_within(self.lower.as_ref(), self.upper.as_ref())
    }
}
