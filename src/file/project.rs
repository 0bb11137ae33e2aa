//! Output columns matched against the columns of one file, and batches brought to the output.
//!
//! Pure. In: a schema and a [`FileLayout`]. Out: a [`Projection`]: which Parquet leaves to
//! read, and how a decoded batch becomes the output batch. Matching is by field id (FIL-4);
//! what the file lacks comes from constants, defaults or is null (FIL-5).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, GenericListArray, MapArray, OffsetSizeTrait, RecordBatch,
    RecordBatchOptions, StructArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Fields, SchemaRef as ArrowSchemaRef};

use super::constant::constant;
use super::convert::{Mismatch, convert};
use super::layout::{FileColumn, FileLayout, Matching};
use super::reserved;
use super::schema::arrow_schema;
use crate::error::{Error, Result};
use crate::spec::{Literal, NestedField, NestedFieldRef, PrimitiveType, Schema, Type};

/// How batches of one file become batches of the output schema.
#[derive(Debug)]
pub(crate) struct Projection {
    /// The exact schema of the output.
    pub schema: ArrowSchemaRef,
    /// Parquet leaf columns to decode, ascending.
    pub leaves: Vec<usize>,
    columns: Vec<Source>,
}

/// Where an output column or nested field comes from.
#[derive(Debug)]
enum Source {
    /// The child at this index of what was decoded.
    File { index: usize, shape: Shape, name: String },
    /// The same value in every row.
    Constant(Option<Literal>),
    /// The physical position of the row in its file.
    Position,
}

/// How a decoded array becomes the output array.
#[derive(Debug)]
enum Shape {
    Leaf(PrimitiveType),
    Struct(Vec<Source>),
    List(Box<Shape>),
    Map(Box<Shape>, Box<Shape>),
}

impl Projection {
    /// Matches `schema` against a file.
    ///
    /// # Errors
    /// `CorruptData` when a column of the file has a type that cannot become the output's, or
    /// when a required column is nowhere to be had.
    pub(crate) fn new(
        schema: &Schema,
        layout: &FileLayout,
        constants: &HashMap<i32, Literal>,
        location: &str,
    ) -> Result<Self> {
        let mut leaves = BTreeSet::new();
        let fields = schema.as_struct().fields();
        let columns = Matcher { layout, constants, location, leaves: &mut leaves }.children(
            fields.iter().map(|f| f.as_ref()),
            &layout.columns,
            false,
        )?;
        Ok(Self { schema: arrow_schema(schema)?, leaves: leaves.into_iter().collect(), columns })
    }

    /// Matches `schema` against a batch that a caller hands in, of which nothing may be left over.
    ///
    /// # Errors
    /// As [`Projection::new`], and for columns that the schema does not have.
    pub(crate) fn of_input(schema: &Schema, layout: &FileLayout) -> Result<Self> {
        no_strangers(schema.as_struct().fields(), &layout.columns, "")?;
        Self::new(schema, layout, &HashMap::new(), "")
    }

    /// True when the output has the row's position.
    pub(crate) fn wants_positions(&self) -> bool {
        self.columns.iter().any(|c| matches!(c, Source::Position))
    }

    /// Brings decoded columns of `rows` rows to the output.
    ///
    /// # Errors
    /// `CorruptData` naming the column whose values do not fit.
    pub(crate) fn apply(
        &self,
        decoded: &[ArrayRef],
        rows: usize,
        positions: Option<ArrayRef>,
    ) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (source, field) in self.columns.iter().zip(self.schema.fields()) {
            columns.push(match (source, &positions) {
                (Source::Position, Some(positions)) => positions.clone(),
                (Source::Position, None) => {
                    return Err(Error::internal("row positions were not tracked"));
                }
                (source, _) => source.apply(decoded, field, rows)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|e| Error::corrupt(e.to_string()).with_source(e))
    }
}

struct Matcher<'a> {
    layout: &'a FileLayout,
    constants: &'a HashMap<i32, Literal>,
    location: &'a str,
    leaves: &'a mut BTreeSet<usize>,
}

