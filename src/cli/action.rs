//! What the maintenance commands share: a progress bar that Ctrl-C can stop, the plan that a dry
//! run shows, and the report.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish};
use serde::Serialize;

use super::failure::{Failure, Outcome};
use super::session::{Interrupt, Session};
use super::terminal::{Listing, OutputFormat, line_style, print_json, say};
use crate::error::Error;
use crate::maintenance::{Progress, Report, Unit};

/// Draws progress on a terminal and stops the action on Ctrl-C.
#[derive(Debug)]
pub(super) struct Watcher {
    bar: ProgressBar,
    interrupt: Interrupt,
}

impl Watcher {
    /// Nothing is drawn before the action begins.
    pub(super) fn new(session: &Session) -> Self {
        let bar = ProgressBar::no_length().with_finish(ProgressFinish::AndClear);
        Self { bar, interrupt: session.interrupt.clone() }
    }
}

impl Progress for Watcher {
    fn begin(&self, phase: &'static str, unit: Unit, total: Option<u64>) {
        let template = match unit {
            Unit::Bytes => "{prefix} {wide_bar} {bytes}/{total_bytes} ({bytes_per_sec}, {eta})",
            Unit::Files => "{prefix} {wide_bar} {human_pos}/{human_len} files ({eta})",
        };
        self.bar.set_style(line_style(template));
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
        self.bar.set_position(0);
        self.bar.set_prefix(phase);
        self.bar.enable_steady_tick(Duration::from_millis(120));
    }

    fn advance(&self, units: u64) {
        self.bar.inc(units);
    }

    fn should_stop(&self) -> bool {
        self.interrupt.is_asked()
    }
}

/// Makes a plan, until Ctrl-C.
pub(super) async fn planned<P>(
    session: &Session,
    plan: impl Future<Output = crate::Result<P>>,
) -> Outcome<P> {
    session.interrupt.or_stop(async { Ok(plan.await?) }).await
}

/// Prints what a run would do: for people its groups as a listing, and its first line.
pub(super) fn show(
    session: &Session,
    plan: &(impl Serialize + std::fmt::Display),
    groups: Listing,
) -> Outcome {
    if session.output == OutputFormat::Json {
        return print_json(plan);
    }
    if !groups.is_empty() {
        groups.print(session.output)?;
    }
    say(plan.to_string().lines().next().unwrap_or_default());
    Ok(())
}

/// Prints what an action did. What failed in part, or was stopped, is no success: the report comes
/// first, then the reason for the exit code.
pub(super) fn finish(
    session: &Session,
    shared: &Report,
    whole: &(impl Serialize + std::fmt::Display),
) -> Outcome {
    match session.output {
        OutputFormat::Json => print_json(whole)?,
        OutputFormat::Table => say(whole.to_string()),
    }
    if shared.stopped {
        return Err(Failure::Stopped);
    }
    let Some(first) = shared.failed.first() else { return Ok(()) };
    let parts = shared.failed.len();
    Err(Error::new(first.kind, format!("{parts} parts of the work failed, the others are done"))
        .with_context("first", &first.error)
        .into())
}
