//! Carries a plan out: several groups at once, each committed by itself.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::commit::{self, Landed};
use super::outputs::Shape;
use super::plan::plan_again;
use super::rewrite::{Base, Rewriting, rewrite};
use super::sizes::Sizes;
use super::{Compact, CompactGroup, CompactOptions, CompactPlan, CompactReport};
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::{Failed, Progress, Report, Stopwatch, Totals, Unit};
use crate::table::Table;
use crate::write::writable;

/// Runs `plan`; see [`Compact::run_plan`].
#[tracing::instrument(name = "maintenance.compact", skip_all, err(level = "debug"),
    fields(table = %compact.table.ident(), groups = plan.groups.len()))]
pub(super) async fn run(compact: Compact, plan: CompactPlan) -> Result<CompactReport> {
    let watch = Stopwatch::start(&compact.table);
    let mut report =
        CompactReport { report: Report::new("compact", &compact.table), ..Default::default() };
    if plan.branch != compact.options.branch || plan.table != compact.table.ident().to_string() {
        return Err(Error::invalid("the plan was made for another table or branch")
            .with_hint("make the plan with the same options"));
    }
    let Some(planned_at) = plan.snapshot_id.filter(|_| !plan.is_empty()) else {
        report.report.duration_ms = watch.elapsed_ms();
        return Ok(report);
    };
    let progress = compact.progress.clone();
    progress.begin("compacting", Unit::Bytes, Some(plan.input().bytes));
    let worker = Arc::new(Worker::new(compact)?);
    let base = Base::new(&worker.table, &plan.branch, planned_at, worker.read_bytes)?;
    let first = worker.clone().run_groups(&base, plan.groups, &mut report).await;
    report.report.stopped = progress.should_stop();
    report.report.duration_ms = watch.elapsed_ms();
    match first {
        Some(error) if report.snapshots.is_empty() => Err(error),
        _ => Ok(report),
    }
}

/// What the groups of one run share.
struct Worker {
    table: Table,
    options: CompactOptions,
    rewriting: Rewriting,
    progress: Arc<dyn Progress>,
    read_bytes: u64,
    group_bytes: u64,
    /// Groups commit one after the other: racing each other would only cost attempts.
    commits: Mutex<()>,
}

/// What became of a group: what was committed for it, how often others were in the way, and the
/// error that ended it.
#[derive(Default)]
struct Outcome {
    landed: Vec<(Totals, Totals, Landed)>,
    conflicts: u64,
    failed: Option<Error>,
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
        let commits = Mutex::new(());
        Ok(Self { table, options, rewriting, progress, read_bytes, group_bytes, commits })
    }

    /// Runs groups, a few at a time; returns the first failure. Failed groups do not hold up the
    /// others (MNT-4).
    async fn run_groups(
        self: Arc<Self>,
        base: &Base,
        groups: Vec<CompactGroup>,
        report: &mut CompactReport,
    ) -> Option<Error> {
        let mut waiting = groups.into_iter();
        let mut running = JoinSet::new();
        let mut first = None;
        loop {
            while running.len() < self.options.max_concurrent_groups.max(1)
                && !self.progress.should_stop()
            {
                let Some(group) = waiting.next() else { break };
                let (worker, base) = (self.clone(), base.clone());
                running.spawn(async move {
                    let partition = group.partition.clone();
                    (partition, worker.run_group(base, group).await)
                });
            }
            let (partition, outcome) = match running.join_next().await {
                None => return first,
                Some(Ok(done)) => done,
                Some(Err(error)) => {
                    let failed = Some(Error::internal("a group broke off").with_source(error));
                    ("unknown".to_string(), Outcome { failed, ..Outcome::default() })
                }
            };
            if let Some(error) = add(report, partition, outcome) {
                first = first.or(Some(error));
            }
        }
    }

    /// Rewrites and commits a group. If others are in the way, what is left of it is planned
    /// again on the new head (MNT-5).
    async fn run_group(&self, base: Base, group: CompactGroup) -> Outcome {
        let mut outcome = Outcome::default();
        // Each group stays with the version that it was planned on.
        let mut left = vec![(base, group)];
        let mut replans = 0;
        while let Some((base, group)) = left.pop() {
            let error = match self.try_group(&base, &group).await {
                Ok(None) => return outcome,
                Ok(Some((after, landed))) => {
                    outcome.conflicts += landed.conflicts;
                    outcome.landed.push((group.input, after, landed));
                    continue;
                }
                Err(error) => error,
            };
            let again = error.kind() == ErrorKind::ValidationFailed
                && replans < self.options.replans
                && !self.progress.should_stop();
            if !again {
                outcome.failed = Some(error);
                return outcome;
            }
            tracing::warn!(partition = group.partition, %error, "planning a group again");
            replans += 1;
            outcome.conflicts += 1;
            match self.again(&group).await {
                Ok(fresh) => left.extend(fresh),
                Err(error) => {
                    outcome.failed = Some(error);
                    return outcome;
                }
            }
        }
        outcome
    }

    async fn again(&self, group: &CompactGroup) -> Result<Vec<(Base, CompactGroup)>> {
        let table = self.table.refresh().await?;
        let (snapshot, groups) = plan_again(&table, &self.options, group).await?;
        let Some(planned_at) = snapshot else { return Ok(Vec::new()) };
        let base = Base::new(&table, &self.options.branch, planned_at, self.group_bytes)?;
        Ok(groups.into_iter().map(|group| (base.clone(), group)).collect())
    }

    /// `None` if it was asked to stop. After an error no file stays, unless nobody knows what
    /// became of the commit (MNT-6).
    async fn try_group(
        &self,
        base: &Base,
        group: &CompactGroup,
    ) -> Result<Option<(Totals, Landed)>> {
        let rewritten = rewrite(base, group, &self.rewriting).await?;
        let Some((written, map)) = rewritten else { return Ok(None) };
        let turn = self.commits.lock().await;
        if self.progress.should_stop() {
            written.discard(&base.table).await;
            return Ok(None);
        }
        let after: Totals = written.files.iter().collect();
        written.keep();
        let branch = &self.options.branch;
        let map = map.as_ref();
        let landed = commit::commit(base, branch, group, &written, map, self.group_bytes).await;
        drop(turn);
        match landed {
            Ok(landed) => Ok(Some((after, landed))),
            Err(error) => {
                if error.kind() != ErrorKind::CommitStateUnknown {
                    written.discard(&base.table).await;
                }
                Err(error)
            }
        }
    }
}

/// Adds what became of a group to the report; returns its error.
fn add(report: &mut CompactReport, partition: String, outcome: Outcome) -> Option<Error> {
    report.report.conflicts += outcome.conflicts;
    for (before, after, landed) in outcome.landed {
        report.report.groups += 1;
        report.report.before += before;
        report.report.after += after;
        report.removed_delete_files += landed.removed_delete_files;
        report.carried_deletes += landed.carried_deletes;
        report.snapshots.push(landed.committed.snapshot_id);
    }
    let error = outcome.failed?;
    let what = if partition.is_empty() { report.report.table.clone() } else { partition };
    report.report.failed.push(Failed::new(what, &error));
    Some(error)
}
