//! What we write, we read; the same rows make the same bytes.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Int32Type};
use roaring::RoaringTreemap;

use super::*;
use crate::error::ErrorKind;
use crate::spec::{ListType, Literal, MapType, StructType};

/// Every v2 type, flat and nested.
fn wide_schema() -> SchemaRef {
    use PrimitiveType::*;
    let types = [
        Boolean,
        Int,
        Long,
        Float,
        Double,
        Decimal { precision: 9, scale: 2 },
        Decimal { precision: 18, scale: 0 },
        Decimal { precision: 38, scale: 10 },
        Date,
        Time,
        Timestamp,
        Timestamptz,
        String,
        Uuid,
        Fixed(3),
        Binary,
    ];
    let mut fields: Vec<NestedFieldRef> = types
        .into_iter()
        .zip(1..)
        .map(|(t, id)| optional(id, &format!("c{id}"), primitive(t)))
        .collect();
    let inner = StructType::new(vec![
        optional(21, "x", primitive(Int)),
        optional(22, "y", primitive(String)),
    ]);
    let list = ListType::new(NestedField::list_element(31, primitive(Long), false).into());
    let map = MapType::new(
        NestedField::map_key_element(41, primitive(String)).into(),
        NestedField::map_value_element(42, primitive(Double), false).into(),
    );
    let deep = ListType::new(
        NestedField::list_element(
            51,
            Type::Struct(StructType::new(vec![
                required(52, "k", primitive(Int)),
                optional(53, "l", Type::List(list.clone_with_id(54))),
            ])),
            true,
        )
        .into(),
    );
    fields.push(optional(20, "s", Type::Struct(inner)));
    fields.push(optional(30, "l", Type::List(list)));
    fields.push(optional(40, "m", Type::Map(map)));
    fields.push(optional(50, "d", Type::List(deep)));
    schema_of(fields)
}

trait CloneWithId {
    fn clone_with_id(&self, id: i32) -> ListType;
}

impl CloneWithId for ListType {
    fn clone_with_id(&self, id: i32) -> ListType {
        let element = self.element_field.as_ref();
        let copy = NestedField::list_element(id, element.field_type.as_ref().clone(), false);
        ListType::new(copy.into())
    }
}

