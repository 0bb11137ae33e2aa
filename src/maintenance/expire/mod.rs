//! Expiry: old snapshots go, and then the files that only they needed.
//!
//! ```text
//! table.expire(options) ─plan→ ExpirePlan ─run→ ExpireReport
//! ```
//!
//! *Plan*: which snapshots and refs go by age, count and id, and what keeps the others: branches,
//! tags, and the positions of named streams. *Run*: the plan is made again on the version that is
//! committed to, the metadata is swapped, and only then files are deleted: those of the snapshots
//! that went, less those of every snapshot that stayed. A kill in between leaves orphans, never a
//! hole. Rules: `format-spec/maintenance.md`.

mod files;
mod report;
mod retain;
mod run;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;

use crate::error::Result;
use crate::maintenance::Progress;
use crate::spec::SnapshotId;
use crate::table::{PositionStore, Table};

pub use files::{FileKind, UnusedFile};
pub use report::{ExpirePlan, ExpireReport, ExpiredSnapshot, HeldByStream};

/// Values that shape an expiry. With ids alone, exactly those snapshots go; otherwise age and
/// count decide, with the table's own settings for what is not set here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpireOptions {
    /// Snapshots older than this go; `history.expire.max-snapshot-age-ms` (5 days) unless set. A
    /// branch with an age of its own goes by that.
    pub older_than: Option<Duration>,
    /// So many snapshots of each branch stay; `history.expire.min-snapshots-to-keep` (1) unless
    /// set. A branch with a number of its own goes by that.
    pub retain_last: Option<usize>,
    /// Snapshots that go whatever their age.
    pub snapshots: Vec<SnapshotId>,
    /// Files stay, for another tool to remove; off.
    pub keep_files: bool,
    /// Goes past the positions of named streams, which then cannot resume; off.
    pub pass_streams: bool,
    /// Bytes for what is remembered about files; 128 MiB. More files take more passes.
    pub memory_budget_bytes: u64,
}

impl Default for ExpireOptions {
    fn default() -> Self {
        Self {
            older_than: None,
            retain_last: None,
            snapshots: Vec::new(),
            keep_files: false,
            pass_streams: false,
            memory_budget_bytes: 128 * 1024 * 1024,
        }
    }
}

/// An expiry in the making; see [`Table::expire`].
#[derive(Debug, Clone)]
#[must_use = "nothing expires before `run` is awaited"]
pub struct Expire {
    table: Table,
    options: ExpireOptions,
    positions: Option<PositionStore>,
    progress: Arc<dyn Progress>,
}

impl Table {
    /// Removes old snapshots and the files that only they needed.
    ///
    /// ```no_run
    /// # use meltwater::maintenance::ExpireOptions;
    /// # async fn run(table: meltwater::table::Table) -> meltwater::Result<()> {
    /// let options = ExpireOptions { retain_last: Some(100), ..ExpireOptions::default() };
    /// println!("{}", table.expire(options.clone()).plan().await?);
    /// println!("{}", table.expire(options).run().await?);
    /// # Ok(()) }
    /// ```
    pub fn expire(&self, options: ExpireOptions) -> Expire {
        Expire { table: self.clone(), options, positions: None, progress: Arc::new(()) }
    }
}

impl Expire {
    /// The named streams whose backlog must stay.
    pub fn positions(mut self, store: PositionStore) -> Self {
        self.positions = Some(store);
        self
    }

    /// Who is told how far it has come, and may stop the deletion of files.
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// What would go, on the table's newest version. Nothing is written.
    ///
    /// # Errors
    /// `InvalidInput` if the table says `gc.enabled=false`, if a snapshot named by id is held by
    /// a branch, a tag or a stream, and for options that make no sense; `NotFound` for an
    /// unknown id.
    pub async fn plan(&self) -> Result<ExpirePlan> {
        run::plan(self).await
    }

    /// The files that a run of `plan` would delete: content, then manifests, lists and
    /// statistics.
    ///
    /// # Errors
    /// In the stream: a list or manifest of a snapshot that stays cannot be read.
    pub fn files(&self, plan: &ExpirePlan) -> BoxStream<'static, Result<UnusedFile>> {
        let (gone, stay) = plan.split();
        files::unused(&plan.on, gone, stay, self.options.memory_budget_bytes)
    }

    /// Commits the removal of snapshots, then deletes their files. A file that cannot be deleted
    /// is in the report and an orphan from then on.
    ///
    /// # Errors
    /// As [`Expire::plan`], and as any commit. After `CommitStateUnknown` no file was deleted.
    pub async fn run(self) -> Result<ExpireReport> {
        run::run(self).await
    }
}
