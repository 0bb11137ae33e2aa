//! The resolver: which rows of the files of a unit died, came back, or live.
//!
//! In: the files of a change unit with their deletes. Out: per file a bitmap of dead rows before
//! and after. Equality deletes cost one read of a file's key columns, and only of files that can
//! hold a deleted key: statistics rule files out when the unit is planned, [`KeyFilter`]s of the
//! keys seen in earlier reads rule out most others. What is dead in a file is remembered from one
//! snapshot to the next, so that older deletes are not looked at again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use futures::{StreamExt, TryStreamExt, stream};
use roaring::RoaringTreemap;
use tokio::task::JoinSet;

use super::hash::filter_hashes;
use super::{ChangeReadOptions, spawned};
use crate::deletes::{DeleteFile, DeleteLoader, EqualityDeleteMap, KeyColumns};
use crate::error::{Error, Result};
use crate::measure;
use crate::read::key_filter::{KeyFilter, KeyFilterBuilder, StoredFilters};
use crate::read::memory::FileMemory;
use crate::read::probe::{dead_rows, named_rows};
use crate::scan::{ChangedFile, Role, ScanContext, SnapshotChanges};
use crate::spec::{DataContentType, DataFile, SequenceNumber, SnapshotId};

/// The dead rows of a file before and after a snapshot.
#[derive(Debug, Clone)]
pub(super) struct ResolvedFile {
    pub file: Arc<DataFile>,
    pub role: Role,
    pub sequence_number: SequenceNumber,
    /// Rows that died, or all live rows of a file that went.
    pub gone: RoaringTreemap,
    /// Rows that came to life, or all live rows of a file that came.
    pub come: RoaringTreemap,
    /// Dead rows after the snapshot; what to remember once the unit was read.
    dead: Arc<RoaringTreemap>,
}

/// Resolves the units of one reader.
#[derive(Debug)]
pub(super) struct Resolver {
    context: ScanContext,
    parallelism: usize,
    /// Whether what is remembered of a file holds until this resolver touches it again.
    sees_all: bool,
    loader_budget: u64,
    state: Arc<Mutex<State>>,
    /// Key filters that outlive this reader.
    stored: Option<StoredFilters>,
    /// Removes stored filters that nobody needs, while this reader is there.
    sweeping: OnceLock<JoinSet<()>>,
}

/// What is remembered between units.
#[derive(Debug)]
struct State {
    files: FileMemory,
    /// The deletes before the snapshot of this sequence number: valid for it and later ones.
    before: Option<(i64, DeleteLoader)>,
    /// The deletes that one snapshot added.
    added: Option<(SnapshotId, Arc<AddedDeletes>)>,
    /// The deletes that are there in one snapshot.
    after: Option<(SnapshotId, DeleteLoader)>,
}

/// The deletes that a snapshot adds: their loader, and hashes of their keys.
#[derive(Debug)]
struct AddedDeletes {
    loader: DeleteLoader,
    /// By path of the delete file.
    hashes: tokio::sync::Mutex<HashMap<String, Arc<Vec<u64>>>>,
}

impl Resolver {
    pub(super) fn new(context: &ScanContext, options: &ChangeReadOptions) -> Self {
        let quarter = options.memory_budget / 4;
        let files = FileMemory::new(quarter);
        let state = State { files, before: None, added: None, after: None };
        Self {
            context: context.clone(),
            parallelism: options.parallelism.max(1),
            sees_all: options.sees_all,
            loader_budget: quarter / 3,
            state: Arc::new(Mutex::new(state)),
            stored: options.key_filters.clone().map(|store| StoredFilters::new(store, context)),
            sweeping: OnceLock::new(),
        }
    }

    /// Resolves files side by side; files without changed rows are left out.
    pub(super) async fn resolve(
        self: &Arc<Self>,
        changes: &Arc<SnapshotChanges>,
        files: Vec<ChangedFile>,
    ) -> Result<Vec<ResolvedFile>> {
        self.sweep_once(changes);
        let each = files.into_iter().map(|file| {
            let (resolver, changes) = (self.clone(), changes.clone());
            async move {
                let path = file.file.file_path.clone();
                let work = async move { resolver.resolve_one(&changes, file).await };
                spawned(work).await.map_err(|e| e.with_context("data file", path))
            }
        });
        let resolved: Vec<Option<ResolvedFile>> =
            stream::iter(each).buffered(self.parallelism).try_collect().await?;
        Ok(resolved.into_iter().flatten().collect())
    }

