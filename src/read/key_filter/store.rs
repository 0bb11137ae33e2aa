//! Key filters as files in a folder, within a budget of bytes.
//!
//! A file is made once, never changed, and may vanish at any time. Nobody has to trust one: it
//! names what it was made from and carries a checksum, and one that does not fit is removed
//! (KEY-1). Where the folder fails, the filters stay in memory and work goes on (KEY-3).

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Location, Storage};

/// Bytes that a folder may take unless told otherwise.
const DEFAULT_BUDGET: u64 = 1 << 30;

/// A folder that keeps what readers of changes learned of the keys in data files, so that one that
/// is started again need not read them again. Clones share everything.
///
/// * Disk: about 5 bytes a row of the data files that were looked at, at most the budget
///   (1 GiB unless told otherwise); what was not used for longest goes first.
/// * Several streams, tables and processes may share a folder. It may be removed at any time.
/// * A folder that cannot be read or written is a warning, and costs time only.
#[derive(Debug, Clone)]
pub struct KeyFilterStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    storage: Storage,
    /// As the storage lists it, without a slash at the end.
    root: String,
    budget: u64,
    listed: OnceCell<()>,
    index: Mutex<Index>,
    readable: AtomicBool,
    writable: AtomicBool,
    swept: Mutex<HashSet<Uuid>>,
}

/// The files by name below the folder.
#[derive(Debug, Default)]
struct Index {
    files: HashMap<String, Known>,
    bytes: u64,
    ticks: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    bytes: u64,
    /// When this process used it last; 0 for never.
    used: u64,
    pub modified_ms: i64,
}

impl KeyFilterStore {
    /// The usual name of such a folder; a removal of orphans leaves it alone wherever it lies
    /// (MNT-34).
    pub const FOLDER: &'static str = "meltwater-key-filters";

    /// Key filters in a local folder, made on first use.
    ///
    /// # Errors
    /// `InvalidInput` if the path cannot be written as a location.
    pub fn directory(path: impl AsRef<Path>) -> Result<Self> {
        let folder = Location::of_folder(path.as_ref(), "key filters")?;
        Self::location(Storage::default(), &folder)
    }

    /// Key filters in a folder of any store, outside the tables' own folders.
    ///
    /// # Errors
    /// `InvalidInput` for a location that names no store.
    pub fn location(storage: Storage, folder: &str) -> Result<Self> {
        let root = Location::normal(folder.trim_end_matches('/'))?;
        Ok(Self::new(storage, root.trim_end_matches('/').to_string(), DEFAULT_BUDGET))
    }

    /// The same folder with room for this many bytes; to be called before it is used.
    pub fn with_budget(self, bytes: u64) -> Self {
        Self::new(self.inner.storage.clone(), self.inner.root.clone(), bytes)
    }

