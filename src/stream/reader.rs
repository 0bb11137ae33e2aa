//! Reads splits and gives their rows to the consumer of their lane.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::hub::Hub;
use super::lane_state::MOST_TAKEN;
use super::planner::expired_meanwhile;
use super::retry::Patience;
use super::split::{Out, Rows, Split, Work};
use crate::error::{Error, ErrorKind, Result};
use crate::read::{ChangeKind, ChangeRows, UnitAhead};

/// How reading ended, if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Whole,
    /// The lane's owner is gone.
    Unwanted,
}

#[derive(Debug, Clone)]
pub(super) struct SplitReader {
    pub hub: Arc<Hub>,
    /// Kinds of changes that nobody wants to see.
    dropped: Vec<ChangeKind>,
    pub patience: Patience,
    /// Into how many pieces a file of a whole snapshot may be cut.
    pieces: usize,
}

impl SplitReader {
    pub fn new(hub: Arc<Hub>, dropped: Vec<ChangeKind>, patience: Patience, pieces: usize) -> Self {
        Self { hub, dropped, patience, pieces }
    }

    /// The rows of a split from `from` on.
    pub fn open(
        &self,
        lane: usize,
        split: &Split,
        from: u64,
        decoded: Option<UnitAhead>,
    ) -> BoxStream<'static, Result<ChangeRows>> {
        self.open_with(lane, split, from, 1, decoded)
    }

    /// Begins to decode the files of a change unit before its turn, into so much memory.
    pub fn decode_ahead(&self, lane: usize, split: &Split, budget: u64) -> Option<UnitAhead> {
        let Work::Unit(changes, unit, schema) = &split.work else { return None };
        let reader = self.hub.reader(lane)?;
        Some(reader.unit_ahead(schema.clone(), changes.clone(), *unit, budget))
    }

    /// The rows of a split, to be read before their turn: with a small part of the memory that a
    /// change unit may take for pairing, for many are read so.
    pub fn open_ahead(&self, lane: usize, split: &Split) -> BoxStream<'static, Result<ChangeRows>> {
        self.open_with(lane, split, split.cursor.next_row(), MOST_TAKEN as u64, None)
    }

    fn open_with(
        &self,
        lane: usize,
        split: &Split,
        from: u64,
        share: u64,
        decoded: Option<UnitAhead>,
    ) -> BoxStream<'static, Result<ChangeRows>> {
        let Some(reader) = self.hub.reader(lane) else { return stream::empty().boxed() };
        match &split.work {
            Work::File(task) if split.is_full() => {
                reader.read_rows(task.clone(), from..split.end, split.bytes)
            }
            Work::File(task) => reader.read_file(task.clone(), from),
            Work::Unit(changes, unit, schema) => {
                let (schema, changes) = (schema.clone(), changes.clone());
                reader.read_unit_by(schema, changes, *unit, (from, share), decoded)
            }
        }
    }

    /// Gives rows to the consumer once there is room.
    pub async fn hand_on(
        &mut self,
        lane: usize,
        split: &Arc<Split>,
        rows: ChangeRows,
        next: &mut u64,
    ) -> Result<Read> {
        let Some(last) = rows.ordinals.last() else { return Ok(Read::Whole) };
        if split.refuses_rows {
            return Err(false_claim(split, &rows));
        }
        let after = last + 1;
        let rows = without(rows, &self.dropped)?;
        if rows.records.num_rows() > 0 {
            let (bytes, read) = (rows.memory_size(), after.saturating_sub(*next));
            let (split, ChangeRows { records, kinds, ordinals }) = (split.clone(), rows);
            let rows = Rows { split, records, kinds, ordinals, next: after, read, bytes };
            if !self.hub.give(lane, Out::Rows(rows)).await {
                return Ok(Read::Unwanted);
            }
        }
        *next = after;
        self.patience.reset();
        Ok(Read::Whole)
    }

    /// Reads a split of a whole snapshot to its end, beside others of its lane, or puts back what
    /// is left of it. False when that is for good, or when nobody wants the lane's rows.
    pub async fn read_beside(&mut self, lane: usize, mut split: Arc<Split>) -> bool {
        let mut next = split.cursor.next_row();
        loop {
            let error = match self.read(lane, &mut split, &mut next).await {
                Ok(Read::Unwanted) => {
                    self.hub.unwanted_beside(lane);
                    return false;
                }
                Ok(Read::Whole) => {
                    self.patience.reset();
                    self.hub.finished_beside(lane, split, next);
                    return true;
                }
                Err(error) => error,
            };
            if let Err(error) = self.patience.wait(error).await {
                let error = self.explained(&split, error).await;
                let comes_back = error.kind() == ErrorKind::Unavailable;
                self.hub.failed_beside(lane, split.from(next), error);
                return comes_back;
            }
        }
    }

    async fn read(&mut self, lane: usize, split: &mut Arc<Split>, next: &mut u64) -> Result<Read> {
        if !split.is_cut {
            *split = self.cut(lane, split).await?;
        }
        let mut batches = self.open(lane, split, *next, None);
        while let Some(rows) = batches.try_next().await? {
            if self.hand_on(lane, split, rows, next).await? == Read::Unwanted {
                return Ok(Read::Unwanted);
            }
        }
        Ok(Read::Whole)
    }

    /// Cuts a large file into pieces; the first is the caller's, the others are for whoever comes.
    async fn cut(&self, lane: usize, split: &Arc<Split>) -> Result<Arc<Split>> {
        let (Some(reader), Work::File(task)) = (self.hub.reader(lane), &split.work) else {
            return Ok(split.clone());
        };
        let ranges = match self.pieces {
            0 | 1 => None,
            pieces => reader.row_ranges(task, pieces).await?,
        };
        let pieces = split.pieces(ranges.unwrap_or_default());
        let first = pieces.first().cloned().map_or_else(|| split.clone(), Arc::new);
        self.hub.cut(lane, pieces);
        Ok(first)
    }

    /// What an error means for the stream.
    pub async fn explained(&self, split: &Split, error: Error) -> Error {
        let table = self.hub.state().table.clone();
        expired_meanwhile(&table, (&split.step, split.reads_from()), error).await
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
    if dropped.is_empty() || !rows.kinds.iter().any(|kind| dropped.contains(kind)) {
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
