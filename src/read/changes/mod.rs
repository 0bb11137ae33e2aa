//! Changes to rows: what a snapshot did, as inserts, updates with their pre-images, and deletes.
//!
//! In: the changes of a snapshot as `scan` plans them. Out: [`ChangeRows`], in an order that
//! depends on the snapshot alone (CHG-5). `live(f, parent) \ live(f, snapshot)` are deletions,
//! `live(f, snapshot) \ live(f, parent)` are insertions (CHG-4): `resolve` finds both as
//! bitmaps, `pairing` cancels rows that were only carried over and pairs updates by key,
//! `emit` reads the rows and puts them in order.

mod ahead;
mod columns;
mod emit;
mod files;
mod hash;
mod hold;
mod key_set;
mod kinds;
mod pairing;
mod resolve;
mod sources;
#[cfg(test)]
pub(super) mod tests;
mod unit;

use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use futures::stream::BoxStream;
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::scan::{Base, FileScanTask, SnapshotChanges};
use crate::spec::{DataFile, Predicate, SchemaRef, SnapshotId};
use crate::table::{At, Table};

use crate::deletes::KeyColumns;

pub use ahead::UnitAhead;
use columns::ChangeColumns;
pub use kinds::{ChangeKind, ChangeRows, Emit};
use resolve::Resolver;

use super::TaskReader;
use super::key_filter::KeyFilterStore;

/// What to read of changes.
#[derive(Debug, Clone)]
pub struct ChangeReadOptions {
    /// Which changes, and with what beside them.
    pub emit: Emit,
    /// The columns of the rows, as in [`crate::scan::TableScan::select`]; `None` for all.
    pub select: Option<Vec<String>>,
    /// Only changes of rows that pass; an update that enters or leaves the filter becomes an
    /// insert or a delete (CHG-8).
    pub filter: Option<Predicate>,
    /// The columns that tell rows apart; `None` for the identifier fields, and without those for
    /// the columns of a commit's equality deletes.
    pub key: Option<Vec<String>>,
    /// The schema to give rows in, and to find all names in; `None` for the table's of this moment.
    pub schema: Option<SchemaRef>,
    /// Bytes that the reader may hold (default: 256 MiB): a quarter for deletes, a quarter for
    /// what it knows of files, a quarter for pairing, the rest for rows on their way.
    pub memory_budget: u64,
    /// Files that are looked at side by side (default: one a core).
    pub parallelism: usize,
    /// Where to keep the keys that were seen in data files, for readers to come; `None` for memory
    /// only.
    pub key_filters: Option<KeyFilterStore>,
    /// Whether the reader is asked for every unit that touches a file, once it was asked for one
    /// of them (default: true): then what it found dead in the file needs no second look.
    pub sees_all: bool,
}

impl Default for ChangeReadOptions {
    fn default() -> Self {
        Self {
            emit: Emit::Changes,
            select: None,
            filter: None,
            key: None,
            schema: None,
            memory_budget: 256 * 1024 * 1024,
            parallelism: std::thread::available_parallelism().map_or(2, |n| n.get()),
            key_filters: None,
            sees_all: true,
        }
    }
}

/// Reads changes, and remembers what it learned about files from one snapshot to the next.
///
/// It may be asked for the units of a table in any order; it is fast when units of one partition
/// come in the order of their snapshots, which is how one lane of a stream asks. Who leaves out
/// units has to say so ([`ChangeReadOptions::sees_all`]).
#[derive(Debug)]
pub struct ChangeReader {
    options: ChangeReadOptions,
    columns: ChangeColumns,
    tasks: Arc<TaskReader>,
    resolver: Arc<Resolver>,
    /// The resolver of one net difference: what it learns holds between its two sides only.
    net: Mutex<Option<NetResolver>>,
}

/// The two sides of a net difference, and what resolves it.
type NetResolver = ((Base, SnapshotId), Arc<Resolver>);

impl ChangeReader {
    /// A reader that knows the table as it is now.
    ///
    /// # Errors
    /// `InvalidInput` for columns that the schema lacks, for a key that cannot be one, and for
    /// `Upserts` without a key or with a selection that leaves it out.
    pub fn new(table: &Table, options: ChangeReadOptions) -> Result<Self> {
        Self::with_schema_at(table, At::Current, options)
    }

    /// A reader that gives rows in the schema that a scan at `at` has.
    ///
    /// # Errors
    /// As [`ChangeReader::new`]; `NotFound` if there is no such point.
    pub fn with_schema_at(table: &Table, at: At, options: ChangeReadOptions) -> Result<Self> {
        let columns = ChangeColumns::new(table, at, &options)?;
        let scan = table.scan().memory_budget(options.memory_budget / 2);
        let scan = scan.parallelism(options.parallelism.max(1));
        let tasks = Arc::new(TaskReader::new(&scan, columns.context.clone(), None)?);
        let resolver = Arc::new(Resolver::new(&columns.context, &options));
        Ok(Self { options, columns, tasks, resolver, net: Mutex::default() })
    }

    /// The columns of all [`ChangeRows::records`].
    pub fn arrow_schema(&self) -> &ArrowSchemaRef {
        &self.columns.arrow
    }

    /// The names of the key columns, when they are known before anything is read.
    pub fn key(&self) -> &[String] {
        &self.columns.key_names
    }

