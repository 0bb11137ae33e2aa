//! The law of net differences, over random histories: between any two snapshots, rolled back ones
//! included, exactly the rows that one side has more of are emitted, and updates pair by key.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use meltwater::Result;
use meltwater::read::{ChangeKind, ChangeReadOptions, ChangeReader, Emit, TableDiff};
use meltwater::scan::{Base, Grouping};
use meltwater::spec::{Reference, SchemaRef, SnapshotId};
use meltwater::table::{At, Table};
use proptest::prelude::*;
use support::history::{Op, Pair, any_op};
use support::replay::projected;
use support::{REGION, Row, Value, key, rows, scan};

type Bag = BTreeMap<Row, usize>;
type Change = (ChangeKind, Row);

fn bag(rows: &[Row]) -> Bag {
    let mut bag = Bag::new();
    rows.iter().for_each(|row| *bag.entry(row.clone()).or_default() += 1);
    bag
}

/// What is in `a` beyond what `b` has of it.
fn minus(a: &Bag, b: &Bag) -> Bag {
    let left = a.iter().map(|(row, n)| (row, n.saturating_sub(b.get(row).copied().unwrap_or(0))));
    left.filter(|(_, n)| *n > 0).map(|(row, n)| (row.clone(), n)).collect()
}

async fn changes(diff: &TableDiff, schema: &SchemaRef) -> Result<Vec<Change>> {
    let parts: Vec<_> = diff.rows().await?.try_collect().await?;
    let mut all = Vec::new();
    for part in parts {
        assert_ne!(part.kinds.last(), Some(&ChangeKind::UpdateBefore), "a pair is torn");
        let rows = rows(schema, std::slice::from_ref(&part.records));
        all.extend(part.kinds.into_iter().zip(rows));
    }
    Ok(all)
}

fn of_kinds(changes: &[Change], kinds: [ChangeKind; 2]) -> Bag {
    let rows = changes.iter().filter(|(kind, _)| kinds.contains(kind)).map(|(_, row)| row.clone());
    bag(&rows.collect::<Vec<_>>())
}

/// How often each key is in a bag.
fn keys(bag: &Bag) -> BTreeMap<(Value, Value), usize> {
    let mut keys = BTreeMap::new();
    bag.iter().for_each(|(row, n)| *keys.entry(key(row)).or_default() += n);
    keys
}

fn check_exact(changes: &[Change], before: &Bag, after: &Bag) {
    use ChangeKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    let (gone, come) = (minus(before, after), minus(after, before));
    assert_eq!(of_kinds(changes, [Delete, UpdateBefore]), gone, "what goes");
    assert_eq!(of_kinds(changes, [Insert, UpdateAfter]), come, "what comes");
    for pair in changes.windows(2).filter(|pair| pair[0].0 == UpdateBefore) {
        assert_eq!(pair[1].0, UpdateAfter, "the images of an update stand together");
        assert_eq!(key(&pair[0].1), key(&pair[1].1), "an update pairs rows of one key");
    }
    let (gone, come) = (keys(&gone), keys(&come));
    let most: usize = gone.iter().map(|(k, n)| *n.min(come.get(k).unwrap_or(&0))).sum();
    let updates = changes.iter().filter(|(kind, _)| *kind == UpdateAfter).count();
    assert_eq!(updates, most, "whatever can be an update is one");
}

/// The two sides in the schema of the second one.
async fn sides(table: &Table, from: SnapshotId, to: SnapshotId) -> Result<(SchemaRef, Bag, Bag)> {
    let schema = table.schema_of(&table.snapshot(to)?).clone();
    let before = projected(&scan(table, At::Snapshot(from)).await?, &schema);
    let after = scan(table, At::Snapshot(to)).await?;
    Ok((schema, bag(&before), bag(&after)))
}

/// Whether the rows of `from`, as its own schema shows them, tell all that `to`'s schema asks
/// for. A column that was dropped between is still in the files, but no scan at `from` shows it.
fn tells_all(table: &Table, from: SnapshotId, to: SnapshotId) -> Result<bool> {
    let (from, to) = (table.snapshot(from)?, table.snapshot(to)?);
    let (shown, wanted) = (table.schema_of(&from), table.schema_of(&to));
    let known = wanted.as_struct().fields().iter().all(|f| shown.field_by_id(f.id).is_some());
    Ok(known || from.sequence_number() < to.sequence_number())
}

