//! Ours read by the `iceberg` crate's codec and theirs read by ours.

use std::collections::HashMap;

use super::*;
use crate::iceberg::io::FileIO;
use crate::iceberg::spec::{
    DataFileBuilder, DataFileFormat, Manifest, ManifestEntry as PeerEntry, ManifestList,
    ManifestListWriter, ManifestStatus as PeerStatus, ManifestWriterBuilder,
};
use crate::spec::{
    Datum, FormatVersion, IdBytes, Literal, ManifestEntry, ManifestStatus, SequenceNumber, Struct,
};

/// Asserts that both codecs read one entry alike.
pub(super) fn assert_same(ours: &ManifestEntry, theirs: &PeerEntry) {
    let file = theirs.data_file();
    assert_eq!(ours.status as i32, theirs.status() as i32);
    assert_eq!(ours.file.file_path, file.file_path());
    assert_eq!(ours.file.content, file.content_type());
    assert_eq!(ours.file.file_format, file.file_format());
    assert_eq!(&ours.file.partition, file.partition());
    assert_eq!(ours.file.record_count, file.record_count());
    assert_eq!(ours.file.file_size_in_bytes, file.file_size_in_bytes());
    let counts = [
        (&ours.file.column_sizes, file.column_sizes()),
        (&ours.file.value_counts, file.value_counts()),
        (&ours.file.null_value_counts, file.null_value_counts()),
        (&ours.file.nan_value_counts, file.nan_value_counts()),
    ];
    for (ours, theirs) in counts {
        assert_eq!(&ours.iter().collect::<HashMap<_, _>>(), theirs);
    }
    assert_bounds(&ours.file.lower_bounds, file.lower_bounds());
    assert_bounds(&ours.file.upper_bounds, file.upper_bounds());
    assert_eq!(ours.file.key_metadata.as_deref(), file.key_metadata());
    assert_eq!(ours.file.split_offsets.as_deref(), file.split_offsets());
    assert_eq!(ours.file.equality_ids, file.equality_ids());
    assert_eq!(ours.file.sort_order_id, file.sort_order_id());
    assert_eq!(ours.file.referenced_data_file, file.referenced_data_file());
    if let Some(number) = theirs.sequence_number() {
        assert_eq!(ours.sequence_number.0, number);
    }
}

/// The peer drops bounds of columns that the manifest's schema does not have.
fn assert_bounds(ours: &IdBytes, theirs: &HashMap<i32, Datum>) {
    for (id, datum) in theirs {
        assert_eq!(ours.get(*id), Some(&datum.to_bytes().unwrap()[..]), "column {id}");
    }
}

/// Partition types that the peer writes and reads; it fails on UUIDs either way.
fn types() -> Vec<PrimitiveType> {
    vec![
        PrimitiveType::Boolean,
        PrimitiveType::Int,
        PrimitiveType::Long,
        PrimitiveType::Float,
        PrimitiveType::Double,
        PrimitiveType::Date,
        PrimitiveType::Time,
        PrimitiveType::Timestamp,
        PrimitiveType::Timestamptz,
        PrimitiveType::String,
        PrimitiveType::Decimal { precision: 9, scale: 2 },
        PrimitiveType::Fixed(3),
        PrimitiveType::Binary,
    ]
}

fn values() -> Struct {
    Struct::from_iter([
        Some(Literal::bool(true)),
        Some(Literal::int(-7)),
        Some(Literal::long(i64::MIN)),
        Some(Literal::float(1.5f32)),
        Some(Literal::double(-0.25)),
        Some(Literal::date(19_000)),
        Some(Literal::time(3_600_000_000)),
        Some(Literal::timestamp(-1)),
        Some(Literal::timestamptz(1_700_000_000_000_000)),
        Some(Literal::string("é")),
        Some(Literal::decimal(-12_345)),
        Some(Literal::fixed([1, 2, 3])),
        Some(Literal::binary([9, 8])),
    ])
}

fn nulls() -> Struct {
    types().iter().map(|_| None).collect()
}

