//! Loads what delete files say, once, for all data files that share them.
//!
//! In: a data file and the delete files that the index gave for it. Out: a bitmap of dead
//! positions and maps of dead keys. Whoever asks first loads; everybody else waits for that one
//! load. Memory stays within a budget: maps and bitmaps that were not used lately go first, and
//! keys that do not fit at all are served in hash parts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::buffer::BooleanBuffer;
use arrow::record_batch::RecordBatch;
use futures::stream::BoxStream;
use moka::future::Cache;
use roaring::RoaringTreemap;

use super::columns::KeyColumns;
use super::equality::{EqualityDeleteMap, HashPartition};
use super::group::{Group, Loaded, Source};
use super::index::{id_set, scope_key};
use super::key_read::read_keys;
use super::positions::read_positions;
use super::{DeleteFile, DeleteFileIndex};
use crate::clock::from_cache;
use crate::error::{Error, Result};
use crate::spec::{
    DataContentType, DataFile, NameMapping, PartitionKey, SequenceNumber, TableMetadataRef,
};
use crate::storage::Storage;

/// Scope (none is global) and the exact set of equality ids.
type GroupKey = (Option<PartitionKey>, Vec<i32>);
/// What one position delete file says.
type Bitmaps = Arc<HashMap<String, Arc<RoaringTreemap>>>;

/// Reads delete files of one table and keeps what they say. Clones share everything.
#[derive(Debug, Clone)]
pub struct DeleteLoader {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    index: Option<Arc<DeleteFileIndex>>,
    equality_budget: usize,
    positions_budget: u64,
    groups: Mutex<HashMap<GroupKey, Arc<Group>>>,
    ticks: AtomicU64,
    positions: Cache<String, Bitmaps>,
}

/// The equality deletes of one data file.
#[derive(Debug, Default)]
pub struct EqualityDeletes {
    /// Maps to probe; a row dies by any of them.
    pub maps: Vec<Arc<EqualityDeleteMap>>,
    /// Deletes of more keys than memory may hold, to be applied part by part.
    pub oversized: Vec<OversizedDeletes>,
}

/// Equality deletes that are served in hash parts, because all keys would pass the budget.
#[derive(Debug, Clone)]
pub struct OversizedDeletes {
    /// The partition they are about; none for global ones.
    pub scope: Option<PartitionKey>,
    /// The columns they compare.
    pub columns: KeyColumns,
    /// The delete files.
    pub files: Vec<DeleteFile>,
    /// How many parts there are.
    pub parts: u32,
}

impl DeleteLoader {
    /// A loader that keeps at most `budget_bytes`: three quarters for keys, the rest for
    /// positions.
    pub fn new(
        storage: Storage,
        metadata: TableMetadataRef,
        name_mapping: Option<Arc<NameMapping>>,
        budget_bytes: u64,
    ) -> Self {
        let positions_budget = budget_bytes / 4;
        let weigh = |path: &String, bitmaps: &Bitmaps| {
            let bytes: u64 =
                bitmaps.iter().map(|(p, b)| p.len() as u64 + 96 + b.serialized_size() as u64).sum();
            u32::try_from(bytes + path.len() as u64 + 64).unwrap_or(u32::MAX)
        };
        let positions = Cache::builder().max_capacity(positions_budget).weigher(weigh).build();
        Self {
            inner: Arc::new(Inner {
                source: Source { storage, metadata, name_mapping },
                index: None,
                equality_budget: usize::try_from(budget_bytes / 4 * 3).unwrap_or(usize::MAX),
                positions_budget,
                groups: Mutex::default(),
                ticks: AtomicU64::new(0),
                positions,
            }),
        }
    }

    /// Same loader, which may load delete files ahead that later data files will ask for.
    /// To be called before anything is loaded.
    pub fn with_index(self, index: Arc<DeleteFileIndex>) -> Self {
        let inner = &self.inner;
        Self {
            inner: Arc::new(Inner {
                source: inner.source.clone(),
                index: Some(index),
                equality_budget: inner.equality_budget,
                positions_budget: inner.positions_budget,
                groups: Mutex::default(),
                ticks: AtomicU64::new(0),
                positions: inner.positions.clone(),
            }),
        }
    }

