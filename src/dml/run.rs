//! Carries a plan out: look rows up, write position deletes, commit, and plan again if others
//! were quicker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::{StreamExt, TryStreamExt, stream};
use roaring::RoaringTreemap;

use super::plan::DeletePlan;
use crate::error::{Error, ErrorKind, Result};
use crate::expr::{self, FileStats, PartitionFilter};
use crate::file::{WriterOptions, write_position_deletes};
use crate::read::TaskReader;
use crate::scan::{FileScanTask, TableScan};
use crate::spec::{DataFile, MAIN_BRANCH, Predicate, SnapshotId, property};
use crate::table::{At, Commit, Isolation, RemovedFile, Table, WriteResult};

/// How often work is planned again after others changed what it relied on.
const REPLANS: u32 = 3;

/// Bytes that looking rows up may hold.
const DEFAULT_MEMORY_BYTES: u64 = 256 * 1024 * 1024;

/// A delete by filter in the making; see [`Table::delete_where`].
#[derive(Debug, Clone)]
#[must_use = "nothing is deleted before `commit` is awaited"]
pub struct DeleteWhere {
    work: Work,
}

/// An overwrite by filter in the making; see [`Table::overwrite_where`].
#[derive(Debug, Clone)]
#[must_use = "nothing is overwritten before `commit` is awaited"]
pub struct OverwriteWhere {
    work: Work,
}

/// What a delete or overwrite by filter did.
#[derive(Debug, Clone)]
pub struct DeleteReport {
    /// The snapshot it made; `None` if there was nothing to change and nothing was committed.
    pub snapshot_id: Option<SnapshotId>,
    /// The table as of then.
    pub table: Table,
    /// Data files that went as a whole.
    pub removed_files: u64,
    /// Rows in those files; some may have been dead before.
    pub removed_rows: u64,
    /// Rows deleted by position in files that stay. All of them were alive.
    pub deleted_rows: u64,
    /// Position delete files written.
    pub position_delete_files: u64,
    /// Data files that were read to find rows.
    pub searched_files: u64,
    /// How often the work was planned: more than once if other commits were in the way.
    pub plans: u32,
}

impl Table {
    /// Deletes the rows for which `filter` is true: whole data files where partition or
    /// statistics prove that every row matches, by position elsewhere.
    ///
    /// Validated against what others commit meanwhile: the files whose rows are deleted must
    /// still be there and, unless the isolation is [`Isolation::Snapshot`], nobody may have added
    /// rows that may match. If that fails, the work is planned again on the new head.
    pub fn delete_where(&self, filter: Predicate) -> DeleteWhere {
        DeleteWhere { work: Work::new(self, filter, WriteResult::default()) }
    }

    /// Replaces the rows for which `filter` is true by `rows`, in one snapshot (DML-6). Old rows go as
    /// with [`Table::delete_where`]; see [`OverwriteWhere::whole_files_only`].
    ///
    /// The files of `rows` stay the caller's until the commit succeeds: after a failure other
    /// than `CommitStateUnknown` they can be committed otherwise or discarded.
    pub fn overwrite_where(&self, filter: Predicate, rows: WriteResult) -> OverwriteWhere {
        OverwriteWhere { work: Work::new(self, filter, rows) }
    }
}

