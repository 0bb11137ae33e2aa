//! Compaction: files of the wrong size, or with many deletes, become a few good ones.
//!
//! ```text
//! table.compact(options) ─plan→ CompactPlan ─run→ CompactReport
//! ```
//!
//! *Plan*: candidates by size and deletes, in groups of one spec and partition. *Run*: each group is
//! read merge-on-read and written in order, or sorted. *Commit*: a few finished groups at once, which
//! survive whatever happens to the others. The new rows keep the age of the snapshot
//! that was read, so equality deletes committed meanwhile still kill them; position deletes
//! committed meanwhile are translated to the new files. What cannot be carried over plans
//! groups again. Rules: `format-spec/maintenance.md`.

mod carry;
mod commit;
mod group;
mod options;
mod outputs;
mod plan;
mod report;
mod rewrite;
mod row_map;
mod run;
mod sizes;
mod sort;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::error::Result;
use crate::maintenance::Progress;
use crate::table::Table;

pub use group::{CompactFile, CompactGroup, Reason};
pub use options::{CompactOptions, SortBy, SortColumn};
pub use plan::CompactPlan;
pub use report::CompactReport;

/// A compaction in the making; see [`Table::compact`].
#[derive(Debug, Clone)]
#[must_use = "nothing is compacted before `run` is awaited"]
pub struct Compact {
    table: Table,
    options: CompactOptions,
    progress: Arc<dyn Progress>,
}

impl Table {
    /// Rewrites files of the wrong size and files with many deletes. Rows stay what they are.
    ///
    /// ```no_run
    /// # use meltwater::maintenance::CompactOptions;
    /// # async fn run(table: meltwater::table::Table) -> meltwater::Result<()> {
    /// let compact = table.compact(CompactOptions::default());
    /// println!("{}", compact.plan().await?);
    /// println!("{}", compact.run().await?);
    /// # Ok(()) }
    /// ```
    pub fn compact(&self, options: CompactOptions) -> Compact {
        Compact { table: self.clone(), options, progress: Arc::new(()) }
    }
}

impl Compact {
    /// Who is told how far it has come, and may stop it between two batches.
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// What would be done, from metadata alone. Nothing is written.
    ///
    /// # Errors
    /// `InvalidInput` for options that contradict each other, unknown sort columns, and a filter
    /// that does not bind or is not decided by partitions; `NotFound` for an unknown branch;
    /// otherwise what planning a scan gives.
    pub async fn plan(&self) -> Result<CompactPlan> {
        plan::plan(&self.table, &self.options).await
    }

    /// Plans and does it.
    ///
    /// # Errors
    /// As [`Self::plan`] and [`Self::run_plan`].
    pub async fn run(self) -> Result<CompactReport> {
        let plan = self.plan().await?;
        self.run_plan(plan).await
    }

    /// Does what `plan` says. A group that fails leaves no files behind, unless nobody knows
    /// whether its commit landed; the others go on.
    ///
    /// # Errors
    /// The first failure, if no group at all was committed. Otherwise failures are in the report.
    pub async fn run_plan(self, plan: CompactPlan) -> Result<CompactReport> {
        run::run(self, plan).await
    }
}
