//! Exactly-once commits: a writer's epoch is committed at most once (CMT-7).
//!
//! A commit with `(writer id, epoch)` records both in the snapshot's summary and, in the same
//! atomic swap, in a table property keyed by writer and branch. The property survives expiry of
//! the snapshot; a counter that every rollback of ours bumps tells "expired" from "rewound".

use std::collections::HashMap;

use crate::error::{Error, ErrorKind, Result};
use crate::spec::{SnapshotId, SnapshotRef, TableUpdate};

use super::Table;
use super::summary::key;

/// How long the property of a writer that committed nothing more is kept.
const KEEP_MS: i64 = 30 * 24 * 3600 * 1000;

/// Who commits, and which of its commits this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WriterEpoch {
    pub(crate) writer: String,
    pub(crate) epoch: u64,
}

/// What the table knows about an epoch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EpochState {
    /// Not committed: go on.
    New,
    /// Committed by this snapshot, which is still there.
    Done(SnapshotRef),
    /// Committed by a snapshot that has expired since.
    DoneAndExpired(SnapshotId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Marker {
    epoch: u64,
    snapshot: i64,
    at_ms: i64,
    rollbacks: u64,
}

impl Marker {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',').map(str::trim);
        let mut field = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=');
        Some(Self {
            epoch: field("epoch")?.parse().ok()?,
            snapshot: field("snapshot")?.parse().ok()?,
            at_ms: field("at")?.parse().ok()?,
            rollbacks: field("rollbacks")?.parse().ok()?,
        })
    }

    fn text(&self) -> String {
        let Self { epoch, snapshot, at_ms, rollbacks } = self;
        format!("epoch={epoch},snapshot={snapshot},at={at_ms},rollbacks={rollbacks}")
    }
}

/// Looks the epoch up on the base that is about to be committed to.
///
/// # Errors
/// `ValidationFailed` when the epoch's snapshot is gone and the branch was rolled back since:
/// nobody can tell whether its rows are in the table.
pub(crate) fn look_up(
    base: &Table,
    branch: &str,
    head: Option<&SnapshotRef>,
    id: &WriterEpoch,
) -> Result<EpochState> {
    if let Some(head) = head {
        let same = |s: &&SnapshotRef| {
            let properties = &s.summary().additional_properties;
            properties.get(key::WRITER_ID) == Some(&id.writer)
                && properties.get(key::EPOCH) == Some(&id.epoch.to_string())
        };
        if let Some(done) = base.ancestors(SnapshotId(head.snapshot_id())).find(same) {
            return Ok(EpochState::Done(done.clone()));
        }
    }
    let properties = base.metadata().properties();
    let name = property_name(&id.writer, branch);
    let Some(marker) = properties.get(&name).and_then(|text| Marker::parse(text)) else {
        return Ok(EpochState::New);
    };
    if id.epoch > marker.epoch {
        return Ok(EpochState::New);
    }
    let still_there = base.metadata().snapshot_by_id(marker.snapshot).is_some();
    if id.epoch == marker.epoch && still_there {
        return Ok(EpochState::New); // kept, but no ancestor: it was rolled back
    }
    if marker.rollbacks == rollbacks(base, branch) {
        return Ok(EpochState::DoneAndExpired(SnapshotId(marker.snapshot)));
    }
    Err(Error::new(
        ErrorKind::ValidationFailed,
        format!(
            "whether epoch {} of writer `{}` is in branch `{branch}` cannot be told: its snapshot \
             expired and the branch was rolled back since",
            id.epoch, id.writer
        ),
    )
    .with_context("last_epoch", marker.epoch)
    .with_hint("check the rows, then go on with an epoch above the last one"))
}

/// The property updates that record an epoch, and clean up after writers long gone.
pub(crate) fn record(
    base: &Table,
    branch: &str,
    id: &WriterEpoch,
    snapshot: SnapshotId,
    now_ms: i64,
) -> Vec<TableUpdate> {
    let own = property_name(&id.writer, branch);
    let marker = Marker {
        epoch: id.epoch,
        snapshot: snapshot.0,
        at_ms: now_ms,
        rollbacks: rollbacks(base, branch),
    };
    let mut updates =
        vec![TableUpdate::SetProperties { updates: HashMap::from([(own.clone(), marker.text())]) }];
    let mut stale: Vec<String> = base
        .metadata()
        .properties()
        .iter()
        .filter(|(name, _)| name.starts_with(key::WRITER_PREFIX) && **name != own)
        .filter(|(_, text)| Marker::parse(text).is_some_and(|m| now_ms - m.at_ms > KEEP_MS))
        .filter(|(name, _)| !still_commits(base, name, now_ms, id))
        .map(|(name, _)| name.clone())
        .collect();
    if !stale.is_empty() {
        stale.sort_unstable();
        updates.push(TableUpdate::RemoveProperties { removals: stale });
    }
    updates
}

/// Whether the writer of a stale property committed recently on some branch.
fn still_commits(base: &Table, stale: &str, now_ms: i64, current: &WriterEpoch) -> bool {
    let Some(writer) = writer_of(stale) else { return true };
    let recent = |(name, text): (&String, &String)| {
        writer_of(name) == Some(writer)
            && Marker::parse(text).is_some_and(|m| now_ms - m.at_ms <= KEEP_MS)
    };
    writer == current.writer || base.metadata().properties().iter().any(recent)
}

/// How often the branch was rewound by us.
pub(crate) fn rollbacks(base: &Table, branch: &str) -> u64 {
    let name = format!("{}{branch}", key::ROLLBACKS_PREFIX);
    base.metadata().properties().get(&name).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The update that counts one more rollback.
pub(crate) fn count_rollback(base: &Table, branch: &str) -> TableUpdate {
    let name = format!("{}{branch}", key::ROLLBACKS_PREFIX);
    let count = (rollbacks(base, branch) + 1).to_string();
    TableUpdate::SetProperties { updates: HashMap::from([(name, count)]) }
}

/// For a branch that is dropped or made anew: what the properties of writers say is about the old
/// one, so that nothing is known of its expired epochs any more. `None` where no writer was.
pub(crate) fn disown(base: &Table, branch: &str) -> Option<TableUpdate> {
    let mut names = base.metadata().properties().keys();
    names.any(|name| branch_of(name) == Some(branch)).then(|| count_rollback(base, branch))
}

/// The length of the writer's name goes first, so that dots in names cannot confuse.
fn property_name(writer: &str, branch: &str) -> String {
    format!("{}{}.{writer}.{branch}", key::WRITER_PREFIX, writer.len())
}

fn writer_of(property: &str) -> Option<&str> {
    parts_of(property).map(|(writer, _)| writer)
}

fn branch_of(property: &str) -> Option<&str> {
    parts_of(property)?.1.strip_prefix('.')
}

fn parts_of(property: &str) -> Option<(&str, &str)> {
    let (length, rest) = property.strip_prefix(key::WRITER_PREFIX)?.split_once('.')?;
    rest.split_at_checked(length.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_read_back_and_garbage_is_no_marker() {
        let marker = Marker { epoch: 7, snapshot: 42, at_ms: 1000, rollbacks: 2 };
        assert_eq!(Marker::parse(&marker.text()), Some(marker));
        assert_eq!(Marker::parse("epoch=7,snapshot=x"), None);
    }

    #[test]
    fn writers_with_dots_keep_their_names() {
        let name = property_name("a.b", "main.c");
        assert_eq!((writer_of(&name), branch_of(&name)), (Some("a.b"), Some("main.c")));
    }
}
