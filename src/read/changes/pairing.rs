//! Which deleted row an inserted row belongs to, by sorting hashes.
//!
//! In: the rows that a unit deletes and inserts. Out: which of them have a counterpart, and
//! which one. Rows that do not fit into the budget are compared in several passes, each over its
//! share of the hashes; the outcome does not depend on how many (CHG-5).

use std::cmp::Ordering;
use std::ops::Range;

use futures::TryStreamExt;
use roaring::RoaringTreemap;

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
        let most = (self.budget / PAIR_BYTES) as usize;
        self.passes(|deletion, insertion| {
            if let Some(rows) = matched.deletions.get_mut(deletion.source as usize) {
                rows.insert(deletion.position);
            }
            let Some(insertion) = insertion else { return };
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
        self.passes(|deletion, insertion| {
            if let Some(insertion) = insertion.map(place)
                && range.contains(&insertion)
            {
                pairs.push((insertion, place(deletion)));
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

    async fn passes(&self, mut found: impl FnMut(Row, Option<Row>)) -> Result<()> {
        let rows: u64 = self.deletions.iter().chain(self.insertions).map(Source::len).sum();
        let passes = (rows * ROW_BYTES).div_ceil(self.budget.max(1)).max(1);
        for pass in 0..passes {
            let mine = |hash: u128| hash as u64 % passes == pass;
            let deletions = self.collect(self.deletions, mine).await?;
            let insertions = self.collect(self.insertions, mine).await?;
            match self.rule {
                Rule::Each => each(&deletions, &insertions, &mut found),
                Rule::Any => any(&deletions, &insertions, &mut found),
            }
        }
        Ok(())
    }

    /// The rows of one pass, by hash and place.
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

fn place(row: Row) -> Place {
    (row.source, row.position)
}

fn each(deletions: &[Row], insertions: &[Row], found: &mut impl FnMut(Row, Option<Row>)) {
    let (mut left, mut right) = (deletions.iter().peekable(), insertions.iter().peekable());
    while let (Some(deletion), Some(insertion)) = (left.peek(), right.peek()) {
        match deletion.hash.cmp(&insertion.hash) {
            Ordering::Less => drop(left.next()),
            Ordering::Greater => drop(right.next()),
            Ordering::Equal => {
                found(**deletion, Some(**insertion));
                left.next();
                right.next();
            }
        }
    }
}

fn any(deletions: &[Row], insertions: &[Row], found: &mut impl FnMut(Row, Option<Row>)) {
    let mut insertions = insertions.iter().peekable();
    let mut before: Option<u128> = None;
    for deletion in deletions {
        while insertions.next_if(|insertion| insertion.hash < deletion.hash).is_some() {}
        let inserted = insertions.peek().is_some_and(|i| i.hash == deletion.hash);
        if inserted || before == Some(deletion.hash) {
            found(*deletion, None);
        }
        before = Some(deletion.hash);
    }
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

    fn outcome(
        rule: impl Fn(&[Row], &[Row], &mut dyn FnMut(Row, Option<Row>)),
        deletions: &[u128],
        insertions: &[u128],
    ) -> Vec<(u64, Option<u64>)> {
        let mut found = Vec::new();
        rule(&rows(deletions), &rows(insertions), &mut |d, i| {
            found.push((d.position, i.map(|i| i.position)));
        });
        found.sort_unstable();
        found
    }

    #[test]
    fn equal_rows_pair_one_for_one_in_their_order() {
        let found = outcome(|d, i, mut f| each(d, i, &mut f), &[7, 5, 5, 9], &[5, 5, 5, 8, 7]);
        assert_eq!(found, [(0, Some(4)), (1, Some(0)), (2, Some(1))]);
    }

    #[test]
    fn deleted_keys_that_come_back_or_repeat_are_dropped() {
        let found = outcome(|d, i, mut f| any(d, i, &mut f), &[3, 1, 3, 2, 4, 4], &[1, 4, 1]);
        assert_eq!(found, [(1, None), (2, None), (4, None), (5, None)]);
    }
}
