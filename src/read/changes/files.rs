//! Rows of added files: all of them are inserts.

use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::{ChangeKind, ChangeReader, ChangeRows};
use crate::error::Result;
use crate::expr::FileStats;
use crate::scan::FileScanTask;

/// Reads one file; its rows before the physical row `from` are left out.
pub(super) fn read(
    reader: Arc<ChangeReader>,
    mut task: FileScanTask,
    from: u64,
) -> BoxStream<'static, Result<ChangeRows>> {
    let columns = &reader.columns;
    if let Some(filter) = &columns.filter {
        let stats = FileStats(&task.file, &columns.context.schema);
        if !filter.might_match(&stats) {
            return stream::empty().boxed();
        }
        if !filter.must_match(&stats) {
            task.residual = columns.context.filter.clone();
        }
    }
    let rows = reader.tasks.clone().read(task);
    let kind = if columns.upserts { ChangeKind::UpdateAfter } else { ChangeKind::Insert };
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
