//! Where the rows of given keys lie: a merge-on-read scan of the key columns, narrowed by the keys.
//!
//! Few keys are asked for one by one, so that bounds and Bloom filters rule files and row groups
//! out; many by their range.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use async_trait::async_trait;
use futures::TryStreamExt;

use crate::deletes::{EqualityDeleteMap, KeyColumns};
use crate::error::{Error, Result};
use crate::spec::{Datum, Predicate, Reference, SequenceNumber};
use crate::table::{At, Table};
use crate::write::{Found, PartitionLookup, datums_of};

/// Keys that are asked for one by one; more are asked for by their range.
const MOST_SINGLE_KEYS: usize = 10_000;
/// Files that are planned ahead of reading.
const TASKS_AT_ONCE: usize = 256;

/// Looks keys up by reading the key columns of the files that may hold them.
///
/// * Cost: one read of those columns for every run of keys; little where keys lie close together
///   in few files, the key columns of the whole table where they do not.
/// * Memory: the budget, and about 100 bytes a key.
#[derive(Debug, Clone)]
pub struct ScanLookup {
    /// Bytes that one look-up may hold: 256 MiB.
    pub memory_budget_bytes: u64,
}

impl Default for ScanLookup {
    fn default() -> Self {
        Self { memory_budget_bytes: 256 * 1024 * 1024 }
    }
}

#[async_trait]
impl PartitionLookup for ScanLookup {
    async fn partitions_of(
        &self,
        table: &Table,
        at: &At,
        equality_ids: &[i32],
        keys: &RecordBatch,
    ) -> Result<Found> {
        let columns = KeyColumns::resolve(equality_ids, table.metadata())?;
        let filter = filter_of(table, &columns, keys)?;
        let mut wanted = EqualityDeleteMap::builder(columns, None)?;
        // A delete of the future, so that a row of any age is hit.
        wanted.add(keys, SequenceNumber(i64::MAX))?;
        let wanted = wanted.finish();

        let mut scan = table.scan().at(at.clone()).ordered(true);
        scan = scan.memory_budget(self.memory_budget_bytes).select(names(table, equality_ids)?);
        if let Some(filter) = &filter {
            scan = scan.filter(filter.clone());
        }
        let reader = Arc::new(scan.task_reader()?);
        let mut found = Vec::new();
        let mut planned = scan.plan().await?.try_chunks(TASKS_AT_ONCE);
        while let Some(tasks) = planned.try_next().await.map_err(|e| e.1)? {
            let partitions: Vec<_> = tasks.iter().map(|task| task.file.partition_key()).collect();
            let mut batches = reader.clone().read_all(tasks);
            while let Some((task, batch)) = batches.try_next().await? {
                let Some(others) = wanted.alive(&batch, SequenceNumber(0))? else { continue };
                let hits = filter_record_batch(&batch, &(!&others).into())?;
                let partition = partitions.get(task).cloned();
                let partition =
                    partition.ok_or_else(|| Error::internal("a batch of an unknown task"))?;
                found.push((partition, hits));
            }
        }
        Ok(Found { keys: found, filter })
    }
}

fn names(table: &Table, ids: &[i32]) -> Result<Vec<String>> {
    let name = |id: &i32| {
        let name = table.schema().name_by_field_id(*id).map(str::to_string);
        name.ok_or_else(|| {
            Error::invalid("a key column is gone from the table's schema")
                .with_context("field id", id)
                .with_hint("open a new upsert writer on the refreshed table")
        })
    };
    ids.iter().map(name).collect()
}

/// What every row with one of the keys passes; `None` when nothing can be said.
fn filter_of(table: &Table, columns: &KeyColumns, keys: &RecordBatch) -> Result<Option<Predicate>> {
    let arrays = columns.arrays(keys)?;
    let mut all: Option<Predicate> = None;
    for (column, array) in columns.iter().zip(&arrays) {
        // Null equals null here, and in no filter.
        if array.null_count() > 0 || array.is_empty() {
            continue;
        }
        let Some(name) = table.schema().name_by_field_id(column.field_id) else { continue };
        let values = datums_of(array, &column.key_type)?;
        let one = if values.len() <= MOST_SINGLE_KEYS {
            Some(Reference::new(name).is_in(values))
        } else {
            range(name, &values)
        };
        all = match (all, one) {
            (Some(all), Some(one)) => Some(all.and(one)),
            (all, one) => all.or(one),
        };
    }
    Ok(all)
}

fn range(name: &str, values: &[Datum]) -> Option<Predicate> {
    let mut values = values.iter();
    let first = values.next()?;
    let (mut least, mut most) = (first, first);
    for value in values {
        if value < least {
            least = value;
        } else if value > most {
            most = value;
        }
    }
    let reference = || Reference::new(name);
    let from = reference().greater_than_or_equal_to(least.clone());
    Some(from.and(reference().less_than_or_equal_to(most.clone())))
}
