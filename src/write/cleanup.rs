//! Files of a writer that may never be committed.

use std::sync::{Arc, Mutex};

use crate::storage::Storage;

/// Deletes files unless it is disarmed: by [`Cleanup::run`], or when dropped, on the runtime
/// that is current then.
#[derive(Debug)]
pub(crate) struct Cleanup {
    storage: Storage,
    paths: Paths,
}

/// Where those who open files note them, before anything can be there: what a lost answer or a
/// cancelled call leaves behind is on the list too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paths(Arc<Mutex<Vec<String>>>);

impl Paths {
    pub(crate) fn note(&self, path: &str) {
        // A panic while the list was locked leaves the list as it was.
        let mut paths = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        paths.push(path.to_string());
    }

    fn take(&self) -> Vec<String> {
        let mut paths = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::take(&mut *paths)
    }
}

impl Cleanup {
    pub(crate) fn new(storage: Storage) -> Self {
        Self { storage, paths: Paths::default() }
    }

    /// The list of files that are to go unless the work is handed over.
    pub(crate) fn paths(&self) -> Paths {
        self.paths.clone()
    }

    /// The files are somebody else's now.
    pub(crate) fn disarm(&self) {
        self.paths.take();
    }

    /// Deletes the files; those that cannot be deleted are orphans for `remove-orphans`.
    pub(crate) async fn run(self) {
        delete_all(self.storage.clone(), self.paths.take()).await;
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
        let paths = self.paths.take();
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
