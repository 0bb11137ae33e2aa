//! What a rewrite of manifests did.

use std::fmt;

use serde::Serialize;

use super::cost::PlanningCost;
use super::plan::{kind, kind_name};
use crate::maintenance::Report;
use crate::spec::{ManifestContentType, SnapshotId};

/// What a rewrite of manifests did: the shared numbers, and its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ManifestReport {
    /// What all actions report; here files are manifests, and rows are their live entries.
    #[serde(flatten)]
    pub report: Report,
    /// What planning cost before and costs now, by kind of content and spec.
    pub rewritten: Vec<RewrittenManifests>,
    /// The snapshots that were committed.
    pub snapshots: Vec<SnapshotId>,
}

/// The manifests of one kind of content and one spec.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RewrittenManifests {
    /// What they list: `data` or `deletes`.
    #[serde(serialize_with = "kind")]
    pub content: ManifestContentType,
    /// The spec of their files.
    pub spec_id: i32,
    /// What planning cost before.
    pub before: PlanningCost,
    /// What it costs now; manifests that others added meanwhile count as well.
    pub after: PlanningCost,
}

impl fmt::Display for ManifestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { action, table, before, after, conflicts, .. } = &self.report;
        write!(f, "{action} {table}: ")?;
        match before.files + conflicts {
            0 => write!(f, "nothing was rewritten")?,
            _ => write!(
                f,
                "{} manifests with {} entries became {}, with {conflicts} conflicts",
                before.files, before.rows, after.files,
            )?,
        }
        write!(f, ", {}", self.report.took())?;
        for RewrittenManifests { content, spec_id, before, after } in &self.rewritten {
            let content = kind_name(*content);
            write!(f, "\n{content} of spec {spec_id}: {before}; now {after}")?;
        }
        self.report.failures(f)
    }
}
