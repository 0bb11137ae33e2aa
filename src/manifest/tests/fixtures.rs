//! Manifests of other writers: Java of several ages, Spark, Flink, Hive, DuckDB, PyIceberg.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::iceberg::spec::{Manifest, ManifestList};
use crate::spec::{FormatVersion, ManifestEntry, ManifestStatus};

/// All `.avro` files of the fixtures by table.
pub(super) fn fixture_files() -> BTreeMap<String, Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fixtures");
    let mut tables = BTreeMap::new();
    for table in std::fs::read_dir(root).unwrap().flatten() {
        let Ok(files) = std::fs::read_dir(table.path().join("table/metadata")) else { continue };
        let mut files: Vec<PathBuf> = files.flatten().map(|f| f.path()).collect();
        files.retain(|f| f.extension().is_some_and(|e| e == "avro"));
        files.sort();
        tables.insert(table.file_name().to_string_lossy().into_owned(), files);
    }
    assert!(tables.len() >= 13, "the fixtures are part of the repository");
    tables
}

pub(super) fn is_list(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("snap-"))
}

/// Every manifest list of the fixtures with those of its manifests that are there.
fn lists() -> Vec<(PathBuf, Vec<(ManifestFile, Vec<u8>)>)> {
    let mut lists = Vec::new();
    for files in fixture_files().into_values() {
        for path in files.iter().filter(|p| is_list(p)) {
            let bytes = std::fs::read(path).unwrap();
            let name = path.to_string_lossy();
            let manifests = read_manifest_list(&bytes, &name, FormatVersion::V2).unwrap();
            let found = manifests.into_iter().filter_map(|manifest| {
                let file = manifest.manifest_path.rsplit('/').next().unwrap().to_string();
                let bytes = std::fs::read(path.with_file_name(file)).ok()?;
                Some((manifest, bytes))
            });
            lists.push((path.clone(), found.collect()));
        }
    }
    lists
}

fn count(entries: &[ManifestEntry], status: ManifestStatus) -> u32 {
    entries.iter().filter(|e| e.status == status).count() as u32
}

#[test]
fn manifests_of_every_fixture_hold_what_their_list_says() {
    let mut read = 0;
    for (path, manifests) in lists() {
        for (manifest, bytes) in manifests {
            let entries = read_manifest(&bytes, &manifest).unwrap();
            let name = format!("{} in {}", manifest.manifest_path, path.display());
            let counts = [
                (manifest.added_files_count, ManifestStatus::Added),
                (manifest.existing_files_count, ManifestStatus::Existing),
                (manifest.deleted_files_count, ManifestStatus::Deleted),
            ];
            for (listed, status) in counts {
                assert_eq!(listed, Some(count(&entries, status)), "{status:?} of {name}");
            }
            let fields = manifest.partitions.as_ref().map_or(0, Vec::len);
            for entry in &entries {
                assert_eq!(entry.file.partition.fields().len(), fields, "{name}");
                assert!(entry.sequence_number.0 > 0, "{name}");
                let deletes = manifest.content == ManifestContentType::Deletes;
                assert_eq!(entry.file.is_delete(), deletes, "{name}");
            }
            read += 1;
        }
    }
    assert!(read >= 50, "{read} manifests read");
}

#[test]
fn the_peer_reads_the_same_from_every_fixture() {
    let mut compared = 0;
    for (path, manifests) in lists() {
        let bytes = std::fs::read(&path).unwrap();
        if let Ok(theirs) = ManifestList::parse_with_version(&bytes, FormatVersion::V2) {
            let ours = read_manifest_list(&bytes, "", FormatVersion::V2).unwrap();
            assert_eq!(ours, theirs.entries(), "{}", path.display());
        }
        for (manifest, bytes) in manifests {
            let ours = read_manifest(&bytes, &manifest).unwrap();
            let Ok(theirs) = Manifest::parse_avro(&bytes) else { continue };
            assert_eq!(ours.len(), theirs.entries().len());
            for (ours, theirs) in ours.iter().zip(theirs.entries()) {
                super::peer::assert_same(ours, theirs);
                compared += 1;
            }
        }
    }
    assert!(compared >= 50, "{compared} entries compared");
}
