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
use meltwater::stream::{OnSchemaChange, Order, Start, StreamEvent, Until};
use meltwater::{Error, ErrorKind, Result};
use proptest::prelude::*;
use support::history::{Op, Pair, any_op};
use support::replay::{Change, Replica, changes_in, changes_of, history, projected};
use support::seeds::{block_on, cases};
use support::sink::{Schemed, Sink};
use support::{Row, differ, key};

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

/// Plays and follows in turns; gives the table, and what a follower through all of it got.
async fn live(seed: u64, order: Order, lives: &[Life]) -> Result<(Pair, Vec<Change>)> {
    let (mut pair, mut sink) = (Pair::new(seed).await?, Sink::default());
    let stream = |pair: &Pair, lanes| pair.table.stream().order(order).lanes(lanes);
    for life in lives {
        pair.go_on(&life.ops).await?;
        match sink.follow(&pair.table, stream(&pair, life.lanes), life.rows).await {
            // Somebody rewound the branch below what was followed: start over.
            Err(e) if e.kind() == ErrorKind::HistoryRewritten => sink = Sink::default(),
            other => other?,
        }
    }
    let mut rest = sink.follow(&pair.table, stream(&pair, 3), usize::MAX).await;
    if rest.as_ref().is_err_and(|e| e.kind() == ErrorKind::HistoryRewritten) {
        sink = Sink::default();
        rest = sink.follow(&pair.table, stream(&pair, 3), usize::MAX).await;
    }
    rest?;
    Ok((pair, sink.changes()))
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
            let changes: Vec<Change> = changes.iter().map(|c| c.known_to(schema)).collect();
            let mut replica = Replica::default();
            replica.apply(&changes)?;
            if replica.rows() != projected(&pair.rows, schema) {
                return Err(differ("following", &projected(&pair.rows, schema), &replica.rows()));
            }
            replay(&pair, &by_snapshot(&pair, &changes))
        })
    });
}

#[test]
fn announced_schemas_and_the_changes_between_them_lead_to_the_table() {
    let name = "announced_schemas_and_the_changes_between_them_lead_to_the_table";
    cases(name, 40, any_lives(), |(seed, lives)| {
        block_on(async {
            let (mut pair, mut sink) = (Pair::new(seed).await?, Schemed::default());
            let stream = |pair: &Pair, lanes| {
                pair.table.stream().lanes(lanes).on_schema_change(OnSchemaChange::Announce)
            };
            for life in &lives {
                pair.go_on(&life.ops).await?;
                match sink.follow(&pair.table, stream(&pair, life.lanes), life.rows).await {
                    Err(e) if e.kind() == ErrorKind::HistoryRewritten => sink = Schemed::default(),
                    other => other?,
                }
            }
            let rest = sink.follow(&pair.table, stream(&pair, 3), usize::MAX).await;
            if rest.as_ref().is_err_and(|e| e.kind() == ErrorKind::HistoryRewritten) {
                sink = Schemed::default();
                sink.follow(&pair.table, stream(&pair, 3), usize::MAX).await?;
            } else {
                rest?;
            }
            sink.check(&pair)
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
    let strategy = (any_lives(), any::<bool>());
    cases(name, 40, strategy, |((seed, mut lives), at_once)| {
        if at_once {
            // One reader a lane for all of it, which remembers what it read of each file.
            let ops = lives.iter().flat_map(|life| life.ops.clone()).collect();
            lives = vec![Life { ops, lanes: 1, rows: 0 }];
        }
        block_on(async {
            let (pair, changes) = live(seed, Order::Unordered, &lives).await?;
            let schema = pair.table.schema();
            let changes: Vec<Change> = changes.iter().map(|c| c.known_to(schema)).collect();
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
