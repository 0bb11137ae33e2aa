//! The columns that the options of a stream name, as fields: a field keeps its id whatever it is
//! called.
//!
//! A name means the table's column when the stream opens, or else the newest column that once had
//! it, so that a command still works after a column was renamed or dropped (STR-14).

use std::collections::BTreeMap;

use super::builder::StreamOptions;
use crate::error::{Error, Result};
use crate::expr;
use crate::read::ChangeReadOptions;
use crate::spec::{Predicate, Schema, SchemaRef};
use crate::table::Table;

/// The field that a name means.
pub(super) fn field_named(table: &Table, name: &str) -> Option<i32> {
    if let Some(id) = table.schema().field_id_by_name(name) {
        return Some(id);
    }
    let schemas = table.metadata().schemas_iter();
    let had_it = schemas.filter_map(|s| Some((s.schema_id(), s.field_id_by_name(name)?)));
    had_it.max().map(|(_, id)| id)
}

/// What the options name.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// Metadata columns have no field.
    select: Option<Vec<(String, Option<i32>)>>,
    filter: Option<Predicate>,
    filter_fields: BTreeMap<String, i32>,
    key: Option<Vec<(String, i32)>>,
}

impl Named {
    pub fn new(table: &Table, options: &StreamOptions) -> Result<Self> {
        let select = options.select.as_ref().map(|names| {
            names.iter().map(|name| (name.clone(), field_named(table, name))).collect()
        });
        let read = options.filter.iter().flat_map(expr::names);
        // An unknown name is refused where the filter is bound.
        let known = read.filter_map(|name| Some((name.to_string(), field_named(table, name)?)));
        let filter_fields = known.collect();
        let key = match &options.key {
            Some(names) => Some(key_fields(table, names)?),
            None => None,
        };
        Ok(Self { select, filter: options.filter.clone(), filter_fields, key })
    }

    /// Puts the names that `schema` has for the columns into reading options. A selected column
    /// that it does not have is left out.
    ///
    /// # Errors
    /// `InvalidInput` if no selected column is left, or a column of filter or key is not there.
    pub fn name_in(&self, schema: &SchemaRef, read: &mut ChangeReadOptions) -> Result<()> {
        let name = |id: i32| schema.name_by_field_id(id).map(str::to_string);
        if let Some(select) = &self.select {
            let named = select.iter().filter_map(|(given, field)| match field {
                None => Some(given.clone()),
                Some(id) => name(*id),
            });
            let names: Vec<String> = named.collect();
            if names.is_empty() && !select.is_empty() {
                let given: Vec<&str> = select.iter().map(|(given, _)| given.as_str()).collect();
                return Err(lost(schema, &given.join(", "), "selected"));
            }
            read.select = Some(names);
        }
        if let Some(filter) = &self.filter {
            let renamed = expr::renamed(filter, &|given| match self.filter_fields.get(given) {
                None => Ok(given.to_string()),
                Some(id) => name(*id).ok_or_else(|| lost(schema, given, "filtered by")),
            });
            read.filter = Some(renamed?);
        }
        if let Some(key) = &self.key {
            let names = key.iter().map(|(given, id)| {
                name(*id).ok_or_else(|| lost(schema, given, "part of the stream's key"))
            });
            read.key = Some(names.collect::<Result<_>>()?);
        }
        Ok(())
    }
}

/// The fields of a key that is named by an option.
pub(super) fn key_fields(table: &Table, names: &[String]) -> Result<Vec<(String, i32)>> {
    let field = |name: &String| {
        let id = field_named(table, name).ok_or_else(|| {
            Error::invalid("the table has no such key column").with_context("column", name)
        })?;
        Ok((name.clone(), id))
    };
    names.iter().map(field).collect()
}

fn lost(schema: &Schema, column: &str, role: &str) -> Error {
    Error::invalid(format!("the schema lacks a column that is {role}"))
        .with_context("column", column)
        .with_context("schema", schema.schema_id())
        .with_hint("start a stream without that column at the position before this snapshot")
}
