//! A slow reader with millions of rows behind it: the stream stays within its memory budget, lanes
//! keep their drift, and a paused lane stops the others at the drift and not before. Allocations are
//! counted.

use std::alloc::System;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use meltwater::clock::{Environment, ManualClock, SeededIds};
use meltwater::read::Emit;
use meltwater::spec::*;
use meltwater::stream::{ChangeBatch, Lane, Start, StreamBuilder, StreamEvent, Until};
use meltwater::table::{Table, WriteResult};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

#[path = "../benches/support/counting.rs"]
mod counting;
mod kit;

use counting::{Counting, counted_from_here, held, peak};

#[global_allocator]
static ALLOCATOR: Counting<System> = Counting(System);

/// Serializes the tests of this file: allocations are counted for the whole process.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const MIB: usize = 1024 * 1024;
const FILES: i64 = 8;
const ROWS: i64 = 100_000;

/// Of the long history: a commit a second.
const COMMITS: usize = 20;
const PARTS: usize = 6;
const ROWS_A_FILE: usize = 40_000;
const LANES: usize = 3;
/// Partitions of each lane: the same on every machine (STR-1).
const PARTS_OF: [usize; LANES] = [1, 4, 1];
const BUDGET: usize = 32 * MIB;
/// Long before the wall clock, which the metadata builder takes for changes without a snapshot.
const NOW: i64 = 1_700_000_000_000;

fn assert_peak_below(budget: usize, idle: usize) {
    let peak = peak() - idle;
    assert!(peak <= budget, "{} of {} KiB", peak / 1024, budget / 1024);
}

/// A table `id long, part long, note string`, partitioned by `part`.
fn notes() -> Table {
    let spec = UnboundPartitionSpec::builder()
        .add_partition_field(2, "part", Transform::Identity)
        .unwrap()
        .build();
    let fields = vec![
        kit::optional(1, "id", PrimitiveType::Long),
        kit::optional(2, "part", PrimitiveType::Long),
        kit::optional(3, "note", PrimitiveType::String),
    ];
    kit::table_with(fields, spec, &[])
}

/// The changes of 4.8 million rows, which are some KiB on disk and half a GiB in memory. `id` is
/// the number of the commit.
async fn long_history() -> StreamBuilder {
    let clock = Arc::new(ManualClock::new(NOW as u64));
    let environment = Environment { clock: clock.clone(), ids: Arc::new(SeededIds::new(3)) };
    let table = kit::made_at(&notes(), NOW);
    let mut table = table.with_environment(environment);
    let note = Arc::new(StringArray::from(vec!["n".repeat(100); ROWS_A_FILE]));
    let mut start = Start::Earliest;
    for commit in 0..=COMMITS {
        let mut files = Vec::new();
        for part in 0..PARTS {
            let long = |value: usize| Arc::new(Int64Array::from(vec![value as i64; ROWS_A_FILE]));
            let rows = kit::batch(vec![
                ("id", 1, long(commit)),
                ("part", 2, long(part)),
                ("note", 3, note.clone()),
            ]);
            let mut file = kit::file(&table, &format!("c{commit}-{part}"), &rows).await;
            file.partition = Struct::from_iter([Some(Literal::long(part as i64))]);
            files.push(file);
        }
        table = kit::append(&table, files).await;
        if commit == 0 {
            let id = table.current_snapshot().unwrap().snapshot_id();
            start = Start::AfterSnapshot(SnapshotId(id));
        }
        clock.advance_ms(1_000);
    }
    let stream = table.stream().emit(Emit::Appends).start(start).until(Until::CaughtUp);
    stream.lanes(LANES).memory_budget(BUDGET as u64)
}

/// Counts rows, and checks that those of a partition come commit by commit, each of them whole.
#[derive(Default)]
struct Tally {
    /// By partition.
    rows: BTreeMap<usize, usize>,
    /// By partition.
    lanes: BTreeMap<usize, usize>,
}

