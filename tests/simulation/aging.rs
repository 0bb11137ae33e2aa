//! Time that passes for files: a store whose files are as old as the world says, jumps of days between two
//! pieces of work, and an oracle of what nothing names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use meltwater::catalog::{LoadedTable, read_metadata};
use meltwater::clock::{Clock, ManualClock};
use meltwater::manifest::ManifestCache;
use meltwater::object_store::path::Path;
use meltwater::object_store::{ListResult, ObjectMeta, ObjectStore, Result as StoreResult};
use meltwater::spec::snapshots_of;
use meltwater::table::Table;
use meltwater::{Error, ErrorKind, Result};

use crate::World;
use crate::layer::{Layer, Layered};

/// Orphans are older than three days.
const JUMP: Duration = Duration::from_secs(4 * 24 * 60 * 60);

/// A store that stamps files by the world's clock: those that were there before a jump by the time
/// before it, later ones by now.
#[derive(Debug)]
pub struct AgingStore {
    inner: Arc<dyn ObjectStore>,
    clock: Arc<ManualClock>,
    old: Mutex<BTreeMap<Path, i64>>,
}

impl AgingStore {
    pub fn over(inner: Arc<dyn ObjectStore>, clock: Arc<ManualClock>) -> Layered<Self> {
        Layered(Self { inner, clock, old: Mutex::default() })
    }

    /// Stamps files as of now.
    fn stamp(&self) -> impl Fn(ObjectMeta) -> ObjectMeta + Send + use<> {
        let old = self.old.lock().expect("nobody panics").clone();
        let now_ms = self.clock.now_ms();
        move |meta| {
            let made_ms = old.get(&meta.location).copied().unwrap_or(now_ms);
            let made = chrono::DateTime::from_timestamp_millis(made_ms);
            ObjectMeta { last_modified: made.expect("a time of this world"), ..meta }
        }
    }

    /// Days pass. Returns the files that are older than they by now.
    async fn jump(&self) -> Result<BTreeSet<String>> {
        let files: Vec<ObjectMeta> = self.inner.list(None).try_collect().await?;
        let before_ms = self.clock.now_ms();
        let mut old = self.old.lock().expect("nobody panics");
        for file in &files {
            old.entry(file.location.clone()).or_insert(before_ms);
        }
        self.clock.advance_ms(u64::try_from(JUMP.as_millis()).expect("a few days"));
        let location = |file: &ObjectMeta| format!("memory:///{}", file.location);
        Ok(files.iter().map(location).collect())
    }
}

#[async_trait]
impl Layer for AgingStore {
    fn inner(&self) -> &dyn ObjectStore {
        &self.inner
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix).map_ok(self.stamp()).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        let listing = self.inner.list_with_delimiter(prefix).await?;
        let objects = listing.objects.into_iter().map(self.stamp()).collect();
        Ok(ListResult { objects, ..listing })
    }
}

/// What was in the table's folder when days had passed and nobody was at work.
pub struct Aged {
    /// Everything that was there.
    pub old: BTreeSet<String>,
    /// What of it nothing named.
    pub orphans: BTreeSet<String>,
}

impl World {
    /// Lets days pass between two pieces of work: nobody writes a file before and commits it after.
    pub async fn days_pass(&self, actor: u64) -> Result<Aged> {
        let _nobody_at_work = self.at_work.write().await;
        let mut old = self.aging.jump().await?;
        let table = self.table(actor, false).await?;
        let folder = format!("{}/", table.metadata().location());
        old.retain(|file| file.starts_with(&folder));
        let named = named(&table).await?;
        let orphans = old.difference(&named).cloned().collect();
        Ok(Aged { old, orphans })
    }
}

/// Every file that any version in the table's log names, as far as it can still be read.
pub async fn named(table: &Table) -> Result<BTreeSet<String>> {
    let hint = format!("{}/metadata/version-hint.text", table.metadata().location());
    let mut named = BTreeSet::from([hint]);
    // Another cache may know what is gone by now.
    let cache = Arc::new(ManifestCache::new(1 << 20));
    let log = table.metadata().metadata_log().iter().map(|entry| entry.metadata_file.clone());
    for version in log.chain([table.metadata_location().to_string()]) {
        let Some(bytes) = or_gone(table.storage().read(&version).await)? else { continue };
        let loaded = LoadedTable {
            metadata: Arc::new(read_metadata(&bytes, &version)?),
            metadata_location: version.clone(),
            config: Default::default(),
            storage: table.storage().clone(),
        };
        named.insert(version);
        let then = Table::from_loaded(table.catalog().clone(), table.ident().clone(), loaded)
            .with_manifest_cache(cache.clone());
        for snapshot in snapshots_of(then.metadata()) {
            if !named.insert(snapshot.manifest_list().to_string()) {
                continue;
            }
            let Some(manifests) = or_gone(then.manifests(snapshot).await)? else { continue };
            for manifest in manifests.iter() {
                named.insert(manifest.manifest_path.clone());
                let Some(entries) = or_gone(then.entries(manifest).await)? else { continue };
                let live = entries.iter().filter(|e| e.is_live());
                named.extend(live.map(|e| e.file.file_path.clone()));
            }
        }
    }
    Ok(named)
}

/// Of an expired snapshot, files may be gone.
fn or_gone<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// What a removal of orphans plans is what nothing named when days had passed, and of the rest only
/// what nobody names any more: never a young file, never one that is named.
pub fn check(aged: &Aged, planned: &BTreeSet<String>, named: &BTreeSet<String>) -> Result<()> {
    let wrong = |what: &str, file: &String| {
        Err(Error::internal(format!("{what} a removal of orphans")).with_context("file", file))
    };
    if let Some(file) = planned.difference(&aged.old).next() {
        return wrong("a young file is in", file);
    }
    if let Some(file) = planned.intersection(named).next() {
        return wrong("a file that is named is in", file);
    }
    match aged.orphans.difference(planned).next() {
        Some(file) => wrong("an orphan is not in", file),
        None => Ok(()),
    }
}
