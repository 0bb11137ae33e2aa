//! Rows to the open files of their partitions, within a budget.
//!
//! One file is open per partition that was written lately. Files roll at the target size;
//! when there are too many open files or bytes, the one that was written longest ago is closed.
//! Every file has a number from its first row on, so that a row can be named before its file
//! is finished.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use futures::{StreamExt, stream};

use super::cleanup::Paths;
use super::partition::{Group, Partitioner};
use crate::error::{Error, Result};
use crate::file::{ParquetFileWriter, WriterOptions};
use crate::spec::{DataContentType, DataFile, PartitionKey, PartitionSpec, SchemaRef};
use crate::table::Table;

/// Files that are completed at the same time: each waits for storage, and on local disks for a
/// sync.
pub(super) const CLOSING_FILES: usize = 8;

/// What the files of one fan-out have in common.
#[derive(Debug, Clone)]
pub(super) struct FanoutOptions {
    pub content: DataContentType,
    /// Goes into file names.
    pub kind: &'static str,
    pub equality_ids: Option<Vec<i32>>,
    pub writer: WriterOptions,
    /// Files are closed once they are about this big.
    pub target_bytes: u64,
    /// Bytes that all open files may hold in memory.
    pub memory_bytes: usize,
    /// Files that may be open.
    pub open_files: usize,
}

/// Where a run of rows went: file number and position of its first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Landed {
    pub file: u32,
    pub first_row: u64,
}

/// Open files by partition, and finished ones by number.
#[derive(Debug)]
pub(super) struct Fanout {
    table: Table,
    schema: SchemaRef,
    options: FanoutOptions,
    partitioner: Partitioner,
    open: HashMap<usize, OpenFile>,
    finished: Vec<Option<DataFile>>,
    /// Bytes that the open files hold, as of each one's last write.
    held_bytes: usize,
    clock: u64,
    /// Takes the location of every file that is opened.
    paths: Paths,
}

#[derive(Debug)]
struct OpenFile {
    writer: ParquetFileWriter,
    partition: PartitionKey,
    number: u32,
    last_used: u64,
    held_bytes: usize,
}

impl Fanout {
    /// Writes rows of `schema` under `spec`.
    ///
    /// # Errors
    /// `InvalidInput` when the schema lacks a source column of the spec.
    pub(super) fn new(
        table: &Table,
        spec: &PartitionSpec,
        schema: SchemaRef,
        options: FanoutOptions,
        paths: Paths,
    ) -> Result<Self> {
        Ok(Self {
            table: table.clone(),
            partitioner: Partitioner::new(spec, &schema)?,
            schema,
            options,
            open: HashMap::new(),
            finished: Vec::new(),
            held_bytes: 0,
            clock: 0,
            paths,
        })
    }

    /// A group for rows whose partition the caller knows.
    pub(super) fn group_of(&mut self, key: &PartitionKey, rows: RecordBatch) -> Group {
        self.partitioner.group_of(key, rows)
    }

    /// Groups rows by partition, without writing them.
    ///
    /// # Errors
    /// As [`Partitioner::split`].
    pub(super) fn split(&mut self, batch: &RecordBatch) -> Result<Vec<Group>> {
        self.partitioner.split(batch)
    }

    /// Writes the rows of one group; all of them go into one file.
    ///
    /// # Errors
    /// As [`ParquetFileWriter::write`].
    pub(super) async fn write(&mut self, group: &Group) -> Result<Landed> {
        self.clock += 1;
        if !self.open.contains_key(&group.partition) {
            self.open_file(group.partition).await?;
        }
        let Some(file) = self.open.get_mut(&group.partition) else {
            return Err(Error::internal("a file was not opened"));
        };
        let landed = Landed { file: file.number, first_row: file.writer.rows() };
        file.writer.write(&group.rows).await?;
        file.last_used = self.clock;
        let held = file.writer.memory_bytes();
        self.held_bytes = self.held_bytes - file.held_bytes + held;
        file.held_bytes = held;
        if file.writer.bytes_written_estimate() >= self.options.target_bytes {
            self.close_file(group.partition).await?;
        }
        while self.held_bytes > self.options.memory_bytes && !self.open.is_empty() {
            self.close_oldest().await?;
        }
        Ok(landed)
    }

    async fn open_file(&mut self, partition: usize) -> Result<()> {
        while self.open.len() >= self.options.open_files.max(1) {
            self.close_oldest().await?;
        }
        let key = self.partitioner.key(partition)?.clone();
        let location = self.table.new_data_path(&key, self.options.kind)?;
        let (storage, schema) = (self.table.storage(), self.schema.clone());
        let writer = ParquetFileWriter::create(storage, &location, schema, &self.options.writer)?;
        self.paths.note(&location);
        let number = u32::try_from(self.finished.len())
            .map_err(|_| Error::invalid("too many files in one commit"))?;
        self.finished.push(None);
        let last_used = self.clock;
        let file = OpenFile { writer, partition: key, number, last_used, held_bytes: 0 };
        self.open.insert(partition, file);
        Ok(())
    }

    async fn close_oldest(&mut self) -> Result<()> {
        let oldest = self.open.iter().min_by_key(|(_, file)| (file.last_used, file.number));
        match oldest.map(|(partition, _)| *partition) {
            Some(partition) => self.close_file(partition).await,
            None => Ok(()),
        }
    }

    async fn close_file(&mut self, partition: usize) -> Result<()> {
        let Some(file) = self.open.remove(&partition) else { return Ok(()) };
        self.held_bytes -= file.held_bytes;
        let closed = file.writer.close(self.options.content, file.partition).await?;
        self.keep(file.number, closed);
        Ok(())
    }

    /// Bytes that the open files hold.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Closes every file, a few at a time; afterwards [`Fanout::take_files`] has them by number.
    ///
    /// # Errors
    /// As [`ParquetFileWriter::close`]; every file was tried.
    pub(super) async fn finish(&mut self) -> Result<()> {
        let mut files: Vec<OpenFile> = self.open.drain().map(|(_, file)| file).collect();
        files.sort_by_key(|file| file.number);
        self.held_bytes = 0;
        let content = self.options.content;
        let closing = stream::iter(files).map(|file| async move {
            let closed = file.writer.close(content, file.partition).await;
            closed.map(|closed| (file.number, closed))
        });
        let all: Vec<_> = closing.buffered(CLOSING_FILES).collect().await;
        for closed in all {
            let (number, closed) = closed?;
            self.keep(number, closed);
        }
        Ok(())
    }

    fn keep(&mut self, number: u32, mut closed: DataFile) {
        closed.equality_ids = self.options.equality_ids.clone();
        if let Some(slot) = self.finished.get_mut(number as usize) {
            *slot = Some(closed);
        }
    }

    /// The finished files by number.
    pub(super) fn take_files(&mut self) -> Vec<Option<DataFile>> {
        std::mem::take(&mut self.finished)
    }

    /// Gives up the open files; the list of paths has the closed ones.
    pub(super) async fn abandon(&mut self) {
        for (_, file) in self.open.drain() {
            file.writer.abort().await;
        }
    }
}
