//! Where positions are kept: a few small files with names that are made once.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;

use crate::error::{ErrorKind, Result};
use crate::storage::{Created, Storage};

/// A place for small values under names with slashes, such as a table in a database. What is
/// asked of it is that two callers who create one name do not both succeed.
#[async_trait]
pub trait PositionLog: Debug + Send + Sync {
    /// The names below a folder, in any order; none if there is no such folder.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn list(&self, folder: &str) -> Result<Vec<String>>;

    /// Keeps a value under a name that is not taken, durably and as one atomic step.
    ///
    /// # Errors
    /// `Unavailable` when no answer came: the value may be there.
    async fn create(&self, name: &str, value: Bytes) -> Result<Created>;

    /// The value of a name; `None` if there is none.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn read(&self, name: &str) -> Result<Option<Bytes>>;

    /// Removes a name; one that is not there is no error.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn delete(&self, name: &str) -> Result<()>;

    /// Where the values lie, if that is a location of a [`Storage`].
    fn location(&self) -> Option<&str> {
        None
    }
}

/// Positions as files in a folder of any store.
#[derive(Debug)]
pub(super) struct FolderLog {
    storage: Storage,
    /// As the storage lists it, without a slash at the end.
    root: String,
}

impl FolderLog {
    pub(super) fn new(storage: Storage, root: String) -> Self {
        Self { storage, root }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }
}

#[async_trait]
impl PositionLog for FolderLog {
    async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let listed = self.storage.list(&self.path(folder))?;
        let files: Vec<_> = match listed.try_collect().await {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let name_of = |location: &str| {
            Some(location.strip_prefix(self.root.as_str())?.trim_start_matches('/').to_string())
        };
        Ok(files.iter().filter_map(|file| name_of(&file.location)).collect())
    }

    async fn create(&self, name: &str, value: Bytes) -> Result<Created> {
        self.storage.create(&self.path(name), value).await
    }

    async fn read(&self, name: &str) -> Result<Option<Bytes>> {
        match self.storage.read(&self.path(name)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.storage.delete(&self.path(name)).await
    }

    fn location(&self) -> Option<&str> {
        Some(&self.root)
    }
}
