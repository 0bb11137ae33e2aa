//! A scan stays within its memory budget, whatever deletes it meets: allocations are counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::Int64Array;
use futures::TryStreamExt;
use meltwater::spec::PrimitiveType;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_holds_no_more_than_its_budget_and_a_quarter() {
    const MIB: usize = 1024 * 1024;
    let spread = |n: i64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15u64 as i64);
    let batch = |from: i64, to: i64, step: usize| {
        let ids = Int64Array::from_iter_values((from..to).step_by(step).map(spread));
        kit::batch(vec![("id", 1, Arc::new(ids))])
    };
    let mut table = kit::table(vec![kit::optional(1, "id", PrimitiveType::Long)]);
    let mut files = Vec::new();
    for n in 0..6 {
        let rows = batch(n * 300_000, (n + 1) * 300_000, 1);
        files.push(kit::file_in_groups(&table, &format!("d{n}"), &rows, 100_000).await);
    }
    table = kit::append(&table, files).await;
    let mut deletes = Vec::new();
    for n in 0..3i64 {
        let rows = batch(n, 1_800_000, 3);
        let rows = rows.slice(0, rows.num_rows() - 50_000 * n as usize);
        deletes.push(kit::equality(&table, &format!("e{n}"), &rows, &[1]).await);
    }
    table = kit::delete(&table, deletes).await;

    for budget in [128 * MIB, 32 * MIB, 16 * MIB] {
        let scan = table.scan().memory_budget(budget as u64).parallelism(2);
        let idle = HELD.load(Ordering::Relaxed);
        PEAK.store(idle, Ordering::Relaxed);
        let mut batches = scan.to_batches().await.unwrap();
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await.unwrap() {
            rows += batch.num_rows();
        }
        drop(batches);
        let peak = PEAK.load(Ordering::Relaxed) - idle;
        assert_eq!(rows, 150_000, "budget {budget}");
        assert!(peak <= budget + budget / 4, "{} of {} MiB", peak / MIB, budget / MIB);
    }
}
