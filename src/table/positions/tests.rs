//! Stored positions: fencing, races, torn files, full disks, cleaning up.

use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::error::ErrorKind;
use crate::spec::SnapshotId;
use crate::table::Place;
use crate::table::tests::kit;

fn token(table: &Table, snapshot: i64) -> Token {
    Token::new(table.metadata().uuid(), 7, 4, Place::After(SnapshotId(snapshot)))
}

/// A log in memory that fails when told to.
#[derive(Debug, Default)]
struct MemoryLog {
    values: Mutex<BTreeMap<String, Bytes>>,
    faults: Mutex<Vec<Fault>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    DiskFull,
    AnswerLost,
    Torn,
}

#[async_trait]
impl PositionLog for MemoryLog {
    async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let values = self.values.lock().unwrap();
        Ok(values.keys().filter(|k| k.starts_with(&format!("{folder}/"))).cloned().collect())
    }
    async fn create(&self, name: &str, value: Bytes) -> Result<Created> {
        let fault = self.faults.lock().unwrap().pop();
        let full = || Error::new(ErrorKind::Unavailable, "the disk is full");
        if fault == Some(Fault::DiskFull) {
            return Err(full());
        }
        tokio::task::yield_now().await;
        let mut values = self.values.lock().unwrap();
        if values.contains_key(name) {
            return Ok(Created::AlreadyThere);
        }
        let torn = fault == Some(Fault::Torn);
        let value = if torn { value.slice(..value.len() / 2) } else { value };
        values.insert(name.to_string(), value);
        if fault.is_some() { Err(full()) } else { Ok(Created::New) }
    }
    async fn read(&self, name: &str) -> Result<Option<Bytes>> {
        Ok(self.values.lock().unwrap().get(name).cloned())
    }
    async fn delete(&self, name: &str) -> Result<()> {
        self.values.lock().unwrap().remove(name);
        Ok(())
    }
}

fn memory() -> (Arc<MemoryLog>, PositionStore) {
    let log = Arc::new(MemoryLog::default());
    (log.clone(), PositionStore::custom(log))
}

#[tokio::test]
async fn a_name_goes_on_where_it_was_stored_whatever_start_says() {
    let (_, table) = kit::table().await;
    let folder = tempfile::tempdir().unwrap();
    let store = PositionStore::directory(folder.path().join("made on demand")).unwrap();
    assert!(store.positions_of(&table).await.unwrap().is_empty());
    let mut hold = store.hold(&table, "to search/é", || Ok(token(&table, 1))).await.unwrap();
    assert_eq!(hold.token(), &token(&table, 1));
    for n in 2..20 {
        hold.store(&token(&table, n)).await.unwrap();
    }
    hold.release().await.unwrap();
    let start = || Err(Error::internal("the start option was asked"));
    let hold = store.hold(&table, "to search/é", start).await.unwrap();
    assert_eq!(hold.token(), &token(&table, 19));
    let all = store.positions_of(&table).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].name.as_str(), all[0].is_held), ("to search/é", true));
    let files = store.log.list("").await.unwrap();
    assert!(files.len() <= 3, "old numbers stay: {files:?}");
}

/// Lists once as it was before a holder stored more and cleaned up.
#[derive(Debug)]
struct Overtaken {
    log: Arc<MemoryLog>,
    before: std::sync::Mutex<Option<Vec<String>>>,
}

#[async_trait::async_trait]
impl PositionLog for Overtaken {
    async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let before = self.before.lock().unwrap().take();
        match before {
            Some(before) => Ok(before),
            None => self.log.list(folder).await,
        }
    }

    async fn create(&self, name: &str, value: bytes::Bytes) -> Result<crate::storage::Created> {
        self.log.create(name, value).await
    }

    async fn read(&self, name: &str) -> Result<Option<bytes::Bytes>> {
        self.log.read(name).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.log.delete(name).await
    }
}

#[tokio::test]
async fn a_reader_whom_a_quick_holder_overtakes_looks_again() {
    let (_, table) = kit::table().await;
    let (log, store) = memory();
    let mut hold = store.hold(&table, "n", || Ok(token(&table, 1))).await.unwrap();
    let folder = record::folder(table.metadata().uuid(), "n").unwrap();
    let listed = log.list(&folder).await.unwrap();
    assert_eq!(listed.len(), 1);
    let before = std::sync::Mutex::new(Some(listed));
    for n in 2..20 {
        hold.store(&token(&table, n)).await.unwrap();
    }
    let reader = PositionStore::custom(Arc::new(Overtaken { log, before }));
    assert_eq!(reader.load(&table, "n").await.unwrap().unwrap().token, token(&table, 19));
}