    fn new(storage: Storage, root: String, budget: u64) -> Self {
        let inner = Inner {
            storage,
            root,
            budget,
            listed: OnceCell::new(),
            index: Mutex::default(),
            readable: AtomicBool::new(true),
            writable: AtomicBool::new(true),
            swept: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The bytes of a file; `None` if there is none, or none to be had.
    pub(super) async fn read(&self, name: &str) -> Option<Bytes> {
        self.list_once().await;
        if !self.index().files.contains_key(name) {
            return None;
        }
        match self.inner.storage.read(&self.path(name)).await {
            Ok(bytes) => {
                self.index().note(name, bytes.len() as u64);
                Some(bytes)
            }
            Err(error) => {
                self.index().forget(name);
                if error.kind() != ErrorKind::NotFound {
                    self.give_up(&self.inner.readable, &error);
                }
                None
            }
        }
    }

    /// Makes a file, unless it is there.
    pub(super) async fn write(&self, name: &str, bytes: Vec<u8>) {
        self.list_once().await;
        let size = bytes.len() as u64;
        if size > self.inner.budget || !self.inner.writable.load(Ordering::Relaxed) {
            return;
        }
        self.make_room(size).await;
        match self.inner.storage.create(&self.path(name), bytes.into()).await {
            Ok(_) => self.index().note(name, size),
            Err(error) => self.give_up(&self.inner.writable, &error),
        }
    }

    /// Removes files, as far as that is possible.
    pub(super) async fn remove(&self, names: impl IntoIterator<Item = String>) {
        for name in names {
            self.index().forget(&name);
            if let Err(error) = self.inner.storage.delete(&self.path(&name)).await {
                return self.give_up(&self.inner.writable, &error);
            }
        }
    }

    /// True for the first who asks about a table.
    pub(super) fn is_first_sweep(&self, table: Uuid) -> bool {
        self.inner.swept.lock().unwrap_or_else(PoisonError::into_inner).insert(table)
    }

    /// The files whose names begin with `prefix`.
    pub(super) async fn names(&self, prefix: &str) -> Vec<(String, Known)> {
        self.list_once().await;
        let index = self.index();
        let files = index.files.iter().filter(|(name, _)| name.starts_with(prefix));
        files.map(|(name, known)| (name.clone(), *known)).collect()
    }

    /// Lets the files that were not used for longest go once the budget is passed, a quarter of it
    /// at once, so that it happens seldom.
    async fn make_room(&self, size: u64) {
        if self.index().bytes + size <= self.inner.budget {
            return;
        }
        // Others may have written and removed since.
        if let Err(error) = self.list().await {
            return self.give_up(&self.inner.writable, &error);
        }
        let old = self.index().oldest((self.inner.budget / 4 * 3).saturating_sub(size));
        tracing::debug!(files = old.len(), folder = self.inner.root, "key filters make room");
        self.remove(old).await;
    }

    async fn list_once(&self) {
        let listing = async {
            if let Err(error) = self.list().await {
                self.give_up(&self.inner.readable, &error);
            }
        };
        self.inner.listed.get_or_init(|| listing).await;
    }

    async fn list(&self) -> Result<()> {
        let files: Vec<_> = match self.inner.storage.list(&self.inner.root)?.try_collect().await {
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let mut index = self.index();
        let before = std::mem::take(&mut index.files);
        index.bytes = 0;
        for file in files {
            let Some(name) = file.location.strip_prefix(self.inner.root.as_str()) else { continue };
            let name = name.trim_start_matches('/').to_string();
            let used = before.get(&name).map_or(0, |known| known.used);
            index.bytes += file.size;
            let known = Known { bytes: file.size, used, modified_ms: file.last_modified_ms };
            index.files.insert(name, known);
        }
        Ok(())
    }

    /// Stops reading or writing files in this process.
    fn give_up(&self, what: &AtomicBool, error: &Error) {
        let is_first = what.swap(false, Ordering::Relaxed);
        if !self.inner.readable.load(Ordering::Relaxed) {
            *self.index() = Index::default();
            self.inner.writable.store(false, Ordering::Relaxed);
        }
        if is_first {
            let folder = &self.inner.root;
            tracing::warn!(%error, folder, "key filters are kept in memory only from here on");
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.inner.root)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // A panic leaves nothing half done that would matter: files are checked when read.
        self.inner.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn note(&mut self, name: &str, bytes: u64) {
        self.ticks += 1;
        let modified_ms = self.files.get(name).map_or(i64::MAX, |known| known.modified_ms);
        let known = Known { bytes, used: self.ticks, modified_ms };
        let before = self.files.insert(name.to_string(), known);
        self.bytes = self.bytes + bytes - before.map_or(0, |known| known.bytes);
    }

    fn forget(&mut self, name: &str) {
        if let Some(known) = self.files.remove(name) {
            self.bytes -= known.bytes;
        }
    }

    /// Those to remove so that at most `bytes` stay.
    fn oldest(&self, bytes: u64) -> Vec<String> {
        let mut ages: Vec<_> =
            self.files.iter().map(|(name, k)| (k.used, k.modified_ms, name, k.bytes)).collect();
        ages.sort_unstable();
        let mut left = self.bytes;
        let mut oldest = Vec::new();
        for (_, _, name, size) in ages {
            if left <= bytes {
                break;
            }
            left -= size;
            oldest.push(name.clone());
        }
        oldest
    }
}
