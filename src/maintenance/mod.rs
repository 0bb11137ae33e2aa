//! How does a table stay fast? Actions that change its files and never its rows.
//!
//! Every action has one shape, and every arrow is a plain value that prints and serialises:
//!
//! ```text
//! table.action(options) ─plan→ plan ─run→ report
//! ```
//!
//! *Plan* reads metadata only; it is what `--dry-run` shows and exactly what a run does. *Run* works
//! in parallel within a budget, commits what is finished, tells its [`Progress`] and stops when
//! that asks it to. The *report* counts files, rows and bytes before and after ([`Report`]).
//! Rules: `format-spec/maintenance.md`.

mod batch;
mod compact;
mod convert;
mod expire;
#[cfg(test)]
mod fixture;
mod health;
mod maintain;
mod manifests;
mod orphans;
mod outcome;
mod partitions;
mod paths;
mod progress;
mod report;
mod rewrite_deletes;
mod sweep;
#[cfg(test)]
mod tests;
mod verify;

pub use compact::{
    Compact, CompactFile, CompactGroup, CompactOptions, CompactPlan, CompactReport, Reason, SortBy,
    SortColumn,
};
pub use convert::{ConvertDeletes, ConvertGroup, ConvertOptions, ConvertPlan, ConvertReport};
pub use expire::{
    Expire, ExpireOptions, ExpirePlan, ExpireReport, ExpiredSnapshot, FileKind, HeldByStream,
    UnusedFile,
};
pub use health::{
    CommitFacts, CompactionFacts, ConversionFacts, DeleteFacts, FileFacts, Health, HealthReport,
    HistoryFacts, ManifestFacts, ManifestsToRewrite, MergeFacts, PartitionDeletes, SizeClass,
    Topic, TopicKind, Verdict, verdicts,
};
pub use maintain::{
    Action, Due, MaintainEvent, MaintainOptions, MaintainReport, Maintainer, Trigger,
};
pub use manifests::{
    ManifestGroup, ManifestOptions, ManifestPlan, ManifestReport, PlanningCost, RewriteManifests,
    RewrittenManifests,
};
pub use orphans::{
    OrphanFile, OrphanOptions, OrphanPlan, OrphanReport, PrefixMismatch, RemoveOrphans,
};
pub use progress::{Progress, Unit};
pub use report::{Failed, Report, Stopwatch, Totals};
pub use rewrite_deletes::{
    DanglingDelete, RewriteDeletes, RewriteDeletesGroup, RewriteDeletesOptions, RewriteDeletesPlan,
    RewriteDeletesReport,
};
pub use verify::{Code, Finding, Severity, Verify, VerifyOptions, VerifyReport, VerifySnapshots};
