//! Rows to files and back, on the table `id long, name string, day int`.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use futures::TryStreamExt;

use crate::file::{ParquetFileWriter, WriterOptions, arrow_schema};
use crate::spec::*;
use crate::table::{At, Table, WriteResult};

pub(crate) type Row = (i64, Option<String>, Option<i32>);

pub(crate) fn row(id: i64, name: &str, day: i32) -> Row {
    (id, Some(name.to_string()), Some(day))
}

fn batch(schema: &Schema, rows: &[Row]) -> RecordBatch {
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(StringArray::from_iter(rows.iter().map(|r| r.1.as_deref()))),
        Arc::new(Int32Array::from_iter(rows.iter().map(|r| r.2))),
    ];
    RecordBatch::try_new(arrow_schema(schema).unwrap(), columns).unwrap()
}

async fn write(
    table: &Table,
    schema: SchemaRef,
    batch: RecordBatch,
    content: DataContentType,
    partition: PartitionKey,
) -> DataFile {
    let options = WriterOptions::default();
    let path = table.new_data_path(&partition, "test").unwrap();
    let mut writer = ParquetFileWriter::create(table.storage(), &path, schema, &options).unwrap();
    writer.write(&batch).await.unwrap();
    writer.close(content, partition).await.unwrap()
}

/// One data file of the rows, all of which are of the partition.
pub(crate) async fn file(table: &Table, rows: &[Row], partition: PartitionKey) -> WriteResult {
    let schema = table.schema().clone();
    let batch = batch(&schema, rows);
    let file = write(table, schema, batch, DataContentType::Data, partition).await;
    WriteResult { data_files: vec![file], ..WriteResult::default() }
}

/// An equality delete of the ids.
pub(crate) async fn delete_ids(table: &Table, ids: &[i64], partition: PartitionKey) -> WriteResult {
    let id = table.schema().field_by_id(1).unwrap().clone();
    let schema: SchemaRef = Arc::new(Schema::builder().with_fields([id]).build().unwrap());
    let ids = Arc::new(Int64Array::from(ids.to_vec()));
    let batch = RecordBatch::try_new(arrow_schema(&schema).unwrap(), vec![ids]).unwrap();
    let mut file = write(table, schema, batch, DataContentType::EqualityDeletes, partition).await;
    file.equality_ids = Some(vec![1]);
    WriteResult { delete_files: vec![file], ..WriteResult::default() }
}

/// The rows of a branch, sorted.
pub(crate) async fn rows_of(table: &Table, at: At) -> Vec<Row> {
    let batches = table.scan().at(at).to_batches().await.unwrap();
    let batches: Vec<RecordBatch> = batches.try_collect().await.unwrap();
    let mut rows = Vec::new();
    for batch in batches {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let names = batch.column(1).as_string::<i32>();
        let days = batch.column(2).as_primitive::<Int32Type>();
        for i in 0..batch.num_rows() {
            let name = names.is_valid(i).then(|| names.value(i).to_string());
            rows.push((ids.value(i), name, days.is_valid(i).then(|| days.value(i))));
        }
    }
    rows.sort();
    rows
}

pub(crate) async fn ids(table: &Table) -> Vec<i64> {
    rows_of(table, At::Current).await.into_iter().map(|r| r.0).collect()
}

/// Every file in the folder of data and delete files.
pub(crate) async fn stored(table: &Table) -> usize {
    let listing = table.storage().list(&table.data_location()).unwrap();
    listing.try_collect::<Vec<_>>().await.unwrap().len()
}

/// The live delete files of the current snapshot.
pub(crate) async fn delete_files(table: &Table) -> Vec<DataFile> {
    let mut found = Vec::new();
    let Some(head) = table.current_snapshot() else { return found };
    for manifest in table.manifests(head).await.unwrap().iter() {
        for entry in table.entries(manifest).await.unwrap().iter().filter(|e| e.is_live()) {
            if entry.file.is_delete() {
                found.push((*entry.file).clone());
            }
        }
    }
    found
}
