//! `branch`, `tag`, `rollback`: names for snapshots.

use clap::Args;

use super::failure::{Failure, Outcome};
use super::session::Session;
use super::terminal::say;
use super::time::time_ms;
use crate::error::{Error, ErrorKind};
use crate::spec::{MAIN_BRANCH, SnapshotId};
use crate::table::{At, RefUpdate, Table};

/// Make, move or drop a branch.
#[derive(Debug, Args)]
pub(super) struct Branch {
    /// NAMESPACE.TABLE
    table: String,
    /// The branch
    name: String,
    /// Where it starts; the head of main otherwise
    #[arg(long, value_name = "ID")]
    snapshot: Option<i64>,
    /// Drop it
    #[arg(long, conflicts_with_all = ["snapshot", "forward_to"])]
    drop: bool,
    /// Move it forward to a snapshot, branch or tag that descends from its head
    #[arg(long, value_name = "ID|REF", conflicts_with = "snapshot")]
    forward_to: Option<String>,
}

impl Branch {
    /// Changes the branch.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.table(&self.table).await?;
        let name = self.name;
        let (update, done) = if self.drop {
            (RefUpdate::Drop { name: name.clone() }, format!("dropped `{name}`"))
        } else if let Some(target) = &self.forward_to {
            let to = resolve(&table, target)?;
            (RefUpdate::FastForward { name: name.clone(), to }, format!("moved `{name}` to {to}"))
        } else {
            let snapshot = start(&table, self.snapshot)?;
            let done = format!("branch `{name}` starts at snapshot {snapshot}");
            (RefUpdate::CreateBranch { name, snapshot }, done)
        };
        table.update_ref(update).await?;
        say(done);
        Ok(())
    }
}

/// Make or drop a tag.
#[derive(Debug, Args)]
pub(super) struct Tag {
    /// NAMESPACE.TABLE
    table: String,
    /// The tag
    name: String,
    /// What it names; the head of main otherwise
    #[arg(long, value_name = "ID")]
    snapshot: Option<i64>,
    /// How long expiry keeps it, such as 90d; for ever otherwise
    #[arg(long, value_name = "DURATION")]
    keep: Option<String>,
    /// Drop it
    #[arg(long, conflicts_with_all = ["snapshot", "keep"])]
    drop: bool,
}

impl Tag {
    /// Changes the tag.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.table(&self.table).await?;
        let name = self.name;
        if self.drop {
            table.update_ref(RefUpdate::Drop { name: name.clone() }).await?;
            say(format!("dropped `{name}`"));
            return Ok(());
        }
        let keep = self.keep.as_deref().map(|text| {
            humantime::parse_duration(text)
                .map_err(|e| Failure::Usage(format!("--keep `{text}`: {e}")))
        });
        let max_ref_age_ms =
            keep.transpose()?.map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        let snapshot = start(&table, self.snapshot)?;
        table
            .update_ref(RefUpdate::CreateTag { name: name.clone(), snapshot, max_ref_age_ms })
            .await?;
        say(format!("tag `{name}` names snapshot {snapshot}"));
        Ok(())
    }
}

/// Rewind a branch to one of its ancestors.
#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// NAMESPACE.TABLE
    table: String,
    /// The snapshot to go back to
    #[arg(
        long,
        value_name = "ID",
        required_unless_present = "to_time",
        conflicts_with = "to_time"
    )]
    to_snapshot: Option<i64>,
    /// Back to what was current at this time
    #[arg(long, value_name = "TIME")]
    to_time: Option<String>,
    /// The branch to rewind
    #[arg(long, default_value = MAIN_BRANCH)]
    branch: String,
}

impl Rollback {
    /// Rewinds. Later snapshots stay until they expire.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.table(&self.table).await?;
        let at = match (self.to_snapshot, &self.to_time) {
            (Some(id), _) => At::Snapshot(SnapshotId(id)),
            (None, Some(time)) => At::TimeMs(time_ms(time)?),
            (None, None) => return Err(Failure::Usage("say --to-snapshot or --to-time".into())),
        };
        let Some(snapshot) = table.snapshot_at(&at)? else { return Err(empty(&table).into()) };
        let to = SnapshotId(snapshot.snapshot_id());
        table.update_ref(RefUpdate::Rollback { name: self.branch.clone(), to }).await?;
        say(format!("`{}` of `{}` is back at snapshot {to}", self.branch, table.ident()));
        Ok(())
    }
}

fn start(table: &Table, given: Option<i64>) -> Outcome<SnapshotId> {
    match (given, table.current_snapshot()) {
        (Some(id), _) => Ok(SnapshotId(id)),
        (None, Some(snapshot)) => Ok(SnapshotId(snapshot.snapshot_id())),
        (None, None) => Err(empty(table).into()),
    }
}

fn empty(table: &Table) -> Error {
    Error::new(ErrorKind::NotFound, format!("table `{}` has no snapshot yet", table.ident()))
        .with_hint("write to it first")
}

/// A snapshot by id, or by the branch or tag that names it.
fn resolve(table: &Table, text: &str) -> Outcome<SnapshotId> {
    if let Ok(id) = text.parse::<i64>() {
        return Ok(SnapshotId(id));
    }
    match table.snapshot_at(&At::Ref(text.to_string()))? {
        Some(snapshot) => Ok(SnapshotId(snapshot.snapshot_id())),
        None => Err(empty(table).into()),
    }
}
