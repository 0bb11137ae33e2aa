//! The rows of a whole snapshot: read by many decoders at once, once each, before any change.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::Notify;

use super::assign::{apart, tiny};
use super::changes::feed_with_deletes;
use super::faults::{behind_faults, copied};
use super::*;
use crate::kit::layer::{Layer, Layered};
use crate::table::WriteResult;

/// A store that keeps readers of data files waiting.
#[derive(Debug)]
struct Gate {
    inner: Arc<InMemory>,
    inside: Mutex<Inside>,
    bell: Notify,
    /// Nobody leaves before so many were inside at once.
    wanted: usize,
    /// Reads so far apart in one file count as two readers.
    apart_bytes: u64,
    /// Nobody leaves with data of this file.
    held: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Inside {
    readers: BTreeMap<(String, u64), usize>,
    most: usize,
    reads: usize,
}

impl Gate {
    async fn before(feed: &Feed, gate: impl FnOnce(&mut Self)) -> (Arc<Layered<Self>>, Table) {
        let mut new = Self {
            inner: copied(feed).await,
            inside: Mutex::default(),
            bell: Notify::new(),
            wanted: 0,
            apart_bytes: u64::MAX,
            held: None,
        };
        gate(&mut new);
        let new = Arc::new(Layered(new));
        let storage = Storage::default().with_store("memory://", new.clone());
        (new, kit::moved(&feed.table, storage))
    }

    fn most(&self) -> usize {
        self.inside.lock().unwrap().most
    }

    async fn pass(&self, path: &Path, at: u64) {
        if !path.as_ref().contains("/data/") {
            return;
        }
        let reader = (path.to_string(), at / self.apart_bytes);
        {
            let mut inside = self.inside.lock().unwrap();
            inside.reads += 1;
            *inside.readers.entry(reader.clone()).or_default() += 1;
            inside.most = inside.most.max(inside.readers.len());
        }
        self.bell.notify_waiters();
        loop {
            let bell = self.bell.notified();
            let is_held = self.held.is_some_and(|held| path.as_ref().contains(held));
            if self.most() >= self.wanted && !is_held {
                break;
            }
            bell.await;
        }
        let mut inside = self.inside.lock().unwrap();
        if let Some(count) = inside.readers.get_mut(&reader) {
            *count -= 1;
        }
        inside.readers.retain(|_, count| *count > 0);
    }
}

#[async_trait]
impl Layer for Gate {
    fn inner(&self) -> &dyn ObjectStore {
        &self.inner
    }

    async fn get_ranges(
        &self,
        from: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        let size = self.inner.head(from).await?.size;
        let is_footer = ranges.last().is_some_and(|range| range.end == size);
        if !is_footer || self.apart_bytes == u64::MAX {
            self.pass(from, ranges.first().map_or(0, |range| range.start)).await;
        }
        self.inner.get_ranges(from, ranges).await
    }
}

/// Fails, and does not hang, when all of a stream's tasks wait: time is paused in these tests.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(600), work).await.expect("the stream locked up")
}

/// A table without partitions, of as many files.
async fn one_partition(files: i64) -> Feed {
    let mut feed = Feed::new();
    feed.table = feed.table.update_spec().remove_field("part").commit().await.unwrap();
    feed.append(&vec![1; files as usize], 4).await;
    feed
}

fn sorted(mut rows: Seen) -> Seen {
    rows.sort_unstable();
    rows
}

