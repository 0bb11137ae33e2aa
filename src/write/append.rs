//! Rows to new data files.

use arrow::array::RecordBatch;

use super::cleanup::Cleanup;
use super::fanout::{Fanout, FanoutOptions};
use crate::error::{Error, Result};
use crate::file::{Normalizer, WriterOptions};
use crate::spec::{DataContentType, PartitionSpec};
use crate::table::{Table, WriteResult};

/// Default of [`AppendOptions::memory_budget_bytes`]: 256 MiB.
pub(super) const DEFAULT_MEMORY_BYTES: u64 = 256 * 1024 * 1024;
/// Why a writer is no good when nothing else was said.
pub(super) const CANCELLED: &str = "a write was cancelled before it was complete";
/// Default of [`AppendOptions::max_open_files`].
pub(super) const DEFAULT_OPEN_FILES: usize = 1_000;

/// Values that shape an append.
#[derive(Debug, Clone, PartialEq)]
pub struct AppendOptions {
    /// Bytes of a data file at most, about; `write.target-file-size-bytes` (512 MiB) unless set.
    pub target_file_size_bytes: Option<u64>,
    /// Bytes that open files may hold in memory; 256 MiB, like every writer and scan.
    pub memory_budget_bytes: u64,
    /// Files that may be open at once; 1,000: past it the one written longest ago is closed.
    pub max_open_files: usize,
    /// The partition spec of the new files; the table's default unless set.
    pub spec_id: Option<i32>,
    /// Set only by a caller whose rows come in this order, partition by partition.
    pub sort_order_id: Option<i32>,
}

impl Default for AppendOptions {
    fn default() -> Self {
        Self {
            target_file_size_bytes: None,
            memory_budget_bytes: DEFAULT_MEMORY_BYTES,
            max_open_files: DEFAULT_OPEN_FILES,
            spec_id: None,
            sort_order_id: None,
        }
    }
}

/// Turns batches into data files of the table's schema and partition spec.
///
/// Nothing is part of the table before [`WriteResult`] is committed. A writer that is dropped or
/// aborted deletes what it wrote.
#[derive(Debug)]
pub struct AppendWriter {
    fanout: Fanout,
    normalizer: Normalizer,
    cleanup: Cleanup,
    failed: Option<String>,
}

impl Table {
    /// Starts writing new rows (WR-2).
    ///
    /// # Errors
    /// `InvalidInput` for properties or options that make no sense; `Unsupported` for a v1 or v3
    /// table.
    pub fn append_writer(&self, options: AppendOptions) -> Result<AppendWriter> {
        AppendWriter::open(self, options)
    }
}

impl AppendWriter {
    fn open(table: &Table, options: AppendOptions) -> Result<Self> {
        writable(table)?;
        let spec = match options.spec_id {
            Some(id) => table.spec(id)?.clone(),
            None => table.metadata().default_partition_spec().clone(),
        };
        let schema = table.schema().clone();
        let mut writer = data_options(table, &spec)?;
        writer.sort_order_id = options.sort_order_id;
        let fanout = FanoutOptions {
            content: DataContentType::Data,
            kind: "data",
            equality_ids: None,
            writer,
            target_bytes: match options.target_file_size_bytes {
                Some(bytes) => bytes,
                None => table.properties().target_file_size_bytes()?,
            },
            memory_bytes: usize::try_from(options.memory_budget_bytes).unwrap_or(usize::MAX),
            open_files: options.max_open_files,
        };
        let cleanup = Cleanup::new(table.storage().clone());
        Ok(Self {
            fanout: Fanout::new(table, &spec, schema.clone(), fanout, cleanup.paths())?,
            normalizer: Normalizer::new(schema)?,
            cleanup,
            failed: None,
        })
    }

    /// Takes rows; columns go by name, see [`crate::file::ParquetFileWriter::write`].
    ///
    /// # Errors
    /// `InvalidInput` naming the column; `Unavailable` from storage. After an error the writer
    /// only aborts.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        still_good(&self.failed)?;
        self.failed = Some(CANCELLED.to_string());
        let written = self.write_groups(batch).await;
        self.failed = written.as_ref().err().map(|e| e.to_string());
        written
    }

    async fn write_groups(&mut self, batch: RecordBatch) -> Result<()> {
        let batch = self.normalizer.normalize(&batch)?;
        for group in self.fanout.split(&batch)? {
            self.fanout.write(&group).await?;
        }
        Ok(())
    }

    /// Finishes the files; commit them with [`Table::append`].
    ///
    /// # Errors
    /// `Unavailable` from storage; what was written is then deleted.
    pub async fn close(mut self) -> Result<WriteResult> {
        if let Err(error) = still_good(&self.failed) {
            self.abort().await;
            return Err(error);
        }
        if let Err(error) = self.fanout.finish().await {
            self.abort().await;
            return Err(error);
        }
        self.cleanup.disarm();
        let data_files = self.fanout.take_files().into_iter().flatten().collect();
        Ok(WriteResult { data_files, ..Default::default() })
    }

    /// Bytes that open files hold in memory.
    pub fn memory_bytes(&self) -> usize {
        self.fanout.held_bytes()
    }

    /// Gives the rows up; no file stays.
    pub async fn abort(mut self) {
        self.fanout.abandon().await;
        self.cleanup.run().await;
    }
}

/// How data files of a table are written: bounds also for partition and sort columns.
pub(crate) fn data_options(table: &Table, spec: &PartitionSpec) -> Result<WriterOptions> {
    let options = WriterOptions::from_properties(&table.properties(), table.schema())?;
    let sorted = table.metadata().default_sort_order().fields.iter().map(|f| f.source_id);
    let partitioned = spec.fields().iter().map(|f| f.source_id);
    Ok(options.with_bounds_of(sorted.chain(partitioned)))
}

/// Refuses tables of format versions that we do not write.
pub(crate) fn writable(table: &Table) -> Result<()> {
    use crate::spec::FormatVersion;
    match table.metadata().format_version() {
        FormatVersion::V2 => Ok(()),
        other => Err(Error::unsupported(format!("writing to a table of format {other}"))
            .with_context("table", table.ident())),
    }
}

pub(super) fn still_good(failed: &Option<String>) -> Result<()> {
    match failed {
        None => Ok(()),
        Some(cause) => Err(Error::invalid("this writer failed before")
            .with_context("cause", cause)
            .with_hint("abort it and write the rows again with a new writer")),
    }
}
