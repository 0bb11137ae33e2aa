//! Reads one task, or some row groups of it: decode, probe, filter, cut.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use arrow::array::Array;
use arrow::buffer::BooleanBuffer;
use arrow::record_batch::RecordBatch;
use futures::stream::BoxStream;
use roaring::RoaringTreemap;
use tokio::sync::Semaphore;

use super::columns::ReadColumns;
use super::partition_constant;
use super::pieces::Part;
use super::probe::dead_rows;
use crate::deletes::{
    DeleteFileIndex, DeleteLoader, EqualityDeletes, KeyColumns, identity_constants,
};
use crate::error::{Error, ErrorKind, Result};
use crate::expr::Filter;
use crate::file::{self, FileRead, reserved};
use crate::scan::{FileScanTask, ScanContext, TableScan};
use crate::spec::Literal;

/// Bytes of rows that travel together: fewer are not worth waking their taker, more leave the
/// processor's cache on the way. A small budget has less on its way.
const MOST_TOGETHER: u64 = 1024 * 1024;
const LEAST_TOGETHER: u64 = 128 * 1024;

/// Reads the tasks of one scan and keeps what they share: delete maps, column plans, budgets.
#[derive(Debug)]
pub struct TaskReader {
    pub(super) context: ScanContext,
    pub(super) parallelism: usize,
    pub(super) ordered: bool,
    /// KiB of row groups that may be held at once.
    pub(super) decoding: Arc<Semaphore>,
    pub(super) decoding_kib: u32,
    /// KiB of batches that may wait for the consumer.
    pub(super) waiting: Arc<Semaphore>,
    pub(super) waiting_kib: u32,
    /// Bytes of rows that travel together, and of a batch, as far as footers tell how wide rows are.
    pub(super) together: u64,
    loader: DeleteLoader,
    batch_size: usize,
    limit: Option<u64>,
    columns: Mutex<HashMap<Vec<i32>, Arc<ReadColumns>>>,
}

/// A task with what its rows are checked against.
#[derive(Debug)]
pub(super) struct Prepared {
    pub task: FileScanTask,
    pub equality: EqualityDeletes,
    /// Rows found dead by deletes that did not fit into memory whole.
    pub found_dead: RoaringTreemap,
    pub columns: Arc<ReadColumns>,
    filter: Option<Filter>,
}

impl TaskReader {
    /// Half of the scan's budget is for deletes, three eighths for row groups, the rest for
    /// batches on their way.
    pub(super) fn new(
        scan: &TableScan,
        context: ScanContext,
        deletes: Option<Arc<DeleteFileIndex>>,
    ) -> Result<Self> {
        let budget = scan.memory_budget;
        let kib = |bytes: u64| u32::try_from((bytes / 1024).max(1)).unwrap_or(u32::MAX >> 4);
        let (decoding_kib, waiting_kib) = (kib(budget / 8 * 3), kib(budget / 8));
        let table = &context.table;
        let mut loader = DeleteLoader::new(
            table.storage().clone(),
            table.metadata().clone(),
            context.name_mapping.clone(),
            budget / 2,
        );
        if let Some(index) = deletes {
            loader = loader.with_index(index);
        }
        Ok(Self {
            parallelism: scan.parallelism,
            ordered: scan.ordered,
            decoding: Arc::new(Semaphore::new(decoding_kib as usize)),
            decoding_kib,
            waiting: Arc::new(Semaphore::new(waiting_kib as usize)),
            waiting_kib,
            together: (budget / 32).clamp(LEAST_TOGETHER, MOST_TOGETHER),
            loader,
            batch_size: scan.batch_size,
            limit: scan.limit,
            columns: Mutex::default(),
            context,
        })
    }

    /// What loads this scan's delete files.
    pub fn loader(&self) -> &DeleteLoader {
        &self.loader
    }

    /// The rows of a task's data file that its deletes kill. Reads key columns only; filter and
    /// projection of the scan play no part.
    ///
    /// # Errors
    /// As [`TableScan::to_batches`], naming data file and snapshot.
    pub async fn dead_rows(&self, task: &FileScanTask) -> Result<RoaringTreemap> {
        let FileScanTask { file, sequence_number, deletes, .. } = task;
        let dead = dead_rows(&self.context, &self.loader, file, *sequence_number, deletes).await;
        dead.map_err(|e| in_task(e, task))
    }

    /// Loads the equality deletes of a task and decides on its columns.
    pub(super) async fn prepare(&self, task: FileScanTask) -> Result<Prepared> {
        let named = |e: Error| in_task(e, &task);
        let equality = self.loader.equality(&task.deletes).await.map_err(named)?;
        let keys = self.loader.key_columns(&task.deletes).map_err(named)?;
        let filter = task.residual.as_deref().map(Filter::new);
        let columns = self.columns_for(&keys, filter.as_ref())?;
        Ok(Prepared { task, equality, found_dead: RoaringTreemap::new(), columns, filter })
    }

