//! The law of the stream where history breaks: snapshots expire under a follower's position, and
//! the branch is rolled back or replaced, between random stops, on any number of lanes. Net
//! differences bridge the breaks: replaying everything gives the scan at every boundary, each
//! change comes once, and what a net difference takes back are rows that the follower had.
//!
//! One seed decides a history. A failure is made small and prints its replay line, such as
//! `MELTWATER_SEED=81 cargo test --test break_law`; `MELTWATER_CASES=2000` tries more of them.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};

use meltwater::spec::SchemaRef;
use meltwater::stream::{OnGap, OnRollback, OnSchemaChange, Order, Start, StreamBuilder};
use meltwater::table::{Place, Table, Token};
use meltwater::{ErrorKind, Result};
use proptest::prelude::*;
use support::differ;
use support::history::{Op, Pair, any_op};
use support::lanes::Lanes;
use support::replay::{Change, Replica, projected};
use support::seeds::{block_on, cases, seeds};
use support::sink::{Schemed, Sink};

/// What happens to a table between two lives of its follower.
#[derive(Debug, Clone)]
enum Turn {
    Play(Op),
    /// Some snapshots expire. What the follower needs to go on from stays, if somebody holds it.
    Expire {
        pick: u64,
        holds: bool,
    },
    Rewind(u64),
    Replace(u64),
    /// `main` goes back to where it was before it was moved.
    Return(u64),
}

fn any_turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        8 => any_op().prop_map(Turn::Play),
        2 => (any::<u64>(), prop::bool::weighted(0.8))
            .prop_map(|(pick, holds)| Turn::Expire { pick, holds }),
        1 => any::<u64>().prop_map(Turn::Rewind),
        1 => any::<u64>().prop_map(Turn::Replace),
        2 => any::<u64>().prop_map(Turn::Return),
    ]
}

/// What happens to the table first, how many lanes the follower has, and after how many rows it
/// dies. If it died inside a net difference, the branch may return to the old line.
#[derive(Debug, Clone)]
struct Life {
    turns: Vec<Turn>,
    returns: Option<u64>,
    lanes: usize,
    rows: usize,
}

fn any_lives() -> impl Strategy<Value = (u64, Vec<Life>)> {
    let turns = prop::collection::vec(any_turn(), 0..8);
    let life = (turns, prop::option::of(any::<u64>()), 1..=8usize, 0..60usize);
    let life = life.prop_map(|(turns, returns, lanes, rows)| Life { turns, returns, lanes, rows });
    (any::<u64>(), prop::collection::vec(life, 2..8))
}

async fn turn(
    pair: &mut Pair,
    turn: &Turn,
    token: Option<&Token>,
    bridged: &Bridged,
) -> Result<()> {
    match turn {
        Turn::Play(op) => pair.go_on(std::slice::from_ref(op)).await,
        Turn::Expire { pick, holds } => {
            let needed = token.and_then(|token| token.needed_snapshots(&pair.table));
            pair.hold(needed.into_iter().flatten().filter(|_| *holds)).await?;
            pair.expire(*pick).await
        }
        Turn::Rewind(pick) => pair.rewind(*pick).await,
        Turn::Replace(pick) => pair.replace_main(*pick).await,
        Turn::Return(pick) => {
            let is_inside = token.is_some_and(stands_inside);
            let moved = pair.move_back(*pick, token).await?;
            bridged.returned.fetch_add(u64::from(moved && is_inside), Ordering::Relaxed);
            Ok(())
        }
    }
}

/// What happens before a life.
async fn turns(
    pair: &mut Pair,
    life: &Life,
    token: Option<&Token>,
    bridged: &Bridged,
) -> Result<()> {
    for one in &life.turns {
        turn(pair, one, token, bridged).await?;
    }
    match life.returns.filter(|_| token.is_some_and(stands_inside)) {
        Some(pick) => turn(pair, &Turn::Return(pick), token, bridged).await,
        None => Ok(()),
    }
}

