//! Finished files of a writer that may never be committed.

use crate::storage::Storage;

/// Deletes files unless it is disarmed: by [`Cleanup::run`], or when dropped, on the runtime
/// that is current then.
#[derive(Debug)]
pub(super) struct Cleanup {
    storage: Storage,
    paths: Vec<String>,
}

impl Cleanup {
    pub(super) fn new(storage: Storage) -> Self {
        Self { storage, paths: Vec::new() }
    }

    /// Adds files that are to go unless the work is handed over.
    pub(super) fn add(&mut self, paths: impl IntoIterator<Item = String>) {
        self.paths.extend(paths);
    }

    /// The files are somebody else's now.
    pub(super) fn disarm(&mut self) {
        self.paths.clear();
    }

    /// Deletes the files; those that cannot be deleted are orphans for `remove-orphans`.
    pub(super) async fn run(mut self) {
        let (storage, paths) = (self.storage.clone(), std::mem::take(&mut self.paths));
        delete_all(storage, paths).await;
    }
}

async fn delete_all(storage: Storage, paths: Vec<String>) {
    for path in paths {
        if let Err(error) = storage.delete(&path).await {
            tracing::warn!(%error, path, "a file of an abandoned write stays behind");
        }
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let paths = std::mem::take(&mut self.paths);
        if paths.is_empty() {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(delete_all(self.storage.clone(), paths));
            }
            Err(_) => tracing::warn!(?paths, "files of an abandoned write stay behind"),
        }
    }
}
