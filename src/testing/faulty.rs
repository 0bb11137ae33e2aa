//! An object store that misbehaves the way real ones do, from a seed.
//!
//! It wraps any store. Every operation draws from one deterministic sequence, so a
//! single-threaded test that repeats its operations repeats its faults.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::clock::{IdGenerator, SeededIds};

/// How often which fault happens, in thousandths of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPlan {
    /// The operation does not happen and the caller is told so.
    pub refused: u64,
    /// A write or delete happens, but the answer is an error.
    pub answer_lost: u64,
    /// The operation takes up to `slow_by` longer.
    pub slow: u64,
    /// A listing is an earlier listing of the same folder.
    pub stale_list: u64,
    /// The longest delay of a slow operation.
    pub slow_by: Duration,
    /// No faults at first: this many operations go through, for setting up.
    pub spared: u64,
}

impl FaultPlan {
    /// No faults at all.
    pub fn none() -> Self {
        Self {
            refused: 0,
            answer_lost: 0,
            slow: 0,
            stale_list: 0,
            slow_by: Duration::ZERO,
            spared: 0,
        }
    }

    /// A bad day: one operation in fifty fails or loses its answer, one in twenty is slow.
    pub fn rough() -> Self {
        Self {
            refused: 10,
            answer_lost: 10,
            slow: 50,
            stale_list: 100,
            slow_by: Duration::from_millis(300),
            spared: 0,
        }
    }
}

/// See the module's text.
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    dice: SeededIds,
    plan: FaultPlan,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    operations: u64,
    listings: HashMap<String, Vec<ObjectMeta>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    Refused,
    AnswerLost,
}

impl FaultyStore {
    /// Wraps a store. The same seed and the same operations give the same faults.
    pub fn new(inner: Arc<dyn ObjectStore>, seed: u64, plan: FaultPlan) -> Self {
        Self { inner, dice: SeededIds::new(seed), plan, state: Arc::default() }
    }

    async fn fate(&self) -> Fate {
        let spared = {
            let Ok(mut state) = self.state.lock() else { return Fate::Refused };
            state.operations += 1;
            state.operations <= self.plan.spared
        };
        if spared {
            return Fate::Fine;
        }
        if self.dice.below(1000) < self.plan.slow {
            let most = u64::try_from(self.plan.slow_by.as_millis()).unwrap_or(u64::MAX);
            tokio::time::sleep(Duration::from_millis(self.dice.below(most.saturating_add(1))))
                .await;
        }
        match self.dice.below(1000) {
            n if n < self.plan.refused => Fate::Refused,
            n if n < self.plan.refused + self.plan.answer_lost => Fate::AnswerLost,
            _ => Fate::Fine,
        }
    }

    /// Runs a write: refused before, or reported as failed after.
    async fn write<T>(
        &self,
        what: &'static str,
        run: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match self.fate().await {
            Fate::Refused => Err(failure(what, "refused")),
            Fate::Fine => run.await,
            Fate::AnswerLost => {
                run.await?;
                Err(failure(what, "done, but the answer was lost"))
            }
        }
    }

    /// Runs a read, for which a lost answer is a refusal.
    async fn read<T>(&self, what: &'static str, run: impl Future<Output = Result<T>>) -> Result<T> {
        match self.fate().await {
            Fate::Fine => run.await,
            _ => Err(failure(what, "refused")),
        }
    }

    fn stale(&self, prefix: &str) -> Option<Vec<ObjectMeta>> {
        if self.dice.below(1000) >= self.plan.stale_list {
            return None;
        }
        self.state.lock().ok()?.listings.get(prefix).cloned()
    }
}

/// Keeps a listing for a later one that is behind the times.
fn remember(state: &Mutex<State>, key: String, listing: &[ObjectMeta]) {
    if let Ok(mut state) = state.lock() {
        state.listings.insert(key, listing.to_vec());
    }
}

fn failure(what: &'static str, how: &str) -> object_store::Error {
    object_store::Error::Generic {
        store: "FaultyStore",
        source: format!("{what}: {how} by the fault plan").into(),
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        to: &Path,
        bytes: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.write("put", self.inner.put_opts(to, bytes, options)).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.read("start of an upload", self.inner.put_multipart_opts(to, options)).await
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        self.read("get", self.inner.get_opts(from, options)).await
    }

    async fn get_ranges(&self, from: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read("get", self.inner.get_ranges(from, ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let key = format!("all below {}", prefix.map(ToString::to_string).unwrap_or_default());
        if let Some(old) = self.stale(&key) {
            return futures::stream::iter(old.into_iter().map(Ok)).boxed();
        }
        let (listing, state) = (self.inner.list(prefix), self.state.clone());
        let remembered = async move {
            let seen: Vec<ObjectMeta> = listing.try_collect().await?;
            remember(&state, key, &seen);
            Ok::<_, object_store::Error>(futures::stream::iter(seen.into_iter().map(Ok)))
        };
        futures::stream::once(remembered).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let key = format!("in {}", prefix.map(ToString::to_string).unwrap_or_default());
        let fresh = self.read("list", self.inner.list_with_delimiter(prefix)).await?;
        if let Some(objects) = self.stale(&key) {
            return Ok(ListResult { common_prefixes: fresh.common_prefixes, objects });
        }
        remember(&self.state, key, &fresh.objects);
        Ok(fresh)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.write("copy", self.inner.copy_opts(from, to, options)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    async fn outcomes(seed: u64) -> Vec<bool> {
        let plan = FaultPlan { refused: 300, answer_lost: 300, ..FaultPlan::none() };
        let store = FaultyStore::new(Arc::new(InMemory::new()), seed, plan);
        let mut outcomes = Vec::new();
        for n in 0..50 {
            let path = Path::from(format!("f{n}"));
            outcomes.push(store.put(&path, "x".into()).await.is_ok());
        }
        outcomes
    }

    #[tokio::test]
    async fn one_seed_gives_one_sequence_of_faults() {
        assert_eq!(outcomes(1).await, outcomes(1).await);
        assert_ne!(outcomes(1).await, outcomes(2).await);
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_the_file_and_a_refusal_does_not() {
        let inner = Arc::new(InMemory::new());
        let lost = FaultPlan { answer_lost: 1000, ..FaultPlan::none() };
        let refused = FaultPlan { refused: 1000, ..FaultPlan::none() };
        let (a, b) = (Path::from("a"), Path::from("b"));
        let put = FaultyStore::new(inner.clone(), 1, lost).put(&a, "x".into()).await;
        assert!(put.is_err() && inner.head(&a).await.is_ok());
        let put = FaultyStore::new(inner.clone(), 1, refused).put(&b, "x".into()).await;
        assert!(put.is_err() && inner.head(&b).await.is_err());
    }
}
