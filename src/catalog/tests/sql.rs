//! The SQL catalog when answers are lost, files are old, foreign, missing or shared.

use std::collections::HashMap;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::catalog::sql::fault::Fault;
use crate::catalog::{Catalog, FileSystemCatalog, SqlCatalog, open, parse_ident};
use crate::error::ErrorKind;
use crate::spec::TableIdent;
use crate::storage::Storage;
use crate::testing::catalog_contract::{commit_snapshot, new_table, set};

fn storage() -> Storage {
    Storage::new([("local.sync".to_string(), "false".to_string())].into())
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("catalog.db")
    }

    fn warehouse(&self) -> String {
        format!("file://{}/w", self.folder.path().display())
    }

    async fn catalog(&self, name: Option<&str>) -> crate::Result<SqlCatalog> {
        SqlCatalog::open(self.file(), name, &self.warehouse(), storage()).await
    }

    async fn pool(&self) -> SqlitePool {
        let options = SqliteConnectOptions::new().filename(self.file()).create_if_missing(true);
        SqlitePool::connect_with(options).await.unwrap()
    }

    /// The names of the metadata files of `ns.t`.
    fn metadata_files(&self) -> usize {
        let folder = self.folder.path().join("w/ns/t/metadata");
        std::fs::read_dir(folder).map_or(0, |files| files.count())
    }
}

async fn with_table(catalog: &SqlCatalog) -> TableIdent {
    let t = parse_ident("ns.t").unwrap();
    catalog.create_namespace(t.namespace(), HashMap::new()).await.unwrap();
    catalog.create_table(&t, new_table().unwrap()).await.unwrap();
    t
}

#[tokio::test]
async fn a_lost_answer_is_looked_up_before_anything_is_said_or_removed() {
    let place = Place::new();
    let catalog = place.catalog(None).await.unwrap();
    let t = with_table(&catalog).await;
    let faults = catalog.faults().await;

    faults.push([Fault::LostAnswer]);
    let landed = catalog.commit(&t, vec![], set("n", "1")).await.unwrap();
    assert_eq!(catalog.load_table(&t).await.unwrap().metadata, landed.metadata);
    assert_eq!(place.metadata_files(), 2);

    faults.push([Fault::LostRequest]);
    let error = catalog.commit(&t, vec![], set("n", "2")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "provably not applied: {error}");
    assert_eq!(place.metadata_files(), 2, "the file that nobody points at is gone");
    let after = catalog.load_table(&t).await.unwrap();
    assert_eq!(after.metadata_location, landed.metadata_location);
}

#[tokio::test]
async fn the_loser_of_a_race_removes_its_metadata_file() {
    let place = Place::new();
    let catalog = place.catalog(None).await.unwrap();
    let t = with_table(&catalog).await;
    let base = catalog.load_table(&t).await.unwrap();
    commit_snapshot(&catalog, &base, &t, 1).await.unwrap();
    let error = commit_snapshot(&catalog, &base, &t, 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitConflict);
    assert_eq!(place.metadata_files(), 2);
}

