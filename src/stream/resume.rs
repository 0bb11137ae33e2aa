//! Where each group goes on: a token, looked up in a timeline.

use std::cmp::Ordering;
use std::ops::Range;

use super::breaks::Breaks;
use super::route::{lost, route, with_legs};
use super::timeline::{CommitInfo, Timeline};
use crate::error::{Error, Result};
use crate::table::{Cursor, Inside, NetStep, Place, Run, Table, Token};

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

/// A timeline, and where on it each group goes on.
pub(super) struct Resumed {
    pub timeline: Timeline,
    /// By group.
    pub resumes: Vec<Resume>,
    /// The token, with a leg for each place.
    pub token: Token,
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
) -> Result<Resumed> {
    let token = with_legs(table, token)?;
    let timeline = Timeline::new(table, branch, route(table, branch, &token, breaks)?, breaks)?;
    let located = token.places().map(|(group, place)| {
        let leg = token.leg(group).unwrap_or(0);
        let ahead = token.ahead(group).to_vec();
        Ok(Resume { ahead, ..locate(&timeline, leg, place)? })
    });
    let resumes = located.collect::<Result<_>>()?;
    Ok(Resumed { timeline, resumes, token })
}

/// On one leg a snapshot is met once, so that a place is found once or does not fit (TOK-12).
fn locate(timeline: &Timeline, leg: u32, place: Place) -> Result<Resume> {
    let step = |is_it: &dyn Fn(&CommitInfo) -> bool| {
        let mut found = timeline.steps().filter(|step| step.leg() == leg && is_it(&step.commit));
        match (found.next(), found.next()) {
            (Some(step), None) => Ok(step.number),
            _ => Err(lost()),
        }
    };
    Ok(match place {
        Place::Origin if timeline.begins_after(leg, None) => Resume::at(0, None),
        Place::Origin => return Err(lost()),
        Place::Full(id, inside) => {
            Resume::at(step(&|commit| commit.is_full && commit.snapshot_id == id)?, inside)
        }
        Place::Within(id, inside) => {
            let is_it = |commit: &CommitInfo| {
                commit.snapshot_id == id && !commit.is_full && commit.net.is_none()
            };
            Resume::at(step(&is_it)?, Some(inside))
        }
        Place::Net(net, Some(inside)) => {
            Resume::at(step(&|commit| commit.net == Some(net))?, Some(inside))
        }
        // Not on the timeline: it is what the timeline starts after.
        Place::After(id) if timeline.begins_after(leg, Some(id)) => Resume::at(0, None),
        Place::After(id) | Place::Net(NetStep { to: id, .. }, None) => {
            Resume::at(step(&|commit| commit.snapshot_id == id)? + 1, None)
        }
    })
}
