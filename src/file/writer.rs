//! Rows to one Parquet file, with the statistics that go into its manifest entry.
//!
//! Serves data files and equality delete files. The first rows are held back until it is known
//! how many there are, so that bloom filters are made for the file and not for a million rows.

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::schema::types::SchemaDescriptor;

use super::metrics::MetricsCollector;
use super::normalize::Normalizer;
use super::options::{ROW_GROUP_ROWS, WriterOptions};
use super::schema::{arrow_schema, parquet_schema};
use crate::error::{Error, Result};
use crate::spec::{DataContentType, DataFile, PartitionKey, Schema, SchemaRef};
use crate::storage::{OutputFile, Storage};

/// Bytes of rows that are held back before the encoder is made.
const HELD_BYTES: usize = 1024 * 1024;
/// Batches that are held back one by one before they are merged into one.
const LOOSE_BATCHES: usize = 64;
/// What a writer takes beside its rows: schemas, statistics, paths.
const WRITER_BYTES: usize = 16 * 1024;
/// What a column of a batch takes beside its buffers, and a batch beside its columns.
const OVERHEAD_BYTES: usize = 128;
/// Bytes of rows that go to the encoder in one step, at most, unless there are very few.
const SLICE_BYTES: usize = 8 * 1024 * 1024;
const MIN_SLICE_ROWS: usize = 256;
/// Bytes that are not worth a copy to get rid of.
const SMALL_BYTES: usize = 64 * 1024;
/// Encoded bytes that storage may hold on their way.
const UPLOAD_BYTES: usize = 16 * 1024 * 1024;
/// Encoded bytes that are passed on in one piece.
const PIECE_BYTES: usize = 1024 * 1024;

/// Writes one Parquet file. Nothing is visible under its name before [`close`](Self::close).
///
/// * In: batches whose columns go by name, or by field id where the name is unknown, in types
///   that the table's can be made of; see [`write`](Self::write).
/// * Memory: one row group in encoded form (at most `row_group_bytes`), a piece of 1 MiB, and at
///   most 1 MiB of rows; [`memory_bytes`](Self::memory_bytes) tells.
/// * Out: the same rows and options give the same bytes.
#[derive(Debug)]
pub struct ParquetFileWriter {
    schema: SchemaRef,
    arrow_schema: ArrowSchemaRef,
    parquet_schema: SchemaDescriptor,
    options: WriterOptions,
    normalizer: Normalizer,
    metrics: MetricsCollector,
    state: State,
    output: OutputFile,
    rows: u64,
    failed: bool,
}

enum State {
    /// Too few rows yet to know.
    Held(Held),
    Encoding(Box<ArrowWriter<Vec<u8>>>),
}

/// Rows before there is an encoder.
#[derive(Default)]
struct Held {
    batches: Vec<RecordBatch>,
    /// How many of the last batches were not merged yet.
    loose: usize,
    /// Bytes of the rows.
    bytes: usize,
    /// What the batches take in memory: of a few rows, several times their bytes.
    memory: usize,
}

impl Held {
    fn push(&mut self, batch: RecordBatch) -> Result<()> {
        self.bytes += sliced_bytes(&batch);
        let batch = own_rows(batch)?;
        self.memory += memory_of(&batch);
        self.batches.push(batch);
        self.loose += 1;
        if self.loose < LOOSE_BATCHES {
            return Ok(());
        }
        self.loose = 0;
        let loose = self.batches.split_off(self.batches.len().saturating_sub(LOOSE_BATCHES));
        let Some(schema) = loose.first().map(RecordBatch::schema) else { return Ok(()) };
        let merged = concat_batches(&schema, &loose)?;
        self.memory -= loose.iter().map(memory_of).sum::<usize>();
        self.memory += memory_of(&merged);
        self.batches.push(merged);
        Ok(())
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Held(held) => write!(f, "Held({} bytes)", held.bytes),
            Self::Encoding(writer) => write!(f, "Encoding({} bytes)", writer.bytes_written()),
        }
    }
}

