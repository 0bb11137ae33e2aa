//! Parquet footers: read with one small request, checked, cached across scans.
//!
//! The cache is shared by the whole process, weighed by the bytes that decoded footers hold,
//! and keyed by store, path and size: a store that was dropped and another at its place never
//! mix, and files of a table do not change under one name.

use std::future::ready;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use moka::future::Cache;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::async_reader::MetadataFetch;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use super::thrift_guard;
use crate::clock::from_cache;
use crate::error::{Error, Result};
use crate::measure;
use crate::storage::Storage;

/// Bytes that all cached footers may hold: part of the 512 MiB that caches share.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// The footers of files that compaction replaced are given up, long before the budget is full.
const KEPT_IDLE: Duration = Duration::from_secs(120);
/// Read from the end of a file in the hope that the footer is in it.
const PREFETCH_BYTES: u64 = 64 * 1024;
/// The last bytes of every Parquet file: the footer's length and the magic.
const TAIL_BYTES: u64 = 8;
/// No footer of a sane file is longer; a hostile one could ask for any amount of memory.
const MAX_FOOTER_BYTES: u64 = 512 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    store: usize,
    path: Path,
    size: u64,
    with_pages: bool,
}

/// The weak handle keeps the store's address from being given to another store while the
/// entry lives, which makes the address a safe part of the key.
#[derive(Clone)]
struct Entry {
    metadata: Arc<ParquetMetaData>,
    _store: Weak<dyn ObjectStore>,
}

static CACHE: LazyLock<Cache<Key, Entry>> = LazyLock::new(|| {
    Cache::builder()
        .max_capacity(CACHE_BYTES)
        .time_to_idle(KEPT_IDLE)
        .weigher(|key: &Key, entry: &Entry| {
            let bytes = entry.metadata.memory_size() + key.path.as_ref().len() + 128;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        })
        .build()
});

/// The footer of a Parquet file, from the cache if it is there.
///
/// With `size` known (manifests tell it) a file costs one request of 64 KiB from its end, more
/// only if its footer is longer.
///
/// # Errors
/// `CorruptData` naming the file for anything that is not a Parquet footer; `NotFound` and
/// `Unavailable` from storage.
pub async fn footer(
    storage: &Storage,
    location: &str,
    size: Option<u64>,
) -> Result<Arc<ParquetMetaData>> {
    let size = known_size(storage, location, size).await?;
    cached(storage, location, size, false).await.map_err(|e| named(e, location))
}

/// The footer with the page index, for files that have one.
///
/// # Errors
/// As [`footer`].
pub(crate) async fn footer_with_pages(
    storage: &Storage,
    location: &str,
    size: u64,
) -> Result<Arc<ParquetMetaData>> {
    cached(storage, location, size, true).await.map_err(|e| named(e, location))
}

/// Lets go of all footers.
#[cfg(any(test, feature = "testing"))]
pub(crate) async fn forget_footers() {
    CACHE.run_pending_tasks().await;
    CACHE.invalidate_all();
    CACHE.run_pending_tasks().await;
}

/// The size that the caller knows, or a request.
pub(crate) async fn known_size(
    storage: &Storage,
    location: &str,
    size: Option<u64>,
) -> Result<u64> {
    match size {
        Some(size) => Ok(size),
        None => storage.size(location).await,
    }
}

fn named(error: Error, location: &str) -> Error {
    if error.context().any(|(key, _)| key == "location") {
        return error;
    }
    error.with_context("file", location)
}

async fn cached(
    storage: &Storage,
    location: &str,
    size: u64,
    with_pages: bool,
) -> Result<Arc<ParquetMetaData>> {
    let (store, path) = storage.resolve(location)?;
    let key = Key { store: Arc::as_ptr(&store).cast::<()>() as usize, path, size, with_pages };
    measure::CACHE_REQUESTS.add(&["footer"], 1);
    if let Some(entry) = from_cache(CACHE.get(&key)).await {
        return Ok(entry.metadata);
    }
    measure::CACHE_MISSES.add(&["footer"], 1);
    let metadata = if with_pages {
        let plain = Box::pin(cached(storage, location, size, false)).await?;
        add_page_index(storage, location, plain, size).await?
    } else {
        Arc::new(fetch(storage, location, size).await?)
    };
    let entry = Entry { metadata: metadata.clone(), _store: Arc::downgrade(&store) };
    from_cache(CACHE.insert(key, entry)).await;
    Ok(metadata)
}

async fn fetch(storage: &Storage, location: &str, size: u64) -> Result<ParquetMetaData> {
    if size < TAIL_BYTES + 4 {
        return Err(Error::corrupt(format!("{size} bytes are too few for a Parquet file")));
    }
    let start = size.saturating_sub(PREFETCH_BYTES);
    let end = match storage.read_range(location, start..size).await {
        Ok(end) if end.len() as u64 == size - start => end,
        Ok(_) => return Err(shorter(size)),
        Err(error) => {
            // A range beyond the end is refused in as many ways as there are stores.
            let actual = storage.size(location).await;
            return Err(if actual.is_ok_and(|actual| actual < size) {
                shorter(size)
            } else {
                error
            });
        }
    };
    let length = footer_length(&end, size)?;
    let have = end.len() as u64 - TAIL_BYTES;
    let footer = if length <= have {
        end.slice((have - length) as usize..have as usize)
    } else {
        let missing = size - TAIL_BYTES - length..start;
        let first = storage.read_range(location, missing).await?;
        let mut all = BytesMut::with_capacity(first.len() + have as usize);
        all.extend_from_slice(&first);
        all.extend_from_slice(&end[..have as usize]);
        all.freeze()
    };
    decode(&footer)
}

