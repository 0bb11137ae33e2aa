//! Followers that crash and go on, beside everybody else on the faulty store.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use futures::TryStreamExt;
use meltwater::Result;
use meltwater::clock::{IdGenerator, SeededIds};
use meltwater::stream::{ChangeBatch, ChangeStream, Start, StreamEvent, Until};
use meltwater::table::{At, PositionStore, Table, Token};

use crate::support::replay::{Change, Replica, changes_in};
use crate::support::{differ, scan};
use crate::{POSITIONS, World, tolerate};

/// How one life of a follower ended.
enum Life {
    CaughtUp,
    Crashed,
}

/// A stream as a process that starts anew opens it.
async fn open(table: &Table, start: Start, dice: &SeededIds, last: bool) -> Result<ChangeStream> {
    let until = if last { Until::CaughtUp } else { Until::Forever };
    let lanes = 1 + dice.below(8) as usize;
    table.stream().start(start).until(until).lanes(lanes).open().await
}

/// The next batch; `None` when the follower dies or is done, whichever it says.
async fn next(changes: &mut ChangeStream) -> Result<Option<Option<ChangeBatch>>> {
    loop {
        match tokio::time::timeout(Duration::from_millis(900), changes.try_next()).await {
            // Killed while it waits.
            Err(_) => return Ok(Some(None)),
            Ok(Ok(None)) => return Ok(None),
            Ok(Ok(Some(StreamEvent::Batch(batch)))) => return Ok(Some(Some(batch))),
            Ok(Ok(Some(_))) => {}
            Ok(Err(error)) => return Err(error),
        }
    }
}

/// Keeps token and replica together, as one transaction of a sink would: exactly once, whatever
/// happens. It may die in the middle of a batch.
pub async fn exact(world: World, actor: u64, quiet: Rc<Cell<bool>>) -> Result<()> {
    let dice = SeededIds::new(world.seed ^ (actor << 32));
    let (mut replica, mut token): (Replica, Option<Token>) = Default::default();
    loop {
        let last = quiet.get();
        let life = live_exactly(&world, actor, &dice, last, &mut replica, &mut token).await;
        world.trace(&format!("f{actor}"), &life);
        match life {
            Ok(Life::CaughtUp) if last => break,
            Ok(_) => {}
            Err(error) => tolerate(Err(error))?,
        }
        tokio::time::sleep(Duration::from_millis(dice.below(300))).await;
    }
    let table = world.table(actor, false).await?;
    let (expected, found) = (scan(&table, At::Current).await?, replica.rows());
    if expected != found {
        return Err(differ("following with a token", &expected, &found));
    }
    Ok(())
}

async fn live_exactly(
    world: &World,
    actor: u64,
    dice: &SeededIds,
    last: bool,
    replica: &mut Replica,
    token: &mut Option<Token>,
) -> Result<Life> {
    let table = world.table(actor, !last).await?;
    let start = token.clone().map_or(Start::Earliest, Start::At);
    let mut changes = open(&table, start, dice, last).await?;
    let mut batches = if last { u64::MAX } else { dice.below(12) };
    while let Some(batch) = next(&mut changes).await? {
        let Some(batch) = batch else { return Ok(Life::Crashed) };
        let of = |batch: &ChangeBatch| changes_in(table.schema(), batch);
        if batches == 0 {
            // Dies when a part of the batch is in the sink.
            let row = dice.below(batch.kinds.len() as u64) as usize;
            let reached = batch.token_after(row);
            if let Ok(reached) = reached {
                replica.apply(&of(&batch)[..=row])?;
                *token = Some(reached);
            }
            return Ok(Life::Crashed);
        }
        batches -= 1;
        replica.apply(&of(&batch))?;
        *token = Some(batch.end());
    }
    Ok(Life::CaughtUp)
}

/// Stores the position of a stream that has read nothing yet.
pub async fn take_name(world: &World, actor: u64) -> Result<()> {
    let table = world.table(actor, false).await?;
    let positions = PositionStore::location(table.storage().clone(), POSITIONS)?;
    let stream = table.stream().named(format!("f{actor}")).positions(positions);
    stream.start(Start::Earliest).open().await?.close().await
}

/// Stores positions now and then under a name, on the faulty store: at least once.
pub async fn named(world: World, actor: u64, quiet: Rc<Cell<bool>>) -> Result<()> {
    let dice = SeededIds::new(world.seed ^ (actor << 32));
    let (mut seen, mut known): (Vec<Change>, BTreeSet<Change>) = Default::default();
    loop {
        let last = quiet.get();
        let mut came = Vec::new();
        let life = live_named(&world, actor, &dice, last, &mut came).await;
        // What is told again is told in the same words.
        seen.extend(came.into_iter().filter(|change| known.insert(change.clone())));
        world.trace(&format!("n{actor}"), &life);
        match life {
            Ok(Life::CaughtUp) if last => break,
            Ok(_) => {}
            Err(error) => tolerate(Err(error))?,
        }
        tokio::time::sleep(Duration::from_millis(dice.below(300))).await;
    }
    let table = world.table(actor, false).await?;
    let mut replica = Replica::default();
    let past: Vec<i64> = world.chronicle.borrow().iter().map(|past| past.snapshot).collect();
    for snapshot in past {
        replica.apply(seen.iter().filter(|c| c.snapshot == snapshot))?;
    }
    let (expected, found) = (scan(&table, At::Current).await?, replica.rows());
    if expected != found {
        return Err(differ("following with a stored position", &expected, &found));
    }
    Ok(())
}

async fn live_named(
    world: &World,
    actor: u64,
    dice: &SeededIds,
    last: bool,
    came: &mut Vec<Change>,
) -> Result<Life> {
    let table = world.table(actor, !last).await?;
    let positions = PositionStore::location(table.storage().clone(), POSITIONS)?;
    let until = if last { Until::CaughtUp } else { Until::Forever };
    let stream = table.stream().named(format!("f{actor}")).positions(positions).until(until);
    let lanes = 1 + dice.below(8) as usize;
    let mut changes = stream.start(Start::Earliest).lanes(lanes).open().await?;
    let mut batches = if last { u64::MAX } else { dice.below(12) };
    while let Some(Some(batch)) = next(&mut changes).await? {
        came.extend(changes_in(table.schema(), &batch));
        if dice.below(2) == 0 {
            changes.commit(batch.end()).await?;
        }
        if batches == 0 {
            return Ok(Life::Crashed);
        }
        batches -= 1;
    }
    match last {
        true => changes.close().await.map(|()| Life::CaughtUp),
        false => Ok(Life::Crashed),
    }
}
