//! Starts and ends, expired positions, rewritten history, lag.

use super::*;
use crate::manifest::ManifestCache;

fn from(feed: &Feed, commit: i64) -> BTreeMap<i64, Vec<i64>> {
    let least = commit * 1_000_000;
    by_part(&feed.rows.iter().filter(|(_, id)| *id >= least).copied().collect())
}

/// The snapshots of main, oldest first.
fn snapshots(feed: &Feed) -> Vec<SnapshotId> {
    let mut ids: Vec<_> = feed.table.ancestors(feed.head()).map(|s| s.snapshot_id()).collect();
    ids.reverse();
    ids.into_iter().map(SnapshotId).collect()
}

async fn expire(feed: &mut Feed, ids: &[SnapshotId]) {
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    feed.table = kit::changed(&feed.table, |b| Ok(b.remove_snapshots(&ids))).await;
}

async fn kind_of(builder: StreamBuilder) -> ErrorKind {
    let error = match builder.open().await {
        Ok(mut stream) => drain(&mut stream).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(error.hint().is_some(), "{error}");
    error.kind()
}

#[tokio::test]
async fn a_stream_starts_where_it_is_told_to() {
    let mut feed = Feed::new();
    for _ in 0..5 {
        feed.append(&[1, 2, 3], 2).await;
    }
    let ids = snapshots(&feed);
    let start = |start: Start| all(feed.appends().start(start));
    assert_eq!(by_part(&start(Start::Earliest).await.unwrap()), from(&feed, 1));
    assert_eq!(sorted_by_part(&start(Start::LatestFull).await.unwrap()), from(&feed, 1));
    assert!(start(Start::Latest).await.unwrap().is_empty());
    let after = start(Start::AfterSnapshot(ids[1])).await.unwrap();
    assert_eq!(by_part(&after), from(&feed, 3));
    let time = |n: usize| feed.table.snapshot(ids[n]).unwrap().timestamp_ms();
    for (since, commit) in [(time(0) - 5, 1), (time(2), 3), (time(2) + 1, 4), (time(4) + 1, 6)] {
        let seen = start(Start::SinceTime(since)).await.unwrap();
        assert_eq!(by_part(&seen), from(&feed, commit));
    }
    assert_eq!(kind_of(feed.appends().branch("nowhere")).await, ErrorKind::NotFound);
}

#[tokio::test]
async fn an_unknown_start_snapshot_says_where_to_find_those_that_are_known() {
    let mut feed = Feed::new();
    feed.append(&[1], 2).await;
    let unknown = feed.appends().start(Start::AfterSnapshot(SnapshotId(1)));
    let error = unknown.open().await.unwrap_err();
    let names = ["`ns.t`", "no snapshot 1"];
    assert_advises(&error, ErrorKind::NotFound, &names, &["`meltwater inspect snapshots ns.t`"]);
}

#[tokio::test]
async fn a_start_before_history_names_the_earliest_one_that_is_left() {
    let mut feed = Feed::new();
    for _ in 0..4 {
        feed.append(&[1, 2], 2).await;
    }
    let ids = snapshots(&feed);
    expire(&mut feed, &ids[..2]).await;
    let usable = format!("earliest usable: after:{}", ids[1]);
    let advice = ["start later", "earliest usable position", "full read"];
    for since in [0, NOW as i64 + 2_000] {
        let error = feed.appends().start(Start::SinceTime(since)).open().await.unwrap_err();
        let names = ["ns.t", "main", &usable, "earliest commit ms: 1700000003000"];
        assert_advises(&error, ErrorKind::PositionExpired, &names, &advice);
    }
    let error = feed.appends().start(Start::AfterSnapshot(ids[0])).open().await.unwrap_err();
    let advice = ["start with a full read", "earliest usable position"];
    assert_advises(&error, ErrorKind::PositionExpired, &["ns.t", &usable], &advice);
    // What it names can be started from.
    let usable = feed.appends().start(Start::AfterSnapshot(ids[1]));
    assert_eq!(by_part(&all(usable).await.unwrap()), from(&feed, 3));
}

#[tokio::test]
async fn a_stream_ends_where_it_is_told_to() {
    let mut feed = Feed::new();
    for _ in 0..4 {
        feed.append(&[1, 2], 2).await;
    }
    let ids = snapshots(&feed);
    for lanes in [1, 3] {
        let builder = feed.appends().start(Start::Earliest).lanes(lanes);
        let mut stream = builder.clone().until(Until::Snapshot(ids[2])).open().await.unwrap();
        let seen = drain(&mut stream).await.unwrap();
        assert!(seen.iter().all(|(_, id)| *id < 4_000_000));
        assert_eq!(seen.len(), 12);
        assert!(stream.try_next().await.unwrap().is_none(), "it stays at its end");
        let rest = builder.start(Start::At(stream.token()));
        assert_eq!(by_part(&all(rest.clone()).await.unwrap()), from(&feed, 4));
        assert!(all(rest.until(Until::Snapshot(ids[1]))).await.unwrap().is_empty());
    }
    let unknown = feed.appends().until(Until::Snapshot(SnapshotId(1)));
    assert_eq!(kind_of(unknown).await, ErrorKind::NotFound);
}

#[tokio::test]
async fn an_empty_table_is_followed_from_its_first_commit() {
    let mut feed = Feed::new();
    for start in [Start::Earliest, Start::Latest, Start::LatestFull, Start::SinceTime(0)] {
        let seen = all(feed.appends().start(start.clone())).await.unwrap();
        assert!(seen.is_empty());
    }
    let mut stream = feed.appends().until(Until::Forever).open().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), stream.try_next()).await.is_err());
    feed.append(&[1, 2], 2).await;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        if let StreamEvent::Batch(batch) = soon(&mut stream).await.unwrap().unwrap() {
            seen.extend(rows_of(&batch));
        }
    }
    assert_eq!(by_part(&seen), by_part(&feed.rows));
}

