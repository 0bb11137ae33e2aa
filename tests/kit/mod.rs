//! A catalog in memory, tables of other engines opened where they lie, and short names for
//! making Parquet files of any shape.
#![allow(dead_code)] // each test binary uses its own part

pub mod catalog;
pub mod layer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{Field, Schema as ArrowSchema};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use meltwater::Result;
use meltwater::manifest::{ManifestCodec, ManifestWriter, write_manifest_list};
use meltwater::scan::TableScan;
use meltwater::spec::*;
use meltwater::storage::{PathMap, Storage};
use meltwater::table::{Table, WriteResult};

use catalog::MemoryCatalog;

fn name() -> TableIdent {
    TableIdent::from_strs(["ns", "t"]).unwrap()
}

/// A new table in a store of its own. Column ids must be 1, 2, … level by level, for the
/// metadata builder numbers them anew.
pub fn table(fields: Vec<NestedFieldRef>) -> Table {
    table_with(fields, UnboundPartitionSpec::default(), &[])
}

pub fn table_with(
    fields: Vec<NestedFieldRef>,
    spec: UnboundPartitionSpec,
    properties: &[(&str, &str)],
) -> Table {
    table_in(Storage::default(), fields, spec, properties)
}

/// As [`table_with`], with its files in a given store.
pub fn table_in(
    storage: Storage,
    fields: Vec<NestedFieldRef>,
    spec: UnboundPartitionSpec,
    properties: &[(&str, &str)],
) -> Table {
    let schema = Schema::builder().with_fields(fields).build().unwrap();
    let properties = properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let built = TableMetadataBuilder::new(
        schema,
        spec,
        SortOrder::unsorted_order(),
        "memory:///t".into(),
        FormatVersion::V2,
        properties,
    );
    registered(MemoryCatalog::over(storage), built.unwrap().build().unwrap().metadata)
}

/// The same version of a table in a catalog that gives no answer while the switch is on.
pub fn with_silence(table: &Table) -> (Table, Arc<AtomicBool>) {
    let catalog = MemoryCatalog::over(table.storage().clone());
    let silent = catalog.silent.clone();
    (registered(catalog, table.metadata().as_ref().clone()), silent)
}

/// The same new table, as if it had been made at that time.
pub fn made_at(table: &Table, time_ms: i64) -> Table {
    let mut json = serde_json::to_value(table.metadata().as_ref()).unwrap();
    json["last-updated-ms"] = time_ms.into();
    let metadata = serde_json::from_value(json).unwrap();
    registered(MemoryCatalog::over(table.storage().clone()), metadata)
}

/// The same version of a table in a catalog of its own, its files read from another store.
pub fn moved(table: &Table, storage: Storage) -> Table {
    registered(MemoryCatalog::over(storage), table.metadata().as_ref().clone())
}

fn registered(catalog: MemoryCatalog, metadata: TableMetadata) -> Table {
    let loaded = catalog.put(&name(), metadata);
    Table::from_loaded(Arc::new(catalog), name(), loaded)
}

/// A table of another engine, opened from its metadata file; `from` is the prefix of the paths
/// in its metadata, `folder` where they really are.
pub fn foreign(folder: &Path, metadata: &Path, from: &str) -> Table {
    let json = std::fs::read(metadata).unwrap();
    let metadata: TableMetadata = serde_json::from_slice(&json).unwrap();
    let paths = PathMap::new().with(from, folder.to_str().unwrap());
    let storage = Storage::default().with_path_map(paths);
    registered(MemoryCatalog::over(storage), metadata)
}

/// Changes the metadata through its builder, as a schema or spec change would.
pub async fn changed(
    table: &Table,
    change: impl FnOnce(TableMetadataBuilder) -> iceberg::Result<TableMetadataBuilder>,
) -> Table {
    let builder = table.metadata().as_ref().clone().into_builder(None);
    let updates = change(builder).unwrap().build().unwrap().changes;
    table.catalog().commit(&name(), vec![], updates).await.unwrap();
    table.refresh().await.unwrap()
}

