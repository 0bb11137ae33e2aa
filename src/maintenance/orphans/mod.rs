//! Orphans: files in a table's folder that nothing in the table names.
//!
//! ```text
//! table.remove_orphans(options) ─plan→ OrphanPlan ─run→ OrphanReport
//! ```
//!
//! *Plan*: the folder is listed first and the metadata is loaded after, so that what was committed
//! in between is known. What no snapshot of any metadata version in the log reaches, and is older
//! than the floor, is an orphan. *Run* deletes these. Rules: `format-spec/maintenance.md`.

mod listing;
mod places;
mod reach;
mod report;
mod run;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;

use crate::error::Result;
use crate::maintenance::Progress;
use crate::table::Table;

pub use report::{OrphanFile, OrphanPlan, OrphanReport};
pub(super) use run::all_tables;

/// The age below which a file may still be on its way into the table.
const FLOOR: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// What to do where metadata and listing name one path in two stores, such as `s3://a/t/x` and
/// `s3://b/t/x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrefixMismatch {
    /// Refuse: somebody must say what is meant.
    #[default]
    Error,
    /// Such files stay.
    Ignore,
    /// Such files are orphans: the metadata means another store.
    Delete,
}

/// Values that shape a removal of orphans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanOptions {
    /// Files younger than this stay; 3 days, and no less without `allow_younger`.
    pub older_than: Duration,
    /// Takes an age below 3 days: only when no writer is at work.
    pub allow_younger: bool,
    /// Paths that are found in two stores.
    pub prefix_mismatch: PrefixMismatch,
    /// Stores that are the same one, such as `("s3://a", "s3://alias")`. Spellings of one store
    /// (`file:/`, `file:///`; `s3a`, `s3n`, `s3`) need not be named.
    pub equal_prefixes: Vec<(String, String)>,
}

impl Default for OrphanOptions {
    fn default() -> Self {
        Self {
            older_than: FLOOR,
            allow_younger: false,
            prefix_mismatch: PrefixMismatch::default(),
            equal_prefixes: Vec::new(),
        }
    }
}

/// A removal of orphans in the making; see [`Table::remove_orphans`].
#[derive(Debug, Clone)]
#[must_use = "nothing is removed before `run` is awaited"]
pub struct RemoveOrphans {
    table: Table,
    options: OrphanOptions,
    progress: Arc<dyn Progress>,
}

impl Table {
    /// Removes files in the table's folder that nothing in the table names.
    ///
    /// ```no_run
    /// # use meltwater::maintenance::OrphanOptions;
    /// # async fn run(table: meltwater::table::Table) -> meltwater::Result<()> {
    /// let orphans = table.remove_orphans(OrphanOptions::default());
    /// let plan = orphans.plan().await?;
    /// println!("{plan}");
    /// println!("{}", orphans.run_plan(&plan).await?);
    /// # Ok(()) }
    /// ```
    pub fn remove_orphans(&self, options: OrphanOptions) -> RemoveOrphans {
        RemoveOrphans { table: self.clone(), options, progress: Arc::new(()) }
    }
}

impl RemoveOrphans {
    /// Who is told how far it has come, and may stop the deletion.
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Finds the orphans. Memory: 32 bytes per file that is old enough.
    ///
    /// # Errors
    /// * `InvalidInput` for an age below the floor, `gc.enabled=false`, a folder shared with
    ///   another table of the catalog, and paths that are found in two stores.
    /// * `Unsupported` for a table that cannot be committed to here.
    /// * Whatever reading the metadata gives: what cannot be read may name any file.
    pub async fn plan(&self) -> Result<OrphanPlan> {
        run::plan(self).await
    }

    /// The files of a plan, listed anew.
    ///
    /// # Errors
    /// In the stream: the folder cannot be listed.
    pub fn files(&self, plan: &OrphanPlan) -> Result<BoxStream<'static, Result<OrphanFile>>> {
        run::files(self, plan)
    }

    /// Plans and deletes.
    ///
    /// # Errors
    /// As [`RemoveOrphans::plan`].
    pub async fn run(self) -> Result<OrphanReport> {
        let plan = self.plan().await?;
        self.run_plan(&plan).await
    }

    /// Deletes the files of a plan. Those that cannot be deleted are in the report.
    ///
    /// # Errors
    /// `InvalidInput` for a plan of another table.
    pub async fn run_plan(&self, plan: &OrphanPlan) -> Result<OrphanReport> {
        run::run_plan(self, plan).await
    }
}
