//! Which delete files go, and whose positions are merged.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use futures::TryStreamExt;
use serde::Serialize;

use super::RewriteDeletesOptions;
use super::dangling::{DanglingDelete, Living, is_position};
use crate::deletes::DeleteFile;
use crate::error::Result;
use crate::expr;
use crate::maintenance::Totals;
use crate::maintenance::partitions::{WholePartitions, branch_scan, partition_name};
use crate::scan::FileScanTask;
use crate::spec::SnapshotId;
use crate::table::Table;
use crate::write::writable;

/// What a rewrite of position deletes does.
///
/// Memory: one entry a delete file and a data file that has position deletes.
#[derive(Debug, Clone, Serialize)]
pub struct RewriteDeletesPlan {
    /// The table.
    pub table: String,
    /// The branch that will be committed to.
    pub branch: String,
    /// The snapshot that was looked at; `None` for a table without commits.
    pub snapshot_id: Option<SnapshotId>,
    /// Which partitions were looked at, in the grammar of [`crate::expr::parse`].
    pub filter: Option<String>,
    /// Delete files that no live row can meet: they go.
    pub dangling: Vec<DanglingDelete>,
    /// What is merged, partition by partition.
    pub groups: Vec<RewriteDeletesGroup>,
}

/// The position deletes of one partition that are merged.
#[derive(Debug, Clone, Serialize)]
pub struct RewriteDeletesGroup {
    /// The spec of the partition.
    pub spec_id: i32,
    /// The partition's path; empty when unpartitioned.
    pub partition: String,
    /// The position delete files that are replaced.
    pub deletes: Totals,
    /// Their locations.
    pub delete_files: Vec<String>,
    /// The data files that they are about: each gets one delete file at most.
    pub data_files: u64,
    #[serde(skip)]
    pub(super) units: Vec<DeletesUnit>,
}

/// Data files that share position deletes, or one alone: what can only be replaced together.
#[derive(Debug, Clone)]
pub(super) struct DeletesUnit {
    /// The data files, with their position deletes and no others.
    pub tasks: Vec<FileScanTask>,
    /// Every position delete file of them.
    pub deletes: Vec<DeleteFile>,
}

/// Plans on the head of the branch.
pub(super) async fn plan(
    table: &Table,
    options: &RewriteDeletesOptions,
) -> Result<RewriteDeletesPlan> {
    options.check()?;
    writable(table)?;
    let mut scan = branch_scan(table, &options.branch);
    if let Some(filter) = &options.filter {
        scan = scan.filter(filter.clone());
    }
    let context = scan.context()?;
    let partitions = WholePartitions::new(&context)?;
    let planned = context.plan().await?;
    let (mut living, mut deleted) = (Living::default(), Vec::new());
    let mut tasks = planned.tasks;
    while let Some(mut task) = tasks.try_next().await? {
        if let Some(partitions) = &partitions {
            partitions.must_take(table, &task.file)?;
        }
        living.add(&task);
        task.deletes.retain(is_position);
        if !task.deletes.is_empty() {
            deleted.push(task);
        }
    }
    let dangling = match options.remove_dangling {
        true => living.dangling(table, &planned.deletes, partitions.is_some())?,
        false => Vec::new(),
    };
    let units = units(deleted).into_iter().filter(|unit| unit.is_worth_it(options));
    Ok(RewriteDeletesPlan {
        table: table.ident().to_string(),
        branch: options.branch.clone(),
        snapshot_id: context.snapshot.as_ref().map(|s| SnapshotId(s.snapshot_id())),
        filter: context.filter.as_deref().map(|f| expr::describe(f).to_string()),
        dangling,
        groups: by_partition(table, units),
    })
}

impl DeletesUnit {
    fn is_worth_it(&self, options: &RewriteDeletesOptions) -> bool {
        let shared = self.deletes.iter().any(|d| d.file.referenced_path().is_none());
        shared || self.deletes.len() >= options.min_input_files
    }
}