/// Rows with nulls, empties and extremes, built without regard to how files work.
fn sample(data_type: &DataType, rows: usize, salt: usize) -> ArrayRef {
    let null = |i: usize| (i + salt) % 5 == 4;
    let number = |i: usize| (i as i64 * 7919 + salt as i64) % 1000 - 500;
    macro_rules! numbers {
        ($array:ty, $native:ty) => {{
            let values = (0..rows).map(|i| (!null(i)).then(|| number(i) as $native));
            Arc::new(values.collect::<$array>()) as ArrayRef
        }};
    }
    match data_type {
        DataType::Boolean => {
            Arc::new((0..rows).map(|i| (!null(i)).then_some(i % 3 == 0)).collect::<BooleanArray>())
        }
        DataType::Int32 => numbers!(Int32Array, i32),
        DataType::Int64 => numbers!(Int64Array, i64),
        DataType::Float32 => numbers!(Float32Array, f32),
        DataType::Float64 => numbers!(Float64Array, f64),
        DataType::Date32 => numbers!(Date32Array, i32),
        DataType::Time64(_) => {
            let array: Time64MicrosecondArray =
                (0..rows).map(|i| (!null(i)).then_some(i as i64 * 1_000_003)).collect();
            Arc::new(array)
        }
        DataType::Timestamp(_, zone) => {
            let array: TimestampMicrosecondArray =
                (0..rows).map(|i| (!null(i)).then_some(number(i) * 86_400_000_123)).collect();
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        DataType::Decimal128(p, _) => {
            let top = if *p == 38 { 10i128.pow(37) } else { 99 };
            let array: Decimal128Array =
                (0..rows).map(|i| (!null(i)).then_some(top - number(i) as i128)).collect();
            Arc::new(array.with_data_type(data_type.clone()))
        }
        DataType::Utf8 => {
            let values = (0..rows).map(|i| (!null(i)).then(|| "é".repeat(i % 40)));
            Arc::new(values.collect::<StringArray>())
        }
        DataType::Binary => {
            let values = (0..rows).map(|i| (!null(i)).then(|| vec![i as u8; i % 40]));
            Arc::new(BinaryArray::from_iter(values))
        }
        DataType::FixedSizeBinary(n) => {
            let values = (0..rows).map(|i| (!null(i)).then(|| vec![i as u8; *n as usize]));
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, *n).unwrap())
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().map(|f| {
                let column = sample(f.data_type(), rows, salt + 1);
                if f.is_nullable() { column } else { without_nulls(&column) }
            });
            let nulls = (0..rows).map(|i| !null(i)).collect::<Vec<bool>>();
            Arc::new(StructArray::new(fields.clone(), columns.collect(), Some(nulls.into())))
        }
        DataType::List(field) => {
            let lengths: Vec<usize> = (0..rows).map(|i| if null(i) { 0 } else { i % 4 }).collect();
            let values = sample(field.data_type(), lengths.iter().sum(), salt + 1);
            let values = if field.is_nullable() { values } else { without_nulls(&values) };
            let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
            let nulls = (0..rows).map(|i| !null(i)).collect::<Vec<bool>>();
            Arc::new(ListArray::new(field.clone(), offsets, values, Some(nulls.into())))
        }
        DataType::Map(entries, _) => {
            let lengths: Vec<usize> = (0..rows).map(|i| if null(i) { 0 } else { i % 3 }).collect();
            let total = lengths.iter().sum();
            let DataType::Struct(fields) = entries.data_type() else { unreachable!() };
            let keys: StringArray = (0..total).map(|i| Some(format!("k{i}"))).collect();
            let values = sample(fields[1].data_type(), total, salt + 1);
            let pairs = StructArray::new(fields.clone(), vec![Arc::new(keys), values], None);
            let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
            let nulls = (0..rows).map(|i| !null(i)).collect::<Vec<bool>>();
            Arc::new(MapArray::new(entries.clone(), offsets, pairs, Some(nulls.into()), false))
        }
        other => unreachable!("{other}"),
    }
}

fn without_nulls(array: &ArrayRef) -> ArrayRef {
    let data = array.to_data().into_builder().nulls(None).build().unwrap();
    make_array(data)
}

pub(crate) fn sample_batch(schema: &SchemaRef, rows: usize) -> RecordBatch {
    let arrow = arrow_schema(schema).unwrap();
    let columns = arrow.fields().iter().map(|f| sample(f.data_type(), rows, 0)).collect();
    RecordBatch::try_new(arrow, columns).unwrap()
}

#[tokio::test]
async fn every_v2_type_comes_back_as_it_was_written() -> Result<()> {
    let (storage, schema) = (memory(), wide_schema());
    let batch = sample_batch(&schema, 1000);
    let options = WriterOptions { page_rows: 100, ..Default::default() };
    let file = write_file(
        &storage,
        "memory://t/a.parquet",
        &schema,
        std::slice::from_ref(&batch),
        &options,
    )
    .await?;
    assert_eq!(file.record_count, 1000);
    assert_eq!(storage.size(&file.file_path).await?, file.file_size_in_bytes);
    assert_eq!(read_all(&storage, FileRead::new(&file.file_path, schema)).await?, batch);
    Ok(())
}

#[tokio::test]
async fn the_same_rows_make_the_same_bytes() -> Result<()> {
    let (storage, schema) = (memory(), wide_schema());
    let batches = [sample_batch(&schema, 300), sample_batch(&schema, 40)];
    let options = WriterOptions { bloom_columns: [2, 13].into(), ..Default::default() };
    for name in ["memory://t/a", "memory://t/b"] {
        write_file(&storage, name, &schema, &batches, &options).await?;
    }
    assert_eq!(storage.read("memory://t/a").await?, storage.read("memory://t/b").await?);
    Ok(())
}

