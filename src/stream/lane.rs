//! The reader of one lane: takes its splits one by one and reads them into batches.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use futures::TryStreamExt;

use super::guard::TaskGuard;
use super::hub::Hub;
use super::planner::expired_meanwhile;
use super::retry::Patience;
use super::split::{Out, Rows, Split, Work};
use crate::error::{ErrorKind, Result};
use crate::read::{ChangeKind, ChangeReader, ChangeRows};

pub(super) struct LaneTask {
    pub hub: Arc<Hub>,
    pub lane: usize,
    pub reader: Arc<ChangeReader>,
    /// Kinds of changes that nobody wants to see.
    pub dropped: Vec<ChangeKind>,
    pub patience: Patience,
}

impl LaneTask {
    /// Runs until a split fails for good.
    pub async fn run(mut self) {
        let guard = TaskGuard::new(self.hub.clone(), Some(self.lane));
        loop {
            let split = self.hub.take(self.lane).await;
            if !self.read_with_patience(&split).await {
                break;
            }
        }
        guard.disarm();
    }

    /// Reads a split to its end, or puts back what is left of it; false when that is for good.
    async fn read_with_patience(&mut self, split: &Arc<Split>) -> bool {
        let mut next = split.cursor.next_row();
        loop {
            let Err(error) = self.read(split, &mut next).await else {
                self.patience.reset();
                self.hub.finished(self.lane, split.clone());
                return true;
            };
            if let Err(error) = self.patience.wait(error).await {
                let table = self.hub.state().table.clone();
                let error = expired_meanwhile(&table, &split.step, error).await;
                let comes_back = error.kind() == ErrorKind::Unavailable;
                self.hub.failed(self.lane, Some(split.from(next)), error);
                return comes_back;
            }
        }
    }

    async fn read(&mut self, split: &Arc<Split>, next: &mut u64) -> Result<()> {
        let mut batches = match &split.work {
            Work::File(task) => self.reader.read_file(task.clone(), *next),
            Work::Unit(changes, unit) => self.reader.read_unit(changes.clone(), *unit, *next),
        };
        while let Some(rows) = batches.try_next().await? {
            let Some(last) = rows.ordinals.last() else { continue };
            let after = last + 1;
            let ChangeRows { records, kinds, ordinals } = without(rows, &self.dropped)?;
            if records.num_rows() > 0 {
                let bytes = records.get_array_memory_size() as u64;
                let split = split.clone();
                let rows = Rows { split, records, kinds, ordinals, next: after, bytes };
                self.hub.room(self.lane).await;
                self.hub.deliver(self.lane, Out::Rows(rows));
            }
            *next = after;
            self.patience.reset();
        }
        self.hub.room(self.lane).await;
        Ok(())
    }
}

/// The rows of other kinds.
fn without(rows: ChangeRows, dropped: &[ChangeKind]) -> Result<ChangeRows> {
    if !rows.kinds.iter().any(|kind| dropped.contains(kind)) {
        return Ok(rows);
    }
    let keep: Vec<bool> = rows.kinds.iter().map(|kind| !dropped.contains(kind)).collect();
    fn kept<T: Copy>(values: &[T], keep: &[bool]) -> Vec<T> {
        values.iter().zip(keep).filter(|(_, keep)| **keep).map(|(value, _)| *value).collect()
    }
    Ok(ChangeRows {
        kinds: kept(&rows.kinds, &keep),
        ordinals: kept(&rows.ordinals, &keep),
        records: filter_record_batch(&rows.records, &BooleanArray::from(keep))?,
    })
}
