//! The key of an upsert: which columns, as bytes, and back as rows of an equality delete.
//!
//! Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, FieldRef, SchemaRef as ArrowSchemaRef};
use arrow::row::{RowConverter, Rows, SortField};

use crate::error::{Error, Result};
use crate::file::{arrow_schema, leaf_at, leaf_path};
use crate::spec::{
    NestedField, NestedFieldRef, PrimitiveType, Schema, SchemaRef, StructType, Type,
};

/// The columns by which rows replace each other.
#[derive(Debug)]
pub(super) struct Key {
    /// The table's schema cut down to the key columns: what equality delete files hold.
    pub schema: SchemaRef,
    arrow: ArrowSchemaRef,
    /// Field ids in the order of the schema.
    ids: Vec<i32>,
    /// Ways to the leaves in whole rows, same order.
    in_rows: Vec<Vec<usize>>,
    /// Ways to the leaves in batches of keys.
    in_keys: Vec<Vec<usize>>,
    converter: RowConverter,
}

impl Key {
    /// The key of the given column names, or of the table's identifier fields if there are none.
    ///
    /// # Errors
    /// `InvalidInput` without any key, and for columns that cannot be in one (WR-3).
    pub(super) fn new(schema: &Schema, names: &[String]) -> Result<Self> {
        let chosen = chosen_ids(schema, names)?;
        let fields = prune(schema.as_struct().fields(), &chosen);
        let subset = Arc::new(Schema::builder().with_fields(fields).build()?);
        let mut ids = Vec::new();
        collect(subset.as_struct().fields(), &mut ids);
        let path = |schema: &Schema, id: i32| {
            leaf_path(schema, id).ok_or_else(|| Error::internal("a key column went missing"))
        };
        let in_rows = ids.iter().map(|id| path(schema, *id)).collect::<Result<Vec<_>>>()?;
        let in_keys = ids.iter().map(|id| path(&subset, *id)).collect::<Result<Vec<_>>>()?;
        let arrow = arrow_schema(&subset)?;
        let types = in_keys.iter().map(|path| {
            let empty = RecordBatch::new_empty(arrow.clone());
            leaf_at(&empty, path).map(|leaf| SortField::new(leaf.data_type().clone()))
        });
        let types = types.collect::<Option<Vec<_>>>();
        let types = types.ok_or_else(|| Error::internal("a key column went missing"))?;
        let converter = RowConverter::new(types)?;
        Ok(Self { schema: subset, arrow, ids, in_rows, in_keys, converter })
    }

    /// Field ids, ascending, as manifests list them.
    pub(super) fn equality_ids(&self) -> Vec<i32> {
        let ids: BTreeSet<i32> = self.ids.iter().copied().collect();
        ids.into_iter().collect()
    }

    /// True when the column is part of the key.
    pub(super) fn has(&self, field_id: i32) -> bool {
        self.ids.contains(&field_id)
    }

    /// The keys of whole rows, as bytes that compare like the keys.
    pub(super) fn of_rows(&self, batch: &RecordBatch) -> Result<Rows> {
        self.encode(batch, &self.in_rows)
    }

    /// The keys of a batch of keys.
    pub(super) fn of_keys(&self, batch: &RecordBatch) -> Result<Rows> {
        self.encode(batch, &self.in_keys)
    }

    fn encode(&self, batch: &RecordBatch, paths: &[Vec<usize>]) -> Result<Rows> {
        let leaves = paths.iter().map(|path| leaf_at(batch, path)).collect::<Option<Vec<_>>>();
        let leaves = leaves.ok_or_else(|| Error::internal("a batch lacks a key column"))?;
        Ok(self.converter.convert_columns(&leaves)?)
    }

