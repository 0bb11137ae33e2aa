//! Where each group goes on: a token, looked up in a timeline.

use super::timeline::{Timeline, snapshots_after};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::SnapshotId;
use crate::table::{Cursor, Inside, Place, Table, Token};

/// Where a group goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resume {
    /// Steps before this one were delivered.
    pub step: u64,
    /// In that step, everything before this was.
    pub inside: Option<Inside>,
}

/// What a group still wants of a file or unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    From(u64),
}

impl Resume {
    /// What is wanted of a split that begins at `start`.
    ///
    /// # Errors
    /// `InvalidInput` if the token points here but meant another file (TOK-4).
    pub fn wanted(&self, step: u64, start: Cursor, digest: u64) -> Result<Wanted> {
        let all = Ok(Wanted::From(0));
        let inside = match (step.cmp(&self.step), self.inside) {
            (std::cmp::Ordering::Less, _) => return Ok(Wanted::Nothing),
            (std::cmp::Ordering::Greater, _) | (_, None) => return all,
            (_, Some(inside)) => inside,
        };
        if !inside.cursor.same_split(&start) {
            return if start < inside.cursor { Ok(Wanted::Nothing) } else { all };
        }
        if inside.digest != digest {
            return Err(Error::invalid("the token points at another file than it was taken in")
                .with_context("token's digest", format!("{:016x}", inside.digest))
                .with_context("found", format!("{digest:016x}"))
                .with_hint("the table's metadata was replaced: choose a new start"));
        }
        Ok(match inside.cursor.next_row() {
            Cursor::ALL => Wanted::Nothing,
            next => Wanted::From(next),
        })
    }
}

/// The timeline that a token needs, and where on it each group goes on.
///
/// # Errors
/// `PositionExpired`, `HistoryRewritten`; `InvalidInput` for a token that contradicts itself.
pub(super) fn resume(
    table: &Table,
    branch: &str,
    token: &Token,
) -> Result<(Timeline, Vec<Resume>)> {
    let places: Vec<Place> = token.places().map(|(_, place)| place).collect();
    let timeline = match places.iter().find(|place| place.is_full()).and_then(Place::snapshot) {
        Some(id) => {
            // Other groups may stand behind the full phase, on snapshots that were undone since.
            let others = places.iter().filter(|place| !place.is_full());
            for id in others.filter_map(Place::snapshot) {
                snapshots_after(table, branch, Some(id))?;
            }
            Timeline::new(table, branch, Some(id), true)?
        }
        None => Timeline::new(table, branch, lowest(table, branch, &places)?, false)?,
    };
    let resumes = places.iter().map(|place| locate(&timeline, *place)).collect::<Result<_>>()?;
    Ok((timeline, resumes))
}

/// The snapshot after which the group that is furthest back goes on.
fn lowest(table: &Table, branch: &str, places: &[Place]) -> Result<Option<SnapshotId>> {
    let mut lowest: Option<(usize, Option<SnapshotId>)> = None;
    for place in places {
        let after = match place {
            Place::Origin => None,
            Place::After(id) | Place::Full(id, _) => Some(*id),
            Place::Within(id, _) => parent_of(table, branch, *id)?,
        };
        if lowest.is_some_and(|(_, known)| known == after) {
            continue;
        }
        let ahead = snapshots_after(table, branch, after)?.len();
        if lowest.is_none_or(|(most, _)| ahead > most) {
            lowest = Some((ahead, after));
        }
    }
    Ok(lowest.and_then(|(_, after)| after))
}

/// The parent of a snapshot in whose middle a group stopped. Only a snapshot that is still there
/// can be gone on with in its middle.
fn parent_of(table: &Table, branch: &str, id: SnapshotId) -> Result<Option<SnapshotId>> {
    snapshots_after(table, branch, Some(id))?;
    match table.metadata().snapshot_by_id(id.0) {
        Some(snapshot) => Ok(snapshot.parent_snapshot_id().map(SnapshotId)),
        None => Err(Error::new(
            ErrorKind::PositionExpired,
            "the snapshot in whose middle the stream stopped has expired",
        )
        .with_context("snapshot", id)
        .with_context("earliest usable", format!("after:{id}"))
        .with_hint("start with a full read, or after that snapshot if the gap does not matter")),
    }
}

fn locate(timeline: &Timeline, place: Place) -> Result<Resume> {
    let step_of = |id: SnapshotId, is_full: bool| {
        let same = |s: &&std::sync::Arc<super::timeline::Step>| {
            s.id() == id && s.commit.is_full == is_full
        };
        timeline.steps().find(same).map(|s| s.number)
    };
    let lost = || Error::invalid("the token's places do not fit together");
    Ok(match place {
        Place::Origin => Resume { step: 0, inside: None },
        Place::Full(id, inside) => Resume { step: step_of(id, true).ok_or_else(lost)?, inside },
        Place::Within(id, inside) => {
            let step = step_of(id, false).ok_or_else(lost)?;
            Resume { step, inside: Some(inside) }
        }
        // Not on the timeline: it is what the timeline starts after.
        Place::After(id) => match step_of(id, false).or_else(|| step_of(id, true)) {
            Some(done) => Resume { step: done + 1, inside: None },
            None if timeline.begins_full() => return Err(lost()),
            None => Resume { step: 0, inside: None },
        },
    })
}