#[tokio::test]
async fn an_expired_position_goes_on_while_its_child_is_there() {
    let mut feed = Feed::new();
    for _ in 0..6 {
        feed.append(&[1, 2], 2).await;
    }
    let ids = snapshots(&feed);
    let mut tokens = Vec::new();
    for id in &ids {
        let builder = feed.appends().start(Start::Earliest).until(Until::Snapshot(*id));
        let mut stream = builder.open().await.unwrap();
        drain(&mut stream).await.unwrap();
        tokens.push(stream.token());
    }
    expire(&mut feed, &ids[..3]).await;
    let resumed = |n: usize| feed.appends().start(Start::At(tokens[n].clone()));
    for (n, commit) in [(2, 4), (3, 5), (5, 7)] {
        assert_eq!(by_part(&all(resumed(n)).await.unwrap()), from(&feed, commit), "after {n}");
    }
    for n in [0, 1] {
        let error = resumed(n).open().await.unwrap_err();
        let usable = format!("earliest usable: after:{}", ids[2]);
        let advice = ["start with a full read", "earliest usable position", "positions folder"];
        assert_advises(&error, ErrorKind::PositionExpired, &["ns.t", &usable], &advice);
        assert!(feed.table.stream_lag(&tokens[n], "main").is_err());
    }
    let early = feed.appends().start(Start::SinceTime(0));
    assert_eq!(kind_of(early).await, ErrorKind::PositionExpired);
    let earliest = all(feed.appends().start(Start::Earliest)).await.unwrap();
    let all_rows = from(&feed, 1);
    assert_eq!(sorted_by_part(&earliest), all_rows, "the oldest snapshot left holds all rows");
}

/// A stream that plans and reads one split at a time.
async fn slow(feed: &Feed, after: SnapshotId) -> ChangeStream {
    let marks = QueueMarks { high_splits: 1, ..QueueMarks::default() };
    let builder = feed.appends().start(Start::AfterSnapshot(after)).memory_budget(0);
    builder.queue_marks(marks).open().await.unwrap()
}

#[tokio::test]
async fn a_snapshot_that_expires_under_a_slow_stream_is_named() {
    let mut feed = Feed::new();
    for _ in 0..6 {
        feed.append(&[1], 2).await;
    }
    let ids = snapshots(&feed);
    let mut stream = slow(&feed, ids[0]).await;
    assert!(stream.try_next().await.unwrap().is_some());
    expire(&mut feed, &ids[..5]).await;
    feed.table.storage().delete("memory:///t/data/c5-0.parquet").await.unwrap();
    let error = drain(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PositionExpired, "{error}");
    assert!(error.to_string().contains(&ids[4].to_string()), "{error}");
}

