//! A store that writes down what is asked of it, and when.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::stream::BoxStream;
use meltwater::object_store::path::Path;
use meltwater::object_store::{ObjectStore, Result as StoreResult};
use tokio::time::Instant;

use crate::layer::{Layer, Layered};

/// Operations of a store, in the order in which they began.
#[derive(Debug, Default)]
pub struct Log {
    began: Mutex<Option<Instant>>,
    lines: Mutex<Vec<String>>,
}

impl Log {
    /// What was asked so far.
    pub fn told(&self) -> Vec<String> {
        self.lines.lock().expect("nobody panics").clone()
    }

    fn note(&self, who: u64, operation: &str, at: Option<&Path>) {
        let began = *self.began.lock().expect("nobody panics").get_or_insert_with(Instant::now);
        let at = at.map_or("everything", AsRef::as_ref);
        let line = format!("{} ms: {who}: {operation} {at}", began.elapsed().as_millis());
        self.lines.lock().expect("nobody panics").push(line);
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Recorder {
    inner: Arc<dyn ObjectStore>,
    log: Arc<Log>,
    who: u64,
}

impl Recorder {
    pub fn over(inner: Arc<dyn ObjectStore>, log: &Arc<Log>, who: u64) -> Arc<dyn ObjectStore> {
        Arc::new(Layered(Self { inner, log: log.clone(), who }))
    }
}

impl Layer for Recorder {
    fn inner(&self) -> &dyn ObjectStore {
        &self.inner
    }

    fn begins(&self, operation: &'static str, at: Option<&Path>) {
        self.log.note(self.who, operation, at);
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        let (log, who) = (self.log.clone(), self.who);
        let noted = paths.inspect(move |path| log.note(who, "delete", path.as_ref().ok()));
        self.inner.delete_stream(noted.boxed())
    }
}
