//! One action on one table: what it would do, and doing it, within what is left of the hour.

use std::fmt::Display;
use std::sync::Arc;

use futures::FutureExt;
use serde::Serialize;

use super::run::Shared;
use super::trigger::Action;
use crate::error::Result;
use crate::maintenance::{
    Compact, CompactOptions, CompactPlan, ConvertDeletes, ConvertOptions, ConvertPlan, Expire,
    ExpireOptions, ManifestOptions, ManifestPlan, OrphanOptions, Progress, Report, RewriteDeletes,
    RewriteDeletesOptions, RewriteDeletesPlan, RewriteManifests,
};
use crate::table::Table;

/// An action that is due.
pub(super) struct Work<'a> {
    pub shared: &'a Shared,
    pub table: &'a Table,
    pub action: Action,
    /// Bytes that may still be rewritten in this hour; `None` without a limit.
    pub bytes_left: Option<u64>,
}

/// What an action would do.
pub(super) struct Planned {
    pub summary: String,
    /// Of the files that it would replace.
    pub bytes: u64,
}

/// What an action did.
pub(super) struct Done {
    pub summary: String,
    pub value: serde_json::Value,
    pub report: Report,
}

impl Done {
    fn new(report: &Report, whole: &(impl Serialize + Display)) -> Result<Self> {
        let value = serde_json::to_value(whole)?;
        Ok(Self { summary: whole.to_string(), value, report: report.clone() })
    }
}

impl Work<'_> {
    /// What a dry run says: the action's own plan, as a run would cut it.
    pub async fn plan(&self) -> Result<Planned> {
        let planned = |plan: &dyn Display, bytes| Planned { summary: plan.to_string(), bytes };
        Ok(match self.action {
            Action::ConvertDeletes => {
                let plan = self.conversion(&self.convert()).await?;
                planned(&plan, plan.groups.iter().map(|g| g.deletes.bytes).sum())
            }
            Action::RewritePositionDeletes => {
                let plan = self.merge(&self.rewrite_deletes()).await?;
                planned(&plan, plan.input().bytes)
            }
            Action::Compact => {
                let plan = self.compaction(&self.compact()).await?;
                planned(&plan, plan.input().bytes)
            }
            Action::RewriteManifests => {
                let plan = self.manifests(&self.rewrite_manifests()).await?;
                planned(&plan, plan.groups.iter().map(|g| g.bytes).sum())
            }
            Action::Expire => planned(&self.expire().plan().await?, 0),
            Action::RemoveOrphans => {
                let orphans = self.table.remove_orphans(OrphanOptions::default());
                planned(&orphans.plan().await?, 0)
            }
        })
    }

    /// Does it.
    pub async fn run(&self, progress: Arc<dyn Progress>) -> Result<Done> {
        match self.action {
            Action::ConvertDeletes => {
                let convert = self.convert().progress(progress);
                let plan = self.conversion(&convert).await?;
                let report = convert.run_plan(plan).boxed().await?;
                Done::new(&report.report, &report)
            }
            Action::RewritePositionDeletes => {
                let rewrite = self.rewrite_deletes().progress(progress);
                let plan = self.merge(&rewrite).await?;
                let report = rewrite.run_plan(plan).boxed().await?;
                Done::new(&report.report, &report)
            }
            Action::Compact => {
                let compact = self.compact().progress(progress);
                let plan = self.compaction(&compact).await?;
                let report = compact.run_plan(plan).boxed().await?;
                Done::new(&report.report, &report)
            }
            Action::RewriteManifests => {
                let rewrite = self.rewrite_manifests().progress(progress);
                let plan = self.manifests(&rewrite).await?;
                let report = rewrite.run_plan(plan).boxed().await?;
                Done::new(&report.report, &report)
            }
            Action::Expire => {
                let report = self.expire().progress(progress).run().boxed().await?;
                Done::new(&report.report, &report)
            }
            Action::RemoveOrphans => {
                let orphans = self.table.remove_orphans(OrphanOptions::default());
                let report = orphans.progress(progress).run().boxed().await?;
                Done::new(&report.report, &report)
            }
        }
    }

    fn branch(&self) -> String {
        self.shared.maintainer.branch.clone()
    }

    fn convert(&self) -> ConvertDeletes {
        let options = ConvertOptions { branch: self.branch(), ..ConvertOptions::default() };
        self.table.convert_equality_deletes(options)
    }

    async fn conversion(&self, convert: &ConvertDeletes) -> Result<ConvertPlan> {
        let mut plan = convert.plan().await?;
        shorten(&mut plan.groups, self.bytes_left, |group| group.deletes.bytes);
        Ok(plan)
    }

    fn rewrite_deletes(&self) -> RewriteDeletes {
        let branch = self.branch();
        let options = RewriteDeletesOptions { branch, ..RewriteDeletesOptions::default() };
        self.table.rewrite_position_deletes(options)
    }

    async fn merge(&self, rewrite: &RewriteDeletes) -> Result<RewriteDeletesPlan> {
        let mut plan = rewrite.plan().await?;
        shorten(&mut plan.groups, self.bytes_left, |group| group.deletes.bytes);
        Ok(plan)
    }

    fn compact(&self) -> Compact {
        let options = CompactOptions { branch: self.branch(), ..CompactOptions::default() };
        self.table.compact(options)
    }

    async fn compaction(&self, compact: &Compact) -> Result<CompactPlan> {
        let mut plan = compact.plan().await?;
        shorten(&mut plan.groups, self.bytes_left, |group| group.input.bytes);
        Ok(plan)
    }

    fn rewrite_manifests(&self) -> RewriteManifests {
        let options = ManifestOptions { branch: self.branch(), ..ManifestOptions::default() };
        self.table.rewrite_manifests(options)
    }

    async fn manifests(&self, rewrite: &RewriteManifests) -> Result<ManifestPlan> {
        let mut plan = rewrite.plan().await?;
        shorten(&mut plan.groups, self.bytes_left, |group| group.bytes);
        Ok(plan)
    }

    fn expire(&self) -> Expire {
        let expire = self.table.expire(ExpireOptions::default());
        match &self.shared.maintainer.positions {
            Some(positions) => expire.positions(positions.clone()),
            None => expire,
        }
    }
}

/// As many groups as fit into what is left of the hour; one at least, or a large one would never be.
fn shorten<G>(groups: &mut Vec<G>, bytes_left: Option<u64>, bytes_of: impl Fn(&G) -> u64) {
    let Some(left) = bytes_left else { return };
    let mut bytes = 0u64;
    let fits = groups.iter().take_while(|group| {
        bytes = bytes.saturating_add(bytes_of(group));
        bytes <= left
    });
    let fits = fits.count().max(1);
    groups.truncate(fits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_cut_to_what_is_left_of_the_hour_and_keeps_one_group() {
        let cut = |left| {
            let mut groups = vec![5, 3, 4];
            shorten(&mut groups, left, |bytes| *bytes);
            groups
        };
        assert_eq!(cut(None), [5, 3, 4]);
        assert_eq!(cut(Some(12)), [5, 3, 4]);
        assert_eq!(cut(Some(11)), [5, 3]);
        assert_eq!(cut(Some(1)), [5], "a large one must be done some time");
    }
}
