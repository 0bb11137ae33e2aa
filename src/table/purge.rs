//! Removing every file of a table that was dropped.

use std::collections::BTreeSet;

use futures::TryStreamExt;

use crate::error::{Error, ErrorKind, Result};
use crate::spec::{property, snapshots_of};
use crate::storage::UNFINISHED;

use super::Table;

/// Where maintainers of a table keep their leases, below its location; hidden, so that nobody
/// takes them for orphans (MNT-34).
pub(crate) const MAINTENANCE_FOLDER: &str = "metadata/_meltwater-maintain";

/// What a purge removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PurgeReport {
    /// Data and delete files.
    pub content_files: usize,
    /// Manifests, manifest lists, metadata and statistics files, and our own files beside them.
    pub metadata_files: usize,
    /// Files that could not be removed.
    pub failed: usize,
}

impl Table {
    /// Refuses a table whose files may belong to others, too (MNT-24).
    ///
    /// # Errors
    /// `InvalidInput` when `gc.enabled` is `false`.
    pub fn check_gc_enabled(&self) -> Result<()> {
        if self.properties().flag(property::GC_ENABLED, true)? {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "files of table `{}` must not be deleted: `gc.enabled` is false",
            self.ident()
        ))
        .with_hint("another table may share them; set `gc.enabled` to true if none does"))
    }

    /// Deletes every file that any snapshot of this version refers to, and our own files in the
    /// table's folder that no snapshot does: leases of maintainers, and what was under
    /// construction when a process died. Content goes before metadata, so that an interrupted
    /// purge can be repeated. Call it after the catalog dropped the table.
    ///
    /// # Errors
    /// `InvalidInput` when `gc.enabled` is `false`: the files may belong to another table.
    /// Reading errors of manifests; files that cannot be deleted are only counted.
    pub async fn purge_files(&self) -> Result<PurgeReport> {
        self.check_gc_enabled()?;
        let (mut content, mut metadata) = (BTreeSet::new(), BTreeSet::new());
        for snapshot in snapshots_of(self.metadata()) {
            for manifest in self.manifests(snapshot).await?.iter() {
                if metadata.insert(manifest.manifest_path.clone()) {
                    let entries = self.entries(manifest).await?;
                    content.extend(entries.iter().map(|e| e.file.file_path.clone()));
                }
            }
            metadata.insert(snapshot.manifest_list().to_string());
        }
        metadata.extend(self.metadata().statistics_iter().map(|s| s.statistics_path.clone()));
        let partitions = self.metadata().partition_statistics_iter();
        metadata.extend(partitions.map(|s| s.statistics_path.clone()));
        metadata.extend(self.metadata().metadata_log().iter().map(|l| l.metadata_file.clone()));
        metadata.insert(self.metadata_location().to_string());
        metadata.extend(self.unnamed_files().await?);
        let mut report =
            PurgeReport { content_files: content.len(), metadata_files: metadata.len(), failed: 0 };
        for location in content.iter().chain(&metadata) {
            if self.storage().delete(location).await.is_err() {
                report.failed += 1;
            }
        }
        Ok(report)
    }

    /// Files of ours in the table's folders that no metadata names.
    async fn unnamed_files(&self) -> Result<Vec<String>> {
        let leases =
            format!("{}/{MAINTENANCE_FOLDER}", self.metadata().location().trim_end_matches('/'));
        let mut found = self.listed(&leases, |_| true).await?;
        // Stores other than local disks show no file before it is whole.
        for folder in [self.data_location(), self.manifest_location()] {
            if self.storage().is_local(&folder) {
                found.extend(self.listed(&folder, |name| name.starts_with(UNFINISHED)).await?);
            }
        }
        Ok(found)
    }

    async fn listed(&self, folder: &str, is_ours: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let listing = self.storage().list(folder)?.map_ok(|file| file.location);
        let ours = listing.try_filter(|location| {
            std::future::ready(is_ours(location.rsplit('/').next().unwrap_or_default()))
        });
        match ours.try_collect().await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    }
}
