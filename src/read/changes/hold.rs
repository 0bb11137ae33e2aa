//! Keeps the rows of a unit's files in memory where they fit, so that pairing and handing out
//! share one read of each file, and the files are read side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arrow::record_batch::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};

use super::sources::{Source, SourceKind, SourceReader};
use super::spawned;
use crate::error::Result;

/// How many times larger decoded rows are thought to be than compressed ones, before the first came.
const DECODED: u64 = 4;

/// Those of the sources that are not held and should fit into the budget.
pub(super) fn fitting<'a>(
    sources: impl Iterator<Item = &'a mut Source>,
    budget: u64,
) -> impl Iterator<Item = &'a mut Source> {
    let mut planned = 0;
    let fits = move |source: &&mut Source| {
        let share = source.len() as f64 / source.file.record_count.max(1) as f64;
        let bytes = (source.file.file_size_in_bytes as f64 * share) as u64 * DECODED;
        let fits = planned + bytes <= budget;
        planned += if fits { bytes } else { 0 };
        fits
    };
    sources.filter(|source| source.held.is_none()).filter(fits)
}

/// Reads sources until the budget is full. Those that do not fit are left as they are.
pub(super) async fn hold(
    reader: &SourceReader,
    sources: impl Iterator<Item = &mut Source>,
    budget: u64,
) -> Result<()> {
    let chosen: Vec<&mut Source> = sources.collect();
    let room = Arc::new(Room::new(budget));
    let each: Vec<_> = chosen
        .iter()
        .map(|source| spawned(read(reader.clone(), Source::clone(source), room.clone())))
        .collect();
    let parallelism = reader.reader.options.parallelism.max(1);
    let held: Vec<_> = stream::iter(each).buffered(parallelism).try_collect().await?;
    for (source, held) in chosen.into_iter().zip(held) {
        source.held = held.map(Arc::new);
    }
    Ok(())
}

/// The rows of a source; `None` if they pass the room that is left.
async fn read(
    reader: SourceReader,
    source: Source,
    room: Arc<Room>,
) -> Result<Option<Vec<RecordBatch>>> {
    if !room.may_hold(&source) {
        return Ok(None);
    }
    let (mut held, mut taken, mut rows) = (Vec::new(), 0, 0);
    let mut batches = reader.rows(&source).await?;
    while let Some(batch) = batches.try_next().await? {
        let bytes = batch.get_array_memory_size() as u64;
        (taken, rows) = (taken + bytes, rows + batch.num_rows() as u64);
        room.learn(&source, taken, rows);
        if !room.take(bytes) {
            room.give_back(taken);
            return Ok(None);
        }
        held.push(batch);
    }
    Ok(Some(held))
}

/// The memory that sources share, and how much of it their rows turned out to take.
struct Room {
    left: AtomicI64,
    /// Bytes of a row, of keys and of data; 0 while none was seen.
    row_bytes: [AtomicU64; 2],
}

impl Room {
    fn new(bytes: u64) -> Self {
        let left = AtomicI64::new(i64::try_from(bytes).unwrap_or(i64::MAX));
        Self { left, row_bytes: Default::default() }
    }

    fn row_bytes(&self, source: &Source) -> &AtomicU64 {
        let [keys, data] = &self.row_bytes;
        if source.kind == SourceKind::Keys { keys } else { data }
    }

    /// Whether there is room for rows as wide as those before.
    fn may_hold(&self, source: &Source) -> bool {
        let bytes = source.len().saturating_mul(self.row_bytes(source).load(Ordering::Relaxed));
        i64::try_from(bytes).is_ok_and(|bytes| bytes <= self.left.load(Ordering::Relaxed))
    }

    fn learn(&self, source: &Source, bytes: u64, rows: u64) {
        self.row_bytes(source).store(bytes / rows.max(1), Ordering::Relaxed);
    }

    fn take(&self, bytes: u64) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.left.fetch_sub(bytes, Ordering::Relaxed) >= bytes
    }

    fn give_back(&self, bytes: u64) {
        self.left.fetch_add(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}
