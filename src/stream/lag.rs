//! How far a position is behind, from snapshot summaries alone.

use std::fmt;
use std::time::Duration;

use super::breaks::Breaks;
use super::resume::{Resumed, resume};
use super::timeline::Step;
use crate::error::Result;
use crate::spec::{Operation, Snapshot};
use crate::table::{Table, Token};

/// What a stream has still to deliver. A snapshot counts until all of it is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Snapshots.
    pub snapshots: u64,
    /// Data and delete files that they add or remove.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Rows that they add or remove; an update by key counts as two.
    pub rows: u64,
    /// How long the oldest of these snapshots has been waiting.
    pub behind: Duration,
}

impl Lag {
    /// True when nothing is left to deliver.
    pub fn is_caught_up(&self) -> bool {
        self.snapshots == 0
    }
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { snapshots, files, bytes, rows, behind } = self;
        let seconds = behind.as_secs_f64();
        write!(
            f,
            "{snapshots} snapshots, {files} files, {bytes} bytes, {rows} rows, {seconds:.1} s"
        )
    }
}

impl Table {
    /// How far a token is behind the head of a branch, as this version of the table knows it.
    /// Reads nothing.
    ///
    /// # Errors
    /// `InvalidInput` for a token of another table; `PositionExpired` and `HistoryRewritten`.
    pub fn stream_lag(&self, token: &Token, branch: &str) -> Result<Lag> {
        self.lag_over(token, branch, Breaks::default())
    }

    /// The same, over breaks in history that the stream bridges. A net difference counts as one
    /// snapshot; how much it holds is known only by reading it.
    pub(super) fn lag_over(&self, token: &Token, branch: &str, breaks: Breaks) -> Result<Lag> {
        token.check_table(self.metadata().uuid())?;
        let Resumed { timeline, resumes, .. } = resume(self, branch, token, breaks)?;
        let lowest = resumes.iter().map(|resume| resume.step).min().unwrap_or(0);
        let mut lag = Lag::default();
        let mut waiting_since = None;
        for step in timeline.steps().filter(|step| step.number >= lowest) {
            waiting_since.get_or_insert(step.commit.committed_at_ms);
            lag.add(step);
        }
        if let Some(since) = waiting_since {
            let waited = self.environment().clock.now_ms().saturating_sub(since);
            lag.behind = Duration::from_millis(u64::try_from(waited).unwrap_or(0));
        }
        Ok(lag)
    }
}

impl Lag {
    fn add(&mut self, step: &Step) {
        self.snapshots += 1;
        let snapshot = &step.snapshot;
        if step.commit.is_full {
            self.files += sum(snapshot, &["total-data-files"]);
            self.bytes += sum(snapshot, &["total-files-size"]);
            self.rows += sum(snapshot, &["total-records"]);
        } else if step.commit.net.is_none() && step.commit.operation != Operation::Replace {
            self.files +=
                sum(snapshot, &["added-data-files", "deleted-data-files", "added-delete-files"]);
            self.bytes += sum(snapshot, &["added-files-size", "removed-files-size"]);
            let rows = [
                "added-records",
                "deleted-records",
                "added-position-deletes",
                "added-equality-deletes",
            ];
            self.rows += sum(snapshot, &rows);
        }
    }
}

/// What a writer left out of its summary counts as nothing.
fn sum(snapshot: &Snapshot, names: &[&str]) -> u64 {
    let properties = &snapshot.summary().additional_properties;
    names.iter().filter_map(|name| properties.get(*name)?.parse::<u64>().ok()).sum()
}
