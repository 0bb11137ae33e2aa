//! `delete`: rows that match a filter; whole files where statistics prove it.

use clap::Args;
use serde_json::json;

use super::failure::Outcome;
use super::session::Session;
use super::terminal::{Listing, OutputFormat, print_json, say};
use crate::dml::DeletePlan;
use crate::expr;
use crate::spec::MAIN_BRANCH;
use crate::table::At;

/// Delete the rows that match a filter.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// NAMESPACE.TABLE
    table: String,
    /// Rows to delete, such as "status = 'void'"
    #[arg(long = "where", value_name = "EXPR")]
    filter: String,
    /// The branch to commit to
    #[arg(long, default_value = MAIN_BRANCH)]
    branch: String,
    /// Say how many rows match, and delete none
    #[arg(long)]
    dry_run: bool,
}

impl Delete {
    /// Deletes in one commit. Ctrl-C stops the planning; once files are written, the outcome is
    /// awaited.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.table(&self.table).await?;
        let filter = expr::parse(&self.filter, table.schema())?;
        let delete = table.delete_where(filter.clone()).branch(&self.branch);
        let plan = session.interrupt.or_stop(async { Ok(delete.plan().await?) }).await?;
        if self.dry_run {
            let scan = table.scan().at(At::Ref(self.branch)).filter(filter);
            let rows = session.interrupt.or_stop(async { Ok(scan.count().await?) }).await?;
            return show(&plan, rows, session.output);
        }
        let report = delete.commit_plan(plan).await?;
        if session.output == OutputFormat::Json {
            return print_json(&json!({
                "snapshot_id": report.snapshot_id.map(|id| id.0),
                "removed_files": report.removed_files,
                "removed_rows": report.removed_rows,
                "deleted_rows": report.deleted_rows,
                "position_delete_files": report.position_delete_files,
                "searched_files": report.searched_files,
            }));
        }
        match report.snapshot_id {
            None => say("no row matches; nothing to commit"),
            Some(id) => say(format!(
                "committed snapshot {id}: {} rows deleted by position in {} files, {} whole files \
                 with {} rows removed",
                report.deleted_rows,
                report.position_delete_files,
                report.removed_files,
                report.removed_rows
            )),
        }
        Ok(())
    }
}

/// Prints the plan that `delete` would carry out.
fn show(plan: &DeletePlan, rows: u64, output: OutputFormat) -> Outcome {
    let mut listing = Listing::new(&["action", "file", "partition", "rows", "bytes"]);
    for file in plan.files() {
        let action = if file.whole { "remove" } else { "search" };
        listing.push(vec![
            json!(action),
            json!(file.path),
            json!(file.partition),
            json!(file.rows),
            json!(file.bytes),
        ]);
    }
    listing.print(output)?;
    say(format!("would delete {rows} rows"));
    Ok(())
}
