//! Random histories of commits of every kind, replayed from the changes of each snapshot: what
//! is emitted turns the rows of the parent into the rows of the snapshot, exactly.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use meltwater::catalog::{Catalog, FileSystemCatalog, NewTable};
use meltwater::clock::{Environment, ManualClock, SeededIds};
use meltwater::maintenance::ConvertOptions;
use meltwater::read::{ChangeKind, ChangeReadOptions, ChangeReader, Emit};
use meltwater::scan::Grouping;
use meltwater::spec::{
    Datum, NamespaceIdent, Reference, SnapshotId, SnapshotRef, TableIdent, Transform,
};
use meltwater::storage::Storage;
use meltwater::table::{At, RemovedFile, Table};
use meltwater::write::{AppendOptions, UpsertOptions};
use meltwater::{ErrorKind, Result};
use proptest::prelude::*;
use support::replay::parts_of;
use support::{AMOUNT, Row, Value, batch, key, region, row, rows, scan};

/// One commit of a history. Numbers are drawn from small sets so that commits meet.
#[derive(Debug, Clone)]
enum Op {
    Append(Vec<(i64, u64, Option<i64>)>),
    Upsert(Vec<(i64, u64, Option<i64>)>, Vec<(i64, u64)>),
    /// Position deletes.
    DeleteAbove(i64),
    /// Whole files, or position deletes.
    DeleteRegion(u64),
    /// Copy-on-write: files are replaced by files with amounts raised where they were below.
    RaiseBelow(i64, u64),
    /// Compaction.
    Rewrite(u64),
    /// Equality deletes become position deletes.
    Convert,
    PartitionBy(u64),
}

fn any_rows() -> impl Strategy<Value = Vec<(i64, u64, Option<i64>)>> {
    prop::collection::vec((0..25i64, 0..3u64, prop::option::of(-50..50i64)), 1..20)
}

fn any_op() -> impl Strategy<Value = Op> {
    let keys = || prop::collection::vec((0..25i64, 0..3u64), 0..6);
    prop_oneof![
        2 => any_rows().prop_map(Op::Append),
        6 => (any_rows(), keys()).prop_map(|(rows, keys)| Op::Upsert(rows, keys)),
        2 => (-50..50i64).prop_map(Op::DeleteAbove),
        1 => (0..3u64).prop_map(Op::DeleteRegion),
        2 => (-50..50i64, any::<u64>()).prop_map(|(below, pick)| Op::RaiseBelow(below, pick)),
        2 => any::<u64>().prop_map(Op::Rewrite),
        1 => Just(Op::Convert),
        1 => (0..4u64).prop_map(Op::PartitionBy),
    ]
}

struct History {
    table: Table,
    commits: u32,
}

impl History {
    async fn new(seed: u64) -> Result<Self> {
        let catalog = Arc::new(FileSystemCatalog::new("memory:///warehouse", Storage::default()));
        let namespace = NamespaceIdent::new("ns".into());
        catalog.create_namespace(&namespace, Default::default()).await?;
        let ident = TableIdent::new(namespace, "t".into());
        let mut new = NewTable::new(support::schema());
        new.properties.insert("commit.manifest.min-count-to-merge".into(), "4".into());
        let loaded = catalog.create_table(&ident, new).await?;
        let environment = Environment {
            clock: Arc::new(ManualClock::new(1_700_000_000_000)),
            ids: Arc::new(SeededIds::new(seed)),
        };
        let table = Table::from_loaded(catalog, ident, loaded).with_environment(environment);
        Ok(Self { table, commits: 0 })
    }

    fn make(&mut self, rows: &[(i64, u64, Option<i64>)]) -> Vec<Row> {
        self.commits += 1;
        let name = format!("n{}", self.commits);
        rows.iter().map(|(id, r, amount)| row(*id, &region(*r), *amount, Some(&name))).collect()
    }