fn bridging(table: &Table, order: Order, lanes: usize) -> StreamBuilder {
    let lanes = if order == Order::PerSnapshot { 1 } else { lanes };
    let stream = table.stream().order(order).lanes(lanes);
    stream.on_gap(OnGap::Net).on_rollback(OnRollback::Net)
}

/// Whether a follower may be told that its position is lost: not while all of it is at one place
/// and the snapshots of that place are there.
fn may_be_lost(table: &Table, token: Option<&Token>) -> bool {
    let Some(token) = token else { return false };
    let places: Vec<Place> = token.places().map(|(_, place)| place).collect();
    let is_there = |id| table.snapshot(id).is_ok();
    let needed = token.needed_snapshots(table).unwrap_or_default();
    places.windows(2).any(|two| two[0] != two[1]) || !needed.into_iter().all(is_there)
}

/// What a follower says that is told, with reason, that it must start over.
fn lost(outcome: Result<()>, table: &Table, token: Option<&Token>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(false),
        Err(error) => {
            let is_lost =
                matches!(error.kind(), ErrorKind::PositionExpired | ErrorKind::HistoryRewritten)
                    || error.to_string().contains("do not fit together");
            match is_lost && error.hint().is_some() && may_be_lost(table, token) {
                true => Ok(true),
                false => Err(error),
            }
        }
    }
}

/// True for a follower some of whose groups are in a net difference and some are not.
fn stands_inside(token: &Token) -> bool {
    let is_inside = |(_, place): (u8, Place)| matches!(place, Place::Net(_, Some(_)));
    token.places().any(is_inside) && !token.places().all(is_inside)
}

/// How often breaks were bridged, and how often in the middle of a difference, by all cases of
/// one law.
#[derive(Default)]
struct Bridged {
    whole: AtomicU64,
    resumed: AtomicU64,
    /// Branches that were moved back while groups stood on both sides of a difference.
    returned: AtomicU64,
    lost: AtomicU64,
}

impl Bridged {
    fn note(&self, token: Option<&Token>, is_lost: bool) {
        let is_inside = |(_, place): (u8, Place)| matches!(place, Place::Net(_, Some(_)));
        let resumed = !is_lost && token.is_some_and(|token| token.places().any(is_inside));
        self.resumed.fetch_add(u64::from(resumed), Ordering::Relaxed);
        self.lost.fetch_add(u64::from(is_lost), Ordering::Relaxed);
    }

    /// A law that never meets what it is about proves nothing.
    fn check(&self, few: u64) {
        let met = [&self.whole, &self.resumed, &self.returned];
        let [whole, resumed, returned] = met.map(|n| n.load(Ordering::Relaxed));
        let lost = self.lost.load(Ordering::Relaxed);
        println!(
            "{whole} differences, {resumed} resumed inside, {returned} branches moved back \
             meanwhile, {lost} positions lost"
        );
        let is_one = seeds(few).count() < 10;
        assert!(is_one || (whole > 0 && resumed > 0 && returned > 0), "nothing was bridged");
    }
}

/// Replays what came in the order of its commits, and compares behind each of them.
fn replay(pair: &Pair, schema: &SchemaRef, sink: &Sink, bridged: &Bridged) -> Result<()> {
    let mut replica = Replica::default();
    let mut told: Vec<_> = sink.told.iter().collect();
    told.sort_by_key(|(commit, _)| {
        (commit.leg, commit.net.is_none(), !commit.is_full, commit.sequence_number)
    });
    for changes in told.chunk_by(|(a, _), (b, _)| a == b) {
        let commit = &changes[0].0;
        bridged.whole.fetch_add(u64::from(commit.net.is_some()), Ordering::Relaxed);
        let known: Vec<Change> = changes.iter().map(|(_, c)| c.known_to(schema)).collect();
        replica.apply(&known).map_err(|e| e.with_context("commit", format!("{commit:?}")))?;
        let expected = projected(&pair.past[&commit.snapshot_id.0], schema);
        if expected != replica.rows() {
            return Err(differ(&format!("{commit:?}"), &expected, &replica.rows()));
        }
    }
    let expected = projected(&pair.rows, schema);
    match replica.rows() == expected {
        true => Ok(()),
        false => Err(differ("everything", &expected, &replica.rows())),
    }
}

