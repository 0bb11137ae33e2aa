//! The law of the stream, over random histories: replaying the changes from the start gives the
//! scan at every snapshot; each change comes once; pre-images are the rows that were live.
//!
//! One seed decides a history. A failure is made small and prints its replay line, such as
//! `MELTWATER_SEED=81 cargo test --test stream_law`; `MELTWATER_CASES=2000` tries more of them.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use meltwater::read::{ChangeKind, ChangeReadOptions, ChangeReader, Emit};
use meltwater::scan::Grouping;
use meltwater::spec::SchemaRef;
use meltwater::stream::{OnSchemaChange, Order, Start, StreamEvent, Until};
use meltwater::table::{Table, Token};
use meltwater::{Error, ErrorKind, Result};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use support::history::{Op, Pair, any_op};
use support::replay::{Change, Replica, changes_in, changes_of, history, projected};
use support::{Row, differ, key};

/// Runs a property on seeded cases, each shrunk by itself.
fn cases<S: Strategy>(name: &str, few: u64, strategy: S, law: impl Fn(S::Value) -> Result<()>) {
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    let seeds = match (number("MELTWATER_SEED"), number("MELTWATER_CASES")) {
        (Some(seed), _) => seed..=seed,
        (None, cases) => 1..=cases.unwrap_or(few),
    };
    for seed in seeds {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let config = Config {
            cases: 1,
            failure_persistence: None,
            max_shrink_iters: 3000,
            ..Config::default()
        };
        let outcome = TestRunner::new_with_rng(config, rng).run(&strategy, |value| {
            law(value).map_err(|error| TestCaseError::fail(format!("{error:?}")))
        });
        if let Err(error) = outcome {
            panic!("{error}\nreplay: MELTWATER_SEED={seed} cargo test --test stream_law {name}");
        }
    }
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .map_err(|e| Error::internal("no runtime").with_source(e))?
        .block_on(work)
}

fn any_history() -> impl Strategy<Value = (u64, Vec<Op>)> {
    (any::<u64>(), prop::collection::vec(any_op(), 1..20))
}

/// Every snapshot's changes, one list each, as a reader of this grouping and budget gives them.
async fn read_all(
    pair: &Pair,
    grouping: Grouping,
    memory_budget: u64,
    from: u64,
) -> Result<Vec<Vec<Vec<Change>>>> {
    let options = ChangeReadOptions { memory_budget, ..ChangeReadOptions::default() };
    let reader = Arc::new(ChangeReader::new(&pair.table, options)?);
    let mut all = Vec::new();
    for snapshot in history(&pair.table) {
        all.push(changes_of(&reader, &pair.table, &snapshot, grouping, from).await?);
    }
    Ok(all)
}

/// Replays the changes and compares with the model at every snapshot.
fn replay(pair: &Pair, changes: &[Vec<Vec<Change>>]) -> Result<()> {
    let mut replica = Replica::default();
    let schema = pair.table.schema();
    for (snapshot, parts) in history(&pair.table).iter().zip(changes) {
        for part in parts {
            replica.apply(part)?;
        }
        let Some(expected) = pair.past.get(&snapshot.snapshot_id()) else { continue };
        let (expected, found) = (projected(expected, schema), replica.projected(schema));
        if expected != found {
            let step = format!("snapshot {:?}", snapshot.summary());
            return Err(differ(&step, &expected, &found));
        }
    }
    Ok(())
}

#[test]
fn changes_of_every_snapshot_lead_from_one_scan_to_the_next() {
    let name = "changes_of_every_snapshot_lead_from_one_scan_to_the_next";
    cases(name, 40, any_history(), |(seed, ops)| {
        block_on(async {
            let pair = Pair::play(seed, &ops).await?;
            for grouping in [Grouping::Partition, Grouping::Snapshot] {
                replay(&pair, &read_all(&pair, grouping, 64 << 20, 0).await?)?;
            }
            Ok(())
        })
    });
}

