//! Which actions are due. Pure.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lease::{LastRun, Memory};
use super::options::{MaintainOptions, Trigger};
use crate::maintenance::HealthReport;

/// What a maintainer does, in the order in which it does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Equality deletes into position deletes.
    ConvertDeletes,
    /// Merge position deletes, drop those that reach nothing.
    RewritePositionDeletes,
    /// Rewrite small files and files with many deletes.
    Compact,
    /// Entries of a partition side by side.
    RewriteManifests,
    /// Old snapshots, and the files that only they need.
    Expire,
    /// Files that nothing names.
    RemoveOrphans,
}

impl Action {
    /// All of them, in order: deletes first, so that compaction sees what is left of them; files
    /// that went are expired last.
    pub const ALL: [Self; 6] = [
        Self::ConvertDeletes,
        Self::RewritePositionDeletes,
        Self::Compact,
        Self::RewriteManifests,
        Self::Expire,
        Self::RemoveOrphans,
    ];

    /// The name of its command.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConvertDeletes => "convert-deletes",
            Self::RewritePositionDeletes => "rewrite-position-deletes",
            Self::Compact => "compact",
            Self::RewriteManifests => "rewrite-manifests",
            Self::Expire => "expire",
            Self::RemoveOrphans => "remove-orphans",
        }
    }

    /// Whether it rewrites files of one branch; the others are about the whole table.
    pub fn rewrites(self) -> bool {
        !matches!(self, Self::Expire | Self::RemoveOrphans)
    }

    /// The action of a command's name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An action that is due, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Due {
    /// The action.
    pub action: Action,
    /// The trigger in words.
    pub why: String,
}

/// What a table looks like to the triggers.
pub(super) struct Look<'a> {
    pub health: &'a HealthReport,
    pub memory: &'a Memory,
    pub branch: &'a str,
    pub now_ms: i64,
    /// Commits of others after a sequence number.
    pub commits_since: &'a dyn Fn(i64) -> u64,
}

/// The actions that are due, in order (MNT-65).
pub(super) fn due(look: &Look<'_>, options: &MaintainOptions) -> Vec<Due> {
    let due = |action| Some(Due { action, why: why(action, look, options)? });
    Action::ALL.into_iter().filter_map(due).collect()
}

fn why(action: Action, look: &Look<'_>, options: &MaintainOptions) -> Option<String> {
    let trigger = options.trigger(action);
    if !trigger.enabled {
        return None;
    }
    let (files, what) = work(action, look.health)?;
    let last = look.memory.last_run(look.branch, action);
    if let Some(limit) = trigger.files.filter(|limit| files >= *limit) {
        return Some(format!("{files} {what}, the limit is {limit}"));
    }
    let ratio = look.health.delete_ratio();
    if action == Action::Compact
        && look.health.compaction.as_ref().is_some_and(|plan| plan.for_deletes > 0)
        && ratio >= options.delete_ratio
    {
        return Some(format!("{:.0} deletes per 100 rows", ratio * 100.0));
    }
    by_commits(look, trigger, last).or_else(|| by_time(look, trigger, last))
}

/// How much an action would have to do, in what; `None` for nothing.
fn work(action: Action, health: &HealthReport) -> Option<(u64, &'static str)> {
    let (files, what) = match action {
        Action::ConvertDeletes => {
            (health.conversion.as_ref()?.deletes.files, "equality delete files")
        }
        Action::RewritePositionDeletes => {
            let plan = health.merge.as_ref()?;
            (plan.input.files + plan.dangling.files, "position delete files to merge or drop")
        }
        Action::Compact => (health.compaction.as_ref()?.input.files, "files to compact"),
        Action::RewriteManifests => {
            (health.manifests.to_rewrite.as_ref()?.manifests, "manifests to rewrite")
        }
        Action::Expire => (health.history.expirable?, "snapshots that may expire"),
        // What nothing names is known only after the folder was listed; a table whose files may
        // not be removed has none that may expire either.
        Action::RemoveOrphans => {
            health.history.expirable?;
            return Some((0, "orphans"));
        }
    };
    (files > 0).then_some((files, what))
}

fn by_commits(look: &Look<'_>, trigger: &Trigger, last: Option<&LastRun>) -> Option<String> {
    let limit = trigger.commits?;
    let commits = (look.commits_since)(last.map_or(0, |last| last.sequence_number));
    (commits >= limit).then(|| format!("{commits} commits since the last run"))
}

fn by_time(look: &Look<'_>, trigger: &Trigger, last: Option<&LastRun>) -> Option<String> {
    let interval = trigger.interval?;
    let Some(last) = last else { return Some("it never ran".to_string()) };
    // Of a run in the far future nothing is known: the clock that dated it ran ahead.
    let ahead = last.at_ms > look.now_ms;
    let since = Duration::from_millis(look.now_ms.abs_diff(last.at_ms));
    (since >= interval).then(|| match ahead {
        false => format!("the last run was {} s ago", since.as_secs()),
        true => format!("the last run is dated {} s ahead", since.as_secs()),
    })
}
