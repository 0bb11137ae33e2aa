//! The snapshots that a stream walks over, one step each, with their times.
//!
//! In: a branch and the place to go on from. Out: numbered [`Step`]s, growing as commits are
//! noticed. Here a stream learns that its position expired, or that history was rewritten.

use std::collections::VecDeque;
use std::sync::Arc;

use super::breaks::Breaks;
use crate::error::{Error, ErrorKind, Result};
use crate::scan::Base;
use crate::spec::{MAIN_BRANCH, Operation, SnapshotId, SnapshotRef};
use crate::table::{At, LegStart, NetStep, Place, SnapshotRange, Table};

/// The commit that a batch belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Its sequence number: later commits of a branch have higher ones.
    pub sequence_number: i64,
    /// When it was committed, in milliseconds since the epoch, by the writer's clock.
    pub committed_at_ms: i64,
    /// The latest commit time of this snapshot and all before it: never goes back (STR-4).
    pub time_ms: i64,
    /// How many net differences the stream went over, this one included. A commit on a higher leg
    /// is the later one, whatever the sequence numbers: the branch may have come back to it.
    pub leg: u32,
    /// What kind of commit it was.
    pub operation: Operation,
    /// True for the rows of the whole snapshot, read before the changes that follow it.
    pub is_full: bool,
    /// For a net difference in place of history that broke: between which snapshots.
    pub net: Option<NetStep>,
}

/// One snapshot to deliver: its changes, or first of all its rows, or what tells it from a
/// snapshot that it does not descend from.
#[derive(Debug)]
pub(super) struct Step {
    pub number: u64,
    pub snapshot: SnapshotRef,
    pub commit: Arc<CommitInfo>,
}

/// How a step comes to its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From the parent.
    Changes,
    /// From nothing, as the rows that are there.
    Full,
    /// From any other snapshot, or an empty table.
    Net(Option<SnapshotId>),
}

/// How a timeline comes from a position to the branch.
#[derive(Debug, Clone, Default)]
pub(super) struct Route {
    /// The snapshot that was delivered; `None` before the first one.
    pub from: Option<SnapshotId>,
    /// The leg that it is on.
    pub leg: u32,
    /// The time that the stream came to with that, at least.
    pub time_ms: Option<i64>,
    /// Its rows come first.
    pub full: bool,
    /// Then these legs, each with its net difference, and between them the snapshots from the end
    /// of one to the beginning of the next, whether or not the branch still has them.
    pub legs: Vec<LegStart>,
    /// Then the snapshots up to this one, whether or not the branch still has it.
    pub through: Option<SnapshotId>,
}

impl Step {
    fn new(
        (number, leg): (u64, u32),
        snapshot: &SnapshotRef,
        before_ms: i64,
        way: Way,
    ) -> Arc<Self> {
        let to = SnapshotId(snapshot.snapshot_id());
        let commit = CommitInfo {
            snapshot_id: to,
            sequence_number: snapshot.sequence_number(),
            committed_at_ms: snapshot.timestamp_ms(),
            time_ms: snapshot.timestamp_ms().max(before_ms),
            leg,
            operation: snapshot.summary().operation.clone(),
            is_full: way == Way::Full,
            net: match way {
                Way::Net(from) => Some(NetStep { from, to }),
                _ => None,
            },
        };
        Arc::new(Self { number, snapshot: snapshot.clone(), commit: Arc::new(commit) })
    }

    pub fn id(&self) -> SnapshotId {
        self.commit.snapshot_id
    }

    pub fn leg(&self) -> u32 {
        self.commit.leg
    }

    pub fn time_ms(&self) -> i64 {
        self.commit.time_ms
    }

    /// What its changes are measured from.
    pub fn base(&self) -> Base {
        self.commit.net.map_or(Base::Parent, |net| Base::Snapshot(net.from))
    }
}

/// The steps from a stream's position to the head of its branch.
#[derive(Debug)]
pub(super) struct Timeline {
    branch: String,
    breaks: Breaks,
    /// What the first step comes after.
    pub from: Option<SnapshotId>,
    /// The leg that this is on.
    from_leg: u32,
    /// That of the next commit, if history does not break before it.
    leg: u32,
    steps: VecDeque<Arc<Step>>,
    /// The number of the next step.
    end: u64,
    /// The last snapshot known; `None` before the branch's first one.
    last: Option<SnapshotId>,
    last_time_ms: i64,
}

