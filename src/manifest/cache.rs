//! Keeps decoded manifests and manifest lists: they never change once written.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use moka::future::Cache;
use object_store::ObjectStore;

use super::entry::{ReadOptions, read_manifest_with};
use super::list::read_manifest_list;
use crate::clock::from_cache;
use crate::error::{Error, Result};
use crate::measure;
use crate::spec::{DataFile, FormatVersion, ManifestEntry, ManifestFile, PrimitiveType, Type};
use crate::storage::Storage;

/// What all tables of the process share unless told otherwise.
const SHARED_BYTES: u64 = 256 * 1024 * 1024;
/// A process that commits or follows for days meets a new list with each commit: what is not
/// asked for any more is given up long before the budget is full.
const KEPT_IDLE: Duration = Duration::from_secs(300);

/// Decoded manifests and manifest lists by location, bounded by the bytes they hold.
///
/// * Readers who ask for one file at the same time wait for one load.
/// * Errors are not kept: the next call tries again.
/// * The least useful entries leave first, and those that nobody asked for in five minutes; who holds an [`Arc`] keeps its value.
/// * Clones share their content.
#[derive(Debug, Clone)]
pub struct ManifestCache {
    cache: Cache<Key, Kept>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// The address of the store: two in-memory stores may use the same locations.
    store: usize,
    location: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    List(FormatVersion),
    /// What entries inherit is part of the key: a retried commit lists the same manifest again
    /// under another sequence number.
    Entries {
        sequence_number: i64,
        snapshot_id: i64,
        spec_id: i32,
        statistics: bool,
        types: Vec<u8>,
    },
}

#[derive(Debug, Clone)]
struct Kept {
    value: Value,
    bytes: usize,
    /// Keeps the store's address from being reused while this entry is here, not the store.
    _store: Weak<dyn ObjectStore>,
}

#[derive(Debug, Clone)]
enum Value {
    List(Arc<Vec<ManifestFile>>),
    Entries(Arc<Vec<ManifestEntry>>),
}

impl ManifestCache {
    /// An empty cache that holds up to `budget_bytes` of decoded values.
    pub fn new(budget_bytes: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(budget_bytes)
            .time_to_idle(KEPT_IDLE)
            .weigher(|key: &Key, kept: &Kept| {
                u32::try_from(kept.bytes + key.location.len() + 200).unwrap_or(u32::MAX)
            })
            .build();
        Self { cache }
    }

