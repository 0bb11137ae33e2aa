use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{Field, Fields, Schema as ArrowSchema};
use proptest::prelude::*;

use super::*;
use crate::deletes::index::tests::metadata;
use crate::spec::{NestedField, PrimitiveType, Schema, TableMetadata, TableMetadataBuilder, Type};

fn with_id(name: &str, id: i32, data_type: DataType) -> Field {
    let id = [(crate::deletes::columns::FIELD_ID_KEY.to_string(), id.to_string())];
    Field::new(name, data_type, true).with_metadata(id.into())
}

fn batch(columns: Vec<(i32, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(id, array)| with_id(&format!("c{id}"), *id, array.data_type().clone()))
        .collect();
    let arrays = columns.into_iter().map(|(_, a)| a).collect();
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), arrays).unwrap()
}

fn dead(map: &EqualityDeleteMap, data: &RecordBatch, sequence: i64) -> Vec<usize> {
    match map.alive(data, sequence.into()).unwrap() {
        None => vec![],
        Some(alive) => (0..data.num_rows()).filter(|row| !alive.value(*row)).collect(),
    }
}

fn map_of(
    metadata: &TableMetadata,
    ids: &[i32],
    files: &[(RecordBatch, i64)],
) -> EqualityDeleteMap {
    let columns = KeyColumns::resolve(ids, metadata).unwrap();
    let mut builder = EqualityDeleteMap::builder(columns, None).unwrap();
    for (rows, sequence) in files {
        builder.add(rows, (*sequence).into()).unwrap();
    }
    builder.finish()
}

/// A table with one column of a type, id 1.
fn one_column(key_type: PrimitiveType) -> TableMetadata {
    let field = NestedField::optional(1, "k", Type::Primitive(key_type)).into();
    let schema = Schema::builder().with_fields([field]).build().unwrap();
    TableMetadataBuilder::new(
        schema,
        crate::spec::PartitionSpec::unpartition_spec(),
        crate::spec::SortOrder::unsorted_order(),
        "memory:///t".into(),
        crate::spec::FormatVersion::V2,
        Default::default(),
    )
    .unwrap()
    .build()
    .unwrap()
    .metadata
}

#[test]
fn a_row_dies_only_by_a_strictly_younger_delete_of_its_key() {
    let ids = |v: Vec<i64>| batch(vec![(1, Arc::new(Int64Array::from(v)))]);
    let map = map_of(&metadata(), &[1], &[(ids(vec![1, 2]), 5), (ids(vec![2, 3]), 7)]);
    let data = ids(vec![1, 2, 3, 4]);
    assert_eq!(dead(&map, &data, 4), [0, 1, 2]);
    assert_eq!(dead(&map, &data, 5), [1, 2]);
    assert_eq!(dead(&map, &data, 6), [1, 2]);
    assert_eq!(dead(&map, &data, 7), [] as [usize; 0]);
}

#[test]
fn null_equals_null_and_nothing_else() {
    for nulls in [Int64Array::from(vec![None, Some(0)]), Int64Array::from(vec![Some(0), None])] {
        let metadata = one_column(PrimitiveType::Long);
        let data = batch(vec![(1, Arc::new(nulls.clone()))]);
        let delete_null = batch(vec![(1, Arc::new(Int64Array::from(vec![None])))]);
        let delete_zero = batch(vec![(1, Arc::new(Int64Array::from(vec![0])))]);
        let null_row = (0..2).find(|r| nulls.is_null(*r)).unwrap();
        assert_eq!(dead(&map_of(&metadata, &[1], &[(delete_null, 2)]), &data, 1), [null_row]);
        assert_eq!(dead(&map_of(&metadata, &[1], &[(delete_zero, 2)]), &data, 1), [1 - null_row]);
    }
    let strings = |v: Vec<Option<&str>>| batch(vec![(3, Arc::new(StringArray::from(v)) as _)]);
    let map = map_of(&metadata(), &[3], &[(strings(vec![None]), 2)]);
    assert_eq!(dead(&map, &strings(vec![Some(""), None, Some("a")]), 1), [1]);
    let map = map_of(&metadata(), &[3], &[(strings(vec![Some("")]), 2)]);
    assert_eq!(dead(&map, &strings(vec![Some(""), None, Some("a")]), 1), [0]);
}

#[test]
fn nan_equals_nan_of_any_payload() {
    let odd_nan = f64::from_bits(0x7FF8_0000_0000_0001);
    let floats = |v: Vec<f64>| batch(vec![(4, Arc::new(Float64Array::from(v)) as _)]);
    let map = map_of(&metadata(), &[4], &[(floats(vec![odd_nan, 1.5]), 2)]);
    assert_eq!(dead(&map, &floats(vec![-f64::NAN, f64::NAN, 1.5, 2.5]), 1), [0, 1, 2]);
}

