//! Where each group goes on: a token, looked up in a timeline.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use super::breaks::Breaks;
use super::timeline::{Route, Timeline, snapshots_after};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{SnapshotId, SnapshotRef};
use crate::table::{Cursor, Inside, NetStep, Place, Run, SnapshotRange, Table, Token};

/// Whatever a file or unit holds.
pub(super) const ALL_ROWS: Range<u64> = 0..Cursor::ALL;

/// Where a group goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resume {
    /// Steps before this one were delivered.
    pub step: u64,
    /// In that step, everything before this was.
    pub inside: Option<Inside>,
    /// In that step, this was too (TOK-10).
    pub ahead: Vec<Run>,
}

impl Resume {
    fn at(step: u64, inside: Option<Inside>) -> Self {
        Self { step, inside, ahead: Vec::new() }
    }

    /// What the token points at, if that is the split which begins at `start`.
    pub fn digest_of(&self, step: u64, start: Cursor) -> Option<u64> {
        let inside = self.inside.filter(|inside| inside.cursor.same_split(&start))?;
        (step == self.step).then_some(inside.digest)
    }

    /// The rows that are wanted of a split that begins at `start`, ascending.
    ///
    /// # Errors
    /// `InvalidInput` if the token points here but meant another file (TOK-4).
    pub fn wanted(&self, step: u64, start: Cursor, digest: u64) -> Result<Vec<Range<u64>>> {
        match step.cmp(&self.step) {
            Ordering::Less => return Ok(Vec::new()),
            Ordering::Greater => return Ok(vec![ALL_ROWS]),
            Ordering::Equal => {}
        }
        let (mut wanted, mut next) = (Vec::new(), 0);
        if let Some(inside) = &self.inside {
            next = rows_before(inside, start, digest)?;
        }
        for run in &self.ahead {
            let to = rows_before(&run.to, start, digest)?;
            let from = match run.from.same_split(&start) {
                true => run.from.next_row(),
                false if run.from < start => 0,
                false => Cursor::ALL,
            };
            if from < to {
                wanted.push(next..from);
                next = next.max(to);
            }
        }
        wanted.push(next..Cursor::ALL);
        wanted.retain(|rows| !rows.is_empty());
        Ok(wanted)
    }
}

/// How many rows of a split that begins at `start` lie before a point: none, all, or some.
fn rows_before(point: &Inside, start: Cursor, digest: u64) -> Result<u64> {
    let is_file = |cursor: &Cursor| matches!(cursor, Cursor::File { .. });
    // A file where a unit was is another one.
    if is_file(&point.cursor) == is_file(&start) && !point.cursor.same_split(&start) {
        return Ok(if start < point.cursor { Cursor::ALL } else { 0 });
    }
    if point.digest != digest {
        return Err(Error::invalid("the token points at another file than it was taken in")
            .with_context("token's digest", format!("{:016x}", point.digest))
            .with_context("found", format!("{digest:016x}"))
            .with_hint("the table's metadata was replaced: choose a new start"));
    }
    Ok(point.cursor.next_row())
}

/// The timeline that a token needs, and where on it each group goes on.
///
/// # Errors
/// `PositionExpired`, `HistoryRewritten`; `InvalidInput` for a token that contradicts itself.
pub(super) fn resume(
    table: &Table,
    branch: &str,
    token: &Token,
    breaks: Breaks,
) -> Result<(Timeline, Vec<Resume>)> {
    let mut places: Vec<Place> = token.places().map(|(_, place)| place).collect();
    let net = last_net(&mut places)?;
    let route = match begun_net(table, &places, net)? {
        Some(route) => route,
        None => {
            places.iter_mut().for_each(behind_net);
            let on_branch = |after| snapshots_after(table, branch, after);
            match route(table, &places, &on_branch) {
                Err(broken) if breaks.allows(&broken) => broken_off(table, &places, broken)?,
                route => route?,
            }
        }
    };
    let timeline = Timeline::new(table, branch, route, breaks)?;
    let groups = token.places().map(|(group, _)| group);
    let located = places.iter().zip(groups).map(|(place, group)| {
        let ahead = token.ahead(group).to_vec();
        Ok(Resume { ahead, ..locate(&timeline, *place)? })
    });
    let resumes = located.collect::<Result<_>>()?;
    Ok((timeline, resumes))
}

