//! `ls`, `drop`, `rename`, `register`: what is where, under which name.

use clap::Args;
use serde_json::json;

use super::failure::Outcome;
use super::session::{Session, ident};
use super::terminal::{Listing, OutputFormat, say};
use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{NamespaceIdent, TableIdent};
use crate::table::Table;

/// List namespaces and tables.
#[derive(Debug, Args)]
pub(super) struct Ls {
    /// Only this namespace and those below it
    namespace: Option<String>,
}

impl Ls {
    /// Prints one line per table, and one per namespace without tables.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let catalog = session.catalog(false).await?;
        let mut waiting = match &self.namespace {
            Some(name) => vec![namespace(name)?],
            None => catalog.list_namespaces(None).await?,
        };
        let mut listing = Listing::new(&["namespace", "table"]);
        waiting.reverse();
        while let Some(namespace) = waiting.pop() {
            let tables = catalog.list_tables(&namespace).await?;
            let name = namespace.to_url_string().replace('\u{1f}', ".");
            if tables.is_empty() {
                listing.push(vec![json!(name), json!(null)]);
            }
            for table in tables {
                listing.push(vec![json!(name), json!(table.name())]);
            }
            let mut below = catalog.list_namespaces(Some(&namespace)).await?;
            below.reverse();
            waiting.extend(below);
        }
        listing.print(session.output)
    }
}

fn namespace(name: &str) -> Result<NamespaceIdent> {
    Ok(NamespaceIdent::from_strs(name.split('.'))?)
}

/// Makes the table's namespace and those above it where they are missing.
pub(super) async fn ensure_namespace(catalog: &dyn Catalog, table: &TableIdent) -> Result<()> {
    let levels: Vec<&String> = table.namespace().iter().collect();
    for depth in 1..=levels.len() {
        let namespace = NamespaceIdent::from_strs(levels.iter().take(depth).copied())?;
        match catalog.create_namespace(&namespace, Default::default()).await {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Forget a table, and remove its files if asked to.
#[derive(Debug, Args)]
pub(super) struct Drop {
    /// NAMESPACE.TABLE
    table: String,
    /// Also remove every file that its snapshots refer to
    #[arg(long)]
    purge: bool,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

impl Drop {
    /// Drops, then purges.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.table(&self.table).await?;
        if self.purge {
            table.check_gc_enabled()?;
        }
        let snapshots = table.metadata().snapshots().len();
        if self.dry_run {
            let files = if self.purge {
                "and remove the files of all of them"
            } else {
                "and keep its files"
            };
            say(format!("would forget `{}` with {snapshots} snapshots {files}", table.ident()));
            return Ok(());
        }
        let catalog = table.catalog().clone();
        let last = catalog.drop_table(table.ident()).await?;
        let location = last.metadata_location.clone();
        if !self.purge {
            say(format!(
                "dropped `{}`; `meltwater register {0} {location}` brings it back",
                table.ident()
            ));
            return Ok(());
        }
        let report = Table::from_loaded(catalog, table.ident().clone(), last).purge_files().await?;
        if report.failed > 0 {
            let message =
                format!("{} files of `{}` could not be removed", report.failed, table.ident());
            return Err(Error::new(ErrorKind::Unavailable, message).into());
        }
        say(format!(
            "dropped `{}` and removed {} data and delete files and {} metadata files",
            table.ident(),
            report.content_files,
            report.metadata_files
        ));
        Ok(())
    }
}

/// Give a table another name.
#[derive(Debug, Args)]
pub(super) struct Rename {
    /// NAMESPACE.TABLE
    from: String,
    /// NAMESPACE.TABLE; the namespace is made if it is missing
    to: String,
}

impl Rename {
    /// Renames; the files stay where they are.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let (from, to) = (ident(&self.from)?, ident(&self.to)?);
        let catalog = session.catalog(false).await?;
        ensure_namespace(catalog.as_ref(), &to).await?;
        catalog.rename_table(&from, &to).await?;
        say(format!("renamed `{from}` to `{to}`"));
        Ok(())
    }
}

/// Take a table over by its metadata file.
#[derive(Debug, Args)]
pub(super) struct Register {
    /// NAMESPACE.TABLE
    table: String,
    /// The location of its current metadata file
    metadata: String,
}

impl Register {
    /// Registers.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let name = ident(&self.table)?;
        let catalog = session.catalog(true).await?;
        ensure_namespace(catalog.as_ref(), &name).await?;
        let loaded = catalog.register_table(&name, &absolute(&self.metadata)?).await?;
        let mut listing = Listing::new(&["table", "metadata_location"]);
        listing.push(vec![json!(name.to_string()), json!(loaded.metadata_location)]);
        if session.output == OutputFormat::Json {
            return listing.print(session.output);
        }
        say(format!("registered `{name}` at {}", loaded.metadata_location));
        Ok(())
    }
}

/// Locations in metadata are absolute; a path that a person types may be relative.
pub(super) fn absolute(place: &str) -> Outcome<String> {
    if place.contains("://") {
        return Ok(place.to_string());
    }
    let path = std::path::absolute(place)?;
    Ok(format!("file://{}", path.display()))
}
