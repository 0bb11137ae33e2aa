//! One turn on one table: look, take the lease, run what is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::watch;

use super::event::MaintainEvent;
use super::lease::{Asked, LastRun, Lease, Memory};
use super::options::MaintainOptions;
use super::run::Shared;
use super::trigger::{Action, Due, Look, due};
use super::work::{Done, Work};
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::{HealthReport, Progress};
use crate::spec::{MAIN_BRANCH, Operation, SnapshotId, SnapshotRef};
use crate::table::{At, Table, summary_key};

const HOUR_MS: u64 = 60 * 60 * 1000;

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
    let found = actions(shared, table, &health, &memory, &options);
    if found.is_empty() {
        return Ok(nothing);
    }
    if shared.maintainer.dry_run {
        dry_run(shared, table, found, bytes_left(&options, &memory, now_ms(table))).await?;
        return Ok(nothing);
    }
    match Lease::ask(table, options.lease).await? {
        Asked::Taken { lapses_at_ms } => {
            let left = lapses_at_ms.saturating_sub(now_ms(table)).max(0);
            let why = format!("another process maintains the table, for {left} ms at least");
            shared.tell(&MaintainEvent::Skipped { table: table.ident().to_string(), why });
            Ok(nothing)
        }
        Asked::Held(lease) => {
            // Another process may have run in between: its memory is in the lease.
            let found = actions(shared, table, &health, &lease.memory, &options);
            let failed = Turn::new(shared, table, &options, lease).run(found).await?;
            Ok(Turned { failed, ..nothing })
        }
    }
}

/// Tells what would run, and what would not for the hour's bytes.
async fn dry_run(
    shared: &Shared,
    table: &Table,
    found: Vec<Due>,
    mut bytes_left: Option<u64>,
) -> Result<()> {
    for due in found {
        if let Some(skipped) = over_limit(table, &due, bytes_left) {
            shared.tell(&skipped);
            continue;
        }
        let Due { action, why } = due;
        let planned = Work { shared, table, action, bytes_left }.plan().boxed().await?;
        bytes_left = bytes_left.map(|left| left.saturating_sub(planned.bytes));
        let (table, summary) = (table.ident().to_string(), planned.summary);
        shared.tell(&MaintainEvent::WouldRun { table, action, why, summary });
    }
    Ok(())
}

/// An action that rewrites files waits when the hour has no bytes left (MNT-66).
fn over_limit(table: &Table, due: &Due, bytes_left: Option<u64>) -> Option<MaintainEvent> {
    let Due { action, why } = due;
    (action.rewrites() && bytes_left == Some(0)).then(|| MaintainEvent::Skipped {
        table: table.ident().to_string(),
        why: format!("{action} is due ({why}), but max-bytes-per-hour is used up"),
    })
}

/// Bytes that may still be rewritten in this hour; `None` without a limit.
fn bytes_left(options: &MaintainOptions, memory: &Memory, now_ms: i64) -> Option<u64> {
    let limit = options.max_bytes_per_hour?;
    let used = memory.rewritten.iter().filter(|(at_ms, _)| is_recent(*at_ms, now_ms));
    let used: u64 = used.map(|(_, bytes)| *bytes).fold(0, u64::saturating_add);
    Some(limit.saturating_sub(used))
}

fn is_recent(at_ms: i64, now_ms: i64) -> bool {
    now_ms.abs_diff(at_ms) < HOUR_MS
}

fn now_ms(table: &Table) -> i64 {
    table.environment().clock.now_ms()
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
    let health = table.health().branch(&shared.maintainer.branch);
    match &shared.maintainer.positions {
        Some(positions) => health.positions(positions.clone()).run().await,
        None => health.run().await,
    }
}

fn actions(
    shared: &Shared,
    table: &Table,
    health: &HealthReport,
    memory: &Memory,
    options: &MaintainOptions,
) -> Vec<Due> {
    let (now_ms, branch) = (now_ms(table), shared.maintainer.branch.as_str());
    let commits_since = |number| commits_since(table, branch, number);
    due(&Look { health, memory, branch, now_ms, commits_since: &commits_since }, options)
}

/// Commits on a branch after a sequence number that changed rows.
fn commits_since(table: &Table, branch: &str, number: i64) -> u64 {
    let Some(head) = head_of(table, branch) else { return 0 };
    let changes_rows = |s: &&SnapshotRef| {
        let summary = s.summary();
        let mark = summary.additional_properties.get(summary_key::LOGICAL_CHANGE);
        summary.operation != Operation::Replace && mark.map(String::as_str) != Some("none")
    };
    let newer = table
        .ancestors(SnapshotId(head.snapshot_id()))
        .take_while(|snapshot| snapshot.sequence_number() > number);
    newer.filter(changes_rows).count() as u64
}

/// The newest snapshot of a branch.
fn head_of(table: &Table, branch: &str) -> Option<SnapshotRef> {
    let at = match branch {
        MAIN_BRANCH => At::Current,
        branch => At::Ref(branch.to_string()),
    };
    table.snapshot_at(&at).ok().flatten()
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
        for due in found {
            if self.guard.should_stop() {
                break;
            }
            let action = due.action;
            if let Err(error) = self.action(due).await {
                failed = true;
                self.shared.tell(&MaintainEvent::failed(self.table.ident(), Some(action), &error));
            }
        }
        if !self.guard.lost.load(Ordering::Relaxed) {
            self.lease.release().await?;
        }
        Ok(failed)
    }

    async fn action(&mut self, due: Due) -> Result<()> {
        self.table = self.table.refresh().await?;
        let bytes_left = bytes_left(self.options, &self.lease.memory, now_ms(&self.table));
        if let Some(skipped) = over_limit(&self.table, &due, bytes_left) {
            self.shared.tell(&skipped);
            return Ok(());
        }
        let Due { action, why } = due;
        let work = Work { shared: self.shared, table: &self.table, action, bytes_left };
        // Boxed: all actions in one future are too deep a type for the compiler.
        let work = work.run(self.guard.clone()).boxed();
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

    /// Keeps in the lease what the next holder must know.
    async fn remember(&mut self, action: Action, done: &Done) -> Result<()> {
        let head = self.table.refresh().await?;
        let (at_ms, branch) = (now_ms(&head), self.shared.maintainer.branch.as_str());
        let memory = &mut self.lease.memory;
        if !done.report.stopped {
            let sequence_number = head_of(&head, branch).map_or(0, |s| s.sequence_number());
            memory.ran(branch, action, LastRun { at_ms, sequence_number });
        }
        if action.rewrites() && done.report.before.bytes > 0 {
            memory.rewritten.retain(|(before_ms, _)| is_recent(*before_ms, at_ms));
            memory.rewritten.push((at_ms, done.report.before.bytes));
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
