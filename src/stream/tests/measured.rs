//! What a stream says of itself to a recorder.

use super::*;
use crate::measure::recorder::TestRecorder;
use crate::measure::{self, Metric};

fn sum(recorder: &TestRecorder, metric: Metric, with: &str) -> f64 {
    recorder.sum(metric.name, with)
}

fn last(recorder: &TestRecorder, metric: Metric) -> f64 {
    *recorder.all(metric.name, "table=ns.t,stream=").last().unwrap()
}

#[test]
fn a_stream_measures_what_it_gives_and_how_far_it_is() {
    let mut rows = 0.0;
    let recorder = TestRecorder::measure(async {
        let mut feed = Feed::new();
        for _ in 0..3 {
            feed.append(&[1, 2], 5).await;
        }
        let stream = feed.appends().start(Start::Earliest);
        let mut stream = stream.until(Until::Forever).open().await.unwrap();
        let mut seen = 0;
        while seen < 20 {
            // Rows that lie there for two seconds.
            feed.clock.advance_ms(2_000);
            if let Some(Ok(StreamEvent::Batch(batch))) = soon(&mut stream).await {
                seen += batch.kinds.len();
            }
        }
        feed.append(&[1], 5).await;
        while seen < 35 {
            if let Some(Ok(StreamEvent::Batch(batch))) = soon(&mut stream).await {
                seen += batch.kinds.len();
            }
        }
        while soon(&mut stream).await.is_some() {}
        rows = seen as f64;
    });
    assert_eq!(sum(&recorder, measure::STREAM_ROWS, "kind=insert"), rows);
    assert_eq!(sum(&recorder, measure::STREAM_ROWS, ""), rows);
    assert_eq!(sum(&recorder, measure::STREAM_SPLITS, ""), 7.0, "files");
    assert!(sum(&recorder, measure::STREAM_BYTES, "") > rows * 16.0);
    let latencies = recorder.all(measure::STREAM_LATENCY.name, "");
    let batches = sum(&recorder, measure::STREAM_BATCHES, "");
    assert_eq!(latencies.len() as f64, batches - 2.0, "not for the rows of a whole snapshot");
    assert!(latencies.iter().any(|seconds| *seconds >= 2.0), "{latencies:?}");
    let lags = recorder.all(measure::STREAM_LAG_SNAPSHOTS.name, "");
    // The rows of the first snapshot are a step like the two commits behind it.
    assert_eq!(lags.first(), Some(&3.0));
    assert_eq!(last(&recorder, measure::STREAM_LAG_SNAPSHOTS), 0.0);
    assert_eq!(last(&recorder, measure::STREAM_LAG_SECONDS), 0.0);
    assert!(last(&recorder, measure::STREAM_WATERMARK) >= NOW as f64 / 1000.0 + 4.0);
    assert!(sum(&recorder, measure::TABLE_COMMITS_NOTICED, "") >= 1.0);
    assert!(!recorder.all(measure::STREAM_PLANNING.name, "").is_empty());
    assert_eq!(sum(&recorder, measure::COMMITS, "outcome=committed"), 4.0);
    assert_eq!(recorder.all(measure::COMMIT_SECONDS.name, "").len(), 4);
}

#[test]
fn the_lag_of_a_stream_that_nobody_polls_goes_on_growing() {
    let recorder = TestRecorder::measure(async {
        tokio::time::pause();
        let mut feed = Feed::new();
        feed.append(&[1, 2], 5).await;
        let stream = feed.appends().until(Until::Forever).start(Start::Earliest).lanes(2);
        let mut stream = stream.open().await.unwrap();
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            feed.clock.advance_ms(60_000);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        while soon(&mut stream).await.is_some() {}
    });
    let mut told = recorder.all(measure::STREAM_LAG_SECONDS.name, "");
    told.dedup();
    assert_eq!(told, [0.0, 60.0, 120.0, 180.0, 240.0, 300.0, 0.0]);
    assert_eq!(last(&recorder, measure::STREAM_LAG_SNAPSHOTS), 0.0);
}

