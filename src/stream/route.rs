//! The way that leads from the group that is furthest back to all others, and on to the branch.
//!
//! In: a token, whose groups stand on one or several legs: lines of history, with a net difference
//! from each to the next. Out: the [`Route`] on which each place is met once (TOK-12).

use std::collections::{BTreeMap, BTreeSet};

use super::breaks::Breaks;
use super::timeline::{Route, gone_on_the_way, snapshots_after, time_of};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{SnapshotId, SnapshotRef};
use crate::table::{LegStart, NetStep, Place, SnapshotRange, Table, Token};

/// The route of a token's groups.
///
/// # Errors
/// `PositionExpired`, `HistoryRewritten`; `InvalidInput` for a token that contradicts itself.
pub(super) fn route(table: &Table, branch: &str, token: &Token, breaks: Breaks) -> Result<Route> {
    let (lowest, highest) = token.legs();
    let on_leg = |leg: u32| -> Vec<Place> {
        let places = token.places().filter(|(group, _)| token.leg(*group) == Some(leg));
        places.map(|(_, place)| place).collect()
    };
    let places = on_leg(lowest);
    let begun = places.iter().find_map(|place| match place {
        Place::Net(net, Some(_)) => Some(*net),
        _ => None,
    });
    let first = if begun.is_some() { lowest } else { lowest.saturating_add(1) };
    let legs = (first..=highest).map(|leg| token.leg_start(leg).ok_or_else(two_sides));
    let legs = legs.collect::<Result<Vec<LegStart>>>()?;
    let time_ms = token.leg_start(lowest).map(|leg| leg.time_ms);
    let (Some(next), Some(last)) = (legs.first(), legs.last()) else {
        let route = on_branch((table, branch), &places, lowest, breaks)?;
        return Ok(Route { time_ms, ..route });
    };
    check_nets(table, &legs, begun)?;
    let through = furthest(table, &on_leg(highest)).filter(|id| *id != last.net.to);
    let start = match (begun, next.net.from) {
        (Some(net), _) => {
            Route { from: net.from, leg: lowest.saturating_sub(1), ..Route::default() }
        }
        (None, None) => Route { leg: lowest, ..Route::default() },
        (None, Some(from)) => {
            let to_it = |after| {
                let history = table.snapshots_between(SnapshotRange { after, through: from });
                history.map_err(|error| gone_on_the_way(from).with_source(error))
            };
            Route { time_ms, ..start(table, &places, lowest, &to_it)? }
        }
    };
    Ok(Route { legs, through, ..start })
}

/// Net differences can be told, one behind the other, if where they start from is there.
fn check_nets(table: &Table, legs: &[LegStart], begun: Option<NetStep>) -> Result<()> {
    if let Some(id) = begun.and_then(|net| net.from) {
        table.snapshot(id).map_err(|error| half_expired(id).with_source(error))?;
    }
    for id in legs.iter().filter_map(|leg| leg.net.from) {
        table.snapshot(id).map_err(|error| gone_on_the_way(id).with_source(error))?;
    }
    match legs.iter().skip(1).all(|leg| leg.net.from.is_some()) {
        true => Ok(()),
        false => Err(lost()),
    }
}

/// The route of groups on one leg, along the branch; if that has lost a place and the break may be
/// bridged, along the history of old.
fn on_branch(
    (table, branch): (&Table, &str),
    places: &[Place],
    leg: u32,
    breaks: Breaks,
) -> Result<Route> {
    let history = |after| snapshots_after(table, branch, after);
    match start(table, places, leg, &history) {
        Err(broken) if breaks.allows(&broken) => broken_off(table, places, leg, broken),
        route => route,
    }
}

/// The route when the branch has lost a place: all groups first come to the furthest place, along
/// its own history, and the timeline bridges the break from there.
fn broken_off(table: &Table, places: &[Place], leg: u32, broken: Error) -> Result<Route> {
    let Some(through) = furthest(table, places) else {
        // Before the first snapshot there was an empty table.
        let at_origin = places.iter().all(|place| *place == Place::Origin);
        let route = Route { leg, ..Route::default() };
        return if at_origin { Ok(route) } else { Err(broken) };
    };
    let to_it = |after| table.snapshots_between(SnapshotRange { after, through });
    match start(table, places, leg, &to_it) {
        Ok(route) => Ok(Route { through: Some(through), ..route }),
        Err(_) => {
            let error = Error::new(broken.kind(), TWO_SIDES).with_context("table", table.ident());
            let error = error.with_context("furthest", through).with_source(broken);
            Err(error.with_hint(COMMIT_OFTEN))
        }
    }
}

