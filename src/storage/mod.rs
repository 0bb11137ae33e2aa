//! One door to object stores: local files, memory, S3.
//!
//! In: absolute locations as the table's metadata writes them (`file:///…`, `/…`,
//! `memory://…`, `s3://bucket/…`). Out: bytes. Where files lie elsewhere than the metadata
//! says, a [`PathMap`] is applied here and nowhere else, so that everything above compares
//! locations as written.

mod fault;
mod file_io;
mod local;
mod location;
mod output;
#[cfg(feature = "s3")]
mod s3;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::error::{Error, ErrorKind, Result};

use fault::named;

pub(crate) use local::UNFINISHED;
pub use location::{Location, PathMap};
pub use output::OutputFile;

/// What [`Storage::create`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The file is ours.
    New,
    /// Somebody had made a file of that name; it was left as it is.
    AlreadyThere,
}

/// One listed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Full location, in the form that this storage takes.
    pub location: String,
    /// Size in bytes.
    pub size: u64,
    /// Milliseconds since the epoch.
    pub last_modified_ms: i64,
}

impl ObjectInfo {
    fn new(location: String, meta: &object_store::ObjectMeta) -> Self {
        let last_modified_ms = meta.last_modified.timestamp_millis();
        Self { location, size: meta.size, last_modified_ms }
    }
}

/// What lies directly in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderListing {
    /// Locations of the folders, without a slash at the end.
    pub folders: Vec<String>,
    /// The files.
    pub files: Vec<ObjectInfo>,
}

/// A cheap handle on every store that a table's locations reach.
///
/// Stores are opened on first use, one per scheme and bucket, and shared by all clones.
#[derive(Clone, Debug)]
pub struct Storage {
    inner: Arc<Inner>,
    paths: PathMap,
}

#[derive(Debug)]
struct Inner {
    properties: HashMap<String, String>,
    stores: RwLock<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl Default for Storage {
    fn default() -> Self {
        Self::new(HashMap::new())
    }
}

impl Storage {
    /// Storage configured by catalog properties: `s3.endpoint`, `s3.region`, `s3.access-key-id`,
    /// `s3.secret-access-key`, `s3.session-token`, `s3.path-style-access` (feature `s3`; what is
    /// not set comes from the environment), and `local.sync=false`, which skips the syncs of
    /// local files: faster, and not safe against a power cut.
    pub fn new(properties: HashMap<String, String>) -> Self {
        Self {
            inner: Arc::new(Inner { properties, stores: RwLock::default() }),
            paths: PathMap::default(),
        }
    }

    /// Serves one store root, such as `memory://` or `s3://bucket`, by a given store:
    /// for tests, faults and stores that we do not know.
    pub fn with_store(self, root: &str, store: Arc<dyn ObjectStore>) -> Self {
        if let Ok(mut stores) = self.inner.stores.write() {
            stores.insert(location::store_root(root).to_string(), store);
        }
        self
    }

    /// Same stores, with locations mapped before a file is opened.
    pub fn with_path_map(&self, paths: PathMap) -> Self {
        Self { inner: self.inner.clone(), paths }
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, or `InvalidInput` for a location that names no store.
    pub async fn read(&self, location: &str) -> Result<Bytes> {
        let (store, path) = self.resolve(location)?;
        let result = store.get(&path).await.map_err(|e| named(e, location))?;
        result.bytes().await.map_err(|e| named(e, location))
    }

    /// Reads a part of a file.
    ///
    /// # Errors
    /// As [`Storage::read`].
    pub async fn read_range(&self, location: &str, range: Range<u64>) -> Result<Bytes> {
        let (store, path) = self.resolve(location)?;
        store.get_range(&path, range).await.map_err(|e| named(e, location))
    }

    /// Reads several parts of a file; near ones travel together.
    ///
    /// # Errors
    /// As [`Storage::read`].
    pub async fn read_ranges(&self, location: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (store, path) = self.resolve(location)?;
        store.get_ranges(&path, ranges).await.map_err(|e| named(e, location))
    }

    /// The size of a file in bytes.
    ///
    /// # Errors
    /// As [`Storage::read`].
    pub async fn size(&self, location: &str) -> Result<u64> {
        let (store, path) = self.resolve(location)?;
        Ok(store.head(&path).await.map_err(|e| named(e, location))?.size)
    }

    /// Whether a file is there.
    ///
    /// # Errors
    /// As [`Storage::read`], but never `NotFound`.
    pub async fn exists(&self, location: &str) -> Result<bool> {
        match self.size(location).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// What tells this file from an earlier or later one of the same name: compare for equality
    /// only.
    ///
    /// # Errors
    /// As [`Storage::read`].
    pub async fn stamp(&self, location: &str) -> Result<String> {
        let (store, path) = self.resolve(location)?;
        let meta = store.head(&path).await.map_err(|e| named(e, location))?;
        let modified = meta.last_modified.timestamp_nanos_opt().unwrap_or_default();
        Ok(format!("{}/{modified}/{}", meta.e_tag.unwrap_or_default(), meta.size))
    }

    /// Whether a location lies on this machine's file system, where a call that failed has no
    /// effect later on.
    pub fn is_local(&self, location: &str) -> bool {
        Location::parse(&self.paths.apply(location)).is_ok_and(|l| l.root() == "file://")
    }

    /// Writes a whole file, over an old one if there is one. On local disks file and directory
    /// are synced before this returns.
    ///
    /// # Errors
    /// `Unavailable`; the file may then be there or not.
    pub async fn write(&self, location: &str, bytes: Bytes) -> Result<()> {
        let (store, path) = self.resolve(location)?;
        store.put(&path, PutPayload::from(bytes)).await.map_err(|e| named(e, location))?;
        Ok(())
    }

    /// Writes a file only if there is none of that name, as one atomic step.
    ///
    /// # Errors
    /// `Unavailable` when no answer came: the file may be there, and may be ours.
    pub async fn create(&self, location: &str, bytes: Bytes) -> Result<Created> {
        let (store, path) = self.resolve(location)?;
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        match store.put_opts(&path, PutPayload::from(bytes), options).await {
            Ok(_) => Ok(Created::New),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::AlreadyThere),
            Err(e) => Err(named(e, location)),
        }
    }

    /// Starts a file that is written piece by piece and appears whole on close.
    ///
    /// # Errors
    /// `InvalidInput` for a location that names no store.
    pub fn output(&self, location: &str) -> Result<OutputFile> {
        let (store, path) = self.resolve(location)?;
        Ok(OutputFile::new(store, path, location.to_string()))
    }

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// As [`Storage::read`], but never `NotFound`.
    pub async fn delete(&self, location: &str) -> Result<()> {
        let (store, path) = self.resolve(location)?;
        match store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(named(e, location)),
        }
    }

