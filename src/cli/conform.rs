//! Columns as they come to columns as the table holds them.
//!
//! By name, nested ones too: what is missing becomes null, what is narrower or spelled as text
//! is cast, what does not fit is an error that names the column. Nothing is dropped silently.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, FixedSizeBinaryBuilder, ListArray, MapArray, RecordBatch, RecordBatchOptions,
    StringArray, StructArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use uuid::Uuid;

use crate::error::{Error, Result};

/// Brings a batch into the form of `target`: its columns, in its order, with its types.
///
/// # Errors
/// `InvalidInput` naming the column that is unknown, missing though required, or does not fit.
pub(super) fn conform(batch: &RecordBatch, target: &SchemaRef) -> Result<RecordBatch> {
    for field in batch.schema_ref().fields() {
        if target.field_with_name(field.name()).is_err() {
            let names: Vec<_> = target.fields().iter().map(|f| f.name().as_str()).collect();
            return Err(Error::invalid(format!("the table has no column `{}`", field.name()))
                .with_hint(format!("its columns are {}", names.join(", "))));
        }
    }
    let columns = target
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) => fit(column, field, field.name()),
            None => missing(field, field.name(), batch.num_rows()),
        })
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(target.clone(), columns, &options)?)
}

/// The schema in which text formats are read: what has no form of its own there is text.
pub(super) fn text_schema(target: &Schema) -> Schema {
    Schema::new(target.fields().iter().map(|f| text_field(f)).collect::<Fields>())
}

fn text_field(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::FixedSizeBinary(16) => DataType::Utf8,
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|f| Arc::new(text_field(f))).collect())
        }
        DataType::List(element) => DataType::List(Arc::new(text_field(element))),
        other => other.clone(),
    };
    // Required columns are checked when the batch is fitted, with an error that names them.
    Field::new(field.name(), data_type, true)
}

fn missing(field: &Field, path: &str, rows: usize) -> Result<ArrayRef> {
    if !field.is_nullable() && rows > 0 {
        return Err(Error::invalid(format!("the input lacks the required column `{path}`")));
    }
    Ok(new_null_array(field.data_type(), rows))
}

fn fit(column: &ArrayRef, field: &FieldRef, path: &str) -> Result<ArrayRef> {
    let fitted = fit_type(column, field.data_type(), path)?;
    if !field.is_nullable() && fitted.null_count() > 0 {
        let row = (0..fitted.len()).find(|i| fitted.is_null(*i)).unwrap_or(0);
        return Err(Error::invalid(format!("the required column `{path}` is null"))
            .with_context("row of the batch", row));
    }
    Ok(fitted)
}

fn fit_type(column: &ArrayRef, target: &DataType, path: &str) -> Result<ArrayRef> {
    if column.data_type() == target {
        return Ok(column.clone());
    }
    match (column.data_type(), target) {
        (DataType::Struct(_), DataType::Struct(fields)) => fit_struct(column, fields, path),
        (DataType::List(_), DataType::List(element)) => {
            let list: &ListArray = downcast(column, path)?;
            let values = fit(list.values(), element, &format!("{path}.element"))?;
            let offsets = list.offsets().clone();
            Ok(Arc::new(ListArray::try_new(
                element.clone(),
                offsets,
                values,
                list.nulls().cloned(),
            )?))
        }
        (DataType::LargeList(from), DataType::List(_)) => {
            let plain = cast(column, &DataType::List(from.clone()), path)?;
            fit_type(&plain, target, path)
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            fit_map(column, entries, *sorted, path)
        }
        (
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View,
            DataType::FixedSizeBinary(16),
        ) => parse_uuids(column, path),
        _ => cast(column, target, path),
    }
}

