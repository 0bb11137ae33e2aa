//! Verification: is everything that the metadata promises there, and true?
//!
//! ```text
//! table.verify(options) ─run→ VerifyReport { findings: code, severity, place, cause, next step }
//! ```
//!
//! Read-only, from the metadata outwards: refs and sequence numbers, manifest lists, manifests,
//! then every data and delete file once: is it there, has it the size, rows, nulls and bounds that
//! the manifest says. A deep check reads the rows as well. Nothing that is found ends the check.
//! Rules: `format-spec/maintenance.md`.

mod codes;
mod files;
mod live;
mod manifest;
mod metadata;
mod partition;
mod report;
mod rows;
mod run;
mod snapshot;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::error::Result;
use crate::maintenance::Progress;
use crate::spec::SnapshotId;
use crate::table::Table;

pub use codes::{Code, Severity};
pub use report::{Finding, VerifyReport};

/// The snapshots whose files are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifySnapshots {
    /// The heads of all branches and tags.
    #[default]
    Heads,
    /// This one.
    One(SnapshotId),
    /// Every one that the table has.
    All,
}

/// Values that shape a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Which snapshots (default: the heads of all refs).
    pub snapshots: VerifySnapshots,
    /// Reads the rows too: bounds and partitions against values, position deletes against files
    /// (default: no).
    pub deep: bool,
    /// Requests under way at the same time (default: 16).
    pub concurrency: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { snapshots: VerifySnapshots::Heads, deep: false, concurrency: 16 }
    }
}

/// A check in the making; see [`Table::verify`].
#[derive(Debug, Clone)]
#[must_use = "nothing is checked before `run` is awaited"]
pub struct Verify {
    table: Table,
    options: VerifyOptions,
    progress: Arc<dyn Progress>,
}

impl Table {
    /// Checks that everything this version promises is there and true. Changes nothing.
    ///
    /// ```no_run
    /// # use meltwater::maintenance::VerifyOptions;
    /// # async fn run(table: meltwater::table::Table) -> meltwater::Result<()> {
    /// let report = table.verify(VerifyOptions::default()).run().await?;
    /// println!("{report}");
    /// assert!(report.is_sound());
    /// # Ok(()) }
    /// ```
    pub fn verify(&self, options: VerifyOptions) -> Verify {
        Verify { table: self.clone(), options, progress: Arc::new(()) }
    }
}

impl Verify {
    /// Who is told how far it has come, and may stop it between two files.
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Checks. What is wrong is in the report, never an error.
    ///
    /// Memory: some 60 bytes per file of the largest snapshot, and the delete files' entries.
    ///
    /// # Errors
    /// `NotFound` for a snapshot that the table does not have.
    pub async fn run(self) -> Result<VerifyReport> {
        run::run(self).await
    }
}
