//! `remove-orphans`: files in a table's folder that nothing in the table names.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures::TryStreamExt;
use serde_json::json;

use super::action::{Watcher, finish, planned};
use super::failure::{Failure, Outcome};
use super::session::Session;
use super::terminal::{Listing, OutputFormat, print_json, say};
use super::time::show_ms;
use crate::maintenance::{OrphanFile, OrphanOptions, OrphanPlan, PrefixMismatch};

/// Remove files that nothing in the table names.
#[derive(Debug, Args)]
pub(super) struct RemoveOrphans {
    /// NAMESPACE.TABLE
    table: String,
    /// Younger files stay
    #[arg(long, value_name = "AGE", default_value = "3d", value_parser = humantime::parse_duration)]
    older_than: Duration,
    /// Take an age below 3 days: only when no writer is at work
    #[arg(long)]
    allow_younger: bool,
    /// Paths that the metadata names in another store
    #[arg(long, value_enum, default_value_t = Mismatch::Error)]
    prefix_mismatch: Mismatch,
    /// Two stores that are the same one, such as s3://a=s3://alias
    #[arg(long, value_name = "A=B")]
    equal_prefix: Vec<String>,
    /// Print what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mismatch {
    /// Stop and say so
    Error,
    /// They stay
    Ignore,
    /// They go
    Delete,
}

impl RemoveOrphans {
    /// Finds and removes. Ctrl-C stops between two files.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.table(&self.table).await?;
        let orphans =
            table.remove_orphans(self.options()?).progress(Arc::new(Watcher::new(session)));
        let plan = planned(session, orphans.plan()).await?;
        if self.dry_run {
            let listed = async { Ok(orphans.files(&plan)?.try_collect().await?) };
            let files: Vec<OrphanFile> = session.interrupt.or_stop(listed).await?;
            return show(session.output, &plan, &files);
        }
        let report = orphans.run_plan(&plan).await?;
        finish(session, &report.report, &report)
    }

    fn options(&self) -> Outcome<OrphanOptions> {
        let pair = |text: &String| match text.split_once('=') {
            Some((a, b)) if !a.is_empty() && !b.is_empty() => Ok((a.to_string(), b.to_string())),
            _ => Err(Failure::Usage(format!("--equal-prefix takes A=B, not `{text}`"))),
        };
        Ok(OrphanOptions {
            older_than: self.older_than,
            allow_younger: self.allow_younger,
            prefix_mismatch: match self.prefix_mismatch {
                Mismatch::Error => PrefixMismatch::Error,
                Mismatch::Ignore => PrefixMismatch::Ignore,
                Mismatch::Delete => PrefixMismatch::Delete,
            },
            equal_prefixes: self.equal_prefix.iter().map(pair).collect::<Outcome<_>>()?,
        })
    }
}

fn show(output: OutputFormat, plan: &OrphanPlan, files: &[OrphanFile]) -> Outcome {
    if output == OutputFormat::Json {
        let mut value = serde_json::to_value(plan).map_err(std::io::Error::from)?;
        value["files"] = serde_json::to_value(files).map_err(std::io::Error::from)?;
        return print_json(&value);
    }
    let mut listing = Listing::new(&["removes", "modified", "bytes"]);
    for file in files {
        let modified = show_ms(file.last_modified_ms);
        listing.push(vec![json!(file.location), json!(modified), json!(file.bytes)]);
    }
    if !files.is_empty() {
        listing.print(output)?;
    }
    say(plan.to_string());
    Ok(())
}