/// A group behind the whole of a net difference stands after the snapshot it led to.
fn behind_net(place: &mut Place) {
    if let Place::Net(net, None) = place {
        *place = Place::After(net.to);
    }
}

/// The net difference that some groups have come to. Groups behind an earlier one, which led to
/// where this one begins, stand before this one.
fn last_net(places: &mut [Place]) -> Result<Option<NetStep>> {
    let nets: BTreeMap<NetStep, bool> = places.iter().fold(BTreeMap::new(), |mut nets, place| {
        if let Place::Net(net, inside) = place {
            *nets.entry(*net).or_default() |= inside.is_some();
        }
        nets
    });
    let leads_to = |to: &NetStep| {
        let mut others = nets.iter().filter(|(net, _)| *net != to);
        others.all(|(net, begun)| !begun && Some(net.to) == to.from)
    };
    let mut last = nets.keys().filter(|net| leads_to(net));
    let net = match (last.next(), last.next()) {
        (None, _) if nets.is_empty() => return Ok(None),
        (Some(net), None) => *net,
        _ => return Err(lost()),
    };
    for place in places {
        if matches!(place, Place::Net(other, _) if *other != net) {
            behind_net(place);
        }
    }
    Ok(Some(net))
}

/// The route through a net difference that not all groups are past: first those snapshots before
/// it that some group has not taken in yet, which the branch may have lost since.
fn begun_net(table: &Table, places: &[Place], net: Option<NetStep>) -> Result<Option<Route>> {
    let Some(net) = net else { return Ok(None) };
    let is_begun = places.iter().any(|place| matches!(place, Place::Net(_, Some(_))));
    let Some(from) = net.from else {
        let is_begun = is_begun || places.contains(&Place::Origin);
        let beyond = beyond(table, places, net);
        let route = Route { net_to: Some(net.to), beyond, ..Route::default() };
        return Ok(is_begun.then_some(route));
    };
    let is_before = |place: &&Place| {
        !matches!(place, Place::Net(..))
            && place.snapshot().is_none_or(|id| table.is_ancestor(id, from))
    };
    let before: Vec<Place> = places.iter().filter(is_before).copied().collect();
    if before.is_empty() && !is_begun {
        return Ok(None);
    }
    table.snapshot(from).map_err(|error| half_expired(from).with_source(error))?;
    let to_it = |after| table.snapshots_between(SnapshotRange { after, through: from });
    let route = match before.is_empty() {
        true => Route { from: Some(from), ..Route::default() },
        false => route(table, &before, &to_it)?,
    };
    let beyond = beyond(table, places, net);
    Ok(Some(Route { tip: Some(from), net_to: Some(net.to), beyond, ..route }))
}

/// The furthest place that is reached through a net difference: groups for which nothing lies
/// behind it pass on before the others are through, and the branch may have moved again since.
fn beyond(table: &Table, places: &[Place], net: NetStep) -> Option<SnapshotId> {
    let is_before = |id: SnapshotId| net.from.is_some_and(|from| table.is_ancestor(id, from));
    let is_beyond =
        |id: &SnapshotId| *id != net.to && table.is_ancestor(net.to, *id) && !is_before(*id);
    let found = places.iter().filter_map(Place::snapshot).filter(is_beyond);
    found.max_by_key(|id| table.metadata().snapshot_by_id(id.0).map(|s| s.sequence_number()))
}

/// The route when the branch has lost a place: all groups first come to the furthest place, along
/// its own history, and the timeline bridges the break from there.
fn broken_off(table: &Table, places: &[Place], broken: Error) -> Result<Route> {
    let known = |place: &Place| table.metadata().snapshot_by_id(place.snapshot()?.0);
    let Some(tip) = places.iter().filter_map(known).max_by_key(|s| s.sequence_number()) else {
        // Before the first snapshot there was an empty table.
        let at_origin = places.iter().all(|place| *place == Place::Origin);
        return if at_origin { Ok(Route::default()) } else { Err(broken) };
    };
    let through = SnapshotId(tip.snapshot_id());
    let to_tip = |after| table.snapshots_between(SnapshotRange { after, through });
    match route(table, places, &to_tip) {
        Ok(route) => Ok(Route { tip: Some(through), ..route }),
        Err(_) => Err(Error::new(
            broken.kind(),
            "the stream's lanes stand on two sides of a break in history, and what lies between \
             cannot be told",
        )
        .with_context("table", table.ident())
        .with_context("furthest", through)
        .with_source(broken)
        .with_hint("start anew with a full read; commit all lanes often so that they stay close")),
    }
}

