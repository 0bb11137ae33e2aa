//! From what was written to a [`Predicate`]: NOT goes down to the tests, chains are balanced.

use crate::expr::coerce::{Coerced, comparison, membership, not_null};
use crate::expr::filter::Cmp;
use crate::spec::{Datum, Predicate, Reference};

/// A condition as written.
pub(super) enum Ast {
    Constant(bool),
    Not(Box<Ast>),
    All(Vec<Ast>),
    Any(Vec<Ast>),
    Test(String, Item),
}

/// One test of a column.
pub(super) enum Item {
    Compare(Cmp, Coerced),
    In(Vec<Coerced>),
    StartsWith(String),
    Null,
    Nan,
    /// A boolean column on its own: unknown where it is null.
    IsBool(bool),
    /// `IS TRUE`, `IS FALSE`: never unknown.
    IsTruth(bool),
}

impl Ast {
    pub(super) fn test(name: &str, item: Item) -> Self {
        Self::Test(name.to_string(), item)
    }

    pub(super) fn negated_if(self, negated: bool) -> Self {
        if negated { Self::Not(Box::new(self)) } else { self }
    }
}

/// The predicate, or its negation. The result has no NOT in it, so that "unknown" stays unknown
/// on both sides (EXP-1).
pub(super) fn lower(ast: Ast, negated: bool) -> Predicate {
    match ast {
        Ast::Constant(value) if value != negated => Predicate::AlwaysTrue,
        Ast::Constant(_) => Predicate::AlwaysFalse,
        Ast::Not(inner) => lower(*inner, !negated),
        Ast::All(parts) => join(parts, negated, !negated),
        Ast::Any(parts) => join(parts, negated, negated),
        Ast::Test(name, item) => test(&name, item, negated),
    }
}

fn join(parts: Vec<Ast>, negated: bool, conjunction: bool) -> Predicate {
    let parts = parts.into_iter().map(|part| lower(part, negated)).collect();
    balanced(parts, conjunction)
}

/// A tree of logarithmic depth, so that a chain of thousands cannot exhaust the stack.
fn balanced(mut parts: Vec<Predicate>, conjunction: bool) -> Predicate {
    while parts.len() > 1 {
        let mut next = Vec::with_capacity(parts.len().div_ceil(2));
        let mut rest = parts.into_iter();
        while let Some(left) = rest.next() {
            next.push(match rest.next() {
                Some(right) if conjunction => left.and(right),
                Some(right) => left.or(right),
                None => left,
            });
        }
        parts = next;
    }
    let empty = if conjunction { Predicate::AlwaysTrue } else { Predicate::AlwaysFalse };
    parts.pop().unwrap_or(empty)
}

fn test(name: &str, item: Item, negated: bool) -> Predicate {
    let column = || Reference::new(name);
    match (item, negated) {
        (Item::Compare(cmp, literal), false) => comparison(name, cmp, literal),
        (Item::Compare(cmp, literal), true) => comparison(name, opposite(cmp), literal),
        (Item::In(values), negated) => membership(name, values, negated),
        // Every text starts with the empty one.
        (Item::StartsWith(prefix), false) if prefix.is_empty() => not_null(name),
        (Item::StartsWith(prefix), true) if prefix.is_empty() => Predicate::AlwaysFalse,
        (Item::StartsWith(prefix), false) => column().starts_with(Datum::string(prefix)),
        (Item::StartsWith(prefix), true) => column().not_starts_with(Datum::string(prefix)),
        (Item::Null, false) => column().is_null(),
        (Item::Null, true) => column().is_not_null(),
        (Item::Nan, false) => column().is_nan(),
        (Item::Nan, true) => column().is_not_nan(),
        (Item::IsBool(value), negated) => column().equal_to(Datum::bool(value != negated)),
        (Item::IsTruth(value), false) => column().equal_to(Datum::bool(value)),
        (Item::IsTruth(value), true) => {
            column().equal_to(Datum::bool(!value)).or(column().is_null())
        }
    }
}

fn opposite(cmp: Cmp) -> Cmp {
    match cmp {
        Cmp::Less => Cmp::GreaterEq,
        Cmp::LessEq => Cmp::Greater,
        Cmp::Greater => Cmp::LessEq,
        Cmp::GreaterEq => Cmp::Less,
        Cmp::Eq => Cmp::NotEq,
        Cmp::NotEq => Cmp::Eq,
    }
}
