//! Manifests in the place of others: same entries, other files.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{ManifestWriter, UNASSIGNED};
use crate::spec::{ManifestContentType, ManifestFile, SnapshotId};

use super::delta::{Delta, OperationKind};
use super::produce::{Produced, live_count};
use super::summary::SummaryCounts;
use super::{Commit, Table};

impl Table {
    /// Replaces manifests by others that list the same live files with the numbers that they have.
    ///
    /// The new manifests hold kept entries only ([`ManifestWriter::existing`]) and may carry any
    /// snapshot id: the commit puts its own. Manifests that others add meanwhile are kept; if one
    /// of `removed` is gone, the commit is refused (MNT-50). The caller removes what it
    /// wrote when the commit definitely fails.
    pub fn replace_manifests(&self, removed: BTreeSet<String>, added: Vec<ManifestFile>) -> Commit {
        let mut delta = Delta::new(OperationKind::Rewrite);
        delta.removed_manifests = removed;
        delta.added_manifests = added;
        delta.no_logical_change = true;
        Commit::new(self.clone(), delta)
    }

    /// A writer of manifests of one spec and kind of content, as the table's properties want it.
    ///
    /// # Errors
    /// `CorruptData` if the table has no such spec; `InvalidInput` for an unknown codec property.
    pub(crate) fn manifest_writer(
        &self,
        content: ManifestContentType,
        spec_id: i32,
    ) -> Result<ManifestWriter> {
        Ok(ManifestWriter::new(
            content,
            self.schema().clone(),
            self.spec(spec_id)?.clone(),
            self.partition_types(spec_id)?,
            SnapshotId(self.environment().ids.snapshot_id()),
            super::commit::manifest_codec(self)?,
        ))
    }
}

/// The manifests of `head` with the delta's in the place of those that it removes.
pub(super) fn replace(id: SnapshotId, head: &[ManifestFile], delta: &Delta) -> Result<Produced> {
    let here: HashSet<&str> = head.iter().map(|m| m.manifest_path.as_str()).collect();
    if let Some(gone) = delta.removed_manifests.iter().find(|path| !here.contains(path.as_str())) {
        return Err(Error::new(
            ErrorKind::ValidationFailed,
            "a manifest to replace is no longer part of the table",
        )
        .with_context("manifest", gone)
        .with_hint("somebody replaced it meanwhile: refresh the table and plan again"));
    }
    let is_removed = |m: &&ManifestFile| delta.removed_manifests.contains(&m.manifest_path);
    let (removed, kept): (Vec<_>, Vec<_>) = head.iter().partition(is_removed);
    check_same_entries(&removed, &delta.added_manifests)?;
    let own = delta.added_manifests.iter().map(|manifest| ManifestFile {
        added_snapshot_id: id.0,
        sequence_number: UNASSIGNED,
        ..manifest.clone()
    });
    let mut counts = SummaryCounts::default();
    counts.manifests_created = delta.added_manifests.len();
    counts.manifests_kept = kept.len();
    counts.manifests_replaced = removed.len();
    counts.entries_processed = removed.iter().map(|manifest| live_count(manifest)).sum();
    // Newest first: manifests of others are younger than what was rewritten. Data comes first.
    let mut manifests: Vec<ManifestFile> = kept.into_iter().cloned().chain(own).collect();
    manifests.sort_by_key(|manifest| manifest.content != ManifestContentType::Data);
    Ok(Produced { manifests, counts })
}

/// A last look: the new manifests list as many files and rows as those that they replace.
fn check_same_entries(removed: &[&ManifestFile], added: &[ManifestFile]) -> Result<()> {
    let wrong = |what: &str| {
        Err(Error::invalid(format!("manifests cannot be replaced: {what}"))
            .with_hint("write every live entry of the old manifests once, as a kept one"))
    };
    let is_new = |m: &ManifestFile| m.has_added_files() || m.has_deleted_files();
    if added.iter().any(is_new) {
        return wrong("an entry is marked as added or deleted");
    }
    // Manifests of format version 1 need not count.
    if removed.iter().any(|m| m.added_files_count.is_none() || m.existing_files_count.is_none()) {
        return Ok(());
    }
    if live(removed.iter().copied()) != live(added.iter()) {
        return wrong("the new ones list other numbers of files");
    }
    Ok(())
}

/// Live files and rows by content and spec.
fn live<'a>(
    manifests: impl Iterator<Item = &'a ManifestFile>,
) -> BTreeMap<(bool, i32), (u64, u64)> {
    let mut all: BTreeMap<(bool, i32), (u64, u64)> = BTreeMap::new();
    for manifest in manifests.filter(|m| live_count(m) > 0) {
        let is_data = manifest.content == ManifestContentType::Data;
        let (files, rows) = all.entry((is_data, manifest.partition_spec_id)).or_default();
        *files += live_count(manifest);
        *rows += manifest.added_rows_count.unwrap_or(0) + manifest.existing_rows_count.unwrap_or(0);
    }
    all
}
