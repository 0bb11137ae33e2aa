//! Carries a plan out: what dangles goes first, then data files are merged, several at once.

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt;
use tokio::task::JoinSet;

use super::dangling::{DanglingDelete, is_position};
use super::merge::{Merged, discard, merge};
use super::plan::{DeletesUnit, plan};
use super::{RewriteDeletes, RewriteDeletesPlan, RewriteDeletesReport};
use crate::deletes::DeleteLoader;
use crate::error::{Error, ErrorKind, Result};
use crate::file::WriterOptions;
use crate::maintenance::batch::{Batch, or_due};
use crate::maintenance::outcome::{check_plan, end, is_overtaken};
use crate::maintenance::partitions::branch_scan;
use crate::maintenance::{Failed, Report, Stopwatch, Totals, Unit};
use crate::spec::SnapshotId;
use crate::table::{Committed, RemovedFile, Table};

/// How often a commit that lost all of its races is tried again.
const ROUNDS: u32 = 10;

/// Runs `plan`; see [`RewriteDeletes::run_plan`].
#[tracing::instrument(name = "maintenance.rewrite_position_deletes", skip_all,
    err(level = "debug"), fields(table = %rewrite.table.ident(), groups = plan.groups.len()))]
pub(super) async fn run(
    rewrite: RewriteDeletes,
    plan: RewriteDeletesPlan,
) -> Result<RewriteDeletesReport> {
    let watch = Stopwatch::start(&rewrite.table);
    rewrite.options.check()?;
    check_plan((&plan.table, &plan.branch), &rewrite.table, &rewrite.options.branch)?;
    let report = Report::new("rewrite-position-deletes", &rewrite.table);
    let report = RewriteDeletesReport { report, ..RewriteDeletesReport::default() };
    let progress = rewrite.progress.clone();
    let mut run = Run { rewrite, report, first: None };
    if let Some(planned_at) = plan.snapshot_id {
        let files = plan.input().files + plan.dangling.len() as u64;
        progress.begin("merging deletes", Unit::Files, Some(files));
        run.remove_dangling(plan.dangling, planned_at).await;
        let units = plan.groups.into_iter().flat_map(|group| group.units).collect();
        run.merge_units(units, planned_at).await;
    }
    let Run { mut report, first, .. } = run;
    let landed = !report.snapshots.is_empty();
    end(&mut report.report, &watch, &*progress, first, landed)?;
    Ok(report)
}

struct Run {
    rewrite: RewriteDeletes,
    report: RewriteDeletesReport,
    first: Option<Error>,
}

/// The version of the table that units were planned on, and what reads and writes their deletes.
struct Base {
    table: Table,
    planned_at: SnapshotId,
    loader: DeleteLoader,
    writing: WriterOptions,
}

impl Base {
    fn new(table: Table, planned_at: SnapshotId, memory_bytes: u64) -> Result<Self> {
        let (storage, metadata) = (table.storage().clone(), table.metadata().clone());
        // Of the loader's memory, a quarter is for positions; no keys are read here.
        let loader = DeleteLoader::new(storage, metadata, None, memory_bytes.saturating_mul(2));
        let writing = WriterOptions::from_properties(&table.properties(), table.schema())?;
        Ok(Self { table, planned_at, loader, writing })
    }
}

impl Run {
    fn fail(&mut self, what: &str, error: Error) {
        self.report.report.failed.push(Failed::new(what, &error));
        self.first.get_or_insert(error);
    }

    /// Removes delete files that nothing meets; decided anew while others are quicker. The commit
    /// itself refuses to drop an equality delete that a live row needs (CMT-3).
    async fn remove_dangling(&mut self, mut dangling: Vec<DanglingDelete>, at: SnapshotId) {
        let (mut table, mut planned_at, mut replans) = (self.rewrite.table.clone(), at, 0);
        while !dangling.is_empty() && !self.rewrite.progress.should_stop() {
            let removed = dangling.iter().map(DanglingDelete::removed).collect();
            let commit = table.rewrite_deletes(removed, Vec::new(), planned_at);
            let error = match commit.branch(&self.rewrite.options.branch).commit().await {
                Ok(committed) => return self.gone(&dangling, &committed),
                Err(error) => error,
            };
            if !is_overtaken(&error) || replans >= self.rewrite.options.replans {
                return self.fail("delete files that delete nothing", error);
            }
            tracing::debug!(%error, "looking for dangling deletes again");
            replans += 1;
            self.report.report.conflicts += 1;
            match self.plan_again().await {
                Ok((now, fresh)) => {
                    let Some(head) = fresh.snapshot_id else { return };
                    (table, planned_at, dangling) = (now, head, fresh.dangling);
                }
                Err(error) => return self.fail("delete files that delete nothing", error),
            }
        }
    }

