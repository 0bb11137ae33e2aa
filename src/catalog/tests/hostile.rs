//! Metadata that contradicts itself is an error that names the file, never a panic or a hang.

use std::io::Write;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::catalog::{read_metadata, write_metadata};
use crate::error::{ErrorKind, Result};
use crate::spec::TableMetadata;

fn snapshot(id: i64, parent: Option<i64>, sequence_number: i64) -> Value {
    let mut snapshot = json!({
        "snapshot-id": id, "sequence-number": sequence_number, "timestamp-ms": 1_700_000_000_000i64,
        "manifest-list": format!("/t/metadata/snap-{id}.avro"),
        "summary": {"operation": "append"}, "schema-id": 0,
    });
    if let Some(parent) = parent {
        snapshot["parent-snapshot-id"] = json!(parent);
    }
    snapshot
}

fn sound() -> Value {
    json!({
        "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1",
        "location": "/t", "last-sequence-number": 3, "last-updated-ms": 1_700_000_000_000i64,
        "last-column-id": 1, "current-schema-id": 0,
        "schemas": [{"type": "struct", "schema-id": 0, "fields":
            [{"id": 1, "name": "x", "required": true, "type": "long"}]}],
        "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}],
        "last-partition-id": 999, "default-sort-order-id": 0,
        "sort-orders": [{"order-id": 0, "fields": []}],
        "current-snapshot-id": 2,
        "snapshots": [snapshot(1, None, 1), snapshot(2, Some(1), 2), snapshot(3, Some(1), 3)],
        "snapshot-log": [{"snapshot-id": 2, "timestamp-ms": 1_700_000_000_000i64}],
        "refs": {"main": {"snapshot-id": 2, "type": "branch"}},
    })
}

fn read(value: &Value) -> Result<TableMetadata> {
    read_metadata(&serde_json::to_vec(value).unwrap(), "/t/metadata/v1.metadata.json")
}

#[test]
fn sound_metadata_is_read_plain_and_packed() {
    let metadata = read(&sound()).unwrap();
    assert_eq!(metadata.snapshots().len(), 3);
    for gzip in [false, true] {
        let bytes = write_metadata(&metadata, gzip).unwrap();
        assert_eq!(bytes.starts_with(&[0x1f, 0x8b]), gzip);
        assert_eq!(read_metadata(&bytes, "x").unwrap(), metadata);
    }
}

#[test]
fn written_metadata_lists_ids_in_order_and_says_when_there_is_no_snapshot() {
    let mut value = sound();
    let written = write_metadata(&read(&value).unwrap(), false).unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    let ids: Vec<_> = written["snapshots"].as_array().unwrap().iter().collect();
    assert_eq!(
        ids.iter().map(|s| s["snapshot-id"].as_i64().unwrap()).collect::<Vec<_>>(),
        [1, 2, 3]
    );

    for key in ["snapshots", "refs", "current-snapshot-id", "snapshot-log"] {
        value.as_object_mut().unwrap().remove(key);
    }
    let written = write_metadata(&read(&value).unwrap(), false).unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(written["current-snapshot-id"], -1);
}

#[test]
fn contradictions_are_corrupt_data() {
    type Break = (&'static str, fn(&mut Value));
    let breaks: [Break; 16] = [
        ("circle", |v| v["snapshots"][0]["parent-snapshot-id"] = json!(2)),
        ("its own ancestor", |v| v["snapshots"][2]["parent-snapshot-id"] = json!(3)),
        ("two snapshots", |v| v["snapshots"][1]["snapshot-id"] = json!(1)),
        ("two schemas", |v| {
            let schema = v["schemas"][0].clone();
            v["schemas"].as_array_mut().unwrap().push(schema);
        }),
        ("two partition specs", |v| {
            v["partition-specs"].as_array_mut().unwrap().push(json!({"spec-id": 0, "fields": []}));
        }),
        ("two sort orders", |v| {
            v["sort-orders"].as_array_mut().unwrap().push(json!({"order-id": 0, "fields": []}));
        }),
        ("sequence number", |v| v["snapshots"][0]["sequence-number"] = json!(-1)),
        ("sequence number", |v| v["last-sequence-number"] = json!(i64::MAX)),
        ("out of range", |v| v["last-updated-ms"] = json!(i64::MIN)),
        ("out of range", |v| v["snapshot-log"][0]["timestamp-ms"] = json!(i64::MAX)),
        ("format version", |v| v["format-version"] = json!(0)),
        ("metadata", |v| v["current-schema-id"] = json!(9)),
        ("metadata", |v| v["current-snapshot-id"] = json!(9)),
        ("metadata", |v| v["refs"]["main"]["snapshot-id"] = json!(1)),
        ("metadata", |v| v["default-spec-id"] = json!(9)),
        ("metadata", |v| v["table-uuid"] = json!("no uuid")),
    ];
    for (words, break_it) in breaks {
        let mut value = sound();
        break_it(&mut value);
        let error = read(&value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptData, "{error}");
        assert!(error.to_string().contains(words), "`{words}` is missing in: {error}");
        assert!(error.to_string().contains("v1.metadata.json"), "{error}");
    }
}

#[test]
fn newer_format_versions_are_refused_by_name() {
    for version in [3i64, 4, 1 << 40] {
        let mut value = sound();
        value["format-version"] = json!(version);
        let error = read(&value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(&format!("version {version}")));
    }
}

#[test]
fn bytes_that_are_no_metadata_are_corrupt_data() {
    let deep = "[".repeat(100_000);
    for bytes in [&b""[..], b"null", b"[]", b"{}", b"\x1f\x8b\x08garbage", deep.as_bytes()] {
        let error = read_metadata(bytes, "f").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptData, "{error}");
    }
}

#[test]
fn a_gzip_bomb_does_not_fill_the_memory() {
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..1025 {
        bomb.write_all(&zeros).unwrap();
    }
    let error = read_metadata(&bomb.finish().unwrap(), "f").unwrap_err();
    assert!(error.to_string().contains("1 GiB"), "{error}");
}

proptest! {
    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = serde_json::to_vec(&sound()).unwrap();
        for (place, value) in flips {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let _ = read_metadata(&bytes, "f");
    }

    #[test]
    fn odd_numbers_never_panic(place in 0..12usize, number in prop_oneof![
        Just(i64::MIN), Just(i64::MAX), Just(-1), Just(0), Just(i64::from(i32::MAX)), any::<i64>(),
    ]) {
        let mut value = sound();
        let field = match place {
            0 => &mut value["last-column-id"],
            1 => &mut value["last-partition-id"],
            2 => &mut value["default-sort-order-id"],
            3 => &mut value["schemas"][0]["schema-id"],
            4 => &mut value["schemas"][0]["fields"][0]["id"],
            5 => &mut value["partition-specs"][0]["spec-id"],
            6 => &mut value["snapshots"][0]["snapshot-id"],
            7 => &mut value["snapshots"][0]["timestamp-ms"],
            8 => &mut value["snapshots"][1]["parent-snapshot-id"],
            9 => &mut value["snapshots"][1]["schema-id"],
            10 => &mut value["last-sequence-number"],
            _ => &mut value["snapshot-log"][0]["timestamp-ms"],
        };
        *field = json!(number);
        let _ = read(&value);
    }
}
