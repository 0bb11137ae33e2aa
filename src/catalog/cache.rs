//! Parsed metadata by file, so that a commit or a refresh does not parse what this process just
//! read or wrote.
//!
//! Metadata files are written once, but a pointer name such as `v1.metadata.json` can be used
//! again after a drop, so every entry also holds the file's stamp.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use moka::policy::EvictionPolicy;

use super::LoadedTable;
use super::metadata::read_metadata;
use super::naming::wants_gzip;
use super::render::{Refs, SnapshotTexts};
use crate::clock::from_cache;
use crate::error::Result;
use crate::spec::{TableMetadata, TableMetadataRef, refs_of};
use crate::storage::Storage;

/// Parsed metadata takes about this many times the bytes of its file.
const PARSED_PER_FILE_BYTE: u64 = 3;

/// The budget of one catalog's cache.
const BUDGET_BYTES: u64 = 64 * 1024 * 1024;
/// Whoever works on a table asks for its head more often; what it was before nobody asks for.
const KEPT_IDLE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Entry {
    metadata: TableMetadataRef,
    /// `None`: nobody has asked for them yet.
    refs: Option<Arc<Refs>>,
    /// What told this file from others of the same name; `None`: names are never used again.
    stamp: Option<String>,
    weight: u32,
}

/// A cache of one catalog, shared by its clones.
#[derive(Debug, Clone)]
pub(super) struct MetadataCache {
    entries: Cache<Arc<str>, Entry>,
    texts: Arc<SnapshotTexts>,
}

impl Default for MetadataCache {
    fn default() -> Self {
        let entries = Cache::builder()
            .max_capacity(BUDGET_BYTES)
            .time_to_idle(KEPT_IDLE)
            // The head of a table is asked for often once it is new, and never before.
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|key: &Arc<str>, entry: &Entry| entry.weight.saturating_add(key.len() as u32))
            .build();
        Self { entries, texts: Arc::default() }
    }
}

impl MetadataCache {
    /// The metadata of a file whose name is used once only.
    pub(super) async fn load(&self, storage: &Storage, location: &str) -> Result<TableMetadataRef> {
        self.load_stamped(storage, location, None).await
    }

    /// The metadata of a file as it was when `stamp` was taken.
    pub(super) async fn load_stamped(
        &self,
        storage: &Storage,
        location: &str,
        stamp: Option<String>,
    ) -> Result<TableMetadataRef> {
        if let Some(entry) = from_cache(self.entries.get(location)).await
            && entry.stamp == stamp
        {
            return Ok(entry.metadata);
        }
        let bytes = storage.read(location).await?;
        let metadata = Arc::new(read_metadata(&bytes, location)?);
        self.insert(location, metadata.clone(), None, bytes.len(), stamp).await;
        Ok(metadata)
    }

    /// The branches and tags of a table that was loaded here.
    pub(super) async fn refs(&self, table: &LoadedTable) -> Result<Arc<Refs>> {
        if let Some(entry) = from_cache(self.entries.get(table.metadata_location.as_str())).await
            && Arc::ptr_eq(&entry.metadata, &table.metadata)
            && let Some(refs) = entry.refs
        {
            return Ok(refs);
        }
        Ok(Arc::new(refs_of(&table.metadata)?))
    }

    /// The bytes of a metadata file, in the codec that the table names.
    pub(super) fn render(&self, metadata: &TableMetadata, refs: &Refs) -> Result<Bytes> {
        self.texts.write(metadata, refs, wants_gzip(metadata))
    }

    /// Keeps what was just written.
    pub(super) async fn put(
        &self,
        location: &str,
        metadata: TableMetadataRef,
        refs: Refs,
        file_bytes: usize,
        stamp: Option<String>,
    ) {
        self.insert(location, metadata, Some(Arc::new(refs)), file_bytes, stamp).await;
    }

    async fn insert(
        &self,
        location: &str,
        metadata: TableMetadataRef,
        refs: Option<Arc<Refs>>,
        file_bytes: usize,
        stamp: Option<String>,
    ) {
        let weight = (file_bytes as u64).saturating_mul(PARSED_PER_FILE_BYTE);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        let entry = Entry { metadata, refs, stamp, weight };
        from_cache(self.entries.insert(Arc::from(location), entry)).await;
    }
}
