//! Where a stream stands: a small value that can be printed, stored, sent and read back.
//!
//! A [`Token`] holds one [`Place`] per group of partitions. Groups are fixed when a stream is
//! first opened, lanes are not: any number of lanes can go on from any token. Rules:
//! `format-spec/stream.md`.

mod text;

pub(super) use text::checksum;

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Table;
use crate::error::{Error, Result};
use crate::spec::{SnapshotId, SnapshotRef};

/// The largest number of groups; a token's coverage is one word.
pub const MAX_GROUPS: u8 = 64;

/// The meaning of ordinals in tokens. It changes when planning numbers things differently, and
/// tokens of another version are refused (TOK-3).
pub const PLANNER_VERSION: u32 = 1;

/// A point inside a snapshot: everything before it was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cursor {
    /// In a data file: the manifest's place in the unpruned manifest list, the entry's place in
    /// the manifest, and the first physical row that is still to come.
    File {
        /// Place of the manifest.
        manifest: u32,
        /// Place of the entry.
        entry: u32,
        /// The next row; [`Cursor::ALL`] when the whole file is done.
        row: u64,
    },
    /// In a change unit.
    Unit {
        /// Place of the unit in the snapshot.
        unit: u32,
        /// The next row of the unit; [`Cursor::ALL`] when the whole unit is done.
        ordinal: u64,
    },
}

impl Cursor {
    /// The next row of what is done.
    pub const ALL: u64 = u64::MAX;

    /// The first row of the file or unit that is still to come.
    pub fn next_row(&self) -> u64 {
        match self {
            Self::File { row, .. } => *row,
            Self::Unit { ordinal, .. } => *ordinal,
        }
    }

    /// The same file or unit, with another row to come.
    pub fn at_row(self, next: u64) -> Self {
        match self {
            Self::File { manifest, entry, .. } => Self::File { manifest, entry, row: next },
            Self::Unit { unit, .. } => Self::Unit { unit, ordinal: next },
        }
    }

    /// True when both point into the same file or unit.
    pub fn same_split(&self, other: &Self) -> bool {
        self.at_row(0) == other.at_row(0)
    }
}

/// A cursor and the digest of the file or unit it points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inside {
    /// The point.
    pub cursor: Cursor,
    /// A hash of what the cursor points at, so that a mistake is noticed.
    pub digest: u64,
}

/// Rows of a whole snapshot that were delivered before others that come before them (TOK-10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// The first row of the run.
    pub from: Cursor,
    /// The first row after it.
    pub to: Inside,
}

/// A net difference that a stream emits in place of history that broke (CHG-10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetStep {
    /// Where it starts from; `None` for an empty table.
    pub from: Option<SnapshotId>,
    /// The snapshot it leads to.
    pub to: SnapshotId,
}

/// How far one group of partitions was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Before the branch's first snapshot.
    Origin,
    /// In the rows of one whole snapshot, the full phase; `None` before the first row.
    Full(SnapshotId, Option<Inside>),
    /// Everything up to and including this snapshot's changes.
    After(SnapshotId),
    /// In the changes of this snapshot.
    Within(SnapshotId, Inside),
    /// In a net difference (TOK-9). `None` when all of it was delivered, and nothing after it: only
    /// in tokens of the first form, which know no legs.
    Net(NetStep, Option<Inside>),
}

impl Place {
    /// The snapshot that the place names.
    pub fn snapshot(&self) -> Option<SnapshotId> {
        match self {
            Self::Origin => None,
            Self::Full(id, _) | Self::After(id) | Self::Within(id, _) => Some(*id),
            Self::Net(net, _) => Some(net.to),
        }
    }

    fn move_inside(&mut self, to: Inside) {
        match self {
            Self::Full(_, inside) | Self::Net(_, inside) => *inside = Some(to),
            Self::Within(_, inside) => *inside = to,
            Self::Origin | Self::After(_) => {}
        }
    }

    /// True for places in the rows of one whole snapshot.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(..))
    }
}

/// A place, and the leg of the stream's way that it is on: how many net differences the stream
/// went over before. On one leg history is one line, and each snapshot is met once (TOK-12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stand {
    leg: u32,
    place: Place,
}

/// How a leg begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LegStart {
    /// The net difference that leads to it.
    pub net: NetStep,
    /// The time that the stream has come to with it, which goes back no more (STR-4).
    pub time_ms: i64,
}

/// Net differences that a token remembers although its own groups are past them: another lane's
/// token, with which it is merged, may be as far behind.
const LEGS_KEPT: u32 = 8;

/// All it takes to resume a stream of one table.
///
/// `Display` gives one word of plain ASCII, `FromStr` reads it back. It names table, promise
/// (fingerprint) and places, and lists no files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    table: Uuid,
    fingerprint: u64,
    /// One per group; `None` where another token covers the group.
    places: Vec<Option<Stand>>,
    /// How the legs of the groups begin, but for the first one.
    legs: BTreeMap<u32, LegStart>,
    /// By group in the full phase, ascending: what was delivered behind its place.
    ahead: BTreeMap<u8, Vec<Run>>,
}