    fn sweep_once(&self, changes: &SnapshotChanges) {
        let Some(stored) = &self.stored else { return };
        self.sweeping.get_or_init(|| {
            let (stored, table) = (stored.clone(), changes.table().clone());
            let mut tasks = JoinSet::new();
            tasks.spawn(async move {
                if let Err(error) = stored.sweep(&table).await {
                    tracing::debug!(%error, "old key filters were left where they are");
                }
            });
            tasks
        });
    }

    /// Remembers what a unit found out, after its rows were handed out.
    pub(super) fn remember(&self, changes: &SnapshotChanges, files: &[ResolvedFile]) -> Result<()> {
        let as_of = changes.snapshot().sequence_number();
        let mut state = self.state()?;
        for file in files {
            let path = &file.file.file_path;
            match file.role {
                Role::Removed => state.files.forget(path),
                Role::Added | Role::Touched if self.sees_all => {
                    state.files.set_dead(path, as_of, file.dead.clone());
                }
                Role::Added | Role::Touched => {}
            }
        }
        Ok(())
    }

    /// Forgets all dead rows: history took another turn, and they may live again.
    pub(super) fn forget_dead(&self) -> Result<()> {
        let mut state = self.state()?;
        state.files.forget_dead();
        (state.before, state.added, state.after) = (None, None, None);
        Ok(())
    }

    /// Forgets the dead rows of files that were touched without a look at their rows.
    pub(super) fn forget(&self, files: &[ChangedFile]) -> Result<()> {
        let mut state = self.state()?;
        files.iter().for_each(|changed| state.files.forget(&changed.file.file_path));
        Ok(())
    }

    /// Forgets all of files that are gone, on disk too.
    pub(super) async fn forget_files(&self, gone: &[Arc<DataFile>]) {
        if let Ok(mut state) = self.state() {
            gone.iter().for_each(|file| state.files.forget(&file.file_path));
        }
        if let Some(stored) = &self.stored {
            for file in gone {
                stored.remove(file).await;
            }
        }
    }

    /// How many files something is known of.
    #[cfg(test)]
    pub(crate) fn files_known(&self) -> usize {
        self.state().unwrap().files.len()
    }

    async fn resolve_one(
        &self,
        changes: &SnapshotChanges,
        changed: ChangedFile,
    ) -> Result<Option<ResolvedFile>> {
        let rows = changed.file.record_count;
        let none = RoaringTreemap::new;
        let (gone, come, dead) = match changed.role {
            Role::Added => {
                let dead = self.dead_after(changes, &changed).await?;
                (none(), all_but(rows, &dead), Arc::new(dead))
            }
            Role::Removed => {
                let dead = self.dead_before(changes, &changed).await?;
                if let Some(stored) = &self.stored {
                    stored.remove(&changed.file).await;
                }
                (all_but(rows, &dead), none(), dead)
            }
            Role::Touched if changed.removed.is_empty() => {
                let hit = self.hit(changes, &changed).await?;
                if hit.is_empty() {
                    return Ok(None);
                }
                let before = self.dead_before(changes, &changed).await?;
                let gone = &hit - before.as_ref();
                (gone, none(), Arc::new(hit | before.as_ref()))
            }
            Role::Touched => {
                let before = self.dead_before(changes, &changed).await?;
                let after = self.dead_after(changes, &changed).await?;
                (&after - before.as_ref(), before.as_ref() - &after, Arc::new(after))
            }
        };
        let ChangedFile { file, role, sequence_number, .. } = changed;
        Ok(Some(ResolvedFile { file, role, sequence_number, gone, come, dead }))
    }

