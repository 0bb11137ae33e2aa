//! Rows of scans: metadata columns, order, limits, budgets, errors; and random histories
//! against a plain model.

mod history;
mod lookup;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{Field, Int32Type, Int64Type, Schema as ArrowSchema};
use futures::TryStreamExt;

use crate::error::ErrorKind;
use crate::kit;
use crate::spec::*;
use crate::table::Table;

fn longs(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn fields() -> Vec<NestedFieldRef> {
    vec![
        kit::optional(1, "id", PrimitiveType::Long),
        kit::optional(2, "name", PrimitiveType::String),
    ]
}

fn id_batch(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    kit::batch(vec![("id", 1, longs(values))])
}

fn id_values(batches: &[RecordBatch]) -> Vec<i64> {
    let column = |b: &RecordBatch| b.column(0).as_primitive::<Int64Type>().values().to_vec();
    batches.iter().flat_map(column).collect()
}

async fn sorted_ids(scan: &crate::scan::TableScan) -> Vec<i64> {
    let mut ids = id_values(&kit::batches(scan).await.unwrap());
    ids.sort_unstable();
    ids
}

/// `files` files of `rows` consecutive ids each, small row groups.
async fn numbered(files: i64, rows: i64) -> Table {
    let table = kit::table(fields());
    let mut found = Vec::new();
    for n in 0..files {
        let batch = id_batch(n * rows..(n + 1) * rows);
        found.push(kit::file_in_groups(&table, &format!("d{n}"), &batch, 1000).await);
    }
    kit::append(&table, found).await
}

#[tokio::test]
async fn metadata_columns_say_where_a_row_is_and_whether_it_is_dead() {
    let spec = UnboundPartitionSpec::builder()
        .add_partition_field(2, "name_part", Transform::Identity)
        .unwrap()
        .build();
    let table = kit::table_with(fields(), spec, &[]);
    let mut file = kit::file(&table, "d", &id_batch([5, 6, 7])).await;
    file.partition = Struct::from_iter([Some(Literal::string("x"))]);
    let table = kit::append(&table, vec![file.clone()]).await;
    let table = kit::delete(&table, vec![kit::positions_of(&table, "p", &file, &[0]).await]).await;
    let mut keys = kit::equality(&table, "e", &id_batch([7]), &[1]).await;
    keys.partition = file.partition.clone();
    let table = kit::delete(&table, vec![keys]).await;

    let scan = table.scan().select(["_pos", "id", "_file", "_spec_id", "_partition"]);
    let found = kit::rows(&scan).await.unwrap();
    assert_eq!(found.num_rows(), 1);
    assert_eq!(found.column(0).as_primitive::<Int64Type>().value(0), 1);
    assert_eq!(found.column(1).as_primitive::<Int64Type>().value(0), 6);
    assert_eq!(found.column(2).as_string::<i32>().value(0), file.file_path);
    assert_eq!(found.column(3).as_primitive::<Int32Type>().value(0), file.spec_id);
    let partition = found.column(4).as_struct();
    assert_eq!(partition.column_names(), ["name_part"]);
    assert_eq!(partition.column(0).as_string::<i32>().value(0), "x");

    let found = kit::rows(&table.scan().select(["id", "_deleted"])).await.unwrap();
    assert_eq!(found.num_columns(), 2);
    assert_eq!(found.column(1).as_boolean(), &BooleanArray::from(vec![true, false, true]));
    assert_eq!(table.scan().count().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ordered_scans_keep_the_order_and_others_lose_no_row() {
    let table = numbered(12, 3_500).await;
    let all: Vec<i64> = (0..42_000).collect();
    let ordered = table.scan().select(["id"]).ordered(true).batch_size(700);
    assert_eq!(id_values(&kit::batches(&ordered).await.unwrap()), all);
    assert_eq!(sorted_ids(&table.scan().select(["id"]).parallelism(5)).await, all);
    assert_eq!(sorted_ids(&table.scan().select(["id"]).memory_budget(0)).await, all);
    assert_eq!(sorted_ids(&table.scan().memory_budget(0).ordered(true)).await, all);
}

#[tokio::test]
async fn limits_end_scans_and_counts() {
    let table = numbered(3, 3_000).await;
    for limit in [0, 1, 2_999, 3_001, 9_000, 10_000] {
        let expected = limit.min(9_000);
        let scan = table.scan().limit(limit);
        let rows: usize = kit::batches(&scan).await.unwrap().iter().map(|b| b.num_rows()).sum();
        assert_eq!(rows as u64, expected);
        assert_eq!(scan.count().await.unwrap(), expected);
        let first = id_values(&kit::batches(&scan.clone().ordered(true)).await.unwrap());
        assert_eq!(first, (0..expected as i64).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn counting_reads_no_data_file_that_metadata_can_answer_for() {
    let table = numbered(2, 1_000).await;
    let head = table.current_snapshot().unwrap().clone();
    let mut files = Vec::new();
    for manifest in table.manifests(&head).await.unwrap().iter() {
        let entries = table.entries(manifest).await.unwrap();
        files.extend(entries.iter().map(|e| e.file.as_ref().clone()));
    }
    let dead = kit::positions_of(&table, "p", &files[0], &[0, 5, 999]).await;
    let table = kit::delete(&table, vec![dead]).await;
    for file in &files {
        table.storage().delete(&file.file_path).await.unwrap();
    }
    assert_eq!(table.scan().count().await.unwrap(), 1_997);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_past_the_budget_give_the_same_rows_in_several_passes() {
    let mut table = numbered(6, 5_000).await;
    let mut deletes = Vec::new();
    for n in 0..5i64 {
        let keys = id_batch((0..40_000).filter(|id| id % 7 == n).map(|id| id * 3));
        deletes.push(kit::equality(&table, &format!("e{n}"), &keys, &[1]).await);
    }
    table = kit::delete(&table, deletes).await;
    let young = kit::file(&table, "young", &id_batch(0..100)).await;
    table = kit::append(&table, vec![young]).await;
    let is_dead = |id: &i64| id % 3 == 0 && (id / 3) % 7 < 5;
    let mut expected: Vec<i64> = (0..30_000).filter(|id| !is_dead(id)).chain(0..100).collect();
    expected.sort_unstable();
    for budget in [1 << 30, 1 << 20, 1 << 16, 0] {
        let scan = table.scan().select(["id"]).memory_budget(budget);
        assert_eq!(sorted_ids(&scan).await, expected, "budget {budget}");
        assert_eq!(scan.count().await.unwrap(), expected.len() as u64, "budget {budget}");
    }
    let scan = table.scan().select(["name"]).memory_budget(1 << 16).ordered(true);
    assert_eq!(kit::rows(&scan).await.unwrap().num_rows(), expected.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn large_files_are_read_in_pieces_without_losing_or_doubling_rows() {
    let table = kit::table(fields());
    let scattered = |n: i64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15u64 as i64);
    let batch = id_batch((0..1_600_000).map(scattered));
    let file = kit::file_in_groups(&table, "large", &batch, 150_000).await;
    assert!(file.file_size_in_bytes > 10 << 20, "{} bytes", file.file_size_in_bytes);
    let dead: Vec<i64> = (0..1_600_000).step_by(1000).collect();
    let positions = kit::positions_of(&table, "p", &file, &dead).await;
    let table = kit::append(&table, vec![file]).await;
    let table = kit::delete(&table, vec![positions]).await;
    let expected: Vec<i64> = (0..1_600_000).filter(|n| n % 1000 != 0).map(scattered).collect();
    let ordered = table.scan().select(["id"]).ordered(true).parallelism(4);
    assert!(id_values(&kit::batches(&ordered).await.unwrap()) == expected);
    let mut sorted = expected;
    sorted.sort_unstable();
    assert!(sorted_ids(&table.scan().select(["id"]).parallelism(4)).await == sorted);
}

#[tokio::test]
async fn a_missing_data_file_is_named_with_its_snapshot() {
    let table = numbered(2, 10).await;
    table.storage().delete("memory:///t/data/d1.parquet").await.unwrap();
    let error = kit::batches(&table.scan()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let snapshot = table.current_snapshot().unwrap().snapshot_id().to_string();
    assert!(error.to_string().contains("d1.parquet"), "{error}");
    assert!(error.to_string().contains(&snapshot), "{error}");
    assert!(error.hint().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_dropped_early_leaves_nothing_running() {
    let table = numbered(8, 3_000).await;
    for ordered in [false, true] {
        let scan = table.scan().ordered(ordered).batch_size(100);
        let mut stream = scan.to_batches().await.unwrap();
        assert!(stream.try_next().await.unwrap().is_some());
        drop(stream);
    }
    kit::assert_nothing_runs().await;
}

#[tokio::test]
async fn files_without_field_ids_are_read_through_the_name_mapping() {
    let mapping =
        r#"[{"field-id": 1, "names": ["id", "old_id"]}, {"field-id": 2, "names": ["n.m"]}]"#;
    let properties = [("schema.name-mapping.default", mapping)];
    let table = kit::table_with(fields(), UnboundPartitionSpec::default(), &properties);
    let strings: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let schema = ArrowSchema::new(vec![
        Field::new("n.m", strings.data_type().clone(), true),
        Field::new("old_id", arrow::datatypes::DataType::Int32, true),
    ]);
    let ints: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let batch = RecordBatch::try_new(Arc::new(schema), vec![strings, ints]).unwrap();
    let table = kit::append(&table, vec![kit::file(&table, "imported", &batch).await]).await;
    let keys = kit::equality(&table, "e", &id_batch([2]), &[1]).await;
    let table = kit::delete(&table, vec![keys]).await;
    let found = kit::rows(&table.scan()).await.unwrap();
    assert_eq!(found.column(0).as_primitive::<Int64Type>().values(), &[1]);
    assert_eq!(found.column(1).as_string::<i32>().value(0), "a");
}

#[tokio::test]
async fn one_task_can_be_read_by_itself() {
    let table = numbered(3, 100).await;
    let scan = table.scan().select(["id"]);
    let tasks: Vec<_> = scan.plan().await.unwrap().try_collect().await.unwrap();
    let batches: Vec<_> =
        scan.task_batches(tasks[1].clone()).await.unwrap().try_collect().await.unwrap();
    assert_eq!(id_values(&batches), (100..200).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_large_row_group_is_decoded_on_several_cores_and_keeps_its_order() {
    let table = kit::table(fields());
    let spread = |n: i64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15u64 as i64);
    let ids: Vec<i64> = (0..2_600_000).map(spread).collect();
    let file =
        kit::file_in_groups(&table, "large", &id_batch(ids.iter().copied()), 2_600_000).await;
    let footer = crate::file::footer(table.storage(), &file.file_path, None).await.unwrap();
    assert_eq!(footer.num_row_groups(), 1);
    let parts = super::pieces::cut(&footer, 3);
    let rows: Vec<_> = parts.iter().map(|part| part.rows.clone().unwrap()).collect();
    assert_eq!(rows, [0..1_300_000, 1_300_000..2_600_000]);

    let dead: Vec<i64> = (0..2_600_000).step_by(400_001).collect();
    let table = kit::append(&table, vec![file.clone()]).await;
    let table = kit::delete(&table, vec![kit::positions_of(&table, "p", &file, &dead).await]).await;
    let alive: Vec<i64> =
        ids.iter().enumerate().filter(|(n, _)| n % 400_001 != 0).map(|(_, id)| *id).collect();
    let scan = table.scan().select(["id", "_pos"]).parallelism(3).ordered(true);
    let batches = kit::batches(&scan).await.unwrap();
    assert!(id_values(&batches) == alive, "rows are lost, doubled or out of order");
    let places =
        batches.iter().flat_map(|b| b.column(1).as_primitive::<Int64Type>().values().to_vec());
    assert!(places.eq((0..2_600_000i64).filter(|n| n % 400_001 != 0)));
    let first = kit::batches(&scan.clone().limit(1_500_000)).await.unwrap();
    assert!(id_values(&first) == alive[..1_500_000]);
}
