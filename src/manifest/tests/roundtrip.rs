//! What we write is what we read.

use proptest::prelude::*;

use super::*;
use crate::spec::{
    DataFileFormat, FormatVersion, IdBytes, IdMap, Literal, ManifestEntry, ManifestStatus,
    PrimitiveLiteral, SequenceNumber, Struct,
};

fn partition_types() -> Vec<PrimitiveType> {
    vec![
        PrimitiveType::Boolean,
        PrimitiveType::Int,
        PrimitiveType::Long,
        PrimitiveType::Float,
        PrimitiveType::Double,
        PrimitiveType::Decimal { precision: 9, scale: 2 },
        PrimitiveType::Decimal { precision: 38, scale: 10 },
        PrimitiveType::Decimal { precision: 9, scale: 2 },
        PrimitiveType::Date,
        PrimitiveType::Time,
        PrimitiveType::Timestamp,
        PrimitiveType::Timestamptz,
        PrimitiveType::String,
        PrimitiveType::Uuid,
        PrimitiveType::Fixed(3),
        PrimitiveType::Binary,
        PrimitiveType::Uuid,
    ]
}

fn value_of(value_type: &PrimitiveType) -> BoxedStrategy<Option<Literal>> {
    use PrimitiveType as Ty;
    let some = match value_type {
        Ty::Boolean => any::<bool>().prop_map(Literal::bool).boxed(),
        Ty::Int => any::<i32>().prop_map(Literal::int).boxed(),
        Ty::Date => any::<i32>().prop_map(Literal::date).boxed(),
        Ty::Float => {
            prop_oneof![any::<f32>(), Just(-0.0), Just(f32::NAN)].prop_map(Literal::float).boxed()
        }
        Ty::Double => {
            prop_oneof![any::<f64>(), Just(-0.0), Just(f64::NAN)].prop_map(Literal::double).boxed()
        }
        Ty::Decimal { precision, .. } => {
            let most = 10i128.pow(*precision) - 1;
            prop_oneof![-most..=most, Just(most), Just(-most), -200i128..200]
                .prop_map(Literal::decimal)
                .boxed()
        }
        Ty::String => ".{0,6}".prop_map(|s: String| Literal::string(s)).boxed(),
        Ty::Uuid => {
            any::<u128>().prop_map(|v| Literal::Primitive(PrimitiveLiteral::UInt128(v))).boxed()
        }
        Ty::Fixed(n) => {
            proptest::collection::vec(any::<u8>(), *n as usize).prop_map(Literal::fixed).boxed()
        }
        Ty::Binary => {
            proptest::collection::vec(any::<u8>(), 0..5).prop_map(Literal::binary).boxed()
        }
        _ => any::<i64>().prop_map(Literal::long).boxed(),
    };
    proptest::option::weighted(0.8, some).boxed()
}

fn any_counts() -> impl Strategy<Value = IdMap> {
    proptest::collection::vec((any::<i32>(), 0..=i64::MAX as u64), 0..5).prop_map(IdMap::from_iter)
}

fn any_bounds() -> impl Strategy<Value = IdBytes> {
    let value = proptest::collection::vec(any::<u8>(), 0..20);
    proptest::collection::vec((0..50i32, value), 0..5).prop_map(IdBytes::from_iter)
}