impl Tally {
    /// Takes in a batch; gives the number of its commit, the first one's being 0.
    fn take(&mut self, batch: &ChangeBatch) -> usize {
        let of = |name: &str| {
            let column = batch.records.column_by_name(name).unwrap().as_primitive::<Int64Type>();
            assert!(column.values().iter().all(|value| *value == column.value(0)));
            column.value(0) as usize
        };
        let (commit, part) = (of("id") - 1, of("part"));
        let before = self.rows.entry(part).or_default();
        assert_eq!(commit, *before / ROWS_A_FILE, "partition {part} after {before} rows");
        *before += batch.kinds.len();
        self.lanes.insert(part, batch.lane);
        assert_eq!(batch.commit.time_ms, NOW + 1_000 * (commit as i64 + 1));
        commit
    }

    fn assert_whole(&self) {
        let all = (0..PARTS).map(|part| (part, COMMITS * ROWS_A_FILE));
        assert_eq!(self.rows, all.collect());
    }
}

/// Takes so many rows from a lane; gives the latest commit among them. It must not come to wait.
async fn take_rows(lane: &mut Lane, tally: &mut Tally, rows: usize) -> Option<usize> {
    let (mut taken, mut latest) = (0, None);
    while taken < rows {
        let next = tokio::time::timeout(Duration::from_secs(60), lane.try_next());
        let event = next.await.expect("the lane waits for another").unwrap().unwrap();
        if let StreamEvent::Batch(batch) = event {
            taken += batch.kinds.len();
            latest = latest.max(Some(tally.take(&batch)));
        }
    }
    latest
}

