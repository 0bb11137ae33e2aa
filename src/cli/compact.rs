//! `compact`: small files and files with many deletes become a few good ones.

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use serde_json::json;

use super::action::{Watcher, finish, planned, show};
use super::failure::{Failure, Outcome};
use super::session::Session;
use super::size::size;
use super::terminal::Listing;
use crate::expr;
use crate::maintenance::{CompactOptions, CompactPlan, SortBy, SortColumn};
use crate::spec::MAIN_BRANCH;
use crate::table::Table;

/// Rewrite files of the wrong size and files with many deletes; rows stay what they are.
#[derive(Debug, Args)]
pub(super) struct Compact {
    /// NAMESPACE.TABLE
    table: String,
    /// Only these partitions, such as "day >= '2026-01-01'"
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    /// The branch to work on
    #[arg(long, default_value = MAIN_BRANCH)]
    branch: String,
    /// Sort rows within partitions by these columns; `a desc` for the largest first
    #[arg(long, value_name = "a,b", value_delimiter = ',', conflicts_with = "sorted")]
    sort: Vec<String>,
    /// Sort rows within partitions by the table's own sort order
    #[arg(long)]
    sorted: bool,
    /// Size of a new file, such as 256MB [default: write.target-file-size-bytes]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    target_size: Option<ByteSize>,
    /// Smaller files are rewritten [default: 75 % of the target]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    min_size: Option<ByteSize>,
    /// Larger files are rewritten [default: 180 % of the target]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<ByteSize>,
    /// So many small files of a partition are worth the work
    #[arg(long, value_name = "N", default_value_t = 5)]
    min_input_files: usize,
    /// Files of which this share of the rows is deleted are rewritten
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    delete_ratio: f64,
    /// Files with so many delete files are rewritten
    #[arg(long, value_name = "N")]
    delete_files: Option<usize>,
    /// Rewrite every file
    #[arg(long)]
    all: bool,
    /// Leave files in the partition spec that they have
    #[arg(long)]
    keep_specs: bool,
    /// Input of one group, and of one commit, at most: what a kill can cost
    #[arg(long, value_name = "SIZE", default_value = "10GiB", value_parser = size)]
    max_group_size: ByteSize,
    /// Commit finished groups in about so many commits
    #[arg(long, value_name = "N", default_value_t = 10)]
    max_commits: usize,
    /// Commit what is finished at least this often, such as 30s
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration)]
    commit_interval: Duration,
    /// Groups that are rewritten at the same time [default: one a core]
    #[arg(long, value_name = "N")]
    max_concurrent: Option<usize>,
    /// Memory for all of it
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = size)]
    memory: ByteSize,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Compact {
    /// Compacts group by group. Ctrl-C stops between two batches: finished groups are committed, what
    /// is half written is removed.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.table(&self.table).await?;
        let watcher = Arc::new(Watcher::new(session));
        let compact = table.compact(self.options(&table)?).progress(watcher);
        let plan = planned(session, compact.plan()).await?;
        if self.dry_run {
            return show(session, &plan, groups_of(&plan));
        }
        let report = compact.run_plan(plan).await?;
        finish(session, &report.report, &report)
    }

    fn options(&self, table: &Table) -> Outcome<CompactOptions> {
        let defaults = CompactOptions::default();
        let filter = self.filter.as_deref().map(|f| expr::parse(f, table.schema())).transpose()?;
        Ok(CompactOptions {
            filter,
            branch: self.branch.clone(),
            sort: self.sort_by()?,
            target_file_size_bytes: self.target_size.map(|s| s.as_u64()),
            min_file_size_bytes: self.min_size.map(|s| s.as_u64()),
            max_file_size_bytes: self.max_size.map(|s| s.as_u64()),
            min_input_files: self.min_input_files,
            delete_ratio: self.delete_ratio,
            delete_files: self.delete_files,
            rewrite_all: self.all,
            keep_specs: self.keep_specs,
            max_group_bytes: self.max_group_size.as_u64(),
            max_commits: self.max_commits,
            commit_interval: self.commit_interval,
            max_concurrent_groups: self.max_concurrent.unwrap_or(defaults.max_concurrent_groups),
            memory_budget_bytes: self.memory.as_u64(),
            ..defaults
        })
    }

    fn sort_by(&self) -> Outcome<Option<SortBy>> {
        if self.sorted {
            return Ok(Some(SortBy::TableOrder));
        }
        if self.sort.is_empty() {
            return Ok(None);
        }
        let columns = self.sort.iter().map(|word| sort_column(word)).collect::<Outcome<_>>()?;
        Ok(Some(SortBy::Columns(columns)))
    }
}

/// `a`, `a asc` or `a desc`.
fn sort_column(word: &str) -> Outcome<SortColumn> {
    let word = word.trim();
    let (name, descending) = match word.rsplit_once(char::is_whitespace) {
        Some((name, way)) if way.eq_ignore_ascii_case("desc") => (name.trim(), true),
        Some((name, way)) if way.eq_ignore_ascii_case("asc") => (name.trim(), false),
        _ => (word, false),
    };
    match name.is_empty() {
        true => Err(Failure::Usage("--sort takes column names, such as `a,b desc`".to_string())),
        false => Ok(SortColumn { name: name.to_string(), descending }),
    }
}

/// The groups of a plan, for people.
fn groups_of(plan: &CompactPlan) -> Listing {
    let mut listing = Listing::new(&["partition", "files", "rows", "size", "becomes", "why"]);
    for group in &plan.groups {
        let mut why: Vec<String> = group.files.iter().map(|f| f.reason.to_string()).collect();
        why.sort();
        why.dedup();
        listing.push(vec![
            json!(group.partition),
            json!(group.input.files),
            json!(group.input.rows),
            json!(ByteSize(group.input.bytes).to_string()),
            json!(group.output_files),
            json!(why.join(", ")),
        ]);
    }
    listing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sort_columns_may_say_which_way() {
        let column = |word| sort_column(word).map(|c| (c.name, c.descending)).ok();
        assert_eq!(column("a"), Some(("a".into(), false)));
        assert_eq!(column(" a  DESC "), Some(("a".into(), true)));
        assert_eq!(column("my col asc"), Some(("my col".into(), false)));
        assert_eq!(column("  "), None);
    }
}
