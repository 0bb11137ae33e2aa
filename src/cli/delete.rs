//! `delete`: rows that match a filter; whole files where statistics prove it.

use clap::Args;

use super::failure::Outcome;
use super::session::Session;
use super::terminal::say;
use crate::error::Error;
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
    /// Counts; deleting comes with the floor below.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.table(&self.table).await?;
        let filter = expr::parse(&self.filter, table.schema())?;
        let scan = table.scan().at(At::Ref(self.branch)).filter(filter);
        let rows = session.interrupt.or_stop(async { Ok(scan.count().await?) }).await?;
        say(format!("would delete {rows} rows"));
        match self.dry_run {
            true => Ok(()),
            false => Err(Error::unsupported("delete by filter is not built in yet").into()),
        }
    }
}