    /// The dead rows of a file in the parent: remembered, or worked out from all its deletes.
    async fn dead_before(
        &self,
        changes: &SnapshotChanges,
        changed: &ChangedFile,
    ) -> Result<Arc<RoaringTreemap>> {
        let as_of = changes.snapshot().sequence_number();
        let loader = {
            let mut state = self.state()?;
            if let Some(dead) = state.files.dead_before(&changed.file.file_path, as_of) {
                return Ok(dead);
            }
            // Between any two snapshots there is one state before, and no other before that.
            let starts_anew = (changes.removes_deletes() || !self.sees_all) && !changes.is_net();
            state.loader_before(as_of, starts_anew, || self.loader())
        };
        let ChangedFile { file, sequence_number, before, .. } = changed;
        let dead = dead_rows(&self.context, &loader, file, *sequence_number, before).await?;
        let dead = Arc::new(dead);
        // As of the parent: one less is older than this snapshot and not younger than the parent.
        if self.sees_all {
            self.state()?.files.set_dead(&file.file_path, as_of - 1, dead.clone());
        }
        Ok(dead)
    }

    /// The dead rows of a file in the snapshot itself, worked out from all its deletes.
    async fn dead_after(
        &self,
        changes: &SnapshotChanges,
        changed: &ChangedFile,
    ) -> Result<RoaringTreemap> {
        let ChangedFile { file, sequence_number, after, .. } = changed;
        if after.is_empty() {
            return Ok(RoaringTreemap::new());
        }
        let loader = self.state()?.loader_after(changes.id(), || self.loader());
        dead_rows(&self.context, &loader, file, *sequence_number, after).await
    }

    /// The rows that the deletes added by the snapshot name, dead before or not.
    async fn hit(
        &self,
        changes: &SnapshotChanges,
        changed: &ChangedFile,
    ) -> Result<RoaringTreemap> {
        let added = self.added(changes)?;
        let ChangedFile { file, sequence_number, added: deletes, .. } = changed;
        let mut wanted = Vec::new();
        for delete in deletes {
            if self.may_hold(&added, file, delete).await? {
                wanted.push(delete.clone());
            }
        }
        let positions = added.loader.positions(file, &wanted).await?;
        let mut hit = positions.map(|p| p.as_ref().clone()).unwrap_or_default();
        let equality = added.loader.equality(&wanted).await?;
        if !equality.oversized.is_empty() {
            return dead_rows(&self.context, &added.loader, file, *sequence_number, &wanted).await;
        }
        let mut maps: Vec<&EqualityDeleteMap> = equality.maps.iter().map(Arc::as_ref).collect();
        maps.retain(|map| !map.is_harmless_to(*sequence_number));
        let mut filters = self.filters_to_build(file, &maps)?;
        hit |= named_rows(&self.context, file, *sequence_number, &maps, |batch, _| {
            for (columns, builder) in &mut filters {
                builder.extend(filter_hashes(columns, batch)?);
            }
            Ok(())
        })
        .await?;
        for (columns, builder) in filters {
            self.keep_filter(file, &columns, builder).await?;
        }
        Ok(hit)
    }

    /// Keeps a filter that has seen every row of its file (KEY-1).
    async fn keep_filter(
        &self,
        file: &DataFile,
        columns: &KeyColumns,
        builder: KeyFilterBuilder,
    ) -> Result<()> {
        if builder.len() != file.record_count {
            return Ok(());
        }
        let filter = Arc::new(builder.finish());
        if let Some(stored) = &self.stored {
            stored.save(file, columns, &filter).await;
        }
        self.state()?.files.add_filter(&file.file_path, columns.ids(), filter);
        Ok(())
    }

    /// The filter of a file's keys, from memory or else from where filters are stored.
    async fn filter_of(&self, file: &DataFile, ids: &[i32]) -> Result<Option<Arc<KeyFilter>>> {
        if let Some(filter) = self.state()?.files.filter(&file.file_path, ids) {
            return Ok(Some(filter));
        }
        let Some(stored) = &self.stored else { return Ok(None) };
        let columns = KeyColumns::resolve(ids, self.context.table.metadata())?;
        let Some(filter) = stored.load(file, &columns).await else { return Ok(None) };
        let filter = Arc::new(filter);
        self.state()?.files.add_filter(&file.file_path, ids.to_vec(), filter.clone());
        Ok(Some(filter))
    }

