//! Stores that do not answer, files that are gone, options that cannot be.

use object_store::memory::InMemory;

use super::*;
use crate::table::PositionStore;
use crate::testing::{FaultPlan, FaultyStore};

/// A copy of what a feed's store holds.
pub(super) async fn copied(feed: &Feed) -> Arc<InMemory> {
    let copy = Arc::new(InMemory::new());
    let (from, _) = feed.table.storage().resolve("memory:///t").unwrap();
    let listed: Vec<_> = from.list(None).try_collect().await.unwrap();
    for object in listed {
        use object_store::ObjectStoreExt;
        let bytes = from.get(&object.location).await.unwrap().bytes().await.unwrap();
        copy.put(&object.location, bytes.into()).await.unwrap();
    }
    copy
}

pub(super) async fn behind_faults(feed: &Feed, seed: u64, refused: u64) -> Table {
    let copy = copied(feed).await;
    let plan = FaultPlan { refused, ..FaultPlan::none() };
    let store = Arc::new(FaultyStore::new(copy, seed, plan));
    let storage = Storage::default().with_store("memory://", store);
    kit::moved(&feed.table, storage)
}

#[tokio::test]
async fn after_unavailable_the_next_poll_goes_on_in_place() {
    let feed = busy_feed().await;
    for seed in 0..10 {
        let table = behind_faults(&feed, seed, 300).await;
        let builder = table.stream().emit(Emit::Appends).start(Start::Earliest);
        let builder = builder.until(Until::CaughtUp).lanes(1 + seed as usize % 4);
        let mut stream = builder.patience(Duration::ZERO).open().await.unwrap();
        let (seen, failures) = drain_through_failures(&mut stream).await;
        assert!(failures > 0, "seed {seed} made no fault");
        assert_eq!(by_part(&seen), by_part(&feed.rows), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn short_silences_are_waited_out() {
    let feed = busy_feed().await;
    let table = behind_faults(&feed, 4, 300).await;
    let builder = table.stream().emit(Emit::Appends).start(Start::Earliest).lanes(3);
    let seen = all(builder.until(Until::CaughtUp)).await.unwrap();
    assert_eq!(by_part(&seen), by_part(&feed.rows));

    let silent = behind_faults(&feed, 4, 1_000).await;
    let began = tokio::time::Instant::now();
    let builder = silent.stream().emit(Emit::Appends).start(Start::Earliest);
    let error = all(builder.until(Until::CaughtUp)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let waited = began.elapsed();
    assert!(waited > Duration::from_secs(50) && waited < Duration::from_secs(70), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_catalog_that_is_silent_for_long_is_an_error_and_the_next_poll_goes_on() {
    let mut feed = Feed::new();
    feed.append(&[1, 2], 2).await;
    let (table, silent) = kit::with_silence(&feed.table);
    feed.table = table.with_environment(feed.table.environment().clone());
    let mut stream = feed.appends().until(Until::Forever).lanes(2).open().await.unwrap();
    silent.store(true, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..2 {
        let began = tokio::time::Instant::now();
        let error = stream.try_next().await.unwrap_err();
        let advice = ["nothing is lost", "goes on where it was, with the next poll"];
        assert_advises(&error, ErrorKind::Unavailable, &["no answer", "seconds tried: 5"], &advice);
        assert!(began.elapsed() > Duration::from_secs(50));
    }
    silent.store(false, std::sync::atomic::Ordering::Relaxed);
    feed.append(&[1, 2], 3).await;
    let mut seen = Vec::new();
    while let Some(Ok(event)) = soon(&mut stream).await {
        if let StreamEvent::Batch(batch) = event {
            seen.extend(rows_of(&batch));
        }
    }
    assert_eq!(by_part(&seen), by_part(&feed.rows[4..].to_vec()));
}

#[tokio::test]
async fn a_split_that_failed_is_read_again_before_what_follows() {
    let mut feed = Feed::new();
    for _ in 0..4 {
        feed.append(&[1], 3).await;
    }
    let path = "memory:///t/data/c2-0.parquet";
    let bytes = feed.table.storage().read(path).await.unwrap();
    feed.table.storage().delete(path).await.unwrap();
    let mut stream = feed.appends().start(Start::AfterSnapshot(first(&feed))).open().await.unwrap();
    let error = drain(&mut stream).await.unwrap_err();
    let advice = ["`meltwater verify ns.t`", "goes on from its position"];
    assert_advises(&error, ErrorKind::NotFound, &["c2-0.parquet", "snapshot: "], &advice);
    let token = stream.token();
    feed.table.storage().write(path, bytes).await.unwrap();
    let seen = all(feed.appends().start(Start::At(token))).await.unwrap();
    assert_eq!(seen, feed.rows[3..]);
}

fn first(feed: &Feed) -> SnapshotId {
    let all: Vec<_> = feed.table.ancestors(feed.head()).collect();
    SnapshotId(all.last().unwrap().snapshot_id())
}

#[tokio::test]
async fn options_that_break_a_promise_are_refused_by_name() {
    let mut feed = Feed::new();
    feed.append(&[1], 1).await;
    let folder = tempfile::tempdir().unwrap();
    let store = PositionStore::directory(folder.path()).unwrap();
    let inside = PositionStore::location(Storage::default(), "memory:///t/positions").unwrap();
    let bad = [
        (feed.appends().lanes(0), "lanes"),
        (feed.appends().lanes(65), "lanes"),
        (feed.appends().lanes(2).order(Order::PerSnapshot), "lanes"),
        (feed.appends().named("n"), "named"),
        (feed.appends().positions(store.clone()), "positions"),
        (feed.appends().named("n").positions(inside), "table's own folder"),
        (feed.appends().select(["nothing"]), "nothing"),
        (feed.appends().named("").positions(store), "name"),
    ];
    for (builder, word) in bad {
        let error = builder.open().await.expect_err(word);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_stream_says_what_its_options_cost() {
    let mut feed = Feed::new();
    feed.append(&[1], 1).await;
    let notes = async |builder: StreamBuilder| {
        let stream = builder.open().await.unwrap();
        format!("{}", stream.describe())
    };
    let plain = notes(feed.appends()).await;
    assert!(!plain.contains("note:") && plain.contains("per partition"), "{plain}");
    let drift = feed.appends().max_drift(Duration::from_secs(1));
    assert!(notes(drift).await.contains("max_drift"));
    let key = feed.appends().emit(Emit::Changes).key(["id"]);
    assert!(notes(key).await.contains("not part of the key"));
    let key = feed.appends().emit(Emit::Changes).key(["id", "part"]);
    assert!(!notes(key).await.contains("not part of the key"));
    feed.table = feed.table.update_spec().remove_field("part").commit().await.unwrap();
    assert!(notes(feed.appends().lanes(2)).await.contains("not partitioned"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_stream_leaves_nothing_running() {
    let feed = busy_feed().await;
    for lanes in [1, 4] {
        let builder = feed.appends().until(Until::Forever).start(Start::Earliest).lanes(lanes);
        let mut stream = builder.open().await.unwrap();
        assert!(stream.try_next().await.unwrap().is_some());
        drop(stream);
    }
    kit::assert_nothing_runs().await;
}
