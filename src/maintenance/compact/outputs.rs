//! The new files of one group: where rewritten rows go.

use arrow::record_batch::RecordBatch;

use super::CompactGroup;
use super::sizes::Sizes;
use crate::error::Result;
use crate::file::{ParquetFileWriter, WriterOptions};
use crate::spec::{DataContentType, DataFile, PartitionKey};
use crate::table::Table;
use crate::write::{AppendOptions, AppendWriter, Cleanup, data_options};

/// What the new files of a group have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub sizes: Sizes,
    /// Bytes that open files may hold.
    pub memory_bytes: u64,
    /// The sort order that rows follow, if the table knows it.
    pub sort_order_id: Option<i32>,
}

/// Rows on their way into new files.
pub(super) enum Outputs {
    /// All rows belong to the partition that they came from.
    Here(Box<PartitionOutputs>),
    /// Rows move to another spec and find their partitions there.
    Across(Box<AppendWriter>),
}

/// The files written for a group, which are removed when this is dropped, unless they are kept.
pub(super) struct Written {
    pub files: Vec<DataFile>,
    cleanup: Cleanup,
}

impl Written {
    /// The files may become part of the table: whoever drops this leaves them alone.
    pub(super) fn keep(&self) {
        self.cleanup.disarm();
    }

    /// Removes the files.
    pub(super) async fn discard(self, table: &Table) {
        let paths = self.cleanup.paths();
        self.files.iter().for_each(|file| paths.note(&file.file_path));
        tracing::debug!(table = %table.ident(), files = self.files.len(), "outputs discarded");
        self.cleanup.run().await;
    }
}

impl Outputs {
    pub(super) fn open(table: &Table, group: &CompactGroup, shape: Shape) -> Result<Self> {
        if group.stays() {
            return Ok(Self::Here(Box::new(PartitionOutputs::open(table, group, shape)?)));
        }
        let writer = table.append_writer(AppendOptions {
            target_file_size_bytes: Some(shape.sizes.target),
            memory_budget_bytes: shape.memory_bytes,
            spec_id: Some(group.output_spec_id),
            sort_order_id: shape.sort_order_id,
            ..AppendOptions::default()
        })?;
        Ok(Self::Across(Box::new(writer)))
    }

    pub(super) async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        match self {
            Self::Here(outputs) => outputs.write(batch).await,
            Self::Across(writer) => writer.write(batch).await,
        }
    }

    pub(super) async fn close(self, table: &Table) -> Result<Written> {
        match self {
            Self::Here(outputs) => outputs.close().await,
            Self::Across(writer) => {
                let files = writer.close().await?.data_files;
                let cleanup = Cleanup::new(table.storage().clone());
                files.iter().for_each(|file| cleanup.paths().note(&file.file_path));
                Ok(Written { files, cleanup })
            }
        }
    }

    pub(super) async fn abort(self) {
        match self {
            Self::Here(outputs) => outputs.abort().await,
            Self::Across(writer) => writer.abort().await,
        }
    }
}

/// Files of one partition, of even size: rows are counted, so that no small rest is left (MNT-2).
pub(super) struct PartitionOutputs {
    table: Table,
    partition: PartitionKey,
    options: WriterOptions,
    rows_per_file: u64,
    max_bytes: u64,
    current: Option<ParquetFileWriter>,
    files: Vec<DataFile>,
    cleanup: Cleanup,
}

impl PartitionOutputs {
    fn open(table: &Table, group: &CompactGroup, shape: Shape) -> Result<Self> {
        let mut options = data_options(table, table.spec(group.spec_id)?)?;
        options.sort_order_id = shape.sort_order_id;
        options.row_group_bytes = options.row_group_bytes.min(shape.memory_bytes).max(1);
        Ok(Self {
            table: table.clone(),
            partition: group.key.clone(),
            options,
            rows_per_file: group.rows_left().div_ceil(group.output_files.max(1)).max(1),
            max_bytes: shape.sizes.max,
            current: None,
            files: Vec::new(),
            cleanup: Cleanup::new(table.storage().clone()),
        })
    }

    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let mut rest = batch;
        while rest.num_rows() > 0 {
            let mut file = match self.current.take() {
                Some(file) => file,
                None => self.new_file()?,
            };
            let room = self.rows_per_file.saturating_sub(file.rows()).max(1);
            let rows = rest.num_rows().min(usize::try_from(room).unwrap_or(usize::MAX));
            let written = file.write(&rest.slice(0, rows)).await;
            let full = file.rows() >= self.rows_per_file
                || file.bytes_written_estimate() >= self.max_bytes;
            self.current = Some(file);
            written?;
            rest = rest.slice(rows, rest.num_rows() - rows);
            if full {
                self.close_file().await?;
            }
        }
        Ok(())
    }

    fn new_file(&self) -> Result<ParquetFileWriter> {
        let location = self.table.new_data_path(&self.partition, "data")?;
        let (storage, schema) = (self.table.storage(), self.table.schema().clone());
        let file = ParquetFileWriter::create(storage, &location, schema, &self.options)?;
        self.cleanup.paths().note(&location);
        Ok(file)
    }

    async fn close_file(&mut self) -> Result<()> {
        let Some(file) = self.current.take() else { return Ok(()) };
        self.files.push(file.close(DataContentType::Data, self.partition.clone()).await?);
        Ok(())
    }

    async fn close(mut self) -> Result<Written> {
        if let Err(error) = self.close_file().await {
            self.abort().await;
            return Err(error);
        }
        Ok(Written { files: self.files, cleanup: self.cleanup })
    }

    async fn abort(mut self) {
        if let Some(file) = self.current.take() {
            file.abort().await;
        }
        self.cleanup.run().await;
    }
}