impl Token {
    /// A token that covers all of `groups` (1 to [`MAX_GROUPS`]) at one place.
    pub fn new(table: Uuid, fingerprint: u64, groups: u8, place: Place) -> Self {
        let places = vec![Some(Stand { leg: 0, place }); usize::from(groups.clamp(1, MAX_GROUPS))];
        Self { table, fingerprint, places, legs: BTreeMap::new(), ahead: BTreeMap::new() }
    }

    /// Same token, covering only the groups for which `keep` is true.
    pub fn covering(mut self, keep: impl Fn(u8) -> bool) -> Self {
        for (group, place) in (0u8..).zip(&mut self.places) {
            if !keep(group) {
                *place = None;
            }
        }
        let places = &self.places;
        let is_kept = |group: u8| matches!(places.get(usize::from(group)), Some(Some(_)));
        self.ahead.retain(|group, _| is_kept(*group));
        // What only other groups have come to may not be come to again.
        let highest = self.legs().1;
        self.legs.retain(|leg, _| *leg <= highest);
        self
    }

    /// Same token with a group somewhere else. Groups that are not there are left out.
    pub fn with(mut self, group: u8, place: Place) -> Self {
        self.set(group, place);
        self
    }

    /// Moves a group on its leg.
    pub fn set(&mut self, group: u8, place: Place) {
        self.set_with_ahead(group, place, Vec::new());
    }

    /// Moves a group to a place on a leg.
    pub(crate) fn set_on_leg(&mut self, group: u8, leg: u32, place: Place) {
        self.put(group, Stand { leg, place }, Vec::new());
    }

    /// Moves a group, of whose rows some behind its place were delivered too.
    pub(crate) fn set_with_ahead(&mut self, group: u8, place: Place, ahead: Vec<Run>) {
        let leg = self.leg(group).unwrap_or(0);
        self.put(group, Stand { leg, place }, ahead);
    }

    fn put(&mut self, group: u8, stand: Stand, ahead: Vec<Run>) {
        let Some(slot) = self.places.get_mut(usize::from(group)) else { return };
        *slot = Some(stand);
        self.ahead.remove(&group);
        if !ahead.is_empty() {
            self.ahead.insert(group, ahead);
        }
    }

    /// What was delivered of a group behind its place, ascending: only in the rows of a whole
    /// snapshot, which are read side by side.
    pub fn ahead(&self, group: u8) -> &[Run] {
        self.ahead.get(&group).map_or(&[], Vec::as_slice)
    }

    /// Same token with a point, up to which a group was delivered, moved back inside its file.
    pub(crate) fn moved_back(mut self, group: u8, from: Inside, to: Inside) -> Self {
        let run = self.ahead.get_mut(&group).and_then(|a| a.iter_mut().find(|r| r.to == from));
        match (run, self.places.get_mut(usize::from(group))) {
            (Some(run), _) => run.to = to,
            (None, Some(Some(stand))) => stand.place.move_inside(to),
            (None, _) => {}
        }
        self
    }

    /// Where a group stands; `None` if this token does not cover it.
    pub fn place(&self, group: u8) -> Option<Place> {
        self.stand(group).map(|stand| stand.place)
    }

    /// The leg of the stream's way that a group is on: how many net differences it went over, the
    /// one that it is in included. `None` if this token does not cover it.
    pub fn leg(&self, group: u8) -> Option<u32> {
        self.stand(group).map(|stand| stand.leg)
    }

    fn stand(&self, group: u8) -> Option<Stand> {
        self.places.get(usize::from(group)).copied().flatten()
    }

