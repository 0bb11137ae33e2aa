//! Changes to a table's schema, partition spec and properties, through the same door as
//! snapshots: planned on the current version, swapped atomically, planned again on a conflict.

mod schema;
mod spec;

use std::collections::HashMap;

use crate::error::{Error, ErrorKind, Result};
use crate::spec::{TableMetadataBuilder, TableRequirement, TableUpdate};

use super::Table;
use super::commit::metadata_builder;
use super::retry::RetryPolicy;

pub use schema::SchemaUpdate;
pub use spec::SpecUpdate;

/// What a planner wants to be swapped in, and what must still hold for it.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) requirements: Vec<TableRequirement>,
    pub(crate) updates: Vec<TableUpdate>,
}

impl Change {
    /// The changes of a metadata builder.
    pub(super) fn from_builder(
        builder: TableMetadataBuilder,
        requirements: Vec<TableRequirement>,
    ) -> Result<Self> {
        Ok(Self { requirements, updates: builder.build()?.changes })
    }
}

/// Plans on the newest version and swaps, until it holds or the retries are used up.
///
/// # Errors
/// Those of `plan`; `CommitConflict` after the last retry; `CommitStateUnknown`.
pub(super) async fn apply(table: &Table, plan: impl Fn(&Table) -> Result<Change>) -> Result<Table> {
    let policy = RetryPolicy::from_properties(&table.properties())?;
    let mut backoff = policy.start();
    loop {
        let base = table.refresh().await?;
        let mut change = plan(&base)?;
        if change.updates.is_empty() {
            return Ok(base);
        }
        change.requirements.push(TableRequirement::UuidMatch { uuid: base.metadata().uuid() });
        let swap = base.catalog().commit(base.ident(), change.requirements, change.updates).await;
        let error = match swap {
            Ok(loaded) => return Ok(base.with_loaded(loaded)),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::CommitConflict => {}
            ErrorKind::Unavailable if !error.is_nothing_changed() => {
                return Err(error.with_kind(ErrorKind::CommitStateUnknown));
            }
            _ => return Err(error),
        }
        if !backoff.wait(base.environment()).await {
            return Err(error);
        }
    }
}

/// Sets and removes table properties.
#[derive(Debug, Clone)]
#[must_use = "nothing changes before `commit` is awaited"]
pub struct UpdateProperties {
    table: Table,
    set: HashMap<String, String>,
    removed: Vec<String>,
}

impl Table {
    /// Swaps in what `plan` makes of the newest version, planned again on every conflict. The
    /// door of floors above for changes that make no snapshot.
    ///
    /// # Errors
    /// Those of `plan`; `CommitConflict` after the last retry; `CommitStateUnknown`.
    pub(crate) async fn change(&self, plan: impl Fn(&Table) -> Result<Change>) -> Result<Table> {
        apply(self, plan).await
    }

    /// Starts a change of properties.
    pub fn update_properties(&self) -> UpdateProperties {
        UpdateProperties { table: self.clone(), set: HashMap::new(), removed: Vec::new() }
    }

    /// Starts a change of the schema.
    pub fn update_schema(&self) -> SchemaUpdate {
        SchemaUpdate::new(self.clone())
    }

    /// Starts a change of the partition spec. Files written before keep their spec.
    pub fn update_spec(&self) -> SpecUpdate {
        SpecUpdate::new(self.clone())
    }
}

impl UpdateProperties {
    /// Sets one property.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set.insert(name.into(), value.into());
        self
    }

    /// Removes one property; one that is not there is no error.
    pub fn remove(mut self, name: impl Into<String>) -> Self {
        self.removed.push(name.into());
        self
    }

    /// Makes the change.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is both set and removed, or reserved for us; then as any
    /// commit.
    pub async fn commit(self) -> Result<Table> {
        if let Some(name) = self.removed.iter().find(|n| self.set.contains_key(*n)) {
            return Err(Error::invalid(format!("property `{name}` is both set and removed")));
        }
        apply(&self.table, |base| {
            let mut builder = metadata_builder(base);
            if !self.set.is_empty() {
                builder = builder.set_properties(self.set.clone())?;
            }
            let there: Vec<String> = self
                .removed
                .iter()
                .filter(|n| base.metadata().properties().contains_key(*n))
                .cloned()
                .collect();
            if !there.is_empty() {
                builder = builder.remove_properties(&there)?;
            }
            Change::from_builder(builder, Vec::new())
        })
        .await
    }
}
