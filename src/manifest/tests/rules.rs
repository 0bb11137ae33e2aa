//! The rules of the format, one by one.

use super::*;
use crate::manifest::avro::{ContainerWriter, put_bytes, put_long, put_string};
use crate::spec::{
    FieldSummary, IdMap, Literal, ManifestEntry, ManifestStatus, SequenceNumber, Struct,
};
use crate::{ErrorKind, Result};

/// What the manifest list says in these tests.
fn list_entry(sequence_number: i64) -> ManifestFile {
    let (_, manifest) = writer_of(ManifestContentType::Data, &[], ManifestCodec::Uncompressed)
        .finish("memory://m.avro")
        .unwrap();
    listed(manifest, sequence_number)
}

/// A manifest by hand, with numbers that our writer would refuse: (status, snapshot id,
/// sequence number, file sequence number), optional branches in the order `value, null`.
fn by_hand(numbers: [Option<i64>; 4]) -> Vec<u8> {
    let optional = |name: &str, id: i32| {
        format!(r#"{{"name":"{name}","type":["long","null"],"field-id":{id}}}"#)
    };
    let schema = format!(
        r#"{{"type":"record","name":"e","fields":[
            {{"name":"new_in_v9","type":{{"type":"map","values":["null",{{"type":"array","items":"string"}}]}}}},
            {{"name":"renamed_status","type":"int","field-id":0}},{},{},{},
            {{"name":"data_file","type":{{"type":"record","name":"f","fields":[
                {{"name":"record_count","type":"long"}},
                {{"name":"file_size_in_bytes","type":"long"}},
                {{"name":"file_path","type":"string"}},
                {{"name":"file_format","type":"string"}},
                {{"name":"partition","type":{{"type":"record","name":"p","fields":[]}}}}
            ]}}}}]}}"#,
        optional("snapshot_id", 1),
        optional("sequence_number", 3),
        optional("file_sequence_number", 4),
    );
    let mut writer = ContainerWriter::new(&schema, &[], ManifestCodec::Snappy, 1);
    writer
        .record(|out| {
            put_long(out, 1);
            put_string(out, "key");
            put_long(out, 1);
            put_long(out, -1); // a part of one item with its size in bytes in front
            put_long(out, 2);
            put_string(out, "x");
            put_long(out, 0);
            put_long(out, 0);
            let [status, rest @ ..] = numbers;
            put_long(out, status.unwrap());
            for number in rest {
                match number {
                    Some(number) => {
                        put_long(out, 0);
                        put_long(out, number);
                    }
                    None => put_long(out, 1),
                }
            }
            put_long(out, 3);
            put_long(out, 30);
            put_string(out, "data.parquet");
            put_string(out, "Parquet");
            Ok(())
        })
        .unwrap();
    writer.finish().unwrap()
}

#[test]
fn what_entries_inherit() {
    let (added, existing, deleted) = (1, 0, 2);
    // (status, sequence number, file sequence number, the list's) -> (data, file) or corrupt
    let table = [
        ((added, None, None, 9), Some((9, 9))),
        ((added, Some(4), None, 9), Some((4, 9))),
        ((added, None, Some(9), 9), Some((9, 9))),
        ((added, Some(4), Some(9), 9), Some((4, 9))),
        ((added, Some(0), Some(0), 9), Some((0, 0))),
        ((existing, Some(4), Some(5), 9), Some((4, 5))),
        ((existing, Some(4), None, 9), Some((4, 4))),
        ((existing, None, Some(5), 9), None),
        ((existing, None, None, 9), None),
        ((deleted, Some(4), Some(5), 9), Some((4, 5))),
        ((deleted, None, None, 9), None),
        // Manifests from before v2: everything is as old as can be.
        ((added, None, None, 0), Some((0, 0))),
        ((existing, None, None, 0), Some((0, 0))),
        ((deleted, None, None, 0), Some((0, 0))),
        ((existing, Some(0), None, 0), Some((0, 0))),
    ];
    for ((status, data, file, of_list), expected) in table {
        for snapshot_id in [None, Some(4)] {
            let bytes = by_hand([Some(status), snapshot_id, data, file]);
            let read = read_manifest(&bytes, &list_entry(of_list));
            let case = (status, data, file, of_list);
            let Some((data, file)) = expected else {
                assert_eq!(read.unwrap_err().kind(), ErrorKind::CorruptData, "{case:?}");
                continue;
            };
            let entry = &read.unwrap()[0];
            assert_eq!(entry.sequence_number.0, data, "{case:?}");
            assert_eq!(entry.file_sequence_number.0, file, "{case:?}");
            assert_eq!(entry.snapshot_id.0, snapshot_id.unwrap_or(77), "{case:?}");
            assert_eq!(entry.file.spec_id, 5);
        }
    }
}

