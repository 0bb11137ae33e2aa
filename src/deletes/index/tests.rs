//! Truth tables of delete applicability: one row a rule, both answers.

use std::sync::Arc;

use super::*;
use crate::spec::{
    FormatVersion, IdBytes, IdMap, Literal, NestedField, PartitionSpec, PrimitiveType, Schema,
    SortOrder, Struct, TableMetadataBuilder, Transform, Type, UnboundPartitionSpec,
};

pub(crate) const UNPARTITIONED: i32 = 0;
const BY_DAY: i32 = 1;
const BY_ID: i32 = 2;
const ALL_VOID: i32 = 3;

/// Columns 1 `id: long`, 2 `day: int`, 3 `name: string?`, 4 `x: double?`, 5 `s: {7 a: int?}`;
/// column 6 `gone: int?` only in an older schema. Specs as the constants above say.
pub(crate) fn metadata() -> TableMetadata {
    let primitive = |id, name: &str, t| NestedField::optional(id, name, Type::Primitive(t)).into();
    let inner = crate::spec::StructType::new(vec![primitive(7, "a", PrimitiveType::Int)]);
    let common = |id_type| {
        vec![
            NestedField::required(1, "id", Type::Primitive(id_type)).into(),
            primitive(2, "day", PrimitiveType::Int),
            primitive(3, "name", PrimitiveType::String),
            primitive(4, "x", PrimitiveType::Double),
            NestedField::optional(5, "s", Type::Struct(inner.clone())).into(),
        ]
    };
    let mut old = common(PrimitiveType::Int);
    old.push(primitive(6, "gone", PrimitiveType::Int));
    let old = Schema::builder().with_fields(old).build().unwrap();
    let new = common(PrimitiveType::Long);
    let new = Schema::builder().with_schema_id(1).with_fields(new).build().unwrap();
    let spec = |field: Option<(i32, &str, Transform)>| {
        let builder = UnboundPartitionSpec::builder();
        match field {
            None => builder.build(),
            Some((id, name, t)) => builder.add_partition_field(id, name, t).unwrap().build(),
        }
    };
    TableMetadataBuilder::new(
        old,
        PartitionSpec::unpartition_spec(),
        SortOrder::unsorted_order(),
        "memory:///t".into(),
        FormatVersion::V2,
        Default::default(),
    )
    .unwrap()
    .add_schema(new)
    .unwrap()
    .set_current_schema(1)
    .unwrap()
    .add_partition_spec(spec(Some((2, "day", Transform::Identity))))
    .unwrap()
    .add_partition_spec(spec(Some((1, "id_bucket", Transform::Bucket(4)))))
    .unwrap()
    .add_partition_spec(spec(Some((2, "day_void", Transform::Void))))
    .unwrap()
    .build()
    .unwrap()
    .metadata
}

fn partition(spec_id: i32, value: Option<i32>) -> PartitionKey {
    let values = match spec_id {
        UNPARTITIONED => Struct::empty(),
        _ => Struct::from_iter([value.map(Literal::int)]),
    };
    PartitionKey { spec_id, values }
}

fn file(content: DataContentType, path: &str, spec: i32, value: Option<i32>) -> DataFile {
    DataFile::new(content, path, partition(spec, value), 10, 100)
}

fn data(spec: i32, value: Option<i32>) -> DataFile {
    file(DataContentType::Data, "d", spec, value)
}

fn equality(spec: i32, value: Option<i32>, ids: &[i32]) -> DataFile {
    let mut f = file(DataContentType::EqualityDeletes, "e", spec, value);
    f.equality_ids = Some(ids.to_vec());
    f
}

fn position(spec: i32, value: Option<i32>) -> DataFile {
    file(DataContentType::PositionDeletes, "p", spec, value)
}

fn applies(data: &DataFile, data_seq: i64, delete: DataFile, delete_seq: i64) -> Result<bool> {
    let delete = DeleteFile { file: Arc::new(delete), sequence_number: delete_seq.into() };
    let index = DeleteFileIndex::new([delete], &metadata())?;
    Ok(!index.for_data_file(data, data_seq.into())?.is_empty())
}

#[test]
fn equality_deletes_apply_to_strictly_older_data_and_position_deletes_to_their_own_commit_too() {
    for (data_seq, delete_seq, equality_applies, position_applies) in
        [(1, 2, true, true), (2, 2, false, true), (3, 2, false, false), (0, 0, false, true)]
    {
        let d = data(UNPARTITIONED, None);
        let e = equality(UNPARTITIONED, None, &[1]);
        let p = position(UNPARTITIONED, None);
        assert_eq!(applies(&d, data_seq, e, delete_seq).unwrap(), equality_applies);
        assert_eq!(applies(&d, data_seq, p, delete_seq).unwrap(), position_applies);
    }
}