    /// The dead positions of a data file by all position deletes among `deletes`; `None` when
    /// there are none.
    ///
    /// # Errors
    /// `CorruptData`, `NotFound` or `Unavailable` naming the delete file.
    pub async fn positions(
        &self,
        file: &DataFile,
        deletes: &[DeleteFile],
    ) -> Result<Option<Arc<RoaringTreemap>>> {
        let mut union: Option<Arc<RoaringTreemap>> = None;
        let is_position = |d: &&DeleteFile| d.file.content == DataContentType::PositionDeletes;
        for delete in deletes.iter().filter(is_position) {
            let Some(bitmap) = self.positions_of(file, delete).await? else { continue };
            match &mut union {
                None => union = Some(bitmap),
                Some(all) => *Arc::make_mut(all) |= &*bitmap,
            }
        }
        Ok(union)
    }

    async fn positions_of(
        &self,
        file: &DataFile,
        delete: &DeleteFile,
    ) -> Result<Option<Arc<RoaringTreemap>>> {
        const BYTES_PER_ROW: u64 = 4;
        let storage = &self.inner.source.storage;
        let path = &file.file_path;
        let bytes = delete.file.record_count.saturating_mul(BYTES_PER_ROW);
        if delete.file.referenced_path().is_none() && bytes > self.inner.positions_budget {
            // Too large to keep for all its data files: only this one's rows, not kept.
            let found = read_positions(storage, &delete.file, Some(path)).await?;
            return Ok(found.into_values().next().map(Arc::new));
        }
        let load = async {
            let found = read_positions(storage, &delete.file, None).await?;
            Ok(Arc::new(found.into_iter().map(|(path, b)| (path, Arc::new(b))).collect()))
        };
        let key = delete.file.file_path.clone();
        let bitmaps = from_cache(self.inner.positions.try_get_with(key, load)).await;
        let bitmaps: Bitmaps = bitmaps.map_err(|e: Arc<Error>| e.again().with_source(e))?;
        Ok(bitmaps.get(path).cloned())
    }

    /// The dead keys of a data file by all equality deletes among `deletes`.
    ///
    /// # Errors
    /// `CorruptData`, `NotFound` or `Unavailable` naming the delete file.
    pub async fn equality(&self, deletes: &[DeleteFile]) -> Result<EqualityDeletes> {
        let mut found = EqualityDeletes::default();
        for (key, files) in self.by_group(deletes)? {
            let group = self.group(&key)?;
            let Inner { source, index, equality_budget, .. } = &*self.inner;
            let loaded = group.load(source, index.as_deref(), &files, *equality_budget).await?;
            self.evict(&key);
            match loaded {
                Loaded::Maps(maps) => found.maps.extend(maps),
                Loaded::Oversized(parts) => {
                    let (scope, columns) = (key.0, group.columns.clone());
                    found.oversized.push(OversizedDeletes { scope, columns, files, parts });
                }
            }
        }
        Ok(found)
    }

    /// The columns that the equality deletes among `deletes` compare, per set of ids.
    ///
    /// # Errors
    /// `CorruptData` if no schema of the table knows a column.
    pub fn key_columns(&self, deletes: &[DeleteFile]) -> Result<Vec<KeyColumns>> {
        let groups = self.by_group(deletes)?;
        groups.iter().map(|(key, _)| Ok(self.group(key)?.columns.clone())).collect()
    }

    /// The keys of one equality delete file, as they come.
    ///
    /// # Errors
    /// As [`DeleteLoader::equality`].
    pub async fn keys(
        &self,
        delete: &DeleteFile,
    ) -> Result<(KeyColumns, BoxStream<'static, Result<RecordBatch>>)> {
        let Source { storage, metadata, name_mapping } = &self.inner.source;
        let columns = KeyColumns::resolve(&id_set(&delete.file), metadata)?;
        let mapping = name_mapping.clone();
        let keys = read_keys(storage, metadata, mapping, &columns, &delete.file).await;
        let path = &delete.file.file_path;
        Ok((columns, keys.map_err(|e| e.with_context("equality delete file", path))?))
    }

