//! What a stream gives: batches of changes with their commit and their token, and watermarks.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;

use super::columns::SchemaChange;
use super::split::{Rows, Split};
use super::timeline::CommitInfo;
use crate::error::{Error, Result};
use crate::read::ChangeKind;
use crate::table::Token;

/// Something that a stream gives.
#[derive(Debug)]
pub enum StreamEvent {
    /// Changes, in order.
    Batch(ChangeBatch),
    /// Every commit before this time, in milliseconds since the epoch, was delivered. Never goes
    /// back (STR-4).
    Watermark(i64),
    /// From here on rows have other columns: everything before that commit was delivered. Only
    /// with [`super::OnSchemaChange::Announce`]. It moves no position: who goes on from a token
    /// before the rows behind it gets it again (STR-14).
    Schema(SchemaChange),
}

/// Changes of one commit to one partition, in order.
#[derive(Debug, Clone)]
pub struct ChangeBatch {
    /// The rows: the columns that were selected.
    pub records: RecordBatch,
    /// What happened to each row.
    pub kinds: Vec<ChangeKind>,
    /// The lane that read them.
    pub lane: usize,
    /// The commit that made them.
    pub commit: Arc<CommitInfo>,
    ordinals: Vec<u64>,
    split: Arc<Split>,
    /// The first ordinal after it.
    next: u64,
    end: Token,
}

impl ChangeBatch {
    pub(super) fn new(rows: Rows, lane: usize, end: Token) -> Self {
        let Rows { split, records, kinds, ordinals, next, .. } = rows;
        let commit = split.step.commit.clone();
        Self { records, kinds, lane, commit, ordinals, split, next, end }
    }

    /// Where the stream stands after this batch and everything it gave before.
    pub fn end(&self) -> Token {
        self.end.clone()
    }

    /// Where the stream stands after this batch's rows up to and including `row`.
    ///
    /// # Errors
    /// `InvalidInput` between the two images of an update, and past the end (STR-9).
    pub fn token_after(&self, row: usize) -> Result<Token> {
        let kind = |row: usize| self.kinds.get(row).copied();
        let Some(ordinal) = self.ordinals.get(row) else {
            return Err(Error::invalid("the batch has no such row")
                .with_context("row", row)
                .with_context("rows", self.kinds.len()));
        };
        let images = (kind(row), kind(row + 1));
        if images == (Some(ChangeKind::UpdateBefore), Some(ChangeKind::UpdateAfter)) {
            return Err(Error::invalid("a token cannot lie between the two images of an update")
                .with_context("row", row)
                .with_hint("take the token after the next row"));
        }
        if row + 1 == self.kinds.len() {
            return Ok(self.end());
        }
        let (from, to) = (self.split.inside(self.next), self.split.inside(ordinal + 1));
        Ok(self.end().moved_back(self.split.group, from, to))
    }

    /// The rows with the change as columns of their own behind them.
    ///
    /// # Errors
    /// `InvalidInput` if the table has a column of one of these names.
    pub fn to_flat(&self, naming: &Naming) -> Result<RecordBatch> {
        let rows = self.records.num_rows();
        let commit = &self.commit;
        let kinds = StringArray::from_iter_values(self.kinds.iter().map(|kind| kind.as_str()));
        let time = TimestampMillisecondArray::from(vec![commit.committed_at_ms; rows]);
        let added: [ArrayRef; 4] = [
            Arc::new(kinds),
            Arc::new(Int64Array::from(vec![commit.sequence_number; rows])),
            Arc::new(Int64Array::from(vec![commit.snapshot_id.0; rows])),
            Arc::new(time.with_timezone("+00:00")),
        ];
        let mut columns = self.records.columns().to_vec();
        columns.extend(added);
        Ok(RecordBatch::try_new(naming.schema(&self.records.schema())?, columns)?)
    }
}

/// The names of the columns that [`ChangeBatch::to_flat`] adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// `insert`, `update_before`, `update_after` or `delete` (default: `_change_type`).
    pub change_type: String,
    /// The commit's sequence number: orders commits (default: `_change_ordinal`).
    pub ordinal: String,
    /// The commit's snapshot (default: `_commit_snapshot_id`).
    pub snapshot_id: String,
    /// When it was committed (default: `_commit_timestamp`).
    pub timestamp: String,
}

impl Naming {
    /// The columns of [`ChangeBatch::to_flat`] for a stream whose batches have the columns `rows`.
    ///
    /// # Errors
    /// `InvalidInput` if the table has a column of one of these names.
    pub fn schema(&self, rows: &SchemaRef) -> Result<SchemaRef> {
        let time = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
        let added = [
            (&self.change_type, DataType::Utf8),
            (&self.ordinal, DataType::Int64),
            (&self.snapshot_id, DataType::Int64),
            (&self.timestamp, time),
        ];
        let mut fields: Vec<Arc<Field>> = rows.fields().iter().cloned().collect();
        for (name, data_type) in added {
            if rows.field_with_name(name).is_ok() {
                return Err(Error::invalid(
                    "the table has a column with the name of a change column",
                )
                .with_context("column", name)
                .with_hint("leave that column out, or choose other names"));
            }
            fields.push(Arc::new(Field::new(name, data_type, false)));
        }
        Ok(Arc::new(Schema::new_with_metadata(fields, rows.metadata().clone())))
    }
}

impl Default for Naming {
    fn default() -> Self {
        Self {
            change_type: "_change_type".into(),
            ordinal: "_change_ordinal".into(),
            snapshot_id: "_commit_snapshot_id".into(),
            timestamp: "_commit_timestamp".into(),
        }
    }
}
