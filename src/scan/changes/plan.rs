//! From manifests to the changes of a snapshot.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::TryStreamExt;
use tracing::debug;

use super::diff::ManifestDiff;
use super::units::units;
use super::{Base, ChangeClass, Deletes, Grouping, SnapshotChanges, Tally};
use crate::deletes::{DeleteFile, DeleteFileIndex};
use crate::error::{Error, Result};
use crate::spec::{
    FormatVersion, ManifestContentType, ManifestEntry, ManifestFile, Operation, SnapshotRef,
};
use crate::table::{Table, summary_key};

impl Table {
    /// Finds what a snapshot changes.
    ///
    /// * Cost: the manifests that the snapshot and its parent do not share; for deletes of files
    ///   that stayed, the data manifests that may list those files.
    /// * Memory: flat for inserts; about 16 bytes a file for mixed changes, and the delete files.
    ///
    /// # Errors
    /// `Unsupported` for format versions above 2; what reading manifests gives.
    pub async fn plan_changes(
        &self,
        snapshot: &SnapshotRef,
        grouping: Grouping,
    ) -> Result<Arc<SnapshotChanges>> {
        check_version(self)?;
        let planned = plan(self, snapshot, grouping).await;
        let changes = planned.map_err(|e| e.with_context("snapshot", snapshot.snapshot_id()))?;
        debug!(snapshot = snapshot.snapshot_id(), class = ?changes.class,
            units = changes.units.len(), "planned changes");
        Ok(Arc::new(changes))
    }

    /// A whole snapshot as if every live row had just been inserted: the start of a stream.
    ///
    /// # Errors
    /// As [`Table::plan_changes`].
    pub async fn plan_all_rows(&self, snapshot: &SnapshotRef) -> Result<Arc<SnapshotChanges>> {
        check_version(self)?;
        let manifests = self.manifests(snapshot).await?.to_vec();
        let after = deletes_of(self, &manifests).await?;
        let holds_data = |m: &&ManifestFile| {
            let some = |count: Option<u32>| count != Some(0);
            m.content == ManifestContentType::Data
                && (some(m.added_files_count) || some(m.existing_files_count))
        };
        let numbered = (0u32..).zip(&manifests).filter(|(_, m)| holds_data(m));
        let added_manifests: Vec<_> = numbered.map(|(at, m)| (at, m.clone())).collect();
        Ok(Arc::new(SnapshotChanges {
            whole: true,
            class: ChangeClass::Inserts,
            spec_ids: added_manifests.iter().map(|(_, m)| m.partition_spec_id).collect(),
            added_manifests,
            deletes: Deletes { after, ..Deletes::default() },
            ..nothing(self, snapshot)
        }))
    }
}

pub(super) fn check_version(table: &Table) -> Result<()> {
    let version = table.metadata().format_version();
    if matches!(version, FormatVersion::V1 | FormatVersion::V2) {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "table `{}` has format version {}",
        table.ident(),
        version as u8
    ))
    .with_hint("this version reads format versions 1 and 2"))
}

pub(super) fn nothing(table: &Table, snapshot: &SnapshotRef) -> SnapshotChanges {
    SnapshotChanges {
        table: table.clone(),
        snapshot: snapshot.clone(),
        class: ChangeClass::Nothing,
        whole: false,
        spec_ids: BTreeSet::new(),
        added_manifests: Vec::new(),
        manifests: Vec::new(),
        units: Vec::new(),
        deletes: Deletes::default(),
        base: Base::Parent,
        equality_ids: None,
        tally: Tally::default(),
    }
}

/// True for rewrites and for our own marked conversions (CHG-2).
fn is_logically_empty(snapshot: &SnapshotRef) -> bool {
    let summary = snapshot.summary();
    summary.operation == Operation::Replace
        || summary
            .additional_properties
            .get(summary_key::LOGICAL_CHANGE)
            .is_some_and(|v| v == "none")
}