impl Matcher<'_> {
    /// Matches the fields of one level.
    fn children<'f>(
        &mut self,
        fields: impl Iterator<Item = &'f NestedField>,
        file: &[FileColumn],
        nested: bool,
    ) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        for field in fields {
            let found = find(field, file, self.layout.matching, nested);
            sources.push(match found {
                Some(index) if !reserved::is_computed(field.id) => {
                    let column = &file[index];
                    let shape = self.shape(&field.field_type, column)?;
                    Source::File { index, shape, name: column.name.clone() }
                }
                _ => self.absent(field)?,
            });
        }
        if self.layout.matching == Matching::Names {
            return Ok(sources); // a batch in hand is whole
        }
        // The decoder leaves out what no leaf asks for: count only what it keeps.
        let kept: Vec<bool> = file
            .iter()
            .map(|column| self.leaves.range(column.leaves.clone()).next().is_some())
            .collect();
        for source in &mut sources {
            if let Source::File { index, .. } = source {
                *index = kept.iter().take(*index).filter(|kept| **kept).count();
            }
        }
        Ok(sources)
    }

    /// What stands for a column that the file does not have (FIL-5).
    fn absent(&self, field: &NestedField) -> Result<Source> {
        if field.id == reserved::POS {
            return Ok(Source::Position);
        }
        if let Some(value) = self.constants.get(&field.id) {
            return Ok(Source::Constant(Some(value.clone())));
        }
        match field.id {
            reserved::FILE => {
                return Ok(Source::Constant(Some(Literal::string(self.location))));
            }
            reserved::DELETED => return Ok(Source::Constant(Some(Literal::bool(false)))),
            _ => {}
        }
        if let Some(default) = &field.initial_default {
            return Ok(Source::Constant(Some(default.clone())));
        }
        if field.required {
            return Err(Error::corrupt("a required column is missing")
                .with_context("column", &field.name)
                .with_context("field id", field.id));
        }
        Ok(Source::Constant(None))
    }

    fn shape(&mut self, field_type: &Type, column: &FileColumn) -> Result<Shape> {
        let before = self.leaves.range(column.leaves.clone()).count();
        let shape = match (field_type, &column.data_type, column.children.as_slice()) {
            (Type::Primitive(primitive), data_type, []) if !data_type.is_nested() => {
                self.leaves.extend(column.leaves.clone());
                Shape::Leaf(primitive.clone())
            }
            (Type::Struct(fields), DataType::Struct(_), children) => {
                let fields = fields.fields().iter().map(|f| f.as_ref());
                Shape::Struct(self.children(fields, children, true)?)
            }
            (
                Type::List(list),
                DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..),
                [element],
            ) => Shape::List(Box::new(self.shape(&list.element_field.field_type, element)?)),
            (Type::Map(map), DataType::Map(..), [key, value]) => Shape::Map(
                Box::new(self.shape(&map.key_field.field_type, key)?),
                Box::new(self.shape(&map.value_field.field_type, value)?),
            ),
            _ => return Err(unfit(&column.name, &column.data_type, field_type)),
        };
        // A struct of which only new fields are wanted still needs its own nulls: read one leaf.
        if self.leaves.range(column.leaves.clone()).count() == before && !column.leaves.is_empty() {
            self.leaves.insert(column.leaves.start);
        }
        Ok(shape)
    }
}

/// The index of the column that is `field`.
fn find(
    field: &NestedField,
    file: &[FileColumn],
    matching: Matching,
    nested: bool,
) -> Option<usize> {
    let by_id = || file.iter().position(|column| column.id == Some(field.id));
    let by_name = || file.iter().position(|column| column.name == field.name);
    match matching {
        Matching::Ids => by_id(),
        Matching::IdsThenNames if nested => by_name(),
        Matching::IdsThenNames => by_id(),
        Matching::Names => by_name().or_else(by_id),
    }
}

/// Refuses columns of a batch that no field of the table takes.
fn no_strangers(fields: &[NestedFieldRef], columns: &[FileColumn], above: &str) -> Result<()> {
    let mut taken = vec![false; columns.len()];
    for field in fields {
        let Some(index) = find(field, columns, Matching::Names, true) else { continue };
        if let Some(taken) = taken.get_mut(index) {
            *taken = true;
        }
        let path = format!("{above}{}.", field.name);
        if let (Type::Struct(nested), Some(column)) =
            (field.field_type.as_ref(), columns.get(index))
        {
            no_strangers(nested.fields(), &column.children, &path)?;
        }
    }
    for (column, taken) in columns.iter().zip(taken) {
        if !taken {
            return Err(Error::invalid("the table has no such column")
                .with_context("column", format!("{above}{}", column.name))
                .with_hint("leave the column out, or add it to the table's schema first"));
        }
    }
    Ok(())
}