#[tokio::test]
async fn positions_stay_physical_under_row_ranges_groups_and_deletes() -> Result<()> {
    let storage = memory();
    let schema = schema_of([required(1, "id", primitive(PrimitiveType::Int))]);
    let ids = Int32Array::from_iter_values(0..10_000);
    let batch = RecordBatch::try_new(arrow_schema(&schema)?, vec![Arc::new(ids)])?;
    let options = WriterOptions { page_rows: 500, row_group_bytes: 4_000, ..Default::default() };
    let file = write_file(&storage, "memory://t/p", &schema, &[batch], &options).await?;
    let groups = file.split_offsets.as_ref().unwrap().len();
    assert!(groups > 3, "{groups} row groups");

    let with_pos = schema_of([
        required(1, "id", primitive(PrimitiveType::Int)),
        required(reserved::POS, "_pos", primitive(PrimitiveType::Long)),
        required(reserved::FILE, "_file", primitive(PrimitiveType::String)),
        required(reserved::SPEC_ID, "_spec_id", primitive(PrimitiveType::Int)),
    ]);
    let deleted: RoaringTreemap = (2_000..4_000).chain((5_000..6_000).step_by(7)).collect();
    for schema in [with_pos.clone(), schema_of(with_pos.as_struct().fields()[1..].to_vec())] {
        let request = FileRead {
            rows: Some(1_000..9_500),
            row_groups: Some(1..groups),
            deleted: Some(Arc::new(deleted.clone())),
            constants: HashMap::from([(reserved::SPEC_ID, Literal::int(3))]),
            batch_size: 777,
            ..FileRead::new(&file.file_path, schema.clone())
        };
        let out = read_all(&storage, request).await?;
        let positions =
            out.column_by_name("_pos").unwrap().as_primitive::<arrow::datatypes::Int64Type>();
        let metadata = footer(&storage, &file.file_path, None).await?;
        let first = metadata.row_group(0).num_rows();
        let expected: Vec<i64> =
            (first.max(1_000)..9_500).filter(|p| !deleted.contains(*p as u64)).collect();
        assert_eq!(positions.values(), expected.as_slice());
        if let Some(ids) = out.column_by_name("id") {
            let ids: Vec<i64> =
                ids.as_primitive::<Int32Type>().values().iter().map(|v| i64::from(*v)).collect();
            assert_eq!(ids, expected);
        }
        assert_eq!(
            out.column_by_name("_file").unwrap().as_string::<i32>().value(0),
            file.file_path
        );
    }
    Ok(())
}

#[tokio::test]
async fn batches_of_other_arrow_types_are_brought_to_the_table() -> Result<()> {
    let storage = memory();
    let schema = schema_of([
        required(1, "id", primitive(PrimitiveType::Long)),
        optional(2, "name", primitive(PrimitiveType::String)),
        optional(3, "at", primitive(PrimitiveType::Timestamptz)),
        optional(4, "extra", primitive(PrimitiveType::Double)),
    ]);
    let names: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
    let batch = RecordBatch::try_from_iter([
        ("at", Arc::new(TimestampMillisecondArray::from(vec![-1, 0, 1])) as ArrayRef),
        ("name", Arc::new(names)),
        ("id", Arc::new(Int32Array::from(vec![1, 2, 3]))),
    ])?;
    let views = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![4])) as ArrayRef),
        ("name", Arc::new(StringViewArray::from(vec!["view"]))),
    ])?;
    let options = WriterOptions::default();
    let file = write_file(&storage, "memory://t/n", &schema, &[batch, views], &options).await?;
    let out = read_all(&storage, FileRead::new(&file.file_path, schema)).await?;
    assert_eq!(out.column(0).as_primitive::<arrow::datatypes::Int64Type>().values(), &[1, 2, 3, 4]);
    let names: Vec<_> = out.column(1).as_string::<i32>().iter().flatten().collect();
    assert_eq!(names, ["a", "b", "a", "view"]);
    let at = out.column(2).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
    assert_eq!(at.value(0), -1_000);
    assert!(at.is_null(3));
    Ok(())
}

