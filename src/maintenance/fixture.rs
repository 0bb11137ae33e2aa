//! Short names for tables with small files and deletes, and compactions of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::TryStreamExt;

pub(in crate::maintenance) use crate::dml::tests::fixture::{
    Row, delete_files, delete_ids, file, row, rows_of,
};
use crate::maintenance::{CompactOptions, CompactReport, Progress};
use crate::spec::*;
use crate::table::{At, Table};

/// Two small files are enough; one group at a time, so that tests are the same every time.
pub(in crate::maintenance) fn options() -> CompactOptions {
    CompactOptions { min_input_files: 2, max_concurrent_groups: 1, ..CompactOptions::default() }
}

/// Appends one file with the ids, names `n<id>`, in the partition of `day` if there is one.
pub(in crate::maintenance) async fn append(table: &Table, ids: &[i64], day: i32) -> Table {
    let rows: Vec<Row> = ids.iter().map(|id| row(*id, &format!("n{id}"), day)).collect();
    let files = file(table, &rows, partition(table, day)).await;
    table.append(files).commit().await.unwrap().table
}

/// The partition of `day` in the table's current spec.
pub(in crate::maintenance) fn partition(table: &Table, day: i32) -> PartitionKey {
    let spec = table.metadata().default_partition_spec();
    match spec.is_unpartitioned() {
        true => PartitionKey::unpartitioned(spec.spec_id()),
        false => crate::table::tests::kit::day(spec.spec_id(), day),
    }
}

/// An equality delete of ids in the partition of `day`.
pub(in crate::maintenance) async fn delete_keys(table: &Table, ids: &[i64], day: i32) -> Table {
    let deletes = delete_ids(table, ids, partition(table, day)).await;
    table.row_delta(deletes).commit().await.unwrap().table
}

/// Deletes rows by position.
pub(in crate::maintenance) async fn delete_where(table: &Table, filter: &str) -> Table {
    let filter = crate::expr::parse(filter, table.schema()).unwrap();
    table.refresh().await.unwrap().delete_where(filter).commit().await.unwrap().table
}

pub(in crate::maintenance) async fn compact(
    table: &Table,
    options: CompactOptions,
) -> (Table, CompactReport) {
    let report = table.refresh().await.unwrap().compact(options).run().await.unwrap();
    (table.refresh().await.unwrap(), report)
}

pub(in crate::maintenance) async fn ids(table: &Table) -> Vec<i64> {
    let table = table.refresh().await.unwrap();
    rows_of(&table, At::Current).await.into_iter().map(|row| row.0).collect()
}

/// The live data files of the head.
pub(in crate::maintenance) async fn data_files(table: &Table) -> Vec<Arc<DataFile>> {
    let table = table.refresh().await.unwrap();
    let tasks = table.scan().plan().await.unwrap();
    tasks.map_ok(|task| task.file).try_collect().await.unwrap()
}

/// Data and delete files in the store that no snapshot ever listed.
pub(in crate::maintenance) async fn orphans(table: &Table) -> usize {
    let table = table.refresh().await.unwrap();
    let mut known = HashSet::new();
    for snapshot in table.metadata().snapshots() {
        for manifest in table.manifests(snapshot).await.unwrap().iter() {
            let entries = table.entries(manifest).await.unwrap();
            known.extend(entries.iter().map(|e| e.file.file_path.clone()));
        }
    }
    let listing = table.storage().list(&table.data_location()).unwrap();
    let stored: Vec<_> = listing.try_collect().await.unwrap();
    stored.iter().filter(|info| !known.contains(&info.location)).count()
}

/// The operation and our mark of the newest snapshot.
pub(in crate::maintenance) fn mark(table: &Table) -> (Operation, Option<String>) {
    let summary = table.current_snapshot().unwrap().summary();
    let mark = summary.additional_properties.get("meltwater.logical-change").cloned();
    (summary.operation.clone(), mark)
}

/// The data sequence numbers of the live delete files of one kind, ascending.
pub(in crate::maintenance) async fn ages(table: &Table, content: DataContentType) -> Vec<i64> {
    let table = table.refresh().await.unwrap();
    let mut found = Vec::new();
    for manifest in table.manifests(table.current_snapshot().unwrap()).await.unwrap().iter() {
        for entry in table.entries(manifest).await.unwrap().iter().filter(|e| e.is_live()) {
            if entry.file.content == content {
                found.push(entry.sequence_number.0);
            }
        }
    }
    found.sort_unstable();
    found
}

/// Asks to stop after so many questions.
#[derive(Debug)]
pub(in crate::maintenance) struct StopAfter {
    left: AtomicUsize,
}

impl StopAfter {
    pub(in crate::maintenance) fn questions(questions: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(questions) })
    }
}

impl Progress for StopAfter {
    fn should_stop(&self) -> bool {
        let fewer = |left: usize| Some(left.saturating_sub(1));
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).unwrap() == 0
    }
}