impl Timeline {
    /// The steps of a route, and behind it those to the head of the branch.
    ///
    /// # Errors
    /// As [`Timeline::extend`].
    pub fn new(table: &Table, branch: &str, route: Route, breaks: Breaks) -> Result<Self> {
        let Route { from, leg, time_ms, full, legs, through } = route;
        let before = from.and_then(|id| table.metadata().snapshot_by_id(id.0));
        let last_time_ms = before.map(|snapshot| time_of(table, snapshot)).max(time_ms);
        let mut timeline = Self {
            branch: branch.to_string(),
            breaks,
            from,
            from_leg: leg,
            leg,
            steps: VecDeque::new(),
            end: 0,
            last: from,
            last_time_ms: last_time_ms.unwrap_or(i64::MIN),
        };
        if let Some(id) = from.filter(|_| full) {
            let Some(snapshot) = before else { return Err(expired(table, branch, id)) };
            timeline.push(snapshot, Way::Full);
        }
        for LegStart { net: NetStep { from, to }, time_ms } in legs {
            timeline.push_through(table, from)?;
            let to = table.snapshot(to).map_err(|e| expired(table, branch, to).with_source(e))?;
            timeline.last_time_ms = timeline.last_time_ms.max(time_ms);
            timeline.push_net(table, &to);
        }
        timeline.push_through(table, through)?;
        timeline.extend(table)?;
        Ok(timeline)
    }

    /// Takes in what was committed since; true if there was anything.
    ///
    /// # Errors
    /// `PositionExpired`, `HistoryRewritten`.
    ///
    /// Where history breaks behind what is known, a net difference bridges the break if the
    /// stream asked for that: from the last snapshot known, so that all lanes come to one point
    /// before it.
    pub fn extend(&mut self, table: &Table) -> Result<bool> {
        let mut added = snapshots_after(table, &self.branch, self.last);
        let bridged = added.is_err();
        if let Err(broken) = added {
            let to = self.breaks.target(table, &self.branch, self.last, broken)?;
            self.push_net(table, &to);
            added = snapshots_after(table, &self.branch, self.last);
        }
        let added = added?;
        for snapshot in &added {
            self.push(snapshot, Way::Changes);
        }
        Ok(bridged || !added.is_empty())
    }

    /// The snapshots from the last one known to a descendant of it.
    fn push_through(&mut self, table: &Table, to: Option<SnapshotId>) -> Result<()> {
        let Some(through) = to else { return Ok(()) };
        let between = table.snapshots_between(SnapshotRange { after: self.last, through });
        for snapshot in between.map_err(|e| gone_on_the_way(through).with_source(e))? {
            self.push(&snapshot, Way::Changes);
        }
        Ok(())
    }

    /// Begins a leg.
    fn push_net(&mut self, table: &Table, to: &SnapshotRef) {
        self.leg += 1;
        self.last_time_ms = self.last_time_ms.max(time_of(table, to));
        self.push(to, Way::Net(self.last));
    }

    fn push(&mut self, snapshot: &SnapshotRef, way: Way) {
        let step = Step::new((self.end, self.leg), snapshot, self.last_time_ms, way);
        self.end += 1;
        self.last = Some(step.id());
        self.last_time_ms = step.time_ms();
        self.steps.push_back(step);
    }

    pub fn breaks(&self) -> Breaks {
        self.breaks
    }

    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// The number of the step that the next commit will be.
    pub fn end(&self) -> u64 {
        self.end
    }

    fn first(&self) -> u64 {
        self.end - self.steps.len() as u64
    }

    pub fn get(&self, number: u64) -> Option<&Arc<Step>> {
        let at = number.checked_sub(self.first())?;
        self.steps.get(usize::try_from(at).ok()?)
    }

    /// The snapshot before a step, as long as no step was let go of.
    pub fn before(&self, number: u64) -> Option<SnapshotId> {
        match number.checked_sub(1) {
            Some(number) => self.get(number).map(|step| step.id()),
            None => self.from,
        }
    }

    pub fn steps(&self) -> impl Iterator<Item = &Arc<Step>> {
        self.steps.iter()
    }

    /// True for the place that the first step comes after.
    pub fn begins_after(&self, leg: u32, id: Option<SnapshotId>) -> bool {
        self.from == id && self.from_leg == leg && !self.begins_full()
    }

    /// True when the rows of a whole snapshot come first.
    pub fn begins_full(&self) -> bool {
        self.steps.front().is_some_and(|step| step.commit.is_full)
    }

    /// Lets go of steps that nobody will ask for again.
    pub fn forget_before(&mut self, number: u64) {
        while self.steps.front().is_some_and(|step| step.number < number) {
            self.steps.pop_front();
        }
    }
}

/// The latest commit time of a snapshot and its ancestors (STR-4).
pub(super) fn time_of(table: &Table, snapshot: &SnapshotRef) -> i64 {
    let ancestors = table.ancestors(SnapshotId(snapshot.snapshot_id()));
    ancestors.map(|s| s.timestamp_ms()).max().unwrap_or_else(|| snapshot.timestamp_ms())
}