#[test]
fn a_status_or_content_that_nobody_knows_is_corrupt() {
    for status in [-1, 3, i64::from(i32::MAX) + 2] {
        let error = read_manifest(&by_hand([Some(status), None, None, None]), &list_entry(1));
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptData);
        assert!(error.to_string().contains("m.avro"), "{error}");
    }
}

fn entry(path: &str, rows: u64, number: i64) -> ManifestEntry {
    ManifestEntry {
        status: ManifestStatus::Added,
        snapshot_id: SnapshotId(3),
        sequence_number: SequenceNumber(number),
        file_sequence_number: SequenceNumber(number + 1),
        file: Arc::new(data_file(path, rows)),
    }
}

#[test]
fn counts_go_by_status() -> Result<()> {
    let mut writer = writer_of(ManifestContentType::Data, &[], ManifestCodec::Deflate);
    writer.add(&data_file("a", 1), None)?;
    writer.existing(&entry("b", 10, 1))?;
    writer.existing(&entry("c", 20, 1))?;
    for (path, rows) in [("d", 100), ("e", 200), ("f", 300)] {
        writer.delete(&entry(path, rows, 1))?;
    }
    assert_eq!(writer.entry_count(), 6);
    let (_, manifest) = writer.finish("memory://m.avro")?;
    assert_eq!(manifest.added_files_count, Some(1));
    assert_eq!(manifest.existing_files_count, Some(2));
    assert_eq!(manifest.deleted_files_count, Some(3));
    assert_eq!(manifest.added_rows_count, Some(1));
    assert_eq!(manifest.existing_rows_count, Some(30));
    assert_eq!(manifest.deleted_rows_count, Some(600));
    Ok(())
}

#[test]
fn the_minimum_is_over_live_entries_with_a_number_of_their_own() -> Result<()> {
    type Fill = fn(&mut ManifestWriter) -> Result<()>;
    let table: [(&str, Fill, i64); 6] = [
        ("nothing", |_| Ok(()), UNASSIGNED),
        ("inherits", |w| w.add(&data_file("a", 1), None), UNASSIGNED),
        ("explicit", |w| w.add(&data_file("a", 1), Some(SequenceNumber(7))), 7),
        (
            "mixed",
            |w| {
                w.add(&data_file("a", 1), None)?;
                w.add(&data_file("b", 1), Some(SequenceNumber(7)))
            },
            7,
        ),
        (
            "deleted do not count",
            |w| {
                w.delete(&entry("a", 1, 2))?;
                w.existing(&entry("b", 1, 5))
            },
            5,
        ),
        ("deleted only", |w| w.delete(&entry("a", 1, 2)), UNASSIGNED),
    ];
    for (name, fill, expected) in table {
        let mut writer = writer_of(ManifestContentType::Data, &[], ManifestCodec::Deflate);
        fill(&mut writer)?;
        let (_, manifest) = writer.finish("memory://m.avro")?;
        assert_eq!(manifest.min_sequence_number, expected, "{name}");
        assert_eq!(manifest.sequence_number, UNASSIGNED);
    }
    Ok(())
}

#[test]
fn an_explicit_age_is_kept_and_the_file_is_still_new() -> Result<()> {
    let mut writer = writer_of(ManifestContentType::Data, &[], ManifestCodec::Deflate);
    writer.add(&data_file("rewritten", 1), Some(SequenceNumber(3)))?;
    let (bytes, manifest) = writer.finish("memory://m.avro")?;
    let entries = read_manifest(&bytes, &listed(manifest, 9))?;
    assert_eq!(entries[0].sequence_number, SequenceNumber(3));
    assert_eq!(entries[0].file_sequence_number, SequenceNumber(9));
    Ok(())
}