    /// The groups this token covers, with their places.
    pub fn places(&self) -> impl Iterator<Item = (u8, Place)> + '_ {
        (0u8..).zip(&self.places).filter_map(|(group, stand)| Some((group, stand.as_ref()?.place)))
    }

    /// The net difference that leads to a leg, as far as the token has to tell it.
    pub fn net(&self, leg: u32) -> Option<NetStep> {
        self.leg_start(leg).map(|start| start.net)
    }

    pub(crate) fn leg_start(&self, leg: u32) -> Option<LegStart> {
        self.legs.get(&leg).copied()
    }

    /// The legs of the groups that are furthest back and furthest ahead.
    pub(crate) fn legs(&self) -> (u32, u32) {
        let legs = || self.places.iter().flatten().map(|stand| stand.leg);
        (legs().min().unwrap_or(0), legs().max().unwrap_or(0))
    }

    /// Notes how a leg begins.
    pub(crate) fn add_leg(&mut self, leg: u32, start: LegStart) {
        let first = self.legs().0.min(leg.saturating_sub(LEGS_KEPT));
        self.legs.retain(|known, _| *known >= first);
        self.legs.insert(leg, start);
    }

    /// Same token without the legs that all of its groups are past. What another token may need is
    /// let go of: for tokens that cover all groups.
    pub(crate) fn trimmed(mut self) -> Self {
        let lowest = self.legs().0;
        self.legs.retain(|leg, _| *leg >= lowest);
        self
    }

    /// The number of groups that the stream has.
    pub fn groups(&self) -> u8 {
        u8::try_from(self.places.len()).unwrap_or(MAX_GROUPS)
    }

    /// True when no group is missing, so that a stream can start here.
    pub fn is_complete(&self) -> bool {
        self.places.iter().all(Option::is_some)
    }

    /// True while some group is still in the rows of one whole snapshot.
    pub fn is_full_phase(&self) -> bool {
        self.places().any(|(_, place)| place.is_full())
    }

    /// The table's uuid.
    pub fn table_uuid(&self) -> Uuid {
        self.table
    }

    /// What the stream promised: emission, key, order, filter, groups.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Puts two tokens of one stream together, such as those of its lanes. Where both cover a
    /// group, `newer` counts (TOK-5).
    ///
    /// # Errors
    /// `InvalidInput` if they belong to different tables or promises, or went different ways over
    /// breaks in history.
    pub fn merge(&self, newer: &Self) -> Result<Self> {
        self.check_table(newer.table)?;
        self.check_promise(newer.fingerprint, newer.groups())?;
        if newer.is_complete() {
            return Ok(newer.clone());
        }
        let mut merged = self.clone();
        for (group, stand) in (0u8..).zip(&newer.places) {
            if let Some(stand) = stand {
                merged.put(group, *stand, newer.ahead(group).to_vec());
            }
        }
        for (leg, start) in &newer.legs {
            let known = merged.legs.insert(*leg, *start);
            if known.is_some_and(|known| known.net != start.net) {
                return Err(Error::invalid(
                    "the tokens went different ways over a break in history",
                )
                .with_hint("merge tokens of the lanes of one stream, opened once"));
            }
        }
        Ok(if merged.is_complete() { merged.trimmed() } else { merged })
    }

    /// Refuses a token of another table (TOK-2).
    ///
    /// # Errors
    /// `InvalidInput` naming both.
    pub fn check_table(&self, table: Uuid) -> Result<()> {
        if self.table == table {
            return Ok(());
        }
        Err(Error::invalid("the token belongs to another table")
            .with_context("token's table", self.table)
            .with_context("this table", table)
            .with_hint("if the table was dropped and made anew, choose a new start"))
    }

    /// Refuses a token of a stream that promised something else (TOK-2).
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn check_promise(&self, fingerprint: u64, groups: u8) -> Result<()> {
        if self.fingerprint == fingerprint && self.groups() == groups {
            return Ok(());
        }
        Err(Error::invalid("the token belongs to a stream with other options")
            .with_context("token's fingerprint", format!("{:016x}", self.fingerprint))
            .with_context("this stream's", format!("{fingerprint:016x}"))
            .with_hint(
                "emission, key, order and filter must be those the token was taken with; \
                 projection and lanes may differ",
            ))
    }

    /// The snapshots that are needed to go on from here, each with its parent where the place
    /// is inside the snapshot's changes, and both ends of the net differences that some group has
    /// before it. `None` if everything is needed.
    pub fn needed_snapshots(&self, table: &Table) -> Option<BTreeSet<SnapshotId>> {
        let lowest = self.legs().0;
        let ahead = self.legs.iter().filter(|(leg, _)| **leg > lowest).map(|(_, leg)| leg.net);
        let mut needed: BTreeSet<_> =
            ahead.flat_map(|net| net.from.into_iter().chain([net.to])).collect();
        for (_, place) in self.places() {
            let id = place.snapshot()?;
            needed.insert(id);
            if let Place::Net(net, Some(_)) = place {
                needed.extend(net.from);
            }
            if let Place::Within(..) = place
                && let Some(snapshot) = table.metadata().snapshot_by_id(id.0)
                && let Some(parent) = snapshot.parent_snapshot_id()
            {
                needed.insert(SnapshotId(parent));
            }
        }
        Some(needed)
    }

    /// The oldest snapshot of the table that is needed to go on from here: it and everything
    /// after it must stay (TOK-8). A token at the origin needs the oldest one there is. `None`
    /// if the table keeps none of the snapshots that the token names.
    pub fn oldest_needed(&self, table: &Table) -> Option<SnapshotRef> {
        let needed = self.needed_snapshots(table);
        let is_needed = |s: &&SnapshotRef| {
            needed.as_ref().is_none_or(|ids| ids.contains(&SnapshotId(s.snapshot_id())))
        };
        let age = |s: &&SnapshotRef| (s.sequence_number(), s.timestamp_ms());
        table.metadata().snapshots().filter(is_needed).min_by_key(age).cloned()
    }
}

#[cfg(test)]
mod tests;
