//! Tasks to rows: merge-on-read.
//!
//! In: a [`TableScan`] or one [`FileScanTask`]. Out: Arrow batches of exactly the columns that
//! were asked for, without dead rows and rows that the filter drops. Pieces of files are
//! decoded on all cores within the scan's memory budget; position deletes are one bitmap a
//! data file, equality deletes one map a scope, probed a batch at a time.

mod changes;
mod columns;
mod diff;
mod driver;
mod key_filter;
mod lookup;
mod memory;
mod oversized;
mod pieces;
mod probe;
mod task;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use arrow::record_batch::RecordBatch;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use crate::error::Result;
use crate::scan::{FileScanTask, PlannedScan, ScanContext, TableScan};
use crate::spec::{DataContentType, Schema};

pub use changes::{ChangeKind, ChangeReadOptions, ChangeReader, ChangeRows, Emit, UnitAhead};
pub use diff::{DiffStat, TableDiff};
pub use key_filter::KeyFilterStore;
pub use lookup::ScanLookup;
use pieces::Part;
pub use task::TaskReader;

impl TableScan {
    /// The columns of the result, known before anything is read.
    ///
    /// # Errors
    /// As [`TableScan::context`].
    pub fn arrow_schema(&self) -> Result<ArrowSchemaRef> {
        Ok(self.context()?.arrow)
    }

    /// Reads the rows of the result.
    ///
    /// * Batches have [`TableScan::arrow_schema`], are never empty, and come as they are ready,
    ///   or in the order of manifests, files and rows when the scan is ordered.
    /// * Memory: the budget, or one batch and one row group if that is more.
    /// * Dropping the stream stops all work. After an error it ends.
    ///
    /// # Errors
    /// As [`TableScan::plan`] at once; in the stream `NotFound` naming file and snapshot,
    /// `CorruptData` and `Unavailable` naming the file.
    pub async fn to_batches(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let context = self.context()?;
        let planned = context.plan().await?;
        let reader = TaskReader::new(self, context, Some(planned.deletes.clone()))?;
        let rows = driver::run(Arc::new(reader), planned.tasks);
        Ok(match self.limit {
            None => rows,
            Some(limit) => limited(rows, limit),
        })
    }

    /// Counts the rows of the result. Files without deletes and filters are counted from
    /// metadata alone, files with position deletes from the delete files.
    ///
    /// # Errors
    /// As [`TableScan::to_batches`].
    pub async fn count(&self) -> Result<u64> {
        let mut context = self.context()?;
        context.output = Arc::new(Schema::builder().build()?);
        context.arrow = crate::file::arrow_schema(&context.output)?;
        let PlannedScan { tasks, deletes } = context.plan().await?;
        let reader = Arc::new(TaskReader::new(self, context, Some(deletes))?);
        let counted = Arc::new(AtomicU64::new(0));
        let (counter, counting) = (counted.clone(), reader.clone());
        let unknown = tasks
            .map_ok(move |task| {
                let (reader, counter) = (counting.clone(), counter.clone());
                async move {
                    let Some(rows) = known_rows(&reader, &task).await? else {
                        return Ok(Some(task));
                    };
                    counter.fetch_add(rows, Ordering::Relaxed);
                    Ok(None)
                }
            })
            .try_buffered(self.parallelism)
            .try_filter_map(|task| async move { Ok(task) });
        let mut batches = driver::run(reader, unknown.boxed());
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await? {
            rows += batch.num_rows() as u64;
        }
        let rows = rows + counted.load(Ordering::Relaxed);
        Ok(self.limit.map_or(rows, |limit| rows.min(limit)))
    }

    /// Reads the rows of one planned task, in file order. For many tasks keep a
    /// [`TableScan::task_reader`], which loads shared delete files once.
    ///
    /// # Errors
    /// As [`TableScan::to_batches`].
    pub async fn task_batches(
        &self,
        task: FileScanTask,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        Ok(Arc::new(self.task_reader()?).read(task))
    }