#[tokio::test]
async fn files_of_older_writers_lack_a_column_and_work_all_the_same() {
    let place = Place::new();
    let pool = place.pool().await;
    for statement in [
        "CREATE TABLE iceberg_tables (catalog_name VARCHAR(255) NOT NULL, table_namespace \
         VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL, metadata_location VARCHAR(1000), \
         previous_metadata_location VARCHAR(1000), PRIMARY KEY (catalog_name, table_namespace, \
         table_name))",
        "CREATE TABLE iceberg_namespace_properties (catalog_name VARCHAR(255) NOT NULL, namespace \
         VARCHAR(255) NOT NULL, property_key VARCHAR(255), property_value VARCHAR(1000), \
         PRIMARY KEY (catalog_name, namespace, property_key))",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    pool.close().await;
    let catalog = place.catalog(Some("old")).await.unwrap();
    let t = with_table(&catalog).await;
    catalog.commit(&t, vec![], set("n", "1")).await.unwrap();
    assert_eq!(catalog.list_tables(t.namespace()).await.unwrap(), std::slice::from_ref(&t));
    catalog.drop_table(&t).await.unwrap();
}

#[tokio::test]
async fn views_of_other_engines_are_no_tables() {
    let place = Place::new();
    let catalog = place.catalog(Some("c")).await.unwrap();
    let t = with_table(&catalog).await;
    let pool = place.pool().await;
    let view = "INSERT INTO iceberg_tables VALUES ('c', 'ns', 'v', 'x', NULL, 'VIEW')";
    sqlx::query(view).execute(&pool).await.unwrap();
    // PyIceberg leaves the type empty in files that got the column later.
    let untyped = "UPDATE iceberg_tables SET iceberg_type = NULL WHERE table_name = 't'";
    sqlx::query(untyped).execute(&pool).await.unwrap();
    assert_eq!(catalog.list_tables(t.namespace()).await.unwrap(), std::slice::from_ref(&t));
    catalog.commit(&t, vec![], set("n", "1")).await.unwrap();
    let view = parse_ident("ns.v").unwrap();
    assert_eq!(catalog.load_table(&view).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_file_with_several_catalogs_asks_which_one_is_meant() {
    let place = Place::new();
    with_table(&place.catalog(Some("one")).await.unwrap()).await;
    assert_eq!(place.catalog(None).await.unwrap().name(), "one", "the only one is meant");
    with_table(&place.catalog(Some("two")).await.unwrap()).await;
    let error = place.catalog(None).await.unwrap_err();
    assert!(error.to_string().contains("one, two") && error.hint().unwrap().contains("name="));
}

#[tokio::test]
async fn a_missing_file_is_made_by_the_first_write_only() {
    let place = Place::new();
    let uri = format!("sqlite:{}/a/b/catalog.db", place.folder.path().display());
    let catalog = open(&uri, HashMap::new()).await.unwrap();
    let t = parse_ident("ns.t").unwrap();
    for error in [
        catalog.load_table(&t).await.unwrap_err(),
        catalog.list_namespaces(None).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("catalog.db") && error.hint().is_some());
    }
    assert!(!place.folder.path().join("a").exists());
    catalog.create_namespace(t.namespace(), HashMap::new()).await.unwrap();
    let table = catalog.create_table(&t, new_table().unwrap()).await.unwrap();
    let beside = format!("file://{}/a/b/ns/t", place.folder.path().display());
    assert_eq!(table.metadata.location(), beside, "the warehouse is the file's folder");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_corrupt() {
    let place = Place::new();
    std::fs::write(place.file(), "no database at all, but long enough to look at".repeat(99))
        .unwrap();
    let error = place.catalog(None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptData, "{error}");
    assert!(error.to_string().contains("catalog.db"));
}

#[tokio::test]
async fn metadata_goes_where_the_table_says_in_the_codec_it_names() {
    let place = Place::new();
    let catalog = place.catalog(None).await.unwrap();
    let t = parse_ident("ns.t").unwrap();
    catalog.create_namespace(t.namespace(), HashMap::new()).await.unwrap();
    let elsewhere = format!("{}/elsewhere", place.warehouse());
    let new = new_table()
        .unwrap()
        .with_property("write.metadata.path", &elsewhere)
        .with_property("write.metadata.compression-codec", "gzip")
        .with_property("write.metadata.previous-versions-max", "1")
        .with_property("write.metadata.delete-after-commit.enabled", "true");
    let first = catalog.create_table(&t, new).await.unwrap();
    assert!(first.metadata_location.starts_with(&format!("{elsewhere}/00000-")));
    assert!(first.metadata_location.ends_with(".gz.metadata.json"));
    let bytes = catalog.storage().read(&first.metadata_location).await.unwrap();
    assert_eq!(bytes[..2], [0x1f, 0x8b]);

    let second = catalog.commit(&t, vec![], set("n", "1")).await.unwrap();
    assert!(second.metadata_location.starts_with(&format!("{elsewhere}/00001-")));
    let third = catalog.commit(&t, vec![], set("n", "2")).await.unwrap();
    assert!(!catalog.storage().exists(&first.metadata_location).await.unwrap(), "it left the log");
    assert!(catalog.storage().exists(&second.metadata_location).await.unwrap());
    let reopened = place.catalog(None).await.unwrap();
    assert_eq!(reopened.load_table(&t).await.unwrap().metadata, third.metadata);
}

/// The metadata files that are there, by their number.
fn versions(place: &Place) -> Vec<u32> {
    let folder = place.folder.path().join("w/ns/t/metadata");
    let names = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name());
    let mut numbers: Vec<u32> =
        names.map(|n| n.to_str().unwrap().split('-').next().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn old_metadata_is_deleted_on_request_after_a_certain_success_only() {
    let place = Place::new();
    let catalog = place.catalog(None).await.unwrap();
    let t = with_table(&catalog).await;
    catalog.commit(&t, vec![], set("write.metadata.previous-versions-max", "2")).await.unwrap();
    for n in ["1", "2", "3"] {
        catalog.commit(&t, vec![], set("n", n)).await.unwrap();
    }
    assert_eq!(versions(&place), [0, 1, 2, 3, 4], "nobody asked for it");

    let enabled = "write.metadata.delete-after-commit.enabled";
    let loaded = catalog.commit(&t, vec![], set(enabled, "true")).await.unwrap();
    let log = loaded.metadata.metadata_log();
    assert_eq!(log.len(), 2);
    assert_eq!(versions(&place), [0, 1, 3, 4, 5], "what left the log with this commit");

    let faults = catalog.faults().await;
    faults.push([Fault::LostRequest]);
    catalog.commit(&t, vec![], set("n", "4")).await.unwrap_err();
    assert_eq!(versions(&place), [0, 1, 3, 4, 5], "a commit that failed deletes its own file only");

    faults.push([Fault::LostAnswer]);
    catalog.commit(&t, vec![], set("n", "5")).await.unwrap();
    assert_eq!(versions(&place), [0, 1, 4, 5, 6], "a look made sure");
}

#[tokio::test]
async fn a_namespace_with_a_location_moves_its_tables() {
    let place = Place::new();
    let catalog = place.catalog(None).await.unwrap();
    let t = parse_ident("ns.t").unwrap();
    let other = format!("{}/other/", place.warehouse());
    let properties = [("location".to_string(), other.clone())].into();
    catalog.create_namespace(t.namespace(), properties).await.unwrap();
    let table = catalog.create_table(&t, new_table().unwrap()).await.unwrap();
    assert_eq!(table.metadata.location(), format!("{other}t"));
}

#[tokio::test]
async fn a_table_whose_metadata_file_is_gone_is_broken_and_not_missing() {
    let place = Place::new();
    let catalog = place.catalog(None).await.unwrap();
    let t = with_table(&catalog).await;
    let file = catalog.load_table(&t).await.unwrap().metadata_location;
    std::fs::remove_file(file.strip_prefix("file://").unwrap()).unwrap();
    let fresh = place.catalog(None).await.unwrap();
    let error = fresh.load_table(&t).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptData, "{error}");
    assert!(error.to_string().contains(&file) && error.hint().is_some(), "{error}");
}

#[tokio::test]
async fn a_folder_of_another_catalogs_table_takes_no_file_system_table() {
    let place = Place::new();
    let t = with_table(&place.catalog(None).await.unwrap()).await;
    let folders = FileSystemCatalog::new(place.warehouse(), storage());
    let error = folders.create_table(&t, new_table().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("catalog")), "{error}");
    // What a drop of our own leaves behind is in nobody's way.
    let own = parse_ident("ns.own").unwrap();
    for n in 0..3 {
        folders.create_table(&own, new_table().unwrap()).await.unwrap();
        for _ in 0..n {
            folders.commit(&own, vec![], set("n", &n.to_string())).await.unwrap();
        }
        folders.drop_table(&own).await.unwrap();
    }
}

#[tokio::test]
async fn a_new_table_never_shares_the_folder_of_another() {
    let place = Place::new();
    let catalog = place.catalog(None).await.unwrap();
    let t = with_table(&catalog).await;
    let renamed = parse_ident("ns.u").unwrap();
    catalog.rename_table(&t, &renamed).await.unwrap();
    let location = |table: crate::catalog::LoadedTable| table.metadata.location().to_string();
    let old = location(catalog.load_table(&renamed).await.unwrap());
    let new = location(catalog.create_table(&t, new_table().unwrap()).await.unwrap());
    assert!(new.starts_with(&format!("{old}-")), "{new} beside {old}");

    let other = place.catalog(Some("other")).await.unwrap();
    other.create_namespace(t.namespace(), HashMap::new()).await.unwrap();
    let third = location(other.create_table(&t, new_table().unwrap()).await.unwrap());
    assert!(third != old && third != new, "{third}");
}
