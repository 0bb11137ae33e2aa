//! Alignment, barriers, budgets.

use super::*;

/// Everything of a stream as `(time, part, id)`.
async fn timed(stream: &mut ChangeStream) -> Vec<(i64, i64, i64)> {
    let mut seen = Vec::new();
    while let Some(event) = stream.try_next().await.unwrap() {
        if let StreamEvent::Batch(batch) = event {
            let time = batch.commit.time_ms;
            seen.extend(rows_of(&batch).into_iter().map(|(part, id)| (time, part, id)));
        }
    }
    seen
}

pub(super) fn tiny() -> QueueMarks {
    QueueMarks { low_splits: 1, high_splits: 1, low_bytes: 1, high_bytes: 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aligned_lanes_keep_their_drift_and_do_not_lock_up_with_tiny_buffers() {
    let feed = busy_feed().await;
    for drift in [0, 1_000, 3_000, 100_000] {
        for lanes in [1, 2, 5, 8] {
            let builder = feed.appends().start(Start::AfterSnapshot(oldest(&feed))).lanes(lanes);
            let builder = builder.max_drift(Duration::from_millis(drift)).queue_marks(tiny());
            let mut stream = builder.memory_budget(0).open().await.unwrap();
            let seen = timed(&mut stream).await;
            let mut soonest = i64::MAX;
            for (time, ..) in seen.iter().rev() {
                // Whatever comes later is at most the drift older.
                assert!(*time <= soonest.saturating_add(drift as i64), "drift {drift}: {seen:?}");
                soonest = soonest.min(*time);
            }
            let seen: Seen = seen.into_iter().map(|(_, part, id)| (part, id)).collect();
            let expected: Seen =
                feed.rows.iter().filter(|(_, id)| *id >= 2_000_000).copied().collect();
            assert_eq!(by_part(&seen), by_part(&expected));
        }
    }
}

fn oldest(feed: &Feed) -> SnapshotId {
    let ancestors: Vec<_> = feed.table.ancestors(feed.head()).collect();
    SnapshotId(ancestors.last().unwrap().snapshot_id())
}

/// Two partitions that lie on different lanes of two.
pub(super) fn apart() -> [i64; 2] {
    let lane = |part: i64| {
        let values = Struct::from_iter([Some(Literal::long(part))]);
        Order::PerPartition.group_of(Some(&PartitionKey { spec_id: 0, values }), 0) % 2
    };
    let even = (0..).find(|part| lane(*part) == 0).unwrap();
    [even, (0..).find(|part| lane(*part) == 1).unwrap()]
}

#[tokio::test]
async fn a_lane_that_is_not_polled_stops_the_others_only_at_the_drift() {
    let mut feed = Feed::new();
    let first = feed.append(&[0], 1).await;
    for _ in 0..10 {
        feed.append(&apart(), 2).await;
    }
    let times: Vec<i64> = {
        let ancestors = feed.table.ancestors(feed.head());
        ancestors.map(|s| s.timestamp_ms()).collect::<Vec<_>>().into_iter().rev().collect()
    };
    let open = async |drift: Option<u64>| {
        let builder = feed.appends().start(Start::AfterSnapshot(first)).lanes(2);
        let builder = match drift {
            Some(drift) => builder.max_drift(Duration::from_millis(drift)),
            None => builder,
        };
        builder.open().await.unwrap().into_lanes().unwrap()
    };
    let follow = async |lane: &mut Lane| {
        let mut last = None;
        while let Ok(Some(event)) =
            tokio::time::timeout(Duration::from_millis(500), lane.try_next())
                .await
                .unwrap_or(Ok(None))
        {
            if let StreamEvent::Batch(batch) = event {
                last = Some(batch.commit.time_ms);
            }
        }
        last
    };
    let mut lanes = open(None).await;
    assert_eq!(follow(&mut lanes[1]).await, times.last().copied(), "no drift, no waiting");
    let mut lanes = open(Some(3_000)).await;
    assert_eq!(follow(&mut lanes[1]).await, Some(times[1] + 3_000));
    assert_eq!(follow(&mut lanes[1]).await, None, "it waits");
    let both = async {
        let (left, right) = lanes.split_at_mut(1);
        tokio::join!(follow(&mut left[0]), follow(&mut right[0]))
    };
    let (left, right) = both.await;
    assert_eq!((left, right), (times.last().copied(), times.last().copied()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_spec_is_a_barrier_for_all_lanes() {
    let mut feed = Feed::new();
    let first = feed.append(&[0], 1).await;
    for _ in 0..5 {
        feed.append(&[1, 2, 3, 4, 5], 2).await;
    }
    let last_of_old = feed.rows.len();
    feed.table = feed.table.update_spec().remove_field("part").commit().await.unwrap();
    for _ in 0..4 {
        feed.append(&[1], 2).await;
    }
    for lanes in [2, 6] {
        let builder = feed.appends().start(Start::AfterSnapshot(first)).lanes(lanes);
        let seen = all(builder.queue_marks(tiny())).await.unwrap();
        let old: Seen = seen[..last_of_old - 1].to_vec();
        assert_eq!(by_part(&old), by_part(&feed.rows[1..last_of_old].to_vec()));
        assert_eq!(seen[last_of_old - 1..], feed.rows[last_of_old..]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_of_a_whole_snapshot_come_before_any_change() {
    let mut feed = Feed::new();
    for _ in 0..3 {
        feed.append(&[1, 2, 3, 4], 5).await;
    }
    let full = feed.rows.len();
    let builder = feed.table.stream().emit(Emit::Appends).start(Start::LatestFull).lanes(4);
    let mut stream = builder.queue_marks(tiny()).open().await.unwrap();
    for _ in 0..3 {
        feed.append(&[1, 2, 3, 4], 5).await;
    }
    let (mut seen, mut is_full) = (Vec::new(), Vec::new());
    while seen.len() < feed.rows.len() {
        if let StreamEvent::Batch(batch) = soon(&mut stream).await.unwrap().unwrap() {
            is_full.push(batch.commit.is_full);
            seen.extend(rows_of(&batch));
        }
    }
    assert!(is_full.is_sorted_by_key(|full| !full), "{is_full:?}");
    assert_eq!(is_full.iter().filter(|full| **full).count(), full / 5);
    assert_eq!(by_part(&seen[full..].to_vec()), by_part(&feed.rows[full..].to_vec()));
    assert_eq!(sorted_by_part(&seen), by_part(&feed.rows));
}

#[tokio::test]
async fn planning_stops_in_the_middle_of_a_manifest() {
    let mut feed = Feed::new();
    let partition =
        PartitionKey { spec_id: 0, values: Struct::from_iter([Some(Literal::long(1))]) };
    let file = |n: i32| {
        let path = format!("memory:///t/data/{n}");
        DataFile::new(DataContentType::Data, path, partition.clone(), 10, 1000)
    };
    feed.table = kit::append(&feed.table, (0..5_000).map(file).collect()).await;
    let marks = QueueMarks { low_splits: 4, high_splits: 16, ..QueueMarks::default() };
    let builder = feed.appends().start(Start::Earliest).lanes(2).queue_marks(marks);
    let stream = builder.open().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let state = stream.hub_state();
    let owner = state.lanes.iter().find(|lane| lane.queue.splits() > 0).unwrap();
    // The files are not there: what was read ahead is back in the queue.
    assert!(owner.queue.splits() <= 16 + 16);
    let cursor = owner.queue.cursor;
    assert!(cursor.step == 0 && cursor.offset > 0 && cursor.offset < 40, "{cursor:?}");
    let idle = state.lanes.iter().find(|lane| lane.queue.splits() == 0).unwrap();
    assert_eq!(idle.queue.cursor.step, 1, "planned to the end for the lane without files");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_not_polled_stays_within_its_budget() {
    let mut feed = Feed::new();
    for _ in 0..40 {
        feed.append(&[1, 2, 3, 4], 5_000).await;
    }
    let batch = 5_000 * 16;
    for (lanes, budget) in [(1, 4 << 20), (4, 4 << 20), (4, 0)] {
        let builder = feed.appends().start(Start::Earliest).lanes(lanes).memory_budget(budget);
        let mut stream = builder.queue_marks(tiny()).open().await.unwrap();
        let mut steady = 0;
        let mut held = (0, 0);
        while steady < 20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let state = stream.hub_state();
            let bytes: u64 = state.lanes.iter().map(|l| l.held_bytes()).sum();
            let splits: usize = state.lanes.iter().map(|l| l.queue.splits()).sum();
            drop(state);
            steady = if held == (bytes, splits) { steady + 1 } else { 0 };
            held = (bytes, splits);
            assert!(bytes <= budget / 4 + lanes as u64 * 2 * batch, "{bytes} bytes wait");
            assert!(splits <= lanes, "{splits} splits wait");
        }
        assert!(held.0 > 0);
        assert_eq!(by_part(&drain(&mut stream).await.unwrap()), by_part(&feed.rows));
    }
}