    /// The cache of the process: 256 MiB.
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<ManifestCache>> = OnceLock::new();
        SHARED.get_or_init(|| Arc::new(Self::new(SHARED_BYTES))).clone()
    }

    /// A manifest list.
    ///
    /// # Errors
    /// Those of [`Storage::read`] and [`read_manifest_list`].
    pub async fn list(
        &self,
        storage: &Storage,
        location: &str,
        format_version: FormatVersion,
    ) -> Result<Arc<Vec<ManifestFile>>> {
        let kind = Kind::List(format_version);
        let value = self.get(storage, location, kind, |bytes| {
            let manifests = read_manifest_list(bytes, location, format_version)?;
            let size = manifests.iter().map(list_entry_bytes).sum();
            Ok((Value::List(Arc::new(manifests)), size))
        });
        match value.await? {
            Value::List(manifests) => Ok(manifests),
            Value::Entries(_) => Err(Error::internal("cache mixed up a manifest list")),
        }
    }

    /// The entries of a manifest, inherited numbers filled in.
    ///
    /// # Errors
    /// Those of [`Storage::read`] and [`super::read_manifest`]; `CorruptData` if the file is
    /// shorter than the manifest list says.
    pub async fn entries(
        &self,
        storage: &Storage,
        manifest: &ManifestFile,
    ) -> Result<Arc<Vec<ManifestEntry>>> {
        self.entries_with(storage, manifest, &ReadOptions::default()).await
    }

    /// As [`ManifestCache::entries`], with a say in what is decoded. What is decoded in
    /// different ways is kept side by side, so a table should stay with one.
    ///
    /// # Errors
    /// As [`ManifestCache::entries`].
    pub async fn entries_with(
        &self,
        storage: &Storage,
        manifest: &ManifestFile,
        options: &ReadOptions,
    ) -> Result<Arc<Vec<ManifestEntry>>> {
        let kind = Kind::Entries {
            sequence_number: manifest.sequence_number,
            snapshot_id: manifest.added_snapshot_id,
            spec_id: manifest.partition_spec_id,
            statistics: options.statistics,
            types: options.partition_types.as_deref().map_or_else(Vec::new, type_codes),
        };
        let value = self.get(storage, &manifest.manifest_path, kind, |bytes| {
            check_length(bytes, manifest)?;
            let entries = read_manifest_with(bytes, manifest, options)?;
            let size = entries.iter().map(entry_bytes).sum();
            Ok((Value::Entries(Arc::new(entries)), size))
        });
        match value.await? {
            Value::Entries(entries) => Ok(entries),
            Value::List(_) => Err(Error::internal("cache mixed up a manifest")),
        }
    }

    /// Bytes held now, roughly: evictions are carried out with a delay.
    pub fn held_bytes(&self) -> u64 {
        self.cache.weighted_size()
    }

    async fn get(
        &self,
        storage: &Storage,
        location: &str,
        kind: Kind,
        decode: impl FnOnce(&[u8]) -> Result<(Value, usize)>,
    ) -> Result<Value> {
        let (store, path) = storage.resolve(location)?;
        let address = Arc::as_ptr(&store).cast::<()>() as usize;
        let key = Key { store: address, location: path.to_string(), kind };
        measure::CACHE_REQUESTS.add(&["manifest"], 1);
        let load = async {
            measure::CACHE_MISSES.add(&["manifest"], 1);
            let bytes = storage.read(location).await?;
            let (value, bytes) = decode(&bytes)?;
            Ok(Kept { value, bytes, _store: Arc::downgrade(&store) })
        };
        let kept = from_cache(self.cache.try_get_with(key, load)).await;
        kept.map(|kept| kept.value).map_err(|e: Arc<Error>| e.again().with_source(e))
    }
}

/// One code per type that changes how a value is read; nothing if none does.
fn type_codes(types: &[Type]) -> Vec<u8> {
    let code = |t: &Type| match t {
        Type::Primitive(PrimitiveType::Long) => 1,
        Type::Primitive(PrimitiveType::Double) => 2,
        Type::Primitive(PrimitiveType::Decimal { .. }) => 3,
        Type::Primitive(PrimitiveType::Uuid) => 4,
        _ => 0,
    };
    if types.iter().all(|t| code(t) == 0) { Vec::new() } else { types.iter().map(code).collect() }
}

/// A file longer than listed is left to its own checks; a shorter one has lost its end.
fn check_length(bytes: &[u8], manifest: &ManifestFile) -> Result<()> {
    match usize::try_from(manifest.manifest_length) {
        Ok(expected) if bytes.len() < expected => {
            Err(Error::corrupt("manifest is shorter than its manifest list says")
                .with_context("manifest", &manifest.manifest_path)
                .with_context("expected bytes", expected)
                .with_context("found bytes", bytes.len()))
        }
        _ => Ok(()),
    }
}

fn list_entry_bytes(manifest: &ManifestFile) -> usize {
    let summaries = manifest.partitions.iter().flatten().map(|summary| {
        let bounds = [&summary.lower_bound, &summary.upper_bound];
        64 + bounds.iter().map(|b| b.as_ref().map_or(0, |b| b.len())).sum::<usize>()
    });
    size_of::<ManifestFile>()
        + manifest.manifest_path.len()
        + manifest.key_metadata.as_ref().map_or(0, Vec::len)
        + summaries.sum::<usize>()
}

