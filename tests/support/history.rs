//! Random histories on a real table beside a plain in-memory model, shared by the model test and
//! the law of the stream.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;
use meltwater::arrow::array::AsArray;
use meltwater::arrow::datatypes::Int64Type;
use meltwater::catalog::{Catalog, FileSystemCatalog, NewTable};
use meltwater::clock::{Environment, ManualClock, SeededIds};
use meltwater::file::{WriterOptions, write_position_deletes};
use meltwater::scan::FileScanTask;
use meltwater::spec::{
    DataContentType, Datum, NamespaceIdent, PrimitiveType, Reference, SnapshotId, TableIdent,
    Transform, Type,
};
use meltwater::storage::Storage;
use meltwater::table::{AddedDelete, At, RemovedFile, Table};
use meltwater::write::{AppendOptions, UpsertOptions};
use meltwater::{ErrorKind, Result};
use proptest::prelude::*;
use roaring::RoaringTreemap;

use super::{AMOUNT, NAME, REGION, Row, Value, batch, differ, key, region, row, rows, scan};

/// One step of a history. Numbers are drawn from small sets so that steps meet.
#[derive(Debug, Clone)]
pub enum Op {
    Append(Vec<(i64, u64, Option<i64>)>),
    Upsert(Vec<(i64, u64, Option<i64>)>),
    DeleteKeys(Vec<(i64, u64)>),
    UpsertAndDelete(Vec<(i64, u64, Option<i64>)>, Vec<(i64, u64)>),
    DeleteAbove(i64),
    DeleteRegion(u64),
    OverwriteRegion(u64, Vec<i64>),
    Rewrite(u64),
    /// Files replaced by ones without the rows above, the others carried over, some changed.
    CopyOnWrite(u64, i64),
    /// Equality deletes replaced by position deletes that hit the same rows.
    Convert,
    AddColumn,
    DropColumn,
    RenameColumn,
    WidenColumn,
    PartitionBy(u64),
    Rollback(u64),
}

fn any_rows() -> impl Strategy<Value = Vec<(i64, u64, Option<i64>)>> {
    prop::collection::vec((0..40i64, 0..3u64, prop::option::of(-50..50i64)), 1..25)
}

fn any_keys() -> impl Strategy<Value = Vec<(i64, u64)>> {
    prop::collection::vec((0..40i64, 0..3u64), 1..10)
}

pub fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => any_rows().prop_map(Op::Append),
        6 => any_rows().prop_map(Op::Upsert),
        2 => any_keys().prop_map(Op::DeleteKeys),
        2 => (any_rows(), any_keys()).prop_map(|(r, k)| Op::UpsertAndDelete(r, k)),
        2 => (-50..50i64).prop_map(Op::DeleteAbove),
        1 => (0..3u64).prop_map(Op::DeleteRegion),
        1 => (0..3u64, prop::collection::vec(100..140i64, 0..8))
            .prop_map(|(r, ids)| Op::OverwriteRegion(r, ids)),
        2 => any::<u64>().prop_map(Op::Rewrite),
        2 => (any::<u64>(), -50..50i64).prop_map(|(pick, n)| Op::CopyOnWrite(pick, n)),
        1 => Just(Op::Convert),
        1 => Just(Op::AddColumn),
        1 => Just(Op::DropColumn),
        1 => Just(Op::RenameColumn),
        1 => Just(Op::WidenColumn),
        2 => (0..4u64).prop_map(Op::PartitionBy),
        1 => any::<u64>().prop_map(Op::Rollback),
    ]
}

/// The table beside its model, on an in-memory store and a clock that stands still.
pub struct Pair {
    pub table: Table,
    pub rows: Vec<Row>,
    /// The model at each snapshot of `main`, for rollback and time travel.
    pub past: BTreeMap<i64, Vec<Row>>,
    names: u32,
}

impl Pair {
    pub async fn new(seed: u64) -> Result<Self> {
        let storage = Storage::default();
        let catalog = Arc::new(FileSystemCatalog::new("memory:///warehouse", storage));
        let namespace = NamespaceIdent::new("ns".into());
        catalog.create_namespace(&namespace, Default::default()).await?;
        let ident = TableIdent::new(namespace, "t".into());
        let mut new = NewTable::new(super::schema());
        new.properties.insert("commit.manifest.min-count-to-merge".into(), "4".into());
        let loaded = catalog.create_table(&ident, new).await?;
        let environment = Environment {
            clock: Arc::new(ManualClock::new(1_700_000_000_000)),
            ids: Arc::new(SeededIds::new(seed)),
        };
        let table = Table::from_loaded(catalog, ident, loaded).with_environment(environment);
        Ok(Self { table, rows: Vec::new(), past: BTreeMap::new(), names: 0 })
    }

