//! One turn on one table: look, take the lease, run what is due.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use serde::Serialize;
use tokio::sync::watch;

use super::event::MaintainEvent;
use super::lease::{Asked, LastRun, Lease, Memory};
use super::options::MaintainOptions;
use super::run::Shared;
use super::trigger::{Action, Due, Look, due};
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::{
    CompactOptions, CompactPlan, ConvertOptions, ExpireOptions, HealthReport, ManifestOptions,
    OrphanOptions, Progress, Report, RewriteDeletesOptions,
};
use crate::spec::{Operation, SnapshotId};
use crate::table::{Table, summary_key};

const HOUR_MS: i64 = 60 * 60 * 1000;

/// How a turn ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turned {
    /// How long the table rests.
    pub rest: Duration,
    /// Whether an action failed; that was told.
    pub failed: bool,
}

/// Looks at a table and runs what is due. An action that fails is told and does not stop the next.
///
/// # Errors
/// The table could not be looked at, or its lease not be asked for or given back.
#[tracing::instrument(name = "maintenance.turn", skip_all, err(level = "debug"),
    fields(table = %table.ident()))]
pub(super) async fn turn(shared: &Shared, table: &Table) -> Result<Turned> {
    let options = options(shared, table)?;
    let nothing = Turned { rest: options.min_interval, failed: false };
    if !options.enabled || shared.is_stopped() {
        return Ok(nothing);
    }
    let health = health(shared, table).await?;
    let memory = Lease::peek(table).await?;
    let found = actions(table, &health, &memory, &options);
    if found.is_empty() {
        return Ok(nothing);
    }
    if shared.maintainer.dry_run {
        for Due { action, why } in found {
            let summary = plan(shared, table, action).await?;
            let table = table.ident().to_string();
            shared.tell(&MaintainEvent::WouldRun { table, action, why, summary });
        }
        return Ok(nothing);
    }
    match Lease::ask(table, options.lease).await? {
        Asked::Taken { lapses_at_ms } => {
            let now_ms = table.environment().clock.now_ms();
            let left = lapses_at_ms.saturating_sub(now_ms).max(0);
            let why = format!("another process maintains the table, for {left} ms at least");
            shared.tell(&MaintainEvent::Skipped { table: table.ident().to_string(), why });
            Ok(nothing)
        }
        Asked::Held(lease) => {
            // Another process may have run in between: its memory is in the lease.
            let found = actions(table, &health, &lease.memory, &options);
            let failed = Turn::new(shared, table, &options, lease).run(found).await?;
            Ok(Turned { failed, ..nothing })
        }
    }
}

/// Defaults, then what the table says, then what the caller insists on (MNT-66).
fn options(shared: &Shared, table: &Table) -> Result<MaintainOptions> {
    let maintainer = &shared.maintainer;
    let mut options = maintainer.options.clone().with_properties(table.metadata().properties())?;
    for (name, value) in &maintainer.overrides {
        options.set(name, value)?;
    }
    Ok(match &maintainer.only {
        Some(actions) => options.only(actions),
        None => options,
    })
}

async fn health(shared: &Shared, table: &Table) -> Result<HealthReport> {
    let health = table.health();
    match &shared.maintainer.positions {
        Some(positions) => health.positions(positions.clone()).run().await,
        None => health.run().await,
    }
}

fn actions(
    table: &Table,
    health: &HealthReport,
    memory: &Memory,
    options: &MaintainOptions,
) -> Vec<Due> {
    let now_ms = table.environment().clock.now_ms();
    let commits_since = |number| commits_since(table, number);
    due(&Look { health, memory, now_ms, commits_since: &commits_since }, options)
}

/// Commits on `main` after a sequence number that changed rows.
fn commits_since(table: &Table, number: i64) -> u64 {
    let Some(head) = table.current_snapshot() else { return 0 };
    let changes_rows = |s: &&crate::spec::SnapshotRef| {
        let summary = s.summary();
        let mark = summary.additional_properties.get(summary_key::LOGICAL_CHANGE);
        summary.operation != Operation::Replace && mark.map(String::as_str) != Some("none")
    };
    let newer = table
        .ancestors(SnapshotId(head.snapshot_id()))
        .take_while(|snapshot| snapshot.sequence_number() > number);
    newer.filter(changes_rows).count() as u64
}