    /// One part of deletes that did not fit whole. Not kept: the caller asks it for as many data
    /// files as it can before it drops it.
    ///
    /// # Errors
    /// As [`DeleteLoader::equality`].
    pub async fn part(
        &self,
        deletes: &OversizedDeletes,
        part: HashPartition,
    ) -> Result<EqualityDeleteMap> {
        let group = Group::new(deletes.columns.clone());
        let Inner { source, equality_budget, .. } = &*self.inner;
        group.load_part(source, &deletes.files, part, *equality_budget).await
    }

    fn by_group(&self, deletes: &[DeleteFile]) -> Result<Vec<(GroupKey, Vec<DeleteFile>)>> {
        let mut groups: Vec<(GroupKey, Vec<DeleteFile>)> = Vec::new();
        let mut at: HashMap<GroupKey, usize> = HashMap::new();
        for delete in deletes {
            if delete.file.content != DataContentType::EqualityDeletes {
                continue;
            }
            let key = (self.scope(&delete.file)?, id_set(&delete.file));
            let slot = *at.entry(key.clone()).or_insert_with(|| {
                groups.push((key, Vec::new()));
                groups.len() - 1
            });
            if let Some((_, files)) = groups.get_mut(slot) {
                files.push(delete.clone());
            }
        }
        Ok(groups)
    }

    fn scope(&self, file: &DataFile) -> Result<Option<PartitionKey>> {
        let spec = self.inner.source.metadata.partition_spec_by_id(file.spec_id);
        let spec = spec.ok_or_else(|| {
            Error::corrupt("delete file has an unknown partition spec")
                .with_context("delete file", &file.file_path)
        })?;
        Ok((!spec.is_unpartitioned()).then(|| scope_key(file)))
    }

    fn group(&self, key: &GroupKey) -> Result<Arc<Group>> {
        let tick = self.inner.ticks.fetch_add(1, Ordering::Relaxed);
        let mut groups = self.inner.groups.lock().map_err(|_| poisoned())?;
        if let Some(group) = groups.get(key) {
            group.used.store(tick, Ordering::Relaxed);
            return Ok(group.clone());
        }
        let columns = KeyColumns::resolve(&key.1, &self.inner.source.metadata)?;
        let group = Arc::new(Group::new(columns));
        group.used.store(tick, Ordering::Relaxed);
        groups.insert(key.clone(), group.clone());
        Ok(group)
    }

    /// Lets go of the groups that were not used for longest, until the rest fits.
    fn evict(&self, keep: &GroupKey) {
        let Ok(mut groups) = self.inner.groups.lock() else { return };
        let bytes = |g: &Arc<Group>| g.bytes.load(Ordering::Relaxed);
        let mut total: usize = groups.values().map(bytes).sum();
        while total > self.inner.equality_budget {
            let oldest = groups
                .iter()
                .filter(|(key, group)| *key != keep && bytes(group) > 0)
                .min_by_key(|(_, group)| group.used.load(Ordering::Relaxed));
            let Some((key, group)) = oldest.map(|(k, g)| (k.clone(), bytes(g))) else { return };
            groups.remove(&key);
            total = total.saturating_sub(group);
        }
    }
}

impl EqualityDeletes {
    /// True when no row can die by them.
    pub fn is_empty(&self) -> bool {
        self.maps.is_empty() && self.oversized.is_empty()
    }

    /// Which rows of a batch survive the maps; `None` when all do.
    ///
    /// # Errors
    /// As [`EqualityDeleteMap::alive`].
    pub fn alive(
        &self,
        batch: &RecordBatch,
        data_sequence: SequenceNumber,
    ) -> Result<Option<BooleanBuffer>> {
        let mut alive: Option<BooleanBuffer> = None;
        for map in &self.maps {
            alive = match (alive, map.alive(batch, data_sequence)?) {
                (Some(a), Some(b)) => Some(&a & &b),
                (a, b) => a.or(b),
            };
        }
        Ok(alive)
    }
}

fn poisoned() -> Error {
    Error::internal("the table of delete groups was poisoned by a panic")
}

#[cfg(test)]
mod tests;
