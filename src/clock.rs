//! Time and randomness: the only door to the wall clock and to fresh identifiers.
//!
//! Everything above takes its time from a [`Clock`] and its identifiers from an
//! [`IdGenerator`], so that a simulation can be replayed from one seed.

use std::fmt::Debug;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use uuid::Uuid;

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now_ms(&self) -> i64;
}

/// Makes identifiers that nobody else makes.
pub trait IdGenerator: Debug + Send + Sync {
    /// A fresh random UUID.
    fn uuid(&self) -> Uuid;

    /// A fresh positive snapshot id: the halves of a UUID folded, sign bit cleared.
    fn snapshot_id(&self) -> i64 {
        let (high, low) = self.uuid().as_u64_pair();
        ((high ^ low) & (i64::MAX as u64)) as i64
    }

    /// A uniform number in `0..bound` (0 when `bound` is 0), for back-off jitter.
    fn below(&self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let (high, low) = self.uuid().as_u64_pair();
        (high ^ low) % bound
    }
}

/// The wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        chrono::Utc::now().timestamp_millis()
    }
}

/// Identifiers from the operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl IdGenerator for RandomIds {
    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }
}

/// Identifiers that follow from a seed: the same seed gives the same sequence.
#[derive(Debug)]
pub struct SeededIds {
    state: AtomicU64,
}

impl SeededIds {
    /// Starts the sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }

    /// The next 64 bits (SplitMix64 over a shared counter).
    pub fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl IdGenerator for SeededIds {
    fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(
            ((u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())).to_be_bytes(),
        )
        .into_uuid()
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: AtomicU64,
}

impl ManualClock {
    /// Stands at `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        Self { now_ms: AtomicU64::new(now_ms) }
    }

    /// Moves the clock forward.
    pub fn advance_ms(&self, by: u64) {
        self.now_ms.fetch_add(by, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.now_ms.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }
}

/// Asks a cache, without being woken by it when nothing more is to be done.
///
/// A cache tidies itself up by the wall clock, and then wakes the task that asked it, which is
/// polled once more for nothing: at a time that no seed decides, which shifts all that follows.
pub(crate) async fn from_cache<T>(answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    poll_fn(|context| match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        // Whatever it waits for must know whom to wake.
        Poll::Pending => answer.as_mut().poll(context),
        ready => ready,
    })
    .await
}

/// The clock and the identifiers that one table handle works with.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Where commit times come from.
    pub clock: Arc<dyn Clock>,
    /// Where snapshot ids, file names and jitter come from.
    pub ids: Arc<dyn IdGenerator>,
}

impl Default for Environment {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), ids: Arc::new(RandomIds) }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicU64);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_cache_that_has_answered_wakes_nobody_and_one_that_waits_does() {
        for (answers, woken) in [(true, 0), (false, 1)] {
            let wakes = Arc::new(Wakes::default());
            let cache = poll_fn(|context| {
                context.waker().wake_by_ref();
                if answers { Poll::Ready(()) } else { Poll::Pending }
            });
            let waker = Waker::from(wakes.clone());
            let polled = pin!(from_cache(cache)).poll(&mut Context::from_waker(&waker));
            assert_eq!((polled.is_ready(), wakes.0.load(Ordering::Relaxed)), (answers, woken));
        }
    }

    #[test]
    fn seeded_ids_repeat_for_one_seed_and_are_positive() {
        let (a, b) = (SeededIds::new(7), SeededIds::new(7));
        for _ in 0..100 {
            let id = a.snapshot_id();
            assert!(id >= 0);
            assert_eq!(id, b.snapshot_id());
        }
    }
}
