//! Counts what is allocated, so that memory is measured and not guessed.
#![allow(dead_code, reason = "each binary uses its part")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};

/// An allocator, counted.
pub struct Counting<A>(pub A);

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Bytes of heap in use.
pub fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

/// Bytes of heap in use, from which the peak is counted anew.
pub fn counted_from_here() -> usize {
    let held = held();
    PEAK.store(held, Ordering::Relaxed);
    held
}

/// The most bytes of heap that were in use since the peak was counted anew.
pub fn peak() -> usize {
    PEAK.load(Ordering::Relaxed)
}

// SAFETY: every call is passed on to the allocator unchanged.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { self.0.dealloc(at, layout) }
    }
}