    fn gone(&mut self, dangling: &[DanglingDelete], committed: &Committed) {
        for delete in dangling.iter().map(|d| &d.delete) {
            let totals = Totals::from_iter([&*delete.file]);
            match is_position(delete) {
                true => self.report.dangling_position_deletes += totals,
                false => self.report.dangling_equality_deletes += totals,
            }
        }
        self.report.snapshots.push(committed.snapshot_id);
        self.rewrite.progress.advance(dangling.len() as u64);
    }

    async fn plan_again(&self) -> Result<(Table, RewriteDeletesPlan)> {
        let table = self.rewrite.table.refresh().await?;
        let fresh = plan(&table, &self.rewrite.options).await?;
        Ok((table, fresh))
    }

    /// Merges units, and plans those again that others overtook.
    async fn merge_units(&mut self, mut units: Vec<DeletesUnit>, at: SnapshotId) {
        let (mut table, mut planned_at, mut replans) = (self.rewrite.table.clone(), at, 0);
        while !units.is_empty() {
            let bytes = self.rewrite.options.memory_budget_bytes;
            let base = match Base::new(table.clone(), planned_at, bytes) {
                Ok(base) => Arc::new(base),
                Err(error) => return self.fail("position deletes", error),
            };
            let mut stale = HashSet::new();
            self.pass(&base, units, &mut stale).await;
            if stale.is_empty() || self.rewrite.progress.should_stop() {
                return;
            }
            if replans >= self.rewrite.options.replans {
                let error =
                    Error::new(ErrorKind::ValidationFailed, "others were quicker each time")
                        .with_context("data_files", stale.len())
                        .with_hint("run it again when the table is less busy");
                return self.fail("position deletes", error);
            }
            replans += 1;
            match self.plan_again().await {
                Ok((now, fresh)) => {
                    let Some(head) = fresh.snapshot_id else { return };
                    let all = fresh.groups.into_iter().flat_map(|group| group.units);
                    let is_stale = |unit: &DeletesUnit| {
                        unit.tasks.iter().any(|t| stale.contains(&t.file.file_path))
                    };
                    (table, planned_at) = (now, head);
                    units = all.filter(is_stale).collect();
                }
                Err(error) => return self.fail("position deletes", error),
            }
        }
    }

    /// Merges units of one version, a few at a time, and commits them in batches. Data files whose
    /// units have to be planned again come to `stale`.
    async fn pass(
        &mut self,
        base: &Arc<Base>,
        units: Vec<DeletesUnit>,
        stale: &mut HashSet<String>,
    ) {
        let options = &self.rewrite.options;
        let most = options.max_concurrent_files.max(1);
        let mut batch = Batch::new(options.max_files_per_commit as u64, options.commit_interval);
        let (mut waiting, mut running) = (units.into_iter(), JoinSet::new());
        loop {
            while running.len() < most && !self.rewrite.progress.should_stop() {
                let Some(unit) = waiting.next() else { break };
                let base = base.clone();
                running.spawn(async move {
                    let paths: Vec<String> = paths(&unit).collect();
                    let done = merge(&base.table, &base.loader, unit, &base.writing).await;
                    (paths, done)
                });
            }
            match or_due(batch.deadline(), running.join_next()).await {
                None => self.commit_batch(base, batch.take(), stale).await,
                Some(None) => break,
                Some(Some(Ok((_, Ok(merged))))) => {
                    let weight = merged.unit.deletes.len() as u64;
                    self.rewrite.progress.advance(weight);
                    if batch.push(merged, weight) {
                        self.commit_batch(base, batch.take(), stale).await;
                    }
                }
                Some(Some(Ok((paths, Err(error))))) if is_overtaken(&error) => {
                    self.report.report.conflicts += 1;
                    stale.extend(paths);
                }
                Some(Some(Ok((paths, Err(error))))) => {
                    self.fail(paths.first().map_or("", String::as_str), error);
                }
                Some(Some(Err(error))) => {
                    let broke = Error::internal("a merge of deletes broke off").with_source(error);
                    self.fail("position deletes", broke);
                }
            }
        }
        self.commit_batch(base, batch.take(), stale).await;
    }