/// Data files that share a delete file belong together, and so do those that share one with them
/// (MNT-40).
fn units(tasks: Vec<FileScanTask>) -> Vec<DeletesUnit> {
    let mut leader: Vec<usize> = (0..tasks.len()).collect();
    let mut first_of: HashMap<&str, usize> = HashMap::new();
    for (at, task) in tasks.iter().enumerate() {
        for delete in task.deletes.iter().filter(|d| d.file.referenced_path().is_none()) {
            let first = *first_of.entry(&delete.file.file_path).or_insert(at);
            let (a, b) = (find(&mut leader, first), find(&mut leader, at));
            if let Some(of_later) = leader.get_mut(a.max(b)) {
                *of_later = a.min(b);
            }
        }
    }
    let mut units: BTreeMap<usize, Vec<FileScanTask>> = BTreeMap::new();
    for (at, task) in tasks.into_iter().enumerate() {
        units.entry(find(&mut leader, at)).or_default().push(task);
    }
    units.into_values().map(unit).collect()
}

fn unit(tasks: Vec<FileScanTask>) -> DeletesUnit {
    let mut seen = HashSet::new();
    let all = tasks.iter().flat_map(|task| &task.deletes);
    let deletes = all.filter(|d| seen.insert(d.file.file_path.clone())).cloned().collect();
    DeletesUnit { tasks, deletes }
}

/// The leader of a set, with the way to it shortened.
fn find(leader: &mut [usize], mut at: usize) -> usize {
    while let Some(up) = leader.get(at).copied().filter(|up| *up != at) {
        let above = leader.get(up).copied().unwrap_or(up);
        if let Some(slot) = leader.get_mut(at) {
            *slot = above;
        }
        at = up;
    }
    at
}

fn by_partition(
    table: &Table,
    units: impl Iterator<Item = DeletesUnit>,
) -> Vec<RewriteDeletesGroup> {
    let mut groups: BTreeMap<(i32, String, u64), RewriteDeletesGroup> = BTreeMap::new();
    for unit in units {
        let Some(task) = unit.tasks.first() else { continue };
        let key = task.file.partition_key();
        let (spec_id, partition) = (key.spec_id, partition_name(table, &key));
        let place = (spec_id, partition.clone(), key.stable_hash());
        let group = groups.entry(place).or_insert_with(|| RewriteDeletesGroup {
            spec_id,
            partition,
            deletes: Totals::default(),
            delete_files: Vec::new(),
            data_files: 0,
            units: Vec::new(),
        });
        group.deletes += unit.deletes.iter().map(|d| &*d.file).collect();
        group.delete_files.extend(unit.deletes.iter().map(|d| d.file.file_path.clone()));
        group.data_files += unit.tasks.len() as u64;
        group.units.push(unit);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.iter_mut().for_each(|group| group.delete_files.sort());
    groups
}

impl RewriteDeletesPlan {
    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.dangling.is_empty()
    }

    /// The delete files that are merged.
    pub fn input(&self) -> Totals {
        self.groups.iter().fold(Totals::default(), |mut all, group| {
            all += group.deletes;
            all
        })
    }

    /// The delete files that go because they delete nothing.
    pub fn dangling_totals(&self) -> Totals {
        self.dangling.iter().map(|d| &*d.delete.file).collect()
    }
}

/// One line of totals, one for what dangles, and one a partition.
impl fmt::Display for RewriteDeletesPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rewrite-position-deletes {} on branch {}: ", self.table, self.branch)?;
        if self.is_empty() {
            return write!(f, "nothing to do");
        }
        write!(f, "{} in {} partitions", self.input(), self.groups.len())?;
        if !self.dangling.is_empty() {
            write!(f, ", and {} delete nothing", self.dangling_totals())?;
        }
        self.groups.iter().try_for_each(|group| write!(f, "\n{group}"))
    }
}

/// Such as `day=1: 12 files, 340 rows, 5.6 KiB of position deletes of 3 data files`.
impl fmt::Display for RewriteDeletesGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partition = if self.partition.is_empty() { "the table" } else { &self.partition };
        let plural = if self.data_files == 1 { "" } else { "s" };
        let Self { deletes, data_files, .. } = self;
        write!(f, "{partition}: {deletes} of position deletes of {data_files} data file{plural}")
    }
}