#[test]
fn the_peer_reads_our_manifests() {
    let mut writer = writer_of(ManifestContentType::Data, &types(), ManifestCodec::Deflate);
    for (path, values) in [("a", values()), ("b", nulls())] {
        let mut file = data_file(path, 3);
        file.partition = values;
        file.lower_bounds = [(2, 5i32.to_le_bytes())].into_iter().collect();
        file.value_counts = [(1, 3), (2, 3)].into_iter().collect();
        file.split_offsets = Some(vec![4]);
        file.sort_order_id = Some(0);
        writer.add(&file, None).unwrap();
        let entry = ManifestEntry {
            status: ManifestStatus::Existing,
            snapshot_id: SnapshotId(3),
            sequence_number: SequenceNumber(2),
            file_sequence_number: SequenceNumber(2),
            file: Arc::new(file),
        };
        writer.existing(&entry).unwrap();
        writer.delete(&entry).unwrap();
    }
    let (bytes, manifest) = writer.finish("memory://m.avro").unwrap();
    let ours = read_manifest(&bytes, &listed(manifest, 8)).unwrap();
    let theirs = Manifest::parse_avro(&bytes).unwrap();
    assert_eq!(theirs.entries().len(), 6);
    assert_eq!(theirs.metadata().partition_spec().spec_id(), 5);
    assert_eq!(theirs.metadata().schema_id, 3);
    for (ours, theirs) in ours.iter().zip(theirs.entries()) {
        assert_same(ours, theirs);
    }
}

#[test]
fn the_peer_reads_our_manifest_lists() {
    let mut writer = writer_of(ManifestContentType::Data, &types(), ManifestCodec::Zstd);
    let mut file = data_file("a", 3);
    file.partition = values();
    writer.add(&file, None).unwrap();
    let (_, manifest) = writer.finish("memory://m.avro").unwrap();
    let list = write_manifest_list(
        std::slice::from_ref(&manifest),
        SnapshotId(77),
        None,
        SequenceNumber(8),
        ManifestCodec::Deflate,
    )
    .unwrap();
    let theirs = ManifestList::parse_with_version(&list, FormatVersion::V2).unwrap();
    assert_eq!(theirs.entries(), [listed(manifest, 8)]);
}

#[tokio::test]
async fn we_read_the_peers_manifests_of_both_versions() {
    let io = FileIO::new_with_memory();
    let schema = schema_of(&types());
    let columns: Vec<i32> = (1..=types().len() as i32).collect();
    let spec = identity_spec(&schema, &columns);
    for version in [1, 2] {
        let output = io.new_output(format!("memory://v{version}.avro")).unwrap();
        let builder = ManifestWriterBuilder::new(output, Some(77), schema.clone(), (*spec).clone());
        let mut writer = if version == 1 { builder.build_v1() } else { builder.build_v2_data() };
        for (path, values) in [("a", values()), ("b", nulls())] {
            let file = DataFileBuilder::default()
                .content(DataContentType::Data)
                .file_path(path.to_string())
                .file_format(DataFileFormat::Parquet)
                .partition(values)
                .record_count(3)
                .file_size_in_bytes(100)
                .value_counts(HashMap::from([(1, 3)]))
                .lower_bounds(HashMap::from([(2, Datum::int(5))]))
                .split_offsets(Some(vec![4]))
                .build()
                .unwrap();
            writer.add_file(file, -1).unwrap();
        }
        let mut manifest = writer.write_manifest_file().await.unwrap();
        manifest.sequence_number = if version == 1 { 0 } else { 6 };
        let bytes = io.new_input(&manifest.manifest_path).unwrap().read().await.unwrap();
        let ours = read_manifest(&bytes, &manifest).unwrap();
        let theirs = Manifest::parse_avro(&bytes).unwrap();
        assert_eq!(ours.len(), 2);
        for (ours, theirs) in ours.iter().zip(theirs.entries()) {
            assert_same(ours, theirs);
            assert_eq!(theirs.status(), PeerStatus::Added);
            assert_eq!(ours.sequence_number.0, manifest.sequence_number);
            assert_eq!(ours.snapshot_id, SnapshotId(77));
        }
    }
}

#[tokio::test]
async fn manifest_lists_of_v1_read_with_sequence_number_zero() {
    let io = FileIO::new_with_memory();
    let output = io.new_output("memory://list.avro").unwrap();
    let mut writer = ManifestListWriter::v1(output.writer().await.unwrap(), 77, None);
    let mut manifest = {
        let mut writer = writer_of(ManifestContentType::Data, &[], ManifestCodec::Deflate);
        writer.add(&data_file("a", 3), None).unwrap();
        writer.finish("memory://m.avro").unwrap().1
    };
    manifest.sequence_number = 0;
    manifest.min_sequence_number = 0;
    writer.add_manifests([manifest.clone()].into_iter()).unwrap();
    writer.close().await.unwrap();
    let bytes = io.new_input("memory://list.avro").unwrap().read().await.unwrap();
    // A table that became v2 still has the lists it wrote as v1.
    for version in [FormatVersion::V1, FormatVersion::V2] {
        let ours = read_manifest_list(&bytes, "list", version).unwrap();
        assert_eq!(ours, [manifest.clone()], "{version:?}");
    }
}
