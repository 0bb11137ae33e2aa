//! Branches, tags and rollback.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::spec::{
    MAIN_BRANCH, SnapshotId, SnapshotReference, SnapshotRetention, TableRequirement, TableUpdate,
    refs_of,
};

use super::evolve::{Change, apply};
use super::{Table, idempotency};

/// One change to the branches and tags of a table.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RefUpdate {
    /// Makes a branch; refused if a ref of that name is there.
    CreateBranch {
        /// The new name.
        name: String,
        /// Where it starts.
        snapshot: SnapshotId,
    },
    /// Makes a tag; refused if a ref of that name is there.
    CreateTag {
        /// The new name.
        name: String,
        /// What it names.
        snapshot: SnapshotId,
        /// How long expiry keeps it; for ever if `None`.
        max_ref_age_ms: Option<i64>,
    },
    /// Moves a branch forward to a descendant of its head.
    FastForward {
        /// The branch.
        name: String,
        /// Its new head.
        to: SnapshotId,
    },
    /// Rewinds a branch to one of its ancestors. Later snapshots stay until they expire.
    Rollback {
        /// The branch.
        name: String,
        /// Its new head.
        to: SnapshotId,
    },
    /// Removes a branch or tag.
    Drop {
        /// The name.
        name: String,
    },
    /// Sets what expiry keeps for a ref.
    SetRetention {
        /// The branch or tag.
        name: String,
        /// The retention, of the ref's own kind.
        retention: SnapshotRetention,
    },
}

impl Table {
    /// Changes branches and tags.
    ///
    /// # Errors
    /// `NotFound` for unknown refs and snapshots, `AlreadyExists`, `InvalidInput` for moves that
    /// the kind of ref does not allow; then as any commit.
    pub async fn update_ref(&self, update: RefUpdate) -> Result<Table> {
        apply(self, |base| plan(base, &update)).await
    }

    /// Rewinds `main` to an ancestor.
    ///
    /// # Errors
    /// As [`Table::update_ref`].
    pub async fn rollback_to(&self, snapshot: SnapshotId) -> Result<Table> {
        self.update_ref(RefUpdate::Rollback { name: MAIN_BRANCH.into(), to: snapshot }).await
    }
}

/// The refs of one base, and what may become of them.
struct Refs<'a> {
    base: &'a Table,
    all: BTreeMap<String, SnapshotReference>,
}

fn plan(base: &Table, update: &RefUpdate) -> Result<Change> {
    let refs = Refs { base, all: refs_of(base.metadata())? };
    let name = ref_name(update);
    let updates = match update {
        RefUpdate::CreateBranch { snapshot, .. } => {
            let retention = SnapshotRetention::branch(None, None, None);
            let made = refs.create(name, *snapshot, retention)?;
            std::iter::once(made).chain(idempotency::disown(base, name)).collect()
        }
        RefUpdate::CreateTag { snapshot, max_ref_age_ms, .. } => {
            let retention = SnapshotRetention::Tag { max_ref_age_ms: *max_ref_age_ms };
            vec![refs.create(name, *snapshot, retention)?]
        }
        RefUpdate::FastForward { to, .. } => vec![refs.fast_forward(name, *to)?],
        RefUpdate::Rollback { to, .. } => {
            vec![refs.rewind(name, *to)?, idempotency::count_rollback(base, name)]
        }
        RefUpdate::Drop { .. } => {
            refs.find(name)?;
            if name == MAIN_BRANCH {
                return Err(Error::invalid("the branch `main` cannot be dropped")
                    .with_hint("`meltwater drop` removes a whole table"));
            }
            let gone = TableUpdate::RemoveSnapshotRef { ref_name: name.to_string() };
            std::iter::once(gone).chain(idempotency::disown(base, name)).collect()
        }
        RefUpdate::SetRetention { retention, .. } => vec![refs.retain(name, retention)?],
    };
    let requirement = TableRequirement::RefSnapshotIdMatch {
        r#ref: name.to_string(),
        snapshot_id: refs.all.get(name).map(|r| r.snapshot_id),
    };
    Ok(Change { requirements: vec![requirement], updates })
}

impl Refs<'_> {
    fn find(&self, name: &str) -> Result<&SnapshotReference> {
        self.all.get(name).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("table `{}` has no branch or tag `{name}`", self.base.ident()),
            )
            .with_hint(format!("`meltwater inspect refs {}` lists them", self.base.ident()))
        })
    }

    fn create(
        &self,
        name: &str,
        snapshot: SnapshotId,
        retention: SnapshotRetention,
    ) -> Result<TableUpdate> {
        self.base.snapshot(snapshot)?;
        if name.is_empty() {
            return Err(Error::invalid("a branch or tag needs a name"));
        }
        if self.all.contains_key(name) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("table `{}` has a branch or tag `{name}` already", self.base.ident()),
            )
            .with_hint("choose another name, or drop that one first"));
        }
        Ok(set(name, SnapshotReference::new(snapshot.0, retention)))
    }

    /// The branch `name` with another head and its own retention.
    fn moved(&self, name: &str, to: SnapshotId) -> Result<TableUpdate> {
        let old = self.find(name)?;
        if !old.is_branch() {
            return Err(Error::invalid(format!("`{name}` is a tag: tags do not move"))
                .with_hint("drop it and make it anew, or use a branch"));
        }
        Ok(set(name, SnapshotReference::new(to.0, old.retention.clone())))
    }

    fn fast_forward(&self, name: &str, to: SnapshotId) -> Result<TableUpdate> {
        self.base.snapshot(to)?;
        if !self.base.is_ancestor(SnapshotId(self.find(name)?.snapshot_id), to) {
            return Err(Error::invalid(format!(
                "snapshot {to} does not descend from the head of `{name}`"
            ))
            .with_hint("fast-forward only goes to descendants; roll back or branch instead"));
        }
        self.moved(name, to)
    }

    fn rewind(&self, name: &str, to: SnapshotId) -> Result<TableUpdate> {
        self.base.snapshot(to)?;
        if !self.base.is_ancestor(to, SnapshotId(self.find(name)?.snapshot_id)) {
            return Err(Error::invalid(format!(
                "snapshot {to} is not an ancestor of the head of `{name}`"
            ))
            .with_hint(format!(
                "`meltwater inspect history {}` shows the ancestors",
                self.base.ident()
            )));
        }
        self.moved(name, to)
    }

    fn retain(&self, name: &str, retention: &SnapshotRetention) -> Result<TableUpdate> {
        let old = self.find(name)?;
        if old.is_branch() != matches!(retention, SnapshotRetention::Branch { .. }) {
            return Err(Error::invalid(format!("the retention is not of the kind of `{name}`"))
                .with_hint("a tag only has the age of the ref; a branch also has ages and counts of snapshots"));
        }
        Ok(set(name, SnapshotReference::new(old.snapshot_id, retention.clone())))
    }
}

fn set(name: &str, reference: SnapshotReference) -> TableUpdate {
    TableUpdate::SetSnapshotRef { ref_name: name.to_string(), reference }
}

fn ref_name(update: &RefUpdate) -> &str {
    match update {
        RefUpdate::CreateBranch { name, .. }
        | RefUpdate::CreateTag { name, .. }
        | RefUpdate::FastForward { name, .. }
        | RefUpdate::Rollback { name, .. }
        | RefUpdate::Drop { name }
        | RefUpdate::SetRetention { name, .. } => name,
    }
}