#[test]
fn the_order_of_changes_depends_on_the_snapshot_alone() {
    let name = "the_order_of_changes_depends_on_the_snapshot_alone";
    let strategy = (any_history(), 1..40u64);
    cases(name, 12, strategy, |((seed, ops), from)| {
        block_on(async {
            let pair = Pair::play(seed, &ops).await?;
            let whole = read_all(&pair, Grouping::Partition, 64 << 20, 0).await?;
            let narrow = read_all(&pair, Grouping::Partition, 64 << 10, 0).await?;
            if whole != narrow {
                return Err(Error::internal("a small budget gives other changes"));
            }
            let late = read_all(&pair, Grouping::Partition, 64 << 20, from).await?;
            for (whole, late) in whole.iter().flatten().zip(late.iter().flatten()) {
                let rest: Vec<&Change> = whole.iter().filter(|c| c.ordinal >= from).collect();
                // No token is ever taken between the two images of an update.
                if rest.first().is_some_and(|c| c.kind == ChangeKind::UpdateAfter) {
                    continue;
                }
                if rest != late.iter().collect::<Vec<_>>() {
                    let message = format!("from ordinal {from}: {rest:?}, found {late:?}");
                    return Err(Error::internal(message));
                }
            }
            Ok(())
        })
    });
}

/// One life of a follower: what happens to the table first, how many lanes it has, and after how
/// many rows it dies.
#[derive(Debug, Clone)]
struct Life {
    ops: Vec<Op>,
    lanes: usize,
    rows: usize,
}

fn any_lives() -> impl Strategy<Value = (u64, Vec<Life>)> {
    let life = (prop::collection::vec(any_op(), 0..8), 1..=8usize, 0..60usize);
    let life = life.prop_map(|(ops, lanes, rows)| Life { ops, lanes, rows });
    (any::<u64>(), prop::collection::vec(life, 1..6))
}

/// What a sink keeps: changes in the order in which they came, and the token behind the last.
#[derive(Default)]
struct Sink {
    order: Order,
    changes: Vec<Change>,
    token: Option<Token>,
}

impl Sink {
    /// Follows with a token until `rows` more rows came, then dies in the middle of a batch.
    async fn follow(&mut self, table: &Table, lanes: usize, rows: usize) -> Result<()> {
        let start = self.token.clone().map_or(Start::Earliest, Start::At);
        let stream = table.stream().start(start).until(Until::CaughtUp).lanes(lanes);
        let mut changes = stream.order(self.order).open().await?;
        let mut left = rows;
        while let Some(event) = changes.try_next().await? {
            let StreamEvent::Batch(batch) = event else { continue };
            let came = changes_in(table.schema(), &batch);
            if came.len() <= left {
                left -= came.len();
                self.changes.extend(came);
                self.token = Some(batch.end());
                continue;
            }
            // An update is told whole or not at all.
            let cut = match came.get(left).map(|c| c.kind) {
                Some(ChangeKind::UpdateAfter) => left - 1,
                _ => left,
            };
            if cut > 0 {
                self.token = Some(batch.token_after(cut - 1)?);
                self.changes.extend_from_slice(&came[..cut]);
            }
            return Ok(());
        }
        Ok(())
    }
}

/// Plays and follows in turns; gives the table, and what a follower through all of it got.
async fn live(seed: u64, order: Order, lives: &[Life]) -> Result<(Pair, Vec<Change>)> {
    let anew = || Sink { order, ..Sink::default() };
    let (mut pair, mut sink) = (Pair::new(seed).await?, anew());
    for life in lives {
        pair.go_on(&life.ops).await?;
        match sink.follow(&pair.table, life.lanes, life.rows).await {
            // Somebody rewound the branch below what was followed: start over.
            Err(e) if e.kind() == ErrorKind::HistoryRewritten => sink = anew(),
            other => other?,
        }
    }
    let mut rest = sink.follow(&pair.table, 3, usize::MAX).await;
    if rest.as_ref().is_err_and(|e| e.kind() == ErrorKind::HistoryRewritten) {
        sink = anew();
        rest = sink.follow(&pair.table, 3, usize::MAX).await;
    }
    rest?;
    Ok((pair, sink.changes))
}

fn by_snapshot(pair: &Pair, changes: &[Change]) -> Vec<Vec<Vec<Change>>> {
    let of = |id: i64| changes.iter().filter(|c| c.snapshot == id).cloned().collect();
    history(&pair.table).iter().map(|s| vec![of(s.snapshot_id())]).collect()
}

