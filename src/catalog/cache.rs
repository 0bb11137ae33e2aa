//! Parsed metadata by file, so that a commit or a refresh does not parse what this process just
//! read or wrote.
//!
//! Metadata files are written once, but a pointer name such as `v1.metadata.json` can be used
//! again after a drop, so every entry also holds the file's stamp.

use std::sync::Arc;

use moka::future::Cache;

use super::metadata::read_metadata;
use crate::error::Result;
use crate::spec::TableMetadataRef;
use crate::storage::Storage;

/// Parsed metadata takes about this many times the bytes of its file.
const PARSED_PER_FILE_BYTE: u64 = 3;

/// The budget of one catalog's cache.
const BUDGET_BYTES: u64 = 32 * 1024 * 1024;

#[derive(Debug, Clone)]
struct Entry {
    metadata: TableMetadataRef,
    /// What told this file from others of the same name; `None`: names are never used again.
    stamp: Option<String>,
    weight: u32,
}

/// A cache of one catalog, shared by its clones.
#[derive(Debug, Clone)]
pub(super) struct MetadataCache {
    entries: Cache<Arc<str>, Entry>,
}

impl Default for MetadataCache {
    fn default() -> Self {
        let entries = Cache::builder()
            .max_capacity(BUDGET_BYTES)
            .weigher(|key: &Arc<str>, entry: &Entry| entry.weight.saturating_add(key.len() as u32))
            .build();
        Self { entries }
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
        if let Some(entry) = self.entries.get(location).await
            && entry.stamp == stamp
        {
            return Ok(entry.metadata);
        }
        let bytes = storage.read(location).await?;
        let metadata = Arc::new(read_metadata(&bytes, location)?);
        self.put(location, metadata.clone(), bytes.len(), stamp).await;
        Ok(metadata)
    }

    /// Keeps what was just written.
    pub(super) async fn put(
        &self,
        location: &str,
        metadata: TableMetadataRef,
        file_bytes: usize,
        stamp: Option<String>,
    ) {
        let weight = (file_bytes as u64).saturating_mul(PARSED_PER_FILE_BYTE);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        self.entries.insert(Arc::from(location), Entry { metadata, stamp, weight }).await;
    }
}
