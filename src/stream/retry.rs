//! Patience with stores and catalogs that do not answer.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind};
use crate::measure;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Counts how long something has not worked, and how long to wait before the next attempt.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    limit: Duration,
    since: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub fn new(limit: Duration) -> Self {
        Self { limit, since: None, pause: FIRST_PAUSE }
    }

    /// Something worked.
    pub fn reset(&mut self) {
        (self.since, self.pause) = (None, FIRST_PAUSE);
    }

    /// Waits before the next attempt. Gives the error back if it is of a kind that does not go
    /// away, or if nothing has worked for too long.
    pub async fn wait(&mut self, error: Error) -> Result<(), Error> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if error.kind() != ErrorKind::Unavailable {
            self.reset();
            return Err(error);
        }
        if since.elapsed() + self.pause > self.limit {
            self.reset();
            return Err(given_up(error, since.elapsed()));
        }
        measure::STREAM_RETRIES.add(&[], 1);
        tracing::warn!(%error, pause_ms = self.pause.as_millis() as u64, "no answer, trying again");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

fn given_up(error: Error, waited: Duration) -> Error {
    error.with_context("seconds tried", waited.as_secs()).with_further_hint(
        "nothing is lost: the stream goes on where it was, with the next poll or from its position",
    )
}
