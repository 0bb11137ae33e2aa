//! Rows of added files: all of them are inserts.

use std::ops::Range;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::{ChangeKind, ChangeReader, ChangeRows};
use crate::error::Result;
use crate::expr::FileStats;
use crate::scan::FileScanTask;

/// Reads one file; its rows before the physical row `from` are left out.
pub(super) fn read(
    reader: Arc<ChangeReader>,
    task: FileScanTask,
    from: u64,
) -> BoxStream<'static, Result<ChangeRows>> {
    let Some(task) = narrowed(&reader, task) else { return stream::empty().boxed() };
    let rows = reader.tasks.clone().read(task);
    inserts(reader, rows, from)
}

/// Reads some rows of one file, with one decoder.
pub(super) fn read_rows(
    reader: Arc<ChangeReader>,
    task: FileScanTask,
    rows: Range<u64>,
    bytes: u64,
) -> BoxStream<'static, Result<ChangeRows>> {
    let Some(task) = narrowed(&reader, task) else { return stream::empty().boxed() };
    let from = rows.start;
    let rows = reader.tasks.clone().read_rows(task, rows, bytes);
    inserts(reader, rows, from)
}

/// The task with the filter that its rows have to pass; `None` if none of them can.
fn narrowed(reader: &ChangeReader, mut task: FileScanTask) -> Option<FileScanTask> {
    let columns = &reader.columns;
    if let Some(filter) = &columns.filter {
        let stats = FileStats(&task.file, &columns.context.schema);
        if !filter.might_match(&stats) {
            return None;
        }
        if !filter.must_match(&stats) {
            task.residual = columns.context.filter.clone();
        }
    }
    Some(task)
}

fn inserts(
    reader: Arc<ChangeReader>,
    rows: BoxStream<'static, Result<RecordBatch>>,
    from: u64,
) -> BoxStream<'static, Result<ChangeRows>> {
    let kind = match reader.columns.upserts {
        true => ChangeKind::UpdateAfter,
        false => ChangeKind::Insert,
    };
    rows.try_filter_map(move |batch| {
        let reader = reader.clone();
        async move {
            let ordinals = reader.columns.positions(&batch)?;
            let skipped = ordinals.partition_point(|row| *row < from);
            if skipped == ordinals.len() {
                return Ok(None);
            }
            let batch = batch.slice(skipped, batch.num_rows() - skipped);
            let ordinals = ordinals.get(skipped..).unwrap_or_default().to_vec();
            let records = reader.columns.finish(&batch)?;
            let kinds = vec![kind; records.num_rows()];
            Ok(Some(ChangeRows { records, kinds, ordinals }))
        }
    })
    .boxed()
}