impl ParquetFileWriter {
    /// Starts a file of `schema` at `location`; storage is not touched yet.
    ///
    /// # Errors
    /// `Unsupported` for types that Parquet cannot hold, `InvalidInput` for a location that names
    /// no store.
    pub fn create(
        storage: &Storage,
        location: &str,
        schema: SchemaRef,
        options: &WriterOptions,
    ) -> Result<Self> {
        Ok(Self {
            arrow_schema: arrow_schema(&schema)?,
            parquet_schema: parquet_schema(&schema)?,
            normalizer: Normalizer::new(schema.clone())?,
            metrics: MetricsCollector::new(&schema, options),
            schema,
            options: options.clone(),
            state: State::Held(Held::default()),
            output: storage.output(location)?,
            rows: 0,
            failed: false,
        })
    }

    /// Where the file will appear.
    pub fn location(&self) -> &str {
        self.output.location()
    }

    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// About how many bytes the file would have if it were closed now.
    pub fn bytes_written_estimate(&self) -> u64 {
        match &self.state {
            // Encoded and compressed, rows take about a third of their size in memory.
            State::Held(held) => held.bytes as u64 / 3,
            State::Encoding(w) => (w.bytes_written() + w.in_progress_size()) as u64,
        }
    }

    /// Bytes that this writer holds in memory.
    pub fn memory_bytes(&self) -> usize {
        let rows = match &self.state {
            State::Held(held) => held.memory,
            State::Encoding(w) => {
                // A bloom filter starts at the size for a full row group and is folded later.
                let blooms = self.options.bloom_columns.len() * 2 * ROW_GROUP_ROWS;
                // The store buffers pieces before and while it uploads them.
                let uploading = usize::try_from(self.output.written()).unwrap_or(usize::MAX);
                w.memory_size() + w.inner().capacity() + blooms + uploading.min(UPLOAD_BYTES)
            }
        };
        rows + WRITER_BYTES
    }

    /// Takes rows. After an error the file is lost: [`abort`](Self::abort) it.
    ///
    /// # Errors
    /// `InvalidInput` naming the column for one that the table does not have, a required one that
    /// is missing or holds nulls, and values that do not fit; `Unavailable` from storage.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.failed {
            return Err(Error::invalid("this file's writer failed before")
                .with_context("file", self.location())
                .with_hint("abort the writer and write the rows again with a new one"));
        }
        self.failed = true;
        let batch = self.normalizer.normalize(batch)?;
        let written = self.write_normal(batch).await;
        written.map_err(|e| e.with_context("file", self.output.location()))?;
        self.failed = false;
        Ok(())
    }

    async fn write_normal(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.metrics.update(&batch);
        self.rows += batch.num_rows() as u64;
        match &mut self.state {
            State::Held(held) => {
                held.push(batch)?;
                if held.bytes >= HELD_BYTES {
                    self.start_encoding(ROW_GROUP_ROWS as u64)?;
                }
            }
            State::Encoding(writer) => encode(writer, &batch, self.options.row_group_bytes)?,
        }
        self.pass_on(PIECE_BYTES).await
    }

    /// Makes the encoder and gives it what was held back.
    fn start_encoding(&mut self, distinct: u64) -> Result<()> {
        let State::Held(held) = &mut self.state else { return Ok(()) };
        let batches = std::mem::take(held).batches;
        let properties = self.options.parquet_properties(&self.parquet_schema, distinct);
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true)
            .with_parquet_schema(self.parquet_schema.clone());
        let (sink, schema) = (Vec::new(), self.arrow_schema.clone());
        let mut writer =
            ArrowWriter::try_new_with_options(sink, schema, options).map_err(encoding_failed)?;
        for batch in &batches {
            encode(&mut writer, batch, self.options.row_group_bytes)?;
        }
        self.state = State::Encoding(Box::new(writer));
        Ok(())
    }

    /// Hands encoded bytes to storage once there are `at_least` of them.
    async fn pass_on(&mut self, at_least: usize) -> Result<()> {
        let State::Encoding(writer) = &mut self.state else { return Ok(()) };
        if writer.inner().len() < at_least.max(1) {
            return Ok(());
        }
        let piece = std::mem::take(writer.inner_mut());
        self.output.write(Bytes::from(piece)).await
    }

    /// Completes the file and tells what its manifest entry needs. The caller sets
    /// `equality_ids` of an equality delete file.
    ///
    /// # Errors
    /// `Unavailable`: the file may then be there or not.
    pub async fn close(
        mut self,
        content: DataContentType,
        partition: PartitionKey,
    ) -> Result<DataFile> {
        let location = self.location().to_string();
        let named = |e: Error| e.with_context("file", &location);
        let footer = match self.finish_encoding().await {
            Ok(footer) => footer,
            Err(error) => {
                self.output.abort().await;
                return Err(named(error));
            }
        };
        let size = self.output.close().await.map_err(named)?;
        let mut file = DataFile::new(content, location, partition, self.rows, size);
        self.metrics.finish(&footer, &mut file);
        file.split_offsets = Some(split_offsets(&footer));
        if content != DataContentType::PositionDeletes {
            file.sort_order_id = self.options.sort_order_id;
        }
        Ok(file)
    }

    async fn finish_encoding(&mut self) -> Result<ParquetMetaData> {
        if self.failed {
            return Err(Error::invalid("this file's writer failed before")
                .with_hint("abort the writer and write the rows again with a new one"));
        }
        self.start_encoding(self.rows)?;
        let State::Encoding(writer) = &mut self.state else {
            return Err(Error::internal("a Parquet writer was not started"));
        };
        if let Some(schema) = schema_json(&self.schema) {
            writer.append_key_value_metadata(KeyValue::new("iceberg.schema".to_string(), schema));
        }
        let footer = writer.finish().map_err(encoding_failed)?;
        self.pass_on(1).await?;
        Ok(footer)
    }

    /// Gives the file up; nothing of it stays.
    pub async fn abort(self) {
        self.output.abort().await;
    }
}

