//! A sort order as bytes: rows compare as their keys do.

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::row::{RowConverter, Rows, SortField as ArrowSortField};

use crate::error::{Error, Result};
use crate::file::{leaf_at, leaf_path};
use crate::spec::{NullOrder, Schema, SortDirection, SortField, Transform};
use crate::write::transform;

/// Makes the keys of batches of one schema.
#[derive(Debug)]
pub(in crate::maintenance::compact) struct SortKeys {
    fields: Vec<KeyField>,
    /// Made with the first batch, when the types are known.
    converter: Option<RowConverter>,
}

#[derive(Debug)]
struct KeyField {
    path: Vec<usize>,
    transform: Transform,
    options: SortOptions,
}

impl SortKeys {
    /// Keys by `order` of rows of `schema`.
    ///
    /// # Errors
    /// `InvalidInput` if the schema lacks a column.
    pub(in crate::maintenance::compact) fn new(
        schema: &Schema,
        order: &[SortField],
    ) -> Result<Self> {
        let field = |field: &SortField| {
            let path = leaf_path(schema, field.source_id).ok_or_else(|| {
                Error::invalid("the table's sort order names a column that is gone")
                    .with_context("source id", field.source_id)
                    .with_hint("name the columns to sort by")
            })?;
            let options = SortOptions {
                descending: field.direction == SortDirection::Descending,
                nulls_first: field.null_order == NullOrder::First,
            };
            Ok(KeyField { path, transform: field.transform, options })
        };
        let fields = order.iter().map(field).collect::<Result<_>>()?;
        Ok(Self { fields, converter: None })
    }

    /// The keys of a batch.
    pub(super) fn of(&mut self, batch: &RecordBatch) -> Result<Rows> {
        let column = |field: &KeyField| {
            let source = leaf_at(batch, &field.path)
                .ok_or_else(|| Error::internal("a sort column is missing"))?;
            transform(&source, field.transform)
        };
        let columns = self.fields.iter().map(column).collect::<Result<Vec<_>>>()?;
        let converter = match &mut self.converter {
            Some(converter) => converter,
            none => {
                let fields = columns.iter().zip(&self.fields).map(|(column, field)| {
                    ArrowSortField::new_with_options(column.data_type().clone(), field.options)
                });
                none.insert(RowConverter::new(fields.collect())?)
            }
        };
        Ok(converter.convert_columns(&columns)?)
    }
}
