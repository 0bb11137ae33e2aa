//! What every command needs: the catalog, the table a word means, the way to stop early.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::config::{Config, DEFAULT_CATALOG};
use super::failure::{Failure, Outcome};
use super::terminal::{OutputFormat, say};
use crate::catalog::{self, Catalog};
use crate::error::{Error, ErrorKind};
use crate::expr::nearest;
use crate::maintenance::MaintainOptions;
use crate::spec::TableIdent;
use crate::storage::{PathMap, Storage};
use crate::table::{PositionStore, Table};

/// The settings of one run of the command.
#[derive(Debug, Clone)]
pub(super) struct Session {
    catalog: String,
    properties: HashMap<String, String>,
    maps: Vec<(String, String)>,
    maintain: Vec<(String, String)>,
    /// How answers are printed.
    pub(super) output: OutputFormat,
    /// Ctrl-C.
    pub(super) interrupt: Interrupt,
}

impl Session {
    /// Flags and environment over `meltwater.toml` over defaults.
    pub(super) fn new(
        catalog: Option<String>,
        output: Option<OutputFormat>,
        map_prefix: &[String],
        interrupt: Interrupt,
    ) -> Outcome<Self> {
        let config = Config::find(&std::env::current_dir()?)?;
        let output = match (output, config.output.as_deref()) {
            (Some(output), _) => output,
            (None, None | Some("table")) => OutputFormat::Table,
            (None, Some("json")) => OutputFormat::Json,
            (None, Some(other)) => {
                return Err(Failure::Usage(format!(
                    "meltwater.toml: output `{other}` is neither `table` nor `json`"
                )));
            }
        };
        let maps = map_prefix.iter().map(|map| match map.split_once('=') {
            Some((from, to)) if !from.is_empty() => Ok((from.to_string(), to.to_string())),
            _ => Err(Failure::Usage(format!("--map-prefix takes FROM=TO, not `{map}`"))),
        });
        Ok(Self {
            maintain: config.maintain(),
            catalog: catalog.or(config.catalog).unwrap_or_else(|| DEFAULT_CATALOG.to_string()),
            properties: config.properties,
            maps: maps.collect::<Outcome<_>>()?,
            output,
            interrupt,
        })
    }

    /// Same session on another catalog.
    pub(super) fn with_catalog(&self, uri: String) -> Self {
        Self { catalog: uri, ..self.clone() }
    }

    /// Opens the catalog; with `make`, one that is not there yet is made.
    pub(super) async fn catalog(&self, make: bool) -> Outcome<Arc<dyn Catalog>> {
        if let Some(file) = sqlite_file(&self.catalog)
            && !make
            && !Path::new(file).exists()
        {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no catalog at `{file}`"),
            )
            .with_hint(
                "`meltwater create` makes one there; --catalog, MELTWATER_CATALOG or \
                     meltwater.toml name another",
            )
            .into());
        }
        Ok(catalog::open(&self.catalog, self.properties.clone()).await?)
    }

    /// The table to write to: named in the catalog, or the folder of a file-system table.
    pub(super) async fn table(&self, name: &str) -> Outcome<Table> {
        if !is_place(name) {
            return self.named(name).await;
        }
        let (table, writable) = self.at_place(name).await?;
        if writable {
            return Ok(table);
        }
        let message = format!("`{name}` belongs to a catalog: named by its place it is read-only");
        Err(Error::invalid(message)
            .with_hint("name it as NAMESPACE.TABLE; `meltwater register` takes a table over")
            .into())
    }

    /// The table to read: named in the catalog, or a table folder or metadata file.
    pub(super) async fn readable(&self, name: &str) -> Outcome<Table> {
        match is_place(name) {
            true => Ok(self.at_place(name).await?.0),
            false => self.named(name).await,
        }
    }

    /// What `[maintain]` of `meltwater.toml` says, over the defaults.
    pub(super) fn maintain_options(&self) -> Outcome<MaintainOptions> {
        let mut options = MaintainOptions::default();
        for (name, value) in &self.maintain {
            options.set(name, value).map_err(|e| e.with_context("file", "meltwater.toml"))?;
        }
        Ok(options)
    }

    /// The stores that the catalog's settings reach.
    pub(super) fn storage(&self) -> Storage {
        Storage::new(self.properties.clone())
    }

    /// Where the positions of this table's streams are stored: the folder given, else
    /// `meltwater-positions` beside the SQLite catalog.
    pub(super) fn positions(&self, table: &str, given: Option<&Path>) -> Outcome<PositionStore> {
        Ok(PositionStore::directory(self.positions_folder(table, given)?)?)
    }

    /// The folder of [`Session::positions`].
    pub(super) fn positions_folder(&self, table: &str, given: Option<&Path>) -> Outcome<PathBuf> {
        match (given, sqlite_file(&self.catalog)) {
            (Some(folder), _) => Ok(folder.to_path_buf()),
            (None, Some(file)) if !is_place(table) => {
                Ok(Path::new(file).with_file_name(PositionStore::FOLDER))
            }
            _ => Err(Failure::Usage(
                "nobody knows where positions are stored here; name a folder with --positions"
                    .into(),
            )),
        }
    }

    async fn named(&self, name: &str) -> Outcome<Table> {
        let ident = ident(name)?;
        let catalog = self.catalog(false).await?;
        match Table::load(catalog.clone(), &ident).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // What is not listed is not suggested: the error matters more than the help.
                let tables = catalog.list_tables(ident.namespace()).await.unwrap_or_default();
                let near = nearest(ident.name(), tables.iter().map(|t| t.name()));
                Err(match (near, error.hint()) {
                    // Between the shortest names everything is near.
                    (Some(near), _) if near != ident.name() && ident.name().len() > 2 => {
                        let near = TableIdent::new(ident.namespace().clone(), near.to_string());
                        error.with_hint(format!("did you mean `{near}`?"))
                    }
                    (_, Some(_)) => error,
                    (_, None) => error.with_hint("`meltwater ls` lists the tables of this catalog"),
                }
                .into())
            }
            other => Ok(other?),
        }
    }

    async fn at_place(&self, name: &str) -> Outcome<(Table, bool)> {
        let maps = self.maps.iter().fold(PathMap::new(), |maps, (from, to)| maps.with(from, to));
        Ok(super::place::open(name, maps, self.properties.clone()).await?)
    }
}