#[test]
fn every_key_type_finds_its_own_value_and_no_other() {
    let fixed = |v: [&[u8]; 2]| FixedSizeBinaryArray::try_from_iter(v.into_iter()).unwrap();
    let decimals = Decimal128Array::from(vec![100, 101]).with_precision_and_scale(9, 2).unwrap();
    let zoned = TimestampMicrosecondArray::from(vec![1, 2]).with_timezone("+00:00");
    let cases: Vec<(PrimitiveType, ArrayRef)> = vec![
        (PrimitiveType::Boolean, Arc::new(BooleanArray::from(vec![true, false]))),
        (PrimitiveType::Int, Arc::new(Int32Array::from(vec![1, 2]))),
        (PrimitiveType::Long, Arc::new(Int64Array::from(vec![1, i64::MIN]))),
        (PrimitiveType::Float, Arc::new(Float32Array::from(vec![1.0, 2.0]))),
        (PrimitiveType::Double, Arc::new(Float64Array::from(vec![1.0, f64::INFINITY]))),
        (PrimitiveType::Decimal { precision: 9, scale: 2 }, Arc::new(decimals)),
        (PrimitiveType::Date, Arc::new(Date32Array::from(vec![1, 2]))),
        (PrimitiveType::Time, Arc::new(Time64MicrosecondArray::from(vec![1, 2]))),
        (PrimitiveType::Timestamp, Arc::new(TimestampMicrosecondArray::from(vec![1, 2]))),
        (PrimitiveType::Timestamptz, Arc::new(zoned)),
        (PrimitiveType::String, Arc::new(StringArray::from(vec!["a", "b"]))),
        (PrimitiveType::Uuid, Arc::new(fixed([&[1; 16], &[2; 16]]))),
        (PrimitiveType::Fixed(3), Arc::new(fixed([&[1; 3], &[2; 3]]))),
        (PrimitiveType::Binary, Arc::new(LargeBinaryArray::from(vec![&b"a"[..], b"b"]))),
        (PrimitiveType::Binary, Arc::new(BinaryArray::from(vec![&b"a"[..], b"b"]))),
    ];
    for (key_type, values) in cases {
        let metadata = one_column(key_type.clone());
        let data = batch(vec![(1, values.clone())]);
        for row in 0..2 {
            let map = map_of(&metadata, &[1], &[(batch(vec![(1, values.slice(row, 1))]), 2)]);
            assert_eq!(dead(&map, &data, 1), [row], "{key_type}");
            assert!(map.heap_bytes() > 0 && map.len() == 1);
        }
    }
}

#[test]
fn narrower_data_meets_keys_of_the_widened_type() {
    // Column 1 was int and is long: a key outside the int range is no key of old data.
    let keys = batch(vec![(1, Arc::new(Int64Array::from(vec![2, 5_000_000_000])))]);
    let map = map_of(&metadata(), &[1], &[(keys, 2)]);
    let old = batch(vec![(1, Arc::new(Int32Array::from(vec![1, 2, 705_032_704])))]);
    assert_eq!(dead(&map, &old, 1), [1]);
}

#[test]
fn several_columns_compare_together_and_extra_columns_are_ignored() {
    let rows = |a: Vec<Option<i64>>, b: Vec<Option<&str>>| {
        let noise: Int32Array = a.iter().map(|v| v.map(|v| v as i32 * 100)).collect();
        batch(vec![
            (3, Arc::new(StringArray::from(b)) as _),
            (2, Arc::new(noise)),
            (1, Arc::new(Int64Array::from(a))),
        ])
    };
    let map =
        map_of(&metadata(), &[3, 1], &[(rows(vec![Some(1), None], vec![None, Some("b")]), 2)]);
    let data = rows(
        vec![Some(1), Some(1), None, None, Some(2)],
        vec![None, Some("b"), Some("b"), None, None],
    );
    assert_eq!(dead(&map, &data, 1), [0, 2]);
}

#[test]
fn a_nested_key_under_a_null_struct_is_a_null_key() {
    let nested = |values: Vec<Option<i32>>, valid: Vec<bool>| {
        let fields = Fields::from(vec![with_id("a", 7, DataType::Int32)]);
        let inner: ArrayRef = Arc::new(Int32Array::from(values));
        let array = StructArray::new(fields, vec![inner], Some(valid.into()));
        batch(vec![(5, Arc::new(array) as _)])
    };
    let data = nested(vec![Some(1), Some(2), Some(1), None], vec![true, true, false, true]);
    let one = map_of(&metadata(), &[7], &[(nested(vec![Some(1)], vec![true]), 2)]);
    assert_eq!(dead(&one, &data, 1), [0]);
    let null = map_of(&metadata(), &[7], &[(nested(vec![Some(1)], vec![false]), 2)]);
    assert_eq!(dead(&null, &data, 1), [2, 3]);
}

