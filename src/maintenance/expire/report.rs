//! What an expiry would do, and what it did.

use std::fmt;

use serde::Serialize;

use super::files::{FileKind, Side, UnusedFile};
use super::retain::Decision;
use crate::maintenance::sweep::Disposable;
use crate::maintenance::{Report, Totals};
use crate::spec::{SnapshotId, snapshots_of};
use crate::table::Table;

/// A snapshot that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExpiredSnapshot {
    /// Its id.
    pub snapshot_id: i64,
    /// When it was committed, in milliseconds since the epoch.
    pub committed_at_ms: i64,
    /// What it did, such as `append`.
    pub operation: String,
}

/// A named stream that keeps snapshots from expiring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldByStream {
    /// Its name.
    pub stream: String,
    /// How many snapshots stay because of it.
    pub snapshots: usize,
}

/// What an expiry would remove, oldest first.
#[derive(Debug, Clone, Serialize)]
pub struct ExpirePlan {
    /// The table.
    pub table: String,
    /// The version it was planned on.
    pub metadata_location: String,
    /// Snapshots that go.
    pub snapshots: Vec<ExpiredSnapshot>,
    /// Branches and tags that are too old.
    pub refs: Vec<String>,
    /// What would go too, but for a stream.
    pub held: Vec<HeldByStream>,
    /// How many snapshots stay.
    pub kept: usize,
    #[serde(skip)]
    pub(super) on: Table,
}

impl ExpirePlan {
    pub(super) fn new(table: &Table, decision: &Decision) -> Self {
        let mut snapshots = snapshots_of(table.metadata());
        snapshots.retain(|s| decision.snapshots.contains(&s.snapshot_id()));
        let held = decision.held.iter();
        Self {
            table: table.ident().to_string(),
            metadata_location: table.metadata_location().to_string(),
            kept: table.metadata().snapshots().len() - snapshots.len(),
            snapshots: snapshots
                .into_iter()
                .map(|s| ExpiredSnapshot {
                    snapshot_id: s.snapshot_id(),
                    committed_at_ms: s.timestamp_ms(),
                    operation: s.summary().operation.as_str().to_string(),
                })
                .collect(),
            refs: decision.refs.iter().cloned().collect(),
            held: held
                .map(|(stream, n)| HeldByStream { stream: stream.clone(), snapshots: *n })
                .collect(),
            on: table.clone(),
        }
    }

    /// True when nothing goes.
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.refs.is_empty()
    }

    /// What goes and what stays of the version that was planned on.
    pub(super) fn split(&self) -> (Side, Side) {
        let gone: std::collections::HashSet<i64> =
            self.snapshots.iter().map(|s| s.snapshot_id).collect();
        let metadata = self.on.metadata();
        (Side::of(metadata, |id| gone.contains(&id)), Side::of(metadata, |id| !gone.contains(&id)))
    }
}

/// One line, and one for each ref and each stream that holds snapshots.
impl fmt::Display for ExpirePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expire {}: {} snapshots go, {} stay",
            self.table,
            self.snapshots.len(),
            self.kept
        )?;
        self.refs.iter().try_for_each(|name| write!(f, "\n`{name}` is too old and goes"))?;
        self.held.iter().try_for_each(|held| {
            write!(f, "\nstream `{}` holds {} snapshots", held.stream, held.snapshots)
        })
    }
}

/// What an expiry did: the shared numbers, of the files that are gone, and its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ExpireReport {
    /// Files, rows and bytes, and what could not be removed.
    #[serde(flatten)]
    pub report: Report,
    /// Snapshots that went.
    pub snapshots: Vec<SnapshotId>,
    /// Branches and tags that went.
    pub refs: Vec<String>,
    /// Streams that held snapshots back.
    pub held: Vec<HeldByStream>,
    /// Data files removed.
    pub data_files: u64,
    /// Position delete files removed.
    pub position_delete_files: u64,
    /// Equality delete files removed.
    pub equality_delete_files: u64,
    /// Manifests removed.
    pub manifests: u64,
    /// Manifest lists removed.
    pub manifest_lists: u64,
    /// Statistics files removed.
    pub statistics_files: u64,
}

impl ExpireReport {
    pub(super) fn new(report: Report, plan: &ExpirePlan) -> Self {
        Self {
            report: Report { groups: u64::from(!plan.is_empty()), ..report },
            snapshots: plan.snapshots.iter().map(|s| SnapshotId(s.snapshot_id)).collect(),
            refs: plan.refs.clone(),
            held: plan.held.clone(),
            ..Self::default()
        }
    }

    pub(super) fn count(&mut self, file: &UnusedFile) {
        let count = match file.kind {
            FileKind::Data => &mut self.data_files,
            FileKind::PositionDeletes => &mut self.position_delete_files,
            FileKind::EqualityDeletes => &mut self.equality_delete_files,
            FileKind::Manifest => &mut self.manifests,
            FileKind::ManifestList => &mut self.manifest_lists,
            FileKind::Statistics => &mut self.statistics_files,
        };
        *count += 1;
        self.report.before += Totals { files: 1, rows: file.rows, bytes: file.bytes };
    }
}

impl Disposable for UnusedFile {
    fn location(&self) -> &str {
        &self.location
    }
}

impl fmt::Display for ExpireReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { report, .. } = self;
        write!(
            f,
            "expire {}: {} snapshots and {} refs went, with {} (data {}, position deletes {}, \
             equality deletes {}, manifests {}, lists {}, statistics {}), {}.{:03} s{}",
            report.table,
            self.snapshots.len(),
            self.refs.len(),
            report.before,
            self.data_files,
            self.position_delete_files,
            self.equality_delete_files,
            self.manifests,
            self.manifest_lists,
            self.statistics_files,
            report.duration_ms / 1000,
            report.duration_ms % 1000,
            if report.stopped { " (stopped; the rest are orphans)" } else { "" },
        )?;
        for held in &self.held {
            write!(f, "\nstream `{}` holds {} snapshots", held.stream, held.snapshots)?;
        }
        report.failures(f)
    }
}
