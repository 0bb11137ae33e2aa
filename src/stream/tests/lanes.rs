//! Lanes as streams of their own: what they read ahead, and what one's end means for the others.

use futures::future::join_all;
use object_store::memory::InMemory;

use super::assign::{apart, tiny};
use super::faults::copied;
use super::*;
use crate::error::{Error, ErrorKind};
use crate::testing::{FaultPlan, FaultyStore};

/// What a lane gives until it ends, and how it ends.
async fn to_its_end(lane: &mut Lane) -> (Seen, Option<Error>) {
    let mut seen = Vec::new();
    loop {
        match lane.try_next().await {
            Ok(Some(StreamEvent::Batch(batch))) => seen.extend(rows_of(&batch)),
            Ok(Some(_)) => {}
            Ok(None) => return (seen, None),
            Err(error) => return (seen, Some(error)),
        }
    }
}

fn merged<'a>(lanes: impl IntoIterator<Item = &'a Lane>) -> Token {
    let tokens = lanes.into_iter().map(Lane::token);
    tokens.reduce(|all, lane| all.merge(&lane).unwrap()).unwrap()
}

/// Two partitions on different lanes of two, and where the stream begins.
async fn feed_of_two() -> (Feed, Start) {
    let mut feed = Feed::new();
    let first = feed.append(&[0], 1).await;
    for _ in 0..8 {
        feed.append(&apart(), 3).await;
    }
    feed.rows.remove(0);
    (feed, Start::AfterSnapshot(first))
}

#[tokio::test]
async fn a_lane_that_fails_ends_the_others_and_all_go_on_exactly() {
    let (feed, start) = feed_of_two().await;
    let path = "memory:///t/data/c5-1.parquet";
    let bytes = feed.table.storage().read(path).await.unwrap();
    feed.table.storage().delete(path).await.unwrap();
    for (until, drift) in [(Until::Forever, None), (Until::CaughtUp, Some(1_000))] {
        let mut builder = feed.appends().start(start.clone()).until(until).lanes(2);
        if let Some(ms) = drift {
            builder = builder.max_drift(Duration::from_millis(ms));
        }
        let mut lanes = builder.open().await.unwrap().into_lanes().unwrap();
        let ends = join_all(lanes.iter_mut().map(to_its_end)).await;
        let mut seen: Seen = Vec::new();
        for (lane, (rows, error)) in ends.into_iter().enumerate() {
            seen.extend(rows);
            let error = error.expect("every lane ends with an error");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            assert!(error.to_string().contains("c5-1"), "it names the cause: {error}");
            assert_eq!(error.to_string().contains("failed lane: 1"), lane == 0, "{error}");
            assert!(error.hint().is_some());
        }
        for lane in &mut lanes {
            assert!(lane.try_next().await.unwrap().is_none(), "the error is told once");
        }
        feed.table.storage().write(path, bytes.clone()).await.unwrap();
        let rest = feed.appends().start(Start::At(merged(&lanes))).lanes(3);
        seen.extend(all(rest).await.unwrap());
        assert_eq!(by_part(&seen), by_part(&feed.rows));
        feed.table.storage().delete(path).await.unwrap();
    }
}

#[tokio::test]
async fn a_lane_that_is_dropped_stops_only_itself() {
    let (feed, start) = feed_of_two().await;
    let builder = feed.appends().start(start).lanes(2).queue_marks(tiny()).memory_budget(0);
    let mut lanes = builder.open().await.unwrap().into_lanes().unwrap();
    let Some(StreamEvent::Batch(one)) = lanes[0].try_next().await.unwrap() else { panic!() };
    let mut seen = rows_of(&one);
    let left = lanes.remove(0);
    let token = left.token();
    drop(left);
    let (rows, error) = to_its_end(&mut lanes[0]).await;
    assert!(error.is_none(), "it comes to its end: {error:?}");
    let right: Seen = feed.rows.iter().filter(|(part, _)| *part == apart()[1]).copied().collect();
    assert_eq!(rows, right);
    seen.extend(rows);
    let token = token.merge(&lanes[0].token()).unwrap();
    seen.extend(all(feed.appends().start(Start::At(token))).await.unwrap());
    assert_eq!(by_part(&seen), by_part(&feed.rows), "what the dropped lane held comes again");
}