#[test]
fn a_batch_without_the_key_column_is_corrupt_data() {
    let keys = batch(vec![(1, Arc::new(Int64Array::from(vec![2])))]);
    let map = map_of(&metadata(), &[1], &[(keys, 2)]);
    let data = batch(vec![(3, Arc::new(StringArray::from(vec!["x"])) as _)]);
    let error = map.alive(&data, 1.into()).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::CorruptData);
}

#[test]
fn rows_ruled_out_by_one_column_and_rows_that_are_not_get_the_same_answer() {
    let rows = |ids: Vec<i64>, names: Vec<&str>| {
        batch(vec![
            (1, Arc::new(Int64Array::from(ids)) as _),
            (3, Arc::new(StringArray::from(names))),
        ])
    };
    let ids: Vec<i64> = (0..4000).collect();
    let names: Vec<&str> = ids.iter().map(|id| if id % 3 == 0 { "a" } else { "b" }).collect();
    let data = rows(ids.clone(), names);
    let keys: Vec<i64> = ids.iter().copied().filter(|id| id % 10 == 0).collect();
    let map = map_of(&metadata(), &[1, 3], &[(rows(keys.clone(), vec!["a"; keys.len()]), 2)]);
    let expected: Vec<usize> = (0..4000).filter(|id| id % 30 == 0).collect();
    assert_eq!(dead(&map, &data, 1), expected);
    assert_eq!(dead(&map, &data.slice(1, 9), 1), [] as [usize; 0]);
    assert_eq!(dead(&map, &data.slice(30, 1), 1), [0]);
}

type Row = (Option<i64>, Option<u8>);

fn rows_batch(rows: &[Row]) -> RecordBatch {
    let names = |v: Option<u8>| v.map(|v| format!("n{v}"));
    batch(vec![
        (1, Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()) as _),
        (3, Arc::new(rows.iter().map(|r| names(r.1)).collect::<StringArray>())),
    ])
}

fn any_rows(max: usize) -> impl Strategy<Value = Vec<Row>> {
    let id = prop_oneof![Just(None), (-3i64..4).prop_map(Some), any::<i64>().prop_map(Some)];
    proptest::collection::vec((id, proptest::option::of(0u8..4)), 0..max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn maps_whole_split_by_hash_and_merged_agree_with_a_plain_model(
        files in proptest::collection::vec((any_rows(12), 1i64..6), 0..6),
        data in any_rows(80),
        data_sequence in 0i64..6,
        ids in prop_oneof![Just(vec![1]), Just(vec![3]), Just(vec![1, 3])],
    ) {
        let key = |row: &Row| {
            (ids.contains(&1).then_some(row.0), ids.contains(&3).then_some(row.1))
        };
        let mut model: BTreeMap<_, i64> = BTreeMap::new();
        for (rows, sequence) in &files {
            for row in rows {
                let highest = model.entry(key(row)).or_insert(*sequence);
                *highest = (*highest).max(*sequence);
            }
        }
        let expected: Vec<usize> = (0..data.len())
            .filter(|at| model.get(&key(&data[*at])).is_some_and(|s| *s > data_sequence))
            .collect();
        let columns = KeyColumns::resolve(&ids, &metadata()).unwrap();
        let build = |files: &[(Vec<Row>, i64)], part| {
            let mut builder = EqualityDeleteMap::builder(columns.clone(), part).unwrap();
            for (rows, sequence) in files {
                builder.add(&rows_batch(rows), (*sequence).into()).unwrap();
            }
            builder.finish()
        };
        let batch = rows_batch(&data);
        prop_assert_eq!(&dead(&build(&files, None), &batch, data_sequence), &expected);

        let mut by_parts: Vec<usize> = (0..3)
            .flat_map(|index| {
                dead(&build(&files, Some(HashPartition { index, of: 3 })), &batch, data_sequence)
            })
            .collect();
        by_parts.sort_unstable();
        prop_assert_eq!(&by_parts, &expected, "each dead row is found in exactly one part");

        let mut merged = EqualityDeleteMap::builder(columns.clone(), None).unwrap();
        for file in &files {
            merged.absorb(&build(std::slice::from_ref(file), None)).unwrap();
        }
        prop_assert_eq!(&dead(&merged.finish(), &batch, data_sequence), &expected);
    }
}