/// Of places on one line of history whose snapshots are there, that of the last one.
fn furthest(table: &Table, places: &[Place]) -> Option<SnapshotId> {
    let named: BTreeSet<SnapshotId> = places.iter().filter_map(Place::snapshot).collect();
    let known = named.into_iter().filter(|id| table.snapshot(*id).is_ok());
    known.reduce(|last, id| if table.is_ancestor(last, id) { id } else { last })
}

/// Where a timeline has to begin so that it holds all places, which lie on one history.
fn start(
    table: &Table,
    places: &[Place],
    leg: u32,
    history: &impl Fn(Option<SnapshotId>) -> Result<Vec<SnapshotRef>>,
) -> Result<Route> {
    let Some(id) = places.iter().find(|place| place.is_full()).and_then(Place::snapshot) else {
        return Ok(Route { from: lowest(table, places, history)?, leg, ..Route::default() });
    };
    // Other groups may stand behind the full phase, on snapshots that were undone since.
    for place in places.iter().filter_map(Place::snapshot) {
        history(Some(place))?;
    }
    Ok(Route { from: Some(id), full: true, leg, ..Route::default() })
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

const TWO_SIDES: &str = "the stream's lanes stand on two sides of a break in history, and what \
                         lies between cannot be told";
const COMMIT_OFTEN: &str =
    "start anew with a full read; commit all lanes often so that they stay close";

fn two_sides() -> Error {
    Error::new(ErrorKind::HistoryRewritten, TWO_SIDES).with_hint(COMMIT_OFTEN)
}

pub(super) fn lost() -> Error {
    Error::invalid("the token's places do not fit together")
        .with_hint("its lanes stand on two sides of a break in history: start anew")
}

/// A token with a leg for each place. Tokens of the first form have none: where a group stands
/// before or behind the one net difference that they name, follows from what its place is, or
/// does not follow (TOK-12).
///
/// # Errors
/// `InvalidInput` for a token that does not tell.
pub(super) fn with_legs(table: &Table, token: &Token) -> Result<Token> {
    let nets: BTreeMap<NetStep, bool> = token.places().fold(BTreeMap::new(), |mut nets, place| {
        if let (group, Place::Net(net, inside)) = place
            && token.leg(group) == Some(0)
        {
            *nets.entry(net).or_default() |= inside.is_some();
        }
        nets
    });
    let mut told = token.clone();
    let Some(net) = last_net(&nets)? else { return Ok(told) };
    let is_begun = nets.get(&net).copied().unwrap_or_default();
    for (group, place) in token.places() {
        let (leg, place) = match place {
            Place::Net(other, inside) if other == net => {
                (1, inside.map_or(Place::After(net.to), |_| place))
            }
            Place::Net(other, _) => (0, Place::After(other.to)),
            place => (u32::from(is_behind(table, place, net, is_begun)?), place),
        };
        told.set_on_leg(group, leg, place);
    }
    let ends = net.from.into_iter().chain([net.to]).filter_map(|id| table.snapshot(id).ok());
    let time_ms = ends.map(|end| time_of(table, &end)).max().unwrap_or(i64::MIN);
    told.add_leg(1, LegStart { net, time_ms });
    Ok(told)
}

/// The net difference that some groups have come to. Groups behind an earlier one, which led to
/// where this one begins, stand before this one.
fn last_net(nets: &BTreeMap<NetStep, bool>) -> Result<Option<NetStep>> {
    let is_last = |net: &&NetStep| {
        let mut others = nets.iter().filter(|(other, _)| other != net);
        others.all(|(o, begun)| !begun && Some(o.to) == net.from && o.from != Some(net.to))
    };
    let mut last = nets.keys().filter(is_last);
    match (last.next(), last.next()) {
        (Some(net), None) => Ok(Some(*net)),
        (None, _) if nets.is_empty() => Ok(None),
        _ => Err(lost()),
    }
}

/// Whether a place that names no net difference lies behind this one. While some group is inside
/// it, no group is further back than where it begins.
fn is_behind(table: &Table, place: Place, net: NetStep, is_begun: bool) -> Result<bool> {
    let Some(id) = place.snapshot().filter(|_| !place.is_full()) else { return Ok(false) };
    let is_at = |to: SnapshotId| id == to || table.is_ancestor(id, to);
    let is_before = net.from.is_some_and(is_at);
    let is_behind = id == net.to || table.is_ancestor(net.to, id);
    match (is_before, is_behind) {
        (true, false) => Ok(false),
        (false, true) => Ok(true),
        (true, true) if is_begun && Some(id) == net.from => Ok(false),
        (true, true) => Err(Error::invalid(
            "the token is of an older version, and does not tell on which side of a net \
             difference some lanes stand",
        )
        .with_context("place", id)
        .with_hint("go on with the version that wrote it, or start anew with a full read")),
        (false, false) => Err(lost()),
    }
}
