//! Reading ahead: the splits behind the one whose rows are handed on are read beside it, as far as
//! memory allows.
//!
//! What is read ahead never waits for anything that the lane does first, so it cannot lock up: when
//! its rows do not fit any more it stops, and the lane goes on with what is left when its turn
//! comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::Result;
use crate::read::ChangeRows;

/// Bytes of rows that may be held before their turn.
#[derive(Debug)]
pub(super) struct Allowance {
    held: AtomicU64,
    limit: u64,
}

impl Allowance {
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { held: AtomicU64::new(0), limit })
    }

    #[cfg(test)]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether rows of so many bytes, all that is read ahead, will fit.
    pub fn will_fit(&self, bytes: u64) -> bool {
        bytes <= self.limit
    }

    pub fn hold(self: &Arc<Self>, bytes: u64) -> Option<Held> {
        let more = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= self.limit);
        let fits = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        fits.then(|| Held { bytes, of: self.clone() })
    }
}

/// A share of an allowance, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    bytes: u64,
    of: Arc<Allowance>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

enum Item {
    Rows(ChangeRows, Held),
    /// There was no room for the next rows: they and all that come behind them.
    Rest(BoxStream<'static, Result<ChangeRows>>),
    /// Nothing is left of the split.
    End,
}

/// The rows of one split, read before their turn. The work stops when this is dropped.
pub(super) struct ReadAhead {
    items: mpsc::UnboundedReceiver<Item>,
    is_whole: bool,
    rest: Option<BoxStream<'static, Result<ChangeRows>>>,
    _work: JoinSet<()>,
}

impl ReadAhead {
    /// Begins to read.
    pub fn begin(rows: BoxStream<'static, Result<ChangeRows>>, allowance: Arc<Allowance>) -> Self {
        // Bounded by the allowance.
        let (sender, items) = mpsc::unbounded_channel();
        let mut work = JoinSet::new();
        work.spawn(read(rows, allowance, sender));
        Self { items, is_whole: false, rest: None, _work: work }
    }

    /// The next rows; `None` where reading ahead ended, whatever the reason: an error shows again
    /// when the lane reads on from there.
    pub async fn next(&mut self) -> Option<ChangeRows> {
        match self.items.recv().await? {
            Item::Rows(rows, held) => {
                drop(held);
                Some(rows)
            }
            Item::Rest(rest) => {
                self.rest = Some(rest);
                None
            }
            Item::End => {
                self.is_whole = true;
                None
            }
        }
    }

    /// True when the split ended where reading ahead did.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// What is left, where reading ahead ended for want of room.
    pub fn take_rest(&mut self) -> Option<BoxStream<'static, Result<ChangeRows>>> {
        self.rest.take()
    }
}

async fn read(
    mut rows: BoxStream<'static, Result<ChangeRows>>,
    allowance: Arc<Allowance>,
    sender: mpsc::UnboundedSender<Item>,
) {
    while let Ok(next) = rows.try_next().await {
        let Some(next) = next else {
            let _ = sender.send(Item::End);
            return;
        };
        let bytes = next.memory_size();
        let Some(held) = allowance.hold(bytes) else {
            let rest = stream::once(std::future::ready(Ok(next))).chain(rows);
            let _ = sender.send(Item::Rest(rest.boxed()));
            return;
        };
        if sender.send(Item::Rows(next, held)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
    use arrow::record_batch::RecordBatch;

    use super::*;
    use crate::error::Error;
    use crate::read::ChangeKind;

    fn rows(first: u64) -> ChangeRows {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        let records = RecordBatch::try_from_iter([("n", values)]).unwrap();
        let ordinals = (first..first + 100).collect();
        ChangeRows { records, kinds: vec![ChangeKind::Insert; 100], ordinals }
    }

    async fn taken(ahead: &mut ReadAhead) -> Vec<u64> {
        let mut firsts = Vec::new();
        while let Some(rows) = ahead.next().await {
            firsts.push(rows.ordinals[0]);
        }
        firsts
    }

    #[tokio::test]
    async fn what_does_not_fit_is_left_to_the_lane_and_memory_comes_back() {
        let size = rows(0).memory_size();
        for (limit, fit) in [(0, 0), (size, 1), (size * 3 - 1, 2), (size * 9, 5)] {
            let allowance = Allowance::new(limit);
            let all = stream::iter((0..5).map(|n| Ok(rows(n * 100)))).boxed();
            let mut ahead = ReadAhead::begin(all, allowance.clone());
            tokio::task::yield_now().await;
            assert_eq!(allowance.held(), fit * size);
            let expected: Vec<u64> = (0..fit).map(|n| n * 100).collect();
            assert_eq!(taken(&mut ahead).await, expected);
            assert_eq!(ahead.is_whole(), fit == 5);
            assert_eq!(allowance.held(), 0);
            let left = match ahead.take_rest() {
                Some(rest) => rest.map_ok(|rows| rows.ordinals[0]).try_collect().await.unwrap(),
                None => Vec::new(),
            };
            assert_eq!(left, (fit..5).map(|n| n * 100).collect::<Vec<u64>>());
        }
    }

    #[tokio::test]
    async fn an_error_ends_reading_ahead_and_is_left_to_the_lane() {
        let broken = stream::iter([Ok(rows(0)), Err(Error::internal("x")), Ok(rows(100))]);
        let mut ahead = ReadAhead::begin(broken.boxed(), Allowance::new(u64::MAX));
        assert_eq!(taken(&mut ahead).await, [0]);
        assert!(!ahead.is_whole() && ahead.take_rest().is_none());
    }
}
