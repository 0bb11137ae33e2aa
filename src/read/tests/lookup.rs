//! Upserts whose key leaves the partition open: old rows are looked up and deleted where they lie.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use proptest::prelude::*;

use crate::error::ErrorKind;
use crate::kit;
use crate::read::ScanLookup;
use crate::spec::*;
use crate::table::Table;
use crate::write::{AppendOptions, OnPartitionMove, UpsertOptions, UpsertWriter};

type Row = (i64, &'static str, i32);
type Rows = BTreeMap<i64, (String, i32)>;

fn by_day() -> Table {
    let fields = vec![
        kit::required(1, "id", PrimitiveType::Long),
        kit::optional(2, "name", PrimitiveType::String),
        kit::optional(3, "day", PrimitiveType::Int),
    ];
    let spec = UnboundPartitionSpec::builder()
        .add_partition_field(3, "day", Transform::Identity)
        .unwrap()
        .build();
    kit::table_with(fields, spec, &[])
}

fn batch(rows: &[Row]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1)));
    let days: ArrayRef = Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.2)));
    kit::batch(vec![("id", 1, ids), ("name", 2, names), ("day", 3, days)])
}

fn writer(table: &Table, memory: u64) -> UpsertWriter {
    let options = UpsertOptions {
        key: vec!["id".into()],
        on_partition_move: OnPartitionMove::Lookup(Arc::new(ScanLookup::default())),
        memory_budget_bytes: memory,
        ..UpsertOptions::default()
    };
    table.upsert_writer(options).unwrap()
}

async fn upsert(table: &Table, rows: &[Row]) -> Table {
    let mut writer = writer(table, 1 << 26);
    writer.write(batch(rows)).await.unwrap();
    let written = writer.close().await.unwrap();
    table.row_delta(written).commit().await.unwrap().table
}

async fn rows(table: &Table) -> Rows {
    let mut found = Rows::new();
    for batch in kit::batches(&table.scan().select(["id", "name", "day"])).await.unwrap() {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let names = batch.column(1).as_string::<i32>();
        let days = batch.column(2).as_primitive::<Int32Type>();
        for row in 0..batch.num_rows() {
            let value = (names.value(row).to_string(), days.value(row));
            assert_eq!(found.insert(ids.value(row), value), None, "two rows of one key");
        }
    }
    found
}

#[tokio::test]
async fn a_row_that_moves_to_another_partition_leaves_nothing_behind() {
    let table = upsert(&by_day(), &[(1, "a", 10), (2, "b", 10), (3, "c", 11)]).await;
    let mut moving = writer(&table, 1 << 26);
    moving.write(batch(&[(1, "moved", 12), (3, "stays", 11), (4, "new", 12)])).await.unwrap();
    moving.delete(batch(&[(2, "", 0)])).await.unwrap();
    let written = moving.close().await.unwrap();
    let days: Vec<_> =
        written.delete_files.iter().map(|f| (f.partition.clone(), f.record_count)).collect();
    let day = |day| Struct::from_iter([Some(Literal::int(day))]);
    assert_eq!(days, [(day(10), 2), (day(11), 1)], "deletes lie only where old rows lie");
    let table = table.row_delta(written).commit().await.unwrap().table;
    let expected = [(1, ("moved".into(), 12)), (3, ("stays".into(), 11)), (4, ("new".into(), 12))];
    assert_eq!(rows(&table).await, Rows::from(expected));
}

#[tokio::test]
async fn rows_that_come_or_move_after_the_look_up_are_a_conflict() {
    let table = upsert(&by_day(), &[(1, "a", 10), (2, "b", 10)]).await;
    let late = |rows: &'static [Row]| {
        let table = table.clone();
        async move {
            let mut writer = writer(&table, 1 << 26);
            writer.write(batch(rows)).await.unwrap();
            writer.close().await.unwrap()
        }
    };
    let (far, near) = (late(&[(1, "far", 11)]).await, late(&[(5, "near", 11)]).await);
    let append = |rows: &[Row]| {
        let (table, batch) = (table.clone(), batch(rows));
        async move {
            let mut writer = table.append_writer(AppendOptions::default()).unwrap();
            writer.write(batch).await.unwrap();
            let written = writer.close().await.unwrap();
            table.append(written).commit().await.unwrap();
        }
    };
    append(&[(70, "another", 12)]).await;
    table.row_delta(far).commit().await.unwrap();
    append(&[(5, "at once", 12)]).await;
    let error = table.row_delta(near).commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValidationFailed, "{error}");
    let now = rows(&table.refresh().await.unwrap()).await;
    assert_eq!(now.get(&1), Some(&("far".to_string(), 11)));
}