#[test]
fn the_lag_of_a_stream_whose_store_is_silent_goes_on_growing() {
    let recorder = TestRecorder::measure(async {
        tokio::time::pause();
        let feed = busy_feed().await;
        let silent = faults::behind_faults(&feed, 4, 1_000).await;
        let silent = silent.with_environment(feed.table.environment().clone());
        let stream = silent.stream().emit(Emit::Appends).start(Start::Earliest);
        let mut stream = stream.patience(Duration::from_secs(600)).open().await.unwrap();
        for _ in 0..5 {
            assert!(soon(&mut stream).await.is_none());
            feed.clock.advance_ms(60_000);
        }
        assert!(soon(&mut stream).await.is_none());
    });
    let mut told = recorder.all(measure::STREAM_LAG_SECONDS.name, "");
    told.dedup();
    assert_eq!(told, [11.0, 71.0, 131.0, 191.0, 251.0, 311.0], "the first of twelve commits");
    assert_eq!(last(&recorder, measure::STREAM_LAG_SNAPSHOTS), 12.0);
}

#[test]
fn changes_measure_what_key_filters_and_caches_answer() {
    let recorder = TestRecorder::measure(async {
        let fields = vec![kit::required(1, "id", PrimitiveType::Long)];
        let mut table = kit::table(fields);
        for n in 0..2 {
            let ids = longs((0..50).map(|i| n + 2 * i));
            let batch = kit::batch(vec![("id", 1, ids)]);
            let file = kit::file(&table, &format!("f{n}"), &batch).await;
            table = kit::append(&table, vec![file]).await;
        }
        let start =
            Start::AfterSnapshot(SnapshotId(table.current_snapshot().unwrap().snapshot_id()));
        for (name, id) in [("d1", 1), ("d2", 2)] {
            let batch = kit::batch(vec![("id", 1, longs([id]))]);
            let file = kit::equality(&table, name, &batch, &[1]).await;
            table = kit::delete(&table, vec![file]).await;
        }
        let stream = table.stream().start(start).until(Until::CaughtUp).key(["id"]);
        let mut stream = stream.open().await.unwrap();
        while stream.try_next().await.unwrap().is_some() {}
        table.scan().count().await.unwrap();
    });
    assert_eq!(sum(&recorder, measure::STREAM_ROWS, "kind=delete"), 2.0);
    assert_eq!(sum(&recorder, measure::KEY_FILTER_ANSWERS, "unknown"), 2.0, "both files, cold");
    assert_eq!(sum(&recorder, measure::KEY_FILTER_ANSWERS, "absent"), 1.0);
    assert_eq!(sum(&recorder, measure::KEY_FILTER_ANSWERS, "maybe"), 1.0);
    assert!(sum(&recorder, measure::DELETE_FILES_LOADED, "equality") >= 2.0);
    assert_eq!(sum(&recorder, measure::SCAN_FILES_PLANNED, ""), 2.0);
    assert_eq!(sum(&recorder, measure::SCAN_ROWS, ""), 98.0);
    let (asked, missed) = (measure::CACHE_REQUESTS, measure::CACHE_MISSES);
    for cache in ["footer", "manifest"] {
        assert!(sum(&recorder, missed, cache) >= 1.0);
        assert!(sum(&recorder, asked, cache) > sum(&recorder, missed, cache), "{cache}");
    }
}

#[test]
fn a_silent_store_is_counted() {
    let recorder = TestRecorder::measure(async {
        let feed = busy_feed().await;
        let table = faults::behind_faults(&feed, 4, 300).await;
        let stream = table.stream().emit(Emit::Appends).start(Start::Earliest);
        let mut stream = stream.until(Until::CaughtUp).open().await.unwrap();
        assert_eq!(by_part(&drain(&mut stream).await.unwrap()), by_part(&feed.rows));
    });
    assert!(sum(&recorder, measure::STREAM_RETRIES, "") >= 1.0);
}
