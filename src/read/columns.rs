//! The columns to read for a result, and how to get from them to the result.
//!
//! Deletes and filters may need columns that nobody asked for: they are read beside the others,
//! or inside a struct that was asked for in part, and cut off afterwards. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatchOptions, StructArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Int64Type, SchemaRef as ArrowSchemaRef};
use arrow::record_batch::RecordBatch;
use roaring::RoaringTreemap;

use crate::deletes::{KeyColumns, graft, path_to};
use crate::error::{Error, Result};
use crate::file::reserved;
use crate::spec::{Schema, SchemaRef};

/// What is read for a kind of task (RD-5): all tasks whose deletes compare the same columns share one.
#[derive(Debug)]
pub(super) struct ReadColumns {
    /// The columns to read: those of the result first, in its order.
    pub read: SchemaRef,
    output: ArrowSchemaRef,
    /// Where `_deleted` is in the result, and `_pos` in what is read.
    marks: Option<(usize, usize)>,
}

impl ReadColumns {
    /// Columns for a result of `output`, deletes by `keys`, and a filter over the columns
    /// `filter_ids` of `schema`.
    ///
    /// # Errors
    /// `Internal` if the columns make no schema.
    pub(super) fn new(
        output: &Schema,
        arrow: &ArrowSchemaRef,
        schema: &Schema,
        filter_ids: &BTreeSet<i32>,
        keys: &[KeyColumns],
    ) -> Result<Self> {
        let mut fields = output.as_struct().fields().to_vec();
        for id in filter_ids {
            if let Some(path) = path_to(schema.as_struct(), *id) {
                graft(&mut fields, &path);
            }
        }
        for column in keys.iter().flat_map(KeyColumns::iter) {
            // The scan's own field where it has one, for its type; the historic one otherwise.
            match path_to(schema.as_struct(), column.field_id) {
                Some(path) => graft(&mut fields, &path),
                None => graft(&mut fields, &column.path),
            }
        }
        let position_of =
            |id, fields: &[crate::spec::NestedFieldRef]| fields.iter().position(|f| f.id == id);
        let mut marks = None;
        if let Some(at) = position_of(reserved::DELETED, &fields) {
            graft(&mut fields, &[reserved::pos()]);
            marks = position_of(reserved::POS, &fields).map(|pos| (at, pos));
        }
        let read = Schema::builder()
            .with_fields(fields)
            .build()
            .map_err(|e| Error::internal("the columns to read make no schema").with_source(e))?;
        Ok(Self { read: Arc::new(read), output: arrow.clone(), marks })
    }

    /// True when dead rows are wanted, marked in the column `_deleted`.
    pub(super) fn keeps_dead_rows(&self) -> bool {
        self.marks.is_some()
    }

    /// Sets `_deleted` for dead rows (RD-6).
    pub(super) fn mark(
        &self,
        batch: RecordBatch,
        alive: Option<&BooleanBuffer>,
        positions: Option<&RoaringTreemap>,
    ) -> Result<RecordBatch> {
        let Some((at, pos)) = self.marks else { return Ok(batch) };
        let Some(pos) = batch.column(pos).as_primitive_opt::<Int64Type>() else {
            return Err(Error::internal("row positions are not long integers"));
        };
        let dead = BooleanBuffer::collect_bool(batch.num_rows(), |row| {
            let by_position = || {
                let pos = pos.values().get(row).copied().unwrap_or_default();
                positions.is_some_and(|p| p.contains(pos as u64))
            };
            alive.is_some_and(|alive| !alive.value(row)) || by_position()
        });
        let mut columns = batch.columns().to_vec();
        if let Some(column) = columns.get_mut(at) {
            *column = Arc::new(BooleanArray::new(dead, None));
        }
        Ok(RecordBatch::try_new(batch.schema(), columns)?)
    }

    /// Cuts what was read down to the result: its columns, and the rows of `keep`.
    pub(super) fn finish(
        &self,
        batch: &RecordBatch,
        keep: Option<BooleanBuffer>,
    ) -> Result<RecordBatch> {
        let fields = self.output.fields();
        let columns = fields
            .iter()
            .zip(batch.columns())
            .map(|(field, column)| cut(column, field.data_type()))
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let whole = RecordBatch::try_new_with_options(self.output.clone(), columns, &options)?;
        match keep {
            None => Ok(whole),
            Some(keep) => Ok(filter_record_batch(&whole, &BooleanArray::new(keep, None))?),
        }
    }
}

/// Drops the fields of structs that were added behind those of the result.
fn cut(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if array.data_type() == wanted {
        return Ok(array.clone());
    }
    let (DataType::Struct(fields), Some(whole)) = (wanted, array.as_struct_opt()) else {
        return Err(Error::internal("a column was read in another type than asked for"));
    };
    let columns = fields
        .iter()
        .zip(whole.columns())
        .map(|(field, column)| cut(column, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    let nulls = whole.nulls().cloned();
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, array.len())?))
}