macro_rules! common_options {
    ($builder:ident) => {
        impl $builder {
            /// Works on a branch other than `main`. It must exist.
            pub fn branch(mut self, name: impl Into<String>) -> Self {
                self.work.branch = name.into();
                self
            }

            /// What others may do meanwhile; `write.delete.isolation-level` unless set, and
            /// serializable by default.
            pub fn isolation(mut self, isolation: Isolation) -> Self {
                self.work.isolation = Some(isolation);
                self
            }

            /// Adds an entry to the snapshot's summary.
            pub fn summary(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
                self.work.summary.push((key.into(), value.into()));
                self
            }

            /// How often to plan again when other commits are in the way (default: 3).
            pub fn replans(mut self, times: u32) -> Self {
                self.work.replans = times;
                self
            }

            /// Bytes that looking rows up may hold (default: 256 MiB).
            pub fn memory_budget(mut self, bytes: u64) -> Self {
                self.work.memory_budget = bytes;
                self
            }

            /// How many files are searched at once (default: one a core).
            pub fn parallelism(mut self, files: usize) -> Self {
                self.work.parallelism = files.max(1);
                self
            }

            /// What would be done, from metadata alone. Nothing is written.
            ///
            /// # Errors
            /// `InvalidInput` if the filter does not bind; `NotFound` for an unknown branch;
            /// otherwise what planning a scan gives.
            pub async fn plan(&self) -> Result<DeletePlan> {
                self.work.plan().await
            }

            /// Does it.
            ///
            /// # Errors
            /// As [`Self::plan`], and what reading rows gives; `ValidationFailed` if other commits
            /// were in the way more often than [`Self::replans`] allows; `CommitStateUnknown` when
            /// nobody knows, and then every file written is kept. After any other error the
            /// position deletes that were written are removed.
            pub async fn commit(self) -> Result<DeleteReport> {
                self.work.commit(None).await
            }

            /// Does what `plan` says; plans again only if other commits are in the way.
            ///
            /// # Errors
            /// As [`Self::commit`]; `InvalidInput` for a plan of another branch or filter.
            pub async fn commit_plan(self, plan: DeletePlan) -> Result<DeleteReport> {
                self.work.commit(Some(plan)).await
            }
        }
    };
}

common_options!(DeleteWhere);
common_options!(OverwriteWhere);

impl OverwriteWhere {
    /// Refuses to commit when some file may match in part, instead of deleting its rows by
    /// position.
    pub fn whole_files_only(mut self) -> Self {
        self.work.whole_only = true;
        self
    }

    /// Refuses new rows that may lie outside the filter: partition or statistics of every new
    /// file must prove that its rows match.
    pub fn rows_must_match(mut self) -> Self {
        self.work.rows_must_match = true;
        self
    }
}

#[derive(Debug, Clone)]
struct Work {
    table: Table,
    filter: Predicate,
    rows: WriteResult,
    branch: String,
    isolation: Option<Isolation>,
    summary: Vec<(String, String)>,
    replans: u32,
    memory_budget: u64,
    parallelism: usize,
    whole_only: bool,
    rows_must_match: bool,
}

/// What became of one searched file.
enum Searched {
    /// No row matches.
    Untouched,
    /// All rows that were alive match.
    Whole(FileScanTask),
    /// Some match: the delete file.
    Deleted(Box<DataFile>, String),
}

impl Work {
    fn new(table: &Table, filter: Predicate, rows: WriteResult) -> Self {
        Self {
            table: table.clone(),
            filter,
            rows,
            branch: MAIN_BRANCH.to_string(),
            isolation: None,
            summary: Vec::new(),
            replans: REPLANS,
            memory_budget: DEFAULT_MEMORY_BYTES,
            parallelism: std::thread::available_parallelism().map_or(2, |n| n.get()),
            whole_only: false,
            rows_must_match: false,
        }
    }

    fn scan(&self) -> TableScan {
        let at = match self.branch.as_str() {
            MAIN_BRANCH => At::Current,
            branch => At::Ref(branch.to_string()),
        };
        let scan = self.table.scan().at(at).filter(self.filter.clone());
        scan.select(["_pos"]).memory_budget(self.memory_budget).parallelism(self.parallelism)
    }

    async fn plan(&self) -> Result<DeletePlan> {
        let plan = DeletePlan::new(&self.table, &self.branch, &self.scan()).await?;
        if self.whole_only {
            plan.must_be_whole()?;
        }
        Ok(plan)
    }

