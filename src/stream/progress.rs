//! What was delivered of the rows of a whole snapshot, whose splits are read side by side.
//!
//! Splits are planned in order and end in any. In: splits as they are planned, and how far the
//! consumer took each. Out: for each group a point up to which everything was delivered, and the
//! runs behind it that were delivered too, as a token holds them (TOK-10). Runs that touch are
//! one, so that there are no more than two for each split that is being read.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use super::resume::Resume;
use crate::table::{Cursor, Inside, Run};

#[derive(Debug, Default)]
pub(super) struct Progress {
    groups: BTreeMap<u8, Group>,
}

#[derive(Debug, Default)]
struct Group {
    /// Everything before it was delivered; `None` before the first row.
    low: Option<Inside>,
    /// Where the last split that was planned begins: nothing before it is still to be planned.
    planned: Option<Cursor>,
    /// What is not yet below `low`, by where it begins.
    parts: BTreeMap<Cursor, Part>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    /// Up to where it was delivered.
    to: Option<Inside>,
    /// Nothing is left of it.
    is_whole: bool,
}

impl Progress {
    /// Where the groups stand that go on in the step of this number.
    pub fn new(step: u64, resumes: &[Resume]) -> Self {
        let whole = |to| Part { to: Some(to), is_whole: true };
        let group = |resume: &Resume| Group {
            low: resume.inside,
            planned: None,
            parts: resume.ahead.iter().map(|run| (run.from, whole(run.to))).collect(),
        };
        let resumes = (0u8..).zip(resumes).filter(|(_, resume)| resume.step == step);
        Self { groups: resumes.map(|(n, resume)| (n, group(resume))).collect() }
    }

    /// Notes a split that was planned: behind all that were planned before it.
    /// A piece that was cut off a split comes behind its beginning.
    pub fn plan(&mut self, group: u8, from: Cursor) {
        let group = self.groups.entry(group).or_default();
        group.planned = group.planned.max(Some(from));
        group.parts.insert(from, Part { to: None, is_whole: false });
    }

    /// Notes that the split which was planned from `from` on was delivered up to `to`, and whether
    /// that is its end.
    pub fn deliver(&mut self, group: u8, from: Cursor, to: Inside, is_whole: bool) {
        let Some(group) = self.groups.get_mut(&group) else { return };
        let Some(part) = group.parts.get_mut(&from) else { return };
        *part = Part { to: Some(to), is_whole };
        group.join(from);
        group.settle();
    }

    /// Where a group stands, and what was delivered behind that.
    pub fn of(&self, group: u8) -> (Option<Inside>, Vec<Run>) {
        let Some(group) = self.groups.get(&group) else { return (None, Vec::new()) };
        let begun = group.begun();
        let parts = group.parts.iter().filter(|(from, _)| Some(**from) != begun);
        let runs = parts.filter_map(|(from, part)| Some(Run { from: *from, to: part.to? }));
        (group.low, runs.collect())
    }

    /// A group is past the snapshot.
    pub fn forget(&mut self, group: u8) {
        self.groups.remove(&group);
    }
}

impl Group {
    /// Makes one of a whole part and its whole neighbours. Between parts that were planned is
    /// nothing else.
    fn join(&mut self, mut from: Cursor) {
        let Some(mut part) = self.parts.get(&from).copied().filter(|part| part.is_whole) else {
            return;
        };
        if let Some((before, earlier)) = self.parts.range(..from).next_back()
            && earlier.is_whole
        {
            let before = *before;
            self.parts.remove(&from);
            from = before;
        }
        let next = self.parts.range((Excluded(from), Unbounded)).next();
        if let Some((after, later)) = next.map(|(after, later)| (*after, *later))
            && later.is_whole
            && Some(after) <= self.planned
        {
            self.parts.remove(&after);
            part.to = later.to;
        }
        self.parts.insert(from, part);
    }

    /// Moves the point up to which everything was delivered.
    fn settle(&mut self) {
        while let Some(first) = self.parts.first_entry() {
            if Some(*first.key()) > self.planned {
                break;
            }
            let part = *first.get();
            self.low = part.to.or(self.low);
            if !part.is_whole {
                break;
            }
            first.remove();
        }
    }

    /// The part that begins where everything before was delivered: its rows move that point.
    fn begun(&self) -> Option<Cursor> {
        let (from, part) = self.parts.first_key_value()?;
        (Some(*from) <= self.planned && !part.is_whole).then_some(*from)
    }
}

#[cfg(test)]
mod tests;
