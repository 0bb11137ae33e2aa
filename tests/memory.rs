//! A scan stays within its memory budget, whatever deletes it meets, and so does a compaction that
//! sorts more than that: allocations are counted.

use std::alloc::System;
use std::sync::Arc;

use arrow::array::Int64Array;
use futures::TryStreamExt;
use meltwater::catalog::{Catalog, FileSystemCatalog, NewTable};
use meltwater::maintenance::{CompactOptions, SortBy, SortColumn};
use meltwater::spec::{NamespaceIdent, PrimitiveType, Schema, TableIdent};
use meltwater::storage::Storage;
use meltwater::table::Table;
use meltwater::write::AppendOptions;

#[path = "../benches/support/counting.rs"]
mod counting;
mod kit;

use counting::{Counting, counted_from_here, peak};

const MIB: usize = 1024 * 1024;
/// Tests count the allocations of one process: one at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[global_allocator]
static ALLOCATOR: Counting<System> = Counting(System);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_holds_no_more_than_its_budget_and_a_quarter() {
    let _alone = ALONE.lock().await;
    let spread = |n: i64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15u64 as i64);
    let batch = |from: i64, to: i64, step: usize| {
        let ids = Int64Array::from_iter_values((from..to).step_by(step).map(spread));
        kit::batch(vec![("id", 1, Arc::new(ids))])
    };
    let mut table = kit::table(vec![kit::optional(1, "id", PrimitiveType::Long)]);
    let mut files = Vec::new();
    for n in 0..6 {
        let rows = batch(n * 300_000, (n + 1) * 300_000, 1);
        files.push(kit::file_in_groups(&table, &format!("d{n}"), &rows, 100_000).await);
    }
    table = kit::append(&table, files).await;
    let mut deletes = Vec::new();
    for n in 0..3i64 {
        let rows = batch(n, 1_800_000, 3);
        let rows = rows.slice(0, rows.num_rows() - 50_000 * n as usize);
        deletes.push(kit::equality(&table, &format!("e{n}"), &rows, &[1]).await);
    }
    table = kit::delete(&table, deletes).await;

    for budget in [128 * MIB, 32 * MIB, 16 * MIB] {
        let scan = table.scan().memory_budget(budget as u64).parallelism(2);
        let idle = counted_from_here();
        let mut batches = scan.to_batches().await.unwrap();
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await.unwrap() {
            rows += batch.num_rows();
        }
        drop(batches);
        let peak = peak() - idle;
        assert_eq!(rows, 150_000, "budget {budget}");
        assert!(peak <= budget + budget / 4, "{} of {} MiB", peak / MIB, budget / MIB);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sorting_compaction_holds_no_more_than_its_budget_and_a_quarter() {
    let _alone = ALONE.lock().await;
    // On disk: in the memory store the new files themselves would count.
    let folder = tempfile::tempdir().unwrap();
    let root = format!("file://{}", folder.path().display());
    let catalog = Arc::new(FileSystemCatalog::new(root, Storage::default()));
    let namespace = NamespaceIdent::new("ns".into());
    catalog.create_namespace(&namespace, Default::default()).await.unwrap();
    let long = |id, name| kit::required(id, name, PrimitiveType::Long);
    let schema = Schema::builder().with_fields([long(1, "id"), long(2, "other")]).build().unwrap();
    let ident = TableIdent::new(namespace, "t".into());
    let loaded = catalog.create_table(&ident, NewTable::new(schema)).await.unwrap();
    let mut table = Table::from_loaded(catalog, ident, loaded);
    let spread = |n: i64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15u64 as i64);
    for n in 0..6 {
        let mut writer = table.append_writer(AppendOptions::default()).unwrap();
        for k in 0..50 {
            let from = (n * 50 + k) * 10_000;
            let ids = Int64Array::from_iter_values((from..from + 10_000).map(spread));
            let rows =
                vec![("id", 1, Arc::new(ids.clone()) as _), ("other", 2, Arc::new(ids) as _)];
            writer.write(kit::batch(rows)).await.unwrap();
        }
        table = table.append(writer.close().await.unwrap()).commit().await.unwrap().table;
    }

    // 48 MiB of rows, 120 MiB with their keys.
    for budget in [128 * MIB, 64 * MIB] {
        let by_id = SortColumn { name: "id".into(), descending: false };
        let options = CompactOptions {
            rewrite_all: true,
            sort: Some(SortBy::Columns(vec![by_id])),
            memory_budget_bytes: budget as u64,
            max_concurrent_groups: 1,
            spill_directory: Some(folder.path().to_owned()),
            ..CompactOptions::default()
        };
        let idle = counted_from_here();
        let table = table.refresh().await.unwrap();
        let report = table.compact(options).run().await.unwrap();
        let peak = peak() - idle;
        assert_eq!(report.report.after.rows, 3_000_000, "budget {budget}");
        assert!(peak <= budget + budget / 4, "{} of {} MiB", peak / MIB, budget / MIB);
    }
}
