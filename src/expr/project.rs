//! Projection: what a test of a column says about the partition values made from it.
//!
//! *Inclusive*: true for the partition of every row that passes. *Strict*: if true for a
//! partition, every row in it passes. Both are built for one transform at a time (EXP-8..EXP-11).

use std::sync::Arc;

use super::filter::{Cmp, Leaf, Node, Test};
use super::order::Values;
use super::time;
use crate::spec::{
    Datum, PrimitiveLiteral, PrimitiveType, Transform, create_transform_function, datum_from_bound,
};

/// What a test of the source column means for one partition field.
pub(super) struct Projection {
    pub(super) inclusive: Node<Test>,
    pub(super) strict: Node<Test>,
}

impl Projection {
    fn nothing() -> Self {
        Self { inclusive: Node::True, strict: Node::False }
    }

    fn exact(test: Test) -> Self {
        Self { inclusive: Node::Leaf(test.clone()), strict: Node::Leaf(test) }
    }

    /// Only this is known: who passes the test is not null.
    fn not_null() -> Self {
        Self { inclusive: Node::Leaf(Test::NotNull), strict: Node::False }
    }
}

/// Projects the test of a column through the transform of a partition field made from it.
pub(super) fn project(leaf: &Leaf, transform: Transform) -> Projection {
    let null_free = matches!(leaf.test, Test::IsNull | Test::NotNull);
    match transform {
        Transform::Void | Transform::Unknown | Transform::Bucket(0) => Projection::nothing(),
        Transform::Identity => Projection::exact(leaf.test.clone()),
        // A transform gives null for null and for nothing else.
        _ if null_free => Projection::exact(leaf.test.clone()),
        Transform::Bucket(_) => bucket(leaf, transform),
        Transform::Truncate(width) => match leaf.column.kind {
            PrimitiveType::String | PrimitiveType::Binary => text(leaf, width),
            _ => stepped(leaf, transform),
        },
        Transform::Year | Transform::Month | Transform::Day | Transform::Hour => {
            stepped(leaf, transform)
        }
    }
}

/// Applies a bucket transform to a literal of the column's type.
fn bucket_of(
    value: &PrimitiveLiteral,
    leaf: &Leaf,
    transform: Transform,
) -> Option<PrimitiveLiteral> {
    let datum = datum_of(value, &leaf.column.kind)?;
    let function = create_transform_function(&transform).ok()?;
    Some(function.transform_literal(&datum).ok()??.literal().clone())
}

fn datum_of(value: &PrimitiveLiteral, kind: &PrimitiveType) -> Option<Datum> {
    match value {
        PrimitiveLiteral::Int(v) => datum_from_bound(&v.to_le_bytes(), kind),
        PrimitiveLiteral::Long(v) => datum_from_bound(&v.to_le_bytes(), kind),
        PrimitiveLiteral::String(v) => datum_from_bound(v.as_bytes(), kind),
        PrimitiveLiteral::Binary(v) => datum_from_bound(v, kind),
        PrimitiveLiteral::Int128(v) => datum_from_bound(&v.to_be_bytes(), kind),
        PrimitiveLiteral::UInt128(v) => datum_from_bound(&v.to_be_bytes(), kind),
        _ => None,
    }
}

/// Hashing keeps equality and nothing else (EXP-9).
fn bucket(leaf: &Leaf, transform: Transform) -> Projection {
    let one = |value: &PrimitiveLiteral| bucket_of(value, leaf, transform);
    let many = |values: &Values| {
        let buckets = values.iter().map(one).collect::<Option<Vec<_>>>()?;
        Some(Arc::new(Values::new(buckets)))
    };
    let (inclusive, strict) = match &leaf.test {
        Test::Compare(Cmp::Eq, value) => (one(value).map(|b| Test::Compare(Cmp::Eq, b)), None),
        Test::In(values) => (many(values).map(Test::In), None),
        Test::Compare(Cmp::NotEq, value) => {
            (Some(Test::NotNull), one(value).map(|b| Test::Compare(Cmp::NotEq, b)))
        }
        Test::NotIn(values) => (Some(Test::NotNull), many(values).map(Test::NotIn)),
        _ => (Some(Test::NotNull), None),
    };
    Projection {
        inclusive: inclusive.map_or(Node::True, Node::Leaf),
        strict: strict.map_or(Node::False, Node::Leaf),
    }
}

