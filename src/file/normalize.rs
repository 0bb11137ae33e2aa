//! Batches from callers brought to the table's exact Arrow schema.
//!
//! Pure. Columns go by name, then by field id: a batch that was read from another table may
//! carry that table's ids, and its names are what the caller sees. Arrays that fit are passed
//! on, not copied.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef as ArrowSchemaRef};

use super::layout::FileLayout;
use super::project::Projection;
use super::schema::arrow_schema;
use crate::error::{ErrorKind, Result};
use crate::spec::SchemaRef;

/// Brings batches to one schema (FIL-10). Remembers the last incoming schema, so that a run of
/// like batches is matched once.
#[derive(Debug)]
pub(crate) struct Normalizer {
    schema: SchemaRef,
    target: ArrowSchemaRef,
    /// Columns that the schema does not have are left out instead of refused.
    subset: bool,
    last: Option<(ArrowSchemaRef, Projection)>,
}

impl Normalizer {
    pub(crate) fn new(schema: SchemaRef) -> Result<Self> {
        Ok(Self { target: arrow_schema(&schema)?, schema, subset: false, last: None })
    }

    /// Takes from batches only what `schema` has, such as the key columns of whole rows.
    pub(crate) fn of_subset(schema: SchemaRef) -> Result<Self> {
        Ok(Self { subset: true, ..Self::new(schema)? })
    }

    /// The batch in the table's types, column order and names.
    ///
    /// # Errors
    /// `InvalidInput` naming the column.
    pub(crate) fn normalize(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let incoming = batch.schema();
        if incoming.fields() == self.target.fields() {
            return Ok(batch.clone());
        }
        let known = self.last.as_ref().is_some_and(|(s, _)| same(s, &incoming));
        if !known {
            let projection = self.match_columns(&incoming)?;
            self.last = Some((incoming, projection));
        }
        match &self.last {
            Some((_, projection)) => projection
                .apply(batch.columns(), batch.num_rows(), None)
                .map_err(|e| e.with_kind(ErrorKind::InvalidInput)),
            None => Ok(batch.clone()),
        }
    }

    fn match_columns(&self, incoming: &ArrowSchema) -> Result<Projection> {
        let layout = FileLayout::of_input(incoming);
        let matched = if self.subset {
            Projection::new(&self.schema, &layout, &HashMap::new(), "")
        } else {
            Projection::of_input(&self.schema, &layout)
        };
        matched.map_err(|e| e.with_kind(ErrorKind::InvalidInput))
    }
}

fn same(left: &ArrowSchemaRef, right: &ArrowSchemaRef) -> bool {
    std::sync::Arc::ptr_eq(left, right) || left == right
}
