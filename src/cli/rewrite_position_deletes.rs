//! `rewrite-position-deletes`: many small delete files become one per data file.

use std::sync::Arc;

use bytesize::ByteSize;
use clap::Args;
use serde_json::json;

use super::action::{Watcher, finish, planned, show};
use super::failure::Outcome;
use super::session::Session;
use super::size::size;
use super::terminal::Listing;
use crate::expr;
use crate::maintenance::{RewriteDeletesOptions, RewriteDeletesPlan};
use crate::spec::MAIN_BRANCH;
use crate::table::Table;

/// Merge the position deletes of each data file into one file, and remove delete files that no live
/// row can meet, equality deletes too; rows stay what they are.
#[derive(Debug, Args)]
pub(super) struct RewritePositionDeletes {
    /// NAMESPACE.TABLE
    table: String,
    /// Only these partitions, such as "day >= '2026-01-01'"
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    /// The branch to work on
    #[arg(long, default_value = MAIN_BRANCH)]
    branch: String,
    /// So many position delete files of a data file are worth the work
    #[arg(long, value_name = "N", default_value_t = 2)]
    min_input_files: usize,
    /// Leave delete files alone that delete nothing
    #[arg(long)]
    keep_dangling: bool,
    /// Delete files that one commit replaces at most, about: what a kill can cost
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_files_per_commit: usize,
    /// Data files whose deletes are merged at the same time [default: one a core]
    #[arg(long, value_name = "N")]
    max_concurrent: Option<usize>,
    /// Memory for positions
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    memory: ByteSize,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl RewritePositionDeletes {
    /// Merges data file by data file. Ctrl-C stops between two of them: what is finished is
    /// committed, what is half written is removed.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.table(&self.table).await?;
        let rewrite = table.rewrite_position_deletes(self.options(&table)?);
        let rewrite = rewrite.progress(Arc::new(Watcher::new(session)));
        let plan = planned(session, rewrite.plan()).await?;
        if self.dry_run {
            return show(session, &plan, groups_of(&plan));
        }
        let report = rewrite.run_plan(plan).await?;
        finish(session, &report.report, &report)
    }

    fn options(&self, table: &Table) -> Outcome<RewriteDeletesOptions> {
        let defaults = RewriteDeletesOptions::default();
        let filter = self.filter.as_deref().map(|f| expr::parse(f, table.schema())).transpose()?;
        Ok(RewriteDeletesOptions {
            filter,
            branch: self.branch.clone(),
            min_input_files: self.min_input_files,
            remove_dangling: !self.keep_dangling,
            max_files_per_commit: self.max_files_per_commit,
            max_concurrent_files: self.max_concurrent.unwrap_or(defaults.max_concurrent_files),
            memory_budget_bytes: self.memory.as_u64(),
            ..defaults
        })
    }
}

/// The groups of a plan, for people.
fn groups_of(plan: &RewriteDeletesPlan) -> Listing {
    let mut listing = Listing::new(&["partition", "delete files", "rows", "size", "data files"]);
    let dangling = plan.dangling_totals();
    let mut push = |name: &str, deletes: &crate::maintenance::Totals, data_files: u64| {
        let size = ByteSize(deletes.bytes).to_string();
        let (files, rows) = (json!(deletes.files), json!(deletes.rows));
        listing.push(vec![json!(name), files, rows, json!(size), json!(data_files)]);
    };
    if dangling.files > 0 {
        push("(delete nothing)", &dangling, 0);
    }
    plan.groups.iter().for_each(|g| push(&g.partition, &g.deletes, g.data_files));
    listing
}
