//! The net difference between any two snapshots of a table, as rows and as numbers.
//!
//! In: two points of history, on any branch. Out: the changes that turn the rows of the one into
//! those of the other, and nothing else. Rules: `format-spec/changes.md`, CHG-10 to CHG-12.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::{ChangeKind, ChangeReadOptions, ChangeReader, ChangeRows};
use crate::error::Result;
use crate::scan::{Base, Grouping, SnapshotChanges, Tally};
use crate::spec::{Predicate, SnapshotId};
use crate::table::{At, Table};

/// A question for the difference between two snapshots; see [`Table::diff`].
#[derive(Debug, Clone)]
pub struct TableDiff {
    table: Table,
    from: At,
    to: At,
    options: ChangeReadOptions,
}

/// A net difference in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiffStat {
    /// The snapshot it starts from; `None` for a table without commits.
    pub from: Option<SnapshotId>,
    /// The snapshot it leads to.
    pub to: Option<SnapshotId>,
    /// Rows that only `to` has.
    pub inserted: u64,
    /// Rows of one key that differ.
    pub updated: u64,
    /// Rows that only `from` has.
    pub deleted: u64,
    /// The files that were looked at, and those that need not be.
    pub files: Tally,
}

impl DiffStat {
    /// True when both sides have the same rows.
    pub fn is_empty(&self) -> bool {
        (self.inserted, self.updated, self.deleted) == (0, 0, 0)
    }
}

impl fmt::Display for DiffStat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inserted, updated, deleted, .. } = self;
        write!(f, "{inserted} inserted, {updated} updated, {deleted} deleted")
    }
}

impl Table {
    /// Asks for what turns the rows at `from` into the rows at `to`: deletions, insertions, and
    /// updates paired by key. Neither point need be an ancestor of the other, so branches, tags
    /// and rolled-back snapshots compare as well.
    ///
    /// Rows that both sides have are no change, however often they were rewritten or moved
    /// between. Files that both hold with the same deletes are not read.
    ///
    /// ```no_run
    /// # async fn run(table: meltwater::table::Table) -> meltwater::Result<()> {
    /// use futures::TryStreamExt;
    /// use meltwater::table::At;
    /// let diff = table.diff(At::Ref("audited".into()), At::Current).filter(
    ///     meltwater::expr::parse("region = 'north'", table.schema())?,
    /// );
    /// println!("{}", diff.stat().await?);
    /// let mut rows = diff.rows().await?;
    /// while let Some(changes) = rows.try_next().await? {
    ///     println!("{:?} {:?}", changes.kinds, changes.records);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn diff(&self, from: At, to: At) -> TableDiff {
        let options = ChangeReadOptions::default();
        TableDiff { table: self.clone(), from, to, options }
    }
}

impl TableDiff {
    /// Gives these columns only, in this order. What is compared stays the whole row.
    pub fn select<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.options.select = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Gives only changes of rows that pass. An update that enters or leaves the filter is an
    /// insert or a delete. Given twice, both must be true.
    pub fn filter(mut self, filter: Predicate) -> Self {
        self.options.filter = Some(match self.options.filter.take() {
            Some(before) => before.and(filter),
            None => filter,
        });
        self
    }

