//! Upserts against a map, read back by a simple reader.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type};
use proptest::prelude::*;

use super::*;
use crate::error::{ErrorKind, Result};
use crate::file::{FileRead, position_delete_schema, read};
use crate::spec::*;
use crate::table::tests::kit::{partitioned, table, table_with};
use crate::write::{UpsertOptions, UpsertWriter};

type Row = (i64, String, Option<i32>);

async fn rows_of(table: &Table, path: &str, schema: SchemaRef) -> Vec<RecordBatch> {
    let stream = read(table.storage(), FileRead::new(path, schema)).await.unwrap();
    stream.try_collect().await.unwrap()
}

/// The current rows, by the book and without any cleverness.
async fn current(table: &Table) -> Vec<Row> {
    let table = table.refresh().await.unwrap();
    let Some(snapshot) = table.current_snapshot() else { return Vec::new() };
    let mut entries = Vec::new();
    for manifest in table.manifests(snapshot).await.unwrap().iter() {
        let all = table.entries(manifest).await.unwrap();
        entries.extend(all.iter().filter(|e| e.is_live()).cloned());
    }
    let mut rows = Vec::new();
    for entry in entries.iter().filter(|e| !e.file.is_delete()) {
        let mut dead: BTreeSet<i64> = BTreeSet::new();
        let mut dead_keys: BTreeSet<(Option<i64>, Option<Option<i32>>)> = BTreeSet::new();
        for delete in entries.iter().filter(|e| e.file.is_delete()) {
            let file = &delete.file;
            match file.content {
                DataContentType::PositionDeletes
                    if file.referenced_path() == Some(&entry.file.file_path)
                        && entry.sequence_number <= delete.sequence_number =>
                {
                    assert_eq!(file.partition_key(), entry.file.partition_key());
                    let schema = position_delete_schema().unwrap();
                    for batch in rows_of(&table, &file.file_path, schema).await {
                        dead.extend(batch.column(1).as_primitive::<Int64Type>().values());
                    }
                }
                DataContentType::EqualityDeletes
                    if entry.sequence_number < delete.sequence_number
                        && (file.partition.fields().is_empty()
                            || file.partition_key() == entry.file.partition_key()) =>
                {
                    let ids = file.equality_ids.clone().unwrap();
                    let fields = table.schema().as_struct().fields().iter();
                    let fields = fields.filter(|f| ids.contains(&f.id)).cloned();
                    let schema = Schema::builder().with_fields(fields).build().unwrap();
                    for batch in rows_of(&table, &file.file_path, Arc::new(schema)).await {
                        for row in 0..batch.num_rows() {
                            let id = batch
                                .column_by_name("id")
                                .map(|c| c.as_primitive::<Int64Type>().value(row));
                            let day = batch.column_by_name("day").map(|c| {
                                let c = c.as_primitive::<Int32Type>();
                                c.is_valid(row).then(|| c.value(row))
                            });
                            dead_keys.insert((id, day));
                        }
                    }
                }
                _ => {}
            }
        }
        let by_day = dead_keys.iter().any(|k| k.1.is_some());
        let mut position = 0;
        for batch in rows_of(&table, &entry.file.file_path, table.schema().clone()).await {
            for row in 0..batch.num_rows() {
                let id = batch.column(0).as_primitive::<Int64Type>().value(row);
                let name = batch.column(1).as_string::<i32>().value(row).to_string();
                let days = batch.column(2).as_primitive::<Int32Type>();
                let day = days.is_valid(row).then(|| days.value(row));
                let key = (Some(id), by_day.then_some(day));
                if !dead.contains(&position) && !dead_keys.contains(&key) {
                    rows.push((id, name, day));
                }
                position += 1;
            }
        }
    }
    rows.sort();
    rows
}

fn refs(rows: &[Row]) -> RecordBatch {
    batch(&rows.iter().map(|r| (r.0, r.1.as_str(), r.2)).collect::<Vec<_>>())
}

