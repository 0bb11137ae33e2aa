//! Rows that may move to another partition: who says where the old row of a key lies.
//!
//! An equality delete reaches one partition. When the key does not name it, somebody has to look;
//! the floors above can read, so they bring the look-up ([`crate::read::ScanLookup`]).

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;

use crate::error::Result;
use crate::spec::{PartitionKey, Predicate};
use crate::table::{At, Table};

/// What an upsert does when rows of one key may lie in several partitions.
#[derive(Debug, Clone, Default)]
pub enum OnPartitionMove {
    /// The writer is not opened; the error says what else helps.
    #[default]
    Refuse,
    /// Old rows are looked up when the writer is closed, and deleted where they lie. The commit is
    /// refused if others added rows meanwhile that may have one of the keys (WR-6).
    Lookup(Arc<dyn PartitionLookup>),
}

/// Finds the partitions in which keys have live rows.
#[async_trait]
pub trait PartitionLookup: Debug + Send + Sync {
    /// For each partition the rows of `keys` that it has live rows for.
    ///
    /// * In: distinct keys; their columns carry field ids, which are `equality_ids`.
    /// * Out: batches of the same columns. Naming a key too much costs an idle delete; leaving one
    ///   out leaves an old row alive.
    ///
    /// # Errors
    /// What reading the table gives.
    async fn partitions_of(
        &self,
        table: &Table,
        at: &At,
        equality_ids: &[i32],
        keys: &RecordBatch,
    ) -> Result<Found>;
}

/// What a look-up found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Keys by the partition of their live rows; a partition may come more than once.
    pub keys: Vec<(PartitionKey, RecordBatch)>,
    /// A filter that every row with one of the keys passes; `None` where none is known.
    pub filter: Option<Predicate>,
}
