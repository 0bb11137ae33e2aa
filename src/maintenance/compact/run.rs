//! Carries a plan out: several groups at once, committed in batches of finished ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::commit::{self, Finished, Landed};
use super::outputs::Shape;
use super::plan::plan_again;
use super::rewrite::{Base, Rewriting, rewrite};
use super::sizes::Sizes;
use super::{Compact, CompactGroup, CompactOptions, CompactPlan, CompactReport};
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::batch::{Batch, or_due};
use crate::maintenance::outcome::{check_plan, end};
use crate::maintenance::{Failed, Progress, Report, Stopwatch, Unit};
use crate::spec::SnapshotId;
use crate::table::Table;
use crate::write::writable;

/// The weight of a batch that is full.
const FULL: u64 = 1 << 32;

/// Runs `plan`; see [`Compact::run_plan`].
#[tracing::instrument(name = "maintenance.compact", skip_all, err(level = "debug"),
    fields(table = %compact.table.ident(), groups = plan.groups.len()))]
pub(super) async fn run(compact: Compact, plan: CompactPlan) -> Result<CompactReport> {
    let watch = Stopwatch::start(&compact.table);
    let mut report =
        CompactReport { report: Report::new("compact", &compact.table), ..Default::default() };
    check_plan((&plan.table, &plan.branch), &compact.table, &compact.options.branch)?;
    let Some(planned_at) = plan.snapshot_id.filter(|_| !plan.is_empty()) else {
        report.report.finish(&watch);
        return Ok(report);
    };
    let progress = compact.progress.clone();
    progress.begin("compacting", Unit::Bytes, Some(plan.input().bytes));
    let worker = Arc::new(Worker::new(compact)?);
    let base = Base::new(&worker.table, &plan.branch, planned_at, worker.read_bytes)?;
    let mut run = Run::new(worker, &base, plan.groups, report);
    run.all().await;
    let Run { mut report, first, .. } = run;
    let landed = !report.snapshots.is_empty();
    end(&mut report.report, &watch, &*progress, first, landed)?;
    Ok(report)
}

/// What the groups of one run share.
struct Worker {
    table: Table,
    options: CompactOptions,
    rewriting: Rewriting,
    progress: Arc<dyn Progress>,
    read_bytes: u64,
    group_bytes: u64,
}

impl Worker {
    /// Half of the memory reads, for all groups together; each group has its share of the rest.
    fn new(compact: Compact) -> Result<Self> {
        let Compact { table, options, progress } = compact;
        options.check()?;
        writable(&table)?;
        let sort = options.sort_fields(&table)?;
        let read_bytes = options.memory_budget_bytes / 2;
        let group_bytes = read_bytes / options.max_concurrent_groups.max(1) as u64;
        let orders = table.metadata().sort_orders_iter();
        let known = orders.filter(|order| !sort.is_empty() && order.fields == sort);
        let sort_order_id =
            known.map(|order| order.order_id).max().and_then(|id| i32::try_from(id).ok());
        // Sorted rows and open files share the memory of a group.
        let memory_bytes = if sort.is_empty() { group_bytes } else { group_bytes / 2 };
        let shape = Shape { sizes: Sizes::new(&table, &options)?, memory_bytes, sort_order_id };
        let rewriting = Rewriting {
            shape,
            sort,
            sort_bytes: usize::try_from(group_bytes / 2).unwrap_or(usize::MAX),
            spill_directory: options.spill_directory.clone().unwrap_or_else(std::env::temp_dir),
            progress: progress.clone(),
        };
        Ok(Self { table, options, rewriting, progress, read_bytes, group_bytes })
    }

    /// `None` if it was asked to stop. After an error no file stays.
    async fn rewrite(&self, task: Task) -> Result<Option<Finished>> {
        let Task { base, group, replans } = task;
        let rewritten = rewrite(&base, &group, &self.rewriting).await?;
        Ok(rewritten.map(|(written, map)| Finished { base, group, written, map, replans }))
    }

