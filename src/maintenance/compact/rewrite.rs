//! Reads the rows of one group and writes them again, in order or sorted.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use futures::stream::BoxStream;

use super::CompactGroup;
use super::outputs::{Outputs, Shape, Written};
use super::row_map::RowMap;
use super::sort::{SortKeys, Sorter};
use crate::error::{Error, Result};
use crate::maintenance::Progress;
use crate::maintenance::partitions::branch_scan;
use crate::read::TaskReader;
use crate::spec::{SnapshotId, SortField};
use crate::table::Table;

const POS: &str = "_pos";

/// The version of the table that groups were planned on, with a reader of it.
#[derive(Debug, Clone)]
pub(super) struct Base {
    pub table: Table,
    pub planned_at: SnapshotId,
    pub reader: Arc<TaskReader>,
    /// Whether rows come with their positions, in the last column.
    positions: bool,
}

impl Base {
    /// `memory_bytes` is what reading may hold.
    pub(super) fn new(
        table: &Table,
        branch: &str,
        planned_at: SnapshotId,
        memory_bytes: u64,
    ) -> Result<Self> {
        let schema = table.schema();
        // A column of that name hides the row's position: then deletes cannot be carried over.
        let positions = schema.field_by_name(POS).is_none();
        let names = schema.as_struct().fields().iter().map(|f| f.name.clone());
        let pos = positions.then(|| POS.to_string());
        let scan = branch_scan(table, branch)
            .select(names.chain(pos))
            .memory_budget(memory_bytes)
            .ordered(true);
        let reader = Arc::new(scan.task_reader()?);
        Ok(Self { table: table.clone(), planned_at, reader, positions })
    }
}

/// How the rows of a group are written.
#[derive(Debug, Clone)]
pub(super) struct Rewriting {
    pub shape: Shape,
    /// Empty when rows keep their order.
    pub sort: Vec<SortField>,
    /// Bytes that sorting may hold before it spills.
    pub sort_bytes: usize,
    pub spill_directory: PathBuf,
    pub progress: Arc<dyn Progress>,
}

/// Writes a group; `None` if it was asked to stop. With the files comes where each row went, if
/// rows kept order and partition. After an error no file stays.
pub(super) async fn rewrite(
    base: &Base,
    group: &CompactGroup,
    rewriting: &Rewriting,
) -> Result<Option<(Written, Option<RowMap>)>> {
    let in_order = rewriting.sort.is_empty();
    let mut map = (in_order && group.stays() && base.positions)
        .then(|| RowMap::new(group.tasks.iter().map(|t| &*t.file)));
    let mut outputs = Outputs::open(&base.table, group, rewriting.shape)?;
    let mut rows = Rows::of(base, group, rewriting);
    let done = match in_order {
        true => copy(&mut rows, &mut outputs, map.as_mut()).await,
        false => sort(base, rewriting, &mut rows, &mut outputs).await,
    };
    match done {
        Ok(true) => {}
        Ok(false) => {
            outputs.abort().await;
            return Ok(None);
        }
        Err(error) => {
            outputs.abort().await;
            return Err(error);
        }
    }
    let written = outputs.close(&base.table).await?;
    if let Some(map) = &mut map {
        map.finish(&written.files);
    }
    Ok(Some((written, map)))
}

async fn copy(
    rows: &mut Rows<'_>,
    outputs: &mut Outputs,
    mut map: Option<&mut RowMap>,
) -> Result<bool> {
    while let Some((task, batch, positions)) = rows.next().await? {
        if let (Some(map), Some(positions)) = (map.as_mut(), positions) {
            map.push(task, positions.as_primitive::<Int64Type>().values())?;
        }
        outputs.write(batch).await?;
    }
    Ok(!rows.stopped)
}

async fn sort(
    base: &Base,
    rewriting: &Rewriting,
    rows: &mut Rows<'_>,
    outputs: &mut Outputs,
) -> Result<bool> {
    let keys = SortKeys::new(base.table.schema(), &rewriting.sort)?;
    let ids = base.table.environment().ids.clone();
    let folder = rewriting.spill_directory.clone();
    let mut sorter = Sorter::new(keys, rewriting.sort_bytes, folder, ids);
    while let Some((_, batch, _)) = rows.next().await? {
        sorter.push(batch).await?;
    }
    if rows.stopped {
        return Ok(false);
    }
    let mut sorted = sorter.finish().await?;
    while let Some(batch) = sorted.next_batch()? {
        outputs.write(batch).await?;
        if rewriting.progress.should_stop() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The living rows of a group, with progress told on the way.
struct Rows<'a> {
    batches: BoxStream<'static, Result<(usize, RecordBatch)>>,
    positions: bool,
    progress: &'a dyn Progress,
    bytes: u64,
    rows: u64,
    told: u64,
    stopped: bool,
}

impl<'a> Rows<'a> {
    fn of(base: &Base, group: &CompactGroup, rewriting: &'a Rewriting) -> Self {
        Self {
            batches: base.reader.clone().read_all(group.tasks.clone()),
            positions: base.positions,
            progress: &*rewriting.progress,
            bytes: group.input.bytes,
            rows: group.input.rows.max(1),
            told: 0,
            stopped: false,
        }
    }

    /// Number of the file, rows, and their positions; `None` at the end or when asked to stop.
    async fn next(
        &mut self,
    ) -> Result<Option<(usize, RecordBatch, Option<arrow::array::ArrayRef>)>> {
        if self.progress.should_stop() {
            self.stopped = true;
            return Ok(None);
        }
        let Some((task, batch)) = self.batches.try_next().await? else {
            // Dead rows never came by.
            self.tell(self.bytes);
            return Ok(None);
        };
        self.tell(self.told + (batch.num_rows() as u64).saturating_mul(self.bytes) / self.rows);
        if !self.positions {
            return Ok(Some((task, batch, None)));
        }
        let last = batch.num_columns().saturating_sub(1);
        let positions = batch.columns().get(last).cloned();
        let positions = positions
            .filter(|p| p.as_primitive_opt::<Int64Type>().is_some())
            .ok_or_else(|| Error::internal("rows came without their positions"))?;
        let rows = batch.project(&(0..last).collect::<Vec<_>>())?;
        Ok(Some((task, rows, Some(positions))))
    }

    fn tell(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.progress.advance(bytes.saturating_sub(self.told));
        self.told = bytes.max(self.told);
    }
}