/// Rows, as opposed to watermarks, that a lane gives in a while.
async fn gives_rows(lane: &mut Lane) -> bool {
    let rows = async {
        while let Some(event) = lane.try_next().await.unwrap() {
            if matches!(event, StreamEvent::Batch(_)) {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(Duration::from_millis(200), rows).await.unwrap_or(false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_with_millions_of_rows_behind_it_stays_within_its_budget() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let behind = long_history().await;
    let idle = counted_from_here();
    let mut stream = behind.open().await.unwrap();
    // Nobody polls, and it fills what it may fill.
    while held() - idle < BUDGET / 8 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (mut tally, mut batches) = (Tally::default(), 0u32);
    while let Some(event) = stream.try_next().await.unwrap() {
        let StreamEvent::Batch(batch) = event else { continue };
        tally.take(&batch);
        batches += 1;
        if batches.is_multiple_of(40) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    tally.assert_whole();
    assert_peak_below(BUDGET, idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_is_not_polled_holds_back_no_other_without_a_drift() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let behind = long_history().await;
    let idle = counted_from_here();
    let mut lanes = behind.open().await.unwrap().into_lanes().unwrap();
    let mut tally = Tally::default();
    // To its end each, while those behind it wait.
    for (lane, parts) in lanes.iter_mut().zip(PARTS_OF) {
        let latest = take_rows(lane, &mut tally, COMMITS * parts * ROWS_A_FILE).await;
        assert_eq!(latest, Some(COMMITS - 1));
        let of_lane = tally.lanes.values().filter(|of| **of == lane.number());
        assert_eq!(of_lane.count(), parts);
    }
    tally.assert_whole();
    assert_peak_below(BUDGET, idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_is_not_polled_stops_the_others_at_the_drift_and_not_before() {
    const DRIFT: usize = 3;
    let _alone = ONE_AT_A_TIME.lock().await;
    let behind = long_history().await.max_drift(Duration::from_secs(DRIFT as u64));
    let idle = counted_from_here();
    let mut lanes = behind.open().await.unwrap().into_lanes().unwrap();
    let mut tally = Tally::default();
    // What a lane has of each commit.
    let rows = PARTS_OF.map(|parts| parts * ROWS_A_FILE);
    let (slow, others) = lanes.split_at_mut(1);
    let mut reached = 0;
    for finished in 0..COMMITS {
        // The slow lane stands in the commit after those it finished, or still at the end of the
        // last of them.
        let reach = COMMITS.min(finished + DRIFT + usize::from(finished == 0));
        for (lane, rows) in others.iter_mut().zip(&rows[1..]) {
            take_rows(lane, &mut tally, rows * (reach - reached)).await;
        }
        reached = reach;
        if finished == 0 {
            for lane in others.iter_mut() {
                assert!(!gives_rows(lane).await, "a lane is further ahead than the drift");
            }
        }
        take_rows(&mut slow[0], &mut tally, rows[0]).await;
    }
    tally.assert_whole();
    assert_peak_below(BUDGET, idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_of_changes_with_many_deletes_stays_within_its_budget() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut table = kit::table(vec![
        kit::optional(1, "id", PrimitiveType::Long),
        kit::optional(2, "note", PrimitiveType::String),
    ]);
    for n in 0..FILES {
        let ids = n * ROWS..(n + 1) * ROWS;
        let notes = StringArray::from_iter_values(ids.clone().map(|id| format!("note {id}")));
        let ids = Int64Array::from_iter_values(ids);
        let rows = kit::batch(vec![("id", 1, Arc::new(ids)), ("note", 2, Arc::new(notes))]);
        let file = kit::file_in_groups(&table, &format!("d{n}"), &rows, 20_000).await;
        table = kit::append(&table, vec![file]).await;
    }
    let keys = Int64Array::from_iter_values((0..FILES * ROWS).step_by(3));
    let keys = kit::batch(vec![("id", 1, Arc::new(keys))]);
    let gone = kit::equality(&table, "gone", &keys, &[1]).await;
    let table = kit::delete(&table, vec![gone]).await;

    for (emit, budget) in [(Emit::Changes, 64 * MIB), (Emit::Changes, 24 * MIB)] {
        let idle = counted_from_here();
        let stream = table.stream().start(Start::Earliest).until(Until::CaughtUp).emit(emit);
        let mut changes = stream.lanes(4).memory_budget(budget as u64).open().await.unwrap();
        let (mut came, mut went, mut batches) = (0, 0, 0u32);
        while let Some(event) = changes.try_next().await.unwrap() {
            let StreamEvent::Batch(batch) = event else { continue };
            let gone = batch.kinds.iter().filter(|k| k.as_str() == "delete").count();
            went += gone;
            came += batch.kinds.len() - gone;
            batches += 1;
            if batches.is_multiple_of(20) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        drop(changes);
        let peak = peak() - idle;
        assert_eq!((came, went), (800_000, 266_667), "budget {budget}");
        assert!(peak <= budget + budget / 4, "{} of {} MiB", peak / MIB, budget / MIB);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_of_a_whole_snapshot_stay_within_the_budget() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut table = kit::table(vec![
        kit::optional(1, "id", PrimitiveType::Long),
        kit::optional(2, "note", PrimitiveType::String),
    ]);
    for n in 0..FILES * 2 {
        let ids = n * ROWS / 2..(n + 1) * ROWS / 2;
        let notes = StringArray::from_iter_values(ids.clone().map(|id| format!("note {id:040}")));
        let ids = Int64Array::from_iter_values(ids);
        let rows = kit::batch(vec![("id", 1, Arc::new(ids)), ("note", 2, Arc::new(notes))]);
        let file = kit::file_in_groups(&table, &format!("w{n}"), &rows, 25_000).await;
        table = kit::append(&table, vec![file]).await;
    }
    for (lanes, decoders, budget) in [(1, 8, 64 * MIB), (3, 32, 64 * MIB), (1, 32, 24 * MIB)] {
        let idle = counted_from_here();
        let stream = table.stream().start(Start::LatestFull).until(Until::CaughtUp).lanes(lanes);
        let stream = stream.full_parallelism(decoders).memory_budget(budget as u64);
        let mut changes = stream.open().await.unwrap();
        let (mut came, mut batches) = (0, 0u32);
        while let Some(event) = changes.try_next().await.unwrap() {
            let StreamEvent::Batch(batch) = event else { continue };
            came += batch.kinds.len();
            batches += 1;
            if batches.is_multiple_of(50) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        drop(changes);
        let peak = peak() - idle;
        assert_eq!(came, 800_000, "budget {budget}");
        assert!(peak <= budget + budget / 4, "{} of {} MiB", peak / MIB, budget / MIB);
    }
}

/// Whether a file says how long its texts are when they are decoded.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lengths {
    Told,
    Untold,
}

/// A file of rows that take a hundredth on disk: all have the same text of so many letters.
async fn repeating(
    table: &Table,
    ids: std::ops::Range<i64>,
    part: i64,
    (letters, lengths): (usize, Lengths),
) -> DataFile {
    let rows = (ids.end - ids.start) as usize;
    let name = format!("r{part}-{rows}");
    let rows = kit::batch(vec![
        ("id", 1, Arc::new(Int64Array::from_iter_values(ids))),
        ("part", 2, Arc::new(Int64Array::from(vec![part; rows]))),
        ("note", 3, Arc::new(StringArray::from(vec!["n".repeat(letters); rows]))),
    ]);
    let options =
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
    let options = match lengths {
        Lengths::Told => options,
        Lengths::Untold => options.set_statistics_enabled(EnabledStatistics::None),
    };
    let mut file = kit::file_with(table, &name, &rows, options.build()).await;
    assert!(file.file_size_in_bytes < rows.get_array_memory_size() as u64 / 50);
    file.partition = Struct::from_iter([Some(Literal::long(part))]);
    file
}

/// Takes all there is, with a pause now and then, within a budget; gives how many rows there were.
async fn take_slowly(builder: StreamBuilder, budget: usize) -> usize {
    let idle = counted_from_here();
    let stream = builder.until(Until::CaughtUp).memory_budget(budget as u64);
    let mut stream = stream.open().await.unwrap();
    let (mut rows, mut batches) = (0, 0u32);
    while let Some(event) = stream.try_next().await.unwrap() {
        let StreamEvent::Batch(batch) = event else { continue };
        rows += batch.kinds.len();
        batches += 1;
        if batches.is_multiple_of(20) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_peak_below(budget + budget / 4, idle);
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rows_of_a_whole_snapshot_that_take_no_room_on_disk_stay_within_the_budget() {
    let _alone = ONE_AT_A_TIME.lock().await;
    for rows in [(1_000, Lengths::Told), (200, Lengths::Untold)] {
        let table = notes();
        let mut files = Vec::new();
        for part in 0..24 {
            files.push(repeating(&table, part * 20_000..(part + 1) * 20_000, part, rows).await);
        }
        let table = kit::append(&table, files).await;
        for (lanes, decoders, budget) in [(1, 8, 32 * MIB), (1, 32, 64 * MIB), (3, 8, 64 * MIB)] {
            let stream = table.stream().start(Start::LatestFull).lanes(lanes);
            let stream = stream.full_parallelism(decoders);
            assert_eq!(take_slowly(stream, budget).await, 24 * 20_000, "{rows:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn change_units_that_take_no_room_on_disk_stay_within_the_budget() {
    let _alone = ONE_AT_A_TIME.lock().await;
    for rows in [(1_000, Lengths::Told), (200, Lengths::Untold)] {
        let table = notes();
        let (mut old, mut new, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for part in 0..16 {
            let first = part * 100_000;
            old.push(repeating(&table, first..first + 20_000, part, rows).await);
            new.push(repeating(&table, first..first + 30_000, part, rows).await);
            let keys = Int64Array::from_iter_values((first..first + 20_000).step_by(100));
            let keys = kit::batch(vec![("id", 1, Arc::new(keys))]);
            let mut keys = kit::equality(&table, &format!("gone{part}"), &keys, &[1]).await;
            keys.partition = Struct::from_iter([Some(Literal::long(part))]);
            gone.push(keys);
        }
        let table = kit::append(&table, old).await;
        let first = SnapshotId(table.current_snapshot().unwrap().snapshot_id());
        let written = WriteResult { data_files: new, delete_files: gone, ..Default::default() };
        let table = table.row_delta(written).commit().await.unwrap().table;
        for (lanes, budget) in [(1, 32 * MIB), (2, 64 * MIB)] {
            for (emit, more) in [(Emit::Changes, 200), (Emit::Upserts, 0)] {
                let stream = table.stream().start(Start::AfterSnapshot(first)).lanes(lanes);
                let taken = take_slowly(stream.emit(emit).key(["id"]), budget).await;
                assert_eq!(taken, 16 * (30_000 + more), "{rows:?}");
            }
        }
    }
}