fn entry_bytes(entry: &ManifestEntry) -> usize {
    // Each of a file's dozen allocations costs the allocator some bytes of its own.
    const ALLOCATOR: usize = 8 * 16;
    size_of::<ManifestEntry>() + size_of::<DataFile>() + ALLOCATOR + entry.file.heap_bytes()
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::ErrorKind;
    use crate::manifest::{ManifestCodec, ManifestWriter};
    use crate::spec::{
        DataContentType, ManifestContentType, PartitionKey, PartitionSpec, Schema, SnapshotId,
    };

    const LOCATION: &str = "memory://m/manifest.avro";

    fn storage() -> Storage {
        Storage::default().with_store("memory://m", Arc::new(InMemory::new()))
    }

    /// Writes a manifest of one file and returns its list entry.
    async fn write(storage: &Storage, path: &str) -> ManifestFile {
        let schema = Arc::new(Schema::builder().build().unwrap());
        let mut writer = ManifestWriter::new(
            ManifestContentType::Data,
            schema,
            Arc::new(PartitionSpec::unpartition_spec()),
            vec![],
            SnapshotId(1),
            ManifestCodec::Deflate,
        );
        let partition = PartitionKey::unpartitioned(0);
        let file = DataFile::new(DataContentType::Data, path, partition, 1, 10);
        writer.add(&file, None).unwrap();
        let (bytes, mut manifest) = writer.finish(LOCATION).unwrap();
        storage.write(LOCATION, bytes).await.unwrap();
        manifest.sequence_number = 1;
        manifest
    }

    #[tokio::test]
    async fn readers_of_one_manifest_share_one_load() {
        let (storage, cache) = (storage(), ManifestCache::new(1 << 20));
        let manifest = write(&storage, "a").await;
        let (first, second) =
            tokio::join!(cache.entries(&storage, &manifest), cache.entries(&storage, &manifest));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        storage.delete(LOCATION).await.unwrap();
        let third = cache.clone().entries(&storage, &manifest).await.unwrap();
        assert!(Arc::ptr_eq(&first, &third), "the file is not needed any more");
    }

    #[tokio::test]
    async fn errors_are_not_kept() {
        let (storage, cache) = (storage(), ManifestCache::new(1 << 20));
        let manifest = write(&storage, "a").await;
        let bytes = storage.read(LOCATION).await.unwrap();
        storage.delete(LOCATION).await.unwrap();
        let error = cache.entries(&storage, &manifest).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        storage.write(LOCATION, bytes.slice(..bytes.len() - 1)).await.unwrap();
        let error = cache.entries(&storage, &manifest).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptData);
        assert!(error.to_string().contains("shorter"), "{error}");
        storage.write(LOCATION, bytes).await.unwrap();
        assert_eq!(cache.entries(&storage, &manifest).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn stores_and_inherited_numbers_are_told_apart() {
        let (one, two, cache) = (storage(), storage(), ManifestCache::new(1 << 20));
        let manifest = write(&one, "of one").await;
        write(&two, "of two").await;
        assert_eq!(cache.entries(&one, &manifest).await.unwrap()[0].file.file_path, "of one");
        // The second path is longer by nothing, so lengths agree.
        assert_eq!(cache.entries(&two, &manifest).await.unwrap()[0].file.file_path, "of two");
        let later = ManifestFile { sequence_number: 2, ..manifest };
        let entries = cache.entries(&one, &later).await.unwrap();
        assert_eq!(entries[0].sequence_number.0, 2);
    }

    #[tokio::test]
    async fn ways_of_reading_are_told_apart() {
        let (storage, cache) = (storage(), ManifestCache::new(1 << 20));
        let manifest = write(&storage, "a").await;
        let mut plain = ReadOptions { statistics: false, ..Default::default() };
        let whole = cache.entries(&storage, &manifest).await.unwrap();
        let first = cache.entries_with(&storage, &manifest, &plain).await.unwrap();
        assert!(!Arc::ptr_eq(&whole, &first));
        plain.partition_types = Some([Type::Primitive(PrimitiveType::String)].into());
        let second = cache.entries_with(&storage, &manifest, &plain).await.unwrap();
        assert!(Arc::ptr_eq(&first, &second), "no value is read in another way as a string");
        plain.partition_types = Some([Type::Primitive(PrimitiveType::Long)].into());
        let third = cache.entries_with(&storage, &manifest, &plain).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &third));
    }

    #[tokio::test]
    async fn the_budget_holds() {
        let (storage, cache) = (storage(), ManifestCache::new(2000));
        let manifest = write(&storage, "a").await;
        for sequence_number in 1..50 {
            let manifest = ManifestFile { sequence_number, ..manifest.clone() };
            cache.entries(&storage, &manifest).await.unwrap();
        }
        cache.cache.run_pending_tasks().await;
        assert!(cache.held_bytes() > 0 && cache.held_bytes() <= 2000, "{}", cache.held_bytes());
    }
}