async fn commit(table: &Table, writer: UpsertWriter) -> Result<()> {
    let written = writer.close().await?;
    if !written.is_empty() {
        table.row_delta(written).commit().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_last_row_of_a_key_wins_within_and_across_commits() -> Result<()> {
    let (_, table) = table().await;
    let mut writer = table.upsert_writer(UpsertOptions::default())?;
    writer.write(batch(&[(1, "a", None), (2, "b", None), (1, "a2", None)])).await?;
    writer.write(batch(&[(2, "b2", None), (3, "c", None)])).await?;
    let written = writer.close().await?;
    assert_eq!(written.deletes(DataContentType::EqualityDeletes), 3, "one per key");
    assert_eq!(written.deletes(DataContentType::PositionDeletes), 1);
    assert_eq!(written.covered_specs, Some([0].into()));
    table.row_delta(written).commit().await?;
    let expected = [(1, "a2"), (2, "b2"), (3, "c")];
    assert_eq!(current(&table).await, expected.map(|(i, n)| (i, n.to_string(), None)));

    let mut writer = table.upsert_writer(UpsertOptions::default())?;
    writer.write(batch(&[(2, "b3", Some(7))])).await?;
    writer.delete(batch(&[(3, "ignored", None), (99, "absent", None)])).await?;
    commit(&table, writer).await?;
    let expected = vec![(1, "a2".to_string(), None), (2, "b3".to_string(), Some(7))];
    assert_eq!(current(&table).await, expected);
    Ok(())
}

#[tokio::test]
async fn rows_known_to_be_new_cost_no_equality_delete() -> Result<()> {
    let (_, table) = table().await;
    let mut writer = table.upsert_writer(UpsertOptions::default())?;
    writer.insert_only(batch(&[(1, "a", None), (2, "b", None)])).await?;
    writer.write(batch(&[(1, "a2", None)])).await?;
    let written = writer.close().await?;
    assert_eq!(written.deletes(DataContentType::EqualityDeletes), 0);
    assert_eq!(written.deletes(DataContentType::PositionDeletes), 1);
    assert_eq!(written.covered_specs, None);
    Ok(())
}

#[tokio::test]
async fn a_file_whose_rows_were_all_replaced_is_not_kept() -> Result<()> {
    let (_, table) = table().await;
    let options = UpsertOptions { target_file_size_bytes: Some(1), ..Default::default() };
    let mut writer = table.upsert_writer(options)?;
    writer.write(batch(&[(1, "a", None)])).await?;
    writer.write(batch(&[(1, "b", None)])).await?;
    let written = writer.close().await?;
    assert_eq!((written.data_files.len(), written.delete_files.len()), (1, 1));
    assert_eq!(stored(&table).await.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_partition_column_outside_the_key_is_refused_at_open() -> Result<()> {
    let (_, table) = partitioned().await;
    let error = table.upsert_writer(UpsertOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("day") && error.hint().is_some(), "{error}");
    let bad = |key: &str| {
        let options = UpsertOptions { key: vec![key.into()], ..Default::default() };
        table.upsert_writer(options).unwrap_err()
    };
    assert!(bad("nobody").to_string().contains("nobody"));
    Ok(())
}

#[tokio::test]
async fn null_keys_of_optional_columns_replace_each_other() -> Result<()> {
    let (_, table) = partitioned().await;
    let by_day = || UpsertOptions { key: vec!["id".into(), "day".into()], ..Default::default() };
    let mut writer = table.upsert_writer(by_day())?;
    writer.write(batch(&[(1, "a", None), (1, "b", Some(1))])).await?;
    commit(&table, writer).await?;
    let mut writer = table.upsert_writer(by_day())?;
    writer.write(batch(&[(1, "a2", None)])).await?;
    let written = writer.close().await?;
    assert_eq!(written.delete_files[0].equality_ids, Some(vec![1, 3]));
    table.row_delta(written).commit().await?;
    let expected = vec![(1, "a2".to_string(), None), (1, "b".to_string(), Some(1))];
    assert_eq!(current(&table).await, expected);
    Ok(())
}

#[tokio::test]
async fn deletes_reach_rows_of_an_older_partition_spec() -> Result<()> {
    let (_, table) = partitioned().await;
    let by_day = || UpsertOptions { key: vec!["id".into(), "day".into()], ..Default::default() };
    let mut writer = table.upsert_writer(by_day())?;
    writer.write(batch(&[(1, "old", Some(1)), (2, "old", Some(1))])).await?;
    commit(&table, writer).await?;
    let evolved = table.update_spec().add_field("id", Transform::Bucket(4), None).commit().await?;
    let mut writer = evolved.upsert_writer(by_day())?;
    writer.write(batch(&[(1, "new", Some(1))])).await?;
    let written = writer.close().await?;
    assert_eq!(written.deletes(DataContentType::EqualityDeletes), 2, "one per live spec");
    assert_eq!(written.covered_specs, Some([0, 1].into()));
    evolved.row_delta(written).commit().await?;
    let names: Vec<_> = current(&table).await.into_iter().map(|r| (r.0, r.1)).collect();
    assert_eq!(names, [(1, "new".to_string()), (2, "old".to_string())]);

    // A key that lacks the old spec's column cannot reach its rows, and the writer says so.
    let by_id = table.update_spec().remove_field("day").commit().await?;
    let mut writer = by_id.upsert_writer(UpsertOptions::default())?;
    let error = writer.write(batch(&[(1, "x", Some(2))])).await.unwrap_err();
    assert!(error.to_string().contains("day"), "{error}");
    writer.abort().await;
    Ok(())
}

#[tokio::test]
async fn an_unpartitioned_spec_reaches_everything() -> Result<()> {
    let (_, table) = table().await;
    let spec = table.update_spec().add_field("day", Transform::Identity, None).commit().await?;
    let mut writer = spec.upsert_writer(UpsertOptions::default())?;
    writer.write(batch(&[(1, "a", Some(1))])).await?;
    commit(&spec, writer).await?;
    let mut writer = spec.refresh().await?.upsert_writer(UpsertOptions::default())?;
    writer.write(batch(&[(1, "moved", Some(2))])).await?;
    commit(&spec, writer).await?;
    assert_eq!(current(&table).await, [(1, "moved".to_string(), Some(2))]);
    Ok(())
}

#[tokio::test]
async fn an_aborted_upsert_leaves_no_files() -> Result<()> {
    let (_, table) = table().await;
    let options = UpsertOptions { target_file_size_bytes: Some(1), ..Default::default() };
    let mut writer = table.upsert_writer(options)?;
    writer.write(batch(&[(1, "a", None)])).await?;
    writer.write(batch(&[(1, "b", None)])).await?;
    writer.abort().await;
    assert!(stored(&table).await.is_empty());
    Ok(())
}

#[tokio::test]
async fn many_keys_stay_within_the_memory_budget() -> Result<()> {
    let (_, table) = table().await;
    let spill = tempfile::tempdir().unwrap();
    let budget = 1 << 20;
    let options = UpsertOptions {
        memory_budget_bytes: budget,
        spill_directory: Some(spill.path().to_path_buf()),
        ..Default::default()
    };
    let mut writer = table.upsert_writer(options)?;
    for round in 0..20i64 {
        let rows: Vec<_> = (0..2_000).map(|i| (round * 1_500 + i, "name", None)).collect();
        writer.write(batch(&rows)).await?;
        assert!(writer.memory_bytes() <= budget as usize, "{}", writer.memory_bytes());
    }
    assert!(std::fs::read_dir(spill.path()).unwrap().count() > 1, "keys were spilled");
    let written = writer.close().await?;
    assert_eq!(written.deletes(DataContentType::EqualityDeletes), 19 * 1_500 + 2_000);
    assert_eq!(written.deletes(DataContentType::PositionDeletes), 19 * 500);
    assert_eq!(std::fs::read_dir(spill.path()).unwrap().count(), 0);
    Ok(())
}

#[tokio::test]
async fn nested_keys_are_deleted_by_their_leaf() -> Result<()> {
    let inner = StructType::new(vec![
        NestedField::required(2, "a", Type::Primitive(PrimitiveType::Long)).into(),
        NestedField::optional(3, "b", Type::Primitive(PrimitiveType::String)).into(),
    ]);
    let schema = Schema::builder()
        .with_fields([NestedField::optional(1, "s", Type::Struct(inner)).into()])
        .build()?;
    let key = super::super::key::Key::new(&schema, &["s.a".to_string()])?;
    assert_eq!(key.equality_ids(), [2]);
    let fields = Fields::from(vec![
        Field::new("a", DataType::Int64, false),
        Field::new("b", DataType::Utf8, true),
    ]);
    let a: ArrayRef = Arc::new(Int64Array::from(vec![7, 0, 8]));
    let b: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", "z"]));
    let s = StructArray::new(fields, vec![a, b], Some(vec![true, false, true].into()));
    let rows = RecordBatch::try_from_iter([("s", Arc::new(s) as ArrayRef)])?;
    let encoded = key.of_rows(&rows)?;
    let bytes: Vec<Vec<u8>> = (0..3).map(|i| encoded.row(i).as_ref().to_vec()).collect();
    let keys = key.decode(bytes.iter().map(Vec::as_slice))?;
    let s = keys.column(0).as_struct();
    assert!(s.is_null(1), "a null struct has a null key");
    assert_eq!(s.column(0).as_primitive::<Int64Type>().value(2), 8);
    assert_eq!(key.of_keys(&keys)?.row(0), encoded.row(0));
    Ok(())
}

#[derive(Debug, Clone)]
enum Op {
    Upsert(Vec<(i64, Option<i32>)>),
    Delete(Vec<(i64, Option<i32>)>),
    InsertNew(u8),
    Commit,
}

fn any_op() -> impl Strategy<Value = Op> {
    let keys = || proptest::collection::vec((0i64..12, proptest::option::of(0i32..3)), 1..8);
    prop_oneof![
        4 => keys().prop_map(Op::Upsert),
        2 => keys().prop_map(Op::Delete),
        1 => (1u8..4).prop_map(Op::InsertNew),
        2 => Just(Op::Commit),
    ]
}

async fn run_ops(ops: Vec<Op>, partitions: u8, budget: u64) {
    let (_, table) = match partitions {
        0 => table().await,
        1 => partitioned().await,
        _ => {
            let field = |id: i32, name: &str, transform| UnboundPartitionField {
                source_id: id,
                field_id: None,
                name: name.into(),
                transform,
            };
            let fields =
                [field(1, "b", Transform::Bucket(3)), field(3, "t", Transform::Truncate(2))];
            let spec =
                UnboundPartitionSpec::builder().add_partition_fields(fields).unwrap().build();
            table_with(spec, &[]).await
        }
    };
    let key = if partitions == 0 { vec![] } else { vec!["id".into(), "day".into()] };
    let spill = tempfile::tempdir().unwrap();
    let options = UpsertOptions {
        key,
        memory_budget_bytes: budget,
        max_open_files: 2,
        target_file_size_bytes: Some(900),
        spill_directory: Some(spill.path().to_path_buf()),
        ..Default::default()
    };
    let key_of = |id: i64, day: Option<i32>| (id, (partitions > 0).then_some(day));
    let mut model: BTreeMap<(i64, Option<Option<i32>>), Row> = BTreeMap::new();
    let mut writer = table.upsert_writer(options.clone()).unwrap();
    let (mut version, mut fresh) = (0, 1000);
    for op in ops.into_iter().chain([Op::Commit]) {
        version += 1;
        match op {
            Op::Upsert(keys) => {
                let named = |(i, (id, day)): (usize, &(i64, Option<i32>))| {
                    (*id, format!("v{version}.{i}"), *day)
                };
                let rows: Vec<Row> = keys.iter().enumerate().map(named).collect();
                writer.write(refs(&rows)).await.unwrap();
                model.extend(rows.into_iter().map(|r| (key_of(r.0, r.2), r)));
            }
            Op::Delete(keys) => {
                let rows: Vec<Row> = keys.iter().map(|k| (k.0, String::new(), k.1)).collect();
                writer.delete(refs(&rows)).await.unwrap();
                keys.iter().for_each(|k| drop(model.remove(&key_of(k.0, k.1))));
            }
            Op::InsertNew(count) => {
                let rows: Vec<Row> = (0..count)
                    .map(|_| {
                        fresh += 1;
                        (fresh, "new".into(), None)
                    })
                    .collect();
                writer.insert_only(refs(&rows)).await.unwrap();
                model.extend(rows.into_iter().map(|r| (key_of(r.0, r.2), r)));
            }
            Op::Commit => {
                commit(&table, writer).await.unwrap();
                let mut expected: Vec<Row> = model.values().cloned().collect();
                expected.sort();
                assert_eq!(current(&table).await, expected);
                let latest = table.refresh().await.unwrap();
                writer = latest.upsert_writer(options.clone()).unwrap();
            }
        }
    }
    writer.abort().await;
    assert_eq!(std::fs::read_dir(spill.path()).unwrap().count(), 0, "runs are removed");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_table_of_upserts_and_deletes_equals_a_map(
        ops in proptest::collection::vec(any_op(), 1..25),
        partitions in 0u8..3,
        budget in prop_oneof![Just(0u64), Just(20_000), Just(1 << 28)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run_ops(ops, partitions, budget));
    }
}