    /// Commits what is finished. Where others were quicker, the rest of the batch still lands
    /// (MNT-43).
    async fn commit_batch(
        &mut self,
        base: &Base,
        mut batch: Vec<Merged>,
        stale: &mut HashSet<String>,
    ) {
        let mut rounds = 0;
        while !batch.is_empty() {
            let error = match self.commit(base, &batch).await {
                Ok(committed) => return self.landed(&batch, &committed),
                Err(error) => error,
            };
            if error.kind() == ErrorKind::CommitStateUnknown {
                // The files may be part of the table (MNT-44).
                return self.fail("a commit of position deletes", error);
            }
            rounds += 1;
            self.report.report.conflicts += u64::from(is_overtaken(&error));
            let left = match is_overtaken(&error) && rounds < ROUNDS {
                true => self.still_there(base, &batch).await,
                false => Err(error),
            };
            let left = match left {
                Ok(left) => left,
                Err(error) => {
                    let files = batch.into_iter().flat_map(Merged::data_files);
                    discard(&base.table, files).await;
                    return self.fail("position deletes", error);
                }
            };
            let all = left.len() == batch.len();
            let (good, gone): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|m| left.contains(&key(m)));
            stale.extend(gone.iter().flat_map(|merged| paths(&merged.unit)));
            discard(&base.table, gone.into_iter().flat_map(Merged::data_files)).await;
            tracing::debug!(all, stale = stale.len(), "others changed position deletes");
            batch = good;
        }
    }

    async fn commit(&self, base: &Base, batch: &[Merged]) -> Result<Committed> {
        let removed: Vec<RemovedFile> = batch.iter().flat_map(Merged::removed).collect();
        let added = batch.iter().flat_map(|merged| merged.files.clone()).collect();
        let commit = base.table.rewrite_deletes(removed, added, base.planned_at);
        commit.branch(&self.rewrite.options.branch).commit().await
    }

    fn landed(&mut self, batch: &[Merged], committed: &Committed) {
        self.report.report.groups += batch.len() as u64;
        for merged in batch {
            let before = merged.unit.deletes.iter().map(|d| &*d.file);
            self.report.report.before += before.collect();
            self.report.report.after += merged.files.iter().map(|added| &added.file).collect();
        }
        self.report.snapshots.push(committed.snapshot_id);
    }

    /// The units whose delete and data files are all part of the table as it is now; none when
    /// what was read is no longer in its history.
    async fn still_there(&self, base: &Base, batch: &[Merged]) -> Result<HashSet<String>> {
        let now = self.rewrite.table.refresh().await?;
        let context = branch_scan(&now, &self.rewrite.options.branch).context()?;
        let head = context.snapshot.as_ref().map(|s| SnapshotId(s.snapshot_id()));
        if !head.is_some_and(|head| now.is_ancestor(base.planned_at, head)) {
            return Ok(HashSet::new());
        }
        let wanted: HashSet<String> = batch.iter().flat_map(|m| paths(&m.unit)).collect();
        let planned = context.plan().await?;
        let deletes: HashSet<&str> =
            planned.deletes.files().map(|d| d.file.file_path.as_str()).collect();
        let mut data = HashSet::new();
        let mut tasks = planned.tasks;
        while let Some(task) = tasks.try_next().await? {
            if wanted.contains(&task.file.file_path) {
                data.insert(task.file.file_path.clone());
            }
        }
        let lives = |merged: &&Merged| {
            let all = &merged.unit.deletes;
            all.iter().all(|d| deletes.contains(d.file.file_path.as_str()))
                && paths(&merged.unit).all(|path| data.contains(&path))
        };
        Ok(batch.iter().filter(lives).map(key).collect())
    }
}

/// The data files of a unit.
fn paths(unit: &DeletesUnit) -> impl Iterator<Item = String> + '_ {
    unit.tasks.iter().map(|task| task.file.file_path.clone())
}

/// Tells units apart: no data file is in two of them.
fn key(merged: &Merged) -> String {
    paths(&merged.unit).next().unwrap_or_default()
}
