//! Reads position delete files: which rows of which data files they name.
//!
//! In: a position delete file of any writer; `file_path` may come as any kind of string column,
//! and the two columns in any order. Out: one bitmap per path, paths exactly as written (DEL-9).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema as ArrowSchema};
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{ParquetObjectReader, ParquetRecordBatchStreamBuilder};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use roaring::RoaringTreemap;

use super::columns::FIELD_ID_KEY;
use crate::error::{Error, Result};
use crate::measure;
use crate::spec::DataFile;
use crate::storage::Storage;

/// Dead positions by data file path.
pub type PositionsByPath = HashMap<String, RoaringTreemap>;

const FILE_PATH_ID: i32 = 2_147_483_546;
const POS_ID: i32 = 2_147_483_545;

/// Reads one position delete file: all of it, or what it says about the data file `only`.
///
/// Row groups whose statistics exclude `only` are not fetched. Memory: the bitmaps and one
/// batch of rows.
///
/// # Errors
/// `CorruptData` naming the file for missing columns, nulls or negative positions; storage
/// errors as they are.
pub(super) async fn read_positions(
    storage: &Storage,
    file: &DataFile,
    only: Option<&str>,
) -> Result<PositionsByPath> {
    measure::DELETE_FILES_LOADED.add(&["position"], 1);
    read_inner(storage, file, only)
        .await
        .map_err(|e| e.with_context("position delete file", &file.file_path))
}

async fn read_inner(
    storage: &Storage,
    file: &DataFile,
    only: Option<&str>,
) -> Result<PositionsByPath> {
    let (store, path) = storage.resolve(&file.file_path)?;
    let mut reader = ParquetObjectReader::new(store, path);
    if file.file_size_in_bytes > 0 {
        reader = reader.with_file_size(file.file_size_in_bytes);
    }
    let plain = ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::new()).await?;
    let (path_at, pos_at) = position_columns(plain.schema())?;
    let metadata = with_dictionary_paths(&plain, path_at).unwrap_or_else(|| plain.clone());
    let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, metadata);
    let name = plain.schema().field(path_at).name();
    let groups = wanted_row_groups(builder.metadata(), name, only);
    let mask = ProjectionMask::roots(builder.parquet_schema(), [path_at, pos_at]);
    let mut stream =
        builder.with_projection(mask).with_row_groups(groups).with_batch_size(8192).build()?;
    let mut found = PositionsByPath::new();
    while let Some(batch) = stream.try_next().await? {
        collect_positions(&batch, only, &mut found)?;
    }
    Ok(found)
}

/// Where `file_path` and `pos` are: by field id, else by name.
///
/// # Errors
/// `CorruptData` if one of them is missing.
pub fn position_columns(schema: &ArrowSchema) -> Result<(usize, usize)> {
    let find = |id: i32, name: &str| -> Result<usize> {
        let id = id.to_string();
        let by_id = |f: &Arc<Field>| f.metadata().get(FIELD_ID_KEY) == Some(&id);
        let fields = schema.fields();
        let found = fields.iter().position(by_id);
        found.or_else(|| fields.iter().position(|f| f.name() == name)).ok_or_else(|| {
            Error::corrupt("position delete file lacks a column").with_context("column", name)
        })
    };
    Ok((find(FILE_PATH_ID, "file_path")?, find(POS_ID, "pos")?))
}

/// Adds the rows of one batch to the bitmaps; with `only`, those of one data file.
///
/// # Errors
/// `CorruptData` for missing columns, columns of other kinds, nulls and negative positions.
pub fn collect_positions(
    batch: &RecordBatch,
    only: Option<&str>,
    found: &mut PositionsByPath,
) -> Result<()> {
    let (path_at, pos_at) = position_columns(&batch.schema())?;
    let positions = cast(batch.column(pos_at), &DataType::Int64)
        .map_err(|e| Error::corrupt("`pos` does not hold whole numbers").with_source(e))?;
    let positions: &Int64Array = positions.as_primitive::<Int64Type>();
    if positions.null_count() > 0 || positions.values().iter().any(|p| *p < 0) {
        return Err(Error::corrupt("position delete file has a null or negative position"));
    }
    let paths = Paths::new(batch.column(path_at))?;
    let mut row = 0;
    while row < batch.num_rows() {
        // Files are sorted by path: one look-up serves a run of rows.
        let path = paths.text(row)?;
        let mut end = row + 1;
        while end < batch.num_rows() && paths.same(row, end) {
            end += 1;
        }
        if only.is_none_or(|wanted| wanted == path) {
            let bitmap = match found.get_mut(path) {
                Some(bitmap) => bitmap,
                None => found.entry(path.to_string()).or_default(),
            };
            let run = positions.values().get(row..end).unwrap_or_default();
            bitmap.extend(run.iter().map(|p| *p as u64));
        }
        row = end;
    }
    Ok(())
}

