//! Rows that replace older rows of the same key, and keys to delete.
//!
//! Within one commit the last row of a key wins: earlier ones of the same commit are taken back by
//! position deletes. Rows of earlier commits are deleted by one equality delete per key, which
//! costs no look-up.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::row::Rows;
use futures::{StreamExt, TryStreamExt, stream};
use roaring::RoaringTreemap;

use super::append::{
    CANCELLED, DEFAULT_MEMORY_BYTES, DEFAULT_OPEN_FILES, data_options, still_good, writable,
};
use super::cleanup::Cleanup;
use super::fanout::{CLOSING_FILES, Fanout, FanoutOptions};
use super::key::Key;
use super::key_log::{KeyLog, Place, Resolved};
use super::lookup::{OnPartitionMove, PartitionLookup};
use super::reach::{Reach, Targets, head_of, live_specs, plan_targets};
use crate::error::Result;
use crate::file::{Normalizer, WriterOptions, write_position_deletes};
use crate::spec::{DataContentType, DataFile, PartitionSpec, SequenceNumber, SnapshotId};
use crate::table::{LookedUp, Table, WriteResult};

/// Keys of one batch of an equality delete file.
const DELETE_BATCH_ROWS: usize = 8_192;
/// What a key takes while it is looked up, about.
const LOOKUP_KEY_BYTES: u64 = 128;

/// Values that shape an upsert.
#[derive(Debug, Clone)]
pub struct UpsertOptions {
    /// Names of the key columns, dots leading into structs; the table's identifier fields if
    /// empty. Plain values, no floating numbers; optional columns are fine, and null equals null.
    /// They should include the columns the table is partitioned by; see `on_partition_move`
    /// otherwise. Where a row may move to another partition because its key changes,
    /// [`delete`](UpsertWriter::delete) the old row before writing the new one.
    pub key: Vec<String>,
    /// What happens when the key leaves open in which partition an old row lies.
    pub on_partition_move: OnPartitionMove,
    /// The branch whose rows are replaced: `main` unless set. Commit to the same one.
    pub branch: Option<String>,
    /// Bytes of a data file at most, about; `write.target-file-size-bytes` (512 MiB) unless set.
    pub target_file_size_bytes: Option<u64>,
    /// Bytes that open files and the keys of this commit may hold in memory: 256 MiB.
    pub memory_budget_bytes: u64,
    /// Files that may be open at once; 1,000.
    pub max_open_files: usize,
    /// Where keys go that do not fit in memory; the system's temporary folder unless set.
    pub spill_directory: Option<PathBuf>,
}

impl Default for UpsertOptions {
    fn default() -> Self {
        Self {
            key: Vec::new(),
            on_partition_move: OnPartitionMove::Refuse,
            branch: None,
            target_file_size_bytes: None,
            memory_budget_bytes: DEFAULT_MEMORY_BYTES,
            max_open_files: DEFAULT_OPEN_FILES,
            spill_directory: None,
        }
    }
}

/// Turns rows and keys into data files, position deletes and equality deletes.
///
/// * In: [`write`](Self::write) replaces or adds, [`insert_only`](Self::insert_only) adds rows
///   whose keys the caller knows to be new, [`delete`](Self::delete) removes keys. The last call,
///   and within a batch the last row, wins per key.
/// * Memory: the budget; keys beyond it go to local files.
/// * Out: a [`WriteResult`] for [`Table::row_delta`]. Dropped or aborted, it leaves no files.
#[derive(Debug)]
pub struct UpsertWriter {
    table: Table,
    options: UpsertOptions,
    key: Key,
    rows: Normalizer,
    keys: Normalizer,
    data: Fanout,
    deletes: WriterOptions,
    log: KeyLog,
    /// Replaced rows of this commit, by file number.
    replaced: BTreeMap<u32, RoaringTreemap>,
    /// Found before the first row is written.
    targets: Option<Targets>,
    cleanup: Cleanup,
    failed: Option<String>,
}

/// What happens to the keys of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Upsert,
    Insert,
}

impl Table {
    /// Starts writing rows that replace those of the same key (WR-3, WR-4, WR-5).
    ///
    /// # Errors
    /// `InvalidInput` when there is no key, when a column cannot be part of one, and when the
    /// table is partitioned by a column that is not part of the key, has no unpartitioned spec,
    /// and old rows are not to be looked up.
    /// A spec of older data is checked at the first row.
    pub fn upsert_writer(&self, options: UpsertOptions) -> Result<UpsertWriter> {
        UpsertWriter::open(self, options)
    }
}

