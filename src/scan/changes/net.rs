//! What tells any two snapshots of a table apart, planned from manifests alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::debug;

use super::diff::ManifestDiff;
use super::plan::{check_version, deletes, nothing};
use super::units::{Units, units};
use super::{Base, ChangeClass, Deletes, Grouping, SnapshotChanges};
use crate::error::Result;
use crate::spec::{DataContentType, ManifestContentType, SnapshotRef};
use crate::table::Table;

impl Table {
    /// Finds what turns the rows of `base` into those of `to` (CHG-10). Neither need be an
    /// ancestor of the other.
    ///
    /// * Files that both sides hold with the same deletes are left out, and manifests that both
    ///   share are opened only if deletes that came or went can reach their files (CHG-11).
    /// * Units are partitions where no row can have moved from one to another: all files have one
    ///   spec, and its columns are part of `key`, which tells rows apart. Else, and where
    ///   [`Grouping::Snapshot`] is asked for, everything is one unit (CHG-12). With an empty key
    ///   the columns of the equality deletes of both sides count, if those are the same for all.
    /// * Memory: about 16 bytes a file that differs, 24 a file of manifests that differ, and the
    ///   delete files of both sides.
    ///
    /// # Errors
    /// `NotFound` if the base is not in the table; as [`Table::plan_changes`].
    pub async fn plan_net(
        &self,
        base: Base,
        to: &SnapshotRef,
        grouping: Grouping,
        key: &[i32],
    ) -> Result<Arc<SnapshotChanges>> {
        check_version(self)?;
        let planned = plan(self, base, to, grouping, key).await;
        let changes = planned.map_err(|e| e.with_context("snapshot", to.snapshot_id()))?;
        debug!(?base, to = to.snapshot_id(), tally = ?changes.tally,
            units = changes.units.len(), "planned a net difference");
        Ok(Arc::new(changes))
    }
}

async fn plan(
    table: &Table,
    base: Base,
    to: &SnapshotRef,
    grouping: Grouping,
    key: &[i32],
) -> Result<SnapshotChanges> {
    let diff = ManifestDiff::load(table, base, to).await?;
    if diff.is_empty() {
        return Ok(SnapshotChanges { base, ..nothing(table, to) });
    }
    let new = diff.new_manifests(ManifestContentType::Data);
    let spec_ids = new.map(|(_, manifest)| manifest.partition_spec_id).collect();
    let deletes = deletes(table, &diff).await?;
    let equality_ids = equality_ids(&deletes);
    let key = match (key, &equality_ids) {
        ([], Some(ids)) => ids,
        _ => key,
    };
    let mut units = units(table.metadata(), &diff, &deletes, grouping).await?;
    if !rows_stay(table, to, &units, key) {
        units = units.into_one();
    }
    let tally = units.tally;
    let units = units.finish(base, to);
    Ok(SnapshotChanges {
        class: if units.is_empty() { ChangeClass::Nothing } else { ChangeClass::Mixed },
        spec_ids,
        manifests: diff.manifests,
        units,
        deletes,
        base,
        equality_ids,
        tally,
        ..nothing(table, to)
    })
}

/// Whether equal rows, and rows of one key, are in one partition on both sides.
fn rows_stay(table: &Table, to: &SnapshotRef, units: &Units, key: &[i32]) -> bool {
    let specs = units.specs();
    let Some(first) = specs.first() else { return true };
    let Some(spec) = table.metadata().partition_spec_by_id(*first) else { return false };
    // Without a key only equal rows go together. The columns they are compared by are those of the
    // snapshot, so that its units stay what they are when the table changes.
    let decides = |id: i32| match key {
        [] => table.schema_of(to).field_by_id(id).is_some(),
        key => key.contains(&id),
    };
    specs.len() == 1 && spec.fields().iter().all(|field| decides(field.source_id))
}

/// The one set of columns that all equality deletes of both sides compare.
fn equality_ids(deletes: &Deletes) -> Option<Vec<i32>> {
    let both = deletes.before.files().chain(deletes.after.files());
    let equality = both.filter(|d| d.file.content == DataContentType::EqualityDeletes);
    let sets: BTreeSet<BTreeSet<i32>> =
        equality.map(|d| d.file.equality_ids.iter().flatten().copied().collect()).collect();
    let mut sets = sets.into_iter();
    match (sets.next(), sets.next()) {
        (Some(one), None) => Some(one.into_iter().collect()),
        _ => None,
    }
}