async fn follow_pinned(seed: u64, order: Order, lives: &[Life], bridged: &Bridged) -> Result<()> {
    let (mut pair, mut sink) = (Pair::new(seed).await?, Sink::default());
    let last = Life { turns: Vec::new(), returns: None, lanes: 3, rows: usize::MAX };
    for life in lives.iter().chain([&last, &last]) {
        turns(&mut pair, life, sink.token.as_ref(), bridged).await?;
        let from = sink.token.clone();
        let stream = bridging(&pair.table, order, life.lanes);
        let outcome = sink.follow(&pair.table, stream, life.rows).await;
        let is_lost = lost(outcome, &pair.table, from.as_ref())?;
        bridged.note(from.as_ref(), is_lost);
        if is_lost {
            sink = Sink::default();
        }
    }
    let schema = pair.table.schema();
    if order != Order::Unordered {
        // A strict replica in the order of arrival: nothing goes before it came.
        let changes: Vec<Change> = sink.changes().iter().map(|c| c.known_to(schema)).collect();
        Replica::default().apply(&changes)?;
    }
    replay(&pair, schema, &sink, bridged)
}

#[test]
fn a_pinned_stream_bridges_breaks_on_any_lanes_and_tells_each_change_once() {
    let name = "a_pinned_stream_bridges_breaks_on_any_lanes_and_tells_each_change_once";
    let orders = [Order::PerPartition, Order::Unordered, Order::PerSnapshot];
    let bridged = Bridged::default();
    cases(name, 20, (0..orders.len(), any_lives()), |(order, (seed, lives))| {
        block_on(follow_pinned(seed, orders[order], &lives, &bridged))
    });
    bridged.check(20);
    assert!(bridged.lost.load(Ordering::Relaxed) > 0, "no position was lost");
}

/// A rollback can show a column again that was dropped since. The follower, who was told that it
/// went, cannot know its values: such histories are left out.
fn without_drops(lives: &[Life]) -> Vec<Life> {
    let mut lives = lives.to_vec();
    for life in &mut lives {
        life.turns.retain(|turn| !matches!(turn, Turn::Play(Op::DropColumn)));
    }
    lives
}

async fn follow_announced(seed: u64, lives: &[Life], bridged: &Bridged) -> Result<()> {
    let (mut pair, mut sink) = (Pair::new(seed).await?, Schemed::default());
    let last = Life { turns: Vec::new(), returns: None, lanes: 3, rows: usize::MAX };
    for life in lives.iter().chain([&last, &last]) {
        turns(&mut pair, life, sink.token.as_ref(), bridged).await?;
        let from = sink.token.clone();
        let stream = bridging(&pair.table, Order::PerPartition, life.lanes);
        let stream = stream.on_schema_change(OnSchemaChange::Announce);
        let outcome = sink.follow(&pair.table, stream, life.rows).await;
        let is_lost = lost(outcome, &pair.table, from.as_ref())?;
        bridged.note(from.as_ref(), is_lost);
        let nets = sink.token.iter().any(|token| token.net(1).is_some());
        bridged.whole.fetch_add(u64::from(nets), Ordering::Relaxed);
        if is_lost {
            sink = Schemed::default();
        }
    }
    sink.check(&pair)
}