    /// False when a key filter proves that the file has none of the delete's keys.
    async fn may_hold(
        &self,
        added: &AddedDeletes,
        file: &DataFile,
        delete: &DeleteFile,
    ) -> Result<bool> {
        if delete.file.content != DataContentType::EqualityDeletes {
            return Ok(true);
        }
        let mut ids = delete.file.equality_ids.clone().unwrap_or_default();
        ids.sort_unstable();
        ids.dedup();
        let Some(filter) = self.filter_of(file, &ids).await? else {
            measure::KEY_FILTER_ANSWERS.add(&["unknown"], 1);
            return Ok(true);
        };
        let hashes = added.hashes_of(delete).await?;
        let may_hold = hashes.iter().any(|hash| filter.may_hold(*hash));
        measure::KEY_FILTER_ANSWERS.add(&[if may_hold { "maybe" } else { "absent" }], 1);
        Ok(may_hold)
    }

    fn filters_to_build(
        &self,
        file: &DataFile,
        maps: &[&EqualityDeleteMap],
    ) -> Result<Vec<(KeyColumns, KeyFilterBuilder)>> {
        let mut state = self.state()?;
        let mut found: Vec<(KeyColumns, KeyFilterBuilder)> = Vec::new();
        for columns in maps.iter().map(|map| map.columns()) {
            let known = state.files.filter(&file.file_path, &columns.ids()).is_some();
            if !known && found.iter().all(|(other, _)| other != columns) {
                found.push((columns.clone(), KeyFilter::builder(file.record_count)));
            }
        }
        Ok(found)
    }

    fn added(&self, changes: &SnapshotChanges) -> Result<Arc<AddedDeletes>> {
        let id = changes.id();
        let mut state = self.state()?;
        if let Some((known, added)) = &state.added
            && *known == id
        {
            return Ok(added.clone());
        }
        let added = Arc::new(AddedDeletes { loader: self.loader(), hashes: Default::default() });
        state.added = Some((id, added.clone()));
        Ok(added)
    }

    fn loader(&self) -> DeleteLoader {
        let table = &self.context.table;
        let mapping = self.context.name_mapping.clone();
        let (storage, metadata) = (table.storage().clone(), table.metadata().clone());
        DeleteLoader::new(storage, metadata, mapping, self.loader_budget)
    }

    fn state(&self) -> Result<std::sync::MutexGuard<'_, State>> {
        self.state.lock().map_err(|_| Error::internal("the resolver was poisoned by a panic"))
    }
}

impl State {
    /// A loader that has seen no delete younger than the parent of the snapshot of this sequence
    /// number. Loaders only learn, so one serves as long as the snapshots go up and no delete is
    /// taken back, as far as one knows.
    fn loader_before(
        &mut self,
        as_of: i64,
        starts_anew: bool,
        make: impl Fn() -> DeleteLoader,
    ) -> DeleteLoader {
        match &mut self.before {
            Some((seen, loader)) if *seen == as_of || (*seen < as_of && !starts_anew) => {
                *seen = as_of;
                loader.clone()
            }
            _ => {
                let loader = make();
                self.before = Some((as_of, loader.clone()));
                loader
            }
        }
    }

    /// One loader for all files of a snapshot.
    fn loader_after(&mut self, id: SnapshotId, make: impl Fn() -> DeleteLoader) -> DeleteLoader {
        match &self.after {
            Some((known, loader)) if *known == id => loader.clone(),
            _ => {
                let loader = make();
                self.after = Some((id, loader.clone()));
                loader
            }
        }
    }
}

impl AddedDeletes {
    async fn hashes_of(&self, delete: &DeleteFile) -> Result<Arc<Vec<u64>>> {
        let mut known = self.hashes.lock().await;
        if let Some(hashes) = known.get(&delete.file.file_path) {
            return Ok(hashes.clone());
        }
        let mut hashes = Vec::new();
        let (columns, mut batches) = self.loader.keys(delete).await?;
        while let Some(batch) = batches.try_next().await? {
            hashes.extend(filter_hashes(&columns, &batch)?);
        }
        let hashes = Arc::new(hashes);
        known.insert(delete.file.file_path.clone(), hashes.clone());
        Ok(hashes)
    }
}

fn all_but(rows: u64, dead: &RoaringTreemap) -> RoaringTreemap {
    let mut all = RoaringTreemap::new();
    all.insert_range(0..rows);
    all -= dead;
    all
}