    async fn step(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::Append(rows) => {
                let rows = self.make(rows);
                let mut writer = self.table.append_writer(AppendOptions::default())?;
                writer.write(batch(self.table.schema(), &rows)?).await?;
                self.table.append(writer.close().await?).commit().await?;
            }
            Op::Upsert(rows, keys) => self.upsert(rows, keys).await?,
            Op::DeleteAbove(n) => {
                let filter = Reference::new("amount").greater_than(Datum::int(*n as i32));
                self.table.delete_where(filter).commit().await?;
            }
            Op::DeleteRegion(r) => {
                let filter = Reference::new("region").equal_to(Datum::string(region(*r)));
                self.table.delete_where(filter).commit().await?;
            }
            Op::RaiseBelow(below, pick) => self.replace(*pick, Some(*below)).await?,
            Op::Rewrite(pick) => self.replace(*pick, None).await?,
            Op::Convert => {
                self.table.convert_equality_deletes(ConvertOptions::default()).run().await?;
            }
            Op::PartitionBy(n) => self.partition_by(*n).await?,
        }
        self.table = self.table.refresh().await?;
        Ok(())
    }

    async fn upsert(
        &mut self,
        rows: &[(i64, u64, Option<i64>)],
        keys: &[(i64, u64)],
    ) -> Result<()> {
        let rows = self.make(rows);
        let keys: Vec<Row> = keys.iter().map(|(id, r)| row(*id, &region(*r), None, None)).collect();
        let mut writer = self.table.upsert_writer(UpsertOptions::default())?;
        for part in rows.chunks(rows.len().div_ceil(2).max(1)) {
            writer.write(batch(self.table.schema(), part)?).await?;
        }
        if !keys.is_empty() {
            writer.delete(batch(self.table.schema(), &keys)?.project(&[0, 1])?).await?;
        }
        self.table.row_delta(writer.close().await?).commit().await?;
        Ok(())
    }

    /// Replaces some files by one with their rows: as they are, or with amounts raised.
    async fn replace(&mut self, pick: u64, raise_below: Option<i64>) -> Result<()> {
        let table = self.table.clone();
        let Some(head) = table.current_snapshot().cloned() else { return Ok(()) };
        let tasks: Vec<_> = table.scan().plan().await?.try_collect().await?;
        let chosen = tasks.into_iter().enumerate().filter(|(i, _)| pick >> (i % 64) & 1 == 1);
        let mut writer = table.append_writer(AppendOptions::default())?;
        let mut removed = Vec::new();
        for (_, task) in chosen {
            removed.push(RemovedFile::new(&task.file, Some(task.sequence_number)));
            let batches: Vec<_> = table.scan().task_batches(task).await?.try_collect().await?;
            let mut found = rows(table.schema(), &batches);
            for row in &mut found {
                if let (Some(below), Some(Value::Int(amount))) = (raise_below, row.get_mut(&AMOUNT))
                    && *amount < below
                {
                    *amount += 100;
                }
            }
            if !found.is_empty() {
                writer.write(batch(table.schema(), &found)?).await?;
            }
        }
        let written = writer.close().await?;
        if removed.is_empty() {
            return Ok(());
        }
        if raise_below.is_some() {
            table.overwrite_files(removed, written).commit().await?;
        } else {
            let planned = SnapshotId(head.snapshot_id());
            table.rewrite_files(removed, written.data_files, planned)?.commit().await?;
        }
        Ok(())
    }

    async fn partition_by(&mut self, n: u64) -> Result<()> {
        let spec = self.table.metadata().default_partition_spec().clone();
        let mut update = self.table.update_spec();
        for field in spec.fields() {
            update = update.remove_field(&field.name);
        }
        update = match n {
            1 => update.add_field("region", Transform::Identity, Some("region_id")),
            2 => update.add_field("id", Transform::Bucket(3), None),
            3 => update.add_field("id", Transform::Truncate(10), None),
            _ => update,
        };
        update.commit().await?;
        Ok(())
    }

    fn snapshots(&self) -> Vec<SnapshotRef> {
        let Some(head) = self.table.current_snapshot() else { return Vec::new() };
        let head = SnapshotId(head.snapshot_id());
        let mut all: Vec<_> = self.table.ancestors(head).cloned().collect();
        all.reverse();
        all
    }
}

type Change = (ChangeKind, Row);

/// What a reader gives for one snapshot, unit after unit; `from` skips into each unit.
async fn changes_of(
    reader: &Arc<ChangeReader>,
    table: &Table,
    snapshot: &SnapshotRef,
    grouping: Grouping,
    from: u64,
) -> Result<Vec<Vec<Change>>> {
    let planned = table.plan_changes(snapshot, grouping).await?;
    let mut found = Vec::new();
    for mut stream in parts_of(reader, &planned, from).await? {
        let (mut unit, mut last) = (Vec::new(), None);
        while let Some(part) = stream.try_next().await? {
            assert_eq!(part.records.schema(), *reader.arrow_schema());
            assert!(part.ordinals.iter().all(|o| *o >= from && last.replace(*o) < Some(*o)));
            assert_ne!(part.kinds.last(), Some(&ChangeKind::UpdateBefore), "a pair is torn");
            let rows = rows(table.schema(), std::slice::from_ref(&part.records));
            unit.extend(part.kinds.into_iter().zip(rows));
        }
        found.push(unit);
    }
    Ok(found)
}

fn take(state: &mut BTreeMap<Row, usize>, row: &Row) {
    let left = state
        .get_mut(row)
        .unwrap_or_else(|| panic!("a change removes {row:?}, which is not there"));
    *left -= 1;
    if *left == 0 {
        state.remove(row);
    }
}

/// Applies exact changes to a multiset of rows.
fn replay(state: &mut BTreeMap<Row, usize>, changes: &[Change]) {
    let mut before: Option<&Row> = None;
    for (kind, row) in changes {
        match kind {
            ChangeKind::Insert => *state.entry(row.clone()).or_default() += 1,
            ChangeKind::Delete => take(state, row),
            ChangeKind::UpdateBefore => {
                take(state, row);
                before = Some(row);
                continue;
            }
            ChangeKind::UpdateAfter => {
                let before = before.take().expect("a pre-image comes first");
                assert_eq!(key(before), key(row), "an update pairs rows of one key");
                *state.entry(row.clone()).or_default() += 1;
            }
        }
        assert_eq!(before, None, "a pre-image stands alone");
    }
}

