//! `convert-deletes`: equality deletes become position deletes.

use std::sync::Arc;

use bytesize::ByteSize;
use clap::Args;
use serde_json::json;

use super::action::{Watcher, finish, planned, show};
use super::failure::Outcome;
use super::session::Session;
use super::size::size;
use super::terminal::Listing;
use crate::maintenance::{ConvertOptions, ConvertPlan};
use crate::spec::MAIN_BRANCH;

/// Turn equality deletes into position deletes, which every engine reads and reads fast.
#[derive(Debug, Args)]
pub(super) struct ConvertDeletes {
    /// NAMESPACE.TABLE
    table: String,
    /// The branch to work on
    #[arg(long, default_value = MAIN_BRANCH)]
    branch: String,
    /// Data files that are read at the same time [default: one a core]
    #[arg(long, value_name = "N")]
    max_concurrent: Option<usize>,
    /// Memory for all of it
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = size)]
    memory: ByteSize,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl ConvertDeletes {
    /// Converts partition by partition. Ctrl-C stops between two files: what was committed stays,
    /// what was written for a commit to come is removed.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.table(&self.table).await?;
        let defaults = ConvertOptions::default();
        let convert = table.convert_equality_deletes(ConvertOptions {
            branch: self.branch,
            memory_budget_bytes: self.memory.as_u64(),
            max_concurrent_files: self.max_concurrent.unwrap_or(defaults.max_concurrent_files),
            ..defaults
        });
        let convert = convert.progress(Arc::new(Watcher::new(session)));
        let plan = planned(session, convert.plan()).await?;
        if self.dry_run {
            return show(session, &plan, groups_of(&plan));
        }
        let report = convert.run_plan(plan).await?;
        finish(session, &report.report, &report)
    }
}

/// The groups of a plan, for people.
fn groups_of(plan: &ConvertPlan) -> Listing {
    let mut listing = Listing::new(&["partition", "delete files", "keys", "data files", "size"]);
    for group in &plan.groups {
        listing.push(vec![
            json!(group.partition),
            json!(group.deletes.files),
            json!(group.deletes.rows),
            json!(group.data.files),
            json!(ByteSize(group.data.bytes).to_string()),
        ]);
    }
    listing
}
