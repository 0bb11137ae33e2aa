//! `maintain`: keeps tables in good health, once or for as long as it runs.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::failure::{Failure, Outcome};
use super::session::Session;
use super::terminal::{OutputFormat, one_line, say};
use crate::error::{Error, ErrorKind};
use crate::maintenance::{Action, MaintainEvent, MaintainReport, Maintainer};
use crate::spec::MAIN_BRANCH;

/// Watch tables and run the maintenance that they need, one process at a time per table.
///
/// What makes an action due: table properties `meltwater.maintain.*`, over them --set, below them
/// `[maintain]` of meltwater.toml. Settings: ACTION.files, ACTION.commits, ACTION.interval-ms and
/// ACTION.enabled for convert-deletes, rewrite-position-deletes, compact, rewrite-manifests, expire
/// and remove-orphans; enabled, delete-ratio, min-interval-ms, max-bytes-per-hour, lease-ms.
#[derive(Debug, Args)]
pub(super) struct Maintain {
    /// NAMESPACE.TABLE, a NAMESPACE, or a pattern such as 'sales.*' or '*'
    #[arg(required = true)]
    tables: Vec<String>,
    /// Look at each table once and return
    #[arg(long)]
    once: bool,
    /// Print what would run now and why, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The branch whose files are rewritten; snapshots expire and orphans go for the whole table
    #[arg(long, default_value = MAIN_BRANCH)]
    branch: String,
    /// Only these actions
    #[arg(long, value_name = "ACTION,…", value_delimiter = ',', value_parser = action)]
    only: Vec<Action>,
    /// A setting that wins over table properties, such as compact.files=50
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Where named streams keep their positions [default: meltwater-positions beside the SQLite
    /// catalog]
    #[arg(long, value_name = "DIR")]
    positions: Option<PathBuf>,
}

fn action(name: &str) -> Result<Action, String> {
    Action::of(name).ok_or_else(|| {
        format!("there is no such action; there are {}", Action::ALL.map(Action::as_str).join(", "))
    })
}

impl Maintain {
    /// Prints one line an event. Ctrl-C stops after the current commit.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let output = session.output;
        let mut maintainer = Maintainer::new(session.catalog(false).await?, &self.tables)
            .options(session.maintain_options()?)
            .branch(&self.branch)
            .on_event(move |event| print(event, output));
        for setting in &self.set {
            let Some((name, value)) = setting.split_once('=') else {
                return Err(Failure::Usage(format!("--set takes NAME=VALUE, not `{setting}`")));
            };
            maintainer = maintainer.set(name, value)?;
        }
        if !self.only.is_empty() {
            maintainer = maintainer.only(self.only);
        }
        match session.positions("", self.positions.as_deref()) {
            Ok(positions) => maintainer = maintainer.positions(positions),
            Err(error) if self.positions.is_some() => return Err(error),
            Err(_) => say("no positions of streams were looked at; --positions names their folder"),
        }
        let stop = {
            let interrupt = session.interrupt.clone();
            async move { interrupt.asked().await }
        };
        if self.dry_run {
            return done(&maintainer.dry_run().await?);
        }
        if self.once {
            return done(&maintainer.once_until(stop).await?);
        }
        let report = maintainer.run(stop).await?;
        say(format!("stopped: {} actions ran, {} failed", report.ran, report.failed));
        Ok(())
    }
}

/// A single round that failed in part is no success.
fn done(report: &MaintainReport) -> Outcome {
    let MaintainReport { ran, would_run, skipped, failed, failure } = report;
    say(format!("{ran} actions ran, {would_run} would run, {skipped} skipped, {failed} failed"));
    match failed {
        0 => Ok(()),
        failed => {
            let times = if *failed == 1 { "once".to_string() } else { format!("{failed} times") };
            let kind = failure.unwrap_or(ErrorKind::Unavailable);
            Err(Error::new(kind, format!("maintenance failed {times}"))
                .with_hint("the lines above say where, why and what to do")
                .into())
        }
    }
}

/// A line on stdout. A reader that left does not stop the work.
fn print(event: &MaintainEvent, output: OutputFormat) {
    let line = match output {
        OutputFormat::Json => serde_json::to_string(event).unwrap_or_default(),
        OutputFormat::Table => one_line(&event.to_string()),
    };
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