    /// Rows with values for every column that exists now.
    fn make(&mut self, rows: &[(i64, u64, Option<i64>)]) -> Vec<Row> {
        self.names += 1;
        let name = format!("n{}", self.names);
        let schema = self.table.schema().clone();
        let one = |(id, r, amount): &(i64, u64, Option<i64>)| {
            let mut made = row(*id, &region(*r), *amount, Some(&name));
            made.retain(|id, _| schema.field_by_id(*id).is_some());
            for field in schema.as_struct().fields().iter().filter(|f| f.id > NAME) {
                made.insert(field.id, Value::Text(format!("{name}-{}", field.id)));
            }
            made
        };
        rows.iter().map(one).collect()
    }

    pub async fn step(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::Append(rows) => self.append(rows).await?,
            Op::Upsert(rows) => self.upsert(rows, &[]).await?,
            Op::DeleteKeys(keys) => self.upsert(&[], keys).await?,
            Op::UpsertAndDelete(rows, keys) => self.upsert(rows, keys).await?,
            Op::DeleteAbove(n) => {
                let filter = Reference::new("amount").greater_than(self.amount(*n));
                self.table.delete_where(filter).commit().await?;
                self.rows.retain(|r| !matches!(r.get(&AMOUNT), Some(Value::Int(a)) if a > n));
            }
            Op::DeleteRegion(r) => {
                let filter = Reference::new("region").equal_to(Datum::string(region(*r)));
                self.table.delete_where(filter).commit().await?;
                self.rows.retain(|row| row[&REGION] != Value::Text(region(*r)));
            }
            Op::OverwriteRegion(r, ids) => self.overwrite(*r, ids).await?,
            Op::Rewrite(pick) => self.rewrite(*pick).await?,
            Op::CopyOnWrite(pick, n) => self.copy_on_write(*pick, *n).await?,
            Op::Convert => self.convert().await?,
            Op::AddColumn => {
                self.names += 1;
                let name = format!("c{}", self.names);
                let text = Type::Primitive(PrimitiveType::String);
                self.table.update_schema().add_column(&name, text, None).commit().await?;
            }
            Op::DropColumn => self.drop_column().await?,
            Op::RenameColumn => {
                if let Some(field) = self.table.schema().field_by_id(NAME) {
                    self.names += 1;
                    let to = format!("name{}", self.names);
                    let old = field.name.clone();
                    self.table.update_schema().rename_column(&old, &to).commit().await?;
                }
            }
            Op::WidenColumn => {
                let update = self.table.update_schema();
                update.widen_column("amount", PrimitiveType::Long).commit().await?;
            }
            Op::PartitionBy(n) => self.partition_by(*n).await?,
            Op::Rollback(pick) => self.rollback(*pick).await?,
        }
        self.check(&format!("{op:?}")).await
    }

    fn amount(&self, n: i64) -> Datum {
        let field = self.table.schema().field_by_id(AMOUNT).expect("amount is never dropped");
        match field.field_type.as_primitive_type() {
            Some(PrimitiveType::Int) => Datum::int(n as i32),
            _ => Datum::long(n),
        }
    }

    async fn append(&mut self, rows: &[(i64, u64, Option<i64>)]) -> Result<()> {
        let rows = self.make(rows);
        let mut writer = self.table.append_writer(AppendOptions::default())?;
        writer.write(batch(self.table.schema(), &rows)?).await?;
        self.table.append(writer.close().await?).commit().await?;
        self.rows.extend(rows);
        Ok(())
    }

    async fn upsert(
        &mut self,
        rows: &[(i64, u64, Option<i64>)],
        deleted: &[(i64, u64)],
    ) -> Result<()> {
        let rows = self.make(rows);
        let keys: Vec<Row> =
            deleted.iter().map(|(id, r)| row(*id, &region(*r), None, None)).collect();
        let mut writer = self.table.upsert_writer(UpsertOptions::default())?;
        // Two writes, so that keys meet within one commit across batches too.
        for part in rows.chunks(rows.len().div_ceil(2).max(1)) {
            writer.write(batch(self.table.schema(), part)?).await?;
        }
        if !keys.is_empty() {
            writer.delete(batch(self.table.schema(), &keys)?.project(&[0, 1])?).await?;
        }
        self.table.row_delta(writer.close().await?).commit().await?;
        for row in rows {
            let old = key(&row);
            self.rows.retain(|r| key(r) != old);
            self.rows.push(row);
        }
        self.rows.retain(|r| !keys.iter().any(|k| key(k) == key(r)));
        Ok(())
    }

    async fn overwrite(&mut self, r: u64, ids: &[i64]) -> Result<()> {
        let fresh: Vec<_> = ids.iter().map(|id| (*id, r, Some(*id))).collect();
        let rows = self.make(&fresh);
        let mut writer = self.table.append_writer(AppendOptions::default())?;
        if !rows.is_empty() {
            writer.write(batch(self.table.schema(), &rows)?).await?;
        }
        let filter = Reference::new("region").equal_to(Datum::string(region(r)));
        self.table.overwrite_where(filter, writer.close().await?).commit().await?;
        self.rows.retain(|row| row[&REGION] != Value::Text(region(r)));
        self.rows.extend(rows);
        Ok(())
    }

    /// Some files of the current snapshot.
    async fn choose(&self, pick: u64) -> Result<(Table, Vec<FileScanTask>)> {
        let table = self.table.refresh().await?;
        let tasks: Vec<_> = match table.current_snapshot() {
            None => Vec::new(),
            Some(_) => table.scan().plan().await?.try_collect().await?,
        };
        let chosen = tasks.into_iter().enumerate().filter(|(i, _)| pick >> (i % 64) & 1 == 1);
        Ok((table, chosen.map(|(_, task)| task).collect()))
    }

    /// Reads some files with their deletes applied and replaces them by files with those rows.
    async fn rewrite(&mut self, pick: u64) -> Result<()> {
        let (table, chosen) = self.choose(pick).await?;
        let Some(head) = table.current_snapshot().filter(|_| !chosen.is_empty()) else {
            return Ok(());
        };
        let mut writer = table.append_writer(AppendOptions::default())?;
        let mut removed = Vec::new();
        for task in chosen {
            removed.push(RemovedFile::new(&task.file, Some(task.sequence_number)));
            let batches: Vec<_> = table.scan().task_batches(task).await?.try_collect().await?;
            for batch in batches {
                writer.write(batch).await?;
            }
        }
        let added = writer.close().await?.data_files;
        table.rewrite_files(removed, added, SnapshotId(head.snapshot_id()))?.commit().await?;
        Ok(())
    }

    /// What an engine without delete files does for DELETE and UPDATE: rows above `n` go, those
    /// just below lose their name, the others are carried over.
    async fn copy_on_write(&mut self, pick: u64, n: i64) -> Result<()> {
        let (table, chosen) = self.choose(pick).await?;
        if chosen.is_empty() {
            return Ok(());
        }
        let schema = table.schema().clone();
        let mut writer = table.append_writer(AppendOptions::default())?;
        let mut removed = Vec::new();
        for task in chosen {
            removed.push(RemovedFile::new(&task.file, Some(task.sequence_number)));
            let batches: Vec<_> = table.scan().task_batches(task).await?.try_collect().await?;
            let mut kept = rows(&schema, &batches);
            for row in &kept {
                let at = self.rows.iter().position(|r| r == row).expect("the row is in the model");
                self.rows.swap_remove(at);
            }
            let amount = |row: &Row| match row.get(&AMOUNT) {
                Some(Value::Int(amount)) => *amount,
                _ => i64::MIN,
            };
            kept.retain(|row| amount(row) <= n);
            for row in kept.iter_mut().filter(|row| amount(row) > n - 10) {
                row.remove(&NAME);
            }
            // Another order, as a shuffle leaves it.
            kept.reverse();
            if !kept.is_empty() {
                writer.write(batch(&schema, &kept)?).await?;
            }
            self.rows.extend(kept);
        }
        table.overwrite_files(removed, writer.close().await?).commit().await?;
        Ok(())
    }

    async fn convert(&mut self) -> Result<()> {
        let table = self.table.refresh().await?;
        let Some(head) = table.current_snapshot().cloned() else { return Ok(()) };
        let mut removed = Vec::new();
        for manifest in table.manifests(&head).await?.iter() {
            let entries = table.entries(manifest).await?;
            let equality = entries
                .iter()
                .filter(|e| e.is_live() && e.file.content == DataContentType::EqualityDeletes);
            removed.extend(equality.map(|e| RemovedFile::new(&e.file, Some(e.sequence_number))));
        }
        if removed.is_empty() {
            return Ok(());
        }
        let (mut added, mut planned) = (Vec::new(), HashSet::new());
        let tasks: Vec<_> = table.scan().plan().await?.try_collect().await?;
        for task in tasks {
            let file = task.file.clone();
            planned.insert(file.file_path.clone());
            let scan = table.scan().select(["_pos"]);
            let live: Vec<_> = scan.task_batches(task).await?.try_collect().await?;
            let mut dead: RoaringTreemap = (0..file.record_count).collect();
            for batch in &live {
                for pos in batch.column(0).as_primitive::<Int64Type>().values() {
                    dead.remove(*pos as u64);
                }
            }
            if !dead.is_empty() {
                let location = table.new_data_path(&file.partition_key(), "pos-deletes")?;
                let options = WriterOptions::default();
                let written =
                    write_position_deletes(table.storage(), &location, &file, &dead, &options);
                added.push(AddedDelete { file: written.await?, sequence_number: None });
            }
        }
        let at = SnapshotId(head.snapshot_id());
        table.convert_deletes(removed, added, planned, at).commit().await?;
        Ok(())
    }

    async fn drop_column(&mut self) -> Result<()> {
        let fields = self.table.schema().as_struct().fields().to_vec();
        let Some(last) = fields.iter().rev().find(|f| f.id >= NAME) else { return Ok(()) };
        self.table.update_schema().drop_column(&last.name).commit().await?;
        self.rows.iter_mut().for_each(|r| {
            r.remove(&last.id);
        });
        Ok(())
    }

    async fn partition_by(&mut self, n: u64) -> Result<()> {
        let spec = self.table.metadata().default_partition_spec().clone();
        let mut update = self.table.update_spec();
        for field in spec.fields() {
            update = update.remove_field(&field.name);
        }
        update = match n {
            1 => update.add_field("region", Transform::Identity, Some("region_id")),
            2 => update.add_field("id", Transform::Bucket(3), None),
            3 => update.add_field("region", Transform::Truncate(1), None).add_field(
                "id",
                Transform::Truncate(10),
                None,
            ),
            _ => update,
        };
        update.commit().await?;
        Ok(())
    }

    /// Snapshots know rows under the schema of their time; only go back to ones of this schema.
    async fn rollback(&mut self, pick: u64) -> Result<()> {
        let Some(head) = self.table.current_snapshot() else { return Ok(()) };
        let schema = Some(self.table.metadata().current_schema_id());
        let same: Vec<i64> = self
            .table
            .ancestors(SnapshotId(head.snapshot_id()))
            .filter(|s| s.schema_id() == schema)
            .map(|s| s.snapshot_id())
            .collect();
        if same.is_empty() {
            return Ok(());
        }
        let to = same[(pick % same.len() as u64) as usize];
        self.table.rollback_to(SnapshotId(to)).await?;
        self.rows = self.past[&to].clone();
        Ok(())
    }

    pub async fn check(&mut self, step: &str) -> Result<()> {
        self.table = self.table.refresh().await?;
        self.rows.sort();
        let found = scan(&self.table, At::Current).await?;
        if found != self.rows {
            return Err(differ(step, &self.rows, &found));
        }
        let count = self.table.scan().count().await?;
        assert_eq!(count, self.rows.len() as u64, "count after {step}");
        if let Some(head) = self.table.current_snapshot() {
            let id = head.snapshot_id();
            let fits = head.schema_id() == Some(self.table.metadata().current_schema_id());
            if fits {
                self.past.entry(id).or_insert_with(|| self.rows.clone());
            }
        }
        Ok(())
    }

    /// Every snapshot still gives the rows it had.
    pub async fn check_past(&self) -> Result<()> {
        for (id, expected) in &self.past {
            let found = scan(&self.table, At::Snapshot(SnapshotId(*id))).await?;
            if found != *expected {
                return Err(differ(&format!("time travel to {id}"), expected, &found));
            }
        }
        Ok(())
    }
}

impl Pair {
    /// Makes a whole history.
    pub async fn play(seed: u64, ops: &[Op]) -> Result<Self> {
        let mut pair = Self::new(seed).await?;
        pair.go_on(ops).await?;
        Ok(pair)
    }

    /// Takes more steps. One may be refused, but only with advice.
    pub async fn go_on(&mut self, ops: &[Op]) -> Result<()> {
        for op in ops {
            match self.step(op).await {
                Ok(()) => {}
                // An upsert may be refused after partition evolution.
                Err(e) if e.kind() == ErrorKind::InvalidInput && e.hint().is_some() => {
                    self.check("a refused step").await?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
