//! `create`: a table from a schema file, or like a data file.

use clap::{ArgGroup, Args};
use serde_json::json;

use super::failure::{Failure, Outcome};
use super::input::{FileFormat, schema_of};
use super::names::{absolute, ensure_namespace};
use super::partition::partition_spec;
use super::schema::{schema_from_file, schema_like};
use super::session::{Session, ident};
use super::terminal::{Listing, OutputFormat, say};
use crate::catalog::NewTable;
use crate::error::{Error, ErrorKind};

/// Make a table.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("columns").args(["schema", "like"]).required(true)))]
pub(super) struct Create {
    /// NAMESPACE.TABLE; the namespace is made if it is missing
    table: String,
    /// Columns: Iceberg schema JSON, or {"id": "long not null", "name": "string"}
    #[arg(long, value_name = "FILE.json")]
    schema: Option<String>,
    /// Columns like those of a Parquet, CSV, JSON lines or Arrow file
    #[arg(long, value_name = "FILE")]
    like: Option<String>,
    /// The format of the --like file, if its name does not say
    #[arg(long, value_enum, requires = "like")]
    format: Option<FileFormat>,
    /// Columns that name a row (identifier fields); made required
    #[arg(long, value_name = "a,b", value_delimiter = ',')]
    key: Vec<String>,
    /// How rows are partitioned, such as 'day(ts), bucket(16, id), truncate(4, name), region'
    #[arg(long, value_name = "FIELDS")]
    partition: Option<String>,
    /// A table property; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    property: Vec<String>,
    /// Where the table's files go; the catalog chooses otherwise
    #[arg(long, value_name = "URL")]
    location: Option<String>,
}

impl Create {
    /// Makes the table.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let name = ident(&self.table)?;
        let schema = match (&self.schema, &self.like) {
            (Some(file), _) => schema_from_file(file, &self.key)?,
            (None, Some(file)) => schema_like(&schema_of(file, self.format)?, &self.key)?,
            (None, None) => return Err(Failure::Usage("say --schema or --like".into())),
        };
        let spec = partition_spec(self.partition.as_deref().unwrap_or_default(), &schema)?;
        let mut table = NewTable::new(schema);
        table.spec = spec;
        table.location = self.location.as_deref().map(absolute).transpose()?;
        table.properties = properties(&self.property)?.into_iter().collect();

        let catalog = session.catalog(true).await?;
        ensure_namespace(catalog.as_ref(), &name).await?;
        let loaded = match catalog.create_table(&name, table).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(already_there(error, &self.table).into());
            }
            other => other?,
        };
        if session.output == OutputFormat::Json {
            let mut listing = Listing::new(&["table", "location", "metadata_location"]);
            let location = loaded.metadata.location();
            listing.push(vec![
                json!(name.to_string()),
                json!(location),
                json!(loaded.metadata_location),
            ]);
            return listing.print(session.output);
        }
        say(format!("created `{name}` at {}", loaded.metadata.location()));
        Ok(())
    }
}

fn already_there(error: Error, name: &str) -> Error {
    error.with_hint(format!(
        "`meltwater inspect schema {name}` shows it; `meltwater alter` changes it, `meltwater drop` forgets it"
    ))
}

/// `KEY=VALUE` words.
pub(super) fn properties(words: &[String]) -> Outcome<Vec<(String, String)>> {
    let pair = |word: &String| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        _ => Err(Failure::Usage(format!("a property is KEY=VALUE, not `{word}`"))),
    };
    words.iter().map(pair).collect()
}
