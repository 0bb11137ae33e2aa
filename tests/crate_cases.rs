//! Every wrong result, hang and abort that the reader of the `iceberg` crate 0.10.1 was seen to
//! give (notes on the crate, section 3) is a case that passes here. The numbers are those of
//! that list.

mod kit;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema as ArrowSchema};
use arrow::datatypes::{TimeUnit, TimestampMicrosecondType};
use futures::TryStreamExt;
use kit::*;
use meltwater::file::{ParquetFileWriter, WriterOptions};
use meltwater::spec::*;
use meltwater::table::{At, Table};

fn longs(values: impl Into<Int64Array>) -> ArrayRef {
    Arc::new(values.into())
}

fn ints(values: impl Into<Int32Array>) -> ArrayRef {
    Arc::new(values.into())
}

fn texts(values: Vec<Option<&str>>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

/// The values of an integer column, in order.
async fn ids(table: &Table, column: &str) -> Vec<Option<i64>> {
    let rows = rows(&table.scan().select([column])).await.unwrap();
    let wide = arrow::compute::cast(rows.column(0), &DataType::Int64).unwrap();
    wide.as_primitive::<Int64Type>().iter().collect()
}

fn id_and_name() -> Vec<NestedFieldRef> {
    vec![optional(1, "id", PrimitiveType::Long), optional(2, "name", PrimitiveType::String)]
}

/// The next schema of a table.
async fn with_schema(table: &Table, fields: Vec<NestedFieldRef>) -> Table {
    let schema = Schema::builder().with_fields(fields).build().unwrap();
    changed(table, |b| b.add_schema(schema)?.set_current_schema(-1)).await
}

#[tokio::test]
async fn case_1_a_row_with_a_null_key_outlives_deletes_of_other_keys() {
    let table = table(id_and_name());
    let data = batch(vec![("id", 1, longs(vec![Some(1), Some(2), None, Some(3)]))]);
    let table = append(&table, vec![file(&table, "d", &data).await]).await;
    let keys = batch(vec![("id", 1, longs(vec![2]))]);
    let table = delete(&table, vec![equality(&table, "e", &keys, &[1]).await]).await;
    assert_eq!(ids(&table, "id").await, [Some(1), None, Some(3)]);
}

#[tokio::test]
async fn case_2_a_data_file_older_than_the_key_column_compares_as_null() {
    let table = table(vec![optional(1, "id", PrimitiveType::Long)]);
    let data = batch(vec![("id", 1, longs(vec![1, 2, 3, 4]))]);
    let table = append(&table, vec![file(&table, "d", &data).await]).await;
    let table = with_schema(&table, id_and_name()).await;
    let by_name = |name| batch(vec![("name", 2, texts(vec![name]))]);
    let some = equality(&table, "e", &by_name(Some("x")), &[2]).await;
    let table = delete(&table, vec![some]).await;
    assert_eq!(ids(&table, "id").await.len(), 4);
    let null = equality(&table, "n", &by_name(None), &[2]).await;
    let table = delete(&table, vec![null]).await;
    assert_eq!(ids(&table, "id").await, [], "a missing column is null, and null equals null");
}

#[tokio::test]
async fn case_3_keys_and_filters_beyond_the_old_type_leave_promoted_rows_alone() {
    let table = table(vec![optional(1, "id", PrimitiveType::Int)]);
    let data = batch(vec![("id", 1, ints(vec![1, 2, 705_032_704]))]);
    let table = append(&table, vec![file(&table, "d", &data).await]).await;
    let table = with_schema(&table, vec![optional(1, "id", PrimitiveType::Long)]).await;
    let keys = batch(vec![("id", 1, longs(vec![5_000_000_000, 2]))]);
    let table = delete(&table, vec![equality(&table, "e", &keys, &[1]).await]).await;
    assert_eq!(ids(&table, "id").await, [Some(1), Some(705_032_704)]);
    for (filter, expected) in [
        ("id < 5000000000", vec![Some(1), Some(705_032_704)]),
        ("id = 5000000000", vec![]),
        ("id > 1", vec![Some(705_032_704)]),
    ] {
        let filter = meltwater::expr::parse(filter, table.schema()).unwrap();
        let found = rows(&table.scan().filter(filter)).await.unwrap();
        let found: Vec<_> = found.column(0).as_primitive::<Int64Type>().iter().collect();
        assert_eq!(found, expected);
    }
}

fn struct_of(children: Vec<(&str, i32, ArrayRef)>) -> ArrayRef {
    let fields: Fields = children.iter().map(|(name, id, a)| field(name, *id, a)).collect();
    let arrays = children.into_iter().map(|(_, _, a)| a).collect();
    Arc::new(StructArray::new(fields, arrays, None))
}

fn nested(fields: Vec<NestedFieldRef>) -> NestedFieldRef {
    NestedField::optional(2, "s", Type::Struct(StructType::new(fields))).into()
}

#[tokio::test]
async fn case_4_nested_keys_delete_whether_or_not_the_struct_is_selected() {
    let s =
        nested(vec![optional(3, "a", PrimitiveType::Int), optional(4, "b", PrimitiveType::Int)]);
    let table = table(vec![optional(1, "id", PrimitiveType::Long), s]);
    let s = struct_of(vec![("a", 3, ints(vec![10, 20, 30])), ("b", 4, ints(vec![1, 2, 3]))]);
    let data = batch(vec![("id", 1, longs(vec![1, 2, 3])), ("s", 2, s)]);
    let table = append(&table, vec![file(&table, "d", &data).await]).await;
    let keys = batch(vec![("s", 2, struct_of(vec![("a", 3, ints(vec![20]))]))]);
    let table = delete(&table, vec![equality(&table, "e", &keys, &[3]).await]).await;
    assert_eq!(ids(&table, "id").await, [Some(1), Some(3)]);
    for (select, fields) in [("s.b", 1), ("s", 2), ("s.a", 1)] {
        let found = rows(&table.scan().select([select])).await.unwrap();
        assert_eq!((found.num_rows(), found.column(0).as_struct().num_columns()), (2, fields));
    }
    assert_eq!(table.scan().count().await.unwrap(), 2);
}

#[tokio::test]
async fn case_5_a_key_column_that_was_dropped_still_deletes() {
    let table = table(id_and_name());
    let data = batch(vec![
        ("id", 1, longs(vec![1, 2, 3])),
        ("name", 2, texts(vec![Some("a"), Some("b"), None])),
    ]);
    let table = append(&table, vec![file(&table, "d", &data).await]).await;
    let keys = batch(vec![("name", 2, texts(vec![Some("b"), None]))]);
    let table = delete(&table, vec![equality(&table, "e", &keys, &[2]).await]).await;
    let table = with_schema(&table, vec![optional(1, "id", PrimitiveType::Long)]).await;
    assert_eq!(table.scan().arrow_schema().unwrap().fields().len(), 1);
    assert_eq!(ids(&table, "id").await, [Some(1)]);
    // A new column of the old name is another column.
    let again =
        vec![optional(1, "id", PrimitiveType::Long), optional(3, "name", PrimitiveType::Int)];
    let table = with_schema(&table, again).await;
    assert_eq!(ids(&table, "id").await, [Some(1)]);
    assert_eq!(ids(&table, "name").await, [None]);
}

#[tokio::test]
async fn case_6_every_key_type_deletes_its_row_and_no_other() {
    let fixed = |v: [&[u8]; 2]| FixedSizeBinaryArray::try_from_iter(v.into_iter()).unwrap();
    let decimal = Decimal128Array::from(vec![123, -5]).with_precision_and_scale(9, 2).unwrap();
    let zoned = TimestampMicrosecondArray::from(vec![1, 2]).with_timezone("UTC");
    let cases: Vec<(PrimitiveType, ArrayRef)> = vec![
        (PrimitiveType::Boolean, Arc::new(BooleanArray::from(vec![true, false]))),
        (PrimitiveType::Int, ints(vec![1, 2])),
        (PrimitiveType::Long, longs(vec![1, 2])),
        (PrimitiveType::Float, Arc::new(Float32Array::from(vec![f32::NAN, 1.0]))),
        (PrimitiveType::Double, Arc::new(Float64Array::from(vec![f64::NAN, -0.0]))),
        (PrimitiveType::Decimal { precision: 9, scale: 2 }, Arc::new(decimal)),
        (PrimitiveType::Date, Arc::new(Date32Array::from(vec![1, 2]))),
        (PrimitiveType::Time, Arc::new(Time64MicrosecondArray::from(vec![1, 2]))),
        (PrimitiveType::Timestamp, Arc::new(TimestampMicrosecondArray::from(vec![1, 2]))),
        (PrimitiveType::Timestamptz, Arc::new(zoned)),
        (PrimitiveType::String, texts(vec![Some(""), Some("b")])),
        (PrimitiveType::Uuid, Arc::new(fixed([&[1; 16], &[2; 16]]))),
        (PrimitiveType::Fixed(3), Arc::new(fixed([b"abc", b"abd"]))),
        (PrimitiveType::Binary, Arc::new(BinaryArray::from(vec![&b"a"[..], b""]))),
    ];
    for (key_type, values) in cases {
        let fields = vec![optional(1, "k", key_type.clone()), optional(2, "n", PrimitiveType::Int)];
        let table = table(fields);
        let data = batch(vec![("k", 1, values.clone()), ("n", 2, ints(vec![0, 1]))]);
        let table = append(&table, vec![file(&table, "d", &data).await]).await;
        let keys = batch(vec![("k", 1, values.slice(0, 1))]);
        let table = delete(&table, vec![equality(&table, "e", &keys, &[1]).await]).await;
        assert_eq!(ids(&table, "n").await, [Some(1)], "{key_type}");
    }
}

#[tokio::test]
async fn case_7_position_deletes_in_any_column_form_delete() {
    let path = "memory:///t/data/d.parquet";
    let forms: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![path; 2])),
        Arc::new(LargeStringArray::from(vec![path; 2])),
        Arc::new(StringViewArray::from(vec![path; 2])),
        Arc::new([path; 2].into_iter().collect::<DictionaryArray<Int32Type>>()),
    ];
    for paths in forms {
        for swapped in [false, true] {
            let table = table(id_and_name());
            let data = batch(vec![("id", 1, longs(vec![1, 2, 3, 4]))]);
            let table = append(&table, vec![file(&table, "d", &data).await]).await;
            let kind = paths.data_type().clone();
            let mut columns = vec![
                ("file_path", 2_147_483_546, paths.clone()),
                ("pos", 2_147_483_545, longs(vec![0, 2])),
            ];
            if swapped {
                columns.reverse();
            }
            let dead = positions(&table, "p", &batch(columns)).await;
            let table = delete_like_others(&table, vec![dead]).await;
            assert_eq!(ids(&table, "id").await, [Some(2), Some(4)], "{kind}, swapped: {swapped}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn case_8_sixteen_files_that_share_delete_files_never_hang() {
    let mut table = table(id_and_name());
    let mut files = Vec::new();
    for n in 0..16 {
        let data = batch(vec![("id", 1, longs(vec![n * 10, n * 10 + 1, n * 10 + 2]))]);
        files.push(file(&table, &format!("d{n}"), &data).await);
    }
    let paths: Vec<String> = files.iter().map(|f| f.file_path.clone()).collect();
    table = append(&table, files).await;
    let keys = batch(vec![("id", 1, longs((0..16).map(|n| n * 10).collect::<Vec<_>>()))]);
    let dead = batch(vec![
        ("file_path", 2_147_483_546, Arc::new(StringArray::from(paths))),
        ("pos", 2_147_483_545, longs(vec![1; 16])),
    ]);
    let deletes =
        vec![equality(&table, "e", &keys, &[1]).await, positions(&table, "p", &dead).await];
    table = delete_like_others(&table, deletes).await;
    for round in 0..100 {
        let scan = table.scan().parallelism(16);
        let rows = tokio::time::timeout(Duration::from_secs(30), batches(&scan));
        let rows = rows.await.unwrap_or_else(|_| panic!("round {round} hangs")).unwrap();
        assert_eq!(rows.iter().map(|b| b.num_rows()).sum::<usize>(), 16);
    }
}

#[tokio::test]
async fn case_9_two_thousand_one_row_delete_files_on_one_data_file() {
    let table = table(id_and_name());
    let data = batch(vec![("id", 1, longs((0..3000).collect::<Vec<_>>()))]);
    let table = append(&table, vec![file(&table, "d", &data).await]).await;
    let mut deletes = Vec::new();
    for n in 0..2000 {
        let keys = batch(vec![("id", 1, longs(vec![n]))]);
        deletes.push(equality(&table, &format!("e{n}"), &keys, &[1]).await);
    }
    let table = delete(&table, deletes).await;
    let expected: Vec<_> = (2000..3000).map(Some).collect();
    assert_eq!(ids(&table, "id").await, expected);
}

#[tokio::test]
async fn case_10_a_snapshot_without_schema_id_is_read_in_the_current_schema() {
    let table = table(id_and_name());
    let data = batch(vec![("id", 1, longs(vec![1, 2]))]);
    let table = append(&table, vec![file(&table, "d", &data).await]).await;
    let mut json = serde_json::to_value(table.metadata().as_ref()).unwrap();
    json["snapshots"][0].as_object_mut().unwrap().remove("schema-id").unwrap();
    let metadata: TableMetadata = serde_json::from_value(json).unwrap();
    let mut loaded = table.catalog().load_table(table.ident()).await.unwrap();
    loaded.metadata = Arc::new(metadata);
    let table = Table::from_loaded(table.catalog().clone(), table.ident().clone(), loaded);
    let id = SnapshotId(table.current_snapshot().unwrap().snapshot_id());
    for at in [At::Current, At::Snapshot(id)] {
        assert_eq!(rows(&table.scan().at(at)).await.unwrap().num_rows(), 2);
    }
}

#[tokio::test]
async fn case_11_an_identity_partition_column_absent_from_the_file_has_its_value() {
    let spec = UnboundPartitionSpec::builder()
        .add_partition_field(2, "name", Transform::Identity)
        .unwrap()
        .build();
    let table = table_with(id_and_name(), spec, &[]);
    let data = batch(vec![("id", 1, longs(vec![1, 2]))]);
    let mut files = Vec::new();
    for (name, value) in [("x", Some(Literal::string("x"))), ("null", None)] {
        let mut file = file(&table, name, &data).await;
        file.partition = Struct::from_iter([value]);
        files.push(file);
    }
    let table = append(&table, files).await;
    let found = rows(&table.scan()).await.unwrap();
    assert_eq!(found.schema().field(1).data_type(), &DataType::Utf8);
    let names: Vec<_> = found.column(1).as_string::<i32>().iter().collect();
    assert_eq!(names, [Some("x"), Some("x"), None, None]);
    // A delete by that column finds its rows, too.
    let keys = batch(vec![("name", 2, texts(vec![Some("x")])), ("id", 1, longs(vec![2]))]);
    let mut dead = equality(&table, "e", &keys, &[1, 2]).await;
    dead.partition = Struct::from_iter([Some(Literal::string("x"))]);
    let table = delete(&table, vec![dead]).await;
    assert_eq!(ids(&table, "id").await, [Some(1), Some(1), Some(2)]);
}

#[tokio::test]
async fn case_12_structs_may_gain_rename_and_widen_fields() {
    let s = nested(vec![optional(3, "a", PrimitiveType::Int)]);
    let table = table(vec![optional(1, "id", PrimitiveType::Long), s]);
    let s = struct_of(vec![("a", 3, ints(vec![10, 20]))]);
    let data = batch(vec![("id", 1, longs(vec![1, 2])), ("s", 2, s)]);
    let table = append(&table, vec![file(&table, "d", &data).await]).await;
    let s = nested(vec![
        optional(4, "new", PrimitiveType::String),
        optional(3, "z", PrimitiveType::Long),
    ]);
    let table = with_schema(&table, vec![optional(1, "id", PrimitiveType::Long), s]).await;
    let found = rows(&table.scan()).await.unwrap();
    let s = found.column(1).as_struct();
    assert_eq!(s.column_names(), ["new", "z"]);
    assert_eq!(s.column(0).null_count(), 2);
    assert_eq!(s.column(1).as_primitive::<Int64Type>().values(), &[10, 20]);
}

#[tokio::test]
async fn case_13_nanoseconds_in_the_file_are_microseconds_in_the_table() {
    let table = table(vec![optional(1, "ts", PrimitiveType::Timestamp)]);
    let nanos = TimestampNanosecondArray::from(vec![5_000, -5_000, 1_999]);
    let data = batch(vec![("ts", 1, Arc::new(nanos))]);
    let table = append(&table, vec![file(&table, "d", &data).await]).await;
    let found = rows(&table.scan()).await.unwrap();
    assert_eq!(found.column(0).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, None));
    let micros = found.column(0).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(micros.values(), &[5, -5, 1]);
}

#[tokio::test]
async fn case_14_our_bounds_hold_every_row_group_and_pruning_loses_no_row() {
    let table = table(vec![optional(1, "name", PrimitiveType::String)]);
    let mut options = WriterOptions::from_properties(&table.properties(), table.schema()).unwrap();
    options.row_group_bytes = 1024;
    let path = "memory:///t/data/long.parquet";
    let schema = table.schema().clone();
    let mut writer =
        ParquetFileWriter::create(table.storage(), path, schema.clone(), &options).unwrap();
    let arrow = meltwater::file::arrow_schema(&schema).unwrap();
    for values in [["mmm".to_string(), "nnn".into()], ["aaa".repeat(40), "zzz".repeat(40)]] {
        let column: ArrayRef =
            Arc::new(StringArray::from(vec![values[0].clone(), values[1].clone()]));
        let rows = RecordBatch::try_new(arrow.clone(), vec![column]).unwrap();
        writer.write(&rows).await.unwrap();
    }
    let partition = PartitionKey::unpartitioned(0);
    let file = writer.close(DataContentType::Data, partition).await.unwrap();
    let table = append(&table, vec![file]).await;
    for (filter, expected) in [
        ("name < 'b'", 1),
        ("name > 'y'", 1),
        ("name = 'mmm'", 1),
        ("name > 'zzzzzzzzzzzzzzzzzzz'", 1),
    ] {
        let bound = meltwater::expr::parse(filter, table.schema()).unwrap();
        let found = rows(&table.scan().filter(bound)).await.unwrap();
        assert_eq!(found.num_rows(), expected, "{filter}");
    }
}

#[tokio::test]
async fn case_15_a_file_without_page_index_reads_with_and_without_position_deletes() {
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::{EnabledStatistics, WriterProperties};

    let table = table(id_and_name());
    let data = batch(vec![("id", 1, longs((0..1000).collect::<Vec<_>>()))]);
    let mut file = file(&table, "d", &data).await;
    let options = WriterProperties::builder()
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(300))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, data.schema(), Some(options)).unwrap();
    writer.write(&data).unwrap();
    writer.close().unwrap();
    file.file_size_in_bytes = bytes.len() as u64;
    table.storage().write(&file.file_path, bytes.into()).await.unwrap();
    let about = file.clone();
    let table = append(&table, vec![file]).await;
    assert_eq!(ids(&table, "id").await.len(), 1000);

    let dead: Vec<i64> = (100..700).chain([999]).collect();
    let dead_file = positions_of(&table, "p", &about, &dead).await;
    let table = delete(&table, vec![dead_file]).await;
    let expected: Vec<_> = (0..1000).filter(|n| !dead.contains(n)).map(Some).collect();
    assert_eq!(ids(&table, "id").await, expected);
    assert_eq!(table.scan().count().await.unwrap(), 399);
}