    /// A reader of single tasks of this scan.
    ///
    /// # Errors
    /// As [`TableScan::context`].
    pub fn task_reader(&self) -> Result<TaskReader> {
        TaskReader::new(self, self.context()?, None)
    }
}

impl TaskReader {
    /// The rows of one task, in file order.
    pub fn read(self: Arc<Self>, task: FileScanTask) -> BoxStream<'static, Result<RecordBatch>> {
        driver::run_ordered(self, stream::iter([Ok(task)]).boxed())
    }

    /// Some rows of one task, of so many compressed bytes, in file order and by one decoder.
    pub fn read_rows(
        self: Arc<Self>,
        task: FileScanTask,
        rows: Range<u64>,
        bytes: u64,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        driver::run_part(self, task, Part::of_rows(rows, bytes))
    }

    /// Bytes of rows that one task has on their way to who reads it, where batches have so many.
    pub fn on_the_way(&self, batch_bytes: u64) -> u64 {
        driver::on_the_way(self, batch_bytes)
    }

    /// Ranges of rows in which so many readers best read a task side by side, each with its
    /// compressed bytes; `None` for a file that is not worth it. Reads the footer.
    ///
    /// # Errors
    /// As [`TableScan::to_batches`].
    pub async fn row_ranges(
        &self,
        task: &FileScanTask,
        readers: usize,
    ) -> Result<Option<Vec<(Range<u64>, u64)>>> {
        let file = &task.file;
        if file.file_size_in_bytes <= pieces::SPLIT_FILES_OVER {
            return Ok(None);
        }
        let (storage, size) = (self.context.table.storage(), Some(file.file_size_in_bytes));
        let footer = crate::file::footer(storage, &file.file_path, size).await;
        let footer = footer.map_err(|e| task::in_task(e, task))?;
        Ok(Some(pieces::row_ranges(&footer, readers)))
    }

    /// The rows of many tasks in the order of tasks and rows; each batch is of one task and comes
    /// with its number. For a reader of an ordered scan ([`TableScan::ordered`]).
    pub fn read_all(
        self: Arc<Self>,
        tasks: Vec<FileScanTask>,
    ) -> BoxStream<'static, Result<(usize, RecordBatch)>> {
        driver::run_numbered(self, stream::iter(tasks.into_iter().map(Ok)).boxed())
    }
}

/// How many rows a task yields, when delete files and metadata tell.
async fn known_rows(reader: &TaskReader, task: &FileScanTask) -> Result<Option<u64>> {
    let by_position = |content| content == DataContentType::PositionDeletes;
    if task.residual.is_some() || !task.deletes.iter().all(|d| by_position(d.file.content)) {
        return Ok(None);
    }
    let rows = task.file.record_count;
    let dead = reader.loader().positions(&task.file, &task.deletes).await?;
    Ok(Some(rows - dead.map_or(0, |d| d.range_cardinality(0..rows))))
}

fn limited(
    rows: BoxStream<'static, Result<RecordBatch>>,
    limit: u64,
) -> BoxStream<'static, Result<RecordBatch>> {
    if limit == 0 {
        return stream::empty().boxed();
    }
    let state = (rows, limit);
    stream::try_unfold(state, |(mut rows, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let Some(batch) = rows.try_next().await? else { return Ok(None) };
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(batch.num_rows());
        Ok(Some((batch.slice(0, take), (rows, left - take as u64))))
    })
    .boxed()
}

/// A scan's context as a reader needs it.
fn partition_constant(context: &ScanContext, file: &crate::spec::DataFile) -> crate::spec::Literal {
    use crate::spec::{Literal, Struct};
    let spec = context.table.metadata().partition_spec_by_id(file.spec_id);
    let value_of = |id: i32| -> Option<Literal> {
        let at = spec?.fields().iter().position(|f| f.field_id == id)?;
        file.partition.iter().nth(at)?.cloned()
    };
    let fields = context.partition_struct.fields();
    Literal::Struct(fields.iter().map(|f| value_of(f.id)).collect::<Struct>())
}

#[cfg(test)]
mod tests;