/// The head of a branch; `None` before its first commit.
pub(super) fn head_of(table: &Table, branch: &str) -> Result<Option<SnapshotRef>> {
    let known = table.metadata().snapshot_for_ref(branch).is_some() || branch == MAIN_BRANCH;
    if !known {
        return Err(Error::new(ErrorKind::NotFound, "the table has no such branch")
            .with_context("table", table.ident())
            .with_context("branch", branch)
            .with_hint(format!("`meltwater inspect refs {}` lists them", table.ident())));
    }
    table.snapshot_at(&At::Ref(branch.to_string()))
}

/// The snapshots of a branch after `from`, oldest first (STR-5).
///
/// # Errors
/// `PositionExpired` if the snapshots between are gone, `HistoryRewritten` if the branch does
/// not contain `from` any more.
pub(super) fn snapshots_after(
    table: &Table,
    branch: &str,
    from: Option<SnapshotId>,
) -> Result<Vec<SnapshotRef>> {
    let Some(head) = head_of(table, branch)? else {
        return match from {
            None => Ok(Vec::new()),
            Some(id) => Err(rewritten(table, branch, id)),
        };
    };
    let mut found = Vec::new();
    for snapshot in table.ancestors(SnapshotId(head.snapshot_id())) {
        if Some(SnapshotId(snapshot.snapshot_id())) == from {
            found.reverse();
            return Ok(found);
        }
        found.push(snapshot.clone());
    }
    // A snapshot that expired is still a place to go on from while its child is there.
    let missing = found.last().and_then(|s| s.parent_snapshot_id()).map(SnapshotId);
    if missing == from {
        found.reverse();
        return Ok(found);
    }
    match (from, missing) {
        // The history is whole and does not hold the position.
        (Some(id), None) => Err(rewritten(table, branch, id)),
        // What is left of the history is older than the position, and does not hold it.
        (Some(id), Some(_)) if is_younger(table, id, found.last()) => {
            Err(rewritten(table, branch, id))
        }
        (Some(id), Some(_)) => Err(expired(table, branch, id)),
        (None, _) => Err(expired_origin(table, branch)),
    }
}

fn is_younger(table: &Table, id: SnapshotId, oldest: Option<&SnapshotRef>) -> bool {
    let known = table.metadata().snapshot_by_id(id.0);
    known.zip(oldest).is_some_and(|(known, o)| known.sequence_number() >= o.sequence_number())
}

/// The earliest place that a stream of this branch can start after.
pub(super) fn earliest_usable(table: &Table, branch: &str) -> Option<Place> {
    let head = head_of(table, branch).ok()??;
    let oldest = table.ancestors(SnapshotId(head.snapshot_id())).last()?;
    Some(oldest.parent_snapshot_id().map_or(Place::Origin, |id| Place::After(SnapshotId(id))))
}

fn rewritten(table: &Table, branch: &str, from: SnapshotId) -> Error {
    let error = Error::new(
        ErrorKind::HistoryRewritten,
        "the branch no longer contains the stream's position",
    )
    .with_context("table", table.ident())
    .with_context("branch", branch)
    .with_context("position", from);
    match table.metadata().snapshot_by_id(from.0) {
        Some(_) => error.with_hint(
            "the branch was rolled back or replaced: rows delivered since may not be in the table; \
             on_rollback `net` goes on with the net difference to the new head, a full read starts \
             anew",
        ),
        None => error.with_hint(
            "the branch was rolled back or replaced: rows delivered since may not be in the table; \
             start anew, for example with a full read",
        ),
    }
}

fn expired(table: &Table, branch: &str, from: SnapshotId) -> Error {
    let error = gone(table, branch, &format!("snapshot {from}"));
    match table.metadata().snapshot_by_id(from.0) {
        Some(_) => error.with_hint(
            "the position itself is still there: on_gap `net` goes on with the net difference to \
             the oldest snapshot of the branch; a full read starts anew",
        ),
        None => error,
    }
}

/// What some groups still have to go over, to where others stand, is gone.
pub(super) fn gone_on_the_way(id: SnapshotId) -> Error {
    Error::new(
        ErrorKind::PositionExpired,
        "a snapshot expired that lies between the stream's lanes: what the last one still has to \
         go over cannot be told",
    )
    .with_context("snapshot", id)
    .with_hint("start anew with a full read; commit all lanes often so that they stay close")
}

fn expired_origin(table: &Table, branch: &str) -> Error {
    gone(table, branch, "the branch's beginning")
}

fn gone(table: &Table, branch: &str, from: &str) -> Error {
    let error =
        Error::new(ErrorKind::PositionExpired, format!("the history after {from} has expired"))
            .with_context("table", table.ident())
            .with_context("branch", branch);
    let error = match earliest_usable(table, branch) {
        Some(Place::After(id)) => error.with_context("earliest usable", format!("after:{id}")),
        _ => error,
    };
    error.with_hint(
        "start with a full read, or at the earliest usable position if the gap does not matter; \
         `expire` with the positions folder keeps what named streams still need",
    )
}
