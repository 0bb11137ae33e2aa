//! Files that are rewritten together: chosen, grouped, and judged worth it.
//!
//! Pure. In: the tasks of a scan. Out: groups of one spec and partition.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::CompactOptions;
use super::sizes::Sizes;
use crate::maintenance::Totals;
use crate::scan::FileScanTask;
use crate::spec::{DataContentType, PartitionKey};

/// Why a file is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is smaller than files should be.
    TooSmall,
    /// It is larger than files should be.
    TooLarge,
    /// Many of its rows are deleted.
    DeletedRows,
    /// Many delete files have to be read with it.
    DeleteFiles,
    /// Everything is rewritten.
    All,
}

impl Reason {
    /// Reasons to rewrite a file even when it stands alone.
    pub(in crate::maintenance) fn is_deletes(self) -> bool {
        matches!(self, Self::DeletedRows | Self::DeleteFiles)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooSmall => "too small",
            Self::TooLarge => "too large",
            Self::DeletedRows => "deleted rows",
            Self::DeleteFiles => "delete files",
            Self::All => "all",
        })
    }
}

/// One file of a [`CompactGroup`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompactFile {
    /// Its location.
    pub path: String,
    /// Rows in it, dead ones included.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Rows that are probably dead: positions counted, other deletes spread evenly.
    pub deleted_rows: u64,
    /// Delete files that are read with it.
    pub delete_files: usize,
    /// Why it is rewritten.
    pub reason: Reason,
}

/// Files of one spec and partition that are rewritten and committed together.
#[derive(Debug, Clone, Serialize)]
pub struct CompactGroup {
    /// The spec that the files have.
    pub spec_id: i32,
    /// The spec that they will have.
    pub output_spec_id: i32,
    /// Their partition as a folder name; empty when unpartitioned.
    pub partition: String,
    /// Files, rows and bytes that are rewritten.
    pub input: Totals,
    /// How many files they become in a partition, about.
    pub output_files: u64,
    /// The files, oldest first.
    pub files: Vec<CompactFile>,
    #[serde(skip)]
    pub(super) key: PartitionKey,
    #[serde(skip)]
    pub(super) tasks: Vec<FileScanTask>,
}

impl CompactGroup {
    /// Rows for certain alive or not known to be dead.
    pub(super) fn rows_left(&self) -> u64 {
        self.tasks.iter().map(rows_left).sum()
    }

    /// Whether the rows stay in the partition that they are in.
    pub(super) fn stays(&self) -> bool {
        self.spec_id == self.output_spec_id
    }
}

fn by_position(task: &FileScanTask) -> u64 {
    let positions = task.deletes.iter().filter(|d| d.file.referenced_path().is_some());
    let deleted: u64 = positions.map(|d| d.file.record_count).sum();
    deleted.min(task.file.record_count)
}

fn rows_left(task: &FileScanTask) -> u64 {
    task.file.record_count - by_position(task)
}

/// How many rows of each file are probably dead.
struct Deletes<'a> {
    /// Rows of all files that a delete file may hit, by its path.
    reach: HashMap<&'a str, u64>,
}

impl<'a> Deletes<'a> {
    fn new(tasks: &'a [FileScanTask]) -> Self {
        let mut reach: HashMap<&str, u64> = HashMap::new();
        for task in tasks {
            for delete in task.deletes.iter().filter(|d| d.file.referenced_path().is_none()) {
                *reach.entry(&delete.file.file_path).or_default() += task.file.record_count;
            }
        }
        Self { reach }
    }

    fn in_file(&self, task: &FileScanTask) -> u64 {
        let rows = task.file.record_count;
        let spread: f64 = task
            .deletes
            .iter()
            .filter_map(|d| {
                let reached = self.reach.get(d.file.file_path.as_str())?;
                Some(d.file.record_count as f64 * rows as f64 / (*reached).max(1) as f64)
            })
            .sum();
        (by_position(task) + spread as u64).min(rows)
    }
}

