//! The rows that a unit deletes and inserts, and how to read them.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use roaring::RoaringTreemap;

use super::ChangeReader;
use super::columns::{ChangeColumns, positions_at, with_pos};
use super::hash::{key_hashes, row_hashes};
use super::resolve::ResolvedFile;
use crate::deletes::{DeleteFile, KeyColumns};
use crate::error::Result;
use crate::file::{self, FileRead};
use crate::read::columns::ReadColumns;
use crate::read::task::in_task;
use crate::scan::{FileScanTask, Role};
use crate::spec::{DataFile, SchemaRef, SequenceNumber, SnapshotId};

/// Rows of one file that share a fate.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub file: Arc<DataFile>,
    pub rows: RoaringTreemap,
    pub kind: SourceKind,
    pub sequence_number: SequenceNumber,
    /// The rows, and maybe others of the file, as [`SourceReader::rows`] gives them.
    pub held: Option<Arc<Vec<RecordBatch>>>,
}

/// What the rows of a source are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceKind {
    /// Rows of a data file that came or went as a whole: they may have been carried over.
    Moved,
    /// Single rows of a data file that stayed.
    Picked,
    /// The keys of an equality delete file.
    Keys,
}

impl Source {
    /// The rows of a file that went.
    pub(super) fn gone(file: &ResolvedFile) -> Option<Self> {
        Self::of(file, &file.gone)
    }

    /// The rows of a file that came.
    pub(super) fn come(file: &ResolvedFile) -> Option<Self> {
        Self::of(file, &file.come)
    }

    fn of(file: &ResolvedFile, rows: &RoaringTreemap) -> Option<Self> {
        let kind = if file.role == Role::Touched { SourceKind::Picked } else { SourceKind::Moved };
        (!rows.is_empty()).then(|| Self {
            file: file.file.clone(),
            rows: rows.clone(),
            kind,
            sequence_number: file.sequence_number,
            held: None,
        })
    }

    /// All keys of an equality delete file.
    pub(super) fn keys(delete: &DeleteFile) -> Self {
        let mut rows = RoaringTreemap::new();
        rows.insert_range(0..delete.file.record_count);
        Self {
            file: delete.file.clone(),
            rows,
            kind: SourceKind::Keys,
            sequence_number: delete.sequence_number,
            held: None,
        }
    }

    /// How many rows it has.
    pub(super) fn len(&self) -> u64 {
        self.rows.len()
    }

    /// The same without some rows.
    pub(super) fn without(&self, rows: &RoaringTreemap) -> Self {
        Self { rows: &self.rows - rows, ..self.clone() }
    }
}

/// Reads the sources of one unit.
#[derive(Debug, Clone)]
pub(super) struct SourceReader {
    pub reader: Arc<ChangeReader>,
    pub key: Option<KeyColumns>,
    /// Rows are equal when all of these columns are.
    compared: SchemaRef,
    snapshot: SnapshotId,
    columns: Arc<ReadColumns>,
}

/// What equality of rows means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Keys,
    WholeRows,
}

impl SourceReader {
    pub(super) fn new(
        reader: Arc<ChangeReader>,
        compared: SchemaRef,
        key: Option<KeyColumns>,
        snapshot: SnapshotId,
    ) -> Result<Self> {
        let columns = Arc::new(reader.columns.to_read(key.as_ref())?);
        Ok(Self { reader, key, compared, snapshot, columns })
    }

    /// The rows of a source with all columns that output, filter and key need; of keys, as
    /// [`ChangeColumns::keys_to_read`] says.
    pub(super) async fn rows(
        &self,
        source: &Source,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        if let Some(held) = &source.held {
            return self.held_rows(held, source);
        }
        match source.kind {
            SourceKind::Keys => {
                self.open(source, Arc::new(self.reader.columns.keys_to_read()?)).await
            }
            _ => self.open(source, self.columns.read.clone()).await,
        }
    }

    fn held_rows(
        &self,
        held: &[RecordBatch],
        Source { rows, kind, .. }: &Source,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let mut found = Vec::new();
        for batch in held {
            let positions = positions(&self.reader.columns, *kind, batch)?;
            let (Some(first), Some(last)) = (positions.first(), positions.last()) else { continue };
            match rows.range_cardinality(*first..=*last) {
                0 => {}
                all if all == positions.len() as u64 => found.push(Ok(batch.clone())),
                _ => {
                    let keep = positions.iter().map(|position| rows.contains(*position));
                    let keep = BooleanArray::from(keep.collect::<Vec<bool>>());
                    found.push(Ok(filter_record_batch(batch, &keep)?));
                }
            }
        }
        Ok(stream::iter(found).boxed())
    }

    /// Cuts what [`SourceReader::rows`] read down to the output columns.
    pub(super) fn output(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        self.columns.finish(batch, None)
    }

    /// The rows of a source as positions and hashes.
    pub(super) async fn hashes(
        &self,
        source: &Source,
        compare: Compare,
    ) -> Result<BoxStream<'static, Result<(Vec<u64>, Vec<u128>)>>> {
        let key = self.key.clone();
        if let (Compare::Keys, Some(key), true) = (compare, &key, source.held.is_some()) {
            let (key, reader, kind) = (key.clone(), self.reader.clone(), source.kind);
            let batches = self.rows(source).await?;
            let hashed = batches.and_then(move |batch| {
                let places = positions(&reader.columns, kind, &batch);
                std::future::ready(places.and_then(|p| Ok((p, key_hashes(&key, &batch)?))))
            });
            return Ok(hashed.boxed());
        }
        let schema = match (compare, &key) {
            (Compare::Keys, Some(key)) => key.schema()?,
            _ => self.compared.clone(),
        };
        let pos_at = schema.as_struct().fields().len();
        let batches = self.open(source, Arc::new(with_pos(&schema)?)).await?;
        let hashed = batches.and_then(move |batch| {
            let hashes = match (compare, &key) {
                (Compare::Keys, Some(key)) => key_hashes(key, &batch),
                _ => row_hashes(&batch, pos_at),
            };
            let positions = positions_at(&batch, pos_at);
            std::future::ready(hashes.and_then(|hashes| Ok((positions?, hashes))))
        });
        Ok(hashed.boxed())
    }

    async fn open(
        &self,
        source: &Source,
        schema: SchemaRef,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let task = FileScanTask {
            file: source.file.clone(),
            sequence_number: source.sequence_number,
            deletes: Vec::new(),
            residual: None,
            snapshot_id: self.snapshot,
        };
        let context = &self.reader.columns.context;
        let mut request = FileRead::new(source.file.file_path.clone(), schema);
        request.file_size_in_bytes = Some(source.file.file_size_in_bytes);
        request.constants = self.reader.tasks.constants(&task)?;
        request.name_mapping = context.name_mapping.clone();
        request.batch_bytes = self.reader.tasks.together;
        if source.len() < source.file.record_count {
            let mut unwanted = RoaringTreemap::new();
            unwanted.insert_range(0..source.file.record_count);
            unwanted -= &source.rows;
            request.deleted = Some(Arc::new(unwanted));
        }
        let batches = file::read(context.table.storage(), request).await;
        let batches = batches.map_err(|e| in_task(e, &task))?;
        Ok(batches.map_err(move |e| in_task(e, &task)).boxed())
    }
}

/// The physical rows of a batch as [`SourceReader::rows`] gives it.
fn positions(columns: &ChangeColumns, kind: SourceKind, batch: &RecordBatch) -> Result<Vec<u64>> {
    match kind {
        SourceKind::Keys => positions_at(batch, batch.num_columns().saturating_sub(1)),
        _ => columns.positions(batch),
    }
}
