//! The equality deletes of one scope and id set, loaded as data files ask for them.
//!
//! What is loaded stays in a few maps, merged as they grow like the levels of a merge tree, so
//! that a data file probes one map as a rule and a handful at worst.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::columns::KeyColumns;
use super::equality::{EqualityDeleteMap, EqualityDeleteMapBuilder, HashPartition};
use super::key_read::read_keys;
use super::{DeleteFile, DeleteFileIndex};
use crate::error::{Error, Result};
use crate::spec::{NameMapping, SequenceNumber, TableMetadataRef};
use crate::storage::Storage;

/// Delete files that are read at once.
const READERS: usize = 4;
/// A first file is asked for: its siblings come along while there are at most this many more.
const FREE_SIBLINGS: usize = 64;

/// Where and how delete files are read.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub storage: Storage,
    pub metadata: TableMetadataRef,
    pub name_mapping: Option<Arc<NameMapping>>,
}

#[derive(Debug)]
pub(super) struct Group {
    pub columns: KeyColumns,
    /// Bytes of the maps held.
    pub bytes: AtomicUsize,
    /// When it was last asked for, in ticks of the loader.
    pub used: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    loaded: HashSet<String>,
    maps: Vec<Arc<EqualityDeleteMap>>,
    /// Set once the keys turned out to pass the budget.
    parts: Option<u32>,
}

/// What a group has for a data file.
#[derive(Debug)]
pub(super) enum Loaded {
    Maps(Vec<Arc<EqualityDeleteMap>>),
    /// Too many keys: ask part by part, out of this many.
    Oversized(u32),
}

/// Adding keys went past the budget.
struct OverBudget {
    parts: u32,
}

impl Group {
    pub(super) fn new(columns: KeyColumns) -> Self {
        Self {
            columns,
            bytes: AtomicUsize::new(0),
            used: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// Maps that hold at least the keys of `needed`. One task loads, the others wait for it;
    /// a task that is dropped meanwhile leaves the state as it was.
    pub(super) async fn load(
        &self,
        source: &Source,
        index: Option<&DeleteFileIndex>,
        needed: &[DeleteFile],
        budget: usize,
    ) -> Result<Loaded> {
        let mut state = self.state.lock().await;
        if let Some(parts) = state.parts {
            return Ok(Loaded::Oversized(parts));
        }
        let is_missing = |d: &&DeleteFile| !state.loaded.contains(&d.file.file_path);
        let mut missing: Vec<DeleteFile> = needed.iter().filter(is_missing).cloned().collect();
        if missing.is_empty() {
            return Ok(Loaded::Maps(state.maps.clone()));
        }
        if let (Some(index), Some(first)) = (index, missing.first()) {
            let siblings = index.equality_siblings(&first.file);
            let all: Vec<DeleteFile> = siblings.iter().filter(is_missing).cloned().collect();
            if all.len() <= (missing.len() * 4).max(FREE_SIBLINGS) {
                missing = all; // one load now instead of one a data file
            }
        }
        let mut builder = EqualityDeleteMap::builder(self.columns.clone(), None)?;
        let held: usize = state.maps.iter().map(|map| map.heap_bytes()).sum();
        let limit = budget.saturating_sub(held);
        builder.reserve(rows_of(&missing), limit);
        if let Err(over) = self.fill(source, &missing, &mut builder, limit).await? {
            state.parts = Some(over.parts);
            (state.maps, state.loaded) = (Vec::new(), HashSet::new());
            self.bytes.store(0, Ordering::Relaxed);
            return Ok(Loaded::Oversized(over.parts));
        }
        while let Some(last) = state.maps.pop_if(|map| map.len() <= 2 * builder.len()) {
            builder.absorb(&last)?;
        }
        state.maps.push(Arc::new(builder.finish()));
        state.loaded.extend(missing.into_iter().map(|d| d.file.file_path.clone()));
        let bytes = state.maps.iter().map(|map| map.heap_bytes()).sum();
        self.bytes.store(bytes, Ordering::Relaxed);
        Ok(Loaded::Maps(state.maps.clone()))
    }

    /// One hash part of the keys of some delete files, past any budget check.
    pub(super) async fn load_part(
        &self,
        source: &Source,
        files: &[DeleteFile],
        part: HashPartition,
        budget: usize,
    ) -> Result<EqualityDeleteMap> {
        let mut builder = EqualityDeleteMap::builder(self.columns.clone(), Some(part))?;
        let even = rows_of(files) / u64::from(part.of.max(1));
        builder.reserve(even.saturating_add(even / 8), budget);
        match self.fill(source, files, &mut builder, usize::MAX).await? {
            Ok(()) => Ok(builder.finish()),
            Err(_) => Err(Error::internal("a map without a budget went past it")),
        }
    }

    /// Reads delete files side by side into one builder.
    async fn fill(
        &self,
        source: &Source,
        files: &[DeleteFile],
        builder: &mut EqualityDeleteMapBuilder,
        limit: usize,
    ) -> Result<Result<(), OverBudget>> {
        let mut readers = JoinSet::new();
        let (sender, mut batches) = mpsc::channel(2 * READERS);
        for first in 0..READERS.min(files.len()) {
            let share: Vec<_> = files.iter().skip(first).step_by(READERS).cloned().collect();
            let (source, columns) = (source.clone(), self.columns.clone());
            readers.spawn(read_all(source, columns, share, sender.clone()));
        }
        drop(sender);
        let mut rows = 0u64;
        while let Some((batch, sequence)) = batches.recv().await {
            if builder.peak_bytes(batch.num_rows()) > limit {
                let parts = parts(builder, rows_of(files).max(rows), rows, limit);
                return Ok(Err(OverBudget { parts }));
            }
            rows += batch.num_rows() as u64;
            builder.add(&batch, sequence)?;
        }
        while let Some(done) = readers.join_next().await {
            done.map_err(|e| Error::internal("reading delete files broke off").with_source(e))??;
        }
        Ok(Ok(()))
    }
}

fn rows_of(files: &[DeleteFile]) -> u64 {
    files.iter().fold(0, |rows, d| rows.saturating_add(d.file.record_count))
}

/// How many parts make each fit into half of the budget, judged by the rows seen so far.
fn parts(builder: &EqualityDeleteMapBuilder, all_rows: u64, rows: u64, limit: usize) -> u32 {
    const MOST: u64 = 4096;
    const LEAST_BYTES: u64 = 24;
    let bytes_per_row = (builder.heap_bytes() as u64 / rows.max(1)).max(LEAST_BYTES);
    let whole = bytes_per_row.saturating_mul(all_rows);
    let half = (limit as u64 / 2).max(1024);
    whole.div_ceil(half).clamp(2, MOST) as u32
}

async fn read_all(
    source: Source,
    columns: KeyColumns,
    files: Vec<DeleteFile>,
    sender: mpsc::Sender<(RecordBatch, SequenceNumber)>,
) -> Result<()> {
    for delete in files {
        let Source { storage, metadata, name_mapping } = &source;
        let mapping = name_mapping.clone();
        let keys = read_keys(storage, metadata, mapping, &columns, &delete.file).await;
        let mut keys = keys.map_err(|e| in_file(e, &delete))?;
        while let Some(batch) = keys.try_next().await.map_err(|e| in_file(e, &delete))? {
            if sender.send((batch, delete.sequence_number)).await.is_err() {
                return Ok(()); // the group gave up, and says why
            }
        }
    }
    Ok(())
}

fn in_file(error: Error, delete: &DeleteFile) -> Error {
    error.with_context("equality delete file", &delete.file.file_path)
}
