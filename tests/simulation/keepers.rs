//! Every action that keeps a table fast and small, beside everybody else: under faults, and killed in
//! the middle of a step, as if its process were.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use meltwater::clock::{Environment, IdGenerator, ManualClock, SeededIds};
use meltwater::maintenance::{
    CompactOptions, ConvertOptions, ExpireOptions, Failed, ManifestOptions, OrphanFile,
    OrphanOptions, RewriteDeletesOptions, SortBy, SortColumn,
};
use meltwater::spec::snapshots_of;
use meltwater::table::{PositionStore, Table};
use meltwater::{Error, Result};

use crate::aging::{self, Aged};
use crate::{NOW_MS, POSITIONS, World};

/// Later than anything that the world makes.
const TEN_YEARS_MS: u64 = 10 * 365 * 24 * 3_600_000;

/// What the actions of all seeds did, so that a simulation without one of them is noticed.
pub static DONE: [(&str, AtomicU64); 12] = [
    ("compacted", AtomicU64::new(0)),
    ("carried", AtomicU64::new(0)),
    ("converted", AtomicU64::new(0)),
    ("merged", AtomicU64::new(0)),
    ("dangling", AtomicU64::new(0)),
    ("clustered", AtomicU64::new(0)),
    ("expired", AtomicU64::new(0)),
    ("orphans", AtomicU64::new(0)),
    ("orphans beside others", AtomicU64::new(0)),
    ("killed", AtomicU64::new(0)),
    ("bridged", AtomicU64::new(0)),
    ("fell back", AtomicU64::new(0)),
];

pub fn did(what: &str, times: u64) {
    let (_, count) = DONE.iter().find(|(name, _)| *name == what).expect("it is counted");
    count.fetch_add(times, Ordering::Relaxed);
}

/// One of the actions.
#[derive(Debug, Clone, Copy)]
pub enum Keeper {
    Compact,
    Convert,
    RewriteDeletes,
    RewriteManifests,
    Expire,
    RemoveOrphans,
}

/// Runs an action again and again; one run in four is killed.
pub async fn keep(world: World, actor: u64, keeper: Keeper, runs: u64) -> Result<()> {
    let dice = Arc::new(SeededIds::new(world.seed ^ (actor << 32)));
    // Streams hold their backlog: an expiry that comes too often finds nothing.
    let patience = if matches!(keeper, Keeper::Expire) { 3000 } else { 600 };
    for run in 0..runs {
        tokio::time::sleep(Duration::from_millis(dice.below(patience))).await;
        // Files go by their age; whoever makes some is at work while no days pass.
        let (aged, _at_work) = match keeper {
            Keeper::RemoveOrphans => (Some(world.days_pass(actor).await?), None),
            _ => (None, Some(world.at_work.read().await)),
        };
        let mut work = Box::pin(once(world.clone(), actor, keeper, aged, dice.clone()));
        let killed = dice.below(4) == 0;
        let life = Duration::from_millis(if killed { dice.below(900) } else { 3_600_000 });
        let outcome = match tokio::time::timeout(life, &mut work).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // A process that is killed cleans nothing up.
                std::mem::forget(work);
                did("killed", 1);
                Ok(())
            }
        };
        world.trace(&format!("{keeper:?}-{run}"), &outcome);
        world.tolerate(outcome)?;
        if matches!(keeper, Keeper::Expire | Keeper::RemoveOrphans) {
            everything_is_there(&world, actor).await?;
        }
    }
    Ok(())
}

async fn once(
    world: World,
    actor: u64,
    keeper: Keeper,
    aged: Option<Aged>,
    dice: Arc<SeededIds>,
) -> Result<()> {
    let table = world.table(actor, true).await?;
    match keeper {
        Keeper::Compact => compact(&world, table, &dice).await,
        Keeper::Convert => convert(&world, table, &dice).await,
        Keeper::RewriteDeletes => rewrite_deletes(&world, table, &dice).await,
        Keeper::RewriteManifests => rewrite_manifests(&world, table, &dice).await,
        Keeper::Expire => expire(&world, table, &dice).await,
        Keeper::RemoveOrphans => match aged {
            Some(aged) => remove_old(&world, table, actor, &aged, &dice).await,
            None => Ok(()),
        },
    }
}

/// Time for others between plan and run.
async fn pause(dice: &SeededIds) {
    tokio::time::sleep(Duration::from_millis(dice.below(700))).await;
}

/// Parts that failed must be such as faults explain.
fn check(world: &World, failed: Vec<Failed>) -> Result<()> {
    let mut errors = failed.into_iter().map(|part| Error::new(part.kind, part.error));
    errors.try_for_each(|error| world.tolerate(Err(error)))
}