/// Where a timeline has to begin so that it holds all places, which lie on one history.
fn route(
    table: &Table,
    places: &[Place],
    history: &impl Fn(Option<SnapshotId>) -> Result<Vec<SnapshotRef>>,
) -> Result<Route> {
    let Some(id) = places.iter().find(|place| place.is_full()).and_then(Place::snapshot) else {
        return Ok(Route { from: lowest(table, places, history)?, ..Route::default() });
    };
    // Other groups may stand behind the full phase, on snapshots that were undone since.
    for place in places.iter().filter_map(Place::snapshot) {
        history(Some(place))?;
    }
    Ok(Route { from: Some(id), full: true, ..Route::default() })
}

/// The snapshot after which the group that is furthest back goes on.
fn lowest(
    table: &Table,
    places: &[Place],
    history: &impl Fn(Option<SnapshotId>) -> Result<Vec<SnapshotRef>>,
) -> Result<Option<SnapshotId>> {
    let mut lowest: Option<(usize, Option<SnapshotId>)> = None;
    for place in places {
        let after = match place {
            Place::Origin => None,
            Place::After(id) | Place::Full(id, _) => Some(*id),
            Place::Net(net, _) => Some(net.to),
            Place::Within(id, _) => {
                history(Some(*id))?;
                parent_of(table, *id)?
            }
        };
        if lowest.is_some_and(|(_, known)| known == after) {
            continue;
        }
        let ahead = history(after)?.len();
        if lowest.is_none_or(|(most, _)| ahead > most) {
            lowest = Some((ahead, after));
        }
    }
    Ok(lowest.and_then(|(_, after)| after))
}

/// The parent of a snapshot in whose middle a group stopped. Only a snapshot that is still there
/// can be gone on with in its middle.
fn parent_of(table: &Table, id: SnapshotId) -> Result<Option<SnapshotId>> {
    match table.metadata().snapshot_by_id(id.0) {
        Some(snapshot) => Ok(snapshot.parent_snapshot_id().map(SnapshotId)),
        None => Err(half_expired(id)),
    }
}

fn half_expired(id: SnapshotId) -> Error {
    Error::new(
        ErrorKind::PositionExpired,
        "the snapshot in whose middle the stream stopped has expired",
    )
    .with_context("snapshot", id)
    .with_context("earliest usable", format!("after:{id}"))
    .with_hint("start with a full read, or after that snapshot if the gap does not matter")
}

fn lost() -> Error {
    Error::invalid("the token's places do not fit together")
        .with_hint("its lanes stand on two sides of a break in history: start anew")
}

/// A place that a timeline has twice, which only a branch that went back and forth again can
/// bring about, is not guessed.
fn locate(timeline: &Timeline, place: Place) -> Result<Resume> {
    let steps = |id: SnapshotId, is_full: bool, net: Option<NetStep>| {
        let same = move |s: &&std::sync::Arc<super::timeline::Step>| {
            s.id() == id && s.commit.is_full == is_full && s.commit.net == net
        };
        timeline.steps().filter(same).map(|s| s.number).collect::<Vec<u64>>()
    };
    let only = |found: Vec<u64>| match found.as_slice() {
        [one] => Ok(*one),
        _ => Err(lost()),
    };
    Ok(match place {
        Place::Origin => Resume::at(0, None),
        Place::Full(id, inside) => Resume::at(only(steps(id, true, None))?, inside),
        Place::Within(id, inside) => Resume::at(only(steps(id, false, None))?, Some(inside)),
        Place::Net(net, inside) => {
            let step = only(steps(net.to, false, Some(net)))?;
            Resume::at(step + u64::from(inside.is_none()), inside)
        }
        // Not on the timeline: it is what the timeline starts after.
        Place::After(id) => {
            let mut behind = steps(id, false, None);
            behind.extend(steps(id, true, None));
            let mut found: Vec<u64> = behind.into_iter().map(|step| step + 1).collect();
            if timeline.from == Some(id) && !timeline.begins_full() {
                found.push(0);
            }
            Resume::at(only(found)?, None)
        }
    })
}