async fn plan(
    table: &Table,
    snapshot: &SnapshotRef,
    grouping: Grouping,
) -> Result<SnapshotChanges> {
    use ManifestContentType::{Data, Deletes as DeleteContent};
    if is_logically_empty(snapshot) {
        return Ok(nothing(table, snapshot));
    }
    let diff = ManifestDiff::load(table, Base::Parent, snapshot).await?;
    let is_mixed =
        diff.may_remove(Data) || diff.may_remove(DeleteContent) || diff.may_add(DeleteContent);
    let (added_manifests, spec_ids) = added_manifests(&diff);
    if is_mixed {
        let deletes = deletes(table, &diff).await?;
        let units = units(table.metadata(), &diff, &deletes, grouping).await?;
        let tally = units.tally;
        let units = units.finish(Base::Parent, snapshot);
        let class = if units.is_empty() { ChangeClass::Nothing } else { ChangeClass::Mixed };
        let manifests = diff.manifests;
        return Ok(SnapshotChanges {
            class,
            spec_ids,
            manifests,
            units,
            deletes,
            tally,
            ..nothing(table, snapshot)
        });
    }
    if added_manifests.is_empty() {
        return Ok(nothing(table, snapshot));
    }
    // Only data that says to be older than its snapshot can be hit by deletes of others.
    let is_young = |m: &ManifestFile| m.min_sequence_number >= snapshot.sequence_number();
    let after = if added_manifests.iter().all(|(_, m)| is_young(m)) {
        Arc::default()
    } else {
        deletes_of(table, diff.manifests.get(..diff.own).unwrap_or_default()).await?
    };
    Ok(SnapshotChanges {
        class: ChangeClass::Inserts,
        spec_ids,
        added_manifests,
        deletes: Deletes { after, ..Deletes::default() },
        ..nothing(table, snapshot)
    })
}

fn added_manifests(diff: &ManifestDiff) -> (Vec<(u32, ManifestFile)>, BTreeSet<i32>) {
    let adds = |m: &ManifestFile| m.added_files_count != Some(0);
    let new = diff.new_manifests(ManifestContentType::Data).filter(|(_, m)| adds(m));
    let new: Vec<_> = new.map(|(at, m)| (at as u32, m.clone())).collect();
    let specs = new.iter().map(|(_, m)| m.partition_spec_id).collect();
    (new, specs)
}

/// The live delete files of manifests.
async fn deletes_of(table: &Table, manifests: &[ManifestFile]) -> Result<Arc<DeleteFileIndex>> {
    let mut found = Vec::new();
    for manifest in manifests.iter().filter(|m| m.content == ManifestContentType::Deletes) {
        let entries = table.entries(manifest).await?;
        found.extend(entries.iter().filter(|e| e.is_live()).map(delete_file));
    }
    Ok(Arc::new(DeleteFileIndex::new(found, table.metadata())?))
}

fn delete_file(entry: &ManifestEntry) -> DeleteFile {
    DeleteFile { file: entry.file.clone(), sequence_number: entry.sequence_number }
}

/// The deletes of the snapshot, and from them those of its base, which may be gone itself:
/// without those that came, with those that went.
pub(super) async fn deletes(table: &Table, diff: &ManifestDiff) -> Result<Deletes> {
    let moved = diff.moved(ManifestContentType::Deletes).await?;
    let (mut added, mut removed, mut after) = (Vec::new(), Vec::new(), Vec::new());
    let own = diff.manifests.iter().take(diff.own).enumerate();
    let own: Vec<_> = own.filter(|(_, m)| m.content == ManifestContentType::Deletes).collect();
    let mut read = diff.read(own);
    while let Some((_, entries)) = read.try_next().await? {
        after.extend(entries.iter().filter(|e| e.is_live()).map(delete_file));
    }
    drop(read);
    for file in &moved {
        let Some(manifest) = diff.manifests.get(file.manifest) else { continue };
        let entries = table.entries(manifest).await?;
        let Some(entry) = entries.get(file.entry) else { continue };
        if file.added { &mut added } else { &mut removed }.push(delete_file(entry));
    }
    let came: std::collections::HashSet<&str> =
        added.iter().map(|d: &DeleteFile| d.file.file_path.as_str()).collect();
    let stayed = after.iter().filter(|d| !came.contains(d.file.file_path.as_str()));
    let before: Vec<DeleteFile> = stayed.cloned().chain(removed.iter().cloned()).collect();
    let index =
        |deletes| Ok::<_, Error>(Arc::new(DeleteFileIndex::new(deletes, table.metadata())?));
    Ok(Deletes {
        before: index(before)?,
        after: index(after)?,
        added: index(added)?,
        removed: index(removed)?,
    })
}