/// What a dry run says of an action: its own plan.
async fn plan(shared: &Shared, table: &Table, action: Action) -> Result<String> {
    Ok(match action {
        Action::ConvertDeletes => {
            table.convert_equality_deletes(ConvertOptions::default()).plan().await?.to_string()
        }
        Action::RewritePositionDeletes => {
            let options = RewriteDeletesOptions::default();
            table.rewrite_position_deletes(options).plan().await?.to_string()
        }
        Action::Compact => table.compact(CompactOptions::default()).plan().await?.to_string(),
        Action::RewriteManifests => {
            table.rewrite_manifests(ManifestOptions::default()).plan().await?.to_string()
        }
        Action::Expire => expire(shared, table).plan().await?.to_string(),
        Action::RemoveOrphans => {
            table.remove_orphans(OrphanOptions::default()).plan().await?.to_string()
        }
    })
}

fn expire(shared: &Shared, table: &Table) -> crate::maintenance::Expire {
    let expire = table.expire(ExpireOptions::default());
    match &shared.maintainer.positions {
        Some(positions) => expire.positions(positions.clone()),
        None => expire,
    }
}

/// Stops an action when the run ends, or when somebody else took the lease.
#[derive(Debug)]
struct Guard {
    stop: watch::Receiver<bool>,
    lost: AtomicBool,
}

impl Progress for Guard {
    fn should_stop(&self) -> bool {
        *self.stop.borrow() || self.lost.load(Ordering::Relaxed)
    }
}

/// What an action did.
struct Done {
    summary: String,
    value: serde_json::Value,
    report: Report,
}

impl Done {
    fn new(report: &Report, whole: &(impl Serialize + Display)) -> Result<Self> {
        let value = serde_json::to_value(whole)?;
        Ok(Self { summary: whole.to_string(), value, report: report.clone() })
    }
}

/// The holder of a table's lease at work.
struct Turn<'a> {
    shared: &'a Shared,
    table: Table,
    options: &'a MaintainOptions,
    lease: Lease,
    guard: Arc<Guard>,
}

impl<'a> Turn<'a> {
    fn new(shared: &'a Shared, table: &Table, options: &'a MaintainOptions, lease: Lease) -> Self {
        let guard = Guard { stop: shared.stop.clone(), lost: AtomicBool::new(false) };
        Self { shared, table: table.clone(), options, lease, guard: Arc::new(guard) }
    }

    /// Runs the actions in order, and says whether one failed. A lost lease ends it.
    async fn run(mut self, found: Vec<Due>) -> Result<bool> {
        let mut failed = false;
        for Due { action, why } in found {
            if self.guard.should_stop() {
                break;
            }
            if let Err(error) = self.action(action, why).await {
                failed = true;
                self.shared.tell(&MaintainEvent::failed(self.table.ident(), Some(action), &error));
            }
        }
        if !self.guard.lost.load(Ordering::Relaxed) {
            self.lease.release().await?;
        }
        Ok(failed)
    }

    async fn action(&mut self, action: Action, why: String) -> Result<()> {
        self.table = self.table.refresh().await?;
        if action == Action::Compact && self.bytes_left() == Some(0) {
            let limit = self.options.max_bytes_per_hour.unwrap_or_default();
            let why = format!("compact is due ({why}), but {limit} bytes an hour were rewritten");
            let table = self.table.ident().to_string();
            self.shared.tell(&MaintainEvent::Skipped { table, why });
            return Ok(());
        }
        // Boxed: all actions in one future are too deep a type for the compiler.
        let left = self.bytes_left();
        let work = start(self.shared, &self.table, action, left, &self.guard).boxed();
        let done = beating(&mut self.lease, &self.guard, work).await?;
        self.remember(action, &done).await?;
        self.shared.tell(&MaintainEvent::Ran {
            table: self.table.ident().to_string(),
            action,
            why,
            summary: done.summary,
            report: done.value,
        });
        match done.report.failed.first() {
            None => Ok(()),
            Some(failed) => {
                Err(Error::new(failed.kind, "a part of the work failed, the rest is done")
                    .with_context("part", &failed.what)
                    .with_context("first", &failed.error))
            }
        }
    }

