//! How often and how patiently a commit is tried again.

use std::time::Duration;

use crate::clock::Environment;
use crate::error::Result;
use crate::spec::{TableProperties, property};

/// The retry settings of one table: exponential from `min_wait` to `max_wait` with up to a
/// tenth of jitter, until the retries or the total time are used up.
///
/// The total is counted in planned waits, not in wall time, so that a simulation repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    retries: u32,
    min_wait: Duration,
    max_wait: Duration,
    total: Duration,
}

impl RetryPolicy {
    /// Reads `commit.retry.*`; the defaults are 4 retries, 100 ms to 60 s, 30 min in all.
    pub(crate) fn from_properties(properties: &TableProperties<'_>) -> Result<Self> {
        let retries = properties.number(property::COMMIT_RETRIES, 4)?;
        Ok(Self {
            retries: u32::try_from(retries).unwrap_or(u32::MAX),
            min_wait: properties.millis(property::COMMIT_MIN_WAIT_MS, 100)?,
            max_wait: properties.millis(property::COMMIT_MAX_WAIT_MS, 60_000)?,
            total: properties.millis(property::COMMIT_TOTAL_MS, 1_800_000)?,
        })
    }

    /// Starts counting.
    pub(crate) fn start(&self) -> Backoff<'_> {
        Backoff { policy: self, attempts: 0, waited: Duration::ZERO }
    }
}

/// One operation's walk through its retries.
#[derive(Debug)]
pub(crate) struct Backoff<'a> {
    policy: &'a RetryPolicy,
    attempts: u32,
    waited: Duration,
}

impl Backoff<'_> {
    /// Waits before the next attempt; false when none is left.
    pub(crate) async fn wait(&mut self, environment: &Environment) -> bool {
        if self.attempts >= self.policy.retries || self.waited >= self.policy.total {
            return false;
        }
        let factor = 2u32.saturating_pow(self.attempts.min(20));
        let wait = self.policy.min_wait.saturating_mul(factor).min(self.policy.max_wait);
        let tenth = u64::try_from(wait.as_micros() / 10).unwrap_or(u64::MAX);
        let wait = wait + Duration::from_micros(environment.ids.below(tenth));
        self.attempts += 1;
        self.waited += wait;
        tokio::time::sleep(wait).await;
        true
    }

    /// Attempts made so far, the first included.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempts + 1
    }
}
