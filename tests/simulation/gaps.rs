//! A follower that sleeps while snapshots expire under it, and goes over the gaps by their net
//! difference: exactly, from whatever its tag still holds, wherever it crashed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures::TryStreamExt;
use meltwater::clock::{IdGenerator, SeededIds};
use meltwater::spec::SnapshotId;
use meltwater::stream::{OnGap, Start, StreamEvent, Until};
use meltwater::table::{At, RefUpdate, Table, Token};
use meltwater::{ErrorKind, Result};

use crate::keepers::did;
use crate::support::replay::{Replica, changes_in};
use crate::support::{differ, scan};
use crate::{World, tolerate};

/// What a sink holds: rows, and the position they stand at.
#[derive(Debug, Clone, Default)]
struct Sink {
    replica: Replica,
    token: Option<Token>,
}

/// A sink whose position stands behind a whole snapshot, which a tag holds.
#[derive(Debug, Clone, Default)]
struct Checkpoint {
    sink: Sink,
    tag: Option<String>,
}

/// Follows with one token after the other, across gaps, until nobody writes any more.
pub async fn over_gaps(world: World, actor: u64, quiet: Rc<Cell<bool>>) -> Result<()> {
    let dice = SeededIds::new(world.seed ^ (actor << 32));
    let (mut sink, mut checkpoint) = (Sink::default(), Checkpoint::default());
    let mut went_back = false;
    for life in 0.. {
        let last = quiet.get();
        let lived = live(&world, actor, &dice, last, &mut sink).await;
        world.trace(&format!("g{actor}-{life}"), &lived);
        match lived {
            Ok(Some(_)) if last => break,
            Ok(Some(end)) => {
                let name = format!("g{actor}-{life}");
                let kept = keep(&world, actor, &name, end, &mut checkpoint, &sink).await;
                world.trace(&name, &kept);
                tolerate_gone(kept)?;
            }
            Ok(None) => {}
            Err(error) if last && went_back => return Err(error),
            // What the tag does not hold is gone: back to what it holds.
            Err(e) if e.kind() == ErrorKind::PositionExpired => {
                did("fell back", 1);
                went_back = last;
                sink = checkpoint.sink.clone();
            }
            Err(error) if last => return Err(error),
            Err(error) => tolerate_gone(Err(error))?,
        }
        tokio::time::sleep(Duration::from_millis(dice.below(4_000))).await;
    }
    let table = world.table(actor, false).await?;
    let (expected, found) = (scan(&table, At::Current).await?, sink.replica.rows());
    match expected == found {
        true => Ok(()),
        false => Err(differ("following over gaps", &expected, &found)),
    }
}

/// Where snapshots expire at once, what was just seen may be gone when it is asked for.
fn tolerate_gone(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => tolerate(other),
    }
}

/// Reads up to the head of now; gives it, or `None` where the follower crashed before.
async fn live(
    world: &World,
    actor: u64,
    dice: &SeededIds,
    last: bool,
    sink: &mut Sink,
) -> Result<Option<SnapshotId>> {
    let table = world.table(actor, !last).await?;
    let Some(head) = table.current_snapshot() else { return Ok(None) };
    let head = SnapshotId(head.snapshot_id());
    let start = sink.token.clone().map_or(Start::LatestFull, Start::At);
    let stream = table.stream().start(start).until(Until::Snapshot(head)).on_gap(OnGap::Net);
    let mut changes = stream.lanes(1 + dice.below(8) as usize).open().await?;
    let mut batches = if last { u64::MAX } else { 1 + dice.below(12) };
    loop {
        let event = match tokio::time::timeout(Duration::from_secs(300), changes.try_next()).await {
            Err(_) => return Ok(None),
            Ok(event) => event?,
        };
        let batch = match event {
            None => break,
            Some(StreamEvent::Batch(batch)) => batch,
            Some(_) => continue,
        };
        if batches == 0 {
            return Ok(None);
        }
        batches -= 1;
        did("bridged", u64::from(batch.commit.net.is_some()));
        sink.replica.apply(&changes_in(table.schema(), &batch))?;
        sink.token = Some(batch.end());
    }
    let token = changes.token();
    // A stream that begins anew begins with the head of its own opening, which may be a later one.
    let stands_there = table.stream_lag(&token, "main").is_ok_and(|lag| lag.is_caught_up());
    sink.token = Some(token);
    Ok(stands_there.then_some(head))
}

/// Tags the snapshot that the sink stands at, and lets go of the tag before.
async fn keep(
    world: &World,
    actor: u64,
    name: &str,
    snapshot: SnapshotId,
    checkpoint: &mut Checkpoint,
    sink: &Sink,
) -> Result<()> {
    let table: Table = world.table(actor, true).await?;
    let tag = RefUpdate::CreateTag { name: name.to_string(), snapshot, max_ref_age_ms: None };
    let table = table.update_ref(tag).await?;
    let before = std::mem::replace(
        checkpoint,
        Checkpoint { sink: sink.clone(), tag: Some(name.to_string()) },
    );
    if let Some(name) = before.tag {
        table.update_ref(RefUpdate::Drop { name }).await?;
    }
    Ok(())
}