fn multiset(rows: Vec<Row>) -> BTreeMap<Row, usize> {
    let mut set = BTreeMap::new();
    for row in rows {
        *set.entry(row).or_default() += 1;
    }
    set
}

fn reader(table: &Table, options: ChangeReadOptions) -> Arc<ChangeReader> {
    Arc::new(ChangeReader::new(table, options).unwrap())
}

fn is_unique(rows: &[Row]) -> bool {
    let keys: std::collections::BTreeSet<_> = rows.iter().map(key).collect();
    keys.len() == rows.len()
}

async fn check(history: &History) -> Result<()> {
    let table = &history.table;
    let warm = reader(table, ChangeReadOptions::default());
    // Nothing fits, and some of it.
    let mut tight = ChangeReadOptions { memory_budget: 2000, ..ChangeReadOptions::default() };
    let upserts = ChangeReadOptions { emit: Emit::Upserts, ..ChangeReadOptions::default() };
    let upserts = reader(table, upserts);
    let filter = || Reference::new("amount").greater_than(Datum::int(0));
    let passes = |row: &Row| matches!(row.get(&AMOUNT), Some(Value::Int(a)) if *a > 0);
    let some = ChangeReadOptions { filter: Some(filter()), ..ChangeReadOptions::default() };
    let some = reader(table, some);
    let (mut state, mut filtered, mut by_key) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut keyed = true;
    for snapshot in history.snapshots() {
        let id = SnapshotId(snapshot.snapshot_id());
        let expected = scan(table, At::Snapshot(id)).await?;
        let units = changes_of(&warm, table, &snapshot, Grouping::Partition, 0).await?;
        for unit in &units {
            replay(&mut state, unit);
        }
        assert_eq!(state, multiset(expected.clone()), "replayed through {id}");

        // A cold reader with hardly any memory says the same, in the same order; so does a
        // reader that starts in the middle.
        tight.memory_budget = 40_000 - tight.memory_budget;
        let cold = reader(table, tight.clone());
        let again = changes_of(&cold, table, &snapshot, Grouping::Partition, 0).await?;
        assert_eq!(units, again, "order depends on memory at {id}");
        let rest = changes_of(&cold, table, &snapshot, Grouping::Partition, 2).await?;
        for (whole, rest) in units.iter().zip(&rest) {
            assert_eq!(rest[..], whole[whole.len() - rest.len()..], "a resumed unit at {id}");
        }
        let mut total = multiset(scan_parent(table, &snapshot).await?);
        for unit in changes_of(&cold, table, &snapshot, Grouping::Snapshot, 0).await? {
            replay(&mut total, &unit);
        }
        assert_eq!(total, multiset(expected.clone()), "as one unit at {id}");

        for unit in changes_of(&some, table, &snapshot, Grouping::Partition, 0).await? {
            replay(&mut filtered, &unit);
        }
        let wanted = multiset(expected.iter().filter(|r| passes(r)).cloned().collect());
        assert_eq!(filtered, wanted, "filtered through {id}");

        // Upserts mean something while keys are unique.
        keyed &= is_unique(&expected);
        if keyed {
            for unit in changes_of(&upserts, table, &snapshot, Grouping::Snapshot, 0).await? {
                for (kind, row) in unit {
                    match kind {
                        ChangeKind::UpdateAfter => drop(by_key.insert(key(&row), row)),
                        ChangeKind::Delete => drop(by_key.remove(&key(&row))),
                        other => panic!("{other} among upserts"),
                    }
                }
            }
            let latest: BTreeMap<_, _> = expected.iter().map(|r| (key(r), r.clone())).collect();
            assert_eq!(by_key, latest, "upserts through {id}");
        }
    }
    Ok(())
}

async fn scan_parent(table: &Table, snapshot: &SnapshotRef) -> Result<Vec<Row>> {
    match snapshot.parent_snapshot_id() {
        Some(parent) => scan(table, At::Snapshot(SnapshotId(parent))).await,
        None => Ok(Vec::new()),
    }
}

fn run(seed: u64, ops: &[Op]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(async {
        let mut history = History::new(seed).await?;
        for op in ops {
            match history.step(op).await {
                Ok(()) => {}
                // An upsert may be refused after partition evolution, but only with advice.
                Err(e) if e.kind() == ErrorKind::InvalidInput && e.hint().is_some() => {}
                Err(e) => return Err(e),
            }
        }
        check(&history).await
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn replayed_changes_give_the_rows_of_every_snapshot(
        seed in any::<u64>(),
        ops in prop::collection::vec(any_op(), 1..14),
    ) {
        if let Err(error) = run(seed, &ops) {
            return Err(TestCaseError::fail(format!("{error:?}")));
        }
    }
}
