//! The reader of one lane: takes its splits one by one and reads them into batches.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use tracing::Instrument;

use super::ahead::{Allowance, ReadAhead};
use super::guard::TaskGuard;
use super::hub::Hub;
use super::planner::expired_meanwhile;
use super::retry::Patience;
use super::split::{Out, Rows, Split, Work};
use crate::error::{Error, ErrorKind, Result};
use crate::read::{ChangeKind, ChangeRows};

pub(super) struct LaneTask {
    hub: Arc<Hub>,
    lane: usize,
    /// Kinds of changes that nobody wants to see.
    dropped: Vec<ChangeKind>,
    patience: Patience,
    allowance: Arc<Allowance>,
    /// Splits that are read before their turn, in order.
    ahead: VecDeque<(Arc<Split>, ReadAhead)>,
}

/// How reading ended, if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Whole,
    /// The lane's owner is gone.
    Unwanted,
}

impl LaneTask {
    pub fn new(hub: Arc<Hub>, lane: usize, dropped: Vec<ChangeKind>, patience: Patience) -> Self {
        let allowance = hub.allowance(lane);
        Self { hub, lane, dropped, patience, allowance, ahead: VecDeque::new() }
    }

    /// Runs until a split fails for good, or until the lane's owner is gone.
    pub async fn run(mut self) {
        let guard = TaskGuard::new(self.hub.clone(), Some(self.lane));
        while let Some((split, ahead)) = self.next().await {
            let span = tracing::debug_span!("stream.split", lane = self.lane,
                snapshot = %split.step.id(), group = split.group, bytes = split.bytes);
            if !self.read_with_patience(&split, ahead).instrument(span).await {
                break;
            }
        }
        guard.disarm();
    }

    async fn next(&mut self) -> Option<(Arc<Split>, Option<ReadAhead>)> {
        if let Some((split, ahead)) = self.ahead.pop_front() {
            return Some((split, Some(ahead)));
        }
        Some((self.hub.take(self.lane).await?, None))
    }

    /// Reads a split to its end, or puts back what is left of it; false when that is for good.
    async fn read_with_patience(
        &mut self,
        split: &Arc<Split>,
        mut ahead: Option<ReadAhead>,
    ) -> bool {
        let mut next = split.cursor.next_row();
        loop {
            let error = match self.read(split, &mut ahead, &mut next).await {
                Err(error) => error,
                Ok(Read::Unwanted) => return false,
                Ok(Read::Whole) => {
                    self.patience.reset();
                    self.hub.finished(self.lane);
                    return true;
                }
            };
            if let Err(error) = self.patience.wait(error).await {
                let table = self.hub.state().table.clone();
                let error = expired_meanwhile(&table, &split.step, error).await;
                let comes_back = error.kind() == ErrorKind::Unavailable;
                self.ahead.clear();
                self.hub.failed(self.lane, Some(split.from(next)), error);
                return comes_back;
            }
        }
    }

    async fn read(
        &mut self,
        split: &Arc<Split>,
        ahead: &mut Option<ReadAhead>,
        next: &mut u64,
    ) -> Result<Read> {
        self.read_ahead();
        let mut is_whole = false;
        if let Some(ahead) = ahead {
            while let Some(rows) = ahead.next().await {
                if self.hand_on(split, rows, next).await? == Read::Unwanted {
                    return Ok(Read::Unwanted);
                }
            }
            is_whole = ahead.is_whole();
        }
        if !is_whole {
            let mut batches = self.open(split, *next);
            while let Some(rows) = batches.try_next().await? {
                if self.hand_on(split, rows, next).await? == Read::Unwanted {
                    return Ok(Read::Unwanted);
                }
                self.read_ahead();
            }
        }
        let is_wanted = self.hub.room(self.lane).await;
        Ok(if is_wanted { Read::Whole } else { Read::Unwanted })
    }

    fn open(&self, split: &Split, from: u64) -> BoxStream<'static, Result<ChangeRows>> {
        let Some(reader) = self.hub.reader(self.lane) else { return stream::empty().boxed() };
        match &split.work {
            Work::File(task) => reader.read_file(task.clone(), from),
            Work::Unit(changes, unit, schema) => {
                reader.read_unit_by(schema.clone(), changes.clone(), *unit, from)
            }
        }
    }

    /// Begins to read splits before their turn, as many as may be.
    fn read_ahead(&mut self) {
        while let Some(split) = self.hub.take_ahead(self.lane) {
            let rows = self.open(&split, split.cursor.next_row());
            let ahead = ReadAhead::begin(rows, self.allowance.clone());
            self.ahead.push_back((split, ahead));
        }
    }

    /// Gives rows to the consumer once there is room.
    async fn hand_on(
        &mut self,
        split: &Arc<Split>,
        rows: ChangeRows,
        next: &mut u64,
    ) -> Result<Read> {
        let Some(last) = rows.ordinals.last() else { return Ok(Read::Whole) };
        if split.refuses_rows {
            return Err(false_claim(split, &rows));
        }
        let after = last + 1;
        let ChangeRows { records, kinds, ordinals } = without(rows, &self.dropped)?;
        if records.num_rows() > 0 {
            let bytes = records.get_array_memory_size() as u64;
            let split = split.clone();
            let rows = Rows { split, records, kinds, ordinals, next: after, bytes };
            if !self.hub.room(self.lane).await {
                return Ok(Read::Unwanted);
            }
            self.hub.deliver(self.lane, Out::Rows(rows));
        }
        *next = after;
        self.patience.reset();
        Ok(Read::Whole)
    }
}

/// A snapshot says that it changes nothing, and here is a row that it changes.
fn false_claim(split: &Split, rows: &ChangeRows) -> Error {
    let commit = &split.step.commit;
    let error = Error::corrupt("a snapshot that claims to change no row does change some")
        .with_context("snapshot", commit.snapshot_id)
        .with_context("operation", format!("{:?}", commit.operation).to_lowercase())
        .with_context("changed rows, at least", rows.kinds.len());
    let error = match rows.kinds.first() {
        Some(kind) => error.with_context("first", format!("{kind} {}", first_row(rows))),
        None => error,
    };
    error.with_hint(
        "verify_replace `emit` delivers these rows as changes, `trust` passes over them; tell the \
         owner of the job that committed the snapshot",
    )
}

fn first_row(rows: &ChangeRows) -> String {
    let options = FormatOptions::default().with_null("null");
    let schema = rows.records.schema();
    let cells = schema.fields().iter().zip(rows.records.columns()).filter_map(|(field, column)| {
        let cell = ArrayFormatter::try_new(column.as_ref(), &options).ok()?;
        Some(format!("{}={}", field.name(), cell.value(0)))
    });
    cells.collect::<Vec<_>>().join(" ")
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