#[tokio::test]
async fn batches_that_do_not_fit_are_refused_by_column() {
    let storage = memory();
    let schema = schema_of([
        required(1, "id", primitive(PrimitiveType::Int)),
        optional(2, "name", primitive(PrimitiveType::String)),
    ]);
    let column = |name: &str, array: ArrayRef| (name.to_string(), array);
    let id = || column("id", Arc::new(Int32Array::from(vec![1])));
    let cases: Vec<(&str, Vec<(String, ArrayRef)>)> = vec![
        ("nmae", vec![id(), column("nmae", Arc::new(StringArray::from(vec!["x"])))]),
        ("id", vec![column("name", Arc::new(StringArray::from(vec!["x"])))]),
        ("id", vec![column("id", Arc::new(Int32Array::from(vec![None])))]),
        ("id", vec![column("id", Arc::new(Int64Array::from(vec![i64::MAX])))]),
        ("name", vec![id(), column("name", Arc::new(Int32Array::from(vec![7])))]),
    ];
    for (word, columns) in cases {
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(n, a)| (n, a, true)),
        )
        .unwrap();
        let mut writer = ParquetFileWriter::create(
            &storage,
            "memory://t/x",
            schema.clone(),
            &Default::default(),
        )
        .unwrap();
        let error = writer.write(&batch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(word), "{error} should name {word}");
        let again = writer.write(&batch).await.unwrap_err();
        assert!(again.to_string().contains("failed before"), "{again}");
        writer.abort().await;
        assert!(!storage.exists("memory://t/x").await.unwrap());
    }
}

#[tokio::test]
async fn a_position_delete_file_names_its_data_file_in_full() -> Result<()> {
    let storage = memory();
    let schema = schema_of([required(1, "id", primitive(PrimitiveType::Int))]);
    let batch = sample_ids(&schema, 100);
    let path = format!("memory://t/{}.parquet", "long-name-".repeat(20));
    let mut file = write_file(&storage, &path, &schema, &[batch], &Default::default()).await?;
    file.spec_id = 4;
    file.partition = crate::spec::Struct::from_iter([Some(Literal::int(7))]);
    let positions: RoaringTreemap = [99, 3, 50].into_iter().collect();
    let deletes =
        write_position_deletes(&storage, "memory://t/d", &file, &positions, &Default::default())
            .await?;
    assert_eq!(deletes.content, DataContentType::PositionDeletes);
    assert_eq!(deletes.record_count, 3);
    assert_eq!(deletes.partition_key(), file.partition_key());
    assert_eq!(deletes.referenced_data_file.as_deref(), Some(path.as_str()));
    for bounds in [&deletes.lower_bounds, &deletes.upper_bounds] {
        assert_eq!(bounds.get(reserved::DELETE_FILE_PATH), Some(path.as_bytes()));
    }
    assert_eq!(deletes.lower_bounds.get(reserved::DELETE_POS), Some(&3i64.to_le_bytes()[..]));
    assert_eq!(deletes.upper_bounds.get(reserved::DELETE_POS), Some(&99i64.to_le_bytes()[..]));
    assert!(deletes.value_counts.is_empty() && deletes.null_value_counts.is_empty());
    assert_eq!(deletes.sort_order_id, None);
    let out = read_all(&storage, FileRead::new("memory://t/d", position_delete_schema()?)).await?;
    let positions = out.column(1).as_primitive::<arrow::datatypes::Int64Type>();
    assert_eq!(positions.values(), &[3, 50, 99]);

    let beyond: RoaringTreemap = [100].into_iter().collect();
    let refused =
        write_position_deletes(&storage, "memory://t/e", &file, &beyond, &Default::default()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    Ok(())
}

fn sample_ids(schema: &SchemaRef, rows: i32) -> RecordBatch {
    let ids = Int32Array::from_iter_values(0..rows);
    RecordBatch::try_new(arrow_schema(schema).unwrap(), vec![Arc::new(ids)]).unwrap()
}
