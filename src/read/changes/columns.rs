//! The columns of changes: those of the result, and those that keys and filters need beside them.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatchOptions};
use arrow::datatypes::{Field, Int64Type, Schema as ArrowSchema, SchemaRef as ArrowSchemaRef};
use arrow::record_batch::RecordBatch;

use super::{ChangeReadOptions, Emit};
use crate::deletes::KeyColumns;
use crate::error::{Error, Result};
use crate::expr::{FileStats, Filter};
use crate::file::{arrow_schema, reserved};
use crate::read::columns::ReadColumns;
use crate::scan::{ChangedFile, ScanContext};
use crate::spec::{NestedField, NestedFieldRef, Schema, StructType, Type};
use crate::table::{At, Table};

/// The columns of a reader.
#[derive(Debug)]
pub(super) struct ChangeColumns {
    /// Output columns with `_pos` among them.
    pub context: ScanContext,
    /// What the caller gets.
    pub arrow: ArrowSchemaRef,
    /// The key, when it is known without looking at a commit.
    pub key: Option<KeyColumns>,
    pub key_names: Vec<String>,
    pub filter: Option<Filter>,
    pub upserts: bool,
    pos_at: usize,
    /// `_pos` is only ours and is cut off.
    pos_is_ours: bool,
}

impl ChangeColumns {
    pub(super) fn new(table: &Table, at: At, options: &ChangeReadOptions) -> Result<Self> {
        let mut scan = table.scan().at(at);
        if let Some(names) = &options.select {
            scan = scan.select(names.clone());
        }
        if let Some(filter) = &options.filter {
            scan = scan.filter(filter.clone());
        }
        if let Some(schema) = &options.schema {
            scan = scan.in_schema(schema.clone());
        }
        let mut context = scan.context()?;
        if context.output.field_by_id(reserved::DELETED).is_some() {
            return Err(Error::invalid("`_deleted` means nothing in a stream of changes")
                .with_hint("select `_change_type` columns through the stream instead"));
        }
        let key = key_columns(&context, options)?;
        let key_names = match &key {
            Some(key) => key.iter().map(|c| name_of(&context.schema, c.field_id)).collect(),
            None => Vec::new(),
        };
        let upserts = options.emit == Emit::Upserts;
        let mut arrow = context.arrow.clone();
        if upserts {
            let ids = key.as_ref().map(KeyColumns::ids).ok_or_else(no_key)?;
            for (id, name) in ids.iter().zip(&key_names) {
                if context.output.field_by_id(*id).is_none() {
                    return Err(Error::invalid(format!("upserts need the key column `{name}`"))
                        .with_hint("add it to the selected columns"));
                }
            }
            arrow = nullable_beside(&context.output, &arrow, &ids)?;
        }
        let (pos_at, pos_is_ours) = add_pos(&mut context)?;
        let filter = context.filter.as_deref().map(Filter::new);
        Ok(Self { context, arrow, key, key_names, filter, upserts, pos_at, pos_is_ours })
    }

    /// What to read for rows whose key is `key`.
    pub(super) fn to_read(&self, key: Option<&KeyColumns>) -> Result<ReadColumns> {
        let ids = self.filter.as_ref().map(Filter::field_ids).unwrap_or_default();
        let ScanContext { output, arrow, schema, .. } = &self.context;
        ReadColumns::new(output, arrow, schema, &ids, key.map_or(&[][..], std::slice::from_ref))
    }

    /// The files of a net difference that may hold rows to show. Between any two snapshots a row
    /// that does not pass changes nothing for the one it pairs with: an update of which one image
    /// passes is an insert or a delete all the same (CHG-8). Upserts need the keys of all.
    pub(super) fn may_show(&self, files: Vec<ChangedFile>) -> Vec<ChangedFile> {
        let Some(filter) = self.filter.as_ref().filter(|_| !self.upserts) else { return files };
        let might = |f: &ChangedFile| filter.might_match(&FileStats(&f.file, &self.context.schema));
        files.into_iter().filter(might).collect()
    }

    /// The physical rows of a batch with the columns of [`ChangeColumns::context`].
    pub(super) fn positions(&self, batch: &RecordBatch) -> Result<Vec<u64>> {
        positions_at(batch, self.pos_at)
    }

