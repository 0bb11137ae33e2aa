//! Carries a plan out: group by group, several files at once.

use std::sync::Arc;

use roaring::RoaringTreemap;
use tokio::task::JoinSet;

use super::plan::{plan, scope_of};
use super::{ConvertDeletes, ConvertGroup, ConvertPlan, ConvertReport};
use crate::error::{Error, ErrorKind, Result};
use crate::file::{WriterOptions, write_position_deletes};
use crate::maintenance::outcome::{check_plan, end, is_overtaken};
use crate::maintenance::{Failed, Report, Stopwatch, Totals, Unit};
use crate::read::TaskReader;
use crate::scan::FileScanTask;
use crate::spec::{DataContentType, DataFile, SnapshotId};
use crate::table::{AddedDelete, Committed, RemovedFile, Table, WriteResult};

/// Runs `plan`; see [`ConvertDeletes::run_plan`].
#[tracing::instrument(name = "maintenance.convert_deletes", skip_all, err(level = "debug"),
    fields(table = %convert.table.ident(), groups = plan.groups.len()))]
pub(super) async fn run(convert: ConvertDeletes, plan: ConvertPlan) -> Result<ConvertReport> {
    let watch = Stopwatch::start(&convert.table);
    check_plan((&plan.table, &plan.branch), &convert.table, &convert.options.branch)?;
    let report = Report::new("convert-deletes", &convert.table);
    let mut report = ConvertReport { report, ..ConvertReport::default() };
    let files = plan.groups.iter().map(|g| g.data.files).sum();
    convert.progress.begin("converting", Unit::Files, Some(files));
    let ConvertPlan { groups, seen, snapshot_id, .. } = plan;
    let mut first = None;
    for group in groups {
        if convert.progress.should_stop() {
            break;
        }
        let what = group.partition.clone();
        let seen = seen.clone();
        let work = Work { table: convert.table.clone(), group, seen, snapshot_id };
        if let Err(error) = convert.convert(work, &mut report).await {
            let what = if what.is_empty() { report.report.table.clone() } else { what };
            report.report.failed.push(Failed::new(what, &error));
            first = first.or(Some(error));
        }
    }
    let landed = !report.snapshots.is_empty();
    end(&mut report.report, &watch, &*convert.progress, first, landed)?;
    Ok(report)
}

/// A group, and the version of the table that it was planned on.
struct Work {
    table: Table,
    group: ConvertGroup,
    seen: Arc<std::collections::HashSet<String>>,
    snapshot_id: Option<SnapshotId>,
}

impl ConvertDeletes {
    /// Converts one group; plans it again while others are quicker (MNT-12).
    async fn convert(&self, mut work: Work, report: &mut ConvertReport) -> Result<()> {
        let mut replans = 0;
        loop {
            let error = match self.try_group(&work, report).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !is_overtaken(&error)
                || replans >= self.options.replans
                || self.progress.should_stop()
            {
                return Err(error);
            }
            tracing::debug!(partition = work.group.partition, %error, "planning a group again");
            replans += 1;
            report.report.conflicts += 1;
            let table = self.table.refresh().await?;
            let fresh = plan(&table, &self.options.branch).await?;
            let ConvertPlan { groups, seen, snapshot_id, .. } = fresh;
            let same = groups.into_iter().find(|group| group.scope == work.group.scope);
            let Some(group) = same else { return Ok(()) };
            work = Work { table, group, seen, snapshot_id };
        }
    }

    async fn try_group(&self, work: &Work, report: &mut ConvertReport) -> Result<()> {
        let Some(planned_at) = work.snapshot_id else { return Ok(()) };
        let Some(files) = self.write(work).await? else { return Ok(()) };
        let after: Totals = files.iter().collect();
        let committed = match self.commit(work, &files, planned_at).await {
            Ok(committed) => committed,
            Err(error) => {
                // After an unknown outcome the files may be part of the table (MNT-13).
                if error.kind() != ErrorKind::CommitStateUnknown {
                    discard(&work.table, files).await;
                }
                return Err(error);
            }
        };
        report.report.groups += 1;
        report.report.before += work.group.deletes;
        report.report.after += after;
        report.files_read += work.group.data.files;
        report.snapshots.push(committed.snapshot_id);
        Ok(())
    }

