//! Binding: names become field ids, literals become values of the column's type, NOT disappears.
//!
//! The crate's own `bind` is used at the very end only, on a predicate that is normalised already:
//! by itself it takes `IS NULL` on a required field of an optional struct for false, and
//! `id != 99999999999` on an `int` for true even where `id` is null.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::coerce::{self, Coerced, Raw, coerce};
use super::filter::{Cmp, Filter};
use crate::error::{Error, Result};
use crate::spec::{
    BinaryExpression, Bind, BoundPredicate, Datum, NestedField, NestedFieldRef, Predicate,
    PredicateOperator, PrimitiveLiteral, PrimitiveType, Reference, Schema, SchemaRef, StructType,
    Type, UnaryExpression,
};

/// Binds a filter to a schema: unknown names are refused, literals take the column's type (EXP-2)
/// and NOT is pushed down to the comparisons (EXP-1).
///
/// Binding again to a schema with the same columns gives the same predicate.
///
/// # Errors
/// `InvalidInput` naming the column if it is unknown, not primitive, inside a list or map, or if
/// a literal is no value of its type.
pub fn bind(
    filter: &Predicate,
    schema: &SchemaRef,
    case_sensitive: bool,
) -> Result<BoundPredicate> {
    let normal = normalise(filter, &Binder { schema, case_sensitive }, false)?;
    Ok(normal.bind(without_nested_required(schema)?, true)?)
}

/// The field ids of the columns that a filter reads.
pub fn field_ids(filter: &BoundPredicate) -> BTreeSet<i32> {
    Filter::new(filter).field_ids()
}

struct Binder<'a> {
    schema: &'a Schema,
    case_sensitive: bool,
}

impl Binder<'_> {
    /// The full name and the type of the column that a reference means.
    fn column(&self, reference: &Reference) -> Result<(&str, &PrimitiveType)> {
        let name = reference.name();
        let mut field = self.schema.field_by_name(name);
        if field.is_none() && !self.case_sensitive {
            field = self.schema.field_by_name_case_insensitive(name);
        }
        let Some(field) = field else {
            return Err(unknown_column(name, self.schema));
        };
        primitive_column(field, self.schema)
    }
}

/// The full name and type of a field that filters can read.
pub(super) fn primitive_column<'a>(
    field: &'a NestedFieldRef,
    schema: &'a Schema,
) -> Result<(&'a str, &'a PrimitiveType)> {
    let name = schema.name_by_field_id(field.id).unwrap_or(&field.name);
    let Some(kind) = field.field_type.as_primitive_type() else {
        return Err(Error::invalid(format!(
            "column `{name}` is a {}: a filter reads single values",
            type_word(&field.field_type)
        )));
    };
    if schema.accessor_by_field_id(field.id).is_none() {
        return Err(Error::invalid(format!(
            "column `{name}` is inside a list or map: a filter reads single values"
        )));
    }
    if matches!(kind, PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs) {
        return Err(Error::unsupported(format!("column `{name}` has the v3 type {kind}")));
    }
    Ok((name, kind))
}

fn type_word(kind: &Type) -> &'static str {
    match kind {
        Type::Struct(_) => "struct",
        Type::List(_) => "list",
        Type::Map(_) => "map",
        _ => "value",
    }
}

/// The error for a name that no column has, with the nearest name as a hint.
pub(super) fn unknown_column(name: &str, schema: &Schema) -> Error {
    let error = Error::invalid(format!("there is no column `{name}`"));
    let mut names: Vec<&str> = schema.field_id_to_name_map().values().map(String::as_str).collect();
    names.sort_unstable();
    match nearest(name, names.iter().copied()) {
        Some(known) => error.with_hint(format!("did you mean `{known}`?")),
        None if names.len() <= 30 => {
            error.with_hint(format!("the columns are {}", names.join(", ")))
        }
        None => error,
    }
}

/// The known word that `name` was most likely meant to be, if any is near.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|known| (edits(&name, &known.to_lowercase()), known))
        .min()
        .filter(|(edits, known)| *edits <= 1 + known.chars().count() / 3)
        .map(|(_, known)| known)
}

