//! Conversion: equality deletes become position deletes of one data file each.
//!
//! ```text
//! table.convert_equality_deletes(options) ─plan→ ConvertPlan ─run→ ConvertReport
//! ```
//!
//! A reader pays for an equality delete in every file that it may reach, for a position delete
//! only in the file that it names. *Plan*: the equality deletes of each scope, and the data files
//! that they may reach. *Run*: the key columns of those files are read once, and each file with
//! dead rows gets one position delete file. *Commit*: one scope at a time, as an overwrite that is
//! marked as no logical change (CMT-3, MNT-10), so followers see nothing of it.
//! Rules: `format-spec/maintenance.md`.

mod plan;
mod run;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::error::Result;
use crate::maintenance::{Progress, Report};
use crate::spec::{MAIN_BRANCH, SnapshotId};
use crate::table::Table;

pub use plan::{ConvertGroup, ConvertPlan};

/// How equality deletes are converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvertOptions {
    /// The branch to work on (default: `main`).
    pub branch: String,
    /// Bytes that the keys and the files being read may take (default: 512 MiB). More keys than fit
    /// are looked up in several passes.
    pub memory_budget_bytes: u64,
    /// Data files that are read at the same time (default: one a core).
    pub max_concurrent_files: usize,
    /// How often a group is planned again after others changed what it relied on (default: 10).
    pub replans: u32,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        Self {
            branch: MAIN_BRANCH.to_string(),
            memory_budget_bytes: 512 * 1024 * 1024,
            max_concurrent_files: std::thread::available_parallelism().map_or(2, |n| n.get()),
            replans: 10,
        }
    }
}

/// A conversion in the making; see [`Table::convert_equality_deletes`].
#[derive(Debug, Clone)]
#[must_use = "nothing is converted before `run` is awaited"]
pub struct ConvertDeletes {
    table: Table,
    options: ConvertOptions,
    progress: Arc<dyn Progress>,
}

impl Table {
    /// Turns the equality deletes of a branch into position deletes. Rows stay what they are, and
    /// followers see no change.
    ///
    /// ```no_run
    /// # use meltwater::maintenance::ConvertOptions;
    /// # async fn run(table: meltwater::table::Table) -> meltwater::Result<()> {
    /// let convert = table.convert_equality_deletes(ConvertOptions::default());
    /// println!("{}", convert.plan().await?);
    /// println!("{}", convert.run().await?);
    /// # Ok(()) }
    /// ```
    pub fn convert_equality_deletes(&self, options: ConvertOptions) -> ConvertDeletes {
        ConvertDeletes { table: self.clone(), options, progress: Arc::new(()) }
    }
}

impl ConvertDeletes {
    /// Who is told how far it has come, and may stop it between two files.
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// What would be done, from metadata alone. Nothing is written.
    ///
    /// # Errors
    /// `NotFound` for an unknown branch; otherwise what planning a scan gives.
    pub async fn plan(&self) -> Result<ConvertPlan> {
        plan::plan(&self.table, &self.options.branch).await
    }

    /// Plans and does it.
    ///
    /// # Errors
    /// As [`Self::plan`] and [`Self::run_plan`].
    pub async fn run(self) -> Result<ConvertReport> {
        let plan = self.plan().await?;
        self.run_plan(plan).await
    }

    /// Does what `plan` says. A group that fails leaves no files behind, unless nobody knows
    /// whether its commit landed; the others go on.
    ///
    /// # Errors
    /// `InvalidInput` for a plan of another table or branch. The first failure, if no group at all
    /// was committed; otherwise failures are in the report.
    pub async fn run_plan(self, plan: ConvertPlan) -> Result<ConvertReport> {
        run::run(self, plan).await
    }
}

/// What a conversion did: the shared numbers, and its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ConvertReport {
    /// What all actions report; before are equality deletes, after are position deletes.
    #[serde(flatten)]
    pub report: Report,
    /// Data files whose key columns were read.
    pub files_read: u64,
    /// The snapshots that were committed, one a group.
    pub snapshots: Vec<SnapshotId>,
}

impl fmt::Display for ConvertReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report.fmt(f)?;
        match self.files_read {
            0 => Ok(()),
            files => write!(f, "\nread the keys of {files} data files"),
        }
    }
}
