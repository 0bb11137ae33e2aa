//! The file-system catalog when names are used again, hints are old and stores misbehave.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, PutOptions, PutPayload, PutResult};
use tokio::sync::Notify;

use crate::catalog::{Catalog, FileSystemCatalog, LoadedTable, StaticCatalog, parse_ident};
use crate::clock::{Clock, Environment, ManualClock, SeededIds};
use crate::error::ErrorKind;
use crate::kit::layer::{Layer, Layered};
use crate::spec::{TableIdent, TableRequirement};
use crate::storage::{PathMap, Storage};
use crate::testing::catalog_contract::{commit_snapshot, new_table, set};
use crate::testing::{FaultPlan, FaultyStore};

const METADATA: &str = "memory:///w/ns/t/metadata";

async fn table(storage: &Storage) -> (FileSystemCatalog, TableIdent, LoadedTable) {
    let catalog = FileSystemCatalog::new("memory:///w", storage.clone());
    let ident = parse_ident("ns.t").unwrap();
    catalog.create_namespace(ident.namespace(), HashMap::new()).await.unwrap();
    let table = catalog.create_table(&ident, new_table().unwrap()).await.unwrap();
    (catalog, ident, table)
}

#[tokio::test]
async fn an_old_broken_or_missing_hint_only_costs_look_ups() {
    let storage = Storage::default();
    let (catalog, t, _) = table(&storage).await;
    for n in 0..3 {
        catalog.commit(&t, vec![], set("n", &n.to_string())).await.unwrap();
    }
    let hint = format!("{METADATA}/version-hint.text");
    assert_eq!(storage.read(&hint).await.unwrap(), "4");
    for text in ["1", " 3\n", "99", "-1", "99999999999999999999", "\u{0}", ""] {
        storage.write(&hint, Bytes::from_static(text.as_bytes())).await.unwrap();
        let loaded = catalog.load_table(&t).await.unwrap();
        assert_eq!(loaded.metadata_location, format!("{METADATA}/v4.metadata.json"), "{text:?}");
    }
    storage.delete(&hint).await.unwrap();
    assert_eq!(catalog.list_tables(t.namespace()).await.unwrap(), std::slice::from_ref(&t));
    let next = catalog.commit(&t, vec![], set("n", "4")).await.unwrap();
    assert_eq!(next.metadata_location, format!("{METADATA}/v5.metadata.json"));
}

#[tokio::test]
async fn a_name_freed_by_a_clean_up_is_not_mistaken_for_the_next_version() {
    let storage = Storage::default();
    let (catalog, t, _) = table(&storage).await;
    catalog.commit(&t, vec![], set("n", "1")).await.unwrap();
    catalog.commit(&t, vec![], set("n", "2")).await.unwrap();
    // Another engine removed the middle, and its hint is lost: v1 looks like a head by walking.
    storage.delete(&format!("{METADATA}/v2.metadata.json")).await.unwrap();
    storage.write(&format!("{METADATA}/version-hint.text"), "1".into()).await.unwrap();
    let next = catalog.commit(&t, vec![], set("m", "3")).await.unwrap();
    assert_eq!(next.metadata_location, format!("{METADATA}/v4.metadata.json"));
    assert_eq!(next.metadata.properties()["n"], "2", "nothing committed is lost");
}

