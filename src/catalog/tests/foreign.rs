//! Tables that other engines wrote, opened by folder or file.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;

use crate::catalog::{Catalog, FileSystemCatalog, StaticCatalog, open_table_location, parse_ident};
use crate::clock::Environment;
use crate::error::{ErrorKind, Result};
use crate::storage::{PathMap, Storage};
use crate::testing::catalog_contract::{new_table, set};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fixtures")
}

async fn by_place(storage: &Storage, place: &str, paths: PathMap) -> Result<StaticCatalog> {
    StaticCatalog::open(storage, place, paths, Environment::default()).await
}

/// Every fixture with what is expected of it.
fn each_fixture() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(text) = std::fs::read(folder.join("expected.json")) else { continue };
        found.push((folder.display().to_string(), serde_json::from_slice(&text).unwrap()));
    }
    assert!(found.len() >= 13, "fixtures are missing: {}", found.len());
    found
}

#[tokio::test]
async fn every_fixture_opens_by_folder_with_its_map_inferred() {
    for (folder, expected) in each_fixture() {
        let place = format!("{folder}/table");
        let catalog =
            open_table_location(&place, Default::default(), PathMap::new()).await.unwrap();
        let table = catalog.load_table(catalog.ident()).await.unwrap();
        let file = format!("file://{folder}/{}", expected["metadata"].as_str().unwrap());
        assert_eq!(table.metadata_location, file);
        assert_eq!(table.metadata.location(), expected["location"].as_str().unwrap());
        let list = table.metadata.current_snapshot().unwrap().manifest_list();
        assert!(table.storage.exists(list).await.unwrap(), "{list}");
        assert!(!catalog.is_writable(), "what lies elsewhere than it says is read-only");
        assert!(!catalog.changed_since(catalog.ident(), &file).await.unwrap());
    }
}

#[tokio::test]
async fn every_fixture_opens_by_metadata_file_with_a_given_map() {
    for (folder, expected) in each_fixture() {
        let file = format!("{folder}/{}", expected["metadata"].as_str().unwrap());
        let from = expected["map_prefix"]["from"].as_str().unwrap();
        let paths = PathMap::new().with(from, &format!("{folder}/table"));
        let catalog = open_table_location(&file, Default::default(), paths).await.unwrap();
        let table = catalog.load_table(catalog.ident()).await.unwrap();
        let list = table.metadata.current_snapshot().unwrap().manifest_list();
        assert!(table.storage.exists(list).await.unwrap(), "{list}");
    }
}

/// A table without snapshots as another catalog would leave it at `memory:///t`.
async fn foreign(storage: &Storage, names: &[&str]) {
    let catalog = FileSystemCatalog::new(format!("memory:///{}", names.len()), storage.clone());
    let t = parse_ident("ns.t").unwrap();
    catalog.create_namespace(t.namespace(), Default::default()).await.unwrap();
    let table = catalog.create_table(&t, new_table().unwrap()).await.unwrap();
    let bytes = storage.read(&table.metadata_location).await.unwrap();
    for name in names {
        storage.write(&format!("memory:///t/metadata/{name}"), bytes.clone()).await.unwrap();
    }
}

#[tokio::test]
async fn the_highest_version_is_the_head_whatever_its_name_looks_like() {
    for (names, head) in [
        (&["00000-a.metadata.json", "00010-b.metadata.json", "00009-c.metadata.json"][..], 1),
        (&["v1.metadata.json", "v2.gz.metadata.json"], 1),
        (&["v3.metadata.json.gz", "v2.metadata.json"], 0),
        (&["00001-a.metadata.json", "00001-b.metadata.json", "00002-c.metadata.json"], 2),
        (&["current.metadata.json", "00000-a.metadata.json"], 1),
        (&["current.metadata.json"], 0),
    ] {
        let storage = Storage::default();
        foreign(&storage, names).await;
        let catalog = by_place(&storage, "memory:///t", PathMap::new()).await.unwrap();
        let table = catalog.load_table(catalog.ident()).await.unwrap();
        assert_eq!(table.metadata_location, format!("memory:///t/metadata/{}", names[head]));
        // The metadata folder itself is as good a name.
        by_place(&storage, "memory:///t/metadata", PathMap::new()).await.unwrap();
    }
}

#[tokio::test]
async fn two_heads_of_one_version_are_an_error_until_a_successor_comes() {
    let storage = Storage::default();
    foreign(&storage, &["00004-a.metadata.json", "00004-b.metadata.json"]).await;
    let error = by_place(&storage, "memory:///t", PathMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptData);
    assert!(error.to_string().contains("00004-a") && error.to_string().contains("00004-b"));
    by_place(&storage, "memory:///t/metadata/00004-a.metadata.json", PathMap::new()).await.unwrap();
    foreign(&storage, &["00005-c.metadata.json"]).await;
    by_place(&storage, "memory:///t", PathMap::new()).await.unwrap();
}

#[tokio::test]
async fn a_hint_may_name_the_head_among_files_without_numbers() {
    let storage = Storage::default();
    foreign(&storage, &["a.metadata.json", "b.metadata.json"]).await;
    assert!(by_place(&storage, "memory:///t", PathMap::new()).await.is_err());
    let hint = "memory:///t/metadata/version-hint.text";
    storage.write(hint, Bytes::from_static(b"a\n")).await.unwrap();
    let catalog = by_place(&storage, "memory:///t", PathMap::new()).await.unwrap();
    let table = catalog.load_table(catalog.ident()).await.unwrap();
    assert!(table.metadata_location.ends_with("/a.metadata.json"));
}

#[tokio::test]
async fn a_folder_without_a_table_says_what_it_looked_for() {
    let storage = Storage::default();
    let error = by_place(&storage, "memory:///nothing", PathMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.hint().unwrap().contains("metadata.json"));
    let file = by_place(&storage, "memory:///no/v1.metadata.json", PathMap::new()).await;
    assert_eq!(file.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn files_that_are_nowhere_make_an_error_that_proposes_a_map() {
    let folder = fixtures().join("eq_flink/table/metadata/v1.metadata.json");
    let bytes = std::fs::read(folder).unwrap();
    let storage = Storage::default();
    storage.write("memory:///t/metadata/v1.metadata.json", bytes.into()).await.unwrap();
    let error = by_place(&storage, "memory:///t", PathMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let hint = error.hint().unwrap();
    assert!(hint.contains("--map-prefix /test-warehouse/"), "{hint}");
}

#[tokio::test]
async fn tables_of_format_version_1_are_read_only() {
    let storage = Storage::default();
    let catalog = FileSystemCatalog::new("memory:///w", storage.clone());
    let t = parse_ident("ns.t").unwrap();
    catalog.create_namespace(t.namespace(), Default::default()).await.unwrap();
    let v1 = serde_json::json!({
        "format-version": 1, "location": "memory:///w/ns/t", "last-updated-ms": 1,
        "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "last-column-id": 1,
        "schema": {"type": "struct", "fields":
            [{"id": 1, "name": "x", "required": true, "type": "long"}]},
        "partition-spec": [], "properties": {}, "current-snapshot-id": -1, "snapshots": [],
    });
    let file = "memory:///w/ns/t/metadata/v1.metadata.json";
    storage.write(file, serde_json::to_vec(&v1).unwrap().into()).await.unwrap();
    catalog.load_table(&t).await.unwrap();
    let error = catalog.commit(&t, vec![], set("a", "1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.hint().unwrap().contains("version 2"));
}
