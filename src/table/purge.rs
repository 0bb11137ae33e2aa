//! Removing every file of a table that was dropped.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::spec::property;

use super::Table;

/// What a purge removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PurgeReport {
    /// Data and delete files.
    pub content_files: usize,
    /// Manifests, manifest lists, metadata and statistics files.
    pub metadata_files: usize,
    /// Files that could not be removed.
    pub failed: usize,
}

impl Table {
    /// Refuses a table whose files may belong to others, too (MNT-24).
    ///
    /// # Errors
    /// `InvalidInput` when `gc.enabled` is `false`.
    pub(crate) fn check_gc_enabled(&self) -> Result<()> {
        if self.properties().flag(property::GC_ENABLED, true)? {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "files of table `{}` must not be deleted: `gc.enabled` is false",
            self.ident()
        ))
        .with_hint("another table may share them; set `gc.enabled` to true if none does"))
    }

    /// Deletes every file that any snapshot of this version refers to, content before metadata,
    /// so that an interrupted purge can be repeated. Call it after the catalog dropped the table.
    ///
    /// # Errors
    /// `InvalidInput` when `gc.enabled` is `false`: the files may belong to another table.
    /// Reading errors of manifests; files that cannot be deleted are only counted.
    pub async fn purge_files(&self) -> Result<PurgeReport> {
        self.check_gc_enabled()?;
        let (mut content, mut metadata) = (BTreeSet::new(), BTreeSet::new());
        for snapshot in self.metadata().snapshots() {
            for manifest in self.manifests(snapshot).await?.iter() {
                if metadata.insert(manifest.manifest_path.clone()) {
                    let entries = self.entries(manifest).await?;
                    content.extend(entries.iter().map(|e| e.file.file_path.clone()));
                }
            }
            metadata.insert(snapshot.manifest_list().to_string());
        }
        metadata.extend(self.metadata().statistics_iter().map(|s| s.statistics_path.clone()));
        metadata.extend(self.metadata().metadata_log().iter().map(|l| l.metadata_file.clone()));
        metadata.insert(self.metadata_location().to_string());
        let mut report =
            PurgeReport { content_files: content.len(), metadata_files: metadata.len(), failed: 0 };
        for location in content.iter().chain(&metadata) {
            if self.storage().delete(location).await.is_err() {
                report.failed += 1;
            }
        }
        Ok(report)
    }
}
