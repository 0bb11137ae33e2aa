//! Plans an expiry, commits it, and deletes the files that nobody needs any more.

use std::sync::Mutex;

use super::files::{Side, unused};
use super::report::{ExpirePlan, ExpireReport};
use super::retain::{Decision, Needed, decide};
use super::{Expire, ExpireOptions};
use crate::error::{Error, Result};
use crate::maintenance::sweep::Sweep;
use crate::maintenance::{Report, Stopwatch};
use crate::spec::{MAIN_BRANCH, SnapshotId, TableRequirement, TableUpdate, refs_of};
use crate::table::{Change, Table};

/// See [`Expire::plan`].
pub(super) async fn plan(expire: &Expire) -> Result<ExpirePlan> {
    let table = expire.table.refresh().await?;
    table.check_gc_enabled()?;
    let streams = streams(expire, &table).await?;
    let now_ms = table.environment().clock.now_ms();
    let decision = decide(&table, &expire.options, &streams, now_ms)?;
    Ok(ExpirePlan::new(&table, &decision))
}

/// The backlog of every named stream.
async fn streams(expire: &Expire, table: &Table) -> Result<Vec<Needed>> {
    let Some(store) = expire.positions.as_ref().filter(|_| !expire.options.pass_streams) else {
        return Ok(Vec::new());
    };
    let found = store.positions_of(table).await?;
    let needed = found.into_iter().map(|position| Needed {
        snapshot: position.oldest_needed(table).map(|s| SnapshotId(s.snapshot_id())),
        stream: position.name,
    });
    Ok(needed.collect())
}

/// See [`Expire::run`].
#[tracing::instrument(name = "maintenance.expire", skip_all, err(level = "debug"),
    fields(table = %expire.table.ident()))]
pub(super) async fn run(expire: Expire) -> Result<ExpireReport> {
    let watch = Stopwatch::start(&expire.table);
    let table = expire.table.refresh().await?;
    table.check_gc_enabled()?;
    let streams = streams(&expire, &table).await?;
    let (table, plan) = commit(&table, &expire.options, &streams).await?;
    let mut report = ExpireReport::new(Report::new("expire", &table), &plan);
    if !plan.is_empty() {
        tracing::info!(snapshots = plan.snapshots.len(), "snapshots expired");
    }
    if !plan.snapshots.is_empty() && !expire.options.keep_files {
        let stay = Side::of(table.metadata(), |_| true);
        let (gone, _) = plan.split();
        // Specs and schemas of what went are those of the version it was in.
        let files = unused(&plan.on, gone, stay, expire.options.memory_budget_bytes);
        let sweep = Sweep::new(table.storage(), &expire.progress);
        let swept = sweep.run(files, |file| report.count(file)).await;
        report.report.failed = swept.failed;
        report.report.stopped = swept.stopped;
    }
    report.report.finish(&watch);
    Ok(report)
}

/// Swaps the metadata: decided again on every version that is committed to (MNT-20).
async fn commit(
    table: &Table,
    options: &ExpireOptions,
    streams: &[Needed],
) -> Result<(Table, ExpirePlan)> {
    let last: Mutex<Option<ExpirePlan>> = Mutex::new(None);
    let now_ms = table.environment().clock.now_ms();
    let poisoned = || Error::internal("a plan of an expiry was lost");
    let committed = table
        .change(|base| {
            base.check_gc_enabled()?;
            let decision = decide(base, options, streams, now_ms)?;
            let change = change(base, &decision)?;
            *last.lock().map_err(|_| poisoned())? = Some(ExpirePlan::new(base, &decision));
            Ok(change)
        })
        .await?;
    let plan = last.into_inner().map_err(|_| poisoned())?.ok_or_else(poisoned)?;
    Ok((committed, plan))
}

/// The swap. Every ref must stand where the decision saw it; a ref made meanwhile is noticed by
/// the catalog, which removes no snapshot that a ref names (CAT-18).
fn change(base: &Table, decision: &Decision) -> Result<Change> {
    if decision.snapshots.is_empty() && decision.refs.is_empty() {
        return Ok(Change { requirements: Vec::new(), updates: Vec::new() });
    }
    let refs = refs_of(base.metadata())?;
    let mut requirements: Vec<TableRequirement> = refs
        .iter()
        .map(|(name, reference)| TableRequirement::RefSnapshotIdMatch {
            r#ref: name.clone(),
            snapshot_id: Some(reference.snapshot_id),
        })
        .collect();
    if !refs.contains_key(MAIN_BRANCH) {
        let r#ref = MAIN_BRANCH.to_string();
        requirements.push(TableRequirement::RefSnapshotIdMatch { r#ref, snapshot_id: None });
    }
    let mut updates: Vec<TableUpdate> = decision
        .refs
        .iter()
        .map(|name| TableUpdate::RemoveSnapshotRef { ref_name: name.clone() })
        .collect();
    let metadata = base.metadata();
    for &snapshot_id in &decision.snapshots {
        if metadata.statistics_for_snapshot(snapshot_id).is_some() {
            updates.push(TableUpdate::RemoveStatistics { snapshot_id });
        }
        if metadata.partition_statistics_for_snapshot(snapshot_id).is_some() {
            updates.push(TableUpdate::RemovePartitionStatistics { snapshot_id });
        }
    }
    if !decision.snapshots.is_empty() {
        let snapshot_ids = decision.snapshots.iter().copied().collect();
        updates.push(TableUpdate::RemoveSnapshots { snapshot_ids });
    }
    Ok(Change { requirements, updates })
}