pub fn optional(id: i32, name: &str, t: PrimitiveType) -> NestedFieldRef {
    NestedField::optional(id, name, Type::Primitive(t)).into()
}

pub fn required(id: i32, name: &str, t: PrimitiveType) -> NestedFieldRef {
    NestedField::required(id, name, Type::Primitive(t)).into()
}

/// An Arrow field with a field id.
pub fn field(name: &str, id: i32, array: &ArrayRef) -> Field {
    let id = [("PARQUET:field_id".to_string(), id.to_string())];
    Field::new(name, array.data_type().clone(), true).with_metadata(id.into())
}

/// A batch of columns with names and field ids.
pub fn batch(columns: Vec<(&str, i32, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns.iter().map(|(name, id, a)| field(name, *id, a)).collect();
    let arrays = columns.into_iter().map(|(_, _, a)| a).collect();
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), arrays).unwrap()
}

/// Writes a batch as it is, `rows_per_group` rows a row group, and describes it as a data file
/// without statistics.
pub async fn file_in_groups(
    table: &Table,
    name: &str,
    batch: &RecordBatch,
    rows_per_group: usize,
) -> DataFile {
    let options = WriterProperties::builder().set_max_row_group_row_count(Some(rows_per_group));
    file_with(table, name, batch, options.build()).await
}

/// Writes a batch as the options say, and describes it as a data file without statistics.
pub async fn file_with(
    table: &Table,
    name: &str,
    batch: &RecordBatch,
    options: WriterProperties,
) -> DataFile {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(options)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let path = format!("memory:///t/data/{name}.parquet");
    let size = bytes.len() as u64;
    table.storage().write(&path, Bytes::from(bytes)).await.unwrap();
    let spec = table.metadata().default_partition_spec_id();
    let partition = PartitionKey::unpartitioned(spec);
    DataFile::new(DataContentType::Data, path, partition, batch.num_rows() as u64, size)
}

pub async fn file(table: &Table, name: &str, batch: &RecordBatch) -> DataFile {
    file_in_groups(table, name, batch, 1_000_000).await
}

pub async fn equality(table: &Table, name: &str, batch: &RecordBatch, ids: &[i32]) -> DataFile {
    let mut file = file(table, name, batch).await;
    file.content = DataContentType::EqualityDeletes;
    file.equality_ids = Some(ids.to_vec());
    file
}

pub async fn positions(table: &Table, name: &str, batch: &RecordBatch) -> DataFile {
    let mut file = file(table, name, batch).await;
    file.content = DataContentType::PositionDeletes;
    file
}

/// Position deletes of one data file, in a file of their own.
pub async fn positions_of(table: &Table, name: &str, about: &DataFile, dead: &[i64]) -> DataFile {
    let paths = vec![about.file_path.as_str(); dead.len()];
    let rows = batch(vec![
        ("file_path", 2_147_483_546, Arc::new(StringArray::from(paths))),
        ("pos", 2_147_483_545, Arc::new(Int64Array::from(dead.to_vec()))),
    ]);
    let mut file = positions(table, name, &rows).await;
    file.referenced_data_file = Some(about.file_path.clone());
    (file.spec_id, file.partition) = (about.spec_id, about.partition.clone());
    file
}

pub async fn append(table: &Table, data_files: Vec<DataFile>) -> Table {
    let written = WriteResult { data_files, ..WriteResult::default() };
    table.append(written).commit().await.unwrap().table
}

pub async fn delete(table: &Table, delete_files: Vec<DataFile>) -> Table {
    let written = WriteResult { delete_files, ..WriteResult::default() };
    table.row_delta(written).commit().await.unwrap().table
}

/// Commits delete files the way other engines may and our commit engine refuses to: such as
/// position deletes about several data files.
pub async fn delete_like_others(table: &Table, delete_files: Vec<DataFile>) -> Table {
    commit_like_others(table, ManifestContentType::Deletes, delete_files).await
}

