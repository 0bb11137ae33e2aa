//! The deep check: what the rows of a file say.
//!
//! Memory: one batch, two values per column.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::codes::Code;
use super::files::{FileCheck, Looked, excludes, reason};
use super::live::LiveFiles;
use super::manifest::Problem;
use crate::deletes::{KeyColumns, identity_constants};
use crate::error::Result;
use crate::file::reserved::{DELETE_FILE_PATH, DELETE_POS};
use crate::file::{
    FileRead, MetricsCollector, MetricsMode, WriterOptions, leaf_at, leaf_path,
    position_delete_schema, read,
};
use crate::spec::{
    DataContentType, DataFile, MappedField, NameMapping, PrimitiveType, SchemaRef, Type,
    datum_from_bound,
};

/// Reads a data or equality delete file and compares its rows with bounds and counts. Returns how
/// many rows were read.
pub(super) async fn check(
    files: &FileCheck,
    file: &DataFile,
    size: u64,
    problems: &mut Vec<Problem>,
) -> Result<u64> {
    let metadata = files.table.metadata();
    let schema = match (file.content, &file.equality_ids) {
        (DataContentType::EqualityDeletes, Some(ids)) => {
            KeyColumns::resolve(ids, metadata)?.schema()?
        }
        _ => files.table.schema().clone(),
    };
    let mut request = FileRead::new(file.file_path.clone(), schema.clone());
    request.constants = identity_constants(file, metadata)?;
    request.name_mapping = files.mapping.clone();
    let mut batches = open(files, request, size).await?;
    let options = WriterOptions { default_metrics: MetricsMode::Full, ..WriterOptions::default() };
    let mut metrics = MetricsCollector::new(&schema, &options);
    let mut nulls = Nulls::new(&schema, file);
    let mut rows = 0u64;
    while let Some(batch) = batches.try_next().await? {
        rows += batch.num_rows() as u64;
        metrics.update(&batch);
        nulls.update(&batch);
    }
    for (id, bounds, nans) in metrics.found() {
        let Some(Type::Primitive(kind)) = schema.field_by_id(id).map(|f| &*f.field_type) else {
            continue;
        };
        compare(files, file, (id, kind), bounds, problems);
        if let Some(said) = file.nan_value_counts.get(id).filter(|said| *said != nans) {
            let cause = format!("column {} has {nans} NaNs, not {said}", files.column(id));
            problems.push((Code::NanCount, cause));
        }
    }
    nulls.compare(files, problems);
    Ok(rows)
}

pub(super) async fn open(
    files: &FileCheck,
    mut request: FileRead,
    size: u64,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    request.file_size_in_bytes = Some(size);
    read(files.table.storage(), request).await
}

fn compare(
    files: &FileCheck,
    file: &DataFile,
    (id, kind): (i32, &PrimitiveType),
    bounds: Option<(Vec<u8>, Vec<u8>)>,
    problems: &mut Vec<Problem>,
) {
    let Some((low, high)) = bounds else { return };
    let column = files.column(id);
    let (low, high) = (datum_from_bound(&low, kind), datum_from_bound(&high, kind));
    let lower = file.lower_bound(id, kind);
    problems.extend(excludes(&column, lower, low.as_ref(), Ordering::Greater));
    let upper = file.upper_bound(id, kind);
    problems.extend(excludes(&column, upper, high.as_ref(), Ordering::Less));
}

/// Nulls of the columns that the manifest counts.
struct Nulls {
    columns: Vec<(i32, Vec<usize>, u64, u64)>,
}

impl Nulls {
    fn new(schema: &SchemaRef, file: &DataFile) -> Self {
        let column = |(id, said): (i32, u64)| Some((id, leaf_path(schema, id)?, said, 0));
        Self { columns: file.null_value_counts.iter().filter_map(column).collect() }
    }

    fn update(&mut self, batch: &RecordBatch) {
        for (_, path, _, found) in &mut self.columns {
            if let Some(array) = leaf_at(batch, path) {
                *found += array.null_count() as u64;
            }
        }
    }

    fn compare(&self, files: &FileCheck, problems: &mut Vec<Problem>) {
        for (id, _, said, found) in self.columns.iter().filter(|c| c.2 != c.3) {
            let cause = format!("column {} has {found} nulls, not {said}", files.column(*id));
            problems.push((Code::NullCount, cause));
        }
    }
}

/// Reads a position delete file: do its rows name rows of live files, and in order?
pub(super) async fn check_positions(
    files: &FileCheck,
    file: &DataFile,
    live: &LiveFiles,
) -> Looked {
    let mut looked = Looked::default();
    if let Err(error) = positions(files, file, live, &mut looked).await {
        looked.problems.push((Code::FileUnreadable, reason(&error)));
    }
    looked
}

async fn positions(
    files: &FileCheck,
    file: &DataFile,
    live: &LiveFiles,
    looked: &mut Looked,
) -> Result<()> {
    let size = files.table.storage().size(&file.file_path).await?;
    let mut request = FileRead::new(file.file_path.clone(), position_delete_schema()?);
    request.name_mapping = Some(names_of_positions());
    let mut batches = open(files, request, size).await?;
    let mut last: Option<(String, i64)> = None;
    let mut sorted = true;
    let mut beyond: BTreeMap<String, i64> = BTreeMap::new();
    while let Some(batch) = batches.next().await.transpose()? {
        looked.rows += batch.num_rows() as u64;
        let (paths, positions) = (batch.column(0).as_string::<i32>(), batch.column(1));
        let positions = positions.as_primitive::<Int64Type>();
        let mut rows = None;
        for row in 0..batch.num_rows() {
            let (path, position) = (paths.value(row), positions.value(row));
            let same = last.as_ref().is_some_and(|(before, _)| before == path);
            sorted &= last.as_ref().is_none_or(|(p, n)| (p.as_str(), *n) <= (path, position));
            if !same || rows.is_none() {
                rows = Some(live.data(path).map(|data| data.rows));
            }
            let end = rows.flatten().map_or(i64::MAX, |n| i64::try_from(n).unwrap_or(i64::MAX));
            if position < 0 || position >= end {
                beyond.insert(path.to_string(), position);
            }
            match &mut last {
                Some((_, before)) if same => *before = position,
                _ => last = Some((path.to_string(), position)),
            }
        }
    }
    if !sorted {
        let cause = "a row comes before the row that sorts before it";
        looked.problems.push((Code::PositionOrder, cause.to_string()));
    }
    for (path, position) in beyond {
        let rows = live.data(&path).map_or(0, |data| data.rows);
        let cause = format!("it deletes row {position} of {path}, which has {rows} rows");
        looked.problems.push((Code::PositionBeyondFile, cause));
    }
    Ok(())
}

/// Writers that leave out the reserved ids keep the names.
fn names_of_positions() -> Arc<NameMapping> {
    let field = |id, name: &str| MappedField::new(Some(id), vec![name.to_string()], Vec::new());
    Arc::new(NameMapping::new(vec![field(DELETE_FILE_PATH, "file_path"), field(DELETE_POS, "pos")]))
}
