//! Triggers, settings, the lease, and hours of watching in simulated time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::lease::{Asked, LastRun, Lease, Memory};
use super::trigger::{Look, due};
use super::*;
use crate::catalog::{FileSystemCatalog, NewTable};
use crate::clock::{Clock, ManualClock, SeededIds, SystemClock};
use crate::dml::tests::fixture::{Row, delete_ids, file, ids, row, rows_of};
use crate::maintenance::{
    CompactionFacts, ConversionFacts, HealthReport, ManifestsToRewrite, MergeFacts, Totals,
};
use crate::spec::*;
use crate::storage::Storage;
use crate::table::{At, RefUpdate, Table};

/// A table on which every action has something to do, and nothing is due.
fn health() -> HealthReport {
    let files = |files| Totals { files, rows: 0, bytes: 0 };
    let mut health = HealthReport::default();
    health.files.all = Totals { files: 100, rows: 1000, bytes: 0 };
    let input = files(3);
    health.compaction = Some(CompactionFacts { input, output_files: 1, for_deletes: 0 });
    health.conversion = Some(ConversionFacts { deletes: files(3), ..Default::default() });
    health.merge = Some(MergeFacts { input: files(2), data_files: 1, dangling: files(1) });
    health.manifests.to_rewrite = Some(ManifestsToRewrite { manifests: 3, output_manifests: 1 });
    health.history.expirable = Some(3);
    health
}

const NOW_MS: i64 = 1_700_000_000_000;

/// Every action ran a minute ago.
fn memory() -> Memory {
    let last = LastRun { at_ms: NOW_MS - 60_000, sequence_number: 5 };
    Memory { last_runs: Action::ALL.map(|action| (action, last)).into(), ..Memory::default() }
}

#[test]
fn triggers_follow_files_commits_time_and_settings() {
    type Change = fn(&mut HealthReport, &mut Memory, &mut MaintainOptions);
    let cases: &[(&str, &[Action], Change)] = &[
        ("nothing", &[], |_, _, _| {}),
        ("few files", &[], |_, _, o| o.set("compact.files", "4").unwrap()),
        ("enough files", &[Action::Compact], |_, _, o| o.set("compact.files", "3").unwrap()),
        ("keys", &[Action::ConvertDeletes], |_, _, o| {
            o.set("convert-deletes.files", "3").unwrap();
        }),
        ("positions and what dangles", &[Action::RewritePositionDeletes], |_, _, o| {
            o.set("rewrite-position-deletes.files", "3").unwrap();
        }),
        ("manifests", &[Action::RewriteManifests], |_, _, o| {
            o.set("rewrite-manifests.files", "3").unwrap();
        }),
        ("snapshots", &[Action::Expire], |_, _, o| o.set("expire.files", "3").unwrap()),
        ("many commits", &[Action::Expire], |_, _, o| o.set("expire.commits", "7").unwrap()),
        ("few commits", &[], |_, _, o| o.set("expire.commits", "8").unwrap()),
        ("time", &[Action::RemoveOrphans], |_, _, o| {
            o.set("remove-orphans.interval-ms", "60000").unwrap();
        }),
        ("not yet", &[], |_, _, o| o.set("remove-orphans.interval-ms", "60001").unwrap()),
        ("never ran", &[Action::Compact, Action::Expire], |_, m, _| {
            m.last_runs.remove(&Action::Compact);
            m.last_runs.remove(&Action::Expire);
        }),
        ("never ran, no time set", &[], |_, m, o| {
            m.last_runs.remove(&Action::Compact);
            o.set("compact.interval-ms", "off").unwrap();
        }),
        ("a ratio without a file to rewrite", &[], |h, _, _| h.deletes.positions.rows = 900),
        ("a ratio", &[Action::Compact], |h, _, _| {
            h.deletes.positions.rows = 300;
            h.compaction.as_mut().unwrap().for_deletes = 1;
        }),
        ("a ratio below", &[], |h, _, o| {
            h.deletes.positions.rows = 300;
            h.compaction.as_mut().unwrap().for_deletes = 1;
            o.set("delete-ratio", "0.31").unwrap();
        }),
        ("off", &[], |_, _, o| {
            o.set("compact.files", "1").unwrap();
            o.set("compact.enabled", "false").unwrap();
        }),
        ("nothing to do, however late", &[], |h, m, o| {
            *m = Memory::default();
            h.compaction = Some(CompactionFacts::default());
            (h.conversion, h.merge, h.manifests.to_rewrite) = (None, None, None);
            h.history.expirable = None;
            o.set("compact.files", "0").unwrap();
        }),
        ("all, in order", &Action::ALL, |_, m, _| *m = Memory::default()),
    ];
    for (name, wanted, change) in cases {
        let (mut health, mut memory) = (health(), memory());
        let mut options = MaintainOptions::default();
        change(&mut health, &mut memory, &mut options);
        let commits_since: &dyn Fn(i64) -> u64 = &|number| if number == 5 { 7 } else { 99 };
        let (health, memory) = (&health, &memory);
        let look = Look { health, memory, branch: MAIN_BRANCH, now_ms: NOW_MS, commits_since };
        let found: Vec<Action> = due(&look, &options).into_iter().map(|d| d.action).collect();
        assert_eq!(&found, wanted, "{name}");
    }
}