    /// Bytes that may still be rewritten in this hour; `None` without a limit.
    fn bytes_left(&self) -> Option<u64> {
        let limit = self.options.max_bytes_per_hour?;
        let used = self.lease.memory.rewritten.iter().filter(|(at_ms, _)| self.is_recent(*at_ms));
        let used: u64 = used.map(|(_, bytes)| *bytes).fold(0, u64::saturating_add);
        Some(limit.saturating_sub(used))
    }

    fn is_recent(&self, at_ms: i64) -> bool {
        self.table.environment().clock.now_ms().saturating_sub(at_ms) < HOUR_MS
    }

    /// Keeps in the lease what the next holder must know.
    async fn remember(&mut self, action: Action, done: &Done) -> Result<()> {
        let head = self.table.refresh().await?;
        let at_ms = head.environment().clock.now_ms();
        if !done.report.stopped {
            let sequence_number = head.current_snapshot().map_or(0, |s| s.sequence_number());
            self.lease.memory.last_runs.insert(action, LastRun { at_ms, sequence_number });
        }
        if action == Action::Compact && done.report.before.bytes > 0 {
            let mut rewritten = std::mem::take(&mut self.lease.memory.rewritten);
            rewritten.retain(|(at_ms, _)| self.is_recent(*at_ms));
            rewritten.push((at_ms, done.report.before.bytes));
            self.lease.memory.rewritten = rewritten;
        }
        match self.lease.renew().await {
            Err(e) if e.kind() == ErrorKind::Fenced => {
                self.guard.lost.store(true, Ordering::Relaxed);
                Err(e)
            }
            other => other,
        }
    }
}

/// Runs an action while the lease is renewed.
async fn beating<T>(
    lease: &mut Lease,
    guard: &Guard,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(lease.heartbeat()) => {}
        }
        let renewed = tokio::time::timeout(lease.heartbeat(), lease.renew()).await;
        let is_fenced = matches!(&renewed, Ok(Err(e)) if e.kind() == ErrorKind::Fenced);
        if is_fenced || (!matches!(renewed, Ok(Ok(()))) && lease.has_lapsed()) {
            tracing::warn!("the lease of the table is lost: stopping before the next commit");
            guard.lost.store(true, Ordering::Relaxed);
        }
    }
}

async fn start(
    shared: &Shared,
    table: &Table,
    action: Action,
    bytes_left: Option<u64>,
    guard: &Arc<Guard>,
) -> Result<Done> {
    let progress: Arc<dyn Progress> = guard.clone();
    match action {
        Action::ConvertDeletes => {
            let convert = table.convert_equality_deletes(ConvertOptions::default());
            let report = convert.progress(progress).run().boxed().await?;
            Done::new(&report.report, &report)
        }
        Action::RewritePositionDeletes => {
            let rewrite = table.rewrite_position_deletes(RewriteDeletesOptions::default());
            let report = rewrite.progress(progress).run().boxed().await?;
            Done::new(&report.report, &report)
        }
        Action::Compact => {
            let compact = table.compact(CompactOptions::default()).progress(progress);
            let mut plan = compact.plan().await?;
            shorten(&mut plan, bytes_left);
            let report = compact.run_plan(plan).boxed().await?;
            Done::new(&report.report, &report)
        }
        Action::RewriteManifests => {
            let rewrite = table.rewrite_manifests(ManifestOptions::default());
            let report = rewrite.progress(progress).run().boxed().await?;
            Done::new(&report.report, &report)
        }
        Action::Expire => {
            let report = expire(shared, table).progress(progress).run().boxed().await?;
            Done::new(&report.report, &report)
        }
        Action::RemoveOrphans => {
            let orphans = table.remove_orphans(OrphanOptions::default());
            let report = orphans.progress(progress).run().boxed().await?;
            Done::new(&report.report, &report)
        }
    }
}

/// As many groups as fit into what is left of the hour; one at least, or a large one would never be.
fn shorten(plan: &mut CompactPlan, bytes_left: Option<u64>) {
    let Some(left) = bytes_left else { return };
    let mut bytes = 0u64;
    let fits = plan.groups.iter().take_while(|group| {
        bytes = bytes.saturating_add(group.input.bytes);
        bytes <= left
    });
    let fits = fits.count().max(1);
    plan.groups.truncate(fits);
}