impl Source {
    fn apply(&self, decoded: &[ArrayRef], field: &FieldRef, rows: usize) -> Result<ArrayRef> {
        match self {
            Self::File { index, shape, name } => {
                let array = decoded.get(*index).ok_or_else(|| {
                    Error::internal("a decoded column is missing").with_context("column", name)
                })?;
                shape.apply(array, field.data_type()).map_err(|e| e.with_context("column", name))
            }
            Self::Constant(value) => constant(value.as_ref(), field.data_type(), rows),
            Self::Position => Err(Error::unsupported("row positions inside a struct")),
        }
    }
}

impl Shape {
    /// Values are shared wherever the type is right already.
    fn apply(&self, array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        match (self, to) {
            (Self::Leaf(primitive), _) => convert(array, primitive).map_err(|e| match e {
                Mismatch::Type => {
                    let wanted = Type::Primitive(primitive.clone());
                    unfit("", array.data_type(), &wanted)
                }
                Mismatch::Value(words) => Error::corrupt(words),
            }),
            (Self::Struct(sources), DataType::Struct(fields)) => {
                struct_array(array, sources, fields)
            }
            (Self::List(element), DataType::List(field)) => match array.data_type() {
                DataType::List(_) => list::<i32>(array.as_list(), element, field),
                _ => {
                    let inner = array_element_field(array.data_type())?;
                    let plain = cast(array, &DataType::List(inner))?;
                    list::<i32>(plain.as_list(), element, field)
                }
            },
            (Self::Map(key, value), DataType::Map(entries, _)) => {
                map_array(array, key, value, entries)
            }
            _ => Err(Error::internal("projection and output schema differ")),
        }
    }
}

fn array_element_field(data_type: &DataType) -> Result<FieldRef> {
    match data_type {
        DataType::LargeList(field) | DataType::FixedSizeList(field, _) => Ok(field.clone()),
        other => Err(Error::corrupt(format!("a list was decoded as {other}"))),
    }
}

fn struct_array(array: &ArrayRef, sources: &[Source], fields: &Fields) -> Result<ArrayRef> {
    let Some(array) = array.as_struct_opt() else {
        return Err(Error::corrupt(format!("a struct was decoded as {}", array.data_type())));
    };
    if fields.is_empty() {
        let empty = StructArray::new_empty_fields(array.len(), array.nulls().cloned());
        return Ok(Arc::new(empty));
    }
    let columns = sources
        .iter()
        .zip(fields)
        .map(|(source, field)| source.apply(array.columns(), field, array.len()))
        .collect::<Result<Vec<_>>>()?;
    let built = StructArray::try_new(fields.clone(), columns, array.nulls().cloned());
    Ok(Arc::new(built.map_err(|e| Error::corrupt(e.to_string()))?))
}

fn list<O: OffsetSizeTrait>(
    array: &GenericListArray<O>,
    element: &Shape,
    field: &FieldRef,
) -> Result<ArrayRef> {
    let values = element.apply(array.values(), field.data_type())?;
    let built = GenericListArray::<O>::try_new(
        field.clone(),
        array.offsets().clone(),
        values,
        array.nulls().cloned(),
    );
    Ok(Arc::new(built.map_err(|e| Error::corrupt(e.to_string()))?))
}

fn map_array(array: &ArrayRef, key: &Shape, value: &Shape, entries: &FieldRef) -> Result<ArrayRef> {
    let (Some(array), DataType::Struct(fields)) = (array.as_map_opt(), entries.data_type()) else {
        return Err(Error::corrupt(format!("a map was decoded as {}", array.data_type())));
    };
    let [key_field, value_field] = fields.as_ref() else {
        return Err(Error::internal("a map has a key and a value"));
    };
    let columns = vec![
        key.apply(array.keys(), key_field.data_type())?,
        value.apply(array.values(), value_field.data_type())?,
    ];
    let built = StructArray::try_new(fields.clone(), columns, None).and_then(|entry_array| {
        let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
        MapArray::try_new(entries.clone(), offsets, entry_array, nulls, false)
    });
    Ok(Arc::new(built.map_err(|e| Error::corrupt(e.to_string()))?))
}

fn unfit(name: &str, found: &DataType, wanted: &Type) -> Error {
    let error = Error::corrupt(format!("found {found} where the table has {wanted}"));
    if name.is_empty() { error } else { error.with_context("column", name) }
}
