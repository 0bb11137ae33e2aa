//! `day(ts), bucket(16, id), region` to a partition spec.

use crate::error::{Error, Result};
use crate::spec::{Schema, Transform, UnboundPartitionField, UnboundPartitionSpec};

use super::schema::split_top;

const FORMS: &str = "write columns and transforms, such as `day(ts), bucket(16, id), truncate(4, name), region`; \
                     transforms are year, month, day, hour, bucket, truncate, void";

/// One term: a column under a transform.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Term {
    /// Full column name.
    pub(super) column: String,
    /// The transform.
    pub(super) transform: Transform,
}

/// Reads a list of terms.
///
/// # Errors
/// `InvalidInput` quoting the term that cannot be read.
pub(super) fn parse_terms(text: &str) -> Result<Vec<Term>> {
    split_top(text).into_iter().map(parse_term).collect()
}

fn parse_term(text: &str) -> Result<Term> {
    let wrong = || Error::invalid(format!("`{text}` is no partition field")).with_hint(FORMS);
    let Some((name, rest)) = text.split_once('(') else {
        if text.is_empty() || text.contains(char::is_whitespace) {
            return Err(wrong());
        }
        return Ok(Term { column: text.to_string(), transform: Transform::Identity });
    };
    let arguments = split_top(rest.trim_end().strip_suffix(')').ok_or_else(wrong)?);
    let width = |text: &str| text.parse::<u32>().ok().filter(|n| *n > 0).ok_or_else(wrong);
    let (transform, column) =
        match (name.trim().to_ascii_lowercase().as_str(), arguments.as_slice()) {
            ("identity", [column]) => (Transform::Identity, column),
            ("year" | "years", [column]) => (Transform::Year, column),
            ("month" | "months", [column]) => (Transform::Month, column),
            ("day" | "days", [column]) => (Transform::Day, column),
            ("hour" | "hours", [column]) => (Transform::Hour, column),
            ("void", [column]) => (Transform::Void, column),
            ("bucket", [count, column]) => (Transform::Bucket(width(count)?), column),
            ("truncate", [count, column]) => (Transform::Truncate(width(count)?), column),
            _ => return Err(wrong()),
        };
    match column.is_empty() {
        true => Err(wrong()),
        false => Ok(Term { column: column.to_string(), transform }),
    }
}

/// The name that other engines give such a field: `ts_day`, `id_bucket`, `name_trunc`.
fn field_name(term: &Term) -> String {
    let column = term.column.replace('.', "_");
    match term.transform {
        Transform::Identity => column,
        Transform::Bucket(_) => format!("{column}_bucket"),
        Transform::Truncate(_) => format!("{column}_trunc"),
        Transform::Void => format!("{column}_null"),
        other => format!("{column}_{other}"),
    }
}

/// Binds terms to the columns of a schema.
///
/// # Errors
/// `InvalidInput` naming the column that is unknown, or does not go with its transform.
pub(super) fn partition_spec(text: &str, schema: &Schema) -> Result<UnboundPartitionSpec> {
    let fields = parse_terms(text)?.into_iter().map(|term| {
        let Some(field) = schema.field_by_name(&term.column) else {
            return Err(Error::invalid(format!("no column `{}` to partition by", term.column)));
        };
        term.transform.result_type(&field.field_type).map_err(|error| {
            Error::invalid(format!(
                "`{}` of type {} cannot go under {}",
                term.column, field.field_type, term.transform
            ))
            .with_source(error)
        })?;
        Ok(UnboundPartitionField {
            source_id: field.id,
            field_id: None,
            name: field_name(&term),
            transform: term.transform,
        })
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    Ok(UnboundPartitionSpec::builder().add_partition_fields(fields)?.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_name_columns_under_transforms() {
        let terms = parse_terms("day(ts), bucket(16, id),region , truncate(4,a.b)").unwrap();
        let names: Vec<_> = terms.iter().map(field_name).collect();
        assert_eq!(names, ["ts_day", "id_bucket", "region", "a_b_trunc"]);
        assert_eq!(terms[1], Term { column: "id".into(), transform: Transform::Bucket(16) });
    }

    #[test]
    fn what_cannot_be_read_is_quoted() {
        for bad in ["day(ts", "bucket(id)", "bucket(0, id)", "week(ts)", "day()", "a b", "x,"] {
            let error = parse_terms(bad).unwrap_err();
            assert!(error.hint().is_some(), "{bad}");
        }
    }
}