#[test]
fn what_the_caller_insists_on_wins_over_the_table_and_the_table_over_defaults() {
    let property =
        |name: &str, value: &str| (format!("meltwater.maintain.{name}"), value.to_string());
    let properties = BTreeMap::from([property("compact.files", "7"), property("enabled", "false")]);
    let options = MaintainOptions::default().with_properties(&properties).unwrap();
    assert_eq!(options.trigger(Action::Compact).files, Some(7));
    assert!(!options.enabled && options.trigger(Action::Expire).enabled);
    let off = options.only(&[Action::Expire]);
    assert!(off.trigger(Action::Expire).enabled && !off.trigger(Action::Compact).enabled);
    for (name, value) in [
        ("compact.file", "7"),
        ("compact.files", "many"),
        ("delete-ratio", "2"),
        ("x.files", "1"),
        ("lease-ms", "999"),
    ] {
        let properties = BTreeMap::from([property(name, value)]);
        let error = MaintainOptions::default().with_properties(&properties).unwrap_err();
        assert!(error.hint().is_some() && error.to_string().contains(name), "{error}");
    }
}

/// A store with a catalog, seen by processes with clocks of one time.
struct World {
    storage: Storage,
    clock: Arc<dyn Clock>,
    /// No two processes make the same identifiers.
    processes: std::cell::Cell<u64>,
}