/// Gives the encoder a batch in slices, because it only ends a row group between two writes.
fn encode(writer: &mut ArrowWriter<Vec<u8>>, batch: &RecordBatch, limit: u64) -> Result<()> {
    let slice_bytes = usize::try_from(limit / 4).unwrap_or(usize::MAX).clamp(1, SLICE_BYTES);
    let slices = sliced_bytes(batch).div_ceil(slice_bytes).max(1);
    let rows = batch.num_rows().div_ceil(slices).max(MIN_SLICE_ROWS);
    let mut at = 0;
    while at < batch.num_rows() {
        let slice = batch.slice(at, rows.min(batch.num_rows() - at));
        writer.write(&slice).map_err(encoding_failed)?;
        at += slice.num_rows();
    }
    Ok(())
}

fn encoding_failed(error: parquet::errors::ParquetError) -> Error {
    Error::internal(format!("rows cannot be encoded: {error}")).with_source(error)
}

/// The schema as other engines leave it in their files; the same schema gives the same text.
fn schema_json(schema: &Schema) -> Option<String> {
    let mut json = serde_json::to_value(schema).ok()?;
    if let Some(ids) = json.get_mut("identifier-field-ids").and_then(|v| v.as_array_mut()) {
        ids.sort_by_key(serde_json::Value::as_i64);
    }
    serde_json::to_string(&json).ok()
}

/// Bytes of the rows themselves, even if the arrays share bigger buffers.
fn sliced_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns.map(|c| c.to_data().get_slice_memory_size().unwrap_or_default()).sum()
}

/// Bytes that a batch takes in memory, allocations and all.
fn memory_of(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns.map(|c| c.get_array_memory_size() + OVERHEAD_BYTES).sum::<usize>() + OVERHEAD_BYTES
}

/// Copies a few rows out of a big batch, which would stay in memory for them otherwise.
fn own_rows(batch: RecordBatch) -> Result<RecordBatch> {
    if batch.get_array_memory_size() < 2 * sliced_bytes(&batch) + SMALL_BYTES {
        return Ok(batch);
    }
    let all = UInt64Array::from_iter_values(0..batch.num_rows() as u64);
    Ok(take_record_batch(&batch, &all)?)
}

/// Where row groups start, ascending.
fn split_offsets(footer: &ParquetMetaData) -> Vec<i64> {
    let start = |group: &parquet::file::metadata::RowGroupMetaData| {
        group.columns().first().map(|chunk| chunk.byte_range().0 as i64)
    };
    footer.row_groups().iter().filter_map(start).collect()
}