    /// The columns that tell rows apart (default: the identifier fields, else the columns that
    /// all equality deletes compare; without either nothing is an update).
    pub fn key<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.options.key = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Bytes that reading may hold (default: 256 MiB).
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.options.memory_budget = bytes;
        self
    }

    /// Files that are looked at side by side (default: one a core).
    pub fn parallelism(mut self, files: usize) -> Self {
        self.options.parallelism = files;
        self
    }

    /// The snapshots that are compared; `None` for the current one of a table without commits.
    ///
    /// # Errors
    /// `NotFound` naming the point and what there is instead.
    pub fn snapshots(&self) -> Result<(Option<SnapshotId>, Option<SnapshotId>)> {
        let id = |at: &At| -> Result<Option<SnapshotId>> {
            Ok(self.table.snapshot_at(at)?.map(|snapshot| SnapshotId(snapshot.snapshot_id())))
        };
        Ok((id(&self.from)?, id(&self.to)?))
    }

    /// The columns of all rows: those of a scan at `to`. A row of the older side has null in
    /// columns that came since, and differences in columns that went do not count.
    ///
    /// # Errors
    /// `InvalidInput` for columns that the table lacks; as [`TableDiff::snapshots`].
    pub fn arrow_schema(&self) -> Result<ArrowSchemaRef> {
        Ok(self.reader(self.options.clone())?.arrow_schema().clone())
    }

    /// Finds the files to look at. Reads manifests, no data.
    ///
    /// # Errors
    /// As [`Table::plan_net`]; `None` when `to` is a table without commits.
    pub async fn plan(&self) -> Result<Option<Arc<SnapshotChanges>>> {
        let key = self.reader(self.options.clone())?.key_ids();
        let (from, _) = self.snapshots()?;
        let Some(to) = self.table.snapshot_at(&self.to)? else { return Ok(None) };
        let base = Base::Snapshot(from);
        self.table.plan_net(base, &to, Grouping::Partition, &key).await.map(Some)
    }

    /// The changes. Within a unit, a partition or the whole table, first deletions without a
    /// partner, then insertions, each directly behind its pre-image if it updates a key; both by
    /// manifest, entry and row. The same question to the same snapshots has the same answer, in
    /// the same order, whatever the memory.
    ///
    /// # Errors
    /// As [`TableDiff::plan`] at once; in the stream `NotFound` naming file and snapshot,
    /// `CorruptData` and `Unavailable` naming the file.
    pub async fn rows(&self) -> Result<BoxStream<'static, Result<ChangeRows>>> {
        let plan = self.plan().await?;
        self.read(plan, self.options.clone())
    }

    /// Counts the changes. Reads what [`TableDiff::rows`] reads, but of rows that differ only
    /// the key.
    ///
    /// # Errors
    /// As [`TableDiff::rows`].
    pub async fn stat(&self) -> Result<DiffStat> {
        let plan = self.plan().await?;
        let (from, to) = self.snapshots()?;
        let files = plan.as_ref().map(|plan| plan.tally()).unwrap_or_default();
        let mut stat = DiffStat { from, to, files, ..DiffStat::default() };
        let narrow = ChangeReadOptions { select: Some(self.narrowest()?), ..self.options.clone() };
        let mut rows = self.read(plan, narrow)?;
        while let Some(changes) = rows.try_next().await? {
            for kind in changes.kinds {
                match kind {
                    ChangeKind::Insert => stat.inserted += 1,
                    ChangeKind::UpdateAfter => stat.updated += 1,
                    ChangeKind::Delete => stat.deleted += 1,
                    ChangeKind::UpdateBefore => {}
                }
            }
        }
        Ok(stat)
    }

    /// Columns that have to be read anyway, or else the first one.
    fn narrowest(&self) -> Result<Vec<String>> {
        let reader = self.reader(self.options.clone())?;
        if !reader.key().is_empty() {
            return Ok(reader.key().to_vec());
        }
        let schema = self.table.scan().at(self.to.clone()).context()?.schema;
        Ok(schema.as_struct().fields().iter().take(1).map(|field| field.name.clone()).collect())
    }

    fn reader(&self, options: ChangeReadOptions) -> Result<Arc<ChangeReader>> {
        ChangeReader::with_schema_at(&self.table, self.to.clone(), options).map(Arc::new)
    }

    fn read(
        &self,
        plan: Option<Arc<SnapshotChanges>>,
        options: ChangeReadOptions,
    ) -> Result<BoxStream<'static, Result<ChangeRows>>> {
        let Some(plan) = plan else { return Ok(stream::empty().boxed()) };
        let reader = self.reader(options)?;
        let units = stream::iter(0..plan.units().len());
        Ok(units.flat_map(move |unit| reader.read_unit(plan.clone(), unit, 0)).boxed())
    }
}

#[cfg(test)]
mod tests;