/// A transform of whole numbers that never decreases: truncation of numbers, and the calendar.
struct Steps {
    apply: fn(i128, i128) -> Option<i128>,
    width: i128,
    /// Least and greatest value of the source.
    limits: (i128, i128),
    /// Builds a partition value.
    make: fn(i128) -> Option<PrimitiveLiteral>,
    quirk: Quirk,
}

/// What writers are known to have stored instead of the right value.
#[derive(Clone, Copy, PartialEq)]
enum Quirk {
    None,
    /// Old writers rounded moments before 1970 up, one step too high (EXP-11).
    BeforeEpoch,
    /// Truncating a number within `width` of the type's minimum wraps around to the top (EXP-10).
    Wraps,
}

impl Steps {
    fn of(kind: &PrimitiveType, transform: Transform) -> Option<Self> {
        let int = |v: i128| i32::try_from(v).ok().map(PrimitiveLiteral::Int);
        let int_limits = (i128::from(i32::MIN), i128::from(i32::MAX));
        let long_limits = (i128::from(i64::MIN), i128::from(i64::MAX));
        let stamp = matches!(kind, PrimitiveType::Timestamp | PrimitiveType::Timestamptz);
        let steps = |apply, width: u32, limits, make, quirk| {
            Some(Self { apply, width: width.into(), limits, make, quirk })
        };
        let early = Quirk::BeforeEpoch;
        match (kind, transform) {
            (_, Transform::Truncate(0)) => None,
            (PrimitiveType::Int, Transform::Truncate(w)) => {
                steps(truncate, w, int_limits, int, Quirk::Wraps)
            }
            (PrimitiveType::Long, Transform::Truncate(w)) => {
                let long = |v: i128| i64::try_from(v).ok().map(PrimitiveLiteral::Long);
                steps(truncate, w, long_limits, long, Quirk::Wraps)
            }
            (PrimitiveType::Decimal { .. }, Transform::Truncate(w)) => {
                let limit = 10i128.pow(38) - 1;
                let make = |v: i128| Some(PrimitiveLiteral::Int128(v));
                steps(truncate, w, (-limit, limit), make, Quirk::None)
            }
            (PrimitiveType::Date, Transform::Day) => {
                steps(|v, _| Some(v), 1, int_limits, int, Quirk::None)
            }
            (PrimitiveType::Date, Transform::Month) => {
                steps(|d, _| month(d), 1, int_limits, int, early)
            }
            (PrimitiveType::Date, Transform::Year) => {
                steps(|d, _| Some(month(d)?.div_euclid(12)), 1, int_limits, int, early)
            }
            (_, Transform::Hour) if stamp => steps(
                |v, _| Some(time::hour_of_micros(i64::try_from(v).ok()?).into()),
                1,
                long_limits,
                int,
                early,
            ),
            (_, Transform::Day) if stamp => steps(|v, _| day(v), 1, long_limits, int, early),
            (_, Transform::Month) if stamp => {
                steps(|v, _| month(day(v)?), 1, long_limits, int, early)
            }
            (_, Transform::Year) if stamp => {
                steps(|v, _| Some(month(day(v)?)?.div_euclid(12)), 1, long_limits, int, early)
            }
            _ => None,
        }
    }

    /// The partition value of `value`, as a number.
    fn step(&self, value: i128) -> Option<i128> {
        (self.apply)(value, self.width)
    }
}

fn truncate(value: i128, width: i128) -> Option<i128> {
    value.checked_sub(value.checked_rem_euclid(width)?)
}

fn day(micros: i128) -> Option<i128> {
    Some(time::day_of_micros(i64::try_from(micros).ok()?).into())
}

fn month(day: i128) -> Option<i128> {
    Some(time::month_of_day(i64::try_from(day).ok()?).into())
}

fn whole(value: &PrimitiveLiteral) -> Option<i128> {
    match value {
        PrimitiveLiteral::Int(v) => Some((*v).into()),
        PrimitiveLiteral::Long(v) => Some((*v).into()),
        PrimitiveLiteral::Int128(v) => Some(*v),
        _ => None,
    }
}

/// Projects through a non-decreasing step function `t` (EXP-10): `v <= x` gives `t(v) <= t(x)`,
/// and `t(v) < t(x)` proves `v < x`.
fn stepped(leaf: &Leaf, transform: Transform) -> Projection {
    let Some(steps) = Steps::of(&leaf.column.kind, transform) else {
        return Projection::nothing();
    };
    let projected = match &leaf.test {
        Test::Compare(cmp, value) => match whole(value) {
            Some(value) => stepped_comparison(&steps, *cmp, value),
            None => None,
        },
        Test::In(values) => stepped_values(&steps, values)
            .map(|v| Projection { inclusive: Node::Leaf(Test::In(v)), strict: Node::False }),
        Test::NotIn(values) => stepped_values(&steps, values).map(|v| Projection {
            inclusive: Node::Leaf(Test::NotNull),
            strict: Node::Leaf(Test::NotIn(v)),
        }),
        _ => None,
    };
    projected.unwrap_or_else(Projection::not_null)
}

