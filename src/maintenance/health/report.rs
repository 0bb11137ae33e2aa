//! What a look at a table gathers and concludes. Plain values.

use std::fmt;

use serde::Serialize;

use crate::maintenance::{HeldByStream, Totals};
use crate::spec::SnapshotId;

/// How urgent something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to do.
    Good,
    /// Readers pay little for it yet.
    Watch,
    /// Worth doing now.
    Act,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::Watch => "watch",
            Self::Act => "act",
        })
    }
}

/// What a verdict is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopicKind {
    /// Are data files of a good size?
    FileSizes,
    /// How many rows are dead but still read?
    DeletedRows,
    /// How many equality deletes does a scan carry along?
    EqualityDeletes,
    /// Are there many small position delete files, or such that reach nothing?
    PositionDeletes,
    /// Are manifests few and large?
    Manifests,
    /// Are there snapshots that may expire?
    Snapshots,
    /// Is the metadata file small?
    Metadata,
    /// Do named streams hold history back?
    Streams,
    /// Do writers commit too often?
    Commits,
}

impl fmt::Display for TopicKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::FileSizes => "file sizes",
            Self::DeletedRows => "deleted rows",
            Self::EqualityDeletes => "equality deletes",
            Self::PositionDeletes => "position deletes",
            Self::Manifests => "manifests",
            Self::Snapshots => "snapshots",
            Self::Metadata => "metadata",
            Self::Streams => "streams",
            Self::Commits => "commits",
        })
    }
}

/// A verdict with its reason, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topic {
    /// What it is about.
    pub topic: TopicKind,
    /// How urgent it is.
    pub verdict: Verdict,
    /// Why, in numbers.
    pub finding: String,
    /// The command to run.
    pub command: Option<String>,
    /// What its plan says it would change.
    pub gain: Option<String>,
}

/// Data files of a range of sizes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SizeClass {
    /// Files smaller than this; `None` for the last class.
    pub below_bytes: Option<u64>,
    /// How many.
    pub files: u64,
    /// Their size together.
    pub bytes: u64,
}

/// The data files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileFacts {
    /// All of them.
    pub all: Totals,
    /// Those smaller than 75 % of the target.
    pub small: Totals,
    /// The size that they should have.
    pub target_bytes: u64,
    /// By size, in powers of four.
    pub histogram: Vec<SizeClass>,
    /// Partitions with files.
    pub partitions: u64,
}

/// What `compact` would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CompactionFacts {
    /// What it rewrites.
    pub input: Totals,
    /// How many files that becomes, about.
    pub output_files: u64,
    /// Those rewritten for their deletes.
    pub for_deletes: u64,
}

/// What `convert-deletes` would do.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ConversionFacts {
    /// The equality deletes.
    pub deletes: Totals,
    /// Data files that a scan compares with them, each counted once a scope.
    pub data: Totals,
    /// Equality delete files that a data file is compared with, on average over all.
    pub files_per_data_file: f64,
}

/// What `rewrite-position-deletes` would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MergeFacts {
    /// The position delete files that it merges.
    pub input: Totals,
    /// The data files that they are about: each gets one delete file at most.
    pub data_files: u64,
    /// Delete files that reach no live row.
    pub dangling: Totals,
}

/// Deletes of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PartitionDeletes {
    /// Its path; empty for the whole table.
    pub partition: String,
    /// Rows in its data files.
    pub rows: u64,
    /// Its delete files.
    pub delete_files: u64,
    /// Rows deleted by position.
    pub position_deletes: u64,
    /// Keys deleted.
    pub equality_deletes: u64,
}

impl PartitionDeletes {
    /// Deletes per row.
    pub fn ratio(&self) -> f64 {
        ratio(self.position_deletes + self.equality_deletes, self.rows)
    }
}

/// The delete files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeleteFacts {
    /// Position delete files.
    pub positions: Totals,
    /// Equality delete files.
    pub equality: Totals,
    /// The partitions with the most deletes per row.
    pub worst: Vec<PartitionDeletes>,
}

/// The manifests of the snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ManifestFacts {
    /// Those of data files.
    pub data: u64,
    /// Those of delete files.
    pub deletes: u64,
    /// Their size together.
    pub bytes: u64,
    /// The size that they should have.
    pub target_bytes: u64,
    /// Data manifests that a partition is spread over, on average; 1 is best.
    pub per_partition: f64,
    /// The plan of `rewrite-manifests`; `None` for a table that cannot be written to.
    pub to_rewrite: Option<ManifestsToRewrite>,
}

/// What `rewrite-manifests` would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ManifestsToRewrite {
    /// The manifests that it takes.
    pub manifests: u64,
    /// How many they become, about.
    pub output_manifests: u64,
}

/// What is kept of the past.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HistoryFacts {
    /// Snapshots that the table keeps.
    pub snapshots: u64,
    /// Those that may expire; `None` where nothing may (`gc.enabled=false`, a table of a catalog
    /// that is out of reach).
    pub expirable: Option<u64>,
    /// Streams that hold more.
    pub held: Vec<HeldByStream>,
    /// Whether positions of streams were looked at.
    pub streams_known: bool,
    /// Size of the metadata file, if the store tells.
    pub metadata_bytes: Option<u64>,
    /// Earlier metadata files in the log.
    pub metadata_versions: u64,
}

/// Commits over time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CommitFacts {
    /// The oldest snapshot of the branch, in milliseconds since the epoch.
    pub first_ms: Option<i64>,
    /// Its newest.
    pub last_ms: Option<i64>,
    /// Commits in equal stretches from the first to the last.
    pub timeline: Vec<u64>,
    /// Half of the last hundred commits came sooner after the one before.
    pub usual_interval_ms: Option<i64>,
}

/// A table's state, and what to do about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HealthReport {
    /// The table.
    pub table: String,
    /// The branch that was looked at.
    pub branch: String,
    /// Its head; `None` for a table without commits.
    pub snapshot_id: Option<SnapshotId>,
    /// When it was looked at, in milliseconds since the epoch.
    pub at_ms: i64,
    /// Data files.
    pub files: FileFacts,
    /// Delete files.
    pub deletes: DeleteFacts,
    /// Manifests.
    pub manifests: ManifestFacts,
    /// Snapshots and metadata.
    pub history: HistoryFacts,
    /// Commits.
    pub commits: CommitFacts,
    /// The plan of `compact`; `None` for a table that cannot be written to.
    pub compaction: Option<CompactionFacts>,
    /// The plan of `convert-deletes`; `None` for a table that cannot be written to.
    pub conversion: Option<ConversionFacts>,
    /// The plan of `rewrite-position-deletes`; `None` for a table that cannot be written to.
    pub merge: Option<MergeFacts>,
    /// What all that means.
    pub topics: Vec<Topic>,
}

impl HealthReport {
    /// The worst verdict.
    pub fn verdict(&self) -> Verdict {
        self.topics.iter().map(|t| t.verdict).max().unwrap_or(Verdict::Good)
    }

    /// Deletes per row, of both kinds.
    pub fn delete_ratio(&self) -> f64 {
        let DeleteFacts { positions, equality, .. } = &self.deletes;
        ratio(positions.rows.saturating_add(equality.rows), self.files.all.rows)
    }
}

/// A share between 0 and 1; 0 of nothing.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        whole => (part as f64 / whole as f64).min(1.0),
    }
}
