//! A slow reader with much behind it: the stream stays within its memory budget, and a paused lane
//! stops only itself. Allocations are counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{Int64Array, StringArray};
use futures::TryStreamExt;
use meltwater::read::Emit;
use meltwater::spec::PrimitiveType;
use meltwater::stream::{Start, StreamEvent, Until};

mod kit;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Serializes the tests of this file: allocations are counted for the whole process.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const MIB: usize = 1024 * 1024;
const FILES: i64 = 8;
const ROWS: i64 = 100_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_with_millions_of_rows_behind_it_stays_within_its_budget() {
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
        let idle = HELD.load(Ordering::Relaxed);
        PEAK.store(idle, Ordering::Relaxed);
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
        let peak = PEAK.load(Ordering::Relaxed) - idle;
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
        let idle = HELD.load(Ordering::Relaxed);
        PEAK.store(idle, Ordering::Relaxed);
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
        let peak = PEAK.load(Ordering::Relaxed) - idle;
        assert_eq!(came, 800_000, "budget {budget}");
        assert!(peak <= budget + budget / 4, "{} of {} MiB", peak / MIB, budget / MIB);
    }
}
