//! What a compaction did.

use std::fmt;

use serde::Serialize;

use crate::maintenance::Report;
use crate::spec::SnapshotId;

/// What a compaction did: the shared numbers, and its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CompactReport {
    /// What all actions report.
    #[serde(flatten)]
    pub report: Report,
    /// Position delete files that went with the data files that they were about.
    pub removed_delete_files: u64,
    /// Rows that others deleted by position meanwhile, translated to the new files.
    pub carried_deletes: u64,
    /// The snapshots that were committed, each with a few groups.
    pub snapshots: Vec<SnapshotId>,
}

impl fmt::Display for CompactReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report.fmt(f)?;
        if self.removed_delete_files > 0 {
            write!(
                f,
                "\n{} position delete files went with their data",
                self.removed_delete_files
            )?;
        }
        if self.carried_deletes > 0 {
            write!(f, "\n{} rows deleted meanwhile were carried over", self.carried_deletes)?;
        }
        Ok(())
    }
}
