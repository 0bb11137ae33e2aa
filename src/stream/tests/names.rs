//! Named streams: stored positions, fencing.

use super::*;
use crate::error::ErrorKind;
use crate::table::PositionStore;

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
    assert_eq!(old.commit(token.clone()).await.unwrap_err().kind(), ErrorKind::Fenced);
    new.commit(token.clone()).await.unwrap();
    assert_eq!(old.commit(token.clone()).await.unwrap_err().kind(), ErrorKind::Fenced);
    let other = Feed::new();
    let foreign = other.appends().open().await.unwrap().token();
    assert_eq!(new.commit(foreign).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}
