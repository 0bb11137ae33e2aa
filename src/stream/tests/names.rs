//! Named streams: stored positions, fencing.

use super::*;
use crate::table::PositionStore;
use crate::testing::{FaultPlan, FaultyStore};

#[tokio::test]
async fn a_named_stream_goes_on_after_what_it_committed() {
    let feed = busy_feed().await;
    let folder = tempfile::tempdir().unwrap();
    let store = PositionStore::directory(folder.path()).unwrap();
    let open = |lanes: usize, start: Start| {
        feed.appends().named("n").positions(store.clone()).start(start).lanes(lanes).open()
    };
    let mut seen = Vec::new();
    let mut opened = 0;
    loop {
        // Only the first start counts.
        let start = if opened == 0 { Start::Earliest } else { Start::Latest };
        opened += 1;
        let mut stream = open(1 + opened % 5, start).await.unwrap();
        let mut batches = 0;
        let ended = loop {
            let Some(event) = stream.try_next().await.unwrap() else { break true };
            let StreamEvent::Batch(batch) = event else { continue };
            batches += 1;
            if batches > 7 {
                break false; // read, but never committed: comes again
            }
            seen.extend(rows_of(&batch));
            stream.commit(batch.end()).await.unwrap();
        };
        if ended {
            stream.close().await.unwrap();
            break;
        }
    }
    assert!(opened > 5);
    assert_eq!(by_part(&seen), by_part(&feed.rows));
    let stored = store.load(&feed.table, "n").await.unwrap().unwrap();
    assert!(!stored.is_held);
}

#[tokio::test]
async fn opening_a_name_stores_where_it_begins_and_commits_merge_over_lanes() {
    let mut feed = Feed::new();
    let first = feed.append(&[1, 2, 3, 4], 2).await;
    let folder = tempfile::tempdir().unwrap();
    let store = PositionStore::directory(folder.path()).unwrap();
    let builder = feed.appends().named("n").positions(store.clone()).lanes(4);
    let stream = builder.clone().open().await.unwrap();
    let stored = store.load(&feed.table, "n").await.unwrap().unwrap();
    assert_eq!(stored.token, stream.token());
    assert_eq!(stored.oldest_needed(&feed.table).unwrap().snapshot_id(), first.0);
    drop(stream);
    feed.append(&[1, 2, 3, 4], 2).await;
    let mut seen = Vec::new();
    for mut lane in builder.clone().open().await.unwrap().into_lanes().unwrap() {
        while let Some(event) = lane.try_next().await.unwrap() {
            if let StreamEvent::Batch(batch) = event {
                seen.extend(rows_of(&batch));
            }
        }
        lane.commit(lane.token()).await.unwrap();
    }
    assert_eq!(seen.len(), 8);
    let mut rest = builder.open().await.unwrap();
    assert!(drain(&mut rest).await.unwrap().is_empty());
    assert_eq!(rest.committed().await, rest.token());
}

#[tokio::test]
async fn the_older_of_two_streams_of_one_name_is_fenced() {
    let mut feed = Feed::new();
    feed.append(&[1], 2).await;
    let folder = tempfile::tempdir().unwrap();
    let store = PositionStore::directory(folder.path()).unwrap();
    let open = || feed.appends().named("n").positions(store.clone()).open();
    let mut old = open().await.unwrap();
    let mut new = open().await.unwrap();
    let token = old.token();
    let error = old.commit(token.clone()).await.unwrap_err();
    let advice = ["let one of the two stop", "another name"];
    let names = ["another stream took the name `n`", "ns.t"];
    assert_advises(&error, ErrorKind::Fenced, &names, &advice);
    new.commit(token.clone()).await.unwrap();
    assert_eq!(old.commit(token.clone()).await.unwrap_err().kind(), ErrorKind::Fenced);
    let other = Feed::new();
    let foreign = other.appends().open().await.unwrap().token();
    let error = new.commit(foreign).await.unwrap_err();
    let names = ["belongs to another table"];
    assert_advises(&error, ErrorKind::InvalidInput, &names, &["choose a new start"]);
}

/// A full disk and a store that does not answer look the same from here.
#[tokio::test]
async fn a_position_that_cannot_be_stored_is_told_and_repeats_no_more_than_was_promised() {
    let feed = busy_feed().await;
    let disk = Arc::new(object_store::memory::InMemory::new());
    let positions = |refused: u64| {
        let plan = FaultPlan { refused, spared: 12, ..FaultPlan::none() };
        let store = Arc::new(FaultyStore::new(disk.clone(), 11, plan));
        let storage = Storage::default().with_store("memory://", store);
        PositionStore::location(storage, "memory:///positions").unwrap()
    };
    let open = |refused: u64| {
        feed.appends().named("n").positions(positions(refused)).start(Start::Earliest).open()
    };
    let mut stream = open(600).await.unwrap();
    let (mut seen, mut stored, mut failures) = (Vec::new(), 0, 0);
    while let Some(event) = stream.try_next().await.unwrap() {
        let StreamEvent::Batch(batch) = event else { continue };
        seen.extend(rows_of(&batch));
        match stream.commit(batch.end()).await {
            Ok(()) => stored = seen.len(),
            Err(error) => {
                let advice = ["position stored before is kept", "try again"];
                assert_advises(&error, ErrorKind::Unavailable, &["stream: n"], &advice);
                failures += 1;
            }
        }
    }
    assert!(failures > 0 && stored > 0 && seen.len() == feed.rows.len());
    drop(stream);
    // A store whose answer was lost may be further on; it is never behind, and nothing is skipped.
    let mut stream = open(0).await.unwrap();
    let rest = drain(&mut stream).await.unwrap();
    assert!(rest.len() <= seen.len() - stored, "more than what was not stored comes again");
    assert_eq!(rest, seen[seen.len() - rest.len()..]);
}