    async fn commit(
        &self,
        work: &Work,
        files: &[DataFile],
        planned_at: SnapshotId,
    ) -> Result<Committed> {
        let members = work.group.members.iter();
        let removed = members.map(|d| RemovedFile::new(&d.file, Some(d.sequence_number))).collect();
        let added =
            files.iter().map(|file| AddedDelete { file: file.clone(), sequence_number: None });
        let seen = work.seen.as_ref().clone();
        let commit = work.table.convert_deletes(removed, added.collect(), seen, planned_at);
        commit.branch(&self.options.branch).commit().await
    }

    /// Writes a position delete file for each data file with rows that the group kills; `None` if
    /// it was asked to stop. Without success nothing stays.
    async fn write(&self, work: &Work) -> Result<Option<Vec<DataFile>>> {
        let scan = work.table.scan().memory_budget(self.options.memory_budget_bytes);
        let reader = Arc::new(scan.task_reader()?);
        let properties = work.table.properties();
        let options = WriterOptions::from_properties(&properties, work.table.schema())?;
        let mut waiting = work.group.tasks.iter();
        let (mut running, mut written, mut failed) = (JoinSet::new(), Vec::new(), None);
        loop {
            while failed.is_none()
                && running.len() < self.options.max_concurrent_files.max(1)
                && !self.progress.should_stop()
            {
                let Some(task) = waiting.next() else { break };
                let ours = self.ours(work, task)?;
                let (table, reader, options) =
                    (work.table.clone(), reader.clone(), options.clone());
                running.spawn(async move { convert_file(&table, &reader, ours, &options).await });
            }
            match running.join_next().await {
                None => break,
                Some(Ok(Ok(file))) => {
                    written.extend(file);
                    self.progress.advance(1);
                }
                Some(Ok(Err(error))) => failed = failed.or(Some(error)),
                Some(Err(error)) => {
                    let broke = Error::internal("a conversion broke off").with_source(error);
                    failed = failed.or(Some(broke));
                }
            }
        }
        let stopped = self.progress.should_stop() && waiting.next().is_some();
        if failed.is_none() && !stopped {
            written.sort_by(|a: &DataFile, b| a.referenced_data_file.cmp(&b.referenced_data_file));
            return Ok(Some(written));
        }
        discard(&work.table, written).await;
        failed.map_or(Ok(None), Err)
    }

    /// A task with the equality deletes of the group, and all its position deletes.
    fn ours(&self, work: &Work, task: &FileScanTask) -> Result<FileScanTask> {
        let mut ours = task.clone();
        ours.deletes.clear();
        for delete in &task.deletes {
            let is_equality = delete.file.content == DataContentType::EqualityDeletes;
            if !is_equality || scope_of(&work.table, &delete.file)? == work.group.scope {
                ours.deletes.push(delete.clone());
            }
        }
        Ok(ours)
    }
}

/// The position deletes of one data file: rows that equality deletes kill and no position delete
/// names yet (MNT-11).
async fn convert_file(
    table: &Table,
    reader: &TaskReader,
    task: FileScanTask,
    options: &WriterOptions,
) -> Result<Option<DataFile>> {
    let mut dead = reader.dead_rows(&task).await?;
    let known = reader.loader().positions(&task.file, &task.deletes).await?;
    dead -= known.as_deref().unwrap_or(&RoaringTreemap::new());
    if dead.is_empty() {
        return Ok(None);
    }
    // Spec and partition are the data file's own, not the table's current ones.
    let location = table.new_data_path(&task.file.partition_key(), "pos-deletes")?;
    let written = write_position_deletes(table.storage(), &location, &task.file, &dead, options);
    written.await.map(Some)
}

/// Removes files that no commit will list. What cannot be removed is an orphan.
async fn discard(table: &Table, delete_files: Vec<DataFile>) {
    let written = WriteResult { delete_files, ..WriteResult::default() };
    if let Err(error) = written.discard(table.storage()).await {
        tracing::warn!(%error, "files of a conversion that did not land were left behind");
    }
}