/// Every partition value that rows with one of `values` may have been stored under.
fn stepped_values(steps: &Steps, values: &Values) -> Option<Arc<Values>> {
    let mut stored = Vec::with_capacity(values.len());
    for value in values.iter() {
        let step = steps.step(whole(value)?)?;
        stored.extend(stored_as(steps, step)?);
    }
    Some(Arc::new(Values::new(stored)))
}

fn stored_as(steps: &Steps, step: i128) -> Option<Vec<PrimitiveLiteral>> {
    match steps.quirk {
        Quirk::BeforeEpoch if step < 0 => Some(vec![(steps.make)(step)?, (steps.make)(step + 1)?]),
        // The only values without a place are those that wrapped: no pruning for them.
        _ => Some(vec![(steps.make)(step)?]),
    }
}

fn stepped_comparison(steps: &Steps, cmp: Cmp, value: i128) -> Option<Projection> {
    let (min, max) = steps.limits;
    match cmp {
        Cmp::Eq | Cmp::NotEq => {
            let stored = Arc::new(Values::new(stored_as(steps, steps.step(value)?)?));
            Some(match cmp {
                Cmp::Eq => {
                    Projection { inclusive: Node::Leaf(Test::In(stored)), strict: Node::False }
                }
                _ => Projection {
                    inclusive: Node::Leaf(Test::NotNull),
                    strict: Node::Leaf(Test::NotIn(stored)),
                },
            })
        }
        // v < x is v <= x - 1, v > x is v >= x + 1.
        Cmp::Less if value <= min => {
            Some(Projection { inclusive: Node::False, strict: Node::False })
        }
        Cmp::Greater if value >= max => {
            Some(Projection { inclusive: Node::False, strict: Node::False })
        }
        Cmp::Less => up_to(steps, value - 1),
        Cmp::LessEq => up_to(steps, value),
        Cmp::Greater => from(steps, value + 1),
        Cmp::GreaterEq => from(steps, value),
    }
}

/// `v <= x`.
fn up_to(steps: &Steps, x: i128) -> Option<Projection> {
    let (_, max) = steps.limits;
    let last = steps.step(x)?;
    let reach = if steps.quirk == Quirk::BeforeEpoch && last < 0 { last + 1 } else { last };
    let inclusive = compare_to(steps, Cmp::LessEq, reach).unwrap_or(Node::False);
    let strict = if x >= max {
        Node::Leaf(Test::NotNull)
    } else {
        // The step after which values above x begin.
        compare_to(steps, Cmp::Less, steps.step(x + 1)?).unwrap_or(Node::False)
    };
    Some(Projection { inclusive: or_wrapped(steps, inclusive), strict })
}

/// `v >= x`.
fn from(steps: &Steps, x: i128) -> Option<Projection> {
    let (min, _) = steps.limits;
    let first = steps.step(x)?;
    let inclusive = compare_to(steps, Cmp::GreaterEq, first).unwrap_or(Node::True);
    let strict = if x <= min {
        Node::Leaf(Test::NotNull)
    } else {
        let below = steps.step(x - 1)?;
        let reach = if steps.quirk == Quirk::BeforeEpoch && below < 0 { below + 1 } else { below };
        not_wrapped(steps, compare_to(steps, Cmp::Greater, reach).unwrap_or(Node::False))
    };
    Some(Projection { inclusive, strict })
}

/// A comparison with a partition value; `None` if that value is beyond the partition's type,
/// which only happens next to the minimum.
fn compare_to(steps: &Steps, cmp: Cmp, step: i128) -> Option<Node<Test>> {
    Some(Node::Leaf(Test::Compare(cmp, (steps.make)(step)?)))
}

/// The lowest partition value that may be a wrapped one.
fn wrapped_from(steps: &Steps) -> Option<PrimitiveLiteral> {
    (steps.quirk == Quirk::Wraps).then(|| (steps.make)(steps.limits.1 - steps.width))?
}