/// A snapshot that removes files is there, but what it removed went with the snapshot before.
#[tokio::test]
async fn changes_whose_base_expired_with_its_files_are_a_lost_position_not_a_missing_file() {
    let mut feed = Feed::new();
    let before = feed.append(&[1], 2).await;
    let all = Predicate::AlwaysTrue;
    feed.table = feed.table.delete_where(all).commit().await.unwrap().table;
    let after = feed.head();
    let open = |feed: &Feed| feed.appends().emit(Emit::Changes).start(Start::AfterSnapshot(before));
    assert_eq!(drain(&mut open(&feed).open().await.unwrap()).await.unwrap().len(), 2);
    let stream = || async { open(&feed).open().await.unwrap() };
    let mut stream = stream().await;
    expire(&mut feed, &[before]).await;
    feed.table.storage().delete("memory:///t/data/c1-0.parquet").await.unwrap();
    let error = drain(&mut stream).await.unwrap_err();
    let names = [before.to_string(), format!("earliest usable: after:{after}")];
    let names = names.each_ref().map(String::as_str);
    assert_advises(&error, ErrorKind::PositionExpired, &names, &["full read"]);
}

/// Snapshots expire behind a stream that has much before it: what it plans next is planned by the
/// table as it is now, in which the snapshot before may be gone with its manifests.
#[tokio::test]
async fn a_slow_stream_plans_on_when_the_snapshots_behind_it_expire_with_their_manifests() {
    for expired in 1..=8 {
        let mut feed = Feed::new();
        for _ in 0..9 {
            feed.append(&[1], 2).await;
        }
        let ids = snapshots(&feed);
        // As if it were so slow that nothing is remembered of manifests.
        feed.table = feed.table.with_manifest_cache(Arc::new(ManifestCache::new(0)));
        let mut stream = slow(&feed, ids[0]).await;
        let mut seen = Seen::new();
        while seen.len() < 4 {
            if let StreamEvent::Batch(batch) = stream.try_next().await.unwrap().unwrap() {
                seen.extend(rows_of(&batch));
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await; // it plans as far as it may
        let list = |id: &SnapshotId| feed.table.snapshot(*id).unwrap().manifest_list().to_string();
        let lists: Vec<String> = ids[..expired].iter().map(list).collect();
        expire(&mut feed, &ids[..expired]).await;
        for list in lists {
            feed.table.storage().delete(&list).await.unwrap();
        }
        match drain(&mut stream).await {
            Ok(rest) => {
                seen.extend(rest);
                assert_eq!(by_part(&seen), from(&feed, 2));
                assert!(expired < 8, "so far it may not plan");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PositionExpired, "{expired}: {error}");
                assert!(expired > 3, "{expired}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn a_rolled_back_branch_is_an_error_not_a_silent_gap() {
    let mut feed = Feed::new();
    for _ in 0..4 {
        feed.append(&[1, 2], 2).await;
    }
    let ids = snapshots(&feed);
    let builder = feed.appends().until(Until::Forever).start(Start::Earliest);
    let mut stream = builder.open().await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < feed.rows.len() {
        if let StreamEvent::Batch(batch) = soon(&mut stream).await.unwrap().unwrap() {
            seen.extend(rows_of(&batch));
        }
    }
    let token = stream.token();
    let back = SnapshotReference::new(ids[1].0, SnapshotRetention::branch(None, None, None));
    feed.table = kit::changed(&feed.table, |b| b.set_ref("main", back)).await;
    feed.append(&[1], 1).await;
    let error = loop {
        match soon(&mut stream).await.unwrap() {
            Ok(StreamEvent::Watermark(_) | StreamEvent::Schema(_)) => {}
            Ok(StreamEvent::Batch(batch)) => panic!("{batch:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::HistoryRewritten, "{error}");
    assert!(stream.try_next().await.unwrap().is_none(), "the error ends the stream");
    let again = feed.appends().start(Start::At(token));
    assert_eq!(kind_of(again).await, ErrorKind::HistoryRewritten);
    let gone = feed.appends().start(Start::AfterSnapshot(ids[3]));
    assert_eq!(kind_of(gone).await, ErrorKind::HistoryRewritten);
}

#[tokio::test]
async fn a_table_that_is_made_anew_ends_the_stream() {
    let mut feed = Feed::new();
    feed.append(&[1, 2], 2).await;
    let mut stream = feed.appends().until(Until::Forever).open().await.unwrap();
    let token = stream.token();
    let uuid = uuid::Uuid::from_u128(7);
    let anew = TableUpdate::AssignUuid { uuid };
    feed.table.catalog().commit(feed.table.ident(), vec![], vec![anew]).await.unwrap();
    let error = soon(&mut stream).await.unwrap().unwrap_err();
    let advice = ["load the table again and start from its first snapshot"];
    let names = ["`ns.t` was dropped and made anew", &uuid.to_string()];
    assert_advises(&error, ErrorKind::HistoryRewritten, &names, &advice);
    let table = Table::load(feed.table.catalog().clone(), feed.table.ident()).await.unwrap();
    let error = table.stream().start(Start::At(token)).open().await.unwrap_err();
    let (names, advice) = (["belongs to another table", &uuid.to_string()], ["a new start"]);
    assert_advises(&error, ErrorKind::InvalidInput, &names, &advice);
}

#[tokio::test]
async fn another_branch_has_its_own_history() {
    let mut feed = Feed::new();
    feed.append(&[1, 2], 2).await;
    let at = SnapshotReference::new(feed.head().0, SnapshotRetention::branch(None, None, None));
    feed.table = kit::changed(&feed.table, |b| b.set_ref("audit", at)).await;
    feed.append(&[1, 2], 2).await;
    let audit = feed.appends().branch("audit").start(Start::Earliest);
    assert_eq!(all(audit).await.unwrap().len(), 4);
    let main = feed.appends().start(Start::Earliest);
    assert_eq!(all(main).await.unwrap().len(), 8);
}

#[tokio::test]
async fn lag_counts_what_is_left_without_reading_anything() {
    let mut feed = Feed::new();
    let first = feed.append(&[1, 2], 2).await;
    let start = Start::AfterSnapshot(first);
    let builder = feed.appends().start(start).until(Until::Forever).memory_budget(0);
    let mut stream = builder.open().await.unwrap();
    assert!(stream.lag().await.unwrap().is_caught_up());
    for _ in 0..3 {
        feed.append(&[1, 2, 3], 4).await;
    }
    let token = stream.token();
    let folder = feed.table.storage().list("memory:///t/data").unwrap();
    for file in folder.try_collect::<Vec<_>>().await.unwrap() {
        feed.table.storage().delete(&file.location).await.unwrap();
    }
    let lag = feed.table.stream_lag(&token, "main").unwrap();
    assert_eq!((lag.snapshots, lag.files, lag.rows), (3, 9, 36));
    assert!(lag.bytes > 9 * 300);
    assert_eq!(lag.behind, Duration::from_secs(2));
    let error = loop {
        match soon(&mut stream).await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::NotFound, "a data file is gone: {error}");
    let other = Feed::new();
    assert_eq!(other.table.stream_lag(&token, "main").unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_rollback_behind_the_full_phase_of_another_lane_is_told_as_one() {
    let mut feed = Feed::new();
    feed.append(&[1, 2], 2).await;
    feed.append(&[1, 2], 2).await;
    let ids = snapshots(&feed);
    // One group stands in the rows of the first snapshot, all others are done with the second.
    let stream = feed.appends().start(Start::AfterSnapshot(ids[1])).open().await.unwrap();
    let token = stream.token().with(0, Place::Full(ids[0], None));
    let rest = all(feed.appends().start(Start::At(token.clone()))).await;
    assert!(rest.is_ok(), "the token is fine while its snapshots are: {rest:?}");
    let back = SnapshotReference::new(ids[0].0, SnapshotRetention::branch(None, None, None));
    feed.table = kit::changed(&feed.table, |b| b.set_ref("main", back)).await;
    let again = feed.appends().start(Start::At(token));
    assert_eq!(kind_of(again).await, ErrorKind::HistoryRewritten);
}