impl World {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let store = Arc::new(object_store::memory::InMemory::new());
        Self {
            storage: Storage::default().with_store("memory://", store),
            clock,
            processes: Default::default(),
        }
    }

    fn environment(&self, seed: u64) -> Environment {
        Environment { clock: self.clock.clone(), ids: Arc::new(SeededIds::new(seed)) }
    }

    fn catalog(&self) -> Arc<dyn Catalog> {
        let catalog = FileSystemCatalog::new("memory:///w", self.storage.clone());
        Arc::new(catalog.with_environment(self.environment(7)))
    }

    /// `ns.NAME` with rows of `id long, name string, day int`.
    async fn table(&self, name: &str, properties: &[(&str, &str)]) -> Table {
        let catalog = self.catalog();
        let namespace = NamespaceIdent::new("ns".into());
        let _ = catalog.create_namespace(&namespace, Default::default()).await;
        let schema = Schema::builder()
            .with_fields([
                NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long)).into(),
                NestedField::optional(2, "name", Type::Primitive(PrimitiveType::String)).into(),
                NestedField::optional(3, "day", Type::Primitive(PrimitiveType::Int)).into(),
            ])
            .with_identifier_field_ids([1]);
        let mut new = NewTable::new(schema.build().unwrap());
        for (name, value) in properties {
            new = new.with_property(*name, *value);
        }
        let ident = TableIdent::new(namespace, name.to_string());
        catalog.create_table(&ident, new).await.unwrap();
        self.open(name, 1).await
    }

    async fn open(&self, name: &str, seed: u64) -> Table {
        let ident = TableIdent::from_strs(["ns", name]).unwrap();
        let table = Table::load(self.catalog(), &ident).await.unwrap();
        table.with_environment(self.environment(seed))
    }

    fn maintainer(&self, patterns: &[&str]) -> (Maintainer, Arc<Mutex<Vec<MaintainEvent>>>) {
        self.processes.set(self.processes.get() + 1);
        let events: Arc<Mutex<Vec<MaintainEvent>>> = Arc::default();
        let heard = events.clone();
        let maintainer = Maintainer::new(self.catalog(), patterns.iter().copied())
            .environment(self.environment(99 + self.processes.get()))
            .on_event(move |event| heard.lock().unwrap().push(event.clone()));
        (maintainer, events)
    }
}

async fn append(table: &Table, ids: &[i64]) -> Table {
    let rows: Vec<Row> = ids.iter().map(|id| row(*id, "n", 1)).collect();
    let written = file(table, &rows, PartitionKey::unpartitioned(0)).await;
    table.refresh().await.unwrap().append(written).commit().await.unwrap().table
}

/// Behind the wall clock, which some of the metadata's own times follow: so there is room to move.
fn long_ago_ms() -> i64 {
    SystemClock.now_ms() - 2 * 24 * 60 * 60 * 1000
}

fn manual() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(u64::try_from(long_ago_ms()).unwrap()))
}

fn actions(events: &Mutex<Vec<MaintainEvent>>) -> Vec<Action> {
    let ran = |event: &MaintainEvent| match event {
        MaintainEvent::Ran { action, .. } | MaintainEvent::WouldRun { action, .. } => Some(*action),
        _ => None,
    };
    events.lock().unwrap().iter().filter_map(ran).collect()
}

