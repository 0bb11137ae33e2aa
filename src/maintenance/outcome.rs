//! How runs of all actions begin, go on after a lost race, and end.

use super::{Progress, Report, Stopwatch};
use crate::error::{Error, ErrorKind, Result};
use crate::table::Table;

/// Refuses a plan that was made for something else.
///
/// # Errors
/// `InvalidInput` if `plan` names another table or branch.
pub(super) fn check_plan(plan: (&str, &str), table: &Table, branch: &str) -> Result<()> {
    if plan == (table.ident().to_string().as_str(), branch) {
        return Ok(());
    }
    Err(Error::invalid("the plan was made for another table or branch")
        .with_hint("make the plan with the same options"))
}

/// Others were quicker: plan again. Files that are gone belong to a snapshot that expired.
pub(super) fn is_overtaken(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ValidationFailed | ErrorKind::CommitConflict | ErrorKind::NotFound
    )
}

/// Ends a run: what it did is measured. Its first error is returned only if nothing landed;
/// otherwise failures are in the report.
///
/// # Errors
/// That one.
pub(super) fn end(
    report: &mut Report,
    watch: &Stopwatch,
    progress: &dyn Progress,
    first: Option<Error>,
    landed: bool,
) -> Result<()> {
    report.stopped = progress.should_stop();
    report.finish(watch);
    match first {
        Some(error) if !landed => Err(error),
        _ => Ok(()),
    }
}
