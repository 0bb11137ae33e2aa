//! A filter under other names: the columns stay, what they are called changes.

use crate::error::Result;
use crate::spec::{BinaryExpression, Predicate, Reference, SetExpression, UnaryExpression};

/// The names of the columns that a filter reads, as it writes them.
pub fn names(filter: &Predicate) -> Vec<&str> {
    match filter {
        Predicate::AlwaysTrue | Predicate::AlwaysFalse => Vec::new(),
        Predicate::Not(inner) => inner.inputs().into_iter().flat_map(names).collect(),
        Predicate::And(pair) | Predicate::Or(pair) => {
            pair.inputs().into_iter().flat_map(names).collect()
        }
        Predicate::Unary(e) => vec![e.term().name()],
        Predicate::Binary(e) => vec![e.term().name()],
        Predicate::Set(e) => vec![e.term().name()],
    }
}

/// The same filter with every column called as `name` says.
///
/// # Errors
/// What `name` gives.
pub fn renamed(filter: &Predicate, name: &impl Fn(&str) -> Result<String>) -> Result<Predicate> {
    let term = |of: &Reference| name(of.name()).map(Reference::new);
    Ok(match filter {
        Predicate::AlwaysTrue => Predicate::AlwaysTrue,
        Predicate::AlwaysFalse => Predicate::AlwaysFalse,
        Predicate::Not(inner) => {
            let [inner] = inner.inputs();
            !renamed(inner, name)?
        }
        Predicate::And(pair) | Predicate::Or(pair) => {
            let [left, right] = pair.inputs();
            let (left, right) = (renamed(left, name)?, renamed(right, name)?);
            match filter {
                Predicate::And(_) => left.and(right),
                _ => left.or(right),
            }
        }
        Predicate::Unary(e) => Predicate::Unary(UnaryExpression::new(e.op(), term(e.term())?)),
        Predicate::Binary(e) => {
            let literal = e.literal().clone();
            Predicate::Binary(BinaryExpression::new(e.op(), term(e.term())?, literal))
        }
        Predicate::Set(e) => {
            let literals = e.literals().clone();
            Predicate::Set(SetExpression::new(e.op(), term(e.term())?, literals))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Datum;

    #[test]
    fn every_column_gets_its_new_name_and_nothing_else_changes() {
        let filter = |a: &str, b: &str| {
            let (a, b) = (Reference::new(a), Reference::new(b));
            let either = a.clone().less_than(Datum::long(3)).or(b.clone().is_null());
            let all = either.and(a.is_in([Datum::long(7), Datum::long(8)]));
            all.and(!b.starts_with(Datum::string("x")))
        };
        let before = filter("a", "b.c");
        assert_eq!(names(&before), ["a", "b.c", "a", "b.c"]);
        let after = renamed(&before, &|name| Ok(format!("{name}2"))).unwrap();
        assert_eq!(after, filter("a2", "b.c2"));
        let refused = |_: &str| Err(crate::error::Error::invalid("gone"));
        assert!(renamed(&before, &refused).is_err());
    }
}
