//! Carries a plan out: one kind of content and spec after the other.

use std::collections::BTreeSet;

use super::cost::{PlanningCost, length};
use super::order::Partitions;
use super::plan::{ManifestGroup, kind_name, plan};
use super::report::RewrittenManifests;
use super::write::{Written, write};
use super::{ManifestPlan, ManifestReport, RewriteManifests};
use crate::error::{ErrorKind, Result};
use crate::maintenance::outcome::{check_plan, end, is_overtaken};
use crate::maintenance::{Failed, Report, Stopwatch, Totals, Unit};
use crate::spec::ManifestFile;
use crate::table::{Committed, Table};

/// Runs `plan`; see [`RewriteManifests::run_plan`].
#[tracing::instrument(name = "maintenance.rewrite_manifests", skip_all, err(level = "debug"),
    fields(table = %rewrite.table.ident(), groups = plan.groups.len()))]
pub(super) async fn run(rewrite: RewriteManifests, plan: ManifestPlan) -> Result<ManifestReport> {
    let watch = Stopwatch::start(&rewrite.table);
    check_plan((&plan.table, &plan.branch), &rewrite.table, &rewrite.options.branch)?;
    let report = Report::new("rewrite-manifests", &rewrite.table);
    let mut report = ManifestReport { report, ..ManifestReport::default() };
    let manifests: usize = plan.groups.iter().map(|g| g.manifests.len()).sum();
    rewrite.progress.begin("rewriting manifests", Unit::Files, Some(manifests as u64));
    let mut first = None;
    for group in plan.groups {
        if rewrite.progress.should_stop() {
            break;
        }
        let what = format!("{} of spec {}", kind_name(group.content), group.spec_id);
        if let Err(error) = rewrite.group(group, plan.target_size_bytes, &mut report).await {
            report.report.failed.push(Failed::new(what, &error));
            first = first.or(Some(error));
        }
    }
    let landed = !report.snapshots.is_empty();
    end(&mut report.report, &watch, &*rewrite.progress, first, landed)?;
    Ok(report)
}

impl RewriteManifests {
    /// Rewrites a group; plans it again while others are quicker (MNT-52).
    async fn group(
        &self,
        mut group: ManifestGroup,
        target_bytes: u64,
        report: &mut ManifestReport,
    ) -> Result<()> {
        let mut table = self.table.clone();
        let mut replans = 0;
        loop {
            let error = match self.attempt(&table, &group, target_bytes, report).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !is_overtaken(&error)
                || replans >= self.options.replans
                || self.progress.should_stop()
            {
                return Err(error);
            }
            tracing::debug!(%error, "planning a rewrite of manifests again");
            replans += 1;
            report.report.conflicts += 1;
            table = self.table.refresh().await?;
            let fresh = plan(&table, &self.options).await?;
            let is_same =
                |g: &ManifestGroup| g.content == group.content && g.spec_id == group.spec_id;
            match fresh.groups.into_iter().find(is_same) {
                Some(same) => group = same,
                None => return Ok(()),
            }
        }
    }

    async fn attempt(
        &self,
        table: &Table,
        group: &ManifestGroup,
        target_bytes: u64,
        report: &mut ManifestReport,
    ) -> Result<()> {
        let memory = self.options.memory_budget_bytes;
        let Some(written) = write(table, group, target_bytes, memory, &*self.progress).await?
        else {
            return Ok(());
        };
        let Written { manifests, cleanup } = written;
        // Sizes were estimated: small manifests that stay as many are left as they are (MNT-51).
        let helps = manifests.len() < group.manifests.len() || group.scattered;
        if !helps && !self.options.rewrite_all {
            cleanup.run().await;
            return Ok(());
        }
        // Who gives up while it commits does not know what becomes of the commit (MNT-52).
        cleanup.disarm();
        let removed: BTreeSet<String> = group.manifests.iter().cloned().collect();
        let commit = table.replace_manifests(removed, manifests.clone());
        let committed = match commit.branch(&self.options.branch).commit().await {
            Ok(committed) => committed,
            Err(error) => {
                // After an unknown outcome the manifests may be part of the table (MNT-52).
                if error.kind() != ErrorKind::CommitStateUnknown {
                    manifests.iter().for_each(|m| cleanup.paths().note(&m.manifest_path));
                    cleanup.run().await;
                }
                return Err(error);
            }
        };
        let after = Totals { rows: group.entries, ..totals(&manifests) };
        report.report.groups += 1;
        report.report.before += Totals { rows: group.entries, ..totals(&group.files) };
        report.report.after += after;
        report.snapshots.push(committed.snapshot_id);
        report.rewritten.push(RewrittenManifests {
            content: group.content,
            spec_id: group.spec_id,
            before: group.cost,
            after: cost_after(&committed, group).await?,
        });
        Ok(())
    }
}

fn totals(manifests: &[ManifestFile]) -> Totals {
    let bytes = manifests.iter().map(length).sum();
    Totals { files: manifests.len() as u64, rows: 0, bytes }
}

async fn cost_after(committed: &Committed, group: &ManifestGroup) -> Result<PlanningCost> {
    let Some(snapshot) = &committed.snapshot else { return Ok(PlanningCost::default()) };
    let all = committed.table.manifests(snapshot).await?;
    let same =
        |m: &&ManifestFile| m.content == group.content && m.partition_spec_id == group.spec_id;
    let same: Vec<ManifestFile> = all.iter().filter(same).cloned().collect();
    let partitions: &Partitions = &group.partitions;
    PlanningCost::of(&committed.table, group.spec_id, &same, partitions)
}