fn or_wrapped(steps: &Steps, node: Node<Test>) -> Node<Test> {
    match wrapped_from(steps) {
        Some(from) => Node::any(vec![node, Node::Leaf(Test::Compare(Cmp::GreaterEq, from))]),
        None if steps.quirk == Quirk::Wraps => Node::Leaf(Test::NotNull),
        None => node,
    }
}

fn not_wrapped(steps: &Steps, node: Node<Test>) -> Node<Test> {
    match wrapped_from(steps) {
        Some(from) => Node::all(vec![node, Node::Leaf(Test::Compare(Cmp::Less, from))]),
        None if steps.quirk == Quirk::Wraps => Node::False,
        None => node,
    }
}

/// The first `width` code points, or bytes; and whether something was cut.
fn prefix(value: &PrimitiveLiteral, width: u32) -> Option<(PrimitiveLiteral, bool)> {
    let width = usize::try_from(width).ok()?;
    match value {
        PrimitiveLiteral::String(text) => match text.char_indices().nth(width) {
            Some((at, _)) => Some((PrimitiveLiteral::String(text.get(..at)?.to_string()), true)),
            None => Some((value.clone(), false)),
        },
        PrimitiveLiteral::Binary(bytes) => {
            let kept = bytes.get(..width.min(bytes.len()))?.to_vec();
            Some((PrimitiveLiteral::Binary(kept), bytes.len() > width))
        }
        _ => None,
    }
}

/// True if a value of this length cannot be the prefix of a longer one under `width`.
fn shorter_than(value: &PrimitiveLiteral, width: u32) -> bool {
    let length = match value {
        PrimitiveLiteral::String(text) => text.chars().count(),
        PrimitiveLiteral::Binary(bytes) => bytes.len(),
        _ => return false,
    };
    u64::try_from(length).is_ok_and(|length| length < u64::from(width))
}

/// Truncation of text and bytes: the partition value is a prefix (EXP-12).
fn text(leaf: &Leaf, width: u32) -> Projection {
    text_projection(&leaf.test, width).unwrap_or_else(Projection::not_null)
}

fn text_projection(test: &Test, width: u32) -> Option<Projection> {
    let at = |cmp, value: &PrimitiveLiteral| Node::Leaf(Test::Compare(cmp, value.clone()));
    let (inclusive, strict) = match test {
        Test::Compare(cmp, value) => {
            let (cut, was_cut) = prefix(value, width)?;
            match cmp {
                // A prefix is never above the whole, so an uncut literal keeps the strict sign.
                Cmp::Less if !was_cut => (at(Cmp::Less, &cut), at(Cmp::Less, &cut)),
                Cmp::Less | Cmp::LessEq => (at(Cmp::LessEq, &cut), at(Cmp::Less, &cut)),
                Cmp::GreaterEq if !was_cut => (at(Cmp::GreaterEq, &cut), at(Cmp::GreaterEq, &cut)),
                Cmp::Greater | Cmp::GreaterEq => (at(Cmp::GreaterEq, &cut), at(Cmp::Greater, &cut)),
                Cmp::Eq if shorter_than(value, width) => (at(Cmp::Eq, &cut), at(Cmp::Eq, &cut)),
                Cmp::Eq => (at(Cmp::Eq, &cut), Node::False),
                Cmp::NotEq => (Node::Leaf(Test::NotNull), at(Cmp::NotEq, &cut)),
            }
        }
        Test::StartsWith(value) => match prefix(value, width)? {
            (_, false) => return Some(Projection::exact(test.clone())),
            (cut, true) => (at(Cmp::Eq, &cut), Node::False),
        },
        Test::NotStartsWith(value) => match prefix(value, width)? {
            (_, false) => return Some(Projection::exact(test.clone())),
            (cut, true) => (Node::Leaf(Test::NotNull), at(Cmp::NotEq, &cut)),
        },
        Test::In(values) => {
            let whole = values.iter().filter(|v| shorter_than(v, width)).cloned();
            let strict = Node::Leaf(Test::In(Arc::new(Values::new(whole))));
            (Node::Leaf(Test::In(prefixes(values, width)?)), strict)
        }
        Test::NotIn(values) => {
            let prefixes = prefixes(values, width)?;
            (Node::Leaf(Test::NotNull), Node::Leaf(Test::NotIn(prefixes)))
        }
        _ => return None,
    };
    Some(Projection { inclusive, strict })
}

fn prefixes(values: &Values, width: u32) -> Option<Arc<Values>> {
    let cut = values.iter().map(|v| prefix(v, width).map(|(cut, _)| cut));
    Some(Arc::new(Values::new(cut.collect::<Option<Vec<_>>>()?)))
}
