//! The status line of a follower: how far behind, how far complete, how fast.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressFinish};

use crate::cli::terminal::line_style;
use crate::cli::time::show_ms;
use crate::stream::ChangeStream;

/// Drawn on stderr, if that is a terminal.
pub(super) struct Status {
    bar: ProgressBar,
    table: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rows: u64,
    at: Instant,
}

/// What the line says.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Standing {
    /// Snapshots that were not followed yet, and the age of the oldest.
    behind: Option<(u64, f64)>,
    watermark_ms: Option<i64>,
    rows: u64,
    rows_per_second: f64,
}

impl Status {
    /// Starts the line.
    pub(super) fn begin(table: &str) -> Self {
        let bar = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
        bar.set_style(line_style("{spinner} {wide_msg}"));
        bar.set_message(table.to_string());
        bar.enable_steady_tick(Duration::from_millis(120));
        let state = State { rows: 0, at: Instant::now() };
        Self { bar, table: table.to_string(), state: Mutex::new(state) }
    }

    /// The line, for whoever prints above it.
    pub(super) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    /// Says how the stream stands now, with `rows` written so far.
    pub(super) async fn show(&self, changes: &ChangeStream, rows: u64) {
        if self.bar.is_hidden() {
            return;
        }
        let lag = changes.lag().await.ok();
        let Ok(mut state) = self.state.lock() else { return };
        let elapsed = state.at.elapsed().as_secs_f64().max(1e-3);
        let standing = Standing {
            behind: lag.map(|lag| (lag.snapshots, lag.behind.as_secs_f64())),
            watermark_ms: changes.watermark(),
            rows,
            rows_per_second: rows.saturating_sub(state.rows) as f64 / elapsed,
        };
        (state.rows, state.at) = (rows, Instant::now());
        self.bar.set_message(format!("{}  {standing}", self.table));
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.behind {
            Some((0, _)) => write!(f, "up to date")?,
            Some((1, seconds)) => write!(f, "1 snapshot and {seconds:.1} s behind")?,
            Some((n, seconds)) => write!(f, "{n} snapshots and {seconds:.1} s behind")?,
            None => write!(f, "lag unknown")?,
        }
        if let Some(time) = self.watermark_ms {
            write!(f, " · complete through {}", show_ms(time))?;
        }
        write!(f, " · {} rows, {:.0}/s", self.rows, self.rows_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_lag_watermark_and_speed() {
        let standing = Standing {
            behind: Some((3, 1.26)),
            watermark_ms: Some(1_700_000_000_123),
            rows: 1200,
            rows_per_second: 300.4,
        };
        assert_eq!(
            standing.to_string(),
            "3 snapshots and 1.3 s behind · complete through 2023-11-14T22:13:20.123Z · 1200 rows, 300/s"
        );
        let idle = Standing { behind: Some((0, 0.0)), ..Standing::default() };
        assert_eq!(idle.to_string(), "up to date · 0 rows, 0/s");
    }
}
