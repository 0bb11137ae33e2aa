//! Position delete files: which rows of one data file are gone.

use std::sync::{Arc, LazyLock};

use arrow::array::{Int64Array, RecordBatch, StringArray};
use roaring::RoaringTreemap;

use super::options::{MetricsMode, WriterOptions};
use super::reserved::{DELETE_FILE_PATH, DELETE_POS};
use super::schema::arrow_schema;
use super::writer::ParquetFileWriter;
use crate::error::{Error, Result};
use crate::spec::{
    DataContentType, DataFile, IdMap, NestedField, PrimitiveType, Schema, SchemaRef, Type,
};
use crate::storage::Storage;

/// Positions of one batch.
const BATCH_ROWS: usize = 64 * 1024;

static SCHEMA: LazyLock<Option<SchemaRef>> = LazyLock::new(|| {
    let path = Type::Primitive(PrimitiveType::String);
    let position = Type::Primitive(PrimitiveType::Long);
    let schema = Schema::builder().with_fields([
        NestedField::required(DELETE_FILE_PATH, "file_path", path).into(),
        NestedField::required(DELETE_POS, "pos", position).into(),
    ]);
    schema.build().ok().map(Arc::new)
});

/// The schema of position delete files: `file_path` and `pos` with their reserved ids.
///
/// # Errors
/// None in practice.
pub fn position_delete_schema() -> Result<SchemaRef> {
    SCHEMA.clone().ok_or_else(|| Error::internal("the position delete schema cannot be built"))
}

/// Writes the deleted positions of `data_file`, ascending, as one position delete file (FIL-11).
///
/// The file has the spec and partition of the data file, names it in field 143 and in full
/// bounds of `file_path`, has no sort order, and no counts for its two columns.
///
/// # Errors
/// `InvalidInput` without positions, or for one beyond the data file; `Unavailable` from storage.
///
/// # Source
/// Iceberg spec v2, "Position Delete Files".
pub async fn write_position_deletes(
    storage: &Storage,
    location: &str,
    data_file: &DataFile,
    positions: &RoaringTreemap,
    options: &WriterOptions,
) -> Result<DataFile> {
    let path = data_file.file_path.as_str();
    match positions.max() {
        None => return Err(Error::invalid("no positions to delete").with_context("file", path)),
        Some(last) if last >= data_file.record_count => {
            return Err(Error::invalid("a deleted position lies beyond the file")
                .with_context("file", path)
                .with_context("position", last)
                .with_context("rows", data_file.record_count));
        }
        Some(_) => {}
    }
    let schema = position_delete_schema()?;
    let options = WriterOptions {
        metrics: Default::default(),
        default_metrics: MetricsMode::Full,
        bloom_columns: Default::default(),
        sort_order_id: None,
        ..options.clone()
    };
    let mut writer = ParquetFileWriter::create(storage, location, schema.clone(), &options)?;
    if let Err(error) = write_all(&mut writer, &schema, path, positions).await {
        writer.abort().await;
        return Err(error);
    }
    let partition = data_file.partition_key();
    let mut file = writer.close(DataContentType::PositionDeletes, partition).await?;
    file.referenced_data_file = Some(path.to_string());
    file.value_counts = IdMap::default();
    file.null_value_counts = IdMap::default();
    file.nan_value_counts = IdMap::default();
    Ok(file)
}

async fn write_all(
    writer: &mut ParquetFileWriter,
    schema: &Schema,
    path: &str,
    positions: &RoaringTreemap,
) -> Result<()> {
    let arrow = arrow_schema(schema)?;
    let mut iter = positions.iter();
    loop {
        let chunk: Vec<i64> = iter
            .by_ref()
            .take(BATCH_ROWS)
            .map(|p| i64::try_from(p).map_err(|_| Error::invalid("a position beyond 2^63")))
            .collect::<Result<_>>()?;
        if chunk.is_empty() {
            return Ok(());
        }
        let paths = StringArray::from_iter_values(std::iter::repeat_n(path, chunk.len()));
        let columns: Vec<arrow::array::ArrayRef> =
            vec![Arc::new(paths), Arc::new(Int64Array::from(chunk))];
        writer.write(&RecordBatch::try_new(arrow.clone(), columns)?).await?;
    }
}
