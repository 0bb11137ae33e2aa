//! Rows of one Parquet file, in file order, as the table sees them.
//!
//! Projection by field id, promotions, missing columns, physical positions and deleted
//! positions happen here; equality deletes and row filters are for the floors above. Reading
//! follows [`footer`], [`super::project`] and [`super::select`]. Decoding happens
//! inside the stream's `poll_next`, so callers choose the thread by choosing who polls.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Fields, Schema as ArrowSchema, TimeUnit};
use futures::stream::{BoxStream, try_unfold};
use futures::{FutureExt, StreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::basic::Type as PhysicalType;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::SchemaDescriptor;
use roaring::RoaringTreemap;

use super::bloom::BloomFilters;
use super::convert::positions;
use super::footer::{footer, footer_with_pages, known_size};
use super::layout::FileLayout;
use super::project::Projection;
use super::prune::Pruner;
use super::select::{self, GroupRows, Rows};
use super::source::FileSource;
use super::width::row_bytes;
use crate::error::{Error, Result};
use crate::spec::{BoundPredicate, Literal, NameMapping, SchemaRef};
use crate::storage::Storage;

/// Rows of a batch when the caller names none.
const DEFAULT_BATCH_ROWS: usize = 8192;

/// What to read of one file.
#[derive(Debug, Clone)]
pub struct FileRead {
    /// Where the file is, as manifests write it.
    pub location: String,
    /// Its exact size; saves a request.
    pub file_size_in_bytes: Option<u64>,
    /// The output columns, matched by field id; parts of structs are fine, and so are the
    /// reserved ids of [`super::reserved`] such as `_pos`.
    pub schema: SchemaRef,
    /// Values by field id of columns that the file lacks: identity partition values, and
    /// metadata columns such as `_spec_id`.
    pub constants: HashMap<i32, Literal>,
    /// The table's name mapping, for files without field ids.
    pub name_mapping: Option<Arc<NameMapping>>,
    /// Leaves out row groups and pages that cannot match; other rows that do not match stay.
    pub filter: Option<BoundPredicate>,
    /// Positions not to return.
    pub deleted: Option<Arc<RoaringTreemap>>,
    /// Only these physical rows.
    pub rows: Option<Range<u64>>,
    /// Only these row groups.
    pub row_groups: Option<Range<usize>>,
    /// Rows per batch at most; 0 stands for 8192.
    pub batch_size: usize,
    /// Bytes per batch, as far as the footer tells how wide rows are, or one row if that is more;
    /// 0 stands for any number.
    pub batch_bytes: u64,
}

impl FileRead {
    /// All rows of a file under `schema`.
    pub fn new(location: impl Into<String>, schema: SchemaRef) -> Self {
        Self {
            location: location.into(),
            file_size_in_bytes: None,
            schema,
            constants: HashMap::new(),
            name_mapping: None,
            filter: None,
            deleted: None,
            rows: None,
            row_groups: None,
            batch_size: 0,
            batch_bytes: 0,
        }
    }
}

/// Reads a Parquet file as batches of exactly [`super::arrow_schema`] of the request's schema.
///
/// * Order: file order; `_pos` is the row's physical position.
/// * Cost: only the leaf columns asked for, of row groups and pages that may hold rows; nothing
///   but the footer when no column of the file is asked for.
/// * Memory: the column chunks of one row group, compressed, and one batch.
///
/// # Errors
/// Each names the file. `CorruptData` for bytes that are not the Parquet the footer promises,
/// types that cannot become the table's, and a required column that is missing; `Unavailable`
/// and `NotFound` from storage, also later in the stream.
///
/// # Source
/// Iceberg spec v2, "Column Projection", "Schema Evolution" and "Reserved Field IDs".
pub async fn read(
    storage: &Storage,
    request: FileRead,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let location = request.location.clone();
    let named = move |error: Error| name_file(error, &location);
    let opened = AssertUnwindSafe(open(storage, request)).catch_unwind().await;
    let opened = opened.unwrap_or_else(|_| {
        Err(Error::corrupt("the Parquet decoder gave up on the file's footer"))
    });
    let reading = opened.map_err(&named)?;
    let stream = try_unfold(reading, move |mut reading| {
        let named = named.clone();
        async move {
            let next = AssertUnwindSafe(reading.next()).catch_unwind().await;
            let next = next.unwrap_or_else(|_| {
                // The decoder trusts lengths inside pages; broken ones may make it panic.
                Err(Error::corrupt("the Parquet decoder gave up on the file's pages"))
            });
            Ok(next.map_err(named)?.map(|batch| (batch, reading)))
        }
    });
    Ok(stream.boxed())
}

fn name_file(error: Error, location: &str) -> Error {
    if error.context().any(|(key, _)| key == "location" || key == "file") {
        return error;
    }
    error.with_context("file", location)
}

async fn open(storage: &Storage, request: FileRead) -> Result<Reading> {
    let size = known_size(storage, &request.location, request.file_size_in_bytes).await?;
    let mut metadata = footer(storage, &request.location, Some(size)).await?;
    let arrow = arrow_metadata(metadata.clone())?;
    let layout = FileLayout::new(arrow.schema(), request.name_mapping.as_deref());
    let projection =
        Projection::new(&request.schema, &layout, &request.constants, &request.location)?;
    let row_counts = metadata.row_groups().iter().map(|g| g.num_rows() as u64);
    let mut groups = select::all_rows(row_counts, request.row_groups.as_ref());
    if let Some(rows) = &request.rows {
        select::keep_rows(&mut groups, rows);
    }
    let pruner = request
        .filter
        .as_ref()
        .map(|filter| Pruner::new(filter, &request.schema, &layout, &request.constants));
    if let Some(pruner) = &pruner {
        pruner.prune_groups(&metadata, &BloomFilters::default(), &mut groups);
    }
    let mut deleted = request.deleted;
    if let Some(bitmap) = &deleted
        && !select::skip_deleted(&mut groups, bitmap)
    {
        deleted = None;
    }
    let decodes = !projection.leaves.is_empty() && !groups.is_empty();
    if decodes && let Some(pruner) = &pruner {
        prune_by_blooms(storage, &request.location, &metadata, pruner, &projection, &mut groups)
            .await?;
    }
    let decodes = decodes && !groups.is_empty();
    let prunes = pruner.as_ref().is_some_and(Pruner::wants_pages) && !groups.is_empty();
    if prunes || (decodes && select::row_selection(&groups).is_some()) {
        // With the page index the decoder fetches only pages that hold wanted rows.
        metadata = footer_with_pages(storage, &request.location, size).await?;
        if let Some(pruner) = &pruner {
            pruner.prune_pages(&metadata, &mut groups);
        }
    }
    let mut batch_size =
        if request.batch_size == 0 { DEFAULT_BATCH_ROWS } else { request.batch_size };
    if request.batch_bytes > 0 {
        let width = row_bytes(&metadata, &groups, &projection.leaves).max(1);
        let fitting = usize::try_from(request.batch_bytes / width).unwrap_or(usize::MAX);
        batch_size = batch_size.min(fitting.max(1));
    }
    let source = if projection.leaves.is_empty() || groups.is_empty() {
        Decoder::CountOnly
    } else {
        let source = FileSource::new(storage, &request.location, metadata.clone());
        let builder =
            ParquetRecordBatchStreamBuilder::new_with_metadata(source, arrow_metadata(metadata)?);
        Decoder::Parquet(Box::new(configure(builder, &projection, &groups, batch_size)?))
    };
    Ok(Reading { source, rows: Rows::new(&groups), projection, deleted, batch_size })
}

/// Asks the Bloom filters of the groups that statistics left.
async fn prune_by_blooms(
    storage: &Storage,
    location: &str,
    metadata: &ParquetMetaData,
    pruner: &Pruner,
    projection: &Projection,
    groups: &mut Vec<GroupRows>,
) -> Result<()> {
    let points = pruner.points();
    if points.is_empty() {
        return Ok(());
    }
    let blooms =
        BloomFilters::fetch(storage, location, metadata, groups, &points, &projection.leaves)
            .await?;
    if !blooms.is_empty() {
        pruner.prune_groups(metadata, &blooms, groups);
    }
    Ok(())
}

fn configure(
    builder: ParquetRecordBatchStreamBuilder<FileSource>,
    projection: &Projection,
    groups: &[GroupRows],
    batch_size: usize,
) -> Result<ParquetRecordBatchStream<FileSource>> {
    let mask = ProjectionMask::leaves(builder.parquet_schema(), projection.leaves.iter().copied());
    let mut builder = builder
        .with_projection(mask)
        .with_batch_size(batch_size)
        .with_row_groups(groups.iter().map(|g| g.group).collect());
    if let Some(selection) = select::row_selection(groups) {
        builder = builder.with_row_selection(selection);
    }
    Ok(builder.build()?)
}

/// One file on its way through the decoder.
struct Reading {
    source: Decoder,
    rows: Rows,
    projection: Projection,
    /// Deleted positions that the decoder was not told about.
    deleted: Option<Arc<RoaringTreemap>>,
    batch_size: usize,
}

enum Decoder {
    Parquet(Box<ParquetRecordBatchStream<FileSource>>),
    /// No column of the file is wanted: the rows are only counted.
    CountOnly,
}

impl Reading {
    /// The next batch that is not empty.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let (columns, rows) = match &mut self.source {
                Decoder::Parquet(stream) => match stream.next().await.transpose()? {
                    Some(batch) => (batch.columns().to_vec(), batch.num_rows()),
                    None if self.rows.len() > 0 => {
                        return Err(Error::corrupt("the file ends before its last row"));
                    }
                    None => return Ok(None),
                },
                Decoder::CountOnly => match self.rows.len() {
                    0 => return Ok(None),
                    left => (Vec::new(), left.min(self.batch_size as u64) as usize),
                },
            };
            let ranges = self.rows.take(rows);
            let positions = self.projection.wants_positions().then(|| positions(&ranges));
            let batch = self.projection.apply(&columns, rows, positions)?;
            let keep = self.deleted.as_ref().and_then(|d| select::keep_mask(&ranges, d));
            let batch = match keep {
                Some(keep) => filter_record_batch(&batch, &keep)?,
                None => batch,
            };
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
    }
}

