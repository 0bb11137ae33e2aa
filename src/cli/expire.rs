//! `expire`: old snapshots go, and the files that only they needed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::TryStreamExt;
use serde_json::json;

use super::action::{Watcher, finish};
use super::failure::Outcome;
use super::session::Session;
use super::terminal::{Listing, OutputFormat, print_json, say};
use super::time::show_ms;
use crate::maintenance::{Expire, ExpireOptions, ExpirePlan, UnusedFile};
use crate::spec::SnapshotId;

/// Remove old snapshots and the files that only they needed.
#[derive(Debug, Args)]
pub(super) struct ExpireSnapshots {
    /// NAMESPACE.TABLE
    table: String,
    /// Snapshots older than this go, such as 5d [default: the table's setting, or 5d]
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// So many snapshots of each branch stay [default: the table's setting, or 1]
    #[arg(long, value_name = "N")]
    retain_last: Option<usize>,
    /// This snapshot goes; several may be named. Alone: only these
    #[arg(long = "snapshot", value_name = "ID")]
    snapshots: Vec<i64>,
    /// Where named streams keep their positions [default: meltwater-positions beside the SQLite
    /// catalog]
    #[arg(long, value_name = "DIR")]
    positions: Option<PathBuf>,
    /// Go past the positions of named streams, which then cannot resume
    #[arg(long)]
    pass_streams: bool,
    /// Leave the files for another tool
    #[arg(long)]
    keep_files: bool,
    /// Print what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

impl ExpireSnapshots {
    /// Expires. Ctrl-C stops the deletion of files; what is left are orphans.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.table(&self.table).await?;
        let options = ExpireOptions {
            older_than: self.older_than,
            retain_last: self.retain_last,
            snapshots: self.snapshots.iter().map(|id| SnapshotId(*id)).collect(),
            keep_files: self.keep_files,
            pass_streams: self.pass_streams,
            ..ExpireOptions::default()
        };
        let mut expire = table.expire(options).progress(Arc::new(Watcher::new(session)));
        match session.positions(&self.table, self.positions.as_deref()) {
            Ok(positions) => expire = expire.positions(positions),
            Err(error) if self.positions.is_some() => return Err(error),
            Err(_) if self.pass_streams => {}
            Err(_) => say("no positions of streams were looked at; --positions names their folder"),
        }
        if self.dry_run {
            return show(session, &expire).await;
        }
        let report = expire.run().await?;
        finish(session, &report.report, &report)
    }
}

async fn show(session: &Session, expire: &Expire) -> Outcome {
    let work = async {
        let plan = expire.plan().await?;
        let files: Vec<UnusedFile> = expire.files(&plan).try_collect().await?;
        Ok((plan, files))
    };
    let (plan, files) = session.interrupt.or_stop(work).await?;
    if session.output == OutputFormat::Json {
        let mut value = serde_json::to_value(&plan).map_err(std::io::Error::from)?;
        value["files"] = serde_json::to_value(&files).map_err(std::io::Error::from)?;
        return print_json(&value);
    }
    print_plan(&plan, &files)
}

fn print_plan(plan: &ExpirePlan, files: &[UnusedFile]) -> Outcome {
    let mut listing = Listing::new(&["removes", "what", "committed", "rows", "bytes"]);
    for snapshot in &plan.snapshots {
        listing.push(vec![
            json!("snapshot"),
            json!(snapshot.snapshot_id.to_string()),
            json!(show_ms(snapshot.committed_at_ms)),
            json!(null),
            json!(null),
        ]);
    }
    for file in files {
        let kind = serde_json::to_value(file.kind).map_err(std::io::Error::from)?;
        let size = if file.bytes > 0 { json!(file.bytes) } else { json!(null) };
        listing.push(vec![kind, json!(file.location), json!(null), json!(file.rows), size]);
    }
    if !plan.snapshots.is_empty() {
        listing.print(OutputFormat::Table)?;
    }
    say(format!("{plan}\n{} files would go", files.len()));
    Ok(())
}
