//! Which physical rows of a file are decoded, and where each decoded row stood.
//!
//! Pure. Ranges are half-open, ascending, disjoint; positions count from the start of the file,
//! whatever was skipped (FIL-7).

use std::collections::VecDeque;
use std::ops::Range;

use arrow::array::BooleanArray;
use arrow::array::BooleanBufferBuilder;
use arrow::buffer::BooleanBuffer;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use roaring::RoaringTreemap;

/// Deleted rows in runs of this length on average are skipped by the decoder; shorter runs are
/// cheaper to decode and drop.
const MIN_SKIPPED_RUN: u64 = 64;

/// The rows to decode of one row group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GroupRows {
    /// Index in the footer.
    pub group: usize,
    /// Physical rows of the group.
    pub all: Range<u64>,
    /// Physical rows wanted, inside `all`.
    pub wanted: Vec<Range<u64>>,
}

/// All rows of the row groups in `groups`, with the physical rows they span.
pub(crate) fn all_rows(
    row_counts: impl Iterator<Item = u64>,
    groups: Option<&Range<usize>>,
) -> Vec<GroupRows> {
    let mut start = 0u64;
    let mut result = Vec::new();
    for (group, count) in row_counts.enumerate() {
        let all = start..start.saturating_add(count);
        start = all.end;
        if count > 0 && groups.is_none_or(|g| g.contains(&group)) {
            result.push(GroupRows { group, wanted: vec![all.clone()], all });
        }
    }
    result
}

/// Keeps only `rows`; groups that are left without any go.
pub(crate) fn keep_rows(groups: &mut Vec<GroupRows>, rows: &Range<u64>) {
    for group in groups.iter_mut() {
        group.wanted = intersect(&group.wanted, std::slice::from_ref(rows));
    }
    groups.retain(|g| !g.wanted.is_empty());
}

/// What two lists of ranges share.
pub(crate) fn intersect(left: &[Range<u64>], right: &[Range<u64>]) -> Vec<Range<u64>> {
    let (mut a, mut b, mut shared) = (left.iter().peekable(), right.iter().peekable(), Vec::new());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        let both = x.start.max(y.start)..x.end.min(y.end);
        if x.end <= y.end {
            a.next();
        } else {
            b.next();
        }
        if !both.is_empty() {
            shared.push(both);
        }
    }
    shared
}

/// Takes deleted rows out of the groups where they come in long runs or fill a whole group.
/// Returns true when some are left for [`Rows::keep_mask`].
pub(crate) fn skip_deleted(groups: &mut Vec<GroupRows>, deleted: &RoaringTreemap) -> bool {
    let mut left_for_mask = false;
    for group in groups.iter_mut() {
        let in_group = deleted.range_cardinality(group.all.clone());
        if in_group == 0 {
            continue;
        }
        let runs = runs(deleted, &group.all);
        if in_group / (runs.len() as u64).max(1) < MIN_SKIPPED_RUN {
            left_for_mask = true;
        } else {
            group.wanted = intersect(&group.wanted, &gaps(&runs, &group.all));
        }
    }
    groups.retain(|g| !g.wanted.is_empty());
    left_for_mask
}

fn runs(bitmap: &RoaringTreemap, within: &Range<u64>) -> Vec<Range<u64>> {
    let mut positions = bitmap.iter();
    positions.advance_to(within.start);
    let mut runs: Vec<Range<u64>> = Vec::new();
    for position in positions.take_while(|p| *p < within.end) {
        match runs.last_mut() {
            Some(run) if run.end == position => run.end += 1,
            _ => runs.push(position..position + 1),
        }
    }
    runs
}

fn gaps(runs: &[Range<u64>], within: &Range<u64>) -> Vec<Range<u64>> {
    let ends = std::iter::once(within.start).chain(runs.iter().map(|r| r.end));
    let starts = runs.iter().map(|r| r.start).chain(std::iter::once(within.end));
    ends.zip(starts).map(|(from, to)| from..to).filter(|gap| !gap.is_empty()).collect()
}

/// The decoder's instructions; `None` when every row of the groups is wanted.
pub(crate) fn row_selection(groups: &[GroupRows]) -> Option<RowSelection> {
    if groups.iter().all(|g| g.wanted == [g.all.clone()]) {
        return None;
    }
    let mut selectors = Vec::new();
    for group in groups {
        let mut at = group.all.start;
        for range in &group.wanted {
            if range.start > at {
                selectors.push(RowSelector::skip((range.start - at) as usize));
            }
            selectors.push(RowSelector::select((range.end - range.start) as usize));
            at = range.end;
        }
        if group.all.end > at {
            selectors.push(RowSelector::skip((group.all.end - at) as usize));
        }
    }
    Some(RowSelection::from(selectors))
}

