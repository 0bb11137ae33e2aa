//! What a rewrite of position deletes did.

use std::fmt;

use serde::Serialize;

use crate::maintenance::{Report, Totals};
use crate::spec::SnapshotId;

/// What a rewrite of position deletes did: the shared numbers, and its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RewriteDeletesReport {
    /// What all actions report: position delete files that were merged, and what they became. A
    /// group is a data file, or several that shared deletes.
    #[serde(flatten)]
    pub report: Report,
    /// Position delete files that named no live data file.
    pub dangling_position_deletes: Totals,
    /// Equality delete files with no older data in their scope.
    pub dangling_equality_deletes: Totals,
    /// The snapshots that were committed.
    pub snapshots: Vec<SnapshotId>,
}

impl fmt::Display for RewriteDeletesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report.fmt(f)?;
        for (kind, totals) in [
            ("position", self.dangling_position_deletes),
            ("equality", self.dangling_equality_deletes),
        ] {
            if totals.files > 0 {
                write!(f, "\nremoved {totals} of {kind} deletes that deleted nothing")?;
            }
        }
        Ok(())
    }
}
