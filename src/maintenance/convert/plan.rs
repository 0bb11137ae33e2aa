//! Which equality deletes are converted, and which data files must be looked at for it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use futures::TryStreamExt;
use serde::Serialize;

use crate::deletes::DeleteFile;
use crate::error::Result;
use crate::maintenance::Totals;
use crate::maintenance::partitions::{branch_scan, partition_name};
use crate::scan::FileScanTask;
use crate::spec::{DataContentType, DataFile, PartitionKey, SnapshotId};
use crate::table::Table;
use crate::write::writable;

/// The equality deletes of a branch, scope by scope.
///
/// Memory: one entry a delete file and a data file that it may reach, and the path of every live
/// data file.
#[derive(Debug, Clone, Serialize)]
pub struct ConvertPlan {
    /// The table.
    pub table: String,
    /// The branch that will be committed to.
    pub branch: String,
    /// The snapshot that was looked at; `None` for a table without commits.
    pub snapshot_id: Option<SnapshotId>,
    /// What is converted together.
    pub groups: Vec<ConvertGroup>,
    /// Every data file of the snapshot: a removed delete must reach no other (CMT-3).
    #[serde(skip)]
    pub(super) seen: Arc<HashSet<String>>,
}

/// The equality deletes of one scope: a partition, or the whole table.
#[derive(Debug, Clone, Serialize)]
pub struct ConvertGroup {
    /// The partition's path; empty for deletes that reach the whole table.
    pub partition: String,
    /// The equality delete files.
    pub deletes: Totals,
    /// Their locations.
    pub delete_files: Vec<String>,
    /// The data files whose keys have to be read.
    pub data: Totals,
    #[serde(skip)]
    pub(super) scope: Option<PartitionKey>,
    #[serde(skip)]
    pub(super) members: Vec<DeleteFile>,
    #[serde(skip)]
    pub(super) tasks: Vec<FileScanTask>,
}

/// Plans on the head of the branch.
pub(super) async fn plan(table: &Table, branch: &str) -> Result<ConvertPlan> {
    writable(table)?;
    let context = branch_scan(table, branch).context()?;
    let planned = context.plan().await?;
    let mut groups: BTreeMap<(i32, String, u64), ConvertGroup> = BTreeMap::new();
    let equality = |d: &&DeleteFile| d.file.content == DataContentType::EqualityDeletes;
    for delete in planned.deletes.files().filter(equality) {
        let scope = scope_of(table, &delete.file)?;
        let group = groups.entry(place(table, scope.as_ref())).or_insert_with(|| ConvertGroup {
            partition: scope.as_ref().map(|key| partition_name(table, key)).unwrap_or_default(),
            deletes: Totals::default(),
            delete_files: Vec::new(),
            data: Totals::default(),
            scope,
            members: Vec::new(),
            tasks: Vec::new(),
        });
        group.deletes += Totals::from_iter([&*delete.file]);
        group.delete_files.push(delete.file.file_path.clone());
        group.members.push(delete.clone());
    }
    let mut seen = HashSet::new();
    let mut tasks = planned.tasks;
    while let Some(task) = tasks.try_next().await? {
        if !groups.is_empty() {
            seen.insert(task.file.file_path.clone());
        }
        let mut of_task: HashSet<(i32, String, u64)> = HashSet::new();
        for delete in task.deletes.iter().filter(equality) {
            of_task.insert(place(table, scope_of(table, &delete.file)?.as_ref()));
        }
        for place in of_task {
            let Some(group) = groups.get_mut(&place) else { continue };
            group.data += Totals::from_iter([&*task.file]);
            group.tasks.push(task.clone());
        }
    }
    let mut groups: Vec<ConvertGroup> = groups.into_values().collect();
    groups.iter_mut().for_each(|group| group.delete_files.sort());
    Ok(ConvertPlan {
        table: table.ident().to_string(),
        branch: branch.to_string(),
        snapshot_id: context.snapshot.as_ref().map(|s| SnapshotId(s.snapshot_id())),
        groups,
        seen: Arc::new(seen),
    })
}

/// The partition that an equality delete reaches; none is the whole table (DEL-3).
pub(super) fn scope_of(table: &Table, delete: &DataFile) -> Result<Option<PartitionKey>> {
    let is_global = table.spec(delete.spec_id)?.is_unpartitioned();
    Ok((!is_global).then(|| delete.partition_key()))
}

/// Where a scope stands among the others; the whole table first.
fn place(table: &Table, scope: Option<&PartitionKey>) -> (i32, String, u64) {
    match scope {
        None => (-1, String::new(), 0),
        Some(key) => (key.spec_id, partition_name(table, key), key.stable_hash()),
    }
}

impl ConvertPlan {
    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

/// One line of totals and one line a group.
impl fmt::Display for ConvertPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "convert-deletes {} on branch {}: ", self.table, self.branch)?;
        if self.is_empty() {
            return write!(f, "nothing to do");
        }
        write!(f, "{} groups", self.groups.len())?;
        self.groups.iter().try_for_each(|group| write!(f, "\n{group}"))
    }
}

/// Such as `day=1: 12 files, 340 rows, 5.6 KiB of equality deletes over 3 files, …`.
impl fmt::Display for ConvertGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partition = if self.partition.is_empty() { "the table" } else { &self.partition };
        write!(f, "{partition}: {} of equality deletes over {}", self.deletes, self.data)
    }
}