fn fit_struct(column: &ArrayRef, fields: &Fields, path: &str) -> Result<ArrayRef> {
    let source: &StructArray = downcast(column, path)?;
    if let Some(unknown) = source.fields().iter().find(|f| fields.find(f.name()).is_none()) {
        return Err(Error::invalid(format!("the table has no column `{path}.{}`", unknown.name())));
    }
    let columns = fields
        .iter()
        .map(|field| {
            let path = format!("{path}.{}", field.name());
            match source.column_by_name(field.name()) {
                // A null struct hides its children: only rows that are there must be complete.
                Some(child) if source.null_count() == 0 => fit(child, field, &path),
                Some(child) => fit_type(child, field.data_type(), &path),
                None => missing(field, &path, source.len()),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, source.nulls().cloned())?))
}

fn fit_map(column: &ArrayRef, entries: &FieldRef, sorted: bool, path: &str) -> Result<ArrayRef> {
    let source: &MapArray = downcast(column, path)?;
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(Error::internal("map entries are not a struct"));
    };
    let (Some(key), Some(value)) = (fields.first(), fields.get(1)) else {
        return Err(Error::internal("map entries lack key or value"));
    };
    let keys = fit(source.keys(), key, &format!("{path}.key"))?;
    let values = fit(source.values(), value, &format!("{path}.value"))?;
    let fitted = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
    let offsets = source.offsets().clone();
    let nulls = source.nulls().cloned();
    Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, fitted, nulls, sorted)?))
}

fn parse_uuids(column: &ArrayRef, path: &str) -> Result<ArrayRef> {
    let text = cast(column, &DataType::Utf8, path)?;
    let text: &StringArray = downcast(&text, path)?;
    let mut out = FixedSizeBinaryBuilder::with_capacity(text.len(), 16);
    for value in text {
        match value {
            Some(value) => {
                let uuid = Uuid::parse_str(value).map_err(|error| {
                    Error::invalid(format!("`{value}` in column `{path}` is no UUID"))
                        .with_source(error)
                })?;
                out.append_value(uuid.as_bytes())?;
            }
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn cast(column: &ArrayRef, target: &DataType, path: &str) -> Result<ArrayRef> {
    // Not `safe`: a value that does not fit is an error, not a null.
    let options = CastOptions { safe: false, ..Default::default() };
    cast_with_options(column, target, &options).map_err(|error| {
        Error::invalid(format!(
            "column `{path}` holds {}, which does not fit the table's {target}",
            column.data_type()
        ))
        .with_source(error)
    })
}

fn downcast<'a, T: 'static>(column: &'a ArrayRef, path: &str) -> Result<&'a T> {
    column
        .as_any()
        .downcast_ref()
        .ok_or_else(|| Error::internal("an array is not of its type").with_context("column", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, Int64Array};

    fn target() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("small", DataType::Int32, true),
            Field::new("key", DataType::FixedSizeBinary(16), true),
        ]))
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn columns_are_matched_by_name_widened_parsed_and_filled() {
        let uuid = "f79c3e09-677c-4bbd-a479-3f349cb785e7";
        let given = batch(vec![
            ("key", Arc::new(StringArray::from(vec![uuid])) as ArrayRef),
            ("id", Arc::new(Int32Array::from(vec![7]))),
        ]);
        let fitted = conform(&given, &target()).unwrap();
        assert_eq!(fitted.schema(), target());
        assert_eq!(fitted.column(0).as_ref(), &Int64Array::from(vec![7]));
        assert!(fitted.column(1).is_null(0));
    }

    #[test]
    fn a_value_that_does_not_fit_is_an_error_that_names_the_column() {
        let given = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
            ("small", Arc::new(Int64Array::from(vec![1 << 40]))),
        ]);
        let error = conform(&given, &target()).unwrap_err();
        assert!(error.to_string().contains("`small`"), "{error}");
    }

    #[test]
    fn unknown_missing_and_null_columns_are_refused_by_name() {
        let unknown = batch(vec![("nope", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
        assert!(conform(&unknown, &target()).unwrap_err().to_string().contains("`nope`"));
        let lacking = batch(vec![("small", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]);
        assert!(conform(&lacking, &target()).unwrap_err().to_string().contains("`id`"));
        let null = batch(vec![("id", Arc::new(Int64Array::from(vec![None])) as ArrayRef)]);
        assert!(conform(&null, &target()).unwrap_err().to_string().contains("`id` is null"));
    }
}