fn shorter(size: u64) -> Error {
    Error::corrupt(format!("the file has fewer than the {size} bytes that are recorded for it"))
}

/// The length of the footer as the last eight bytes tell it, checked against the file.
fn footer_length(end: &Bytes, size: u64) -> Result<u64> {
    let Some(tail) = end.last_chunk::<{ TAIL_BYTES as usize }>() else {
        return Err(shorter(size));
    };
    let [a, b, c, d, magic @ ..] = *tail;
    match &magic {
        b"PAR1" => {}
        b"PARE" => return Err(Error::unsupported("the Parquet file is encrypted")),
        _ => {
            return Err(Error::corrupt("not a Parquet file: it does not end in PAR1").with_hint(
                "the file may have been cut off or may have another size than recorded",
            ));
        }
    }
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    if length == 0 || length > (size - TAIL_BYTES).min(MAX_FOOTER_BYTES) {
        return Err(Error::corrupt(format!("a footer of {length} bytes in a file of {size}")));
    }
    Ok(length)
}

/// Decodes a footer. List lengths are checked first, because the Parquet crate allocates what
/// they ask for; a panic in the crate on other nonsense becomes an error.
fn decode(footer: &Bytes) -> Result<ParquetMetaData> {
    thrift_guard::check(footer)?;
    let decoded = catch_unwind(AssertUnwindSafe(|| ParquetMetaDataReader::decode_metadata(footer)));
    let metadata = decoded.map_err(|_| Error::corrupt("the Parquet footer makes no sense"))??;
    for group in metadata.row_groups() {
        if group.num_rows() < 0 {
            return Err(Error::corrupt("a row group has a negative number of rows"));
        }
    }
    Ok(metadata)
}

/// Adds the page index if the file has a sound one. It only saves work, so a broken one is left
/// alone: the file is then read as if it had none.
async fn add_page_index(
    storage: &Storage,
    location: &str,
    plain: Arc<ParquetMetaData>,
    size: u64,
) -> Result<Arc<ParquetMetaData>> {
    let Some((all, parts)) = page_index_ranges(&plain, size) else { return Ok(plain) };
    let bytes = storage.read_range(location, all.clone()).await?;
    let sound = parts.iter().all(|part| {
        let part = (part.start - all.start) as usize..(part.end - all.start) as usize;
        bytes.get(part).is_some_and(|bytes| thrift_guard::check(bytes).is_ok())
    });
    if !sound {
        tracing::debug!(location, "the page index makes no sense and is not used");
        return Ok(plain);
    }
    let mut reader = ParquetMetaDataReader::new_with_metadata(plain.as_ref().clone())
        .with_page_index_policy(PageIndexPolicy::Optional);
    let held = HeldBytes { start: all.start, bytes };
    let loaded = AssertUnwindSafe(reader.load_page_index(held)).catch_unwind().await;
    match loaded {
        Ok(Ok(())) => Ok(reader.finish().map_or(plain, Arc::new)),
        _ => Ok(plain),
    }
}

/// Where the page index lies, as a whole and in parts; `None` if there is none or if it cannot
/// be where the footer says.
fn page_index_ranges(
    metadata: &ParquetMetaData,
    size: u64,
) -> Option<(Range<u64>, Vec<Range<u64>>)> {
    let mut parts = Vec::new();
    for chunk in metadata.row_groups().iter().flat_map(|g| g.columns()) {
        let places = [
            (chunk.column_index_offset(), chunk.column_index_length()),
            (chunk.offset_index_offset(), chunk.offset_index_length()),
        ];
        for place in places {
            let (Some(offset), Some(length)) = place else { continue };
            let start = u64::try_from(offset).ok()?;
            let end = start.checked_add(u64::try_from(length).ok()?)?;
            if end > size {
                return None;
            }
            parts.push(start..end);
        }
    }
    let start = parts.iter().map(|p| p.start).min()?;
    let end = parts.iter().map(|p| p.end).max()?;
    (end - start <= MAX_FOOTER_BYTES).then_some((start..end, parts))
}

/// A part of a file that was read already.
struct HeldBytes {
    start: u64,
    bytes: Bytes,
}

impl MetadataFetch for HeldBytes {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        let held = range.start.checked_sub(self.start).zip(range.end.checked_sub(self.start));
        let slice = held.filter(|(from, to)| from <= to && *to <= self.bytes.len() as u64);
        let found = slice.map(|(from, to)| self.bytes.slice(from as usize..to as usize));
        ready(found.ok_or_else(|| ParquetError::EOF("beyond the page index".to_string()))).boxed()
    }
}