    /// What is left of groups, on the table as it is now.
    async fn again(&self, groups: &[CompactGroup], replans: u32) -> Result<Vec<Task>> {
        let table = self.table.refresh().await?;
        let (snapshot, groups) = plan_again(&table, &self.options, groups).await?;
        let Some(planned_at) = snapshot else { return Ok(Vec::new()) };
        let base = Base::new(&table, &self.options.branch, planned_at, self.group_bytes)?;
        let task = |group| Task { base: base.clone(), group, replans: replans + 1 };
        Ok(groups.into_iter().map(task).collect())
    }
}

/// A group to rewrite, with the version that it was planned on.
struct Task {
    base: Base,
    group: CompactGroup,
    replans: u32,
}

/// One run: what waits, what is finished, and what came of the rest.
struct Run {
    worker: Arc<Worker>,
    waiting: Vec<Task>,
    /// Finished groups by the version that they were planned on, and by kind.
    batches: BTreeMap<(SnapshotId, (bool, bool)), Batch<Finished>>,
    /// Groups of each version that are not finished.
    open: BTreeMap<SnapshotId, usize>,
    groups_per_commit: u64,
    report: CompactReport,
    first: Option<Error>,
}

impl Run {
    fn new(
        worker: Arc<Worker>,
        base: &Base,
        groups: Vec<CompactGroup>,
        report: CompactReport,
    ) -> Self {
        let commits = worker.options.max_commits.max(1);
        let groups_per_commit = groups.len().div_ceil(commits).max(1) as u64;
        let task = |group| Task { base: base.clone(), group, replans: 0 };
        let mut run = Self {
            worker,
            waiting: Vec::new(),
            batches: BTreeMap::new(),
            open: BTreeMap::new(),
            groups_per_commit,
            report,
            first: None,
        };
        // The last one is taken first.
        run.wait(groups.into_iter().rev().map(task).collect());
        run
    }

    fn wait(&mut self, tasks: Vec<Task>) {
        for task in &tasks {
            *self.open.entry(task.base.planned_at).or_default() += 1;
        }
        self.waiting.extend(tasks);
    }

    /// Rewrites groups, a few at a time, and commits those that are finished. Failed groups do not
    /// hold up the others (MNT-4).
    async fn all(&mut self) {
        let mut running = JoinSet::new();
        loop {
            while running.len() < self.worker.options.max_concurrent_groups.max(1)
                && !self.worker.progress.should_stop()
            {
                let Some(task) = self.waiting.pop() else { break };
                let (worker, partition) = (self.worker.clone(), task.group.partition.clone());
                let version = task.base.planned_at;
                running.spawn(async move { (version, partition, worker.rewrite(task).await) });
            }
            let deadline = self.batches.values().filter_map(Batch::deadline).min();
            match or_due(deadline, running.join_next()).await {
                Some(Some(Ok((version, partition, rewritten)))) => {
                    self.open.entry(version).and_modify(|open| *open = open.saturating_sub(1));
                    match rewritten {
                        Ok(Some(done)) => self.finished(done).await,
                        Ok(None) => {}
                        Err(error) => self.fail(&partition, error),
                    }
                    self.commit_again(version).await;
                }
                Some(Some(Err(error))) => {
                    self.fail("unknown", Error::internal("a group broke off").with_source(error));
                }
                // Late, or nothing is left to wait for.
                late => {
                    self.commit_all().await;
                    let done = self.waiting.is_empty() || self.worker.progress.should_stop();
                    if late.is_some() && done {
                        return;
                    }
                }
            }
        }
    }

    fn fail(&mut self, partition: &str, error: Error) {
        self.note(partition, &error);
        self.first.get_or_insert(error);
    }

    fn note(&mut self, partition: &str, error: &Error) {
        let what = if partition.is_empty() { &self.report.report.table } else { partition };
        self.report.report.failed.push(Failed::new(what, error));
    }

    /// Keeps a group for the next commit of its version: rows of one commit have one age.
    async fn finished(&mut self, done: Finished) {
        let options = &self.worker.options;
        let by_count = FULL.div_ceil(self.groups_per_commit);
        let by_size = u128::from(done.group.input.bytes) * u128::from(FULL)
            / u128::from(options.max_group_bytes.max(1));
        let weight = by_count.max(u64::try_from(by_size).unwrap_or(FULL));
        let kind = (done.base.planned_at, done.kind());
        let new = || Batch::new(FULL, options.commit_interval);
        let batch = self.batches.entry(kind).or_insert_with(new);
        if batch.push(done, weight) {
            let full = batch.take();
            self.commit(full).await;
        }
    }

