//! Broken and hostile files give errors: no panic, no hang, no memory out of proportion.

use proptest::prelude::*;

use super::fixtures::{fixture_files, is_list};
use super::*;
use crate::ErrorKind;
use crate::manifest::avro::{ContainerWriter, put_long};
use crate::spec::FormatVersion;

fn list_entry() -> ManifestFile {
    let (_, manifest) = writer_of(ManifestContentType::Data, &[], ManifestCodec::Uncompressed)
        .finish("memory://m.avro")
        .unwrap();
    listed(manifest, 3)
}

/// Reads as either; only errors about the file itself may come out.
fn read_somehow(bytes: &[u8]) {
    let results = [
        read_manifest(bytes, &list_entry()).map(drop),
        read_manifest_list(bytes, "list", FormatVersion::V2).map(drop),
    ];
    for error in results.into_iter().filter_map(Result::err) {
        let kinds = [ErrorKind::CorruptData, ErrorKind::Unsupported];
        assert!(kinds.contains(&error.kind()), "{error:?}");
    }
}

/// One real file of every table and kind, and one of ours without compression, so that flips
/// reach the records.
fn samples() -> Vec<Vec<u8>> {
    let mut samples = Vec::new();
    for files in fixture_files().into_values() {
        for wanted in [true, false] {
            let found = files.iter().find(|path| is_list(path) == wanted);
            samples.extend(found.map(|path| std::fs::read(path).unwrap()));
        }
    }
    let mut writer = writer_of(ManifestContentType::Data, &[], ManifestCodec::Uncompressed);
    for path in ["a", "b", "c"] {
        let mut file = data_file(path, 7);
        file.lower_bounds = [(1, b"abc"), (2, b"xyz")].into_iter().collect();
        file.value_counts = [(1, 7), (2, 7)].into_iter().collect();
        file.split_offsets = Some(vec![4, 5, 6]);
        writer.add(&file, None).unwrap();
    }
    samples.push(writer.finish("memory://m.avro").unwrap().0.to_vec());
    samples
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn flipped_bytes_never_panic(
        seeds in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for sample in samples() {
            let mut bytes = sample;
            for (at, value) in &seeds {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            read_somehow(&bytes);
        }
    }

    #[test]
    fn random_bytes_as_records_never_panic(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        count in 0..4i64,
    ) {
        // The header and sync marker of an empty manifest, then a block of noise.
        let writer = writer_of(
            ManifestContentType::Data, &[PrimitiveType::String], ManifestCodec::Uncompressed,
        );
        let (header, _) = writer.finish("memory://m.avro").unwrap();
        let mut bytes = header.to_vec();
        put_long(&mut bytes, count);
        crate::manifest::avro::put_bytes(&mut bytes, &body);
        bytes.extend_from_slice(&header[header.len() - 16..]);
        read_somehow(&bytes);
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_ends_between_blocks() {
    for sample in samples() {
        for length in (0..sample.len()).step_by(7) {
            read_somehow(&sample[..length]);
        }
    }
    let ours = samples().pop().unwrap();
    for length in 0..ours.len() {
        let read = read_manifest(&ours[..length], &list_entry());
        assert!(read.is_err() || read.unwrap().is_empty(), "cut at {length}");
    }
}

#[test]
fn schemas_that_nest_without_end_or_bytes_are_refused() {
    // Each level holds two of the one below: 2^30 steps over no bytes at all.
    let mut skipped = r#"{"type":"record","name":"r0","fields":[]}"#.to_string();
    for level in 1..30 {
        skipped = format!(
            r#"{{"type":"record","name":"r{level}","fields":[
                {{"name":"a","type":{skipped}}},{{"name":"b","type":"r{}"}}]}}"#,
            level - 1
        );
    }
    let own = r#"{"type":"record","name":"t","fields":[{"name":"t","type":"t"}]}"#;
    let nulls = r#"{"type":"array","items":"null"}"#;
    for skipped in [skipped.as_str(), own, nulls] {
        let schema =
            format!(r#"{{"type":"record","name":"e","fields":[{{"name":"x","type":{skipped}}}]}}"#);
        let mut writer = ContainerWriter::new(&schema, &[], ManifestCodec::Uncompressed, 1);
        writer
            .record(|out| {
                put_long(out, i64::MAX);
                Ok(())
            })
            .unwrap();
        let bytes = writer.finish().unwrap();
        let error = read_manifest(&bytes, &list_entry()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptData, "{error:?}");
    }
}

#[test]
fn a_manifest_that_unpacks_without_end_is_refused() {
    for codec in [ManifestCodec::Deflate, ManifestCodec::Zstd] {
        let schema = r#"{"type":"record","name":"e","fields":[{"name":"x","type":"bytes"}]}"#;
        let mut writer = ContainerWriter::new(schema, &[], codec, 1);
        writer
            .record(|out| {
                crate::manifest::avro::put_bytes(out, &vec![0; 32 << 20]);
                Ok(())
            })
            .unwrap();
        let error = read_manifest(&writer.finish().unwrap(), &list_entry()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptData);
        assert!(error.to_string().contains("absurd size"), "{error}");
    }
}

#[test]
fn unknown_codecs_and_other_files_are_named() {
    let schema = r#"{"type":"record","name":"e","fields":[]}"#;
    let writer = ContainerWriter::new(schema, &[], ManifestCodec::Uncompressed, 1);
    let mut bytes = writer.finish().unwrap();
    let at = bytes.windows(4).position(|w| w == b"null").unwrap();
    bytes[at..at + 4].copy_from_slice(b"lzma");
    let error = read_manifest(&bytes, &list_entry()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("lzma"), "{error}");
    let error = read_manifest(b"PAR1", &list_entry()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptData);
    assert!(error.to_string().contains("memory://m.avro"), "{error}");
}