/// Chooses files and groups them (MNT-1, MNT-2). `partition` names a partition, `output_spec` is
/// the spec that rewritten files get.
pub(super) fn groups(
    tasks: Vec<FileScanTask>,
    sizes: &Sizes,
    options: &CompactOptions,
    output_spec: i32,
    partition: impl Fn(&PartitionKey) -> String,
) -> Vec<CompactGroup> {
    let files: Vec<Option<CompactFile>> = {
        let deletes = Deletes::new(&tasks);
        tasks.iter().map(|task| candidate(task, &deletes, sizes, options)).collect()
    };
    let mut by_partition: HashMap<PartitionKey, Vec<(CompactFile, FileScanTask)>> = HashMap::new();
    for (file, task) in files.into_iter().zip(tasks) {
        if let Some(file) = file {
            by_partition.entry(task.file.partition_key()).or_default().push((file, task));
        }
    }
    let mut groups: Vec<CompactGroup> = Vec::new();
    for (key, mut files) in by_partition {
        files.sort_by(|(a, at), (b, bt)| {
            (at.sequence_number, &a.path).cmp(&(bt.sequence_number, &b.path))
        });
        let output_spec_id = if options.keep_specs { key.spec_id } else { output_spec };
        for bin in bins(files, options.max_group_bytes) {
            let (files, tasks): (Vec<_>, Vec<_>) = bin.into_iter().unzip();
            let mut group = CompactGroup {
                spec_id: key.spec_id,
                output_spec_id,
                partition: partition(&key),
                input: tasks.iter().map(|t: &FileScanTask| &*t.file).collect(),
                output_files: 0,
                files,
                key: key.clone(),
                tasks,
            };
            group.output_files = sizes.output_files(bytes_left(&group));
            if is_worth_it(&group, sizes, options) {
                groups.push(group);
            }
        }
    }
    groups.sort_by(|a, b| (a.spec_id, &a.partition).cmp(&(b.spec_id, &b.partition)));
    groups
}

fn candidate(
    task: &FileScanTask,
    deletes: &Deletes<'_>,
    sizes: &Sizes,
    options: &CompactOptions,
) -> Option<CompactFile> {
    let (rows, bytes) = (task.file.record_count, task.file.file_size_in_bytes);
    let deleted_rows = deletes.in_file(task);
    let delete_files = task.deletes.len();
    let reason = if options.delete_files.is_some_and(|n| delete_files >= n) {
        Reason::DeleteFiles
    } else if deleted_rows > 0 && deleted_rows as f64 >= options.delete_ratio * rows as f64 {
        Reason::DeletedRows
    } else if bytes < sizes.min {
        Reason::TooSmall
    } else if bytes > sizes.max {
        Reason::TooLarge
    } else if options.rewrite_all {
        Reason::All
    } else {
        return None;
    };
    let path = task.file.file_path.clone();
    Some(CompactFile { path, rows, bytes, deleted_rows, delete_files, reason })
}

/// Bytes of a group without the rows that are known to be dead.
fn bytes_left(group: &CompactGroup) -> u64 {
    let of = |task: &FileScanTask| {
        let rows = task.file.record_count.max(1);
        let left = u128::from(task.file.file_size_in_bytes) * u128::from(rows_left(task));
        u64::try_from(left / u128::from(rows)).unwrap_or(u64::MAX)
    };
    group.tasks.iter().map(of).sum()
}

/// Files in their order, cut so that no bin has more bytes than `cap`, unless one file has.
fn bins<T>(files: Vec<(CompactFile, T)>, cap: u64) -> Vec<Vec<(CompactFile, T)>> {
    let mut bins: Vec<Vec<(CompactFile, T)>> = Vec::new();
    let mut bytes = u64::MAX;
    for (file, task) in files {
        match bins.last_mut() {
            Some(bin) if bytes.saturating_add(file.bytes) <= cap => {
                bytes += file.bytes;
                bin.push((file, task));
            }
            _ => {
                bytes = file.bytes;
                bins.push(vec![(file, task)]);
            }
        }
    }
    bins
}

/// Deletes are worth it for one file alone. Sizes are worth it if the number of files changes,
/// and there are enough small files or they fill a new one: what comes out of a compaction must
/// not go into the next.
fn is_worth_it(group: &CompactGroup, sizes: &Sizes, options: &CompactOptions) -> bool {
    if options.rewrite_all || group.files.iter().any(|f| f.reason.is_deletes()) {
        return true;
    }
    let files = group.files.len();
    let enough = files >= options.min_input_files
        || group.input.bytes > sizes.target
        || group.files.iter().any(|f| f.reason == Reason::TooLarge);
    enough && files as u64 != group.output_files
}

/// Whether a task has delete files that only position-delete rows of it.
pub(super) fn own_deletes(
    task: &FileScanTask,
) -> impl Iterator<Item = &crate::deletes::DeleteFile> {
    let path = task.file.file_path.as_str();
    task.deletes.iter().filter(move |d| {
        d.file.content == DataContentType::PositionDeletes && d.file.referenced_path() == Some(path)
    })
}