    async fn commit_all(&mut self) {
        for (_, mut batch) in std::mem::take(&mut self.batches) {
            self.commit(batch.take()).await;
        }
    }

    /// Commits groups that were planned again on a version once the last of them is finished: others
    /// were quicker before, and waiting for full batches would let them be so again.
    async fn commit_again(&mut self, version: SnapshotId) {
        let is_again = |done: &Finished| done.replans > 0;
        if self.open.get(&version).is_some_and(|open| *open > 0) {
            return;
        }
        for (of, mut batch) in std::mem::take(&mut self.batches) {
            match of.0 == version && batch.first().is_some_and(is_again) {
                true => self.commit(batch.take()).await,
                false => _ = self.batches.insert(of, batch),
            }
        }
    }

    /// Commits groups of one kind and version. If others are in the way, the groups that they left
    /// alone still land, and only the rest is planned again (MNT-5).
    async fn commit(&mut self, batch: Vec<Finished>) {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            let Some(base) = part.first().map(|done| done.base.clone()) else { continue };
            part.iter().for_each(|done| done.written.keep());
            let (branch, bytes) = (&self.worker.options.branch, self.worker.group_bytes);
            let error = match commit::commit(&base, branch, &part, bytes).await {
                Ok(landed) => {
                    self.landed(&part, landed);
                    continue;
                }
                Err(error) => error,
            };
            if error.kind() != ErrorKind::ValidationFailed {
                self.lost(part, error).await;
            } else if part.len() == 1 {
                self.again(part, error).await;
            } else {
                match commit::still_valid(&base, branch, &part).await {
                    // Something else is in the way of some of them: find out of which.
                    Ok(valid) if valid.len() == part.len() => {
                        parts.push(part.split_off(part.len() / 2));
                        parts.push(part);
                    }
                    Ok(valid) => {
                        let numbered = part.into_iter().enumerate();
                        let (good, gone): (Vec<_>, Vec<_>) =
                            numbered.partition(|(at, _)| valid.contains(at));
                        parts.push(good.into_iter().map(|(_, done)| done).collect());
                        self.again(gone.into_iter().map(|(_, done)| done).collect(), error).await;
                    }
                    Err(error) => self.lost(part, error).await,
                }
            }
        }
    }

    fn landed(&mut self, batch: &[Finished], landed: Landed) {
        self.report.report.conflicts += landed.conflicts;
        self.report.report.groups += batch.len() as u64;
        for done in batch {
            self.report.report.before += done.group.input;
            self.report.report.after += done.written.files.iter().collect();
        }
        self.report.removed_delete_files += landed.removed_delete_files;
        self.report.carried_deletes += landed.carried_deletes;
        self.report.snapshots.push(landed.committed.snapshot_id);
    }

    /// After an error no file stays, unless nobody knows what became of the commit (MNT-6).
    async fn lost(&mut self, batch: Vec<Finished>, error: Error) {
        for Finished { base, group, written, .. } in batch {
            if error.kind() != ErrorKind::CommitStateUnknown {
                written.discard(&base.table).await;
            }
            self.note(&group.partition, &error);
        }
        self.first.get_or_insert(error);
    }

    /// Plans groups again on the new head.
    async fn again(&mut self, batch: Vec<Finished>, error: Error) {
        let (mut groups, mut most, mut ends) = (Vec::new(), 0, false);
        for Finished { base, group, written, replans, .. } in batch {
            written.discard(&base.table).await;
            if replans >= self.worker.options.replans || self.worker.progress.should_stop() {
                self.note(&group.partition, &error);
                ends = true;
                continue;
            }
            tracing::warn!(partition = group.partition, %error, "planning a group again");
            self.report.report.conflicts += 1;
            most = replans.max(most);
            groups.push(group);
        }
        if ends {
            self.first.get_or_insert(error);
        }
        if groups.is_empty() {
            return;
        }
        match self.worker.again(&groups, most).await {
            Ok(fresh) => self.wait(fresh),
            Err(error) => {
                groups.iter().for_each(|group| self.note(&group.partition, &error));
                self.first.get_or_insert(error);
            }
        }
    }
}