    /// Cuts a batch down to what the caller gets.
    pub(super) fn finish(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut columns = batch.columns().to_vec();
        if self.pos_is_ours {
            columns.truncate(self.pos_at);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.arrow.clone(), columns, &options)?)
    }

    /// The same for deleted rows of upserts: everything but the key becomes null.
    pub(super) fn finish_keys(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let keys = batch.columns().iter().zip(self.is_key());
        self.with_nulls(keys.filter(|(_, is_key)| *is_key).map(|(column, _)| column), batch)
    }

    /// What to read of files that hold nothing but keys: the key, and `_pos` behind it.
    pub(super) fn keys_to_read(&self) -> Result<Schema> {
        let fields = self.context.output.as_struct().fields().iter().zip(self.is_key());
        let keys = fields.filter(|(_, is_key)| *is_key).map(|(field, _)| optional(field));
        Ok(Schema::builder().with_fields(keys.chain([reserved::pos()])).build()?)
    }

    /// Makes rows of what was read by [`ChangeColumns::keys_to_read`].
    pub(super) fn finish_keys_alone(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        self.with_nulls(batch.columns().iter(), batch)
    }

    /// Which output columns are of the key.
    fn is_key(&self) -> impl Iterator<Item = bool> {
        let key = self.key.as_ref().map(KeyColumns::ids).unwrap_or_default();
        let fields = self.context.output.as_struct().fields();
        fields.iter().map(move |field| holds(field, &key))
    }

    fn with_nulls<'a>(
        &self,
        mut keys: impl Iterator<Item = &'a ArrayRef>,
        of: &RecordBatch,
    ) -> Result<RecordBatch> {
        let columns = self.arrow.fields().iter().zip(self.is_key()).map(|(field, is_key)| {
            if !is_key {
                return Ok(arrow::array::new_null_array(field.data_type(), of.num_rows()));
            }
            keys.next().cloned().ok_or_else(|| Error::internal("a key column was not read"))
        });
        let options = RecordBatchOptions::new().with_row_count(Some(of.num_rows()));
        let columns = columns.collect::<Result<_>>()?;
        Ok(RecordBatch::try_new_with_options(self.arrow.clone(), columns, &options)?)
    }
}

/// The physical rows of a batch that has `_pos` at `at`.
pub(super) fn positions_at(batch: &RecordBatch, at: usize) -> Result<Vec<u64>> {
    let column = batch.columns().get(at);
    let values = column.and_then(|c| c.as_primitive_opt::<Int64Type>());
    let values = values.ok_or_else(|| Error::internal("row positions are missing"))?;
    Ok(values.values().iter().map(|v| *v as u64).collect())
}

fn no_key() -> Error {
    Error::invalid("upserts need a key, and the table has no identifier fields")
        .with_hint("name the key columns, or follow `appends` or `changes`")
}

/// The key that options or schema name.
fn key_columns(context: &ScanContext, options: &ChangeReadOptions) -> Result<Option<KeyColumns>> {
    let schema = &context.schema;
    let ids: Vec<i32> = match &options.key {
        Some(names) => {
            let id = |name: &String| {
                schema.field_id_by_name(name).ok_or_else(|| {
                    Error::invalid(format!("the key column `{name}` is not in the table"))
                })
            };
            names.iter().map(id).collect::<Result<_>>()?
        }
        None => schema.identifier_field_ids().collect(),
    };
    if ids.is_empty() {
        return Ok(None);
    }
    KeyColumns::resolve(&ids, context.table.metadata()).map(Some).map_err(|e| {
        Error::invalid("a key column must be of a primitive type, inside structs at most")
            .with_source(e)
    })
}

fn name_of(schema: &Schema, id: i32) -> String {
    schema.name_by_field_id(id).unwrap_or_default().to_string()
}

/// True when the field, or one inside it, is among `ids`.
fn holds(field: &NestedField, ids: &[i32]) -> bool {
    let inside = |field_type: &Type| match field_type {
        Type::Struct(inner) => inner.fields().iter().any(|f| holds(f, ids)),
        _ => false,
    };
    ids.contains(&field.id) || inside(&field.field_type)
}

/// Deletes of upserts have nothing but the key.
fn nullable_beside(output: &Schema, arrow: &ArrowSchemaRef, key: &[i32]) -> Result<ArrowSchemaRef> {
    let fields = arrow.fields().iter().zip(output.as_struct().fields()).map(|(field, of)| {
        if holds(of, key) {
            field.clone()
        } else {
            Arc::new(Field::clone(field).with_nullable(true))
        }
    });
    let schema =
        ArrowSchema::new_with_metadata(fields.collect::<Vec<_>>(), arrow.metadata().clone());
    Ok(Arc::new(schema))
}

/// The same field, where neither it nor anything inside it is required: for files that hold only
/// some of the columns.
fn optional(field: &NestedFieldRef) -> NestedFieldRef {
    let mut field = field.as_ref().clone();
    field.required = false;
    if let Type::Struct(inner) = &*field.field_type {
        let children = inner.fields().iter().map(optional).collect();
        field.field_type = Box::new(Type::Struct(StructType::new(children)));
    }
    Arc::new(field)
}

/// `schema` with `_pos` behind its columns.
pub(super) fn with_pos(schema: &Schema) -> Result<Schema> {
    let fields = schema.as_struct().fields().iter().cloned().chain([reserved::pos()]);
    Ok(Schema::builder().with_fields(fields).build()?)
}

/// Puts `_pos` behind the output columns unless it is there.
fn add_pos(context: &mut ScanContext) -> Result<(usize, bool)> {
    let fields = context.output.as_struct().fields();
    if let Some(at) = fields.iter().position(|f| f.id == reserved::POS) {
        return Ok((at, false));
    }
    let at = fields.len();
    let fields = fields.iter().cloned().chain([reserved::pos()]);
    let schema = Schema::builder().with_schema_id(context.output.schema_id()).with_fields(fields);
    context.output = Arc::new(schema.build()?);
    context.arrow = arrow_schema(&context.output)?;
    Ok((at, true))
}