fn summary_of(value_type: PrimitiveType, values: Vec<Option<Literal>>) -> FieldSummary {
    let mut writer = writer_of(ManifestContentType::Data, &[value_type], ManifestCodec::Deflate);
    for value in values {
        let mut file = data_file("a", 1);
        file.partition = Struct::from_iter([value]);
        writer.add(&file, None).unwrap();
    }
    let (_, manifest) = writer.finish("memory://m.avro").unwrap();
    manifest.partitions.unwrap().remove(0)
}

fn bounds(summary: &FieldSummary) -> Option<(Vec<u8>, Vec<u8>)> {
    Some((summary.lower_bound.clone()?.into_vec(), summary.upper_bound.clone()?.into_vec()))
}

#[test]
fn summaries_bound_values_and_count_nulls_and_nans_apart() {
    let double = |v: f64| Some(Literal::double(v));
    let values = vec![double(f64::NAN), double(2.0), None, double(-3.0)];
    let summary = summary_of(PrimitiveType::Double, values);
    assert!(summary.contains_null);
    assert_eq!(summary.contains_nan, Some(true));
    let expected = ((-3f64).to_le_bytes().to_vec(), 2f64.to_le_bytes().to_vec());
    assert_eq!(bounds(&summary), Some(expected));

    let zeros = summary_of(PrimitiveType::Double, vec![double(0.0), double(-0.0)]);
    let expected = ((-0f64).to_le_bytes().to_vec(), 0f64.to_le_bytes().to_vec());
    assert_eq!(bounds(&zeros), Some(expected));
    assert!(!zeros.contains_null);
    assert_eq!(zeros.contains_nan, Some(false));

    let nothing = summary_of(PrimitiveType::Float, vec![Some(Literal::float(f32::NAN)), None]);
    assert_eq!(bounds(&nothing), None);
}

#[test]
fn summaries_hold_single_value_binary() {
    let decimal = PrimitiveType::Decimal { precision: 38, scale: 2 };
    let table = [
        (PrimitiveType::Int, Literal::int(1), vec![1, 0, 0, 0]),
        (PrimitiveType::Long, Literal::int(1), vec![1, 0, 0, 0, 0, 0, 0, 0]),
        (PrimitiveType::Boolean, Literal::bool(true), vec![1]),
        (
            PrimitiveType::String,
            Literal::string("a long word, not cut"),
            b"a long word, not cut".to_vec(),
        ),
        (decimal.clone(), Literal::decimal(0), vec![0]),
        (decimal.clone(), Literal::decimal(127), vec![127]),
        (decimal.clone(), Literal::decimal(128), vec![0, 128]),
        (decimal.clone(), Literal::decimal(-1), vec![255]),
        (decimal.clone(), Literal::decimal(-128), vec![128]),
        (decimal, Literal::decimal(-129), vec![255, 127]),
        (PrimitiveType::Binary, Literal::binary([0, 7]), vec![0, 7]),
        (PrimitiveType::Fixed(1), Literal::fixed([7]), vec![7]),
    ];
    for (value_type, value, expected) in table {
        let summary = summary_of(value_type.clone(), vec![Some(value)]);
        assert_eq!(bounds(&summary), Some((expected.clone(), expected)), "{value_type}");
    }
}

