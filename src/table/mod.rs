//! Files to snapshots: the table handle, its history, and every way to change it.
//!
//! A [`Table`] is an immutable view of one metadata version. Readers work on it; operations
//! such as [`Table::append`] refresh it in their commit loop and return the new view.

mod attempt;
mod commit;
mod delta;
mod evolve;
mod history;
mod idempotency;
mod manifests;
mod operations;
mod positions;
mod produce;
mod purge;
mod refs;
mod result;
mod retry;
mod summary;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod validate;
mod watch;

use std::fmt;
use std::sync::Arc;

use crate::catalog::{Catalog, LoadedTable};
use crate::clock::Environment;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{ManifestCache, ReadOptions};
use crate::spec::{
    ManifestEntry, ManifestFile, PartitionKey, PartitionSpecRef, SchemaRef, SnapshotRef,
    TableIdent, TableMetadataRef, TableProperties, Type, partition_path, partition_types, property,
};
use crate::storage::Storage;

pub use commit::{Commit, Committed};
pub use delta::{AddedDelete, Delta, Isolation, OperationKind, RemovedFile};
pub(crate) use evolve::Change;
pub use evolve::{SchemaUpdate, SpecUpdate, UpdateProperties};
pub use history::{At, SnapshotRange};
pub use positions::{PositionHold, PositionLog, PositionStore, StoredPosition};
pub(crate) use produce::{MAX_ENTRIES, may_hold};
pub(crate) use purge::MAINTENANCE_FOLDER;
pub use purge::PurgeReport;
pub use refs::RefUpdate;
pub use result::{LookedUp, WriteResult};
pub use summary::key as summary_key;
pub(crate) use token::LegStart;
pub use token::{Cursor, Inside, MAX_GROUPS, NetStep, PLANNER_VERSION, Place, Run, Token};
pub use watch::Watch;

/// One version of one table, with what it takes to read and change it. Cheap to clone.
#[derive(Clone)]
pub struct Table {
    inner: Arc<TableInner>,
}

struct TableInner {
    catalog: Arc<dyn Catalog>,
    ident: TableIdent,
    loaded: LoadedTable,
    environment: Environment,
    manifests: Arc<ManifestCache>,
}

impl Table {
    /// Loads the current version of a table.
    ///
    /// # Errors
    /// `NotFound` if the catalog has no such table; what its metadata's reading gives.
    pub async fn load(catalog: Arc<dyn Catalog>, ident: &TableIdent) -> Result<Self> {
        let loaded = catalog.load_table(ident).await?;
        Ok(Self::from_loaded(catalog, ident.clone(), loaded))
    }

    /// A handle on what a catalog just returned, such as from creating a table.
    pub fn from_loaded(catalog: Arc<dyn Catalog>, ident: TableIdent, loaded: LoadedTable) -> Self {
        Self {
            inner: Arc::new(TableInner {
                catalog,
                ident,
                loaded,
                environment: Environment::default(),
                manifests: ManifestCache::shared(),
            }),
        }
    }

    /// Same table with another clock and other identifiers.
    pub fn with_environment(&self, environment: Environment) -> Self {
        self.rebuilt(self.inner.loaded.clone(), environment, self.inner.manifests.clone())
    }

    /// Same table with a manifest cache of its own instead of the process-wide one.
    pub fn with_manifest_cache(&self, manifests: Arc<ManifestCache>) -> Self {
        self.rebuilt(self.inner.loaded.clone(), self.inner.environment.clone(), manifests)
    }

    /// The version that is current now.
    ///
    /// # Errors
    /// As [`Table::load`]; `HistoryRewritten` if another table took the name.
    pub async fn refresh(&self) -> Result<Self> {
        let loaded = self.inner.catalog.load_table(&self.inner.ident).await?;
        if loaded.metadata.uuid() != self.metadata().uuid() {
            return Err(Error::new(
                ErrorKind::HistoryRewritten,
                format!("table `{}` was dropped and made anew", self.inner.ident),
            )
            .with_context("was", self.metadata().uuid())
            .with_context("is", loaded.metadata.uuid())
            .with_hint("load the table again and start from its first snapshot"));
        }
        Ok(self.with_loaded(loaded))
    }

    fn with_loaded(&self, loaded: LoadedTable) -> Self {
        self.rebuilt(loaded, self.inner.environment.clone(), self.inner.manifests.clone())
    }

    fn rebuilt(
        &self,
        loaded: LoadedTable,
        environment: Environment,
        manifests: Arc<ManifestCache>,
    ) -> Self {
        let (catalog, ident) = (self.inner.catalog.clone(), self.inner.ident.clone());
        Self { inner: Arc::new(TableInner { catalog, ident, loaded, environment, manifests }) }
    }