#[tokio::test]
async fn rows_that_a_rewrite_moved_to_another_spec_are_a_conflict() {
    let table = upsert(&by_day(), &[(1, "a", 10), (2, "b", 10)]).await;
    let table =
        table.update_spec().add_field("name", Transform::Identity, None).commit().await.unwrap();
    let mut writer = writer(&table, 1 << 26);
    writer.write(batch(&[(1, "far", 11)])).await.unwrap();
    let written = writer.close().await.unwrap();
    // A compaction under the new spec.
    let moved = crate::table::RemovedFile::new(&live_data(&table).await[0], None);
    let mut other = table.append_writer(AppendOptions::default()).unwrap();
    other.write(batch(&[(1, "a", 10), (2, "b", 10)])).await.unwrap();
    let files = other.close().await.unwrap().data_files;
    let head = SnapshotId(table.current_snapshot().unwrap().snapshot_id());
    table.rewrite_files(vec![moved], files, head).unwrap().commit().await.unwrap();
    let error = table.row_delta(written).commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValidationFailed, "{error}");
}

async fn live_data(table: &Table) -> Vec<Arc<DataFile>> {
    let mut files = Vec::new();
    for manifest in table.manifests(table.current_snapshot().unwrap()).await.unwrap().iter() {
        let entries = table.entries(manifest).await.unwrap();
        files.extend(
            entries.iter().filter(|e| e.is_live() && !e.file.is_delete()).map(|e| e.file.clone()),
        );
    }
    files
}

#[derive(Debug, Clone)]
enum Step {
    Upsert(Vec<(i64, i32)>),
    Delete(Vec<i64>),
    /// Partitions by day, or by a bucket of it.
    Spec,
}

fn any_step() -> impl Strategy<Value = Step> {
    let row = (0i64..25, 0i32..5);
    prop_oneof![
        6 => proptest::collection::vec(row, 1..12).prop_map(Step::Upsert),
        2 => proptest::collection::vec(0i64..25, 1..6).prop_map(Step::Delete),
        1 => Just(Step::Spec),
    ]
}

async fn apply(
    table: Table,
    model: &mut Rows,
    number: usize,
    step: Step,
    by_day: &mut bool,
) -> Table {
    let name: &'static str = ["p", "q", "r", "s"][number % 4];
    match step {
        Step::Upsert(new) => {
            let mut writer = writer(&table, 1 << 20);
            let new: Vec<Row> = new.into_iter().map(|(id, day)| (id, name, day)).collect();
            for half in new.chunks(new.len().div_ceil(2)) {
                writer.write(batch(half)).await.unwrap();
            }
            model.extend(new.iter().map(|(id, name, day)| (*id, (name.to_string(), *day))));
            let written = writer.close().await.unwrap();
            table.row_delta(written).commit().await.unwrap().table
        }
        Step::Delete(keys) => {
            let mut writer = writer(&table, 1 << 20);
            let rows: Vec<Row> = keys.iter().map(|id| (*id, "", 0)).collect();
            writer.delete(batch(&rows)).await.unwrap();
            keys.iter().for_each(|id| drop(model.remove(id)));
            let written = writer.close().await.unwrap();
            match written.is_empty() {
                true => table,
                false => table.row_delta(written).commit().await.unwrap().table,
            }
        }
        Step::Spec => {
            *by_day = !*by_day;
            let update = table.update_spec();
            let update = match *by_day {
                true => update.remove_field("day_bucket_3").add_field(
                    "day",
                    Transform::Identity,
                    Some("day"),
                ),
                false => update.remove_field("day").add_field(
                    "day",
                    Transform::Bucket(3),
                    Some("day_bucket_3"),
                ),
            };
            update.commit().await.unwrap()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn upserts_that_look_old_rows_up_equal_a_map(steps in proptest::collection::vec(any_step(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (mut table, mut model, mut days) = (by_day(), Rows::new(), true);
            for (number, step) in steps.into_iter().enumerate() {
                table = apply(table, &mut model, number, step, &mut days).await;
                assert_eq!(rows(&table).await, model, "after step {number}");
            }
        });
    }
}