#[test]
fn writers_refuse_what_does_not_belong() {
    let new = |content| writer_of(content, &[PrimitiveType::Int], ManifestCodec::Deflate);
    let mut file = data_file("a", 1);
    file.partition = Struct::from_iter([Some(Literal::int(1))]);
    new(ManifestContentType::Data).add(&file, None).unwrap();

    let refused = |content, file: &DataFile| {
        let error = new(content).add(file, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    };
    refused(ManifestContentType::Deletes, &file);
    refused(ManifestContentType::Data, &DataFile { spec_id: 6, ..file.clone() });
    refused(ManifestContentType::Data, &DataFile { partition: Struct::empty(), ..file.clone() });
    refused(
        ManifestContentType::Data,
        &DataFile { partition: Struct::from_iter([Some(Literal::string("1"))]), ..file.clone() },
    );
    let equality =
        DataFile { content: DataContentType::EqualityDeletes, equality_ids: None, ..file };
    refused(ManifestContentType::Deletes, &equality);
}

#[test]
fn a_refused_file_leaves_no_trace() -> Result<()> {
    let types = [PrimitiveType::Int, PrimitiveType::Int];
    let mut writer = writer_of(ManifestContentType::Data, &types, ManifestCodec::Deflate);
    let mut file = data_file("a", 1);
    file.partition = Struct::from_iter([Some(Literal::int(1)), Some(Literal::long(1i64))]);
    assert!(writer.add(&file, None).is_err());
    let (bytes, manifest) = writer.finish("memory://m.avro")?;
    assert_eq!(manifest.added_files_count, Some(0));
    assert_eq!(read_manifest(&bytes, &listed(manifest, 1))?, []);
    Ok(())
}

#[test]
fn a_writer_whose_types_do_not_fit_its_spec_says_so() {
    let schema = schema_of(&[PrimitiveType::Int]);
    let spec = identity_spec(&schema, &[1]);
    let content = ManifestContentType::Data;
    let mut writer =
        ManifestWriter::new(content, schema, spec, vec![], SnapshotId(1), ManifestCodec::Deflate);
    assert_eq!(writer.add(&data_file("a", 1), None).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(writer.finish("memory://m.avro").is_err());
}

/// A manifest of one file whose partition record has these (name, field id) of type int, with
/// this header; the values count from 10.
fn with_partition(fields: &[(&str, Option<i32>)], header: &[(&str, &str)]) -> Vec<u8> {
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, id)| match id {
            Some(id) => format!(r#"{{"name":"{name}","type":"int","field-id":{id}}}"#),
            None => format!(r#"{{"name":"{name}","type":"int"}}"#),
        })
        .collect();
    let schema = format!(
        r#"{{"type":"record","name":"e","fields":[
            {{"name":"status","type":"int"}},
            {{"name":"data_file","type":{{"type":"record","name":"f","fields":[
                {{"name":"file_path","type":"string"}},
                {{"name":"file_format","type":"string"}},
                {{"name":"record_count","type":"long"}},
                {{"name":"file_size_in_bytes","type":"long"}},
                {{"name":"partition","type":{{"type":"record","name":"p","fields":[{}]}}}}
            ]}}}}]}}"#,
        fields.join(",")
    );
    let mut writer = ContainerWriter::new(&schema, header, ManifestCodec::Uncompressed, 1);
    writer
        .record(|out| {
            put_long(out, 1);
            put_string(out, "data.parquet");
            put_bytes(out, b"PARQUET");
            put_long(out, 3);
            put_long(out, 30);
            for value in 0..fields.len() {
                put_long(out, 10 + value as i64);
            }
            Ok(())
        })
        .unwrap();
    writer.finish().unwrap()
}

