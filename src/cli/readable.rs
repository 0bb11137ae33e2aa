//! Values that Arrow holds in a form that people and text formats do not want: UUIDs become text
//! with hyphens, keys of maps become text, and JSON says NaN and the infinities as text instead of
//! null, in the spelling that `append` reads.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeBinaryArray, ListArray, MapArray,
    PrimitiveArray, RecordBatch, StringArray, StructArray, new_empty_array,
};
use arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Float32Type, Float64Type, Schema as ArrowSchema,
    SchemaRef as ArrowSchemaRef,
};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use arrow_json::writer::NullableEncoder;
use arrow_json::{Encoder, EncoderFactory, EncoderOptions};
use uuid::Uuid;

use crate::error::Result;
use crate::spec::{PrimitiveType, SchemaRef, Type};

/// Which columns are brought into a readable form, and what the batches are then.
pub(super) struct Readable {
    /// The schema behind the change.
    pub(super) schema: ArrowSchemaRef,
    changed: Vec<(usize, Type)>,
}

impl Readable {
    /// For batches of these columns, whose Iceberg types are found by name.
    ///
    /// # Errors
    /// `Internal` if columns are not of their types.
    pub(super) fn new(schema: &SchemaRef, columns: &ArrowSchemaRef) -> Result<Self> {
        let mut changed = Vec::new();
        let mut fields = Vec::with_capacity(columns.fields().len());
        for (index, field) in columns.fields().iter().enumerate() {
            let data_type = match schema.field_by_name(field.name()) {
                Some(known) => {
                    let kind = known.field_type.as_ref();
                    let empty = readable(&new_empty_array(field.data_type()), kind)?;
                    if empty.data_type() != field.data_type() {
                        changed.push((index, kind.clone()));
                    }
                    empty.data_type().clone()
                }
                None => field.data_type().clone(),
            };
            fields.push(field.as_ref().clone().with_data_type(data_type));
        }
        Ok(Self { schema: Arc::new(ArrowSchema::new(fields)), changed })
    }

    /// The batch in its readable form.
    ///
    /// # Errors
    /// `Internal` if columns are not of their types.
    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        if self.changed.is_empty() {
            return Ok(batch.clone());
        }
        let mut columns = batch.columns().to_vec();
        for (index, kind) in &self.changed {
            if let Some(column) = columns.get_mut(*index) {
                *column = readable(column, kind)?;
            }
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

fn readable(array: &ArrayRef, kind: &Type) -> Result<ArrayRef> {
    match (kind, array.data_type()) {
        (Type::Primitive(PrimitiveType::Uuid), DataType::FixedSizeBinary(_)) => {
            Ok(uuid_text(array.as_fixed_size_binary()))
        }
        (Type::Struct(inner), DataType::Struct(fields)) => {
            let source = array.as_struct();
            let columns = fields.iter().zip(source.columns()).map(|(field, column)| {
                match inner.field_by_name(field.name()) {
                    Some(known) => readable(column, &known.field_type),
                    None => Ok(column.clone()),
                }
            });
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let fields: Fields =
                fields.iter().zip(&columns).map(|(field, column)| of_type(field, column)).collect();
            let nulls = source.nulls().cloned();
            let length = source.len();
            Ok(Arc::new(StructArray::try_new_with_length(fields, columns, nulls, length)?))
        }
        (Type::List(inner), DataType::List(element)) => {
            let source = array.as_list::<i32>();
            let values = readable(source.values(), &inner.element_field.field_type)?;
            let element = of_type(element, &values);
            let (offsets, nulls) = (source.offsets().clone(), source.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(element, offsets, values, nulls)?))
        }
        (Type::Map(inner), DataType::Map(entries, sorted)) => {
            let source = array.as_map();
            let keys = key_text(&readable(source.keys(), &inner.key_field.field_type)?)?;
            let values = readable(source.values(), &inner.value_field.field_type)?;
            let DataType::Struct(parts) = entries.data_type() else { return Ok(array.clone()) };
            let columns = vec![keys, values];
            let parts: Fields =
                parts.iter().zip(&columns).map(|(part, column)| of_type(part, column)).collect();
            let fitted = StructArray::try_new(parts.clone(), columns, None)?;
            let entries =
                Arc::new(entries.as_ref().clone().with_data_type(DataType::Struct(parts)));
            let (offsets, nulls) = (source.offsets().clone(), source.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(entries, offsets, fitted, nulls, *sorted)?))
        }
        _ => Ok(array.clone()),
    }
}

fn of_type(field: &FieldRef, array: &ArrayRef) -> FieldRef {
    Arc::new(Field::clone(field).with_data_type(array.data_type().clone()))
}

/// Keys of JSON objects are text.
fn key_text(keys: &ArrayRef) -> Result<ArrayRef> {
    if *keys.data_type() == DataType::Utf8 {
        return Ok(keys.clone());
    }
    let text = (0..keys.len()).map(|row| array_value_to_string(keys, row).map(Some));
    Ok(Arc::new(text.collect::<Result<StringArray, _>>()?))
}

fn uuid_text(bytes: &FixedSizeBinaryArray) -> ArrayRef {
    let text: StringArray = bytes
        .iter()
        .map(|v| v.and_then(|v| Uuid::from_slice(v).ok()).map(|u| u.hyphenated().to_string()))
        .collect();
    Arc::new(text)
}

/// Writes NaN and the infinities as JSON text; Arrow would write null, which is another value.
#[derive(Debug)]
pub(super) struct EveryFloat;

impl EncoderFactory for EveryFloat {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        Ok(match array.data_type() {
            DataType::Float32 => encoder(array.as_primitive::<Float32Type>()),
            DataType::Float64 => encoder(array.as_primitive::<Float64Type>()),
            _ => None,
        })
    }
}

/// None where all values are finite: Arrow writes those as well.
fn encoder<T>(array: &PrimitiveArray<T>) -> Option<NullableEncoder<'_>>
where
    T: ArrowPrimitiveType,
    T::Native: Into<f64> + std::fmt::Debug,
{
    let all_finite = array.values().iter().all(|value| (*value).into().is_finite());
    (!all_finite).then(|| NullableEncoder::new(Box::new(Floats(array)), array.nulls().cloned()))
}

struct Floats<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<T: ArrowPrimitiveType> Encoder for Floats<'_, T>
where
    T::Native: Into<f64> + std::fmt::Debug,
{
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.0.value(row);
        let wide: f64 = value.into();
        // Writing to memory cannot fail.
        let _ = match wide {
            v if v.is_nan() => out.write_all(b"\"NaN\""),
            f64::INFINITY => out.write_all(b"\"Infinity\""),
            f64::NEG_INFINITY => out.write_all(b"\"-Infinity\""),
            _ => write!(out, "{value:?}"),
        };
    }
}
