//! Manifests, rewritten: entries of one partition side by side, in files of the target size.
//!
//! ```text
//! table.rewrite_manifests(options) ─plan→ ManifestPlan ─run→ ManifestReport
//! ```
//!
//! A scan opens every manifest whose partitions may match. Streaming writers leave one small
//! manifest a commit, each about every partition; after a rewrite a scan of one partition opens a
//! few. *Plan*: per kind of content and spec, the manifests that are too small, or all of them if
//! partitions lie across too many. *Run*: live entries in the order of their partitions, a range
//! of partitions at a time as memory allows. *Commit*: one `replace` a kind and spec. Rules:
//! `format-spec/maintenance.md`.

mod cost;
mod order;
mod plan;
mod report;
mod run;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::maintenance::Progress;
use crate::spec::MAIN_BRANCH;
use crate::table::Table;

pub use cost::PlanningCost;
pub use plan::{ManifestGroup, ManifestPlan};
pub use report::{ManifestReport, RewrittenManifests};

/// How manifests are rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestOptions {
    /// The branch to work on; `main`.
    pub branch: String,
    /// The only partition spec to look at; every one unless set.
    pub spec_id: Option<i32>,
    /// Bytes of a new manifest; `commit.manifest.target-size-bytes` (8 MiB) unless set. Manifests
    /// have 20,000 entries at most, so that planning is spread over cores.
    pub target_size_bytes: Option<u64>,
    /// Every manifest is rewritten, whatever its size and order; off.
    pub rewrite_all: bool,
    /// Bytes that entries may take on their way, about; 256 MiB. More of them are read in several
    /// passes.
    pub memory_budget_bytes: u64,
    /// How often a rewrite is planned again after others replaced one of its manifests; 10.
    pub replans: u32,
}

impl Default for ManifestOptions {
    fn default() -> Self {
        Self {
            branch: MAIN_BRANCH.to_string(),
            spec_id: None,
            target_size_bytes: None,
            rewrite_all: false,
            memory_budget_bytes: 256 * 1024 * 1024,
            replans: 10,
        }
    }
}

impl ManifestOptions {
    fn check(&self, table: &Table) -> Result<()> {
        if self.target_size_bytes == Some(0) {
            return Err(Error::invalid("`target_size_bytes` is zero")
                .with_hint("give a size, such as 8 MiB"));
        }
        let specs = || table.metadata().partition_specs_iter();
        match self.spec_id {
            Some(id) if !specs().any(|spec| spec.spec_id() == id) => {
                let mut known: Vec<i32> = specs().map(|spec| spec.spec_id()).collect();
                known.sort_unstable();
                Err(Error::invalid(format!("the table has no partition spec {id}"))
                    .with_hint(format!("it has the specs {known:?}")))
            }
            _ => Ok(()),
        }
    }
}

/// A rewrite of manifests in the making; see [`Table::rewrite_manifests`].
#[derive(Debug, Clone)]
#[must_use = "nothing is rewritten before `run` is awaited"]
pub struct RewriteManifests {
    table: Table,
    options: ManifestOptions,
    progress: Arc<dyn Progress>,
}

impl Table {
    /// Puts entries of one partition side by side and makes few manifests of many. Files and rows
    /// stay what they are, and followers see no change.
    ///
    /// ```no_run
    /// # use meltwater::maintenance::ManifestOptions;
    /// # async fn run(table: meltwater::table::Table) -> meltwater::Result<()> {
    /// let rewrite = table.rewrite_manifests(ManifestOptions::default());
    /// println!("{}", rewrite.plan().await?);
    /// println!("{}", rewrite.run().await?);
    /// # Ok(()) }
    /// ```
    pub fn rewrite_manifests(&self, options: ManifestOptions) -> RewriteManifests {
        RewriteManifests { table: self.clone(), options, progress: Arc::new(()) }
    }
}

impl RewriteManifests {
    /// Who is told how far it has come, and may stop it between two manifests.
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// What would be done. Reads manifests, writes nothing.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown spec or a target size of zero; `NotFound` for an unknown
    /// branch; otherwise what reading manifests gives.
    pub async fn plan(&self) -> Result<ManifestPlan> {
        plan::plan(&self.table, &self.options).await
    }

    /// Plans and does it.
    ///
    /// # Errors
    /// As [`Self::plan`] and [`Self::run_plan`].
    pub async fn run(self) -> Result<ManifestReport> {
        let plan = self.plan().await?;
        self.run_plan(plan).await
    }

    /// Does what `plan` says. What fails leaves no manifest behind, unless nobody knows whether
    /// its commit landed.
    ///
    /// # Errors
    /// `InvalidInput` for a plan of another table or branch. The first failure, if nothing at all
    /// was committed; otherwise failures are in the report.
    pub async fn run_plan(self, plan: ManifestPlan) -> Result<ManifestReport> {
        run::run(self, plan).await
    }
}
