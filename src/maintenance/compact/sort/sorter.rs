//! Collects rows, sorts what fits, spills what does not.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::Rows;

use super::keys::SortKeys;
use super::merge::Merge;
use super::runs::{Run, RunWriter};
use crate::clock::IdGenerator;
use crate::error::{Error, Result};

/// Runs that are merged at once; more are merged in several passes.
const FAN_IN: usize = 16;
/// Rows of a batch at most.
const BATCH_ROWS: usize = 8192;
/// So few rows are sorted sooner than another thread wakes up to do it.
const SORTED_AT_ONCE: usize = 4096;
/// What a row costs while it waits to be sorted, beside its columns and its key.
const ROW_BYTES: usize = 16;

/// Sorts rows within a budget.
///
/// * In: batches of one schema, of any size.
/// * Out: the same rows in order, rows of one key in the order they came.
/// * Memory: the budget, or one batch if that is more.
pub(in crate::maintenance::compact) struct Sorter {
    buffer: Buffer,
    keys: SortKeys,
    budget: usize,
    folder: PathBuf,
    ids: Arc<dyn IdGenerator>,
    runs: Vec<Run>,
    /// Rows of a batch in runs, so that a merge fits into the budget.
    batch_rows: usize,
}

/// Rows in order.
pub(in crate::maintenance::compact) enum Sorted {
    Memory(InMemory),
    Runs(Box<Merge>),
}

/// Rows that wait to be sorted, with their keys.
#[derive(Default)]
struct Buffer {
    batches: Vec<RecordBatch>,
    keys: Vec<Rows>,
    rows: usize,
    bytes: usize,
}

impl Sorter {
    /// Holds at most `budget` bytes; runs go to `folder`.
    pub(in crate::maintenance::compact) fn new(
        keys: SortKeys,
        budget: usize,
        folder: PathBuf,
        ids: Arc<dyn IdGenerator>,
    ) -> Self {
        let (buffer, runs) = (Buffer::default(), Vec::new());
        Self { buffer, keys, budget, folder, ids, runs, batch_rows: BATCH_ROWS }
    }

    /// Takes rows.
    ///
    /// # Errors
    /// `Unavailable` naming the spill file.
    pub(in crate::maintenance::compact) async fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let keys = self.keys.of(&batch)?;
        let buffer = &mut self.buffer;
        buffer.rows += batch.num_rows();
        buffer.bytes += batch.get_array_memory_size() + keys.size() + ROW_BYTES * batch.num_rows();
        buffer.batches.push(batch);
        buffer.keys.push(keys);
        if buffer.bytes > self.budget { self.spill().await } else { Ok(()) }
    }

    /// All rows in order.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(in crate::maintenance::compact) async fn finish(mut self) -> Result<Sorted> {
        if self.runs.is_empty() {
            let buffer = self.buffer;
            if buffer.rows <= SORTED_AT_ONCE {
                return Ok(Sorted::Memory(buffer.sort(BATCH_ROWS)));
            }
            return blocking(move || Ok(Sorted::Memory(buffer.sort(BATCH_ROWS)))).await;
        }
        if self.buffer.rows > 0 {
            self.spill().await?;
        }
        let (folder, ids, batch_rows) = (self.folder, self.ids, self.batch_rows);
        let (mut runs, mut keys) = (self.runs, self.keys);
        blocking(move || {
            while runs.len() > FAN_IN {
                let rest = runs.split_off(FAN_IN);
                let path = run_path(&folder, &*ids);
                let (longer, returned) = merge_to_run(runs, keys, path, batch_rows)?;
                keys = returned;
                runs = std::iter::once(longer).chain(rest).collect();
            }
            Ok(Sorted::Runs(Box::new(Merge::new(runs, keys, batch_rows)?)))
        })
        .await
    }

    async fn spill(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let row_bytes = buffer.bytes / buffer.rows.max(1) + 1;
        let fitting = self.budget / (2 * FAN_IN) / row_bytes;
        self.batch_rows = self.batch_rows.min(fitting.clamp(16, BATCH_ROWS));
        let (path, rows) = (run_path(&self.folder, &*self.ids), self.batch_rows);
        let run = blocking(move || {
            let Some(schema) = buffer.batches.first().map(RecordBatch::schema) else {
                return Err(Error::internal("a run without rows"));
            };
            let mut sorted = buffer.sort(rows);
            write_run(path, &schema, || sorted.next_batch())
        });
        self.runs.push(run.await?);
        Ok(())
    }
}

fn run_path(folder: &std::path::Path, ids: &dyn IdGenerator) -> PathBuf {
    folder.join(format!("meltwater-sort-{}.arrow", ids.uuid()))
}

fn write_run(
    path: PathBuf,
    schema: &SchemaRef,
    mut next: impl FnMut() -> Result<Option<RecordBatch>>,
) -> Result<Run> {
    let mut run = RunWriter::create(path, schema)?;
    while let Some(batch) = next()? {
        run.write(&batch)?;
    }
    run.finish()
}

/// Several runs as one.
fn merge_to_run(
    runs: Vec<Run>,
    keys: SortKeys,
    path: PathBuf,
    batch_rows: usize,
) -> Result<(Run, SortKeys)> {
    let mut merge = Merge::new(runs, keys, batch_rows)?;
    let Some(first) = merge.next_batch()? else {
        return Err(Error::internal("runs without rows"));
    };
    let schema = first.schema();
    let mut first = Some(first);
    let run = write_run(path, &schema, || match first.take() {
        Some(batch) => Ok(Some(batch)),
        None => merge.next_batch(),
    })?;
    Ok((run, merge.into_keys()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::internal("sorting broke off").with_source(e))?
}

/// Rows in order, whose batches are all in memory.
pub(in crate::maintenance::compact) struct InMemory {
    batches: Vec<RecordBatch>,
    /// Batch and row, in order.
    order: Vec<(u32, u32)>,
    at: usize,
    batch_rows: usize,
}

impl Buffer {
    fn sort(self, batch_rows: usize) -> InMemory {
        let mut order: Vec<(u32, u32)> = Vec::with_capacity(self.rows);
        for (at, batch) in self.batches.iter().enumerate() {
            order.extend((0..batch.num_rows()).map(|row| (at as u32, row as u32)));
        }
        let key = |(batch, row): (u32, u32)| self.keys[batch as usize].row(row as usize);
        // Equal keys compare by place, so an unstable sort keeps the order in which rows came.
        order.sort_unstable_by(|a, b| key(*a).cmp(&key(*b)).then(a.cmp(b)));
        InMemory { batches: self.batches, order, at: 0, batch_rows }
    }
}

impl InMemory {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let end = (self.at + self.batch_rows).min(self.order.len());
        let Some(rows) = self.order.get(self.at..end).filter(|rows| !rows.is_empty()) else {
            return Ok(None);
        };
        let rows: Vec<(usize, usize)> =
            rows.iter().map(|(batch, row)| (*batch as usize, *row as usize)).collect();
        self.at = end;
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        Ok(Some(interleave_record_batch(&batches, &rows)?))
    }
}

impl Sorted {
    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// `Unavailable` naming the spill file.
    pub(in crate::maintenance::compact) fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        match self {
            Self::Memory(rows) => rows.next_batch(),
            Self::Runs(merge) => merge.next_batch(),
        }
    }
}