impl UpsertWriter {
    fn open(table: &Table, options: UpsertOptions) -> Result<Self> {
        writable(table)?;
        let schema = table.schema().clone();
        let key = Key::new(&schema, &options.key)?;
        plan_targets(table, &key, &Default::default(), &options.on_partition_move)?;
        let spec = table.metadata().default_partition_spec().clone();
        let budget = usize::try_from(options.memory_budget_bytes).unwrap_or(usize::MAX);
        let writer = data_options(table, &spec)?.with_bounds_of(key.equality_ids());
        let deletes = WriterOptions { bloom_columns: Default::default(), ..writer.clone() };
        let target_bytes = match options.target_file_size_bytes {
            Some(bytes) => bytes,
            None => table.properties().target_file_size_bytes()?,
        };
        let data = FanoutOptions {
            content: DataContentType::Data,
            kind: "data",
            equality_ids: None,
            writer,
            target_bytes,
            memory_bytes: budget / 2,
            open_files: options.max_open_files,
        };
        let cleanup = Cleanup::new(table.storage().clone());
        let spill = options.spill_directory.clone().unwrap_or_else(std::env::temp_dir);
        Ok(Self {
            rows: Normalizer::new(schema.clone())?,
            keys: Normalizer::of_subset(key.schema.clone())?,
            data: Fanout::new(table, &spec, schema, data, cleanup.paths())?,
            log: KeyLog::new(budget / 4, spill),
            replaced: BTreeMap::new(),
            targets: None,
            cleanup,
            failed: None,
            table: table.clone(),
            options,
            key,
            deletes,
        })
    }