async fn compact(world: &World, table: Table, dice: &SeededIds) -> Result<()> {
    let by_amount = SortColumn { name: "amount".into(), descending: false };
    let compact = table.compact(CompactOptions {
        min_input_files: 2,
        rewrite_all: dice.below(3) == 0,
        sort: (dice.below(4) == 0).then(|| SortBy::Columns(vec![by_amount])),
        max_commits: 1 + dice.below(3) as usize,
        ..CompactOptions::default()
    });
    let plan = compact.plan().await?;
    pause(dice).await;
    let report = compact.run_plan(plan).await?;
    did("compacted", report.report.groups);
    did("carried", report.carried_deletes);
    check(world, report.report.failed)
}

async fn convert(world: &World, table: Table, dice: &SeededIds) -> Result<()> {
    let convert = table.convert_equality_deletes(ConvertOptions::default());
    let plan = convert.plan().await?;
    pause(dice).await;
    let report = convert.run_plan(plan).await?;
    did("converted", report.report.groups);
    check(world, report.report.failed)
}

async fn rewrite_deletes(world: &World, table: Table, dice: &SeededIds) -> Result<()> {
    let rewrite = table.rewrite_position_deletes(RewriteDeletesOptions {
        max_files_per_commit: 1 + dice.below(6) as usize,
        ..RewriteDeletesOptions::default()
    });
    let plan = rewrite.plan().await?;
    pause(dice).await;
    let report = rewrite.run_plan(plan).await?;
    did("merged", report.report.groups);
    did("dangling", report.dangling_equality_deletes.files);
    did("dangling", report.dangling_position_deletes.files);
    check(world, report.report.failed)
}

async fn rewrite_manifests(world: &World, table: Table, dice: &SeededIds) -> Result<()> {
    let rewrite = table.rewrite_manifests(ManifestOptions {
        rewrite_all: dice.below(3) == 0,
        memory_budget_bytes: 1 + dice.below(20_000),
        ..ManifestOptions::default()
    });
    let plan = rewrite.plan().await?;
    pause(dice).await;
    let report = rewrite.run_plan(plan).await?;
    did("clustered", report.report.groups);
    check(world, report.report.failed)
}

async fn expire(world: &World, table: Table, dice: &SeededIds) -> Result<()> {
    let positions = PositionStore::location(table.storage().clone(), POSITIONS)?;
    let expire = later(&table, TEN_YEARS_MS).expire(ExpireOptions {
        older_than: Some(Duration::ZERO),
        retain_last: Some(1 + dice.below(4) as usize),
        memory_budget_bytes: 1 + dice.below(1 << 20),
        ..ExpireOptions::default()
    });
    let report = expire.positions(positions).run().await?;
    world.trace(&format!("held {:?}, expired {}", report.held, report.snapshots.len()), &Ok(()));
    did("expired", report.snapshots.len() as u64);
    check(world, report.report.failed)
}

/// Beside everybody else, after days have passed.
async fn remove_old(
    world: &World,
    table: Table,
    actor: u64,
    aged: &Aged,
    dice: &SeededIds,
) -> Result<()> {
    pause(dice).await;
    let orphans = table.remove_orphans(OrphanOptions::default());
    let plan = orphans.plan().await?;
    let files: Vec<OrphanFile> = orphans.files(&plan)?.try_collect().await?;
    let planned: BTreeSet<String> = files.into_iter().map(|file| file.location).collect();
    pause(dice).await;
    aging::check(aged, &planned, &aging::named(&world.table(actor, false).await?).await?)?;
    let report = orphans.run_plan(&plan).await?;
    if report.report.before.files > planned.len() as u64 {
        return Err(Error::internal("more went than was planned"));
    }
    did("orphans beside others", report.report.before.files);
    check(world, report.report.failed)
}

/// When nobody writes any more, whatever nothing names may go.
pub async fn sweep(world: World, actor: u64) -> Result<()> {
    let options =
        OrphanOptions { older_than: Duration::ZERO, allow_younger: true, ..Default::default() };
    let table = later(&world.table(actor, false).await?, TEN_YEARS_MS);
    remove_orphans(table, options).await?;
    everything_is_there(&world, actor).await
}

async fn remove_orphans(table: Table, options: OrphanOptions) -> Result<()> {
    let report = table.remove_orphans(options).run().await?;
    did("orphans", report.report.before.files);
    Ok(())
}

fn later(table: &Table, ms: u64) -> Table {
    let ids = table.environment().ids.clone();
    table.with_environment(Environment { clock: Arc::new(ManualClock::new(NOW_MS + ms)), ids })
}

/// Every file that a snapshot of the table needs is in the store.
async fn everything_is_there(world: &World, actor: u64) -> Result<()> {
    let table = world.table(actor, false).await?;
    let mut checked = BTreeSet::new();
    for snapshot in snapshots_of(table.metadata()) {
        for manifest in table.manifests(snapshot).await?.iter() {
            for entry in table.entries(manifest).await?.iter().filter(|e| e.is_live()) {
                let path = &entry.file.file_path;
                if checked.insert(path.clone()) && !table.storage().exists(path).await? {
                    return Err(Error::internal("a file that is needed was deleted")
                        .with_context("file", path)
                        .with_context("snapshot", snapshot.snapshot_id()));
                }
            }
        }
    }
    Ok(())
}