/// The physical rows still to come, in the order the decoder yields them.
#[derive(Debug)]
pub(crate) struct Rows {
    ranges: VecDeque<Range<u64>>,
}

impl Rows {
    pub(crate) fn new(groups: &[GroupRows]) -> Self {
        Self { ranges: groups.iter().flat_map(|g| g.wanted.iter().cloned()).collect() }
    }

    /// How many rows are left.
    pub(crate) fn len(&self) -> u64 {
        self.ranges.iter().map(|r| r.end - r.start).sum()
    }

    /// The next `count` rows; fewer if fewer are left.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Range<u64>> {
        let (mut left, mut taken) = (count as u64, Vec::new());
        while left > 0 {
            let Some(first) = self.ranges.front_mut() else { break };
            let end = first.end.min(first.start.saturating_add(left));
            left -= end - first.start;
            taken.push(first.start..end);
            if end == first.end {
                self.ranges.pop_front();
            } else {
                first.start = end;
            }
        }
        taken
    }
}

/// Which of the rows in `ranges` are not deleted; `None` when all are alive.
pub(crate) fn keep_mask(ranges: &[Range<u64>], deleted: &RoaringTreemap) -> Option<BooleanArray> {
    let rows = ranges.iter().map(|r| (r.end - r.start) as usize).sum();
    let mut keep: Option<BooleanBufferBuilder> = None;
    let mut at = 0usize;
    for range in ranges {
        let mut positions = deleted.iter();
        positions.advance_to(range.start);
        for position in positions.take_while(|p| *p < range.end) {
            let keep = keep.get_or_insert_with(|| {
                let mut all = BooleanBufferBuilder::new(rows);
                all.append_n(rows, true);
                all
            });
            keep.set_bit(at + (position - range.start) as usize, false);
        }
        at += (range.end - range.start) as usize;
    }
    let buffer: BooleanBuffer = keep?.finish();
    Some(BooleanArray::new(buffer, None))
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // a list of one range is meant
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_keep_their_physical_positions_over_gaps() {
        let mut groups = all_rows([10, 10, 10].into_iter(), Some(&(1..3)));
        keep_rows(&mut groups, &(12..27));
        let mut rows = Rows::new(&groups);
        assert_eq!(rows.len(), 15);
        assert_eq!(rows.take(10), [12..20, 20..22]);
        assert_eq!(rows.take(10), [22..27]);
        assert!(rows.take(1).is_empty());
    }

    #[test]
    fn long_runs_are_skipped_and_single_rows_masked() {
        let mut groups = all_rows([1000].into_iter(), None);
        let run: RoaringTreemap = (100..400).collect();
        assert!(!skip_deleted(&mut groups, &run));
        assert_eq!(groups[0].wanted, [0..100, 400..1000]);
        let mut groups = all_rows([1000].into_iter(), None);
        let singles: RoaringTreemap = (0..1000).step_by(10).collect();
        assert!(skip_deleted(&mut groups, &singles));
        assert_eq!(groups[0].wanted, [0..1000]);
        let mask = keep_mask(&[5..25], &singles).unwrap();
        assert_eq!(mask.false_count(), 2);
        assert!(!mask.value(5) && !mask.value(15));
    }

    proptest! {
        #[test]
        fn selection_and_positions_agree(
            counts in proptest::collection::vec(0u64..20, 1..5),
            deleted in proptest::collection::btree_set(0u64..60, 0..40),
            rows in (0u64..40, 0u64..60),
        ) {
            let total: u64 = counts.iter().sum();
            let deleted: RoaringTreemap = deleted.into_iter().collect();
            let mut groups = all_rows(counts.into_iter(), None);
            keep_rows(&mut groups, &(rows.0..rows.1));
            skip_deleted(&mut groups, &deleted);
            let ranges = Rows::new(&groups).take(usize::MAX);
            let mask = keep_mask(&ranges, &deleted);
            let mut alive: Vec<u64> = ranges.iter().flat_map(|r| r.clone()).collect();
            if let Some(mask) = mask {
                alive = alive.into_iter().zip(mask.values().iter())
                    .filter(|(_, keep)| *keep).map(|(p, _)| p).collect();
            }
            let expected: Vec<u64> = (rows.0..rows.1.min(total))
                .filter(|p| !deleted.contains(*p)).collect();
            prop_assert_eq!(alive, expected);
        }
    }
}