/// "Present at HEAD": the spec of all void transforms counts as unpartitioned.
#[tokio::test]
async fn an_equality_delete_under_a_spec_of_void_transforms_is_global() {
    let spec = |transform| {
        let builder = UnboundPartitionSpec::builder();
        builder.add_partition_field(1, format!("id_{transform}"), transform).unwrap().build()
    };
    let table = table_with(id_and_name(), spec(Transform::Bucket(4)), &[]);
    let data = batch(vec![("id", 1, longs(vec![1, 2, 3]))]);
    let mut old = file(&table, "d", &data).await;
    old.partition = Struct::from_iter([Some(Literal::int(1))]);
    let table = append(&table, vec![old]).await;
    let table = changed(&table, |b| {
        b.add_partition_spec(spec(Transform::Void))?.set_default_partition_spec(-1)
    })
    .await;
    let keys = batch(vec![("id", 1, longs(vec![2]))]);
    let mut dead = equality(&table, "e", &keys, &[1]).await;
    dead.partition = Struct::from_iter([None::<Literal>]);
    let table = delete(&table, vec![dead]).await;
    assert_eq!(ids(&table, "id").await, [Some(1), Some(3)]);
}

/// "A filter fails the whole scan if any manifest's old spec lost its source column."
#[tokio::test]
async fn a_filter_works_when_an_old_spec_lost_its_source_column() {
    let spec = UnboundPartitionSpec::builder()
        .add_partition_field(2, "name_part", Transform::Identity)
        .unwrap()
        .build();
    let table = table_with(id_and_name(), spec, &[]);
    let data =
        batch(vec![("id", 1, longs(vec![1, 2])), ("name", 2, texts(vec![Some("a"), Some("a")]))]);
    let mut old = file(&table, "d", &data).await;
    old.partition = Struct::from_iter([Some(Literal::string("a"))]);
    let table = append(&table, vec![old]).await;
    let table = changed(&table, |b| {
        b.add_partition_spec(UnboundPartitionSpec::default())?.set_default_partition_spec(-1)
    })
    .await;
    let table = with_schema(&table, vec![optional(1, "id", PrimitiveType::Long)]).await;
    let filter = meltwater::expr::parse("id > 1", table.schema()).unwrap();
    let found: Vec<_> =
        table.scan().filter(filter).to_batches().await.unwrap().try_collect().await.unwrap();
    assert_eq!(found.iter().map(|b: &RecordBatch| b.num_rows()).sum::<usize>(), 1);
}

/// A `RecordBatch` whose schema the scan announces before the first row.
#[tokio::test]
async fn the_schema_is_known_before_the_first_batch_and_for_empty_tables() {
    let table = table(id_and_name());
    let announced = table.scan().select(["name"]).arrow_schema().unwrap();
    let expected = Field::new("name", DataType::Utf8, true);
    assert_eq!(announced.field(0).data_type(), expected.data_type());
    assert_eq!(batches(&table.scan()).await.unwrap(), Vec::<RecordBatch>::new());
    assert_eq!(table.scan().count().await.unwrap(), 0);
    let _: &ArrowSchema = &announced;
}