prop_compose! {
    fn any_file()(
        values in partition_types().iter().map(value_of).collect::<Vec<_>>(),
        path in "[a-z/:]{1,40}",
        content in 0..3,
        format in prop_oneof![
            Just(DataFileFormat::Parquet), Just(DataFileFormat::Avro), Just(DataFileFormat::Orc),
        ],
        (rows, size) in (0..=i64::MAX as u64, 0..=i64::MAX as u64),
        (sizes, counts, nulls, nans) in (any_counts(), any_counts(), any_counts(), any_counts()),
        (lower, upper) in (any_bounds(), any_bounds()),
        key_metadata in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)),
        offsets in proptest::option::of(proptest::collection::vec(any::<i64>(), 0..4)),
        ids in proptest::collection::vec(any::<i32>(), 1..4),
        sort_order in proptest::option::of(any::<i32>()),
        referenced in proptest::option::of("[a-z]{1,9}"),
    ) -> DataFile {
        let content = match content {
            0 => DataContentType::Data,
            1 => DataContentType::PositionDeletes,
            _ => DataContentType::EqualityDeletes,
        };
        let partition = PartitionKey { spec_id: 5, values: Struct::from_iter(values) };
        let mut file = DataFile::new(content, path, partition, rows, size);
        file.file_format = format;
        file.column_sizes = sizes;
        file.value_counts = counts;
        file.null_value_counts = nulls;
        file.nan_value_counts = nans;
        file.lower_bounds = lower;
        file.upper_bounds = upper;
        file.key_metadata = key_metadata;
        file.split_offsets = offsets;
        file.equality_ids = (content == DataContentType::EqualityDeletes).then_some(ids);
        file.sort_order_id = sort_order;
        file.referenced_data_file = referenced;
        file
    }
}

fn any_codec() -> impl Strategy<Value = ManifestCodec> {
    prop_oneof![
        Just(ManifestCodec::Uncompressed),
        Just(ManifestCodec::Deflate),
        Just(ManifestCodec::Zstd),
        Just(ManifestCodec::Snappy),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn manifests_read_back_as_written(
        files in proptest::collection::vec((any_file(), 0..4, 1..9i64), 0..12),
        codec in any_codec(),
    ) {
        for content in [ManifestContentType::Data, ManifestContentType::Deletes] {
            let mut writer = writer_of(content, &partition_types(), codec);
            let mut expected = Vec::new();
            for (file, how, number) in &files {
                if file.is_delete() != (content == ManifestContentType::Deletes) {
                    continue;
                }
                let mut entry = ManifestEntry {
                    status: ManifestStatus::Existing,
                    snapshot_id: SnapshotId(4),
                    sequence_number: SequenceNumber(*number),
                    file_sequence_number: SequenceNumber(number + 1),
                    file: Arc::new(file.clone()),
                };
                match how {
                    0 => writer.existing(&entry).unwrap(),
                    1 => writer.delete(&entry).unwrap(),
                    2 => writer.add(file, None).unwrap(),
                    _ => writer.add(file, Some(SequenceNumber(*number))).unwrap(),
                }
                if *how > 0 {
                    entry.snapshot_id = SnapshotId(77);
                }
                match how {
                    0 => {}
                    1 => entry.status = ManifestStatus::Deleted,
                    _ => {
                        entry.status = ManifestStatus::Added;
                        entry.file_sequence_number = SequenceNumber(20);
                    }
                }
                if *how == 2 {
                    entry.sequence_number = SequenceNumber(20);
                }
                expected.push(entry);
            }
            let (bytes, manifest) = writer.finish("memory://m.avro").unwrap();
            prop_assert_eq!(manifest.manifest_length, bytes.len() as i64);
            let read = read_manifest(&bytes, &listed(manifest, 20)).unwrap();
            prop_assert_eq!(read, expected);
        }
    }
}

#[test]
fn manifest_lists_read_back_as_written_with_numbers_assigned() {
    let mut writer = writer_of(ManifestContentType::Data, &[], ManifestCodec::Deflate);
    writer.add(&data_file("a", 3), None).unwrap();
    let (_, new) = writer.finish("memory://new.avro").unwrap();
    let mut old = listed(new.clone(), 4);
    old.added_snapshot_id = 12;
    old.manifest_path = "memory://old.avro".to_string();
    old.partitions = None;
    old.key_metadata = Some(vec![1, 2]);
    let bytes = write_manifest_list(
        &[new.clone(), old.clone()],
        SnapshotId(77),
        Some(SnapshotId(12)),
        SequenceNumber(9),
        ManifestCodec::Deflate,
    )
    .unwrap();
    let read = read_manifest_list(&bytes, "memory://list.avro", FormatVersion::V2).unwrap();
    assert_eq!(read, [listed(new, 9), old]);
}