#[test]
fn partition_values_follow_the_order_of_the_spec() {
    let a = r#"{"source-id":1,"field-id":1000,"name":"a b","transform":"identity"}"#;
    let b = r#"{"source-id":2,"field-id":1001,"name":"b","transform":"identity"}"#;
    let old_b = r#"{"source-id":2,"name":"b","transform":"identity"}"#;
    let (ab, ba) = (format!("[{a},{b}]"), format!("[{b},{a}]"));
    let (no_ids, whole_spec) = (format!("[{a},{old_b}]"), format!(r#"{{"fields":[{b},{a}]}}"#));
    let with_ids = [("x", Some(1000)), ("y", Some(1001))];
    let by_name = [("b", None), ("a_x20b", None)];
    let table = [
        (&with_ids[..], Some(ab.as_str()), Some([10, 11])),
        (&with_ids[..], Some(ba.as_str()), Some([11, 10])),
        (&with_ids[..], Some(no_ids.as_str()), Some([10, 11])),
        (&with_ids[..], Some(whole_spec.as_str()), Some([11, 10])),
        (&with_ids[..], None, Some([10, 11])),
        (&by_name[..], Some(ab.as_str()), Some([11, 10])),
        // Arity and identity must fit.
        (&with_ids[..1], Some(ab.as_str()), None),
        (&[("x", Some(1000)), ("y", Some(1001)), ("z", Some(1002))], Some(ab.as_str()), None),
        (&[("x", Some(1000)), ("y", Some(7))], Some(ab.as_str()), None),
        (&[("x", Some(1000)), ("y", Some(1000))], Some(ab.as_str()), None),
        (&with_ids[..], Some("[{}"), None),
        (&with_ids[..], Some("7"), None),
    ];
    for (fields, spec, expected) in table {
        let header: Vec<_> = spec.iter().map(|spec| ("partition-spec", *spec)).collect();
        let bytes = with_partition(fields, &header);
        let read = read_manifest(&bytes, &list_entry(1));
        match expected {
            None => assert_eq!(read.unwrap_err().kind(), ErrorKind::CorruptData, "{spec:?}"),
            Some(values) => {
                let expected = Struct::from_iter(values.map(|v| Some(Literal::int(v))));
                assert_eq!(read.unwrap()[0].file.partition, expected, "{fields:?} {spec:?}");
            }
        }
    }
}

#[test]
fn values_from_before_a_promotion_are_widened_on_request() {
    let bytes = with_partition(&[("a", Some(1000))], &[]);
    let as_written = &read_manifest(&bytes, &list_entry(1)).unwrap()[0];
    assert_eq!(as_written.file.partition[0], Some(Literal::int(10)));
    let options = ReadOptions {
        partition_types: Some([Type::Primitive(PrimitiveType::Long)].into()),
        ..Default::default()
    };
    let widened = &read_manifest_with(&bytes, &list_entry(1), &options).unwrap()[0];
    assert_eq!(widened.file.partition[0], Some(Literal::long(10)));
}

#[test]
fn statistics_can_be_left_out() -> Result<()> {
    let mut writer = writer_of(ManifestContentType::Data, &[], ManifestCodec::Deflate);
    let mut file = data_file("a", 1);
    let plain = file.clone();
    file.value_counts = IdMap::from_iter([(1, 1)]);
    file.lower_bounds = [(1, b"x")].into_iter().collect();
    writer.add(&file, None)?;
    let (bytes, manifest) = writer.finish("memory://m.avro")?;
    let options = ReadOptions { statistics: false, ..Default::default() };
    let entries = read_manifest_with(&bytes, &listed(manifest, 1), &options)?;
    assert_eq!(*entries[0].file, plain);
    Ok(())
}

#[test]
fn entries_over_the_same_columns_share_their_ids() -> Result<()> {
    let mut writer = writer_of(ManifestContentType::Data, &[], ManifestCodec::Deflate);
    for path in ["a", "b"] {
        let mut file = data_file(path, 1);
        file.value_counts = IdMap::from_iter([(1, 1), (2, 5)]);
        file.lower_bounds = [(1, b"x"), (2, b"y")].into_iter().collect();
        writer.add(&file, None)?;
    }
    let (bytes, manifest) = writer.finish("memory://m.avro")?;
    let entries = read_manifest(&bytes, &listed(manifest, 1))?;
    let (a, b) = (&entries[0].file, &entries[1].file);
    assert!(Arc::ptr_eq(a.value_counts.ids().unwrap(), b.value_counts.ids().unwrap()));
    assert!(Arc::ptr_eq(a.value_counts.ids().unwrap(), b.lower_bounds.ids().unwrap()));
    Ok(())
}

#[test]
fn lists_refuse_manifests_that_are_newer_or_unknown() {
    let write = |manifest: ManifestFile| {
        let codec = ManifestCodec::Deflate;
        write_manifest_list(&[manifest], SnapshotId(77), None, SequenceNumber(5), codec)
    };
    let good = list_entry(5);
    assert!(write(good.clone()).is_ok());
    let newer = ManifestFile { sequence_number: 6, ..good.clone() };
    let foreign =
        ManifestFile { sequence_number: UNASSIGNED, added_snapshot_id: 4, ..good.clone() };
    let uncounted = ManifestFile { existing_rows_count: None, ..good };
    for manifest in [newer, foreign, uncounted] {
        assert_eq!(write(manifest).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