#[tokio::test(start_paused = true)]
async fn as_many_decoders_as_asked_for_read_at_once() {
    for (files, lanes, decoders) in [(9, 1, 1), (9, 1, 4), (20, 1, 9), (20, 4, 4), (20, 3, 8)] {
        let feed = one_partition(files).await;
        let (gate, table) = Gate::before(&feed, |gate| gate.wanted = decoders).await;
        let stream = table.stream().emit(Emit::Appends).until(Until::CaughtUp).lanes(lanes);
        let stream = stream.start(Start::LatestFull).full_parallelism(decoders);
        let seen = in_time(all(stream)).await.unwrap();
        assert_eq!(sorted(seen), feed.rows);
        assert_eq!(gate.most(), decoders, "{lanes} lanes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_late_holds_back_no_other_and_the_token_tells() {
    let mut feed = one_partition(30).await;
    let (_gate, table) = Gate::before(&feed, |gate| gate.held = Some("c1-2.")).await;
    let stream = table.stream().emit(Emit::Appends).start(Start::LatestFull);
    let mut stream = stream.full_parallelism(3).lanes(2).open().await.unwrap();
    let mut seen: Seen = Vec::new();
    let mut tokens = Vec::new();
    while seen.len() < 29 * 4 {
        let event = in_time(stream.try_next()).await.unwrap().unwrap();
        let StreamEvent::Batch(batch) = event else { panic!("a watermark before all rows") };
        let rows = rows_of(&batch);
        for (row, _) in rows.iter().enumerate() {
            tokens.push((seen.len() + row + 1, batch.token_after(row).unwrap()));
        }
        seen.extend(rows);
    }
    let late = |(_, id): &(i64, i64)| (1_020_000..1_030_000).contains(id);
    assert!(!seen.iter().any(late));
    let (_, last) = tokens.last().unwrap();
    let runs = last.to_string().matches('+').count();
    assert!((1..=6).contains(&runs), "runs that touch are one: {last}");
    feed.append(&[1, 1], 2).await;
    for (n, (taken, token)) in tokens.iter().enumerate().step_by(7) {
        let mut seen = seen[..*taken].to_vec();
        let token: Token = token.to_string().parse().unwrap();
        let rest = feed.appends().start(Start::At(token)).lanes(1 + n % 8);
        seen.extend(all(rest.full_parallelism(1 + n % 5)).await.unwrap());
        assert_eq!(sorted(seen), feed.rows, "after {taken} rows");
    }
}

/// Adds a file of so many rows that cannot be compressed; gives its size.
async fn add_large(feed: &mut Feed, rows: usize, rows_a_group: usize) -> u64 {
    let dice = SeededIds::new(8);
    let any: Vec<i64> = (0..rows).map(|_| dice.next_u64() as i64).collect();
    let batch = kit::batch(vec![("id", 1, longs(0..rows as i64)), ("part", 2, longs(any))]);
    let large = kit::file_in_groups(&feed.table, "large", &batch, rows_a_group).await;
    let size = large.file_size_in_bytes;
    feed.table = kit::append(&feed.table, vec![large]).await;
    size
}

#[tokio::test(start_paused = true)]
async fn a_row_group_larger_than_the_budget_is_read_all_the_same() {
    const ROWS: usize = 700_000;
    let mut feed = one_partition(3).await;
    let size = add_large(&mut feed, ROWS, ROWS).await;
    for (lanes, decoders, budget) in [(1, 4, 0), (2, 3, 1 << 20), (1, 8, 4 << 20)] {
        assert!(size > 8 << 20, "{size} is cut, and more than {budget}");
        let stream = feed.appends().start(Start::LatestFull).lanes(lanes);
        let stream = stream.full_parallelism(decoders).memory_budget(budget);
        let seen = in_time(all(stream)).await.unwrap();
        let mut ids: Vec<i64> = seen.iter().map(|(_, id)| *id).collect();
        ids.sort_unstable();
        let small = feed.rows.iter().map(|(_, id)| *id);
        assert!(ids == sorted_ids((0..ROWS as i64).chain(small)), "each row once: {budget}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_file_is_read_in_pieces_at_once() {
    const ROWS: usize = 1_800_000;
    let mut feed = one_partition(1).await;
    let size = add_large(&mut feed, ROWS, ROWS / 3).await;
    assert!(size > 24 << 20, "{size}");
    let half_a_group = size / 6;
    let gate = Gate::before(&feed, |gate| (gate.wanted, gate.apart_bytes) = (3, half_a_group));
    let (_gate, table) = gate.await;
    let mut start = Start::LatestFull;
    let mut seen: Seen = Vec::new();
    for (decoders, rows) in [(3, 700_000), (2, 500_000), (1, 200_000), (4, usize::MAX)] {
        let table = if decoders == 3 { &table } else { &feed.table };
        let stream = table.stream().emit(Emit::Appends).until(Until::CaughtUp).start(start);
        let stream = stream.full_parallelism(decoders).memory_budget(512 << 20);
        let mut stream = in_time(stream.open()).await.unwrap();
        let mut taken = 0;
        start = loop {
            let Some(event) = in_time(stream.try_next()).await.unwrap() else {
                break Start::Latest;
            };
            let StreamEvent::Batch(batch) = event else { continue };
            let came = rows_of(&batch);
            let wanted = came.len().min(rows - taken);
            seen.extend(&came[..wanted]);
            taken += wanted;
            if taken == rows {
                break Start::At(batch.token_after(wanted - 1).unwrap());
            }
        };
    }
    let mut ids: Vec<i64> = seen.iter().map(|(_, id)| *id).collect();
    assert!(!ids[..700_000].is_sorted(), "its pieces came side by side");
    ids.sort_unstable();
    let expected = (0..ROWS as i64).chain(feed.rows.iter().map(|(_, id)| *id));
    assert_eq!(ids.len(), ROWS + 4);
    assert!(ids == sorted_ids(expected), "each row once");
}

fn sorted_ids(ids: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut ids: Vec<i64> = ids.collect();
    ids.sort_unstable();
    ids
}

/// The next event; if impatient, by asking again and again and letting go of each answer that
/// is not there at once.
async fn next(stream: &mut ChangeStream, impatient: bool) -> Option<StreamEvent> {
    if !impatient {
        return stream.try_next().await.unwrap();
    }
    loop {
        if let Some(event) = stream.try_next().now_or_never() {
            return event.unwrap();
        }
        tokio::time::sleep(Duration::from_micros(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_whole_snapshot_come_once_wherever_it_is_stopped() {
    let mut feed = Feed::new();
    for n in 0..4 {
        feed.append(&[0, 0, 0, 1, 1, 2, 3 + n], 5 + n).await;
    }
    let full = feed.appends().start(Start::LatestFull).open().await.unwrap().token();
    let full_rows = feed.rows.len();
    feed.append(&[0, 1, 2, 2], 3).await;
    feed.append(&[0, 3], 2).await;
    for seed in 0..40 {
        let dice = SeededIds::new(seed);
        let below = |n: u64| (dice.next_u64() % n) as usize;
        let order = if seed % 8 == 7 { Order::PerSnapshot } else { Order::PerPartition };
        let mut start = match order {
            Order::PerSnapshot => Start::Earliest,
            _ => Start::At(full.clone()),
        };
        let mut seen: Seen = Vec::new();
        'restarts: loop {
            let lanes = if order == Order::PerSnapshot { 1 } else { 1 + below(8) };
            let marks = if below(2) == 0 { tiny() } else { QueueMarks::default() };
            let budget = [0, 64 << 10, 64 << 20][below(3)];
            let builder = feed.appends().start(start).lanes(lanes).order(order);
            let builder = builder.queue_marks(marks).memory_budget(budget);
            let mut stream = builder.full_parallelism(1 + below(8)).open().await.unwrap();
            let (mut left, impatient) = (1 + below(80), below(2) == 0);
            let mut lane_of = BTreeMap::new();
            let mut changes = 0;
            while let Some(event) = next(&mut stream, impatient).await {
                let StreamEvent::Batch(batch) = event else { continue };
                assert!(changes == 0 || !batch.commit.is_full, "a row of before, behind a change");
                changes += usize::from(!batch.commit.is_full);
                let rows = rows_of(&batch);
                assert_eq!(*lane_of.entry(rows[0].0).or_insert(batch.lane), batch.lane);
                let taken = left.min(rows.len());
                seen.extend(&rows[..taken]);
                if left <= rows.len() {
                    let token = batch.token_after(taken - 1).unwrap().to_string();
                    start = Start::At(token.parse().unwrap());
                    continue 'restarts;
                }
                left -= taken;
            }
            break;
        }
        if order == Order::PerPartition {
            let changes = seen.split_off(full_rows);
            let expected = feed.rows[full_rows..].to_vec();
            assert_eq!(by_part(&changes), by_part(&expected), "seed {seed}");
            seen.extend(changes);
        }
        assert_eq!(sorted(seen), sorted(feed.rows.clone()), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn small_change_units_of_a_snapshot_are_read_at_once() {
    let parts: Vec<i64> = (0..24).collect();
    let (feed, second) = feed_with_deletes(&parts).await;
    // One unit has two data files and two delete files.
    let (_gate, table) = Gate::before(&feed, |gate| gate.wanted = 9).await;
    let changes = async |table: &Table, lanes: usize, budget: u64| {
        let stream = table.stream().start(Start::AfterSnapshot(second)).until(Until::CaughtUp);
        let stream = stream.lanes(lanes).memory_budget(budget);
        let mut stream = in_time(stream.open()).await.unwrap();
        let mut seen: BTreeMap<i64, Vec<(ChangeKind, i64)>> = BTreeMap::new();
        while let Some(event) = in_time(stream.try_next()).await.unwrap() {
            let StreamEvent::Batch(batch) = event else { continue };
            for ((part, id), kind) in rows_of(&batch).into_iter().zip(&batch.kinds) {
                seen.entry(part).or_default().push((*kind, id));
            }
        }
        seen
    };
    let at_once = changes(&table, 1, 64 << 20).await;
    assert_eq!(at_once.values().flatten().count(), 24 * 4 + 1);
    assert_eq!(at_once, changes(&feed.table, 1, 0).await, "as one after the other");
}

#[tokio::test(start_paused = true)]
async fn without_memory_a_change_unit_is_not_read_again_for_each_of_its_rows() {
    let mut feed = one_partition(1).await;
    let first = feed.append(&[1], 500).await;
    let kept: Vec<i64> = feed.rows.iter().map(|(_, id)| *id).collect();
    let rows = kit::batch(vec![
        ("id", 1, longs(kept.iter().copied())),
        ("part", 2, longs(vec![2; kept.len()])),
    ]);
    let new = kit::file(&feed.table, "new", &rows).await;
    let keys = kit::batch(vec![("id", 1, longs(kept.iter().copied()))]);
    let gone = kit::equality(&feed.table, "gone", &keys, &[1]).await;
    let written =
        WriteResult { data_files: vec![new], delete_files: vec![gone], ..Default::default() };
    feed.table = feed.table.row_delta(written).commit().await.unwrap().table;
    let (gate, table) = Gate::before(&feed, |_| {}).await;
    let stream = table.stream().start(Start::AfterSnapshot(first)).until(Until::CaughtUp);
    let mut stream = stream.key(["id"]).memory_budget(0).open().await.unwrap();
    let mut updates = 0;
    while let Some(event) = in_time(stream.try_next()).await.unwrap() {
        let StreamEvent::Batch(batch) = event else { continue };
        updates += batch.kinds.iter().filter(|kind| **kind == ChangeKind::UpdateAfter).count();
    }
    assert_eq!(updates, kept.len());
    let reads = gate.inside.lock().unwrap().reads;
    assert!(reads < 40, "{reads} reads of four files");
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_not_polled_keeps_no_decoder_from_the_others() {
    let mut feed = Feed::new();
    let [left, right] = apart();
    for _ in 0..3 {
        feed.append(&[left, left, left, left, right, right], 40).await;
    }
    let stream = feed.appends().start(Start::LatestFull).lanes(2).full_parallelism(5);
    let stream = stream.memory_budget(1).open().await.unwrap();
    let mut lanes = stream.into_lanes().unwrap();
    let expected = feed.rows.iter().filter(|(part, _)| *part == right).count();
    let mut polled: Seen = Vec::new();
    while polled.len() < expected {
        match in_time(lanes[1].try_next()).await.unwrap().unwrap() {
            StreamEvent::Batch(batch) => polled.extend(rows_of(&batch)),
            event => panic!("{event:?}"),
        }
    }
    assert!(polled.iter().all(|(part, _)| *part == right));
    let (a, b) = lanes.split_at_mut(1);
    let rest = async |lane: &mut Lane| {
        let mut rows = Vec::new();
        while let Some(event) = lane.try_next().await.unwrap() {
            if let StreamEvent::Batch(batch) = event {
                rows.extend(rows_of(&batch));
            }
        }
        rows
    };
    let (a, b) = in_time(futures::future::join(rest(&mut a[0]), rest(&mut b[0]))).await;
    let seen = [polled, a, b].concat();
    assert_eq!(sorted(seen), sorted(feed.rows.clone()));
}

#[tokio::test]
async fn failures_repeat_and_skip_nothing() {
    let feed = busy_feed().await;
    for seed in 0..12 {
        let table = behind_faults(&feed, seed, 300).await;
        let builder = table.stream().emit(Emit::Appends).start(Start::LatestFull);
        let builder = builder.until(Until::CaughtUp).lanes(1 + seed as usize % 4);
        let builder = builder.full_parallelism(1 + seed as usize % 7);
        let mut stream = builder.patience(Duration::ZERO).open().await.unwrap();
        let (seen, failures) = drain_through_failures(&mut stream).await;
        assert!(failures > 0, "seed {seed} made no fault");
        assert_eq!(sorted(seen), sorted(feed.rows.clone()), "seed {seed}");
    }
    // A file that is gone: what was given before the error is not given again.
    let path = "memory:///t/data/c5-1.parquet";
    let bytes = feed.table.storage().read(path).await.unwrap();
    feed.table.storage().delete(path).await.unwrap();
    let mut stream = feed.appends().start(Start::LatestFull).lanes(3).open().await.unwrap();
    let mut seen = Vec::new();
    let error = loop {
        match stream.try_next().await {
            Ok(Some(StreamEvent::Batch(batch))) => seen.extend(rows_of(&batch)),
            Ok(Some(_)) => {}
            Ok(None) => panic!("it did not notice"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    feed.table.storage().write(path, bytes).await.unwrap();
    let token = stream.token();
    let distinct: BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len());
    seen.extend(all(feed.appends().start(Start::At(token)).lanes(2)).await.unwrap());
    assert_eq!(sorted(seen), sorted(feed.rows.clone()));
}