#[test]
fn a_stream_that_stops_and_goes_on_anywhere_tells_each_change_once() {
    let name = "a_stream_that_stops_and_goes_on_anywhere_tells_each_change_once";
    cases(name, 40, any_lives(), |(seed, lives)| {
        block_on(async {
            let (pair, changes) = live(seed, Order::PerPartition, &lives).await?;
            // A strict replica in the order of arrival: nothing goes before it came.
            let schema = pair.table.schema();
            let known = |change: &Change| {
                let row = projected(std::slice::from_ref(&change.row), schema).remove(0);
                Change { row, ..change.clone() }
            };
            let changes: Vec<Change> = changes.iter().map(known).collect();
            let mut replica = Replica::default();
            replica.apply(&changes)?;
            if replica.rows() != projected(&pair.rows, schema) {
                return Err(differ("following", &projected(&pair.rows, schema), &replica.rows()));
            }
            replay(&pair, &by_snapshot(&pair, &changes))
        })
    });
}

/// A sink that is told of schema changes: its rows are those of the last one.
#[derive(Default)]
struct Schemed {
    replica: Replica,
    schema: Option<SchemaRef>,
    token: Option<Token>,
}

impl Schemed {
    async fn follow(&mut self, table: &Table, lanes: usize, batches: usize) -> Result<()> {
        let start = self.token.clone().map_or(Start::Earliest, Start::At);
        let stream = table.stream().start(start).until(Until::CaughtUp).lanes(lanes);
        let mut changes = stream.on_schema_change(OnSchemaChange::Announce).open().await?;
        let mut left = batches;
        while let Some(event) = changes.try_next().await? {
            match event {
                StreamEvent::Watermark(_) => {}
                StreamEvent::Schema(change) => {
                    let of = table.snapshot(change.commit.snapshot_id)?;
                    assert_eq!(&change.schema, table.schema_of(&of), "that of the snapshot");
                    self.replica = self.replica.in_schema(&change.schema);
                    self.schema = Some(change.schema);
                }
                StreamEvent::Batch(batch) => {
                    let of = table.snapshot(batch.commit.snapshot_id)?;
                    let schema = self.schema.get_or_insert_with(|| table.schema_of(&of).clone());
                    let names = schema.as_struct().fields().iter().map(|f| f.name.clone());
                    let columns = batch.records.schema();
                    let found: Vec<_> = columns.fields().iter().map(|f| f.name().clone()).collect();
                    assert_eq!(found, names.collect::<Vec<_>>(), "the columns that were announced");
                    self.replica.apply(&changes_in(schema, &batch))?;
                    self.token = Some(batch.end());
                    if left == 0 {
                        return Ok(());
                    }
                    left -= 1;
                }
            }
        }
        Ok(())
    }
}

#[test]
fn announced_schemas_and_the_changes_between_them_lead_to_the_table() {
    let name = "announced_schemas_and_the_changes_between_them_lead_to_the_table";
    cases(name, 40, any_lives(), |(seed, lives)| {
        block_on(async {
            let (mut pair, mut sink) = (Pair::new(seed).await?, Schemed::default());
            for life in &lives {
                pair.go_on(&life.ops).await?;
                match sink.follow(&pair.table, life.lanes, life.rows / 8).await {
                    Err(e) if e.kind() == ErrorKind::HistoryRewritten => sink = Schemed::default(),
                    other => other?,
                }
            }
            let rest = sink.follow(&pair.table, 3, usize::MAX).await;
            if rest.as_ref().is_err_and(|e| e.kind() == ErrorKind::HistoryRewritten) {
                sink = Schemed::default();
                sink.follow(&pair.table, 3, usize::MAX).await?;
            } else {
                rest?;
            }
            // What changed behind the last snapshot nobody was told yet.
            let schema = pair.table.schema();
            let known = sink.schema.as_ref().unwrap_or(schema);
            let expected = projected(&projected(&pair.rows, known), schema);
            let found = sink.replica.projected(schema);
            match expected == found {
                true => Ok(()),
                false => Err(differ("following announced schemas", &expected, &found)),
            }
        })
    });
}

