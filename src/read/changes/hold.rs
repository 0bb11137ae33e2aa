//! Keeps the rows of a unit's files in memory where they fit, so that pairing and handing out
//! share one read of each file, and the files are read side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::record_batch::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};

use super::sources::{Source, SourceReader};
use super::spawned;
use crate::error::Result;

/// How many times larger decoded rows are thought to be than compressed ones.
const DECODED: u64 = 4;

/// Reads sources that are not held until the budget is full. Those that do not fit are left as
/// they are.
pub(super) async fn hold(
    reader: &SourceReader,
    sources: impl Iterator<Item = &mut Source>,
    budget: u64,
) -> Result<()> {
    let mut planned = 0;
    let fits = |source: &&mut Source| {
        let share = source.len() as f64 / source.file.record_count.max(1) as f64;
        let bytes = (source.file.file_size_in_bytes as f64 * share) as u64 * DECODED;
        let fits = planned + bytes <= budget;
        planned += if fits { bytes } else { 0 };
        fits
    };
    let chosen: Vec<&mut Source> = sources.filter(|s| s.held.is_none()).filter(fits).collect();
    let room = Arc::new(AtomicI64::new(i64::try_from(budget).unwrap_or(i64::MAX)));
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
    room: Arc<AtomicI64>,
) -> Result<Option<Vec<RecordBatch>>> {
    let (mut held, mut taken) = (Vec::new(), 0);
    let mut batches = reader.rows(&source).await?;
    while let Some(batch) = batches.try_next().await? {
        let bytes = i64::try_from(batch.get_array_memory_size()).unwrap_or(i64::MAX);
        taken += bytes;
        if room.fetch_sub(bytes, Ordering::Relaxed) < bytes {
            room.fetch_add(taken, Ordering::Relaxed);
            return Ok(None);
        }
        held.push(batch);
    }
    Ok(Some(held))
}