#[test]
fn deletes_reach_their_own_spec_and_partition_and_unpartitioned_equality_deletes_reach_all() {
    // (data spec, value), (delete spec, value), equality applies, position applies
    let table = [
        ((BY_DAY, Some(1)), (BY_DAY, Some(1)), true, true),
        ((BY_DAY, Some(1)), (BY_DAY, Some(2)), false, false),
        ((BY_DAY, None), (BY_DAY, None), true, true),
        ((BY_DAY, None), (BY_DAY, Some(1)), false, false),
        ((BY_DAY, Some(1)), (BY_ID, Some(1)), false, false),
        ((BY_ID, Some(1)), (BY_DAY, Some(1)), false, false),
        ((BY_DAY, Some(1)), (UNPARTITIONED, None), true, false),
        ((UNPARTITIONED, None), (UNPARTITIONED, None), true, true),
        ((UNPARTITIONED, None), (BY_DAY, Some(1)), false, false),
        ((BY_DAY, Some(1)), (ALL_VOID, None), true, false),
        ((ALL_VOID, None), (ALL_VOID, None), true, true),
        ((ALL_VOID, None), (UNPARTITIONED, None), true, false),
    ];
    for (d, x, equality_applies, position_applies) in table {
        let file = data(d.0, d.1);
        let by_key = applies(&file, 1, equality(x.0, x.1, &[1]), 2).unwrap();
        assert_eq!(by_key, equality_applies, "equality {x:?} on {d:?}");
        let by_position = applies(&file, 1, position(x.0, x.1), 2).unwrap();
        assert_eq!(by_position, position_applies, "position {x:?} on {d:?}");
    }
}

#[test]
fn partition_values_of_before_and_after_a_promotion_are_one_partition() {
    let file = data(BY_DAY, Some(1));
    let mut delete = equality(BY_DAY, None, &[1]);
    delete.partition = Struct::from_iter([Some(Literal::long(1))]);
    assert!(applies(&file, 1, delete, 2).unwrap());
}

fn path_scoped(referenced: Option<&str>, bounds: Option<(&str, &str)>) -> DataFile {
    let mut f = position(BY_DAY, Some(1));
    f.referenced_data_file = referenced.map(str::to_string);
    if let Some((low, high)) = bounds {
        f.lower_bounds = IdBytes::from_iter([(2_147_483_546, low)]);
        f.upper_bounds = IdBytes::from_iter([(2_147_483_546, high)]);
    }
    f
}

#[test]
fn position_deletes_about_one_file_reach_only_it() {
    let d = data(BY_DAY, Some(1)); // its path is `d`
    for (delete, expected) in [
        (path_scoped(Some("d"), None), true),
        (path_scoped(Some("other"), None), false),
        (path_scoped(None, Some(("d", "d"))), true),
        (path_scoped(None, Some(("e", "e"))), false),
        (path_scoped(None, Some(("a", "z"))), true),
        (path_scoped(None, Some(("e", "z"))), false),
        (path_scoped(None, Some(("a", "c"))), false),
        (path_scoped(Some("d"), Some(("a", "z"))), true),
    ] {
        let shown = format!("{:?}", delete.referenced_path());
        assert_eq!(applies(&d, 1, delete, 1).unwrap(), expected, "{shown}");
    }
    assert!(!applies(&d, 2, path_scoped(Some("d"), None), 1).unwrap(), "older than the data");
}

#[test]
fn a_path_that_matches_in_another_partition_is_corrupt_data() {
    for d in [data(BY_DAY, Some(2)), data(BY_ID, Some(1)), data(UNPARTITIONED, None)] {
        let error = applies(&d, 1, path_scoped(Some("d"), None), 1).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::CorruptData, "{error}");
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let d = data(UNPARTITIONED, None);
    let with_format = |format| {
        let mut f = position(UNPARTITIONED, None);
        f.file_format = format;
        f
    };
    for format in [DataFileFormat::Puffin, DataFileFormat::Avro, DataFileFormat::Orc] {
        let error = applies(&d, 1, with_format(format), 1).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Unsupported, "{error}");
    }
    let mut unknown_spec = position(UNPARTITIONED, None);
    unknown_spec.spec_id = 99;
    let no_ids = file(DataContentType::EqualityDeletes, "e", UNPARTITIONED, None);
    let unknown_column = equality(UNPARTITIONED, None, &[77]);
    for broken in [unknown_spec, no_ids, unknown_column, data(UNPARTITIONED, None)] {
        let error = applies(&d, 1, broken, 2).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::CorruptData, "{error}");
    }
}

/// (values, nulls, lower, upper) of column `id`
type Stats = (u64, Option<u64>, Option<i64>, Option<i64>);

fn with_stats(mut f: DataFile, (values, nulls, low, high): Stats) -> DataFile {
    f.value_counts = IdMap::from_iter([(1, values)]);
    f.null_value_counts = nulls.map(|n| (1, n)).into_iter().collect();
    f.lower_bounds = low.map(|v| (1, v.to_le_bytes())).into_iter().collect();
    f.upper_bounds = high.map(|v| (1, v.to_le_bytes())).into_iter().collect();
    f
}