async fn check_pair(table: &Table, from: SnapshotId, to: SnapshotId) -> Result<()> {
    if !tells_all(table, from, to)? {
        return Ok(());
    }
    let (schema, before, after) = sides(table, from, to).await?;
    let diff = table.diff(At::Snapshot(from), At::Snapshot(to));
    let found = changes(&diff, &schema).await?;
    check_exact(&found, &before, &after);

    let tight = changes(&diff.clone().memory_budget(2000).parallelism(1), &schema).await?;
    assert_eq!(found, tight, "the order depends on memory");
    let stat = diff.stat().await?;
    let count = |kind| found.iter().filter(|(k, _)| *k == kind).count() as u64;
    let counted = [ChangeKind::Insert, ChangeKind::UpdateAfter, ChangeKind::Delete].map(count);
    assert_eq!([stat.inserted, stat.updated, stat.deleted], counted);

    let north = |bag: &Bag| -> Bag {
        let passes = |row: &Row| row.get(&REGION) == Some(&Value::Text("north".into()));
        bag.iter().filter(|(row, _)| passes(row)).map(|(row, n)| (row.clone(), *n)).collect()
    };
    let filter = Reference::new("region").equal_to(meltwater::spec::Datum::string("north"));
    let some = changes(&diff.filter(filter), &schema).await?;
    check_exact(&some, &north(&before), &north(&after));
    check_resumed(table, from, to, &schema).await?;
    check_upserts(table, from, to, (&schema, &before, &after)).await
}

/// A unit that is read again from any ordinal on gives the rest of it, and as one unit all
/// changes are the same.
async fn check_resumed(
    table: &Table,
    from: SnapshotId,
    to: SnapshotId,
    schema: &SchemaRef,
) -> Result<()> {
    let at = At::Snapshot(to);
    let reader = ChangeReader::with_schema_at(table, at, ChangeReadOptions::default())?;
    let reader = Arc::new(reader);
    let base = Base::Snapshot(Some(from));
    let (to, key) = (table.snapshot(to)?, reader.key_ids());
    let plan = table.plan_net(base, &to, Grouping::Snapshot, &key).await?;
    assert!(plan.units().len() <= 1);
    for unit in 0..plan.units().len() {
        let mut whole = Vec::new();
        let parts: Vec<_> = reader.read_unit(plan.clone(), unit, 0).try_collect().await?;
        for part in &parts {
            let rows = rows(schema, std::slice::from_ref(&part.records));
            whole.extend(part.ordinals.iter().copied().zip(rows));
        }
        let middle = whole.len() as u64 / 2;
        let mut rest = Vec::new();
        let parts: Vec<_> = reader.read_unit(plan.clone(), unit, middle).try_collect().await?;
        for part in &parts {
            let rows = rows(schema, std::slice::from_ref(&part.records));
            rest.extend(part.ordinals.iter().copied().zip(rows));
        }
        whole.retain(|(ordinal, _)| *ordinal >= middle);
        assert_eq!(rest, whole, "resumed at {middle}");
    }
    Ok(())
}

/// While keys are unique, upserts turn one side into the other as well.
async fn check_upserts(
    table: &Table,
    from: SnapshotId,
    to: SnapshotId,
    (schema, before, after): (&SchemaRef, &Bag, &Bag),
) -> Result<()> {
    let unique = |bag: &Bag| keys(bag).values().all(|n| *n == 1);
    if !unique(before) || !unique(after) {
        return Ok(());
    }
    let options = ChangeReadOptions { emit: Emit::Upserts, ..ChangeReadOptions::default() };
    let reader = Arc::new(ChangeReader::with_schema_at(table, At::Snapshot(to), options)?);
    let base = Base::Snapshot(Some(from));
    let to = table.snapshot(to)?;
    let plan = table.plan_net(base, &to, Grouping::Partition, &reader.key_ids()).await?;
    let mut state: BTreeMap<_, _> = before.keys().map(|row| (key(row), row.clone())).collect();
    for unit in 0..plan.units().len() {
        let parts: Vec<_> = reader.read_unit(plan.clone(), unit, 0).try_collect().await?;
        for part in parts {
            let rows = rows(schema, std::slice::from_ref(&part.records));
            for (kind, row) in part.kinds.into_iter().zip(rows) {
                match kind {
                    ChangeKind::UpdateAfter => drop(state.insert(key(&row), row)),
                    ChangeKind::Delete => drop(state.remove(&key(&row))),
                    other => panic!("{other} among upserts"),
                }
            }
        }
    }
    assert_eq!(bag(&state.into_values().collect::<Vec<_>>()), *after, "upserts");
    Ok(())
}

fn run(seed: u64, ops: &[Op], picks: &[(u64, u64)]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(async {
        let pair = Pair::play(seed, ops).await?;
        let mut ids: Vec<i64> =
            pair.table.metadata().snapshots().map(|s| s.snapshot_id()).collect();
        ids.sort_by_key(|id| {
            pair.table.metadata().snapshot_by_id(*id).map(|s| s.sequence_number())
        });
        if ids.is_empty() {
            return Ok(());
        }
        let pick = |n: u64| SnapshotId(ids[(n % ids.len() as u64) as usize]);
        for (from, to) in picks {
            let (from, to) = (pick(*from), pick(*to));
            check_pair(&pair.table, from, to).await?;
            check_pair(&pair.table, to, from).await?;
        }
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_net_difference_is_exactly_what_tells_two_snapshots_apart(
        seed in any::<u64>(),
        ops in prop::collection::vec(any_op(), 2..16),
        picks in prop::collection::vec(any::<(u64, u64)>(), 3),
    ) {
        if let Err(error) = run(seed, &ops, &picks) {
            return Err(TestCaseError::fail(format!("{error:?}")));
        }
    }
}