    /// The table's name in its catalog.
    pub fn ident(&self) -> &TableIdent {
        &self.inner.ident
    }

    /// The catalog that swaps this table's metadata.
    pub fn catalog(&self) -> &Arc<dyn Catalog> {
        &self.inner.catalog
    }

    /// The metadata of this version.
    pub fn metadata(&self) -> &TableMetadataRef {
        &self.inner.loaded.metadata
    }

    /// Where the metadata of this version lies.
    pub fn metadata_location(&self) -> &str {
        &self.inner.loaded.metadata_location
    }

    /// The stores that hold the table's files.
    pub fn storage(&self) -> &Storage {
        &self.inner.loaded.storage
    }

    /// Clock and identifiers.
    pub fn environment(&self) -> &Environment {
        &self.inner.environment
    }

    /// The cache of manifests that this handle reads through.
    pub fn manifest_cache(&self) -> &Arc<ManifestCache> {
        &self.inner.manifests
    }

    /// The current schema.
    pub fn schema(&self) -> &SchemaRef {
        self.metadata().current_schema()
    }

    /// Typed access to the table properties.
    pub fn properties(&self) -> TableProperties<'_> {
        TableProperties::new(self.metadata().properties())
    }

    /// The head of `main`, or `None` before the first commit.
    pub fn current_snapshot(&self) -> Option<&SnapshotRef> {
        self.metadata().current_snapshot()
    }

    /// The manifests of a snapshot, in the order of its manifest list.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `CorruptData` naming the manifest list.
    pub async fn manifests(&self, snapshot: &SnapshotRef) -> Result<Arc<Vec<ManifestFile>>> {
        let version = self.metadata().format_version();
        let read = self.inner.manifests.list(self.storage(), snapshot.manifest_list(), version);
        read.await.map_err(|e| e.with_context("snapshot", snapshot.snapshot_id()))
    }

    /// The entries of a manifest, in file order, inherited values filled in, partition values
    /// widened to today's types (MAN-10).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `CorruptData` naming the manifest.
    pub async fn entries(&self, manifest: &ManifestFile) -> Result<Arc<Vec<ManifestEntry>>> {
        let types = self.partition_types(manifest.partition_spec_id)?;
        let options = ReadOptions { partition_types: Some(types.into()), ..ReadOptions::default() };
        self.inner.manifests.entries_with(self.storage(), manifest, &options).await
    }

    /// A partition spec of the table.
    ///
    /// # Errors
    /// `CorruptData` if the table has no such spec.
    pub fn spec(&self, spec_id: i32) -> Result<&PartitionSpecRef> {
        self.metadata().partition_spec_by_id(spec_id).ok_or_else(|| {
            Error::corrupt(format!("the table has no partition spec {spec_id}"))
                .with_context("table", self.ident())
        })
    }

    /// The types of a spec's partition values.
    ///
    /// # Errors
    /// `CorruptData` if the table has no such spec or no schema knows its source columns.
    pub fn partition_types(&self, spec_id: i32) -> Result<Vec<Type>> {
        partition_types(self.spec(spec_id)?, self.metadata())
    }

    /// The schema that a snapshot was written with; the current one if it does not say.
    pub fn schema_of(&self, snapshot: &SnapshotRef) -> &SchemaRef {
        let by_id = snapshot.schema_id().and_then(|id| self.metadata().schema_by_id(id));
        by_id.unwrap_or_else(|| self.schema())
    }

    /// The folder of data files: `write.data.path`, else `<location>/data`.
    pub fn data_location(&self) -> String {
        self.folder(property::DATA_PATH, "data")
    }

    /// The folder of manifests: `write.metadata.path`, else `<location>/metadata`.
    pub fn manifest_location(&self) -> String {
        self.folder(property::METADATA_PATH, "metadata")
    }

    fn folder(&self, property: &str, default: &str) -> String {
        match self.properties().get(property) {
            Some(path) => path.trim_end_matches('/').to_string(),
            None => format!("{}/{default}", self.metadata().location().trim_end_matches('/')),
        }
    }

    /// A fresh location for a data or delete file of a partition. `kind` goes into the name, such
    /// as `data`, `pos-deletes`, `eq-deletes`.
    ///
    /// # Errors
    /// `CorruptData` if the table has no such spec.
    pub fn new_data_path(&self, partition: &PartitionKey, kind: &str) -> Result<String> {
        let spec = self.spec(partition.spec_id)?;
        let folder = partition_path(spec, self.schema(), &partition.values);
        let id = self.environment().ids.uuid();
        let slash = if folder.is_empty() { "" } else { "/" };
        Ok(format!("{}/{folder}{slash}{id}-{kind}.parquet", self.data_location()))
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("ident", &self.inner.ident.to_string())
            .field("metadata_location", &self.metadata_location())
            .finish_non_exhaustive()
    }
}
