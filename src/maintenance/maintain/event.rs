//! What happens while tables are maintained, as values that print and serialise.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::trigger::Action;
use crate::error::{Error, ErrorKind};

/// Something that happened to a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum MaintainEvent {
    /// An action ran.
    Ran {
        /// The table.
        table: String,
        /// The action.
        action: Action,
        /// Why it was due.
        why: String,
        /// Its report in words.
        summary: String,
        /// Its report.
        report: Value,
    },
    /// An action would run, if this were no dry run.
    WouldRun {
        /// The table.
        table: String,
        /// The action.
        action: Action,
        /// Why it is due.
        why: String,
        /// Its plan in words.
        summary: String,
    },
    /// Something is due and is not done now.
    Skipped {
        /// The table.
        table: String,
        /// Why not.
        why: String,
    },
    /// Something failed; the others go on.
    Failed {
        /// The table.
        table: String,
        /// What was done; `None` for the look at the table.
        action: Option<Action>,
        /// The error in one line.
        error: String,
        /// What to do about it.
        hint: Option<String>,
        /// What kind of error.
        #[serde(skip)]
        kind: ErrorKind,
    },
}

impl MaintainEvent {
    pub(super) fn failed(table: impl fmt::Display, action: Option<Action>, error: &Error) -> Self {
        Self::Failed {
            table: table.to_string(),
            action,
            error: error.to_string(),
            hint: error.hint().map(str::to_string),
            kind: error.kind(),
        }
    }
}

/// One line, such as `ns.t compact (25 files to compact, the limit is 20): …`.
impl fmt::Display for MaintainEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ran { table, action, why, summary, .. } => {
                write!(f, "{table} {action} ({why}): {}", one_line(summary))
            }
            Self::WouldRun { table, action, why, summary } => {
                // A plan has a line for each partition.
                let plan = summary.lines().next().unwrap_or_default();
                write!(f, "{table} would {action} ({why}): {plan}")
            }
            Self::Skipped { table, why } => write!(f, "{table} skipped: {why}"),
            Self::Failed { table, action, error, hint, .. } => {
                write!(f, "{table} failed")?;
                if let Some(action) = action {
                    write!(f, " to {action}")?;
                }
                write!(f, ": {error}")?;
                hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
            }
        }
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

/// How often what happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MaintainReport {
    /// Actions that ran.
    pub ran: u64,
    /// Actions that would have run in a dry run.
    pub would_run: u64,
    /// Times that something due was left for later.
    pub skipped: u64,
    /// Failures.
    pub failed: u64,
    /// The kind of the first failure.
    #[serde(skip)]
    pub failure: Option<ErrorKind>,
}

impl MaintainReport {
    pub(super) fn count(&mut self, event: &MaintainEvent) {
        let count = match event {
            MaintainEvent::Ran { .. } => &mut self.ran,
            MaintainEvent::WouldRun { .. } => &mut self.would_run,
            MaintainEvent::Skipped { .. } => &mut self.skipped,
            MaintainEvent::Failed { kind, .. } => {
                self.failure.get_or_insert(*kind);
                &mut self.failed
            }
        };
        *count += 1;
    }
}