    /// Lists all files below a folder, in no order.
    ///
    /// # Errors
    /// `InvalidInput` at once; `Unavailable` in the stream.
    pub fn list(&self, folder: &str) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
        let (store, path) = self.resolve(folder)?;
        let root = Location::parse(&self.paths.apply(folder))?.root().to_string();
        let folder = folder.to_string();
        let stream = async_stream(store, path).map_err(move |e| named(e, &folder));
        Ok(stream
            .map_ok(move |meta| {
                ObjectInfo::new(Location::join(&root, meta.location.as_ref()), &meta)
            })
            .boxed())
    }

    /// The folders and the files directly in a folder; folders without a slash at the end.
    ///
    /// # Errors
    /// As [`Storage::read`]; a folder that is not there is empty.
    pub async fn list_folder(&self, folder: &str) -> Result<FolderListing> {
        let (store, path) = self.resolve(folder)?;
        let root = Location::parse(&self.paths.apply(folder))?.root().to_string();
        let listed = match store.list_with_delimiter(Some(&path)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(FolderListing::default()),
            other => other.map_err(|e| named(e, folder))?,
        };
        let locate = |path: &object_store::path::Path| Location::join(&root, path.as_ref());
        Ok(FolderListing {
            folders: listed.common_prefixes.iter().map(locate).collect(),
            files: listed.objects.iter().map(|m| ObjectInfo::new(locate(&m.location), m)).collect(),
        })
    }

    /// Removes a folder if it is empty. Object stores have no folders: nothing happens there.
    pub async fn remove_empty_folder(&self, folder: &str) {
        let mapped = self.paths.apply(folder);
        let Ok(location) = Location::parse(&mapped) else { return };
        if location.root() == "file://" {
            let path = format!("/{}", location.into_path());
            // Best effort: a folder that is not empty stays, and so it should.
            let _ = tokio::fs::remove_dir(path).await;
        }
    }

    /// The store and path of a location, after mapping.
    ///
    /// # Errors
    /// `InvalidInput` for a location that names no store, `Unsupported` for a scheme whose
    /// feature is off.
    pub fn resolve(
        &self,
        location: &str,
    ) -> Result<(Arc<dyn ObjectStore>, object_store::path::Path)> {
        let location = Location::parse(&self.paths.apply(location))?;
        Ok((self.store(&location)?, location.into_path()))
    }

    fn store(&self, location: &Location) -> Result<Arc<dyn ObjectStore>> {
        let poisoned = || Error::internal("the table of stores was poisoned by a panic");
        if let Some(store) = self.inner.stores.read().map_err(|_| poisoned())?.get(location.root())
        {
            return Ok(store.clone());
        }
        let mut stores = self.inner.stores.write().map_err(|_| poisoned())?;
        if let Some(store) = stores.get(location.root()) {
            return Ok(store.clone());
        }
        let store = location::open_store(location, &self.inner.properties)?;
        stores.insert(location.root().to_string(), store.clone());
        Ok(store)
    }
}

fn async_stream(
    store: Arc<dyn ObjectStore>,
    path: object_store::path::Path,
) -> BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
    store.list(Some(&path))
}
