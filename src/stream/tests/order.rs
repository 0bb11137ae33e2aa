//! Order, restarts, lanes.

use super::*;
use crate::table::{Cursor, Inside, Place};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_partition_keeps_its_order_on_any_number_of_lanes() {
    let feed = busy_feed().await;
    for lanes in 1..=8 {
        let mut stream = feed.appends().start(Start::Earliest).lanes(lanes).open().await.unwrap();
        let (mut seen, mut lane_of) = (Vec::new(), BTreeMap::new());
        while let Some(event) = stream.try_next().await.unwrap() {
            if let StreamEvent::Batch(batch) = event {
                let rows = rows_of(&batch);
                let known = *lane_of.entry(rows[0].0).or_insert(batch.lane);
                assert_eq!(known, batch.lane);
                assert!(rows.iter().all(|(part, _)| *part == rows[0].0), "partitions mixed");
                seen.extend(rows);
            }
        }
        assert_eq!(by_part(&seen), by_part(&feed.rows), "{lanes} lanes");
    }
    let total = all(feed.appends().start(Start::Earliest).order(Order::PerSnapshot)).await.unwrap();
    let commits = |rows: &Seen| rows.iter().map(|(_, id)| id / 1_000_000).collect::<Vec<_>>();
    assert!(commits(&total).is_sorted());
    assert_eq!(total.len(), feed.rows.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_restored_anywhere_repeats_no_row_and_skips_none() {
    let feed = busy_feed().await;
    for seed in 0..25 {
        let dice = SeededIds::new(seed);
        let below = |n: u64| (dice.next_u64() % n) as usize;
        let start = if seed % 2 == 0 { Start::Earliest } else { Start::LatestFull };
        let mut start = start;
        let mut seen = Vec::new();
        'restarts: loop {
            let lanes = 1 + below(8);
            let marks = QueueMarks { high_splits: 1 + below(5), ..QueueMarks::default() };
            let builder = feed.appends().start(start).lanes(lanes).queue_marks(marks);
            let mut stream = builder.open().await.unwrap();
            let mut left = 1 + below(40);
            while let Some(event) = stream.try_next().await.unwrap() {
                let StreamEvent::Batch(batch) = event else { continue };
                let rows = rows_of(&batch);
                if left > rows.len() {
                    left -= rows.len();
                    seen.extend(rows);
                    continue;
                }
                seen.extend(&rows[..left]);
                // Through text, as a caller would keep it.
                let token = batch.token_after(left - 1).unwrap().to_string();
                start = Start::At(token.parse().unwrap());
                continue 'restarts;
            }
            break;
        }
        let in_order = if seed % 2 == 0 { by_part(&seen) } else { sorted_by_part(&seen) };
        assert_eq!(in_order, by_part(&feed.rows), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_order_every_lane_works_and_a_restore_repeats_and_skips_nothing() {
    let mut feed = Feed::new();
    feed.table = feed.table.update_spec().remove_field("part").commit().await.unwrap();
    for _ in 0..6 {
        feed.append(&[1; 9], 4).await;
    }
    let mut expected = feed.rows.clone();
    expected.sort_unstable();
    for seed in 0..12 {
        let dice = SeededIds::new(seed);
        let below = |n: u64| (dice.next_u64() % n) as usize;
        let mut start = if seed % 2 == 0 { Start::Earliest } else { Start::LatestFull };
        let (mut seen, mut watermark): (Seen, Option<i64>) = (Vec::new(), None);
        'restarts: loop {
            let builder = feed.appends().order(Order::Unordered).start(start).lanes(1 + below(8));
            let mut stream = builder.open().await.unwrap();
            let mut left = 1 + below(60);
            while let Some(event) = stream.try_next().await.unwrap() {
                let StreamEvent::Batch(batch) = event else { continue };
                assert!(watermark <= Some(batch.commit.time_ms), "late row");
                watermark = watermark.max(stream.watermark());
                let rows = rows_of(&batch);
                let taken = left.min(rows.len());
                seen.extend(&rows[..taken]);
                if left <= rows.len() {
                    start = Start::At(batch.token_after(taken - 1).unwrap());
                    continue 'restarts;
                }
                left -= taken;
            }
            break;
        }
        seen.sort_unstable();
        assert_eq!(seen, expected, "seed {seed}");
    }
    let stream = feed.appends().order(Order::Unordered).start(Start::LatestFull).lanes(4);
    let lanes = stream.open().await.unwrap().into_lanes().unwrap();
    let rows_by_lane = lanes.into_iter().map(async |mut lane| {
        let mut rows = 0;
        while let Some(event) = lane.try_next().await.unwrap() {
            if let StreamEvent::Batch(batch) = event {
                rows += batch.kinds.len();
            }
        }
        rows
    });
    let rows_by_lane = futures::future::join_all(rows_by_lane).await;
    assert_eq!(rows_by_lane.iter().sum::<usize>(), feed.rows.len());
    assert!(rows_by_lane.iter().all(|rows| *rows > 0), "an idle lane: {rows_by_lane:?}");
}

#[tokio::test]
async fn without_order_a_lane_that_stands_still_keeps_back_its_share_and_no_more() {
    const FILES: usize = 240;
    let mut feed = Feed::new();
    feed.table = feed.table.update_spec().remove_field("part").commit().await.unwrap();
    let first = feed.append(&[1], 1).await;
    for _ in 0..FILES / 12 {
        feed.append(&[1; 12], 2).await;
    }
    for lanes in [2, 3, 4, 8] {
        let stream = feed.appends().order(Order::Unordered).start(Start::AfterSnapshot(first));
        let stream = stream.lanes(lanes).memory_budget(0).open().await.unwrap();
        let rest = async |lane: &mut Lane| {
            let mut rows = Seen::new();
            while let Some(event) = lane.try_next().await.unwrap() {
                if let StreamEvent::Batch(batch) = event {
                    rows.extend(rows_of(&batch));
                }
            }
            rows
        };
        let mut all_lanes = stream.into_lanes().unwrap();
        let (still, others) = all_lanes.split_at_mut(1);
        let mut seen = futures::future::join_all(others.iter_mut().map(rest)).await.concat();
        let kept_back = FILES - seen.len() / 2;
        let share = FILES.div_ceil(lanes);
        assert!(kept_back <= share + share / 2, "{kept_back} of {FILES} files, {lanes} lanes");
        let kept_back = rest(&mut still[0]).await;
        seen.extend(kept_back);
        seen.sort_unstable();
        assert_eq!(seen, feed.rows[1..], "{lanes} lanes");
    }
}

#[tokio::test]
async fn the_streams_own_token_resumes_after_everything_it_gave() {
    let mut feed = busy_feed().await;
    let mut stream = feed.appends().start(Start::Earliest).lanes(3).open().await.unwrap();
    let mut seen = drain(&mut stream).await.unwrap();
    let token = stream.token();
    assert!(token.to_string().len() < 120, "caught up, all groups agree: {token}");
    feed.append(&[1, 2, 9], 4).await;
    seen.extend(all(feed.appends().start(Start::At(token)).lanes(2)).await.unwrap());
    assert_eq!(by_part(&seen), by_part(&feed.rows));
}

#[tokio::test]
async fn lanes_are_streams_of_their_own_and_their_tokens_merge() {
    let feed = busy_feed().await;
    // Not from earliest: lanes that are read one after the other would wait at the barrier.
    let first = SnapshotId(feed.table.ancestors(feed.head()).last().unwrap().snapshot_id());
    let start = Start::AfterSnapshot(first);
    let stream = feed.appends().start(start).lanes(3).open().await.unwrap();
    let mut seen = Vec::new();
    let mut merged: Option<Token> = None;
    for mut lane in stream.into_lanes().unwrap() {
        let mut batches = 0;
        while let Some(event) = lane.try_next().await.unwrap() {
            let StreamEvent::Batch(batch) = event else { continue };
            seen.extend(rows_of(&batch));
            batches += 1;
            if batches == 3 {
                break;
            }
        }
        let token = lane.token();
        assert!(!token.is_complete());
        lane.commit(token.clone()).await.unwrap();
        let before = merged.take();
        merged = Some(before.map_or(token.clone(), |t| t.merge(&token).unwrap()));
    }
    let merged = merged.unwrap();
    assert!(merged.is_complete());
    seen.extend(all(feed.appends().start(Start::At(merged)).lanes(5)).await.unwrap());
    let after_first = feed.rows.iter().filter(|(_, id)| *id >= 2_000_000).copied().collect();
    assert_eq!(by_part(&seen), by_part(&after_first));

    let total = feed.appends().order(Order::PerSnapshot).open().await.unwrap();
    assert_eq!(total.into_lanes().unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn the_watermark_never_goes_back_though_commit_clocks_do() {
    let mut feed = Feed::new();
    for _ in 0..6 {
        feed.append(&[1, 2, 3], 2).await;
        let file = feed.file("slow", 4, &[9_000_000]).await;
        let time_ms = feed.table.metadata().last_updated_ms() - 20_000;
        let data = ManifestContentType::Data;
        feed.table = kit::commit_like_others_at(&feed.table, data, vec![file], time_ms).await;
    }
    for lanes in [1, 4] {
        let mut stream = feed.appends().start(Start::Earliest).lanes(lanes).open().await.unwrap();
        let (mut times, mut given) = (Vec::new(), i64::MIN);
        while let Some(event) = stream.try_next().await.unwrap() {
            match event {
                StreamEvent::Watermark(time) => times.push(time),
                StreamEvent::Schema(change) => panic!("{change:?}"),
                StreamEvent::Batch(batch) => {
                    assert!(batch.commit.time_ms >= batch.commit.committed_at_ms);
                    assert!(times.last().is_none_or(|t| batch.commit.time_ms >= *t), "late row");
                    given = given.max(batch.commit.time_ms);
                }
            }
        }
        assert!(times.is_sorted() && !times.is_empty(), "{times:?}");
        assert_eq!(times.last(), Some(&given));
    }
}

#[tokio::test]
async fn tokens_of_other_streams_and_files_are_refused() {
    let mut feed = Feed::new();
    let first = feed.append(&[1, 2], 3).await;
    let second = feed.append(&[1, 2], 3).await;
    let open = |start: Start| feed.appends().start(start);
    let mut stream = open(Start::AfterSnapshot(first)).open().await.unwrap();
    drain(&mut stream).await.unwrap();
    let token = stream.token();
    open(Start::At(token.clone())).open().await.unwrap();
    let refused = |builder: StreamBuilder| async move {
        let error = builder.open().await.expect_err("was opened");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.hint().is_some());
    };
    refused(open(Start::At(token.clone())).emit(Emit::Changes)).await;
    refused(open(Start::At(token.clone())).order(Order::PerSnapshot)).await;
    let filter = crate::expr::parse("id > 3", feed.table.schema()).unwrap();
    refused(open(Start::At(token.clone())).filter(filter)).await;
    refused(open(Start::At(token.clone().covering(|group| group < 9)))).await;
    refused(Feed::new().appends().start(Start::At(token.clone()))).await;
    open(Start::At(token.clone())).select(["id"]).lanes(7).open().await.unwrap();

    // The right shape, but it points at a file with another name.
    let cursor = Cursor::File { manifest: 0, entry: 0, row: 1 };
    let inside = Inside { cursor, digest: 12345 };
    let mut wrong = token;
    (0..64).for_each(|group| wrong.set(group, Place::Within(second, inside)));
    let error = all(open(Start::At(wrong))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("another file"), "{error}");
}

/// One file is touched by many commits, whose units are on all lanes.
#[tokio::test]
async fn without_order_lanes_that_share_a_file_tell_each_of_its_rows_deleted_once() {
    let mut feed = Feed::new();
    let first = feed.append(&[1], 12).await;
    let head = feed.table.current_snapshot().unwrap().clone();
    let manifests = feed.table.manifests(&head).await.unwrap();
    let entries = feed.table.entries(&manifests[0]).await.unwrap();
    for row in 0..8 {
        let (name, file) = (format!("d{row}"), &entries[0].file);
        let dead = kit::positions_of(&feed.table, &name, file, &[row]).await;
        feed.table = kit::delete(&feed.table, vec![dead]).await;
    }
    let everything = feed.table.delete_where(Predicate::AlwaysTrue);
    feed.table = everything.commit().await.unwrap().table;
    let mut expected = feed.rows.clone();
    expected.sort_unstable();
    for lanes in 1..=8 {
        let builder = feed.appends().emit(Emit::Changes).order(Order::Unordered).lanes(lanes);
        let mut told = all(builder.start(Start::AfterSnapshot(first))).await.unwrap();
        told.sort_unstable();
        assert_eq!(told, expected, "{lanes} lanes");
    }
}
