//! Deletes files, many at a time. What cannot be deleted is noted and left behind.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::Stream;

use super::{Failed, Progress, Unit};
use crate::error::Result;
use crate::storage::Storage;

/// Deletions under way at the same time.
const DELETERS: usize = 16;

/// Failures that are noted one by one.
const NOTED: usize = 100;

/// A file that may go.
pub(super) trait Disposable: Send {
    /// Where it is.
    fn location(&self) -> &str;
}

/// Deletes what it is given.
pub(super) struct Sweep {
    storage: Storage,
    progress: Arc<dyn Progress>,
}

/// What did not go.
#[derive(Debug, Default)]
pub(super) struct Swept {
    pub failed: Vec<Failed>,
    pub stopped: bool,
}

impl Sweep {
    pub(super) fn new(storage: &Storage, progress: &Arc<dyn Progress>) -> Self {
        Self { storage: storage.clone(), progress: progress.clone() }
    }

    /// Deletes the files of a stream, telling `removed` of each one that is gone. An error of
    /// the stream ends it: what it would have named stays.
    pub(super) async fn run<F: Disposable>(
        &self,
        files: impl Stream<Item = Result<F>> + Unpin,
        mut removed: impl FnMut(&F),
    ) -> Swept {
        let mut swept = Swept::default();
        let mut more = 0;
        self.progress.begin("removing files", Unit::Files, None);
        let go_on = |_: &Result<F>| std::future::ready(!self.progress.should_stop());
        let mut results = files
            .take_while(go_on)
            .map(|file| async move {
                let file = file.map_err(|error| (None, error))?;
                match self.storage.delete(file.location()).await {
                    Ok(()) => Ok(file),
                    Err(error) => Err((Some(file), error)),
                }
            })
            .buffer_unordered(DELETERS);
        while let Some(result) = results.next().await {
            self.progress.advance(1);
            match result {
                Ok(file) => removed(&file),
                Err((file, error)) if swept.failed.len() < NOTED => {
                    let what = file.as_ref().map_or("the rest of the files", F::location);
                    tracing::warn!(%error, what, "a file was not removed");
                    swept.failed.push(Failed::new(what, &error));
                }
                Err(_) => more += 1,
            }
        }
        drop(results);
        if let Some(last) = swept.failed.last_mut().filter(|_| more > 0) {
            last.error.push_str(&format!(" (and {more} more files)"));
        }
        swept.stopped = self.progress.should_stop();
        swept
    }
}
