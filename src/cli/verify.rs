//! `verify`: is everything there that the table promises, and true?

use std::io::Write;
use std::sync::Arc;

use clap::Args;

use super::action::Watcher;
use super::failure::{Failure, Outcome};
use super::session::Session;
use super::terminal::{OutputFormat, one_line, print_json, say, stdout};
use crate::error::{Error, ErrorKind};
use crate::maintenance::{VerifyOptions, VerifyReport, VerifySnapshots};
use crate::spec::SnapshotId;
use crate::table::Table;

/// Check that all files of a table are there and hold what its metadata says; changes nothing.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// NAMESPACE.TABLE, a table folder or a metadata file
    table: String,
    /// Read the rows too: bounds and partitions against values, position deletes against data files
    #[arg(long)]
    deep: bool,
    /// Only this snapshot [default: the heads of all branches and tags]
    #[arg(long, value_name = "ID", conflicts_with = "all_snapshots")]
    snapshot: Option<i64>,
    /// Every snapshot that the table has
    #[arg(long)]
    all_snapshots: bool,
}

impl Verify {
    /// Prints what is wrong. Errors make exit code 1, notices and warnings do not.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let report = match session.readable(&self.table).await {
            Ok(table) => self.check(session, &table).await?,
            Err(Failure::Failed(error)) if is_of_metadata(&error) => {
                VerifyReport::unreadable(&session.storage(), &self.table, &error).await
            }
            Err(other) => return Err(other),
        };
        print(&report, session.output)?;
        if report.stopped {
            return Err(Failure::Interrupted);
        }
        if report.is_sound() {
            return Ok(());
        }
        let words = format!("table `{}` is damaged: errors found: {}", self.table, report.errors);
        Err(Error::corrupt(words).with_hint("each finding names its next step").into())
    }

    async fn check(&self, session: &Session, table: &Table) -> Outcome<VerifyReport> {
        let snapshots = match self.snapshot {
            Some(id) => VerifySnapshots::One(SnapshotId(id)),
            None if self.all_snapshots => VerifySnapshots::All,
            None => VerifySnapshots::Heads,
        };
        let options = VerifyOptions { snapshots, deep: self.deep, ..VerifyOptions::default() };
        Ok(table.verify(options).progress(Arc::new(Watcher::new(session))).run().await?)
    }
}

/// The table is known, but its metadata file is gone or broken: a finding, not a wrong name.
fn is_of_metadata(error: &Error) -> bool {
    let names_a_file =
        || error.context().any(|(key, _)| matches!(key, "location" | "metadata file"));
    match error.kind() {
        ErrorKind::CorruptData => true,
        ErrorKind::NotFound => names_a_file(),
        _ => false,
    }
}

fn print(report: &VerifyReport, output: OutputFormat) -> Outcome {
    if output == OutputFormat::Json {
        return print_json(report);
    }
    let mut out = stdout();
    for finding in &report.findings {
        // Paths come from the table: they must not steer the terminal.
        for line in finding.to_string().lines() {
            writeln!(out, "{}", one_line(line))?;
        }
    }
    out.flush()?;
    say(report.summary());
    Ok(())
}