    /// The field ids of the key, when they are known before anything is read.
    pub fn key_ids(&self) -> Vec<i32> {
        self.columns.key.as_ref().map(KeyColumns::ids).unwrap_or_default()
    }

    /// Lets go of what was learned of data files that are no longer in the table.
    pub async fn forget(&self, gone: &[Arc<DataFile>]) {
        self.resolver.forget_files(gone).await;
    }

    /// How many data files something is known of.
    #[cfg(test)]
    pub(crate) fn files_known(&self) -> usize {
        self.resolver.files_known()
    }

    /// What resolves these changes. A net difference begins with nothing known, and after it
    /// nothing is known of what is dead.
    fn resolver_of(&self, changes: &SnapshotChanges) -> Result<Arc<Resolver>> {
        let mut net =
            self.net.lock().map_err(|_| Error::internal("a reader was poisoned by a panic"))?;
        if !changes.is_net() {
            *net = None;
            return Ok(self.resolver.clone());
        }
        let between = (changes.base(), changes.id());
        if let Some((known, resolver)) = &*net
            && *known == between
        {
            return Ok(resolver.clone());
        }
        self.resolver.forget_dead()?;
        let resolver = Arc::new(Resolver::new(&self.columns.context, &self.options));
        *net = Some((between, resolver.clone()));
        Ok(resolver)
    }

    /// The rows of an added file, from the physical row `from` on; ordinals are physical rows.
    ///
    /// # Errors
    /// In the stream: as [`crate::scan::TableScan::to_batches`].
    pub fn read_file(
        self: &Arc<Self>,
        task: FileScanTask,
        from: u64,
    ) -> BoxStream<'static, Result<ChangeRows>> {
        files::read(self.clone(), task, from)
    }

    /// The physical rows `rows` of a file, of so many compressed bytes, by one decoder.
    ///
    /// # Errors
    /// As [`ChangeReader::read_file`].
    pub fn read_rows(
        self: &Arc<Self>,
        task: FileScanTask,
        rows: Range<u64>,
        bytes: u64,
    ) -> BoxStream<'static, Result<ChangeRows>> {
        files::read_rows(self.clone(), task, rows, bytes)
    }

    /// Bytes of rows that one decoder has on their way to who reads, where batches have so many.
    pub fn on_the_way(&self, batch_bytes: u64) -> u64 {
        self.tasks.on_the_way(batch_bytes)
    }

    /// As [`TaskReader::row_ranges`].
    ///
    /// # Errors
    /// As [`TaskReader::row_ranges`].
    pub async fn row_ranges(
        &self,
        task: &FileScanTask,
        readers: usize,
    ) -> Result<Option<Vec<(Range<u64>, u64)>>> {
        self.tasks.row_ranges(task, readers).await
    }

    /// The changes of one unit, from the ordinal `from` on. Ordinals count the unit's changes
    /// before filter and projection; the two images of an update count one each.
    ///
    /// * Order (CHG-5): deletions without a partner, then insertions, each behind its pre-image
    ///   if it updates a key; both by manifest, entry and row. The two images of an update are
    ///   in one batch.
    /// * Memory: the options' budget, whatever the unit's size.
    ///
    /// # Errors
    /// In the stream: as [`crate::scan::TableScan::to_batches`]; `InvalidInput` for `Appends`,
    /// which cannot show a unit that removes rows.
    pub fn read_unit(
        self: &Arc<Self>,
        changes: Arc<SnapshotChanges>,
        unit: usize,
        from: u64,
    ) -> BoxStream<'static, Result<ChangeRows>> {
        self.read_unit_by(self.columns.context.schema.clone(), changes, unit, (from, 1), None)
    }

    /// The same, with rows told apart by the columns of `schema` whatever columns they come in: so
    /// that ordinals mean what they meant when the table had that schema (TOK-11). For pairing it
    /// takes one part in `share` of the memory, so that several units can be read at once. What was
    /// decoded `ahead` by this reader for this unit and schema is not read again.
    ///
    /// # Errors
    /// As [`ChangeReader::read_unit`].
    pub fn read_unit_by(
        self: &Arc<Self>,
        schema: SchemaRef,
        changes: Arc<SnapshotChanges>,
        unit: usize,
        (from, share): (u64, u64),
        ahead: Option<UnitAhead>,
    ) -> BoxStream<'static, Result<ChangeRows>> {
        unit::read(self.clone(), schema, changes, unit, (from, share), ahead)
    }

    /// Begins to decode the files that a unit adds and the keys that its deletes name, for when it
    /// is read; earlier units may still be read meanwhile. Memory: `budget` bytes of rows.
    pub fn unit_ahead(
        self: &Arc<Self>,
        schema: SchemaRef,
        changes: Arc<SnapshotChanges>,
        unit: usize,
        budget: u64,
    ) -> UnitAhead {
        UnitAhead::begin(self.clone(), schema, changes, unit, budget)
    }
}

/// Runs work on any thread once it is asked for; it stops when this is dropped.
async fn spawned<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let mut tasks = JoinSet::new();
    tasks.spawn(work);
    let done = tasks.join_next().await;
    done.ok_or_else(|| Error::internal("the work did not start"))?.map_err(broke_off)?
}

fn broke_off(error: tokio::task::JoinError) -> Error {
    Error::internal("reading changes broke off").with_source(error)
}