#[tokio::test]
async fn a_dropped_table_is_not_brought_back_and_a_broken_drop_can_be_finished() {
    let storage = Storage::default();
    let (catalog, t, _) = table(&storage).await;
    // As after a crash in the middle of a drop.
    let mark = Bytes::from_static(br#"{"meltwater-dropped":true}"#);
    storage.write(&format!("{METADATA}/v2.metadata.json"), mark).await.unwrap();
    for error in [
        catalog.load_table(&t).await.unwrap_err(),
        catalog.commit(&t, vec![], set("n", "1")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    let error = catalog.create_table(&t, new_table().unwrap()).await.unwrap_err();
    assert!(error.hint().unwrap().contains("drop it again"));
    assert_eq!(catalog.drop_table(&t).await.unwrap_err().kind(), ErrorKind::NotFound);
    catalog.create_table(&t, new_table().unwrap()).await.unwrap();
}

#[tokio::test]
async fn what_would_move_the_pointer_is_refused() {
    let storage = Storage::default();
    let (catalog, t, _) = table(&storage).await;
    for (name, value) in [
        ("write.metadata.compression-codec", "gzip"),
        ("write.metadata.path", "memory:///elsewhere"),
    ] {
        let error = catalog.commit(&t, vec![], set(name, value)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let elsewhere = new_table().unwrap().with_location("memory:///elsewhere");
    let other = parse_ident("ns.other").unwrap();
    assert_eq!(
        catalog.create_table(&other, elsewhere).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[tokio::test]
async fn old_metadata_is_deleted_only_on_request_and_after_a_day() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let storage = Storage::default();
    let clock = Arc::new(ManualClock::new(crate::clock::SystemClock.now_ms() as u64));
    let environment = Environment { clock: clock.clone(), ids: Arc::new(SeededIds::new(1)) };
    let catalog =
        FileSystemCatalog::new("memory:///w", storage.clone()).with_environment(environment);
    let t = parse_ident("ns.t").unwrap();
    catalog.create_namespace(t.namespace(), HashMap::new()).await.unwrap();
    catalog.create_table(&t, new_table().unwrap()).await.unwrap();
    for (name, value) in [
        ("write.metadata.delete-after-commit.enabled", "true"),
        ("write.metadata.previous-versions-max", "1"),
        ("n", "1"),
    ] {
        catalog.commit(&t, vec![], set(name, value)).await.unwrap();
    }
    let first = format!("{METADATA}/v1.metadata.json");
    assert!(storage.exists(&first).await.unwrap(), "it is younger than a day");
    clock.advance_ms(2 * DAY_MS);
    catalog.commit(&t, vec![], set("n", "2")).await.unwrap();
    assert!(!storage.exists(&first).await.unwrap());
    let loaded = catalog.load_table(&t).await.unwrap();
    assert_eq!(loaded.metadata_location, format!("{METADATA}/v5.metadata.json"));
    let kept = loaded.metadata.metadata_log().last().unwrap().metadata_file.clone();
    assert!(storage.exists(&kept).await.unwrap());
}

#[tokio::test]
async fn a_table_folder_of_this_layout_can_be_committed_to() {
    let storage = Storage::default();
    let (catalog, t, first) = table(&storage).await;
    let environment = Environment::default();
    let place = first.metadata.location();
    let direct =
        StaticCatalog::open(&storage, place, PathMap::new(), environment.clone()).await.unwrap();
    assert!(direct.is_writable());
    assert_eq!(direct.ident(), &t);
    let base = direct.load_table(&t).await.unwrap();
    commit_snapshot(&direct, &base, &t, 7).await.unwrap();
    let seen = catalog.load_table(&t).await.unwrap();
    assert_eq!(seen.metadata.current_snapshot().unwrap().snapshot_id(), 7);

    let file = StaticCatalog::open(&storage, &first.metadata_location, PathMap::new(), environment);
    let file = file.await.unwrap();
    assert!(!file.is_writable());
    let error = file.commit(file.ident(), vec![], set("a", "1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

/// Two writers on a store that refuses, loses answers and lists stale: what was acknowledged is
/// in the history once, what failed is not, and only what is unknown may be either.
#[tokio::test(start_paused = true)]
async fn acknowledged_commits_survive_lost_answers_and_stale_listings() {
    let mut landed = 0;
    for seed in 0..40 {
        let store = Arc::new(InMemory::new());
        let calm = Storage::default().with_store("memory://", store.clone());
        let (catalog, t, _) = table(&calm).await;
        // The shortest log: a look that comes late finds nothing of us in the head's.
        let shortest = set("write.metadata.previous-versions-max", "1");
        catalog.commit(&t, vec![], shortest).await.unwrap();
        let plan = FaultPlan {
            refused: 60,
            answer_lost: 60,
            slow: 100,
            stale_list: 300,
            ..FaultPlan::rough()
        };
        let writers = (0..2u64).map(|writer| {
            let faulty = FaultyStore::new(store.clone(), seed * 2 + writer, plan);
            let storage = Storage::default().with_store("memory://", Arc::new(faulty));
            write_through_faults(storage, t.clone(), writer as i64)
        });
        let outcomes = futures::future::join_all(writers).await.concat();
        let catalog = FileSystemCatalog::new("memory:///w", calm);
        let metadata = catalog.load_table(&t).await.unwrap().metadata;
        for (id, outcome) in outcomes {
            let found = metadata.snapshot_by_id(id).is_some();
            match outcome {
                Outcome::Landed => {
                    landed += 1;
                    assert!(found, "seed {seed}: commit {id} was acknowledged");
                }
                Outcome::Failed => {
                    assert!(!found, "seed {seed}: commit {id} was said to have failed")
                }
                Outcome::Unknown => {}
            }
        }
        let mut chain = 0;
        let mut next = metadata.current_snapshot().cloned();
        while let Some(snapshot) = next {
            chain += 1;
            next =
                snapshot.parent_snapshot_id().and_then(|id| metadata.snapshot_by_id(id).cloned());
        }
        assert_eq!(chain, metadata.snapshots().len(), "seed {seed}: one unbroken history");
    }
    assert!(landed > 400, "faults leave room for work: {landed} landed");
}

#[derive(Clone, Copy)]
enum Outcome {
    Landed,
    Failed,
    Unknown,
}

async fn write_through_faults(storage: Storage, t: TableIdent, writer: i64) -> Vec<(i64, Outcome)> {
    let catalog = FileSystemCatalog::new("memory:///w", storage);
    let mut outcomes = Vec::new();
    for n in 1..30 {
        let id = writer * 1000 + n;
        let Ok(base) = catalog.load_table(&t).await else { continue };
        let outcome = match commit_snapshot(&catalog, &base, &t, id).await {
            Ok(_) => Outcome::Landed,
            Err(e) if e.kind() == ErrorKind::CommitStateUnknown => Outcome::Unknown,
            Err(_) => Outcome::Failed,
        };
        outcomes.push((id, outcome));
    }
    outcomes
}

/// A store whose create-if-absent overwrites, as some S3 look-alikes do.
#[derive(Debug, Default)]
struct Careless(InMemory);

#[async_trait]
impl Layer for Careless {
    fn inner(&self) -> &dyn ObjectStore {
        &self.0
    }

    async fn put_opts(
        &self,
        to: &Path,
        bytes: PutPayload,
        _: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.0.put_opts(to, bytes, PutOptions::default()).await
    }
}

#[tokio::test]
async fn a_store_that_lets_two_creators_win_is_refused() {
    let store = Arc::new(Layered(Careless::default()));
    let storage = Storage::default().with_store("memory://", store);
    let catalog = FileSystemCatalog::new("memory:///w", storage);
    let t = parse_ident("ns.t").unwrap();
    let error = catalog.create_namespace(t.namespace(), HashMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.hint().unwrap().contains("conditional"));
}

/// Holds back one claim, such as of a machine that slept.
#[derive(Debug)]
struct Sleepy {
    store: Arc<InMemory>,
    name: &'static str,
    asleep: AtomicBool,
    reached: Notify,
    wake: Notify,
}

#[async_trait]
impl Layer for Sleepy {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.store
    }

    async fn put_opts(
        &self,
        to: &Path,
        bytes: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        if to.as_ref().ends_with(self.name) && !self.asleep.swap(true, Ordering::Relaxed) {
            self.reached.notify_one();
            self.wake.notified().await;
        }
        self.store.put_opts(to, bytes, options).await
    }
}

#[tokio::test]
async fn a_claim_that_slept_through_a_drop_and_a_new_table_leaves_that_one_alone() {
    for drops in [false, true] {
        let store = Arc::new(InMemory::new());
        let quick = Storage::default().with_store("memory://", store.clone());
        let (catalog, t, old) = table(&quick).await;
        let sleepy = Arc::new(Layered(Sleepy {
            store,
            name: "/v2.metadata.json",
            asleep: AtomicBool::new(false),
            reached: Notify::new(),
            wake: Notify::new(),
        }));
        let slow = Storage::default().with_store("memory://", sleepy.clone());
        let slow = FileSystemCatalog::new("memory:///w", slow);
        let late = async {
            match drops {
                true => slow.drop_table(&t).await,
                false => {
                    let uuid = old.metadata.uuid();
                    let same = vec![TableRequirement::UuidMatch { uuid }];
                    slow.commit(&t, same, set("n", "1")).await
                }
            }
        };
        let others = async {
            sleepy.0.reached.notified().await;
            catalog.drop_table(&t).await.unwrap();
            let new = catalog.create_table(&t, new_table().unwrap()).await.unwrap();
            sleepy.0.wake.notify_one();
            new
        };
        let (late, new) = tokio::join!(late, others);
        match drops {
            // A drop takes the table that has the name by now, and hands that one back.
            true => assert_eq!(late.unwrap().metadata.uuid(), new.metadata.uuid()),
            false => {
                assert_eq!(late.unwrap_err().kind(), ErrorKind::CommitConflict);
                let now = catalog.load_table(&t).await.unwrap();
                assert_eq!(now.metadata.uuid(), new.metadata.uuid());
                assert_eq!(now.metadata_location, new.metadata_location);
            }
        }
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|e| e.unwrap().path()) {
        let target = to.join(entry.file_name().unwrap());
        match entry.is_dir() {
            true => copy(&entry, &target),
            false => _ = std::fs::copy(&entry, &target).unwrap(),
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_copied_warehouse_does_not_work_on_the_files_of_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("file://{}/{name}", folder.path().display());
    let open = |name: &str| FileSystemCatalog::new(at(name), Storage::default());
    let original = open("w");
    let t = parse_ident("ns.t").unwrap();
    original.create_namespace(t.namespace(), HashMap::new()).await.unwrap();
    original.create_table(&t, new_table().unwrap()).await.unwrap();
    copy(&folder.path().join("w"), &folder.path().join("copy"));
    std::os::unix::fs::symlink(folder.path().join("w"), folder.path().join("link")).unwrap();

    let copied = open("copy");
    for error in [
        copied.load_table(&t).await.unwrap_err(),
        copied.commit(&t, vec![], set("n", "1")).await.unwrap_err(),
        copied.drop_table(&t).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("/w/ns/t") && error.hint().is_some(), "{error}");
    }
    // The same folder by another name is no copy.
    open("link").commit(&t, vec![], set("n", "1")).await.unwrap();
    assert_eq!(original.load_table(&t).await.unwrap().metadata.properties()["n"], "1");
}