    #[tracing::instrument(name = "dml.commit", skip_all, err(level = "debug"),
        fields(table = %self.table.ident(), branch = %self.branch))]
    async fn commit(mut self, plan: Option<DeletePlan>) -> Result<DeleteReport> {
        if self.rows_must_match {
            self.check_rows()?;
        }
        let mut given = plan;
        for plans in 1.. {
            let plan = match given.take() {
                Some(plan) => self.accept(plan)?,
                None => self.plan().await?,
            };
            match self.attempt(plan, plans).await {
                // Others changed what the plan relied on; the filter still says what is wanted
                // (DML-4).
                Err(error)
                    if error.kind() == ErrorKind::ValidationFailed && plans <= self.replans =>
                {
                    tracing::warn!(attempt = plans, %error, "planning again");
                    self.table = self.table.refresh().await?;
                }
                outcome => return outcome,
            }
        }
        Err(Error::internal("the loop of plans ended"))
    }

    /// Takes a plan that was printed before.
    fn accept(&self, plan: DeletePlan) -> Result<DeletePlan> {
        let context = self.scan().context()?;
        let filter = context.filter.as_deref().map(|f| expr::describe(f).to_string());
        if plan.branch != self.branch || plan.filter != filter.as_deref().unwrap_or("TRUE") {
            return Err(Error::invalid("the plan was made for another branch or filter")
                .with_hint("make the plan with the same builder"));
        }
        if self.whole_only {
            plan.must_be_whole()?;
        }
        Ok(plan)
    }

    async fn attempt(&self, plan: DeletePlan, plans: u32) -> Result<DeleteReport> {
        let DeletePlan { snapshot_id, mut whole, partial, .. } = plan;
        let searched_files = partial.len() as u64;
        let searched = self.search(partial).await?;
        let mut deletes = WriteResult::default();
        for outcome in searched {
            match outcome {
                Searched::Untouched => {}
                Searched::Whole(task) => whole.push(task),
                Searched::Deleted(file, path) => {
                    deletes.delete_files.push(*file);
                    deletes.referenced_data_files.push(path);
                }
            }
        }
        let mut report = DeleteReport {
            snapshot_id: None,
            table: self.table.clone(),
            removed_files: whole.len() as u64,
            removed_rows: whole.iter().map(|t| t.file.record_count).sum(),
            deleted_rows: deletes.delete_files.iter().map(|f| f.record_count).sum(),
            position_delete_files: deletes.delete_files.len() as u64,
            searched_files,
            plans,
        };
        if whole.is_empty() && deletes.is_empty() && self.rows.is_empty() {
            return Ok(report);
        }
        let outcome = match self.commit_of(whole, deletes.clone(), snapshot_id) {
            Ok(commit) => commit.commit().await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(committed) => {
                report.snapshot_id = Some(committed.snapshot_id);
                report.table = committed.table;
                Ok(report)
            }
            // The files may be part of the table: nothing is removed (DML-5).
            Err(error) if error.kind() == ErrorKind::CommitStateUnknown => Err(error),
            Err(error) => {
                // The first error is the one to report; leftovers are orphans.
                let _ = deletes.discard(self.table.storage()).await;
                Err(error)
            }
        }
    }

    fn commit_of(
        &self,
        whole: Vec<FileScanTask>,
        deletes: WriteResult,
        planned_at: Option<SnapshotId>,
    ) -> Result<Commit> {
        let removed: Vec<RemovedFile> =
            whole.iter().map(|t| RemovedFile::new(&t.file, Some(t.sequence_number))).collect();
        let adds_rows = !self.rows.is_empty();
        let commit = match (removed.is_empty(), deletes.is_empty()) {
            (true, _) if !adds_rows => self.table.row_delta(deletes),
            (false, true) if !adds_rows => self.table.delete_files(removed),
            _ => self.table.overwrite_files(removed, self.rows.clone().merge(deletes)),
        };
        let commit = self.summary.iter().fold(commit, |c, (key, value)| c.summary(key, value));
        Ok(commit
            .branch(&self.branch)
            .validate_from(planned_at)
            .conflict_filter(self.filter.clone())
            .isolation(self.isolation()?))
    }

    fn isolation(&self) -> Result<Isolation> {
        if let Some(isolation) = self.isolation {
            return Ok(isolation);
        }
        match self.table.properties().get(property::DELETE_ISOLATION) {
            None => Ok(Isolation::Serializable),
            Some(text) if text.eq_ignore_ascii_case("serializable") => Ok(Isolation::Serializable),
            Some(text) if text.eq_ignore_ascii_case("snapshot") => Ok(Isolation::Snapshot),
            Some(text) => Err(Error::invalid(format!(
                "table property `{}` is `{text}`, neither `serializable` nor `snapshot`",
                property::DELETE_ISOLATION
            ))),
        }
    }

    /// Looks for matching rows in the files of `tasks`, several at a time. After a failure no new
    /// file is begun, those under way are finished, and what was written is removed.
    async fn search(&self, tasks: Vec<FileScanTask>) -> Result<Vec<Searched>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let reader = Arc::new(self.scan().task_reader()?);
        let options =
            WriterOptions::from_properties(&self.table.properties(), self.table.schema())?;
        let failed = AtomicBool::new(false);
        let outcomes: Vec<Result<Searched>> = stream::iter(tasks)
            .map(|task| async {
                if failed.load(Ordering::Relaxed) {
                    return Ok(Searched::Untouched);
                }
                let outcome = self.search_one(&reader, task, &options).await;
                failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
                outcome
            })
            .buffer_unordered(self.parallelism)
            .collect()
            .await;
        let mut searched = Vec::with_capacity(outcomes.len());
        let mut first = Ok(());
        for outcome in outcomes {
            match outcome {
                Ok(outcome) => searched.push(outcome),
                Err(error) => first = first.and(Err(error)),
            }
        }
        if let Err(error) = first {
            let mut written = WriteResult::default();
            for outcome in searched {
                if let Searched::Deleted(file, _) = outcome {
                    written.delete_files.push(*file);
                }
            }
            let _ = written.discard(self.table.storage()).await;
            return Err(error);
        }
        Ok(searched)
    }

    async fn search_one(
        &self,
        reader: &Arc<TaskReader>,
        task: FileScanTask,
        options: &WriterOptions,
    ) -> Result<Searched> {
        let matched = matching_rows(reader, &task).await?;
        if matched.is_empty() {
            return Ok(Searched::Untouched);
        }
        let file = task.file.clone();
        // Rows dead by position and rows that match now are often all there are (DML-2).
        let mut gone = matched.len();
        if let Some(dead) = reader.loader().positions(&file, &task.deletes).await? {
            gone += dead.range_cardinality(0..file.record_count);
        }
        if gone >= file.record_count {
            return Ok(Searched::Whole(task));
        }
        // Spec and partition are the data file's own, not the table's current ones (DML-3).
        let path = self.table.new_data_path(&file.partition_key(), "pos-deletes")?;
        let storage = self.table.storage();
        let delete = write_position_deletes(storage, &path, &file, &matched, options).await?;
        Ok(Searched::Deleted(Box::new(delete), file.file_path.clone()))
    }

    /// Checks that every new row passes the filter, by partition or statistics.
    fn check_rows(&self) -> Result<()> {
        let schema = self.table.schema();
        let filter = expr::bind(&self.filter, schema, true)?;
        let compiled = expr::Filter::new(&filter);
        for file in &self.rows.data_files {
            let spec = self.table.spec(file.spec_id)?;
            let types = self.table.partition_types(file.spec_id)?;
            let partitions = PartitionFilter::new(&filter, spec, &types, schema)?;
            let proved = partitions.partition_must_match(&file.partition)
                || compiled.must_match(&FileStats(file, schema));
            if !proved {
                return Err(Error::invalid("new rows may lie outside the filter they replace")
                    .with_context("file", &file.file_path)
                    .with_context("filter", expr::describe(&filter))
                    .with_hint("leave `rows_must_match` out to allow it"));
            }
        }
        Ok(())
    }
}

/// The positions of the rows that are alive and match. Memory: one bitmap.
async fn matching_rows(reader: &Arc<TaskReader>, task: &FileScanTask) -> Result<RoaringTreemap> {
    let mut matched = RoaringTreemap::new();
    let mut batches = reader.clone().read(task.clone());
    while let Some(batch) = batches.try_next().await? {
        let positions = batch.columns().first().and_then(|c| c.as_primitive_opt::<Int64Type>());
        let positions =
            positions.ok_or_else(|| Error::internal("a scan of `_pos` gave no positions"))?;
        for position in positions.values() {
            let position = u64::try_from(*position)
                .map_err(|_| Error::internal("a row has a negative position"))?;
            matched.insert(position);
        }
    }
    Ok(matched)
}
