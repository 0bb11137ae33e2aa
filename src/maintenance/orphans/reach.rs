//! Everything that a table names: from every snapshot of every metadata version in its log.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::places::Places;
use crate::catalog::{LoadedTable, read_metadata};
use crate::error::{ErrorKind, Result};
use crate::maintenance::paths::fingerprint;
use crate::spec::{ManifestFile, SnapshotRef, snapshots_of};
use crate::table::Table;

/// Manifests that are read at the same time.
const READERS: usize = 8;

/// Takes from `places` what `table` names (MNT-31).
///
/// # Errors
/// Anything of the current version that cannot be read; of older versions, anything but what is
/// gone: an expired snapshot's files may be.
pub(super) async fn name_all(table: &Table, places: &mut Places) -> Result<()> {
    let mut walk = Walk { places, seen: HashSet::new(), is_current: true };
    let metadata = table.metadata();
    walk.places.name(table.metadata_location())?;
    walk.places.name(&format!("{}/version-hint.text", table.manifest_location()))?;
    walk.version(table).await?;
    walk.is_current = false;
    for entry in metadata.metadata_log().iter().rev() {
        walk.places.name(&entry.metadata_file)?;
        if let Some(older) = older(table, &entry.metadata_file).await? {
            walk.version(&older).await?;
        }
    }
    Ok(())
}

/// An older version of a table; `None` if its file is gone.
async fn older(table: &Table, location: &str) -> Result<Option<Table>> {
    let bytes = match table.storage().read(location).await {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let loaded = LoadedTable {
        metadata: Arc::new(read_metadata(&bytes, location)?),
        metadata_location: location.to_string(),
        config: Default::default(),
        storage: table.storage().clone(),
    };
    let older = Table::from_loaded(table.catalog().clone(), table.ident().clone(), loaded);
    Ok(Some(older.with_manifest_cache(table.manifest_cache().clone())))
}

struct Walk<'a> {
    places: &'a mut Places,
    /// Lists and manifests that were read.
    seen: HashSet<u128>,
    is_current: bool,
}

impl Walk<'_> {
    async fn version(&mut self, table: &Table) -> Result<()> {
        let metadata = table.metadata();
        for file in metadata.statistics_iter() {
            self.places.name(&file.statistics_path)?;
        }
        for file in metadata.partition_statistics_iter() {
            self.places.name(&file.statistics_path)?;
        }
        for snapshot in snapshots_of(metadata) {
            if self.seen.insert(fingerprint(snapshot.manifest_list())) {
                self.snapshot(table, snapshot).await?;
            }
        }
        Ok(())
    }

    async fn snapshot(&mut self, table: &Table, snapshot: &SnapshotRef) -> Result<()> {
        self.places.name(snapshot.manifest_list())?;
        let Some(manifests) = self.known(table.manifests(snapshot).await)? else { return Ok(()) };
        let mut fresh: Vec<ManifestFile> = Vec::new();
        for manifest in manifests.iter() {
            if self.seen.insert(fingerprint(&manifest.manifest_path)) {
                self.places.name(&manifest.manifest_path)?;
                fresh.push(manifest.clone());
            }
        }
        let is_current = self.is_current;
        let read = |manifest| async move {
            known(is_current, table.entries(&manifest).await).map(Option::unwrap_or_default)
        };
        let mut entries = stream::iter(fresh).map(read).buffer_unordered(READERS);
        while let Some(entries) = entries.try_next().await? {
            for entry in entries.iter().filter(|e| e.is_live()) {
                self.places.name(&entry.file.file_path)?;
            }
        }
        Ok(())
    }

    fn known<T>(&self, read: Result<T>) -> Result<Option<T>> {
        known(self.is_current, read)
    }
}

/// What an older version named and is gone names nothing any more.
fn known<T>(is_current: bool, read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(e) if e.kind() == ErrorKind::NotFound && !is_current => Ok(None),
        Err(e) => Err(e),
    }
}