#[test]
fn statistics_rule_out_equality_deletes_only_when_they_prove_it() {
    let all_null = (10, Some(10), None, None);
    let some_null = (10, Some(1), Some(5), Some(9));
    let no_null = (10, Some(0), Some(5), Some(9));
    let unknown_nulls = (10, None, Some(5), Some(9));
    let above = (10, Some(0), Some(10), Some(20));
    let above_some_null = (10, Some(2), Some(10), Some(20));
    let touching = (10, Some(0), Some(9), Some(20));
    let no_bounds = (10, Some(0), None, None);
    for (d, x, expected) in [
        (no_null, no_null, true),
        (no_null, above, false),
        (above, no_null, false),
        (no_null, touching, true),
        (no_null, no_bounds, true),
        (no_bounds, above, true),
        (all_null, no_null, false),
        (no_null, all_null, false),
        (all_null, all_null, true),
        (all_null, some_null, true),
        (some_null, all_null, true),
        (some_null, above, false),
        (some_null, above_some_null, true),
        (unknown_nulls, above, false),
        (unknown_nulls, above_some_null, true),
        (unknown_nulls, all_null, true),
        (all_null, unknown_nulls, true),
    ] {
        let file = with_stats(data(UNPARTITIONED, None), d);
        let delete = with_stats(equality(UNPARTITIONED, None, &[1]), x);
        assert_eq!(applies(&file, 1, delete, 2).unwrap(), expected, "data {d:?}, delete {x:?}");
    }
}

#[test]
fn one_column_that_proves_it_is_enough_and_int_bounds_are_read_as_long() {
    let mut file = with_stats(data(UNPARTITIONED, None), (10, Some(0), Some(5), Some(9)));
    file.lower_bounds = IdBytes::from_iter([(1, 5i32.to_le_bytes())]); // before the promotion
    file.upper_bounds = IdBytes::from_iter([(1, 9i32.to_le_bytes())]);
    let above = (10, Some(0), Some(10), Some(20));
    let delete = with_stats(equality(UNPARTITIONED, None, &[3, 1]), above);
    assert!(!applies(&file, 1, delete, 2).unwrap());
    let touching = (10, Some(0), Some(9), Some(20));
    let delete = with_stats(equality(UNPARTITIONED, None, &[3, 1]), touching);
    assert!(applies(&file, 1, delete, 2).unwrap());
}

#[test]
fn bounds_of_floats_count_only_without_nan() {
    let float = |mut f: DataFile, low: f64, high: f64, nans: Option<u64>| {
        f.value_counts = IdMap::from_iter([(4, 10)]);
        f.null_value_counts = IdMap::from_iter([(4, 0)]);
        f.nan_value_counts = nans.map(|n| (4, n)).into_iter().collect();
        f.lower_bounds = IdBytes::from_iter([(4, low.to_le_bytes())]);
        f.upper_bounds = IdBytes::from_iter([(4, high.to_le_bytes())]);
        f
    };
    for (data_nans, delete_nans, expected) in
        [(Some(0), Some(0), false), (Some(1), Some(1), true), (None, Some(0), true)]
    {
        let d = float(data(UNPARTITIONED, None), 0.0, 1.0, data_nans);
        let x = float(equality(UNPARTITIONED, None, &[4]), 2.0, 3.0, delete_nans);
        assert_eq!(applies(&d, 1, x, 2).unwrap(), expected);
    }
}

#[test]
fn dropped_and_nested_key_columns_are_known() {
    let d = data(UNPARTITIONED, None);
    for ids in [vec![7], vec![6], vec![6, 7, 1]] {
        assert!(applies(&d, 1, equality(UNPARTITIONED, None, &ids), 2).unwrap());
    }
    let columns = super::super::KeyColumns::resolve(&[6, 1], &metadata()).unwrap();
    let types: Vec<_> = columns.iter().map(|c| (c.field_id, c.key_type.clone())).collect();
    assert_eq!(types, [(1, PrimitiveType::Long), (6, PrimitiveType::Int)]);
}

#[test]
fn a_hundred_thousand_look_ups_among_ten_thousand_deletes_are_quick() {
    let deletes = (0..10_000).map(|n| {
        let mut file = position(BY_DAY, Some(n % 100));
        file.referenced_data_file = Some(format!("d{n}"));
        DeleteFile { file: Arc::new(file), sequence_number: 5.into() }
    });
    let index = DeleteFileIndex::new(deletes, &metadata()).unwrap();
    let mut file = data(BY_DAY, Some(0));
    let mut hits = 0;
    for n in 0..100_000 {
        file.file_path = format!("d{n}");
        file.partition = Struct::from_iter([Some(Literal::int(n % 100))]);
        hits += index.for_data_file(&file, 1.into()).unwrap().len();
    }
    assert_eq!((hits, index.len()), (10_000, 10_000));
}