    /// Takes rows; each replaces the older row of its key, if there is one.
    ///
    /// # Errors
    /// `InvalidInput` naming the column; `Unavailable` from storage. After an error the writer
    /// only aborts.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.guarded(batch, Some(Change::Upsert)).await
    }

    /// Takes rows whose keys no committed row has. They cost no equality delete; where the caller
    /// is wrong, the table has two rows of one key.
    ///
    /// # Errors
    /// As [`UpsertWriter::write`].
    pub async fn insert_only(&mut self, batch: RecordBatch) -> Result<()> {
        self.guarded(batch, Some(Change::Insert)).await
    }

    /// Takes keys to delete. Columns that are not part of the key are left alone, so whole rows
    /// are fine; a key that nobody has is fine too.
    ///
    /// # Errors
    /// As [`UpsertWriter::write`].
    pub async fn delete(&mut self, keys: RecordBatch) -> Result<()> {
        self.guarded(keys, None).await
    }

    async fn guarded(&mut self, batch: RecordBatch, change: Option<Change>) -> Result<()> {
        still_good(&self.failed)?;
        self.failed = Some(CANCELLED.to_string());
        let done = self.apply(batch, change).await;
        self.failed = done.as_ref().err().map(|e| e.to_string());
        done
    }

    async fn apply(&mut self, batch: RecordBatch, change: Option<Change>) -> Result<()> {
        if self.targets.is_none() {
            let live = live_specs(&self.table, self.options.branch.as_deref()).await?;
            let on_move = &self.options.on_partition_move;
            self.targets = Some(plan_targets(&self.table, &self.key, &live, on_move)?);
        }
        match change {
            Some(change) => {
                let batch = self.rows.normalize(&batch)?;
                let keys = self.key.of_rows(&batch)?;
                self.put(batch, &keys, change).await?;
            }
            None => {
                let batch = self.keys.normalize(&batch)?;
                let keys = self.key.of_keys(&batch)?;
                for row in 0..keys.num_rows() {
                    let (_, before) = self.log.change(keys.row(row).as_ref(), Place::Gone, true)?;
                    self.take_back(before);
                }
            }
        }
        let ids = self.table.environment().ids.clone();
        self.log.spill_if_full(|| ids.uuid().to_string()).await
    }

    /// Writes the last row of each key of a batch and takes back older ones of this commit.
    async fn put(&mut self, batch: RecordBatch, keys: &Rows, change: Change) -> Result<()> {
        let may_be_old = change == Change::Upsert;
        let mut slots = Vec::with_capacity(batch.num_rows());
        let mut keep = vec![true; batch.num_rows()];
        for row in 0..batch.num_rows() {
            let place = Place::Pending(row as u32);
            let (slot, before) = self.log.change(keys.row(row).as_ref(), place, may_be_old)?;
            slots.push(slot);
            match before {
                Some(Place::Pending(earlier)) => {
                    if let Some(keep) = keep.get_mut(earlier as usize) {
                        *keep = false;
                    }
                }
                before => self.take_back(before),
            }
        }
        let batch = if keep.contains(&false) {
            let mut kept = keep.iter();
            slots.retain(|_| kept.next().copied().unwrap_or(false));
            filter_record_batch(&batch, &BooleanArray::from(keep))?
        } else {
            batch
        };
        for group in self.data.split(&batch)? {
            let landed = self.data.write(&group).await?;
            for row in 0..group.rows.num_rows() {
                let at = group
                    .indices
                    .as_ref()
                    .map_or(Some(row), |i| i.get(row).map(|index| *index as usize));
                if let Some(slot) = at.and_then(|at| slots.get(at)) {
                    self.log.settle(*slot, landed.file, landed.first_row + row as u64);
                }
            }
        }
        Ok(())
    }

    fn take_back(&mut self, before: Option<Place>) {
        if let Some(Place::At(file, row)) = before {
            self.replaced.entry(file).or_default().insert(row);
        }
    }

    /// Finishes the files; commit them with [`Table::row_delta`].
    ///
    /// # Errors
    /// `Unavailable` from storage or the spill folder; what was written is then deleted.
    pub async fn close(mut self) -> Result<WriteResult> {
        let finished = match still_good(&self.failed) {
            Ok(()) => self.finish().await,
            Err(error) => Err(error),
        };
        match finished {
            Ok(result) => {
                self.cleanup.disarm();
                Ok(result)
            }
            Err(error) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    async fn finish(&mut self) -> Result<WriteResult> {
        self.data.finish().await?;
        let mut result = WriteResult::default();
        match self.refreshed_targets().await? {
            None => return Ok(result),
            Some(Targets::Reach(reach)) => {
                result.delete_files = self.equality_deletes(&reach).await?;
                if !result.delete_files.is_empty() {
                    result.covered_specs = Some(reach.covered);
                }
            }
            Some(Targets::Lookup(lookup)) => {
                (result.delete_files, result.looked_up) = self.looked_up_deletes(&*lookup).await?;
            }
        }
        let mut touched = Vec::new();
        for (number, file) in self.data.take_files().into_iter().enumerate() {
            let Some(file) = file else { continue };
            let replaced = self.replaced.remove(&(number as u32)).unwrap_or_default();
            if replaced.len() == file.record_count {
                self.table.storage().delete(&file.file_path).await?;
                continue; // every row was replaced within this commit
            }
            if !replaced.is_empty() {
                touched.push((file.clone(), replaced));
            }
            result.data_files.push(file);
        }
        result.delete_files.extend(self.position_deletes(touched).await?);
        Ok(result)
    }

    /// Specs may have come and gone since the first row; the commit checks once more.
    async fn refreshed_targets(&mut self) -> Result<Option<Targets>> {
        let Some(targets) = &self.targets else { return Ok(None) };
        let branch = self.options.branch.as_deref();
        let Ok(table) = self.table.refresh().await else { return Ok(Some(targets.clone())) };
        let live = live_specs(&table, branch).await?;
        plan_targets(&table, &self.key, &live, &self.options.on_partition_move).map(Some)
    }

    /// How the files of equality deletes are made, when as many fan-outs share the budget.
    fn delete_options(&self, fanouts: usize) -> Result<FanoutOptions> {
        let budget = usize::try_from(self.options.memory_budget_bytes).unwrap_or(usize::MAX);
        Ok(FanoutOptions {
            content: DataContentType::EqualityDeletes,
            kind: "eq-deletes",
            equality_ids: Some(self.key.equality_ids()),
            writer: self.deletes.clone(),
            target_bytes: self.table.properties().delete_target_file_size_bytes()?,
            memory_bytes: budget / 2 / fanouts.max(1),
            open_files: self.options.max_open_files,
        })
    }

    /// One equality delete per key that older data may hold, under each spec of the reach.
    async fn equality_deletes(&mut self, reach: &Reach) -> Result<Vec<DataFile>> {
        let options = self.delete_options(reach.through.len())?;
        let fanout = |spec: &crate::spec::PartitionSpecRef| {
            let paths = self.cleanup.paths();
            Fanout::new(&self.table, spec, self.key.schema.clone(), options.clone(), paths)
        };
        let mut fanouts = reach.through.iter().map(fanout).collect::<Result<Vec<_>>>()?;
        let written = self.write_keys(&mut fanouts).await;
        if let Err(error) = written {
            for fanout in &mut fanouts {
                fanout.abandon().await;
            }
            return Err(error);
        }
        Ok(fanouts.iter_mut().flat_map(|f| f.take_files().into_iter().flatten()).collect())
    }

    async fn write_keys(&mut self, fanouts: &mut [Fanout]) -> Result<()> {
        let mut resolved = self.take_keys()?;
        while let Some(keys) = self.next_keys(&mut resolved, DELETE_BATCH_ROWS)? {
            for fanout in fanouts.iter_mut() {
                for group in fanout.split(&keys)? {
                    fanout.write(&group).await?;
                }
            }
        }
        for fanout in fanouts {
            fanout.finish().await?;
        }
        Ok(())
    }

    /// One equality delete per key and partition that a look-up names.
    async fn looked_up_deletes(
        &mut self,
        lookup: &dyn PartitionLookup,
    ) -> Result<(Vec<DataFile>, Option<LookedUp>)> {
        let options = self.delete_options(1)?;
        let anywhere = PartitionSpec::unpartition_spec();
        let (schema, paths) = (self.key.schema.clone(), self.cleanup.paths());
        let mut fanout = Fanout::new(&self.table, &anywhere, schema, options, paths)?;
        match self.write_looked_up(lookup, &mut fanout).await {
            Ok(seen) => Ok((fanout.take_files().into_iter().flatten().collect(), seen)),
            Err(error) => {
                fanout.abandon().await;
                Err(error)
            }
        }
    }

    async fn write_looked_up(
        &mut self,
        lookup: &dyn PartitionLookup,
        fanout: &mut Fanout,
    ) -> Result<Option<LookedUp>> {
        let table = self.table.refresh().await?;
        let at = head_of(&table, self.options.branch.as_deref())?;
        let head = table.snapshot_at(&at)?;
        let ids = self.key.equality_ids();
        let budget = self.options.memory_budget_bytes / 4 / LOOKUP_KEY_BYTES;
        let at_once = usize::try_from(budget).unwrap_or(usize::MAX).max(DELETE_BATCH_ROWS);
        let mut seen: Option<LookedUp> = None;
        let mut resolved = self.take_keys()?;
        while let Some(keys) = self.next_keys(&mut resolved, at_once)? {
            let found = lookup.partitions_of(&table, &at, &ids, &keys).await?;
            for (partition, rows) in found.keys {
                let group = fanout.group_of(&partition, self.keys.normalize(&rows)?);
                fanout.write(&group).await?;
            }
            let one = LookedUp {
                at: head.as_ref().map(|h| SnapshotId(h.snapshot_id())),
                sequence_number: SequenceNumber(head.as_ref().map_or(0, |h| h.sequence_number())),
                filter: found.filter,
            };
            seen = Some(match seen {
                Some(before) => before.merge(one),
                None => one,
            });
        }
        fanout.finish().await?;
        Ok(seen)
    }

    fn take_keys(&mut self) -> Result<impl Iterator<Item = Result<Resolved>> + use<>> {
        let empty = KeyLog::new(0, PathBuf::new());
        std::mem::replace(&mut self.log, empty).resolve()
    }

    /// The next keys that older data may hold, at most as many as said; `None` when all are through.
    fn next_keys(
        &mut self,
        resolved: &mut impl Iterator<Item = Result<Resolved>>,
        at_most: usize,
    ) -> Result<Option<RecordBatch>> {
        let mut chunk: Vec<Vec<u8>> = Vec::new();
        while chunk.len() < at_most
            && let Some(key) = resolved.next().transpose()?
        {
            for (file, row) in key.superseded {
                self.replaced.entry(file).or_default().insert(row);
            }
            if key.may_be_old {
                chunk.push(key.key);
            }
        }
        if chunk.is_empty() {
            return Ok(None);
        }
        self.key.decode(chunk.iter().map(Vec::as_slice)).map(Some)
    }

    /// One position delete file per data file of which rows were replaced.
    async fn position_deletes(
        &mut self,
        touched: Vec<(DataFile, RoaringTreemap)>,
    ) -> Result<Vec<DataFile>> {
        let named = touched.into_iter().map(|(file, rows)| {
            let location = self.table.new_data_path(&file.partition_key(), "pos-deletes")?;
            self.cleanup.paths().note(&location);
            Ok((location, file, rows))
        });
        let named = named.collect::<Result<Vec<_>>>()?;
        let (storage, options) = (self.table.storage(), &self.deletes);
        let writing = stream::iter(named).map(|(location, file, rows)| async move {
            write_position_deletes(storage, &location, &file, &rows, options).await
        });
        writing.buffered(CLOSING_FILES).try_collect().await
    }

    /// Gives the work up; no file stays.
    pub async fn abort(mut self) {
        self.data.abandon().await;
        self.cleanup.run().await;
    }

    /// Bytes that open files and keys hold in memory.
    pub fn memory_bytes(&self) -> usize {
        self.data.held_bytes() + self.log.memory_bytes()
    }
}
