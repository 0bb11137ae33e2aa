//! Health: does a table need maintenance, which, and what would it gain?
//!
//! ```text
//! table.health() ─run→ HealthReport { facts, topics: verdict, finding, command, gain }
//! ```
//!
//! From metadata alone. *Facts* are gathered from manifests and from the plans of the actions
//! themselves, so that what is promised is what `--dry-run` says. *Verdicts* are a pure function of
//! the facts. Rules: `format-spec/maintenance.md`.

mod facts;
mod report;
#[cfg(test)]
mod tests;
mod verdict;

use crate::error::Result;
use crate::spec::MAIN_BRANCH;
use crate::table::{PositionStore, Table};

pub use report::{
    CommitFacts, CompactionFacts, ConversionFacts, DeleteFacts, FileFacts, HealthReport,
    HistoryFacts, ManifestFacts, ManifestsToRewrite, MergeFacts, PartitionDeletes, SizeClass,
    Topic, TopicKind, Verdict,
};
pub use verdict::verdicts;

/// A look at a table in the making; see [`Table::health`].
#[derive(Debug, Clone)]
#[must_use = "nothing is looked at before `run` is awaited"]
pub struct Health {
    table: Table,
    branch: String,
    positions: Option<PositionStore>,
}

impl Table {
    /// Whether the table needs maintenance, which command does it, and what that would gain.
    ///
    /// ```no_run
    /// # async fn run(table: meltwater::table::Table) -> meltwater::Result<()> {
    /// let health = table.health().run().await?;
    /// for topic in &health.topics {
    ///     println!("{:?}: {}", topic.verdict, topic.finding);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn health(&self) -> Health {
        Health { table: self.clone(), branch: MAIN_BRANCH.to_string(), positions: None }
    }
}

impl Health {
    /// The branch to look at (default: `main`).
    pub fn branch(mut self, branch: impl Into<String>) -> Self {
        self.branch = branch.into();
        self
    }

    /// The named streams that may hold history back.
    pub fn positions(mut self, store: PositionStore) -> Self {
        self.positions = Some(store);
        self
    }

    /// Looks. Reads manifests, no data and no delete file (MNT-64).
    ///
    /// # Errors
    /// `NotFound` for an unknown branch; otherwise what planning a scan gives.
    pub async fn run(self) -> Result<HealthReport> {
        let mut report = facts::gather(&self).await?;
        report.topics = verdicts(&report);
        Ok(report)
    }
}
