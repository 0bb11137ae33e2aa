//! `rewrite-manifests`: few manifests, each about a few partitions.

use std::sync::Arc;

use bytesize::ByteSize;
use clap::Args;
use serde_json::json;

use super::action::{Watcher, finish, planned, show};
use super::failure::Outcome;
use super::session::Session;
use super::size::size;
use super::terminal::Listing;
use crate::maintenance::{ManifestOptions, ManifestPlan};
use crate::spec::MAIN_BRANCH;

/// Put the entries of a partition side by side in manifests of a good size, so that scans plan
/// fast; files and rows stay what they are.
#[derive(Debug, Args)]
pub(super) struct RewriteManifests {
    /// NAMESPACE.TABLE
    table: String,
    /// The branch to work on
    #[arg(long, default_value = MAIN_BRANCH)]
    branch: String,
    /// Only manifests of this partition spec
    #[arg(long, value_name = "ID")]
    spec: Option<i32>,
    /// Size of a new manifest, such as 8MB [default: commit.manifest.target-size-bytes]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    target_size: Option<ByteSize>,
    /// Rewrite every manifest
    #[arg(long)]
    all: bool,
    /// Memory for entries; more of them are read in several passes
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    memory: ByteSize,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl RewriteManifests {
    /// One commit for data, one for deletes, spec by spec. Ctrl-C stops between two manifests:
    /// what was committed stays, what is half written is removed.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.table(&self.table).await?;
        let rewrite = table.rewrite_manifests(ManifestOptions {
            branch: self.branch,
            spec_id: self.spec,
            target_size_bytes: self.target_size.map(|s| s.as_u64()),
            rewrite_all: self.all,
            memory_budget_bytes: self.memory.as_u64(),
            ..ManifestOptions::default()
        });
        let rewrite = rewrite.progress(Arc::new(Watcher::new(session)));
        let plan = planned(session, rewrite.plan()).await?;
        if self.dry_run {
            return show(session, &plan, groups_of(&plan));
        }
        let report = rewrite.run_plan(plan).await?;
        finish(session, &report.report, &report)
    }
}

/// The groups of a plan, for people.
fn groups_of(plan: &ManifestPlan) -> Listing {
    let columns = ["content", "spec", "manifests", "entries", "size", "becomes", "per partition"];
    let mut listing = Listing::new(&columns);
    for group in &plan.groups {
        listing.push(vec![
            json!(group.content.to_string()),
            json!(group.spec_id),
            json!(group.manifests.len()),
            json!(group.entries),
            json!(ByteSize(group.bytes).to_string()),
            json!(group.output_manifests),
            json!(format!("{:.1}", group.cost.opened_per_partition)),
        ]);
    }
    listing
}
