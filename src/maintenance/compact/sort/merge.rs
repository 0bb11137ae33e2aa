//! Sorted runs to one order.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::compute::interleave_record_batch;
use arrow::record_batch::RecordBatch;
use arrow::row::Rows;

use super::keys::SortKeys;
use super::runs::{Run, RunReader};
use crate::error::Result;

/// The next row of one run.
struct Head {
    keys: Arc<Rows>,
    row: usize,
    run: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        // Of one key the earlier run comes first: rows keep the order in which they came.
        let by_key = self.keys.row(self.row).cmp(&other.keys.row(other.row));
        by_key.then(self.run.cmp(&other.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

/// Merges runs, oldest first. Memory: one batch of each run, and one of the result.
pub(in crate::maintenance::compact) struct Merge {
    runs: Vec<RunReader>,
    /// The batch of each run that its head is in.
    current: Vec<Option<RecordBatch>>,
    heads: BinaryHeap<Reverse<Head>>,
    keys: SortKeys,
    batch_rows: usize,
}

impl Merge {
    pub(super) fn new(runs: Vec<Run>, keys: SortKeys, batch_rows: usize) -> Result<Self> {
        let runs = runs.into_iter().map(RunReader::open).collect::<Result<Vec<_>>>()?;
        let current = vec![None; runs.len()];
        let mut merge = Self { runs, current, heads: BinaryHeap::new(), keys, batch_rows };
        for run in 0..merge.runs.len() {
            merge.advance(run)?;
        }
        Ok(merge)
    }

    /// The keys are needed by the next merge.
    pub(super) fn into_keys(self) -> SortKeys {
        self.keys
    }

    fn advance(&mut self, run: usize) -> Result<()> {
        let next = match self.runs.get_mut(run) {
            Some(reader) => reader.next_batch()?,
            None => None,
        };
        if let Some(batch) = &next {
            let keys = Arc::new(self.keys.of(batch)?);
            self.heads.push(Reverse(Head { keys, row: 0, run }));
        }
        if let Some(current) = self.current.get_mut(run) {
            *current = next;
        }
        Ok(())
    }

    /// The next rows in order; `None` at the end.
    pub(super) fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        // Batches that the picked rows are in, and which of them is the current one of a run.
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut place: Vec<Option<usize>> = vec![None; self.runs.len()];
        let mut picked: Vec<(usize, usize)> = Vec::with_capacity(self.batch_rows);
        while picked.len() < self.batch_rows {
            let Some(Reverse(head)) = self.heads.pop() else { break };
            let (Some(place), Some(batch)) =
                (place.get_mut(head.run), self.current.get(head.run).and_then(Option::as_ref))
            else {
                break;
            };
            let at = *place.get_or_insert_with(|| {
                batches.push(batch.clone());
                batches.len() - 1
            });
            picked.push((at, head.row));
            if head.row + 1 < batch.num_rows() {
                self.heads.push(Reverse(Head { row: head.row + 1, ..head }));
            } else {
                *place = None;
                self.advance(head.run)?;
            }
        }
        if picked.is_empty() {
            return Ok(None);
        }
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        Ok(Some(interleave_record_batch(&batches, &picked)?))
    }
}
