//! Which deleted row an inserted row belongs to, by their hashes.
//!
//! In: the rows that a unit deletes and inserts. Out: which of them have a counterpart, and
//! which one. Rows that do not fit into the budget are compared in several passes, each over its
//! share of the hashes; the outcome does not depend on how many (CHG-5).

use std::cmp::Ordering;
use std::ops::Range;

use futures::TryStreamExt;
use roaring::RoaringTreemap;

use super::hash::mixed;
use super::key_set::{KEY_BYTES, KeySet};
use super::sources::{Compare, Source, SourceReader};
use crate::error::Result;

/// A row by its source and its position there.
pub(super) type Place = (u32, u64);

/// Bytes that a row takes while it is compared.
const ROW_BYTES: u64 = 32;
/// Bytes that a pair takes.
const PAIR_BYTES: u64 = 24;

/// How rows with equal hashes go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// One deletion with one insertion, in their order; what is left over has no counterpart.
    Each,
    /// Every deletion whose key is inserted, and every repeated one, has a counterpart.
    Any,
}

/// The counterparts of a unit's rows.
#[derive(Debug, Default)]
pub(super) struct Matched {
    /// By deletion source: the rows with a counterpart.
    pub deletions: Vec<RoaringTreemap>,
    /// By insertion source: the rows with a counterpart.
    pub insertions: Vec<RoaringTreemap>,
    /// Insertion and deletion, by insertion; none when they are too many to keep.
    pub pairs: Option<Vec<(Place, Place)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    hash: u128,
    source: u32,
    position: u64,
}

/// The hashes that one pass looks at.
#[derive(Debug, Clone, Copy)]
struct Share {
    pass: u64,
    of: u64,
}

impl Share {
    fn holds(self, hash: u128) -> bool {
        self.of == 1 || mixed(hash) % self.of == self.pass
    }
}

/// A comparison of the rows of one unit.
pub(super) struct Pairing<'a> {
    pub reader: &'a SourceReader,
    pub deletions: &'a [Source],
    pub insertions: &'a [Source],
    pub compare: Compare,
    pub rule: Rule,
    pub budget: u64,
}

impl Pairing<'_> {
    /// Finds all counterparts, and the pairs unless they pass the budget.
    pub(super) async fn run(&self) -> Result<Matched> {
        let mut matched = Matched {
            deletions: vec![RoaringTreemap::new(); self.deletions.len()],
            insertions: vec![RoaringTreemap::new(); self.insertions.len()],
            pairs: Some(Vec::new()),
        };
        if self.rule == Rule::Any {
            self.find_repeated(&mut matched.deletions).await?;
            return Ok(matched);
        }
        let most = (self.budget / PAIR_BYTES) as usize;
        self.find_pairs(|deletion, insertion| {
            if let Some(rows) = matched.deletions.get_mut(deletion.source as usize) {
                rows.insert(deletion.position);
            }
            if let Some(rows) = matched.insertions.get_mut(insertion.source as usize) {
                rows.insert(insertion.position);
            }
            if let Some(pairs) = &mut matched.pairs {
                pairs.push((place(insertion), place(deletion)));
                if pairs.len() > most {
                    matched.pairs = None;
                }
            }
        })
        .await?;
        if let Some(pairs) = &mut matched.pairs {
            pairs.sort_unstable();
        }
        Ok(matched)
    }

    /// The pairs of insertions in a range of places.
    pub(super) async fn pairs_in(&self, range: Range<Place>) -> Result<Vec<(Place, Place)>> {
        let mut pairs = Vec::new();
        self.find_pairs(|deletion, insertion| {
            if range.contains(&place(insertion)) {
                pairs.push((place(insertion), place(deletion)));
            }
        })
        .await?;
        pairs.sort_unstable();
        Ok(pairs)
    }

    /// How many insertions with a counterpart may be asked for at once.
    pub(super) fn pairs_at_once(&self) -> u64 {
        (self.budget / PAIR_BYTES).max(1)
    }

    /// Finds the pairs of [`Rule::Each`].
    async fn find_pairs(&self, mut found: impl FnMut(Row, Row)) -> Result<()> {
        let (deleted, inserted) = (count(self.deletions), count(self.insertions));
        let bytes = (deleted + inserted) * ROW_BYTES + deleted * KEY_BYTES;
        for share in self.shares(bytes) {
            let deletions = self.collect(self.deletions, |hash| share.holds(hash)).await?;
            // Most inserted keys are new as a rule: they are not worth sorting.
            let keys: KeySet = deletions.iter().map(|row| row.hash).collect();
            let insertions = self.collect(self.insertions, |hash| keys.contains(hash)).await?;
            each(&deletions, &insertions, &mut found);
        }
        Ok(())
    }

    /// Finds the deletions of [`Rule::Any`].
    async fn find_repeated(&self, found: &mut [RoaringTreemap]) -> Result<()> {
        let (deleted, inserted) = (count(self.deletions), count(self.insertions));
        for share in self.shares((deleted + inserted) * KEY_BYTES) {
            let mut keys = KeySet::default();
            for source in self.insertions {
                let mut batches = self.reader.hashes(source, self.compare).await?;
                while let Some((_, hashes)) = batches.try_next().await? {
                    keys.extend(hashes.into_iter().filter(|hash| share.holds(*hash)));
                }
            }
            for (source, found) in self.deletions.iter().zip(found.iter_mut()) {
                let mut batches = self.reader.hashes(source, self.compare).await?;
                while let Some((positions, hashes)) = batches.try_next().await? {
                    let rows = positions.into_iter().zip(hashes);
                    repeated(&mut keys, rows.filter(|(_, hash)| share.holds(*hash)), found);
                }
            }
        }
        Ok(())
    }

    /// As many passes as it takes to hold `bytes` within the budget.
    fn shares(&self, bytes: u64) -> impl Iterator<Item = Share> + use<> {
        let of = bytes.div_ceil(self.budget.max(1)).max(1);
        (0..of).map(move |pass| Share { pass, of })
    }

    /// The rows of some hashes, by hash and place.
    async fn collect(&self, sources: &[Source], mine: impl Fn(u128) -> bool) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for (source, of) in (0u32..).zip(sources) {
            let mut batches = self.reader.hashes(of, self.compare).await?;
            while let Some((positions, hashes)) = batches.try_next().await? {
                let batch = positions.into_iter().zip(hashes).filter(|(_, hash)| mine(*hash));
                rows.extend(batch.map(|(position, hash)| Row { hash, source, position }));
            }
        }
        rows.sort_unstable();
        Ok(rows)
    }
}