/// Insertions, deletions and substitutions between two words.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(200).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(200).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = Vec::with_capacity(row.len());
        next.push(left);
        for (above, to) in row.iter().skip(1).zip(&b) {
            left = (diagonal + usize::from(from != *to)).min(above + 1).min(left + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

fn normalise(filter: &Predicate, binder: &Binder<'_>, negated: bool) -> Result<Predicate> {
    let effective = |op: PredicateOperator| if negated { op.negate() } else { op };
    match filter {
        Predicate::AlwaysTrue if negated => Ok(Predicate::AlwaysFalse),
        Predicate::AlwaysFalse if negated => Ok(Predicate::AlwaysTrue),
        Predicate::AlwaysTrue => Ok(Predicate::AlwaysTrue),
        Predicate::AlwaysFalse => Ok(Predicate::AlwaysFalse),
        Predicate::Not(inner) => normalise(inner.inputs()[0], binder, !negated),
        Predicate::And(pair) | Predicate::Or(pair) => {
            let [left, right] = pair.inputs();
            let left = normalise(left, binder, negated)?;
            let right = normalise(right, binder, negated)?;
            let conjunction = matches!(filter, Predicate::And(_)) != negated;
            Ok(if conjunction { left.and(right) } else { left.or(right) })
        }
        Predicate::Unary(e) => {
            let (name, kind) = binder.column(e.term())?;
            unary(name, kind, effective(e.op()))
        }
        Predicate::Binary(e) => {
            let (name, kind) = binder.column(e.term())?;
            binary(name, kind, effective(e.op()), e.literal())
        }
        Predicate::Set(e) => {
            let (name, kind) = binder.column(e.term())?;
            let values = e.literals().iter().map(|d| value(name, kind, d));
            let negated = effective(e.op()) == PredicateOperator::NotIn;
            Ok(coerce::membership(name, values.collect::<Result<_>>()?, negated))
        }
    }
}

fn unary(name: &str, kind: &PrimitiveType, op: PredicateOperator) -> Result<Predicate> {
    let about_nan = matches!(op, PredicateOperator::IsNan | PredicateOperator::NotNan);
    if about_nan && !super::filter::is_float(kind) {
        return Err(Error::invalid(format!("column `{name}` is of type {kind}, which has no NaN")));
    }
    Ok(Predicate::Unary(UnaryExpression::new(op, Reference::new(name))))
}

fn binary(
    name: &str,
    kind: &PrimitiveType,
    op: PredicateOperator,
    literal: &Datum,
) -> Result<Predicate> {
    use PredicateOperator as Op;
    let cmp = match op {
        Op::LessThan => Cmp::Less,
        Op::LessThanOrEq => Cmp::LessEq,
        Op::GreaterThan => Cmp::Greater,
        Op::GreaterThanOrEq => Cmp::GreaterEq,
        Op::Eq => Cmp::Eq,
        Op::NotEq => Cmp::NotEq,
        Op::StartsWith | Op::NotStartsWith => return prefix(name, kind, op, literal),
        other => return Err(Error::invalid(format!("{other} takes no single literal"))),
    };
    Ok(coerce::comparison(name, cmp, value(name, kind, literal)?))
}

fn prefix(
    name: &str,
    kind: &PrimitiveType,
    op: PredicateOperator,
    literal: &Datum,
) -> Result<Predicate> {
    let known = matches!(kind, PrimitiveType::String | PrimitiveType::Binary);
    if !known || literal.data_type() != kind {
        return Err(Error::invalid(format!(
            "column `{name}` of type {kind} cannot start with a value of type {}",
            literal.data_type()
        )));
    }
    // Everything starts with nothing.
    if matches!(literal.literal(), PrimitiveLiteral::String(s) if s.is_empty())
        || matches!(literal.literal(), PrimitiveLiteral::Binary(b) if b.is_empty())
    {
        let positive = op == PredicateOperator::StartsWith;
        return Ok(if positive { coerce::not_null(name) } else { Predicate::AlwaysFalse });
    }
    let column = Reference::new(name);
    Ok(Predicate::Binary(BinaryExpression::new(op, column, literal.clone())))
}

fn value(name: &str, kind: &PrimitiveType, literal: &Datum) -> Result<Coerced> {
    coerce(&Raw::Value(literal.clone()), kind)
        .map_err(|why| Error::invalid(why).with_context("column", name))
}

/// The schema with required fields of optional structs made optional: they are null where the
/// struct is, which the crate's `bind` does not know.
fn without_nested_required(schema: &SchemaRef) -> Result<SchemaRef> {
    let fields = schema.as_struct().fields();
    if !fields.iter().any(|f| matches!(&*f.field_type, Type::Struct(_))) {
        return Ok(schema.clone());
    }
    let relaxed = fields.iter().map(|f| relax(f, false)).collect::<Vec<_>>();
    let schema = Schema::builder().with_schema_id(schema.schema_id()).with_fields(relaxed);
    Ok(Arc::new(schema.build()?))
}

fn relax(field: &NestedFieldRef, under_optional: bool) -> NestedFieldRef {
    let required = field.required && !under_optional;
    let kind = match &*field.field_type {
        Type::Struct(inner) => Type::Struct(StructType::new(
            inner.fields().iter().map(|f| relax(f, !required)).collect(),
        )),
        other => other.clone(),
    };
    Arc::new(NestedField::new(field.id, &field.name, kind, required))
}
