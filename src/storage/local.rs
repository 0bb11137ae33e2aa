//! Local files that survive a power cut.
//!
//! In: puts, creates and multipart uploads on the local file system. Out: files that appear
//! whole under their name, after their bytes and before the call returns; file and folder are
//! synced unless the storage property `local.sync` is `false` (CAT-1). Reads, lists and deletes
//! go to `object_store`'s own local store.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind as IoKind, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result as StoreResult, UploadPart,
};

/// Files under construction start like this; nothing that a reader looks for does.
pub(crate) const UNFINISHED: &str = ".meltwater-tmp-";

/// The local file system as a store.
#[derive(Debug)]
pub(super) struct LocalStore {
    files: LocalFileSystem,
    sync: bool,
}

impl LocalStore {
    /// The whole local file system; `sync: false` trades durability for speed.
    pub(super) fn new(sync: bool) -> Self {
        Self { files: LocalFileSystem::new(), sync }
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalStore(sync: {})", self.sync)
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        let create = match options.mode {
            PutMode::Overwrite => false,
            PutMode::Create => true,
            PutMode::Update(_) => {
                return Err(StoreError::NotImplemented {
                    operation: "put if unchanged".into(),
                    implementer: self.to_string(),
                });
            }
        };
        let target = self.files.path_to_filesystem(location)?;
        let sync = self.sync;
        blocking(move || {
            let mut temp = TempFile::create(&target, sync)?;
            for piece in &payload {
                temp.file.write_all(piece).map_err(|e| failed(&target, e))?;
            }
            temp.publish(&target, create, sync)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        let target = self.files.path_to_filesystem(location)?;
        let sync = self.sync;
        let opened = target.clone();
        let temp = blocking(move || TempFile::create(&opened, sync)).await?;
        Ok(Box::new(LocalUpload { temp: Some(temp), target, written: 0, sync }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.files.copy_opts(from, to, options).await
    }
}

/// A multipart upload: parts are written one after the other at their offsets.
#[derive(Debug)]
struct LocalUpload {
    temp: Option<TempFile>,
    target: PathBuf,
    written: u64,
    sync: bool,
}

#[async_trait]
impl MultipartUpload for LocalUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let offset = self.written;
        self.written += data.content_length() as u64;
        let file = self.temp.as_ref().map(|temp| temp.file.try_clone());
        let target = self.target.clone();
        Box::pin(blocking(move || match file {
            Some(Ok(file)) => write_at(&file, offset, &data).map_err(|e| failed(&target, e)),
            Some(Err(e)) => Err(failed(&target, e)),
            None => Err(finished(&target)),
        }))
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        let temp = self.temp.take().ok_or_else(|| finished(&self.target))?;
        let (target, sync) = (self.target.clone(), self.sync);
        blocking(move || temp.publish(&target, false, sync)).await
    }

    async fn abort(&mut self) -> StoreResult<()> {
        // Dropping the temporary file removes it.
        self.temp = None;
        Ok(())
    }
}

/// A file under construction beside its target. Dropping it removes it.
#[derive(Debug)]
struct TempFile {
    file: File,
    path: PathBuf,
}

impl TempFile {
    /// Creates the file, and the folders above it where they are missing.
    fn create(target: &FsPath, sync: bool) -> StoreResult<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let folder = target.parent().unwrap_or(target);
        let mut made_folders = false;
        loop {
            // Process id and counter tell apart what one machine writes; `create_new` tells the
            // rest apart, such as two machines on one network folder.
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{UNFINISHED}{}-{number}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Self { file, path }),
                Err(e) if e.kind() == IoKind::AlreadyExists => {}
                // Once only: some folders, such as /proc, exist and hold no new files.
                Err(e) if e.kind() == IoKind::NotFound && !made_folders => {
                    made_folders = true;
                    create_folders(folder, sync).map_err(|e| failed(target, e))?;
                }
                Err(e) => return Err(failed(target, e)),
            }
        }
    }

    /// Gives the file its name, once its bytes are on disk.
    fn publish(self, target: &FsPath, create: bool, sync: bool) -> StoreResult<PutResult> {
        if sync {
            self.file.sync_data().map_err(|e| failed(target, e))?;
        }
        if create {
            // A link refuses an existing name; a rename would replace it.
            fs::hard_link(&self.path, target).map_err(|source| match source.kind() {
                IoKind::AlreadyExists => StoreError::AlreadyExists {
                    path: target.display().to_string(),
                    source: Box::new(source),
                },
                _ => failed(target, source),
            })?;
        } else {
            fs::rename(&self.path, target).map_err(|e| failed(target, e))?;
        }
        if sync && let Some(folder) = target.parent() {
            // The name is there: whatever the reason, this is no refusal.
            sync_folder(folder).map_err(|e| failed(target, io::Error::other(e)))?;
        }
        Ok(PutResult { e_tag: None, version: None })
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // Best effort: after a rename the name is gone, and a leftover is an orphan, not a fault.
        let _ = fs::remove_file(&self.path);
    }
}

/// Creates a folder and its parents; each new name is synced in the folder above it.
fn create_folders(folder: &FsPath, sync: bool) -> io::Result<()> {
    let missing: Vec<&FsPath> = folder.ancestors().take_while(|p| !p.exists()).collect();
    for path in missing.into_iter().rev() {
        match fs::create_dir(path) {
            Ok(()) => {}
            Err(e) if e.kind() == IoKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        if sync && let Some(parent) = path.parent() {
            sync_folder(parent)?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn sync_folder(folder: &FsPath) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some file systems have no sync for folders; names are then as durable as they get.
        Err(e) if e.kind() == IoKind::InvalidInput || e.kind() == IoKind::Unsupported => Ok(()),
        other => other,
    }
}

#[cfg(not(unix))]
fn sync_folder(_folder: &FsPath) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn write_at(file: &File, mut offset: u64, data: &PutPayload) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    for piece in data {
        file.write_all_at(piece, offset)?;
        offset += piece.len() as u64;
    }
    Ok(())
}

#[cfg(windows)]
fn write_at(file: &File, mut offset: u64, data: &PutPayload) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    for piece in data {
        let mut rest: &[u8] = piece;
        while !rest.is_empty() {
            let written = file.seek_write(rest, offset)?;
            offset += written as u64;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
    Ok(())
}

fn failed(path: &FsPath, source: io::Error) -> StoreError {
    let source = io::Error::new(source.kind(), format!("{}: {source}", path.display()));
    StoreError::Generic { store: "LocalFile", source: Box::new(source) }
}

fn finished(path: &FsPath) -> StoreError {
    failed(path, io::Error::other("the upload was finished or given up before"))
}

/// Runs file work off the async threads.
async fn blocking<T, F>(work: F) -> StoreResult<T>
where
    T: Send + 'static,
    F: FnOnce() -> StoreResult<T> + Send + 'static,
{
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        Err(_) => work(),
    }
}

/// The store for `file://`, shared by all clones of one [`super::Storage`].
pub(super) fn open(sync: bool) -> Arc<dyn ObjectStore> {
    Arc::new(LocalStore::new(sync))
}