/// Arrow types as Parquet alone defines them: what an Arrow writer embedded is ignored, so that
/// views and dictionaries do not depend on who wrote the file.
pub(super) fn arrow_metadata(metadata: Arc<ParquetMetaData>) -> Result<ArrowReaderMetadata> {
    let options = || ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let plain = ArrowReaderMetadata::try_new(metadata.clone(), options())?;
    let parquet = plain.parquet_schema();
    if !parquet.columns().iter().any(|c| c.physical_type() == PhysicalType::INT96) {
        return Ok(plain);
    }
    // As nanoseconds, INT96 days after 2262 would wrap. Only INT96 gets the hint: on INT64
    // nanoseconds it would change the label and not the numbers (FIL-8).
    let mut leaf = 0;
    let fields = plain.schema().fields().iter().map(|f| int96_as_micros(f, parquet, &mut leaf));
    let hinted = ArrowSchema::new(fields.collect::<Fields>());
    Ok(ArrowReaderMetadata::try_new(metadata, options().with_schema(Arc::new(hinted)))?)
}

fn int96_as_micros(field: &Field, parquet: &SchemaDescriptor, leaf: &mut usize) -> Field {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|f| int96_as_micros(f, parquet, leaf)).collect())
        }
        DataType::List(f) => DataType::List(Arc::new(int96_as_micros(f, parquet, leaf))),
        DataType::Map(f, sorted) => {
            DataType::Map(Arc::new(int96_as_micros(f, parquet, leaf)), *sorted)
        }
        other => {
            let int96 = parquet
                .columns()
                .get(*leaf)
                .is_some_and(|c| c.physical_type() == PhysicalType::INT96);
            *leaf += 1;
            if int96 { DataType::Timestamp(TimeUnit::Microsecond, None) } else { other.clone() }
        }
    };
    field.clone().with_data_type(data_type)
}