#[test]
fn announced_schemas_and_net_differences_lead_over_breaks_to_the_table() {
    let name = "announced_schemas_and_net_differences_lead_over_breaks_to_the_table";
    let bridged = Bridged::default();
    cases(name, 15, any_lives(), |(seed, lives)| {
        block_on(follow_announced(seed, &without_drops(&lives), &bridged))
    });
    bridged.check(15);
    assert!(bridged.lost.load(Ordering::Relaxed) > 0, "no position was lost");
}

/// What happens while lanes run that nobody polls in step.
#[derive(Debug, Clone)]
enum Act {
    Turn(Turn),
    Take { lane: usize, rows: usize },
    Commit(usize),
}

/// Rows only: nothing is lost in such histories, and a stream is pinned to its columns.
fn any_change() -> impl Strategy<Value = Op> {
    use Op::{AddColumn, DropColumn, RenameColumn, WidenColumn};
    any_op().prop_filter("columns stay", |op| {
        !matches!(op, AddColumn | DropColumn | RenameColumn | WidenColumn)
    })
}

fn any_act() -> impl Strategy<Value = Act> {
    let take = prop_oneof![Just(usize::MAX), 1..30usize];
    prop_oneof![
        3 => any_change().prop_map(|op| Act::Turn(Turn::Play(op))),
        2 => any::<u64>().prop_map(|pick| Act::Turn(Turn::Rewind(pick))),
        1 => any::<u64>().prop_map(|pick| Act::Turn(Turn::Replace(pick))),
        3 => any::<u64>().prop_map(|pick| Act::Turn(Turn::Return(pick))),
        8 => (0..4usize, take).prop_map(|(lane, rows)| Act::Take { lane, rows }),
        4 => (0..4usize).prop_map(Act::Commit),
    ]
}

/// How the table begins, and by life, how many lanes it has and what happens.
type OnLanes = (u64, Vec<Op>, Vec<(usize, Vec<Act>)>);

fn any_acts() -> impl Strategy<Value = OnLanes> {
    let partitions = (1..4u64).prop_map(Op::PartitionBy);
    let begin = (partitions, prop::collection::vec(any_change(), 3..6));
    let begin = begin.prop_map(|(partitions, ops)| [vec![partitions], ops].concat());
    let life = (2..=4usize, prop::collection::vec(any_act(), 4..20));
    (any::<u64>(), begin, prop::collection::vec(life, 1..5))
}

async fn follow_on_lanes(
    (seed, begin, lives): &OnLanes,
    order: Order,
    bridged: &Bridged,
) -> Result<()> {
    let (mut pair, mut sink) = (Pair::play(*seed, begin).await?, Sink::default());
    for (lanes, acts) in lives {
        bridged.note(sink.token.as_ref(), false);
        let start = sink.token.clone().map_or(Start::Earliest, Start::At);
        let stream = bridging(&pair.table, order, *lanes).start(start).open().await?;
        let mut lanes = Lanes::of(stream, pair.table.schema(), &mut sink)?;
        for act in acts {
            match act {
                Act::Turn(one) => turn(&mut pair, one, lanes.token().as_ref(), bridged).await?,
                Act::Take { lane, rows } => lanes.take(*lane, *rows, &mut sink).await?,
                Act::Commit(lane) => lanes.commit(*lane, &mut sink)?,
            }
        }
    }
    let rest = bridging(&pair.table, order, 3);
    sink.follow(&pair.table, rest, usize::MAX).await?;
    replay(&pair, pair.table.schema(), &sink, bridged)
}

#[test]
fn lanes_that_commit_when_they_like_follow_a_branch_that_moves_under_them() {
    let name = "lanes_that_commit_when_they_like_follow_a_branch_that_moves_under_them";
    let orders = [Order::PerPartition, Order::Unordered];
    let bridged = Bridged::default();
    cases(name, 40, (0..orders.len(), any_acts()), |(order, history)| {
        block_on(follow_on_lanes(&history, orders[order], &bridged))
    });
    bridged.check(40);
}
