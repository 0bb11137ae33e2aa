//! Changes as plain values, and a replica that is kept up to date by nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use futures::stream::BoxStream;
use meltwater::read::{ChangeKind, ChangeReader, ChangeRows};
use meltwater::scan::{ChangeClass, Grouping, SnapshotChanges};
use meltwater::spec::{SchemaRef, SnapshotId, SnapshotRef};
use meltwater::stream::ChangeBatch;
use meltwater::table::Table;
use meltwater::{Error, Result};

use super::{Row, key, rows};

/// One change of one row. Only what was read without a stream knows its ordinal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub snapshot: i64,
    pub ordinal: u64,
    pub kind: ChangeKind,
    pub row: Row,
}

impl Change {
    /// The same change, as far as the schema knows its row.
    pub fn known_to(&self, schema: &SchemaRef) -> Self {
        let row = projected(std::slice::from_ref(&self.row), schema).remove(0);
        Self { row, ..self.clone() }
    }
}

/// The changes of a stream's batch; the table has the given schema.
pub fn changes_in(schema: &SchemaRef, batch: &ChangeBatch) -> Vec<Change> {
    let rows = rows(schema, std::slice::from_ref(&batch.records));
    assert_eq!(rows.len(), batch.kinds.len(), "a kind for every row");
    let snapshot = batch.commit.snapshot_id.0;
    let change =
        |(row, kind): (Row, &ChangeKind)| Change { snapshot, ordinal: 0, kind: *kind, row };
    rows.into_iter().zip(&batch.kinds).map(change).collect()
}

fn changes_read(schema: &SchemaRef, snapshot: i64, batch: &ChangeRows) -> Vec<Change> {
    let rows = rows(schema, std::slice::from_ref(&batch.records));
    assert_eq!(rows.len(), batch.kinds.len(), "a kind for every row");
    assert_eq!(rows.len(), batch.ordinals.len(), "an ordinal for every row");
    assert!(batch.ordinals.is_sorted(), "ordinals ascend: {:?}", batch.ordinals);
    let about = batch.kinds.iter().zip(&batch.ordinals);
    rows.into_iter()
        .zip(about)
        .map(|(row, (kind, ordinal))| Change { snapshot, ordinal: *ordinal, kind: *kind, row })
        .collect()
}

/// What one snapshot changes, read unit by unit without a stream. `from` is the first ordinal
/// wanted of each unit and file.
pub async fn changes_of(
    reader: &Arc<ChangeReader>,
    table: &Table,
    snapshot: &SnapshotRef,
    grouping: Grouping,
    from: u64,
) -> Result<Vec<Vec<Change>>> {
    let plan = table.plan_changes(snapshot, grouping).await?;
    let id = snapshot.snapshot_id();
    let mut changes = Vec::new();
    for part in parts_of(reader, &plan, from).await? {
        let batches: Vec<ChangeRows> = part.try_collect().await?;
        let of = |batch: &ChangeRows| changes_read(table.schema(), id, batch);
        changes.push(batches.iter().flat_map(of).collect());
    }
    Ok(changes)
}

/// The files and units of one snapshot, each as a reader gives it from an ordinal on.
pub async fn parts_of(
    reader: &Arc<ChangeReader>,
    plan: &Arc<SnapshotChanges>,
    from: u64,
) -> Result<Vec<BoxStream<'static, Result<ChangeRows>>>> {
    let mut parts = Vec::new();
    match plan.class() {
        ChangeClass::Nothing => {}
        ChangeClass::Inserts => {
            for at in 0..plan.added_manifests().len() {
                for file in plan.added_files(at).await? {
                    parts.push(reader.read_file(file.task, from));
                }
            }
        }
        ChangeClass::Mixed => {
            for unit in 0..plan.units().len() {
                parts.push(reader.read_unit(plan.clone(), unit, from));
            }
        }
    }
    Ok(parts)
}

/// The snapshots that lead to the head of `main`, oldest first.
pub fn history(table: &Table) -> Vec<SnapshotRef> {
    let Some(head) = table.current_snapshot() else { return Vec::new() };
    let mut found: Vec<_> = table.ancestors(SnapshotId(head.snapshot_id())).cloned().collect();
    found.reverse();
    found
}

/// Rows as often as they are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replica {
    rows: BTreeMap<Row, usize>,
}

impl Replica {
    /// Applies exact changes in order. A row that goes must be there: pre-images are rows that
    /// were live. The two images of an update stand side by side and share their key.
    pub fn apply<'a>(&mut self, changes: impl IntoIterator<Item = &'a Change>) -> Result<()> {
        let mut before: Option<&Change> = None;
        for change in changes {
            let pre_image = before.take();
            match change.kind {
                ChangeKind::Insert => self.add(&change.row),
                ChangeKind::Delete => self.take(change)?,
                ChangeKind::UpdateBefore => {
                    self.take(change)?;
                    before = Some(change);
                }
                ChangeKind::UpdateAfter => {
                    let pairs = pre_image.is_some_and(|old| {
                        key(&old.row) == key(&change.row) && old.snapshot == change.snapshot
                    });
                    if !pairs {
                        return Err(broken("an update without its pre-image", change));
                    }
                    self.add(&change.row);
                    continue;
                }
            }
            if let Some(alone) = pre_image {
                return Err(broken("a pre-image without its update", alone));
            }
        }
        before.map_or(Ok(()), |alone| Err(broken("a pre-image without its update", alone)))
    }

    fn add(&mut self, row: &Row) {
        *self.rows.entry(row.clone()).or_default() += 1;
    }

    fn take(&mut self, change: &Change) -> Result<()> {
        match self.rows.get_mut(&change.row) {
            None => return Err(broken("a row goes that is not there", change)),
            Some(1) => {
                self.rows.remove(&change.row);
            }
            Some(count) => *count -= 1,
        }
        Ok(())
    }

    /// The rows, sorted.
    pub fn rows(&self) -> Vec<Row> {
        let repeated = |(row, count): (&Row, &usize)| vec![row.clone(); *count];
        self.rows.iter().flat_map(repeated).collect()
    }

    /// Same rows under another schema: columns that it does not have are gone.
    pub fn in_schema(&self, schema: &SchemaRef) -> Self {
        let mut replica = Self::default();
        self.projected(schema).iter().for_each(|row| replica.add(row));
        replica
    }

    /// Same rows without the columns that `schema` does not have.
    pub fn projected(&self, schema: &SchemaRef) -> Vec<Row> {
        projected(&self.rows(), schema)
    }
}

/// Same rows without the columns that `schema` does not have, sorted.
pub fn projected(rows: &[Row], schema: &SchemaRef) -> Vec<Row> {
    let keep = |row: &Row| -> Row {
        let known = row.iter().filter(|(id, _)| schema.field_by_id(**id).is_some());
        known.map(|(id, value)| (*id, value.clone())).collect()
    };
    let mut rows: Vec<Row> = rows.iter().map(keep).collect();
    rows.sort();
    rows
}

fn broken(what: &str, change: &Change) -> Error {
    Error::internal(format!("{what}: {change:?}"))
}