/// The file behind a `sqlite:` URI.
fn sqlite_file(uri: &str) -> Option<&str> {
    let rest = uri.strip_prefix("sqlite:")?;
    Some(rest.split_once('?').map_or(rest, |(file, _)| file))
}

/// Whether a word names a folder or file rather than a table of the catalog.
fn is_place(name: &str) -> bool {
    name.contains('/') || name.ends_with(".metadata.json") || Path::new(name).is_dir()
}

/// `NAMESPACE.TABLE`, the namespace possibly of several levels.
pub(super) fn ident(name: &str) -> Outcome<TableIdent> {
    let levels: Vec<&str> = name.split('.').collect();
    if levels.len() < 2 || levels.iter().any(|l| l.trim().is_empty()) {
        return Err(Failure::Usage(format!(
            "`{name}` names no table: write NAMESPACE.TABLE, or a folder with a `/`"
        )));
    }
    Ok(TableIdent::from_strs(levels).map_err(Error::from)?)
}

/// Ctrl-C and SIGTERM: the first asks to stop cleanly, the second stops at once.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    asked: watch::Receiver<bool>,
}

impl Interrupt {
    /// Starts listening; call it inside the runtime.
    pub(super) fn listen() -> Self {
        let (sender, asked) = watch::channel(false);
        tokio::spawn(async move {
            let mut asked_before = false;
            while signal().await {
                if asked_before {
                    std::process::exit(130);
                }
                asked_before = true;
                say("stopping cleanly; press Ctrl-C again to stop at once");
                let _ = sender.send(true);
            }
            // Without a signal handler nothing ever asks; keep the channel open.
            std::future::pending::<()>().await;
        });
        Self { asked }
    }

    /// Whether the person asked to stop.
    pub(super) fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// Returns when the person asked to stop.
    pub(super) async fn asked(&self) {
        let mut asked = self.asked.clone();
        if asked.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Runs work that may be dropped at any point, such as reading.
    pub(super) async fn or_stop<T>(&self, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        tokio::select! {
            done = work => done,
            () = self.asked() => Err(Failure::Interrupted),
        }
    }
}

/// Waits for one signal; false when the platform gives none.
async fn signal() -> bool {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return false };
        tokio::select! {
            ended = tokio::signal::ctrl_c() => ended.is_ok(),
            got = terminate.recv() => got.is_some(),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_table_or_a_place() {
        assert!(is_place("s3://bucket/db/table"));
        assert!(is_place("./t"));
        assert!(!is_place("sales.orders"));
        assert!(ident("sales.orders").is_ok());
        for bad in ["orders", ".orders", "sales.", ""] {
            assert!(matches!(ident(bad), Err(Failure::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn the_file_of_a_sqlite_uri_is_found() {
        assert_eq!(sqlite_file("sqlite:w/c.db?warehouse=w"), Some("w/c.db"));
        assert_eq!(sqlite_file("file:w"), None);
    }
}
