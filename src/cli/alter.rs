//! `alter`: schema, partition spec, properties. No step rewrites a file.

use clap::{Args, Subcommand};

use super::create::properties;
use super::failure::{Failure, Outcome};
use super::partition::parse_terms;
use super::schema::{parse_primitive, parse_type};
use super::session::Session;
use super::terminal::say;

/// Change schema, partition spec or properties.
#[derive(Debug, Args)]
pub(super) struct Alter {
    /// NAMESPACE.TABLE
    table: String,
    #[command(subcommand)]
    change: Change,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Columns; the steps of one call are one change, made in the order of the flags below
    Schema(SchemaFlags),
    /// The partition spec of rows written from now on
    Spec(SpecFlags),
    /// Table properties
    Properties(PropertyFlags),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct SchemaFlags {
    /// Rename a column
    #[arg(long, value_name = "COLUMN=NEW")]
    rename: Vec<String>,
    /// Add an optional column
    #[arg(long, value_name = "COLUMN=TYPE")]
    add: Vec<String>,
    /// Widen a type: int to long, float to double, decimal to more digits
    #[arg(long, value_name = "COLUMN=TYPE")]
    widen: Vec<String>,
    /// Allow nulls
    #[arg(long, value_name = "COLUMN")]
    optional: Vec<String>,
    /// Describe a column
    #[arg(long, value_name = "COLUMN=TEXT")]
    doc: Vec<String>,
    /// Drop a column
    #[arg(long, value_name = "COLUMN")]
    drop: Vec<String>,
    /// Move a column to the front
    #[arg(long, value_name = "COLUMN")]
    first: Option<String>,
    /// Move a column after another
    #[arg(long, value_name = "COLUMN=OTHER")]
    after: Vec<String>,
    /// Choose the key (identifier fields)
    #[arg(long, value_name = "a,b", value_delimiter = ',')]
    key: Vec<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct SpecFlags {
    /// Fields to remove, by name (`inspect schema` shows them)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    remove: Vec<String>,
    /// Fields to add, such as 'day(ts), bucket(16, id)'
    #[arg(long, value_name = "FIELDS")]
    add: Option<String>,
    /// Rename a field
    #[arg(long, value_name = "NAME=NEW")]
    rename: Vec<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct PropertyFlags {
    /// Set a property
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Remove a property
    #[arg(long, value_name = "KEY")]
    remove: Vec<String>,
}

impl Alter {
    /// Makes the change in one commit.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.table(&self.table).await?;
        let changed = match self.change {
            Change::Schema(flags) => schema(table.update_schema(), flags)?.commit().await?,
            Change::Spec(flags) => {
                let mut update = table.update_spec();
                for name in &flags.remove {
                    update = update.remove_field(name.trim());
                }
                for term in parse_terms(flags.add.as_deref().unwrap_or_default())? {
                    update = update.add_field(&term.column, term.transform, None);
                }
                for pair in &flags.rename {
                    let (name, to) = split(pair)?;
                    update = update.rename_field(name, to);
                }
                update.commit().await?
            }
            Change::Properties(flags) => {
                let mut update = table.update_properties();
                for (key, value) in properties(&flags.set)? {
                    update = update.set(key, value);
                }
                for key in flags.remove {
                    update = update.remove(key);
                }
                update.commit().await?
            }
        };
        say(format!("changed `{}`; metadata is {}", changed.ident(), changed.metadata_location()));
        Ok(())
    }
}

fn schema(
    mut update: crate::table::SchemaUpdate,
    flags: SchemaFlags,
) -> Outcome<crate::table::SchemaUpdate> {
    for pair in &flags.rename {
        let (column, to) = split(pair)?;
        update = update.rename_column(column, to);
    }
    for pair in &flags.add {
        let (column, kind) = split(pair)?;
        update = update.add_column(column, parse_type(kind)?, None);
    }
    for pair in &flags.widen {
        let (column, kind) = split(pair)?;
        update = update.widen_column(column, parse_primitive(kind)?);
    }
    for column in &flags.optional {
        update = update.make_optional(column);
    }
    for pair in &flags.doc {
        let (column, text) = split(pair)?;
        update = update.set_doc(column, Some(text));
    }
    for column in &flags.drop {
        update = update.drop_column(column);
    }
    if let Some(column) = &flags.first {
        update = update.move_column(column, None);
    }
    for pair in &flags.after {
        let (column, other) = split(pair)?;
        update = update.move_column(column, Some(other));
    }
    if !flags.key.is_empty() {
        update = update.set_identifier_fields(flags.key);
    }
    Ok(update)
}

fn split(pair: &str) -> Outcome<(&str, &str)> {
    match pair.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() && !value.trim().is_empty() => {
            Ok((name.trim(), value.trim()))
        }
        _ => Err(Failure::Usage(format!("`{pair}` should be NAME=VALUE"))),
    }
}
