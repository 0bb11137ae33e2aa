//! Values that shape maintenance, from the table's properties and from whoever runs it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::trigger::Action;
use crate::error::{Error, Result};

/// Prefix of the table properties.
pub(super) const PREFIX: &str = "meltwater.maintain.";

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// What makes an action due. Any of them does, if there is something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Off: never.
    pub enabled: bool,
    /// So many files, manifests or snapshots to work on.
    pub files: Option<u64>,
    /// So many commits of others since the last run.
    pub commits: Option<u64>,
    /// So much time since the last run.
    pub interval: Option<Duration>,
}

/// Values that shape maintenance.
#[derive(Debug, Clone, PartialEq)]
pub struct MaintainOptions {
    triggers: BTreeMap<Action, Trigger>,
    /// Deletes per row that make a compaction due; 0.3.
    pub delete_ratio: f64,
    /// The table is looked at once in this time at most; a minute.
    pub min_interval: Duration,
    /// Bytes of files that may be replaced in an hour, by all actions together; no limit unless
    /// set. One group of files is always finished.
    pub max_bytes_per_hour: Option<u64>,
    /// How long a lease holds without a sign of life; a minute.
    pub lease: Duration,
    /// Whether the table is maintained at all; on.
    pub enabled: bool,
}

impl Default for MaintainOptions {
    fn default() -> Self {
        let trigger = |files, commits, interval| Trigger {
            enabled: true,
            files: Some(files),
            commits,
            interval: Some(interval),
        };
        let triggers = BTreeMap::from([
            (Action::ConvertDeletes, trigger(10, None, HOUR)),
            (Action::RewritePositionDeletes, trigger(100, None, HOUR)),
            (Action::Compact, trigger(20, None, HOUR)),
            (Action::RewriteManifests, trigger(100, None, 6 * HOUR)),
            (Action::Expire, trigger(100, None, HOUR)),
            // A listing of the whole folder.
            (
                Action::RemoveOrphans,
                Trigger { enabled: true, files: None, commits: None, interval: Some(24 * HOUR) },
            ),
        ]);
        Self {
            triggers,
            delete_ratio: 0.3,
            min_interval: MINUTE,
            max_bytes_per_hour: None,
            lease: MINUTE,
            enabled: true,
        }
    }
}

const OFF: Trigger = Trigger { enabled: false, files: None, commits: None, interval: None };

impl MaintainOptions {
    /// What makes an action due.
    pub fn trigger(&self, action: Action) -> &Trigger {
        self.triggers.get(&action).unwrap_or(&OFF)
    }

    /// Another trigger for an action.
    pub fn with_trigger(mut self, action: Action, trigger: Trigger) -> Self {
        self.triggers.insert(action, trigger);
        self
    }

    /// Only these actions.
    pub fn only(mut self, actions: &[Action]) -> Self {
        for (action, trigger) in &mut self.triggers {
            trigger.enabled &= actions.contains(action);
        }
        self
    }

    /// Sets one value by its name, such as `compact.files` to `50`, `expire.interval-ms`,
    /// `remove-orphans.enabled` to `false`, `min-interval-ms`, `max-bytes-per-hour`, `lease-ms`,
    /// `delete-ratio` or `enabled` (MNT-66). `off` takes a limit away.
    ///
    /// # Errors
    /// `InvalidInput` for a name that means nothing, or a value that is none.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let value = value.trim();
        match name {
            "enabled" => self.enabled = flag(name, value)?,
            "delete-ratio" => self.delete_ratio = ratio(name, value)?,
            "min-interval-ms" => self.min_interval = millis(name, value)?,
            "lease-ms" => self.lease = lease(name, value)?,
            "max-bytes-per-hour" => self.max_bytes_per_hour = limit(name, value)?,
            _ => {
                let known = name.split_once('.').and_then(|(action, rest)| {
                    Some((self.triggers.get_mut(&Action::of(action)?)?, rest))
                });
                match known {
                    Some((trigger, "enabled")) => trigger.enabled = flag(name, value)?,
                    Some((trigger, "files")) => trigger.files = limit(name, value)?,
                    Some((trigger, "commits")) => trigger.commits = limit(name, value)?,
                    Some((trigger, "interval-ms")) => {
                        trigger.interval = limit(name, value)?.map(Duration::from_millis);
                    }
                    _ => return Err(unknown(name)),
                }
            }
        }
        Ok(())
    }

    /// The options with what a table's properties say.
    ///
    /// # Errors
    /// As [`MaintainOptions::set`], naming the property.
    pub(super) fn with_properties<'a>(
        mut self,
        properties: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Result<Self> {
        let ours: BTreeMap<&str, &str> = properties
            .into_iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value.as_str())))
            .collect();
        for (name, value) in ours {
            self.set(name, value)
                .map_err(|e| e.with_context("table property", format!("{PREFIX}{name}")))?;
        }
        Ok(self)
    }
}

fn unknown(name: &str) -> Error {
    let actions = Action::ALL.map(Action::as_str).join(", ");
    Error::invalid(format!("maintenance has no setting `{name}`")).with_hint(format!(
        "it knows ACTION.files, ACTION.commits, ACTION.interval-ms and ACTION.enabled for {actions}; \
         and enabled, delete-ratio, min-interval-ms, max-bytes-per-hour, lease-ms"
    ))
}

fn wrong(name: &str, value: &str, wanted: &str) -> Error {
    Error::invalid(format!("`{name}` is `{value}`")).with_hint(format!("give it {wanted}"))
}

fn flag(name: &str, value: &str) -> Result<bool> {
    value.parse().map_err(|_| wrong(name, value, "`true` or `false`"))
}

fn ratio(name: &str, value: &str) -> Result<f64> {
    let number: Option<f64> = value.parse().ok();
    let number = number.filter(|n| (0.0..=1.0).contains(n));
    number.ok_or_else(|| wrong(name, value, "a number from 0 to 1"))
}

fn millis(name: &str, value: &str) -> Result<Duration> {
    let number = value.parse().map_err(|_| wrong(name, value, "milliseconds"))?;
    Ok(Duration::from_millis(number))
}

/// Renewed three times in its length, by way of a store.
fn lease(name: &str, value: &str) -> Result<Duration> {
    let length = millis(name, value)?;
    match length < Duration::from_secs(1) {
        true => Err(wrong(name, value, "1000 milliseconds or more")),
        false => Ok(length),
    }
}

fn limit(name: &str, value: &str) -> Result<Option<u64>> {
    match value {
        "off" => Ok(None),
        _ => value.parse().map(Some).map_err(|_| wrong(name, value, "a whole number, or `off`")),
    }
}