fn count(sources: &[Source]) -> u64 {
    sources.iter().map(Source::len).sum()
}

fn place(row: Row) -> Place {
    (row.source, row.position)
}

fn each(deletions: &[Row], insertions: &[Row], found: &mut impl FnMut(Row, Row)) {
    let (mut left, mut right) = (deletions.iter().peekable(), insertions.iter().peekable());
    while let (Some(deletion), Some(insertion)) = (left.peek(), right.peek()) {
        match deletion.hash.cmp(&insertion.hash) {
            Ordering::Less => drop(left.next()),
            Ordering::Greater => drop(right.next()),
            Ordering::Equal => {
                found(**deletion, **insertion);
                left.next();
                right.next();
            }
        }
    }
}

/// Adds rows by position whose key is known to the rows found; the keys of the others become
/// known.
fn repeated(
    known: &mut KeySet,
    rows: impl Iterator<Item = (u64, u128)>,
    found: &mut RoaringTreemap,
) {
    let mut run = 0..0;
    for (position, hash) in rows {
        if known.insert(hash) {
            continue;
        }
        if run.end != position {
            found.insert_range(std::mem::replace(&mut run, position..position));
        }
        run.end = position + 1;
    }
    found.insert_range(run);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(hashes: &[u128]) -> Vec<Row> {
        let mut rows: Vec<Row> = (0u64..)
            .zip(hashes)
            .map(|(position, hash)| Row { hash: *hash, source: 0, position })
            .collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn equal_rows_pair_one_for_one_in_their_order() {
        let mut found = Vec::new();
        each(&rows(&[7, 5, 5, 9]), &rows(&[5, 5, 5, 8, 7]), &mut |deletion, insertion| {
            found.push((deletion.position, insertion.position));
        });
        found.sort_unstable();
        assert_eq!(found, [(0, 4), (1, 0), (2, 1)]);
    }

    #[test]
    fn deleted_keys_that_come_back_or_repeat_are_dropped() {
        let mut known: KeySet = [1, 4].into_iter().collect();
        let mut found = RoaringTreemap::new();
        repeated(&mut known, (0u64..).zip([3, 1, 3, 2, 4, 4]), &mut found);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [1, 2, 4, 5]);
    }
}
