//! Position deletes, merged: one file per data file, and none that deletes nothing.
//!
//! ```text
//! table.rewrite_position_deletes(options) ─plan→ RewriteDeletesPlan ─run→ RewriteDeletesReport
//! ```
//!
//! *Plan*: delete files that no live row can meet any more (dangling), and data files with several
//! position delete files, or with one that others share. *Run*: dangling files go first, in one
//! commit; then the positions of each data file are read and written as one file. *Commit*: many
//! data files at once, as a `replace`; merged deletes keep their age, so each applies to what
//! it applied to (MNT-41). Rules: `format-spec/maintenance.md`.

mod dangling;
mod merge;
mod plan;
mod report;
mod run;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::maintenance::Progress;
use crate::spec::{MAIN_BRANCH, Predicate};
use crate::table::Table;

pub use dangling::DanglingDelete;
pub use plan::{RewriteDeletesGroup, RewriteDeletesPlan};
pub use report::RewriteDeletesReport;

/// How position deletes are merged, and which delete files go.
#[derive(Debug, Clone)]
pub struct RewriteDeletesOptions {
    /// Which partitions; all unless set. Partition values must decide it.
    pub filter: Option<Predicate>,
    /// The branch to work on; `main`.
    pub branch: String,
    /// So many position delete files of one data file are merged; 2. Files that are about several
    /// data files, as other engines write them, are always split.
    pub min_input_files: usize,
    /// Delete files that no live row can meet go, equality deletes too; on.
    pub remove_dangling: bool,
    /// Delete files that one commit replaces at most, about; 10,000: what a kill can cost.
    pub max_files_per_commit: usize,
    /// What is finished is committed at least this often; a minute.
    pub commit_interval: Duration,
    /// Data files whose deletes are merged at the same time; one a core.
    pub max_concurrent_files: usize,
    /// Bytes that positions may take; 256 MiB. Files about several data files that do not fit
    /// are read once a data file.
    pub memory_budget_bytes: u64,
    /// How often work is planned again when other commits are in the way; 10.
    pub replans: u32,
}

impl Default for RewriteDeletesOptions {
    fn default() -> Self {
        Self {
            filter: None,
            branch: MAIN_BRANCH.to_string(),
            min_input_files: 2,
            remove_dangling: true,
            max_files_per_commit: 10_000,
            commit_interval: Duration::from_secs(60),
            max_concurrent_files: std::thread::available_parallelism().map_or(2, |n| n.get()),
            memory_budget_bytes: 256 * 1024 * 1024,
            replans: 10,
        }
    }
}

impl RewriteDeletesOptions {
    fn check(&self) -> Result<()> {
        if self.min_input_files < 2 {
            return Err(Error::invalid("one delete file cannot be merged")
                .with_context("min_input_files", self.min_input_files)
                .with_hint("give `min_input_files` at least 2"));
        }
        if self.max_files_per_commit == 0 || self.max_concurrent_files == 0 {
            return Err(Error::invalid("`max_files_per_commit` or `max_concurrent_files` is zero")
                .with_hint("give both at least 1"));
        }
        Ok(())
    }
}

/// A rewrite of deletes in the making; see [`Table::rewrite_position_deletes`].
#[derive(Debug, Clone)]
#[must_use = "nothing is rewritten before `run` is awaited"]
pub struct RewriteDeletes {
    table: Table,
    options: RewriteDeletesOptions,
    progress: Arc<dyn Progress>,
}

impl Table {
    /// Merges the position deletes of each data file into one file, and removes delete files that
    /// no live row can meet. Rows stay what they are, and followers see no change.
    ///
    /// ```no_run
    /// # use meltwater::maintenance::RewriteDeletesOptions;
    /// # async fn run(table: meltwater::table::Table) -> meltwater::Result<()> {
    /// let rewrite = table.rewrite_position_deletes(RewriteDeletesOptions::default());
    /// println!("{}", rewrite.plan().await?);
    /// println!("{}", rewrite.run().await?);
    /// # Ok(()) }
    /// ```
    pub fn rewrite_position_deletes(&self, options: RewriteDeletesOptions) -> RewriteDeletes {
        RewriteDeletes { table: self.clone(), options, progress: Arc::new(()) }
    }
}

impl RewriteDeletes {
    /// Who is told how far it has come, and may stop it between two files.
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// What would be done, from metadata alone. Nothing is written.
    ///
    /// # Errors
    /// `InvalidInput` for a filter that does not bind or is not decided by partitions; `NotFound`
    /// for an unknown branch; otherwise what planning a scan gives.
    pub async fn plan(&self) -> Result<RewriteDeletesPlan> {
        plan::plan(&self.table, &self.options).await
    }

    /// Plans and does it.
    ///
    /// # Errors
    /// As [`Self::plan`] and [`Self::run_plan`].
    pub async fn run(self) -> Result<RewriteDeletesReport> {
        let plan = self.plan().await?;
        self.run_plan(plan).await
    }

    /// Does what `plan` says. What fails leaves no files behind, unless nobody knows whether its
    /// commit landed; the rest goes on.
    ///
    /// # Errors
    /// `InvalidInput` for a plan of another table or branch. The first failure, if nothing at all
    /// was committed; otherwise failures are in the report.
    pub async fn run_plan(self, plan: RewriteDeletesPlan) -> Result<RewriteDeletesReport> {
        run::run(self, plan).await
    }
}
