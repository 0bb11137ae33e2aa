//! Which files to read: a scan from the question to its tasks.
//!
//! In: a [`Table`], a projection, a filter and a point in history. Out: a stream of
//! [`FileScanTask`]s, each one data file with the deletes that apply to it. Manifests that
//! cannot hold matching files are not opened; a snapshot of a million files is never held as a
//! list. Rules: `format-spec/reading.md`.

mod changes;
mod context;
mod plan;
mod projection;
mod task;

use crate::error::Result;
use crate::spec::{Predicate, SchemaRef};
use crate::table::{At, Table};

pub use changes::{
    AddedFile, Base, ChangeClass, ChangeUnit, ChangedFile, Grouping, Role, SnapshotChanges, Tally,
};
pub use context::ScanContext;
pub use plan::PlannedScan;
pub use task::FileScanTask;

/// Bytes that one scan may hold unless told otherwise.
const DEFAULT_MEMORY_BYTES: u64 = 256 * 1024 * 1024;

/// A question to a table, built step by step; nothing is read before it is asked.
///
/// ```no_run
/// # async fn run(table: meltwater::table::Table) -> meltwater::Result<()> {
/// use futures::TryStreamExt;
/// let filter = meltwater::expr::parse("day >= '2024-01-01'", table.schema())?;
/// let scan = table.scan().select(["id", "day"]).filter(filter);
/// let mut batches = scan.to_batches().await?;
/// while let Some(batch) = batches.try_next().await? {
///     println!("{} rows", batch.num_rows());
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct TableScan {
    pub(crate) table: Table,
    pub(crate) select: Option<Vec<String>>,
    pub(crate) filter: Option<Predicate>,
    pub(crate) at: At,
    pub(crate) schema: Option<SchemaRef>,
    pub(crate) case_sensitive: bool,
    pub(crate) limit: Option<u64>,
    pub(crate) batch_size: usize,
    pub(crate) memory_budget: u64,
    pub(crate) parallelism: usize,
    pub(crate) ordered: bool,
}

impl Table {
    /// Starts a scan of the current snapshot: all columns, all rows.
    pub fn scan(&self) -> TableScan {
        TableScan {
            table: self.clone(),
            select: None,
            filter: None,
            at: At::Current,
            schema: None,
            case_sensitive: true,
            limit: None,
            batch_size: 0,
            memory_budget: DEFAULT_MEMORY_BYTES,
            parallelism: std::thread::available_parallelism().map_or(2, |n| n.get()),
            ordered: false,
        }
    }
}

impl TableScan {
    /// Reads these columns only, in this order: names, fields of structs such as `s.a`, and
    /// the metadata columns `_file`, `_pos`, `_spec_id`, `_partition`, `_deleted`.
    pub fn select<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.select = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Keeps only rows for which the filter is true. Given twice, both must be.
    pub fn filter(mut self, filter: Predicate) -> Self {
        self.filter = Some(match self.filter.take() {
            Some(before) => before.and(filter),
            None => filter,
        });
        self
    }

    /// Reads another snapshot than the current one. A snapshot or tag is read in the schema it
    /// was written with, a branch in the current one.
    pub fn at(mut self, at: At) -> Self {
        self.at = at;
        self
    }

    /// Gives rows in this schema, one that the table has or had, whatever the snapshot's is; names
    /// in projection and filter are those of this schema.
    pub fn in_schema(mut self, schema: SchemaRef) -> Self {
        self.schema = Some(schema);
        self
    }

    /// Whether names in projection and filter must match in case (default: yes).
    pub fn case_sensitive(mut self, case_sensitive: bool) -> Self {
        self.case_sensitive = case_sensitive;
        self
    }

    /// Ends after this many rows; which ones is open unless the scan is ordered.
    pub fn limit(mut self, rows: u64) -> Self {
        self.limit = Some(rows);
        self
    }

    /// Rows per batch at most (default: 8192). Where rows are wide there are fewer in a batch, so that
    /// it has a mebibyte, or less with a small budget.
    pub fn batch_size(mut self, rows: usize) -> Self {
        self.batch_size = rows;
        self
    }

    /// Bytes that the scan may hold: deletes, fetched row groups, batches on their way
    /// (default: 256 MiB). At least one batch and one row group are held whatever it says.
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = bytes;
        self
    }

    /// How many pieces of files are decoded at once (default: one a core).
    pub fn parallelism(mut self, pieces: usize) -> Self {
        self.parallelism = pieces.max(1);
        self
    }

    /// Whether batches come in the order of manifests, files and rows (default: as they are
    /// ready).
    pub fn ordered(mut self, ordered: bool) -> Self {
        self.ordered = ordered;
        self
    }

    /// The table that is asked.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Resolves names and snapshot without touching storage.
    ///
    /// # Errors
    /// `InvalidInput` for unknown columns and filters that do not bind; `NotFound` for an unknown
    /// snapshot or ref; `Unsupported` for tables of format version 3.
    pub fn context(&self) -> Result<ScanContext> {
        ScanContext::new(self)
    }
}

#[cfg(test)]
mod tests;