/// Adds files in a snapshot that nobody checks.
pub async fn commit_like_others(
    table: &Table,
    content: ManifestContentType,
    files: Vec<DataFile>,
) -> Table {
    let time_ms = table.metadata().last_updated_ms() + 1;
    commit_like_others_at(table, content, files, time_ms).await
}

/// As [`commit_like_others`], by a writer whose clock says `time_ms`.
pub async fn commit_like_others_at(
    table: &Table,
    content: ManifestContentType,
    files: Vec<DataFile>,
    time_ms: i64,
) -> Table {
    let kept = match table.current_snapshot() {
        Some(head) => table.manifests(head).await.unwrap().as_ref().clone(),
        None => Vec::new(),
    };
    commit_unchecked(table, content, files, kept, time_ms).await
}

/// Makes a snapshot of these files only, without a word about those that were there.
pub async fn replace_like_others(table: &Table, files: Vec<DataFile>) -> Table {
    let time_ms = table.metadata().last_updated_ms() + 1;
    commit_unchecked(table, ManifestContentType::Data, files, Vec::new(), time_ms).await
}

async fn commit_unchecked(
    table: &Table,
    content: ManifestContentType,
    files: Vec<DataFile>,
    mut manifests: Vec<ManifestFile>,
    time_ms: i64,
) -> Table {
    let head = table.current_snapshot().cloned();
    let sequence = table.metadata().last_sequence_number() + 1;
    let id = head.as_ref().map_or(7, |h| h.snapshot_id() + 1);
    let spec_id = files[0].spec_id;
    let mut writer = ManifestWriter::new(
        content,
        table.schema().clone(),
        table.spec(spec_id).unwrap().clone(),
        table.partition_types(spec_id).unwrap(),
        SnapshotId(id),
        ManifestCodec::Uncompressed,
    );
    for file in &files {
        writer.add(file, None).unwrap();
    }
    let manifest = format!("memory:///t/metadata/{id}-m0.avro");
    let (bytes, manifest_file) = writer.finish(&manifest).unwrap();
    table.storage().write(&manifest, bytes).await.unwrap();
    manifests.push(manifest_file);
    let parent = head.as_ref().map(|h| SnapshotId(h.snapshot_id()));
    let number = SequenceNumber(sequence);
    let codec = ManifestCodec::Uncompressed;
    let bytes = write_manifest_list(&manifests, SnapshotId(id), parent, number, codec).unwrap();
    let list = format!("memory:///t/metadata/snap-{id}.avro");
    table.storage().write(&list, bytes).await.unwrap();
    let summary =
        Summary { operation: Operation::Overwrite, additional_properties: HashMap::new() };
    let snapshot = Snapshot::builder()
        .with_snapshot_id(id)
        .with_parent_snapshot_id(parent.map(|p| p.0))
        .with_sequence_number(sequence)
        .with_timestamp_ms(time_ms)
        .with_manifest_list(list)
        .with_summary(summary)
        .with_schema_id(table.schema().schema_id())
        .build();
    changed(table, |b| b.set_branch_snapshot(snapshot, MAIN_BRANCH)).await
}

/// Of all tasks of this runtime none is left, or will be soon.
pub async fn assert_nothing_runs() {
    let metrics = tokio::runtime::Handle::current().metrics();
    for _ in 0..200 {
        if metrics.num_alive_tasks() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} tasks still run", metrics.num_alive_tasks());
}

pub async fn batches(scan: &TableScan) -> Result<Vec<RecordBatch>> {
    scan.to_batches().await?.try_collect().await
}

/// All rows of a scan as one batch of the announced schema, in order.
pub async fn rows(scan: &TableScan) -> Result<RecordBatch> {
    let found = batches(&scan.clone().ordered(true)).await?;
    let schema = scan.arrow_schema()?;
    Ok(arrow::compute::concat_batches(&schema, &found)?)
}