    fn columns_for(
        &self,
        keys: &[KeyColumns],
        filter: Option<&Filter>,
    ) -> Result<Arc<ReadColumns>> {
        let mut filter_ids = BTreeSet::new();
        if let Some(filter) = filter {
            filter_ids = filter.field_ids();
        }
        let mut wanted: Vec<i32> = filter_ids.iter().copied().collect();
        wanted.extend(keys.iter().flat_map(KeyColumns::ids));
        wanted.sort_unstable();
        wanted.dedup();
        let poisoned = |_| Error::internal("the table of columns was poisoned by a panic");
        let mut known = self.columns.lock().map_err(poisoned)?;
        if let Some(columns) = known.get(&wanted) {
            return Ok(columns.clone());
        }
        let ScanContext { output, arrow, schema, .. } = &self.context;
        let columns = ReadColumns::new(output, arrow, schema, &filter_ids, keys)?;
        let columns = Arc::new(columns);
        known.insert(wanted, columns.clone());
        Ok(columns)
    }

    /// Opens the rows of a part of a task, not yet checked.
    pub(super) async fn open(&self, prepared: &Prepared, part: &Part) -> Result<OpenTask> {
        let task = &prepared.task;
        let file = &task.file;
        let mut positions =
            self.loader.positions(file, &task.deletes).await.map_err(|e| in_task(e, task))?;
        if !prepared.found_dead.is_empty() {
            let all = positions.get_or_insert_default();
            *Arc::make_mut(all) |= &prepared.found_dead;
        }
        let mut request = FileRead::new(file.file_path.clone(), prepared.columns.read.clone());
        request.file_size_in_bytes = Some(file.file_size_in_bytes);
        request.constants = self.constants(task)?;
        request.name_mapping = self.context.name_mapping.clone();
        request.filter = task.residual.as_deref().cloned();
        request.row_groups = part.row_groups.clone();
        request.rows = part.rows.clone();
        request.batch_size = self.batch_size;
        request.batch_bytes = self.together;
        if !prepared.columns.keeps_dead_rows() {
            request.deleted = positions.clone();
        }
        if task.deletes.is_empty() && task.residual.is_none() {
            let wanted = self.limit.map(|rows| 0..rows);
            request.rows = match (request.rows, wanted) {
                (Some(part), Some(all)) => Some(part.start.min(all.end)..part.end.min(all.end)),
                (part, wanted) => part.or(wanted),
            };
        }
        let read = file::read(self.context.table.storage(), request);
        let batches = read.await.map_err(|e| in_task(e, task))?;
        Ok(OpenTask { batches, positions })
    }

    pub(super) fn constants(&self, task: &FileScanTask) -> Result<HashMap<i32, Literal>> {
        let mut constants = identity_constants(&task.file, self.context.table.metadata())
            .map_err(|e| in_task(e, task))?;
        constants.insert(reserved::SPEC_ID, Literal::int(task.file.spec_id));
        if self.context.output.field_by_id(reserved::PARTITION).is_some() {
            constants.insert(reserved::PARTITION, partition_constant(&self.context, &task.file));
        }
        Ok(constants)
    }
}

/// The rows of a task as they come from the file, dead positions left out unless they are to
/// be marked.
pub(super) struct OpenTask {
    pub batches: BoxStream<'static, Result<RecordBatch>>,
    pub positions: Option<Arc<RoaringTreemap>>,
}

impl Prepared {
    /// The rows of a batch that are in the result, cut to its columns; `None` if there are none.
    pub(super) fn merge(
        &self,
        batch: RecordBatch,
        positions: Option<&RoaringTreemap>,
    ) -> Result<Option<RecordBatch>> {
        let alive = self.equality.alive(&batch, self.task.sequence_number)?;
        let passing = match &self.filter {
            None => None,
            Some(filter) => {
                let passing = filter.evaluate(&batch)?;
                (passing.true_count() < batch.num_rows()).then(|| truths(&passing))
            }
        };
        let (batch, keep) = if self.columns.keeps_dead_rows() {
            (self.columns.mark(batch, alive.as_ref(), positions)?, passing)
        } else {
            let keep = match (alive, passing) {
                (Some(a), Some(b)) => Some(&a & &b),
                (a, b) => a.or(b),
            };
            (batch, keep)
        };
        let rows = keep.as_ref().map_or(batch.num_rows(), BooleanBuffer::count_set_bits);
        if rows == 0 {
            return Ok(None);
        }
        let keep = keep.filter(|_| rows < batch.num_rows());
        self.columns.finish(&batch, keep).map(Some)
    }
}

fn truths(passing: &arrow::array::BooleanArray) -> BooleanBuffer {
    match passing.nulls() {
        None => passing.values().clone(),
        Some(nulls) => passing.values() & nulls.inner(),
    }
}

/// Names data file and snapshot, and says what a missing file means.
pub(super) fn in_task(error: Error, task: &FileScanTask) -> Error {
    if error.context().any(|(key, _)| key == "snapshot") {
        return error;
    }
    let missing = error.kind() == ErrorKind::NotFound;
    let path = &task.file.file_path;
    let mut error = error.with_context("snapshot", task.snapshot_id);
    if !error.context().any(|(_, value)| value == path) {
        error = error.with_context("data file", path);
    }
    if missing && error.hint().is_none() {
        error = error.with_hint(
            "the snapshot may have been expired while it was read: read the current one",
        );
    }
    error
}