#[test]
fn changes_of_one_key_come_in_the_order_of_their_commits() {
    let name = "changes_of_one_key_come_in_the_order_of_their_commits";
    cases(name, 25, (0..4u64, any_lives()), |(spec, (seed, lives))| {
        let one_spec = |op: &Op| !matches!(op, Op::PartitionBy(_));
        let mut lives = lives.clone();
        lives.iter_mut().for_each(|life| life.ops.retain(one_spec));
        lives.insert(0, Life { ops: vec![Op::PartitionBy(spec)], lanes: 1, rows: 0 });
        block_on(async {
            let (pair, changes) = live(seed, Order::PerPartition, &lives).await?;
            let order: BTreeMap<i64, usize> =
                history(&pair.table).iter().map(|s| s.snapshot_id()).zip(0..).collect();
            let mut last = BTreeMap::new();
            for change in &changes {
                let at = order[&change.snapshot];
                let before = last.insert(key(&change.row), at).unwrap_or(0);
                if at < before {
                    let message = format!("snapshot {before} before {at}: {change:?}");
                    return Err(Error::internal(message));
                }
            }
            Ok(())
        })
    });
}

#[test]
fn a_stream_without_order_tells_each_change_once_too() {
    let name = "a_stream_without_order_tells_each_change_once_too";
    cases(name, 25, any_lives(), |(seed, lives)| {
        block_on(async {
            let (pair, changes) = live(seed, Order::Unordered, &lives).await?;
            let schema = pair.table.schema();
            let known = |change: &Change| {
                let row = projected(std::slice::from_ref(&change.row), schema).remove(0);
                Change { row, ..change.clone() }
            };
            let changes: Vec<Change> = changes.iter().map(known).collect();
            replay(&pair, &by_snapshot(&pair, &changes))
        })
    });
}

#[test]
fn the_total_order_is_the_order_of_commits() {
    let name = "the_total_order_is_the_order_of_commits";
    cases(name, 12, any_history(), |(seed, ops)| {
        block_on(async {
            let pair = Pair::play(seed, &ops).await?;
            let stream = pair.table.stream().start(Start::Earliest).until(Until::CaughtUp);
            let mut stream = stream.order(Order::PerSnapshot).open().await?;
            let mut found: Vec<Change> = Vec::new();
            while let Some(event) = stream.try_next().await? {
                if let StreamEvent::Batch(batch) = event {
                    found.extend(changes_in(pair.table.schema(), &batch));
                }
            }
            let mut ids: Vec<i64> = found.iter().map(|c| c.snapshot).collect();
            ids.dedup();
            let order = history(&pair.table).into_iter().map(|s| s.snapshot_id());
            let expected: Vec<i64> = order.filter(|id| ids.contains(id)).collect();
            if ids != expected {
                return Err(Error::internal(format!("order {ids:?}, expected {expected:?}")));
            }
            replay(&pair, &by_snapshot(&pair, &found))
        })
    });
}

/// Histories in which a key names at most one row.
fn any_keyed_history() -> impl Strategy<Value = (u64, Vec<Op>)> {
    any_history().prop_map(|(seed, ops)| {
        let keyed = |op: Op| match op {
            Op::Append(rows) => Op::Upsert(rows),
            // Rows of one key may repeat in what replaces a region.
            Op::OverwriteRegion(region, mut ids) => {
                ids.sort_unstable();
                ids.dedup();
                Op::OverwriteRegion(region, ids)
            }
            op => op,
        };
        (seed, ops.into_iter().map(keyed).collect())
    })
}

#[test]
fn upserts_lead_a_keyed_replica_to_the_table() {
    let name = "upserts_lead_a_keyed_replica_to_the_table";
    cases(name, 25, (any_keyed_history(), 1..=4usize), |((seed, ops), lanes)| {
        // With one spec over key columns, a key stays in its partition.
        let mut ops = ops.clone();
        ops.retain(|op| !matches!(op, Op::PartitionBy(_)));
        block_on(async {
            let pair = Pair::play(seed, &ops).await?;
            let stream = pair.table.stream().start(Start::Earliest).until(Until::CaughtUp);
            let mut stream = stream.emit(Emit::Upserts).lanes(lanes).open().await?;
            let mut rows: BTreeMap<_, Row> = BTreeMap::new();
            while let Some(event) = stream.try_next().await? {
                let StreamEvent::Batch(batch) = event else { continue };
                for change in changes_in(pair.table.schema(), &batch) {
                    match change.kind {
                        ChangeKind::Delete => rows.remove(&key(&change.row)),
                        _ => rows.insert(key(&change.row), change.row),
                    };
                }
            }
            let mut found: Vec<Row> = rows.into_values().collect();
            found.sort();
            match found == pair.rows {
                true => Ok(()),
                false => Err(differ("upserts", &pair.rows, &found)),
            }
        })
    });
}
