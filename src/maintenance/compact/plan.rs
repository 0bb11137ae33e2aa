//! What a compaction will do, as a value that can be printed before it is done.

use std::collections::HashSet;
use std::fmt;

use futures::TryStreamExt;
use serde::Serialize;

use super::CompactOptions;
use super::group::{self, CompactGroup};
use super::sizes::Sizes;
use crate::error::Result;
use crate::expr;
use crate::maintenance::Totals;
use crate::maintenance::partitions::{WholePartitions, branch_scan, partition_name};
use crate::scan::FileScanTask;
use crate::spec::SnapshotId;
use crate::table::Table;
use crate::write::writable;

/// Which files a compaction rewrites, group by group.
///
/// Memory: one entry per file that is rewritten or has deletes.
#[derive(Debug, Clone, Serialize)]
pub struct CompactPlan {
    /// The table.
    pub table: String,
    /// The branch that will be committed to.
    pub branch: String,
    /// The snapshot that was looked at; `None` for a table without commits.
    pub snapshot_id: Option<SnapshotId>,
    /// Which partitions were looked at, in the grammar of [`crate::expr::parse`].
    pub filter: Option<String>,
    /// The columns that rows are sorted by; empty if they keep their order.
    pub sort: Vec<String>,
    /// Bytes of a new file.
    pub target_file_size_bytes: u64,
    /// What is rewritten together.
    pub groups: Vec<CompactGroup>,
}

/// Plans on the head of the branch.
pub(super) async fn plan(table: &Table, options: &CompactOptions) -> Result<CompactPlan> {
    options.check()?;
    writable(table)?;
    let sizes = Sizes::new(table, options)?;
    let sort = options.sort_fields(table)?;
    let mut scan = branch_scan(table, &options.branch);
    if let Some(filter) = &options.filter {
        scan = scan.filter(filter.clone());
    }
    let context = scan.context()?;
    let partitions = WholePartitions::new(&context)?;
    let mut tasks = context.plan().await?.tasks;
    let mut chosen = Vec::new();
    while let Some(task) = tasks.try_next().await? {
        if let Some(partitions) = &partitions {
            partitions.must_take(table, &task.file)?;
        }
        let fits = sizes.fits(task.file.file_size_in_bytes);
        if options.rewrite_all || !fits || !task.deletes.is_empty() {
            chosen.push(task);
        }
    }
    let name = |id| table.schema().name_by_field_id(id).unwrap_or("?").to_string();
    Ok(CompactPlan {
        table: table.ident().to_string(),
        branch: options.branch.clone(),
        snapshot_id: context.snapshot.as_ref().map(|s| SnapshotId(s.snapshot_id())),
        filter: context.filter.as_deref().map(|f| expr::describe(f).to_string()),
        sort: sort.iter().map(|f| name(f.source_id)).collect(),
        target_file_size_bytes: sizes.target,
        groups: groups_of(table, options, &sizes, chosen)?,
    })
}

/// Plans groups again on the head of the branch: those of their files that are still there.
pub(super) async fn plan_again(
    table: &Table,
    options: &CompactOptions,
    groups: &[CompactGroup],
) -> Result<(Option<SnapshotId>, Vec<CompactGroup>)> {
    let context = branch_scan(table, &options.branch).context()?;
    let paths: HashSet<&str> =
        groups.iter().flat_map(|g| &g.files).map(|f| f.path.as_str()).collect();
    let tasks = context.plan().await?.tasks;
    let here = tasks.try_filter(|t| std::future::ready(paths.contains(t.file.file_path.as_str())));
    let tasks: Vec<FileScanTask> = here.try_collect().await?;
    let groups = groups_of(table, options, &Sizes::new(table, options)?, tasks)?;
    Ok((context.snapshot.as_ref().map(|s| SnapshotId(s.snapshot_id())), groups))
}

fn groups_of(
    table: &Table,
    options: &CompactOptions,
    sizes: &Sizes,
    tasks: Vec<FileScanTask>,
) -> Result<Vec<CompactGroup>> {
    for task in &tasks {
        table.spec(task.file.spec_id)?;
    }
    let spec = table.metadata().default_partition_spec_id();
    Ok(group::groups(tasks, sizes, options, spec, |key| partition_name(table, key)))
}

impl CompactPlan {
    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Files, rows and bytes that will be rewritten.
    pub fn input(&self) -> Totals {
        self.groups.iter().fold(Totals::default(), |mut all, group| {
            all += group.input;
            all
        })
    }
}

/// One line of totals and one line per group.
impl fmt::Display for CompactPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "compact {} on branch {}: ", self.table, self.branch)?;
        if self.is_empty() {
            return write!(f, "nothing to do");
        }
        write!(f, "{} in {} groups", self.input(), self.groups.len())?;
        if !self.sort.is_empty() {
            write!(f, ", sorted by {}", self.sort.join(", "))?;
        }
        self.groups.iter().try_for_each(|group| write!(f, "\n{group}"))
    }
}

/// Such as `day=1: 12 files, 340 rows, 5.6 MiB into 1`.
impl fmt::Display for CompactGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partition = if self.partition.is_empty() { "the table" } else { &self.partition };
        write!(f, "{partition}: {} into {}", self.input, self.output_files)?;
        match self.stays() {
            true => Ok(()),
            false => write!(f, ", from spec {} to {}", self.spec_id, self.output_spec_id),
        }
    }
}