    /// A batch of keys from their bytes.
    pub(super) fn decode<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<RecordBatch> {
        let parser = self.converter.parser();
        let leaves = self.converter.convert_rows(keys.map(|bytes| parser.parse(bytes)))?;
        let rows = leaves.first().map_or(0, |leaf| leaf.len());
        let mut leaves = leaves.into_iter();
        let columns = self
            .schema
            .as_struct()
            .fields()
            .iter()
            .zip(self.arrow.fields())
            .map(|(field, arrow)| rebuild(field, arrow, &mut leaves))
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.arrow.clone(), columns, &options)?)
    }
}

fn chosen_ids(schema: &Schema, names: &[String]) -> Result<BTreeSet<i32>> {
    let mut chosen: BTreeSet<i32> = BTreeSet::new();
    for name in names {
        let field = schema.field_by_name(name).ok_or_else(|| {
            Error::invalid("the table has no such key column").with_context("column", name)
        })?;
        chosen.insert(field.id);
    }
    if names.is_empty() {
        chosen.extend(schema.identifier_field_ids());
    }
    if chosen.is_empty() {
        return Err(Error::invalid(
            "an upsert needs a key, and the table has no identifier fields",
        )
        .with_hint("name the key columns in the options, or set identifier fields"));
    }
    for id in &chosen {
        let Some(field) = schema.field_by_id(*id) else { continue };
        let refuse = |why: &str| {
            Error::invalid(format!("column `{}` cannot be part of a key: {why}", field.name))
        };
        match field.field_type.as_ref() {
            Type::Primitive(PrimitiveType::Float | PrimitiveType::Double) => {
                return Err(refuse("floating numbers have no reliable equality"));
            }
            Type::Primitive(_) if leaf_path(schema, *id).is_some() => {}
            Type::Primitive(_) => return Err(refuse("it is inside a list or a map")),
            _ => return Err(refuse("it is not a plain value")),
        }
    }
    Ok(chosen)
}

/// Keeps the chosen leaves and the structs above them.
fn prune(fields: &[NestedFieldRef], chosen: &BTreeSet<i32>) -> Vec<NestedFieldRef> {
    let kept = fields.iter().filter_map(|field| match field.field_type.as_ref() {
        _ if chosen.contains(&field.id) => Some(field.clone()),
        Type::Struct(nested) => {
            let nested = prune(nested.fields(), chosen);
            let kept = Type::Struct(StructType::new(nested.clone()));
            let field = NestedField::new(field.id, &field.name, kept, field.required);
            (!nested.is_empty()).then(|| Arc::new(field))
        }
        _ => None,
    });
    kept.collect()
}

fn collect(fields: &[NestedFieldRef], ids: &mut Vec<i32>) {
    for field in fields {
        match field.field_type.as_ref() {
            Type::Struct(nested) => collect(nested.fields(), ids),
            _ => ids.push(field.id),
        }
    }
}

/// Puts leaves back into their structs. An optional struct is null where a leaf that it requires
/// is; elsewhere it is there, which readers that compare leaves cannot tell apart.
fn rebuild(
    field: &NestedField,
    arrow: &FieldRef,
    leaves: &mut impl Iterator<Item = ArrayRef>,
) -> Result<ArrayRef> {
    let (Type::Struct(nested), DataType::Struct(arrows)) =
        (field.field_type.as_ref(), arrow.data_type())
    else {
        return leaves.next().ok_or_else(|| Error::internal("a key has too few columns"));
    };
    let children = nested
        .fields()
        .iter()
        .zip(arrows)
        .map(|(field, arrow)| rebuild(field, arrow, leaves))
        .collect::<Result<Vec<_>>>()?;
    let mut nulls: Option<NullBuffer> = None;
    if !field.required {
        let demanded = children.iter().zip(nested.fields()).filter(|(_, f)| f.required);
        for (child, _) in demanded {
            nulls = NullBuffer::union(nulls.as_ref(), child.logical_nulls().as_ref());
        }
    }
    Ok(Arc::new(StructArray::try_new(arrows.clone(), children, nulls)?))
}