#[tokio::test]
async fn who_must_wait_for_a_dropped_lane_is_told_instead() {
    let (mut feed, start) = feed_of_two().await;
    let open = async |feed: &Feed, drift: u64| {
        let builder = feed.appends().start(start.clone()).until(Until::Forever).lanes(2);
        let builder = builder.max_drift(Duration::from_millis(drift));
        builder.open().await.unwrap().into_lanes().unwrap()
    };
    let named = |error: Option<Error>, lane: usize| {
        let error = error.expect("an error");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("dropped lane: {lane}")), "{error}");
    };
    let mut lanes = open(&feed, 2_000).await;
    drop(lanes.remove(0));
    let (rows, error) = to_its_end(&mut lanes[0]).await;
    assert_eq!(rows.len(), 9, "three commits are within the drift");
    named(error, 0);

    // A barrier that comes later, while the lane that will own all rows waits for commits.
    let owner =
        usize::from(Order::PerPartition.group_of(Some(&PartitionKey::unpartitioned(1)), 0)) % 2;
    let mut lanes = open(&feed, 1_000_000).await;
    drop(lanes.remove(1 - owner));
    let follow = tokio::spawn(async move { to_its_end(&mut lanes[0]).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    feed.table = feed.table.update_spec().remove_field("part").commit().await.unwrap();
    assert_eq!(feed.table.metadata().default_partition_spec_id(), 1);
    feed.append(&[1], 1).await;
    let (_, error) = tokio::time::timeout(Duration::from_secs(5), follow).await.unwrap().unwrap();
    named(error, 1 - owner);
}

#[tokio::test(start_paused = true)]
async fn a_lane_reads_splits_ahead_of_their_turn_while_the_store_is_slow() {
    let mut feed = Feed::new();
    let first = feed.append(&[1], 3).await;
    feed.append(&[1; 30], 3).await;
    let took = async |budget: u64| {
        let slow_by = Duration::from_millis(100);
        let plan = FaultPlan { slow: 1_000, slow_by, ..FaultPlan::none() };
        let copy: Arc<InMemory> = copied(&feed).await;
        let store = Arc::new(FaultyStore::new(copy, 5, plan));
        let storage = Storage::default().with_store("memory://", store);
        let table = kit::moved(&feed.table, storage);
        let builder = table.stream().emit(Emit::Appends).until(Until::CaughtUp);
        let builder = builder.start(Start::AfterSnapshot(first)).memory_budget(budget);
        let mut stream = builder.open().await.unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(drain(&mut stream).await.unwrap(), feed.rows[3..]);
        began.elapsed()
    };
    let (alone, ahead) = (took(0).await, took(64 << 20).await);
    assert!(ahead * 2 < alone, "{ahead:?} with memory to read ahead, {alone:?} without");
}

#[tokio::test]
async fn a_file_that_is_too_large_is_read_ahead_in_part_and_goes_on_from_there() {
    let mut feed = Feed::new();
    let first = feed.append(&[1], 3).await;
    for n in 0..2 {
        let ids = n * 300_000..(n + 1) * 300_000;
        let batch =
            kit::batch(vec![("id", 1, longs(ids.clone())), ("part", 2, longs(vec![1; 300_000]))]);
        let mut file = kit::file_in_groups(&feed.table, &format!("g{n}"), &batch, 20_000).await;
        file.partition = Struct::from_iter([Some(Literal::long(1))]);
        feed.table = kit::append(&feed.table, vec![file]).await;
        feed.rows.extend(ids.map(|id| (1, id)));
    }
    // An eighth of the memory takes a part of a file, whose rows take 17 bytes at the least.
    let (budget, whole) = (36u64 << 20, 300_000 * 17);
    let builder = feed.appends().start(Start::AfterSnapshot(first)).memory_budget(budget);
    let mut stream = builder.open().await.unwrap();
    let (mut seen, mut most) = (Vec::new(), 0);
    while let Some(event) = stream.try_next().await.unwrap() {
        let StreamEvent::Batch(batch) = event else { continue };
        seen.extend(rows_of(&batch));
        tokio::time::sleep(Duration::from_millis(1)).await;
        most = stream.hub_state().lanes[0].ahead.held().max(most);
    }
    assert!((budget / 32..=budget / 8).contains(&most) && budget / 8 < whole, "{most} bytes");
    assert_eq!(seen, feed.rows[3..]);
}
