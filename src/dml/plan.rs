//! What a delete by filter will do, as a value that can be printed before it is done.

use std::fmt;

use futures::TryStreamExt;

use crate::error::{Error, ErrorKind, Result};
use crate::expr;
use crate::scan::{FileScanTask, TableScan};
use crate::spec::{BoundPredicate, SnapshotId, partition_path};
use crate::table::Table;

/// Which files a delete by filter removes, and in which it has to look for rows.
///
/// Memory: one entry per file that may hold matching rows.
#[derive(Debug, Clone)]
pub struct DeletePlan {
    /// The snapshot that was looked at; `None` for a branch or table without commits.
    pub snapshot_id: Option<SnapshotId>,
    /// The branch that will be committed to.
    pub branch: String,
    /// The filter, in the grammar of [`crate::expr::parse`].
    pub filter: String,
    pub(super) whole: Vec<FileScanTask>,
    pub(super) partial: Vec<FileScanTask>,
    partitions: Vec<String>,
}

/// One data file of a [`DeletePlan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile<'a> {
    /// Its location.
    pub path: &'a str,
    /// Its partition as a folder name; empty when unpartitioned.
    pub partition: &'a str,
    /// Rows in the file, dead ones included.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// True if it goes as a whole, false if its rows have to be looked at.
    pub whole: bool,
}

impl DeletePlan {
    /// Plans against the snapshot that `scan` reads. A task without a residual is a file of which
    /// every row matches: deletes attached to it do not matter, they only make rows fewer (DML-1).
    pub(super) async fn new(table: &Table, branch: &str, scan: &TableScan) -> Result<Self> {
        let context = scan.context()?;
        let filter = match &context.filter {
            Some(filter) => expr::describe(filter).to_string(),
            None => "TRUE".to_string(),
        };
        let never = matches!(context.filter.as_deref(), Some(BoundPredicate::AlwaysFalse));
        let snapshot_id = context.snapshot.as_ref().map(|s| SnapshotId(s.snapshot_id()));
        let mut plan = Self {
            snapshot_id,
            branch: branch.to_string(),
            filter,
            whole: Vec::new(),
            partial: Vec::new(),
            partitions: Vec::new(),
        };
        if never {
            return Ok(plan);
        }
        let mut tasks = context.plan().await?.tasks;
        while let Some(mut task) = tasks.try_next().await? {
            match &task.residual {
                None => {
                    task.deletes = Vec::new();
                    plan.whole.push(task);
                }
                Some(_) => plan.partial.push(task),
            }
        }
        let partition = |task: &FileScanTask| -> Result<String> {
            let spec = table.spec(task.file.spec_id)?;
            Ok(partition_path(spec, table.schema(), &task.file.partition))
        };
        let tasks = plan.whole.iter().chain(&plan.partial);
        plan.partitions = tasks.map(partition).collect::<Result<_>>()?;
        Ok(plan)
    }

    /// True if no file can hold a matching row.
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.partial.is_empty()
    }

    /// The files, those that go as a whole first.
    pub fn files(&self) -> impl Iterator<Item = PlannedFile<'_>> {
        let whole = self.whole.iter().map(|t| (t, true));
        let partial = self.partial.iter().map(|t| (t, false));
        let partitions = self.partitions.iter().map(String::as_str);
        whole.chain(partial).zip(partitions).map(|((task, whole), partition)| PlannedFile {
            path: &task.file.file_path,
            partition,
            rows: task.file.record_count,
            bytes: task.file.file_size_in_bytes,
            whole,
        })
    }

    /// Refuses files that match in part, for a strict overwrite.
    pub(super) fn must_be_whole(&self) -> Result<()> {
        let Some(task) = self.partial.first() else { return Ok(()) };
        Err(Error::new(
            ErrorKind::ValidationFailed,
            "a data file may match the filter in part, and only whole files may be replaced",
        )
        .with_context("file", &task.file.file_path)
        .with_context("files", self.partial.len())
        .with_hint("choose a filter that follows the partitions, or leave `whole_files_only` out"))
    }
}

/// One line of totals and one line per file.
impl fmt::Display for DeletePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = |tasks: &[FileScanTask]| tasks.iter().map(|t| t.file.record_count).sum::<u64>();
        writeln!(
            f,
            "delete where {} on branch {}: {} files with {} rows go, {} files with {} rows are searched",
            self.filter,
            self.branch,
            self.whole.len(),
            rows(&self.whole),
            self.partial.len(),
            rows(&self.partial),
        )?;
        for file in self.files() {
            let verb = if file.whole { "remove" } else { "search" };
            writeln!(f, "{verb} {} ({} rows, {} bytes)", file.path, file.rows, file.bytes)?;
        }
        Ok(())
    }
}
