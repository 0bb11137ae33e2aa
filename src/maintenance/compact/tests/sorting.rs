//! Sorted compactions, even file sizes.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;

use crate::maintenance::fixture::*;
use crate::maintenance::{CompactOptions, SortBy, SortColumn};
use crate::table::Table;
use crate::table::tests::kit::table;

/// Ids in the order of files and rows.
async fn in_order(table: &Table) -> Vec<i64> {
    let batches = table.scan().select(["id"]).ordered(true).to_batches().await.unwrap();
    let batches: Vec<_> = batches.try_collect().await.unwrap();
    let ids =
        batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec());
    ids.collect()
}

fn by_id() -> Option<SortBy> {
    Some(SortBy::Columns(vec![SortColumn { name: "id".into(), descending: true }]))
}

#[tokio::test]
async fn rows_are_sorted_within_and_beyond_memory() {
    let spill = tempfile::tempdir().unwrap();
    for memory in [1, 64 << 10, 512 << 20] {
        let (_, mut table) = table().await;
        for n in 0..8i64 {
            let ids: Vec<i64> = (0..500).map(|k| (k * 8 + n) * 7919 % 4001).collect();
            table = append(&table, &ids, 1).await;
        }
        let mut expected = in_order(&table).await;
        expected.sort_by(|a, b| b.cmp(a));
        let options = CompactOptions {
            sort: by_id(),
            memory_budget_bytes: memory,
            spill_directory: Some(spill.path().to_owned()),
            ..options()
        };
        let (table, _) = compact(&table, options).await;
        assert_eq!(in_order(&table).await, expected);
        assert_eq!(std::fs::read_dir(spill.path()).unwrap().count(), 0, "runs stay behind");
    }
}

#[tokio::test]
async fn a_group_becomes_files_of_even_size_without_a_small_rest() {
    let (_, mut table) = table().await;
    for n in 0..10i64 {
        table = append(&table, &(n * 1000..(n + 1) * 1000).collect::<Vec<_>>(), 1).await;
    }
    let before: u64 = data_files(&table).await.iter().map(|f| f.file_size_in_bytes).sum();
    let options = || CompactOptions {
        target_file_size_bytes: Some(before / 4 + before / 16),
        rewrite_all: true,
        ..options()
    };
    let (table, report) = compact(&table, options()).await;
    let mut rows: Vec<u64> = data_files(&table).await.iter().map(|f| f.record_count).collect();
    rows.sort();
    assert_eq!(rows, [3332, 3334, 3334]);
    assert_eq!(report.report.after.files, 3);
    assert_eq!(in_order(&table).await, (0..10_000).collect::<Vec<_>>(), "order is kept");
}