#[tokio::test]
async fn the_older_of_two_holders_is_fenced() {
    let (_, table) = kit::table().await;
    let (log, store) = memory();
    let mut old = store.hold(&table, "n", || Ok(token(&table, 1))).await.unwrap();
    old.store(&token(&table, 2)).await.unwrap();
    let mut new = store.hold(&table, "n", || Ok(token(&table, 9))).await.unwrap();
    assert_eq!(new.token(), &token(&table, 2));
    let error = old.store(&token(&table, 3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(error.to_string().contains("`n`") && error.hint().is_some(), "{error}");
    new.store(&token(&table, 4)).await.unwrap();
    // Still fenced, even after the number it would make next was cleaned away.
    for n in 5..30 {
        new.store(&token(&table, n)).await.unwrap();
    }
    assert!(log.values.lock().unwrap().len() <= 3);
    assert_eq!(old.store(&token(&table, 3)).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(old.store(&token(&table, 3)).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(store.load(&table, "n").await.unwrap().unwrap().token, token(&table, 29));
    new.store(&token(&table, 30)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_race_for_a_name_one_keeps_it() {
    let (_, table) = kit::table().await;
    let (_, store) = memory();
    let mut racers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (store, table) = (store.clone(), table.clone());
        racers.spawn(async move {
            let mut hold = store.hold(&table, "n", || Ok(token(&table, 0))).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            hold.store(&token(&table, 100 + n)).await.map(|()| n)
        });
    }
    let results = racers.join_all().await;
    let winners: Vec<i64> = results.iter().filter_map(|r| r.as_ref().ok()).copied().collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    for error in results.iter().filter_map(|r| r.as_ref().err()) {
        assert_eq!(error.kind(), ErrorKind::Fenced);
    }
    let stored = store.load(&table, "n").await.unwrap().unwrap();
    assert_eq!(stored.token, token(&table, 100 + winners[0]));
}

#[tokio::test]
async fn a_full_disk_or_a_torn_file_leaves_the_position_before_and_storing_goes_on() {
    let (_, table) = kit::table().await;
    for fault in [Fault::DiskFull, Fault::AnswerLost, Fault::Torn] {
        let (log, store) = memory();
        let mut hold = store.hold(&table, "n", || Ok(token(&table, 1))).await.unwrap();
        log.faults.lock().unwrap().push(fault);
        let error = hold.store(&token(&table, 2)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("the disk is full (stream: n)"), "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.contains("the position stored before is kept") && hint.contains("try again"));
        let expected = if fault == Fault::AnswerLost { 2 } else { 1 };
        let stored = store.load(&table, "n").await.unwrap().unwrap();
        assert_eq!(stored.token, token(&table, expected), "{fault:?}");
        hold.store(&token(&table, 3)).await.unwrap();
        hold.store(&token(&table, 4)).await.unwrap();
        let stored = store.load(&table, "n").await.unwrap().unwrap();
        assert_eq!(stored.token, token(&table, 4), "{fault:?}");
    }
}

#[tokio::test]
async fn a_name_without_a_whole_file_is_an_error_not_a_new_start() {
    let (_, table) = kit::table().await;
    let (log, store) = memory();
    store.hold(&table, "n", || Ok(token(&table, 1))).await.unwrap();
    for value in log.values.lock().unwrap().values_mut() {
        *value = value.slice(..10);
    }
    let error = store.load(&table, "n").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptData);
    store.reset(&table, "n", &token(&table, 5)).await.unwrap();
    assert_eq!(store.load(&table, "n").await.unwrap().unwrap().token, token(&table, 5));
}

#[tokio::test]
async fn reset_and_remove_fence_the_holder() {
    let (_, table) = kit::table().await;
    let (_, store) = memory();
    let mut hold = store.hold(&table, "n", || Ok(token(&table, 1))).await.unwrap();
    store.reset(&table, "n", &token(&table, 5)).await.unwrap();
    assert_eq!(hold.store(&token(&table, 2)).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(store.load(&table, "n").await.unwrap().unwrap().token, token(&table, 5));

    let mut hold = store.hold(&table, "n", || Ok(token(&table, 1))).await.unwrap();
    assert!(store.remove(&table, "n").await.unwrap());
    assert!(!store.remove(&table, "n").await.unwrap());
    assert_eq!(hold.store(&token(&table, 2)).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert!(store.positions_of(&table).await.unwrap().is_empty());
    let again = store.hold(&table, "n", || Ok(token(&table, 8))).await.unwrap();
    assert_eq!(again.token(), &token(&table, 8));

    let lane = token(&table, 1).covering(|group| group == 0);
    assert_eq!(store.reset(&table, "n", &lane).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn positions_inside_the_tables_folder_are_refused() {
    let (_, table) = kit::table().await;
    let at = |folder: &str| PositionStore::location(Storage::default(), folder).unwrap();
    for folder in ["memory:///t", "memory:///t/data/x", "memory:///t/"] {
        let error = at(folder).check_outside(&table).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{folder}");
    }
    for folder in ["memory:///tt", "memory:///positions", "/t"] {
        at(folder).check_outside(&table).unwrap();
    }
}

#[tokio::test]
async fn a_position_names_the_oldest_snapshot_it_needs() {
    let (_, mut table) = kit::table().await;
    let mut ids = Vec::new();
    for n in 0..4 {
        let file = kit::data(&format!("f{n}"), kit::whole());
        let committed = table.append(kit::rows([file])).commit().await.unwrap();
        table = committed.table;
        ids.push(SnapshotId(table.current_snapshot().unwrap().snapshot_id()));
    }
    let needs = |token: &Token| token.oldest_needed(&table).map(|s| SnapshotId(s.snapshot_id()));
    let at = |place| Token::new(table.metadata().uuid(), 1, 4, place);
    let inside = crate::table::Inside {
        cursor: crate::table::Cursor::Unit { unit: 0, ordinal: 1 },
        digest: 0,
    };
    assert_eq!(needs(&at(Place::After(ids[2]))), Some(ids[2]));
    assert_eq!(needs(&at(Place::Within(ids[2], inside))), Some(ids[1]));
    assert_eq!(needs(&at(Place::After(ids[3])).with(2, Place::After(ids[1]))), Some(ids[1]));
    assert_eq!(needs(&at(Place::Full(ids[3], None))), Some(ids[3]));
    assert_eq!(needs(&at(Place::After(ids[3])).with(0, Place::Origin)), Some(ids[0]));
    assert_eq!(needs(&at(Place::After(SnapshotId(1)))), None);
}