async fn held(table: &Table) -> Lease {
    match Lease::ask(table, Duration::from_secs(60)).await.unwrap() {
        Asked::Held(lease) => lease,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_process_holds_a_lease_until_it_lapses_and_a_late_holder_is_fenced() {
    let clock = manual();
    let world = World::new(clock.clone());
    let (first, second) = (world.table("t", &[]).await, world.open("t", 2).await);
    let mut lease = held(&first).await;
    lease.memory.rewritten.push((1, 2));
    lease.renew().await.unwrap();
    clock.advance_ms(59_999);
    let asked = Lease::ask(&second, Duration::from_secs(60)).await.unwrap();
    assert!(matches!(asked, Asked::Taken { .. }), "{asked:?}");
    lease.renew().await.unwrap();
    assert!(!lease.has_lapsed());

    // The holder is killed: nobody renews.
    clock.advance_ms(60_000);
    let taken = held(&second).await;
    assert_eq!(taken.memory.rewritten, [(1, 2)], "the next holder knows what was done");
    assert!(lease.has_lapsed());
    assert_eq!(lease.renew().await.unwrap_err().kind(), crate::ErrorKind::Fenced);
    taken.release().await.unwrap();
    let mut again = held(&first).await;
    for _ in 0..10 {
        again.renew().await.unwrap();
    }
    let folder = format!("{}/metadata/_meltwater-maintain", first.metadata().location());
    let listed = first.storage().list_folder(&folder).await.unwrap();
    assert!(listed.files.len() <= 3, "old files are removed: {listed:?}");
}

#[tokio::test]
async fn a_round_does_what_a_dry_run_says_and_then_nothing_is_left() {
    let world = World::new(manual());
    let properties = [
        ("meltwater.maintain.compact.files", "3"),
        ("meltwater.maintain.convert-deletes.files", "1"),
    ];
    let mut table = world.table("t", &properties).await;
    for id in 0..6 {
        table = append(&table, &[id]).await;
    }
    let deletes = delete_ids(&table, &[4], PartitionKey::unpartitioned(0)).await;
    table = table.row_delta(deletes).commit().await.unwrap().table;
    let metadata = table.metadata_location().to_string();

    let (maintainer, events) = world.maintainer(&["ns.t"]);
    let report = maintainer.dry_run().await.unwrap();
    let said = actions(&events);
    let wanted =
        [Action::ConvertDeletes, Action::Compact, Action::RewriteManifests, Action::RemoveOrphans];
    assert_eq!(said, wanted);
    assert_eq!((report.would_run, report.ran, report.failed), (4, 0, 0));
    assert_eq!(table.refresh().await.unwrap().metadata_location(), metadata);

    let (maintainer, events) = world.maintainer(&["ns"]);
    let report = maintainer.once().await.unwrap();
    assert_eq!(actions(&events), said, "{events:?}");
    assert_eq!((report.ran, report.failed), (4, 0), "{events:?}");
    let table = table.refresh().await.unwrap();
    assert_eq!(ids(&table).await, [0, 1, 2, 3, 5]);
    assert_eq!(table.health().run().await.unwrap().files.all.files, 1);

    let (maintainer, events) = world.maintainer(&["*"]);
    assert_eq!(maintainer.once().await.unwrap(), MaintainReport::default(), "{events:?}");
}

#[tokio::test]
async fn an_error_on_one_table_does_not_stop_the_others() {
    let world = World::new(manual());
    let broken = world.table("a", &[("meltwater.maintain.compact.files", "some")]).await;
    let mut table = world.table("b", &[("meltwater.maintain.compact.files", "2")]).await;
    for id in 0..6 {
        table = append(&table, &[id]).await;
    }
    let (maintainer, events) = world.maintainer(&["ns.*", "ns.nobody"]);
    let maintainer = maintainer.only([Action::Compact]);
    let report = maintainer.once().await.unwrap();
    assert_eq!((report.ran, report.failed), (1, 2), "{events:?}");
    assert_eq!(actions(&events), [Action::Compact]);
    let events = events.lock().unwrap();
    let text: Vec<String> = events.iter().map(ToString::to_string).collect();
    assert!(
        text.iter().any(|t| t.contains("ns.a failed") && t.contains("compact.files")),
        "{text:?}"
    );
    assert!(text.iter().any(|t| t.contains("ns.nobody failed")), "{text:?}");
    drop(broken);
}

#[tokio::test]
async fn a_table_that_another_process_maintains_is_skipped() {
    let clock = manual();
    let world = World::new(clock.clone());
    let mut table = world.table("t", &[("meltwater.maintain.compact.files", "2")]).await;
    for id in 0..6 {
        table = append(&table, &[id]).await;
    }
    let other = held(&world.open("t", 2).await).await;
    let (maintainer, events) = world.maintainer(&["ns.t"]);
    let report = maintainer.once().await.unwrap();
    assert_eq!((report.ran, report.skipped), (0, 1), "{events:?}");
    drop(other);
    clock.advance_ms(60_000);
    let (maintainer, events) = world.maintainer(&["ns.t"]);
    assert!(maintainer.once().await.unwrap().ran >= 1, "{events:?}");
}

#[tokio::test]
async fn an_hour_has_its_limit_of_rewritten_bytes() {
    let clock = manual();
    let world = World::new(clock.clone());
    let properties =
        [("meltwater.maintain.compact.files", "2"), ("meltwater.maintain.max-bytes-per-hour", "1")];
    let mut table = world.table("t", &properties).await;
    let mut round = async |first: i64| {
        for id in first..first + 6 {
            table = append(&table, &[id]).await;
        }
        let (maintainer, events) = world.maintainer(&["ns.t"]);
        let report = maintainer.only([Action::Compact]).once().await.unwrap();
        assert_eq!(report.failed, 0, "{events:?}");
        (report.ran, report.skipped)
    };
    assert_eq!(round(0).await, (1, 0), "one group is always done");
    assert_eq!(round(10).await, (0, 1));
    clock.advance_ms(60 * 60 * 1000);
    assert_eq!(round(20).await, (1, 0));
}

/// What was skipped, by the action that the words begin with.
fn skipped(events: &Mutex<Vec<MaintainEvent>>) -> Vec<String> {
    let words = |event: &MaintainEvent| match event {
        MaintainEvent::Skipped { why, .. } => why.split(' ').next().map(str::to_string),
        _ => None,
    };
    events.lock().unwrap().iter().filter_map(words).collect()
}

#[tokio::test]
async fn all_actions_that_rewrite_files_share_the_bytes_of_an_hour() {
    let clock = manual();
    let world = World::new(clock.clone());
    let mut table = world.table("t", &[("meltwater.maintain.max-bytes-per-hour", "1")]).await;
    for id in 0..8 {
        table = append(&table, &[id, id + 10]).await;
    }
    let deletes = delete_ids(&table, &[4], PartitionKey::unpartitioned(0)).await;
    table = table.row_delta(deletes).commit().await.unwrap().table;
    let (maintainer, events) = world.maintainer(&["ns.t"]);
    maintainer.dry_run().await.unwrap();
    let would = actions(&events);
    let (maintainer, events) = world.maintainer(&["ns.t"]);
    let report = maintainer.once().await.unwrap();
    assert_eq!(actions(&events), would, "a dry run counts as a run does");
    assert_eq!(would, [Action::ConvertDeletes, Action::RemoveOrphans], "{events:?}");
    assert_eq!(skipped(&events), ["compact", "rewrite-manifests"], "{events:?}");
    assert_eq!(report.failed, 0);

    clock.advance_ms(60 * 60 * 1000);
    let (maintainer, events) = world.maintainer(&["ns.t"]);
    let only = [Action::RewritePositionDeletes, Action::Compact, Action::RewriteManifests];
    maintainer.only(only).once().await.unwrap();
    assert_eq!(actions(&events), [Action::Compact], "{events:?}");
    assert_eq!(skipped(&events), ["rewrite-manifests"], "{events:?}");
    let rows: Vec<i64> = (0..18).filter(|id| *id != 4 && !(8..10).contains(id)).collect();
    assert_eq!(ids(&table.refresh().await.unwrap()).await, rows);
}

#[tokio::test]
async fn another_branch_is_maintained_with_a_memory_of_its_own() {
    let world = World::new(manual());
    let mut table = world.table("t", &[("meltwater.maintain.compact.files", "3")]).await;
    for id in 0..6 {
        table = append(&table, &[id]).await;
    }
    let head = SnapshotId(table.current_snapshot().unwrap().snapshot_id());
    let branch = RefUpdate::CreateBranch { name: "audit".into(), snapshot: head };
    let table = table.update_ref(branch).await.unwrap();
    let rewriting = [Action::Compact, Action::RewriteManifests];
    let (maintainer, events) = world.maintainer(&["ns.t"]);
    maintainer.branch("audit").only(rewriting).once().await.unwrap();
    assert!(actions(&events).contains(&Action::Compact), "{events:?}");
    let table = table.refresh().await.unwrap();
    assert_eq!(table.current_snapshot().unwrap().snapshot_id(), head.0, "main is left alone");
    let (maintainer, events) = world.maintainer(&["ns.t"]);
    maintainer.branch("audit").only(rewriting).once().await.unwrap();
    assert_eq!(actions(&events), [], "{events:?}");

    // What ran on the other branch did not run here.
    let (maintainer, events) = world.maintainer(&["ns.t"]);
    maintainer.only([Action::Compact]).once().await.unwrap();
    assert_eq!(actions(&events), [Action::Compact], "{events:?}");
    let audit = rows_of(&table.refresh().await.unwrap(), At::Ref("audit".into())).await;
    assert_eq!(audit.into_iter().map(|row| row.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
}

/// The clock of a runtime whose time is simulated.
#[derive(Debug)]
struct RuntimeClock {
    began: tokio::time::Instant,
    at_ms: i64,
}

impl Clock for RuntimeClock {
    fn now_ms(&self) -> i64 {
        self.at_ms + i64::try_from(self.began.elapsed().as_millis()).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn hours_of_watching_in_simulated_time_keep_the_table_small_and_its_rows() {
    let clock = RuntimeClock { began: tokio::time::Instant::now(), at_ms: long_ago_ms() };
    let world = World::new(Arc::new(clock));
    let properties = [
        ("history.expire.max-snapshot-age-ms", "600000"),
        ("meltwater.maintain.compact.files", "5"),
        ("meltwater.maintain.compact.interval-ms", "off"),
        ("meltwater.maintain.expire.files", "off"),
        ("meltwater.maintain.remove-orphans.enabled", "false"),
        ("meltwater.maintain.rewrite-manifests.enabled", "false"),
    ];
    let mut table = world.table("t", &properties).await;
    let (maintainer, events) = world.maintainer(&["ns"]);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let run = tokio::spawn(maintainer.run(async move {
        let _ = stopped.await;
    }));
    tokio::time::sleep(Duration::from_secs(5)).await;
    for id in 0..36 {
        table = append(&table, &[id]).await;
        tokio::time::sleep(Duration::from_secs(300)).await;
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    stop.send(()).unwrap();
    let report = run.await.unwrap().unwrap();

    let ran = actions(&events);
    let compacted = ran.iter().filter(|a| **a == Action::Compact).count();
    let expired = ran.iter().filter(|a| **a == Action::Expire).count();
    assert_eq!(report.failed, 0, "{events:?}");
    // 36 files and what became of them, five at a time; three hours of expiry, once an hour.
    assert!((7..=9).contains(&compacted), "{compacted} {events:?}");
    assert!((3..=4).contains(&expired), "{expired} {events:?}");
    let table = table.refresh().await.unwrap();
    assert_eq!(ids(&table).await, (0..36).collect::<Vec<i64>>());
    let health = table.health().run().await.unwrap();
    assert!(health.files.all.files < 6, "{:?}", health.files);
    assert!(health.history.snapshots < 30, "{:?}", health.history);
}

#[tokio::test]
async fn a_clock_that_ran_ahead_does_not_stop_maintenance_until_then() {
    const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1000;
    let ahead = manual();
    let world = World::new(ahead.clone());
    let table = world.table("t", &[]).await;
    ahead.advance_ms(YEAR_MS);
    let mut lease = held(&table).await;
    let run = LastRun { at_ms: table.environment().clock.now_ms(), sequence_number: 0 };
    lease.memory.ran("main", Action::RemoveOrphans, run);
    lease.memory.rewritten.push((run.at_ms, 1 << 40));
    lease.renew().await.unwrap();
    drop(lease);

    // Another machine, whose clock is right.
    let right = Environment { clock: manual(), ids: table.environment().ids.clone() };
    let table = table.with_environment(right);
    let lease = held(&table).await;
    assert!(lease.memory.last_run("main", Action::RemoveOrphans).is_some());
    let mut options = MaintainOptions::default();
    options.set("remove-orphans.interval-ms", "86400000").unwrap();
    let look = Look {
        health: &health(),
        memory: &lease.memory,
        branch: "main",
        now_ms: table.environment().clock.now_ms(),
        commits_since: &|_| 0,
    };
    let found = due(&look, &options);
    assert!(found.iter().any(|due| due.action == Action::RemoveOrphans), "{found:?}");
}