/// A `file_path` column: its strings, and where it is a dictionary a code per row.
struct Paths {
    codes: Option<Int64Array>,
    texts: StringArray,
}

impl Paths {
    fn new(array: &ArrayRef) -> Result<Self> {
        let not_text = |e: arrow::error::ArrowError| {
            Error::corrupt("`file_path` does not hold text").with_source(e)
        };
        if array.null_count() > 0 {
            return Err(Error::corrupt("position delete file has a null path"));
        }
        if let Some(dictionary) = array.as_any_dictionary_opt() {
            let codes = cast(dictionary.keys(), &DataType::Int64).map_err(not_text)?;
            let texts = cast(dictionary.values(), &DataType::Utf8).map_err(not_text)?;
            let codes = codes.as_primitive::<Int64Type>().clone();
            return Ok(Self { codes: Some(codes), texts: texts.as_string::<i32>().clone() });
        }
        let texts = cast(array, &DataType::Utf8).map_err(not_text)?;
        if texts.null_count() > 0 {
            return Err(Error::corrupt("`file_path` does not hold text"));
        }
        Ok(Self { codes: None, texts: texts.as_string::<i32>().clone() })
    }

    /// Whether two rows name the same path; a false "no" only costs a look-up.
    fn same(&self, a: usize, b: usize) -> bool {
        match &self.codes {
            Some(codes) => codes.values().get(a) == codes.values().get(b),
            None => self.texts.value(a) == self.texts.value(b),
        }
    }

    fn text(&self, row: usize) -> Result<&str> {
        let at = match &self.codes {
            Some(codes) => codes.values().get(row).and_then(|c| usize::try_from(*c).ok()),
            None => Some(row),
        };
        match at.filter(|at| *at < self.texts.len() && self.texts.is_valid(*at)) {
            Some(at) => Ok(self.texts.value(at)),
            None => Err(Error::corrupt("`file_path` points outside its dictionary")),
        }
    }
}

fn with_dictionary_paths(
    plain: &ArrowReaderMetadata,
    path_at: usize,
) -> Option<ArrowReaderMetadata> {
    let schema = plain.schema();
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(at, field)| {
            let field = field.as_ref().clone();
            if at != path_at {
                return field;
            }
            let key = Box::new(DataType::Int32);
            field.with_data_type(DataType::Dictionary(key, Box::new(DataType::Utf8)))
        })
        .collect();
    let wanted = Arc::new(ArrowSchema::new_with_metadata(fields, schema.metadata().clone()));
    let options = ArrowReaderOptions::new().with_schema(wanted);
    ArrowReaderMetadata::try_new(plain.metadata().clone(), options).ok()
}

fn wanted_row_groups(
    metadata: &ParquetMetaData,
    path_column: &str,
    only: Option<&str>,
) -> Vec<usize> {
    let all = 0..metadata.num_row_groups();
    let Some(path) = only else { return all.collect() };
    let columns = metadata.file_metadata().schema_descr();
    let Some(at) = columns.columns().iter().position(|c| c.path().string() == path_column) else {
        return all.collect();
    };
    all.filter(|group| {
        let column = metadata.row_groups().get(*group).and_then(|g| g.columns().get(at));
        match column.and_then(|c| c.statistics()) {
            Some(Statistics::ByteArray(stats)) => {
                let low = stats.min_opt().map(|b| b.data());
                let high = stats.max_opt().map(|b| b.data());
                !(low.is_some_and(|b| path.as_bytes() < b)
                    || high.is_some_and(|b| path.as_bytes() > b))
            }
            _ => true,
        }
    })
    .collect()
}

#[cfg(test)]
mod tests;
