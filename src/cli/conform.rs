//! Columns as they come to columns as the table holds them.
//!
//! By name, nested ones too: what is missing becomes null, what is narrower or spelled as text
//! is cast, what does not fit is an error that names column and row. Nothing is dropped or rounded
//! silently, but for floats, which take the nearest value, and digits finer than a microsecond.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryBuilder, ListArray, MapArray, RecordBatch,
    RecordBatchOptions, StringArray, StructArray, new_null_array,
};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Float32Type, Float64Type, Schema, SchemaRef,
};
use arrow::util::display::array_value_to_string;
use uuid::Uuid;

use super::spelled::{is_spelled, values};
use crate::error::{Error, Result};

/// Where a column is, for errors.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    /// The column's name; with dots below structs.
    pub(super) path: Cow<'a, str>,
    /// The number in the input of the column's first row; unknown inside lists and maps.
    pub(super) first_row: Option<u64>,
}

impl Place<'_> {
    fn child(&self, name: &str) -> Place<'static> {
        Place { path: format!("{}.{name}", self.path).into(), first_row: self.first_row }
    }

    fn element(&self, name: &str) -> Place<'static> {
        Place { first_row: None, ..self.child(name) }
    }
}

/// Brings a batch into the form of `target`: its columns, in its order, with its types.
/// `first_row` is the number of its first row in the input, for errors.
///
/// # Errors
/// `InvalidInput` naming the column that is unknown, named twice, missing though required, or
/// does not fit.
pub(super) fn conform(
    batch: &RecordBatch,
    target: &SchemaRef,
    first_row: u64,
) -> Result<RecordBatch> {
    let given = batch.schema_ref().fields();
    for (index, field) in given.iter().enumerate() {
        let name = field.name();
        if target.field_with_name(name).is_err() {
            let names: Vec<_> = target.fields().iter().map(|f| f.name().as_str()).collect();
            return Err(Error::invalid(format!("the table has no column `{name}`"))
                .with_hint(format!("its columns are {}", names.join(", "))));
        }
        if given.iter().take(index).any(|before| before.name() == name) {
            return Err(Error::invalid(format!("the input has two columns `{name}`"))
                .with_hint("give each column one name"));
        }
    }
    let columns = target
        .fields()
        .iter()
        .map(|field| {
            let place = Place { path: field.name().into(), first_row: Some(first_row) };
            match batch.column_by_name(field.name()) {
                Some(column) => fit(column, field, &place),
                None => missing(field, &place, batch.num_rows()),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(target.clone(), columns, &options)?)
}

/// The schema in which text formats are read: what a decoder might round, or has no form there,
/// is text, which is then read exactly.
pub(super) fn text_schema(target: &Schema) -> Schema {
    Schema::new(target.fields().iter().map(|f| text_field(f)).collect::<Fields>())
}

fn text_field(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::FixedSizeBinary(16) => DataType::Utf8,
        spelled if is_spelled(spelled) => DataType::Utf8,
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|f| Arc::new(text_field(f))).collect())
        }
        DataType::List(element) => DataType::List(Arc::new(text_field(element))),
        DataType::Map(entries, sorted) => DataType::Map(Arc::new(text_entries(entries)), *sorted),
        other => other.clone(),
    };
    // Required columns are checked when the batch is fitted, with an error that names them.
    Field::new(field.name(), data_type, true)
}

/// The entries of a map; Arrow wants them, and their keys, never null.
fn text_entries(entries: &Field) -> Field {
    let DataType::Struct(parts) = entries.data_type() else { return entries.clone() };
    let parts = parts.iter().enumerate().map(|(i, part)| text_field(part).with_nullable(i > 0));
    Field::new(entries.name(), DataType::Struct(parts.collect()), false)
}

fn missing(field: &Field, place: &Place<'_>, rows: usize) -> Result<ArrayRef> {
    if !field.is_nullable() && rows > 0 {
        let path = &place.path;
        return Err(Error::invalid(format!("the input lacks the required column `{path}`"))
            .with_hint("add it to every row"));
    }
    Ok(new_null_array(field.data_type(), rows))
}

fn fit(column: &ArrayRef, field: &FieldRef, place: &Place<'_>) -> Result<ArrayRef> {
    let fitted = fit_type(column, field.data_type(), place)?;
    if !field.is_nullable() && fitted.null_count() > 0 {
        let row = (0..fitted.len()).find(|i| fitted.is_null(*i)).unwrap_or(0);
        let error = Error::invalid(format!("the required column `{}` is null", place.path))
            .with_hint("give it a value in every row");
        return Err(match place.first_row {
            Some(first) => error.with_context("row", first + row as u64),
            None => error,
        });
    }
    Ok(fitted)
}

fn fit_type(column: &ArrayRef, target: &DataType, place: &Place<'_>) -> Result<ArrayRef> {
    use DataType as D;
    if column.data_type() == target {
        return Ok(column.clone());
    }
    match (column.data_type(), target) {
        (D::Dictionary(_, value), _) => fit_type(&cast(column, value, place)?, target, place),
        (D::Struct(_), D::Struct(fields)) => fit_struct(column, fields, place),
        (D::List(_), D::List(element)) => {
            let list: &ListArray = downcast(column, place)?;
            let values = fit(list.values(), element, &place.element("element"))?;
            let offsets = list.offsets().clone();
            Ok(Arc::new(ListArray::try_new(
                element.clone(),
                offsets,
                values,
                list.nulls().cloned(),
            )?))
        }
        (D::LargeList(from), D::List(_)) => {
            let plain = cast(column, &D::List(from.clone()), place)?;
            fit_type(&plain, target, place)
        }
        (D::Map(..), D::Map(entries, sorted)) => fit_map(column, entries, *sorted, place),
        (D::Utf8 | D::LargeUtf8 | D::Utf8View, D::FixedSizeBinary(16)) => {
            parse_uuids(column, place)
        }
        (D::Utf8 | D::LargeUtf8 | D::Utf8View, _) if is_spelled(target) => {
            let text = cast(column, &D::Utf8, place)?;
            values(downcast(&text, place)?, target, place)
        }
        _ => cast_exactly(column, target, place),
    }
}

fn fit_struct(column: &ArrayRef, fields: &Fields, place: &Place<'_>) -> Result<ArrayRef> {
    let source: &StructArray = downcast(column, place)?;
    if let Some(unknown) = source.fields().iter().find(|f| fields.find(f.name()).is_none()) {
        let path = place.child(unknown.name()).path;
        let names: Vec<_> = fields.iter().map(|f| f.name().as_str()).collect();
        return Err(Error::invalid(format!("the table has no column `{path}`"))
            .with_hint(format!("in `{}` its columns are {}", place.path, names.join(", "))));
    }
    let columns = fields
        .iter()
        .map(|field| {
            let place = place.child(field.name());
            match source.column_by_name(field.name()) {
                // A null struct hides its children: only rows that are there must be complete.
                Some(child) if source.null_count() == 0 => fit(child, field, &place),
                Some(child) => fit_type(child, field.data_type(), &place),
                None => missing(field, &place, source.len()),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, source.nulls().cloned())?))
}

fn fit_map(
    column: &ArrayRef,
    entries: &FieldRef,
    sorted: bool,
    place: &Place<'_>,
) -> Result<ArrayRef> {
    let source: &MapArray = downcast(column, place)?;
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(Error::internal("map entries are not a struct"));
    };
    let (Some(key), Some(value)) = (fields.first(), fields.get(1)) else {
        return Err(Error::internal("map entries lack key or value"));
    };
    let keys = fit(source.keys(), key, &place.element("key"))?;
    let values = fit(source.values(), value, &place.element("value"))?;
    let fitted = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
    let offsets = source.offsets().clone();
    let nulls = source.nulls().cloned();
    Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, fitted, nulls, sorted)?))
}

fn parse_uuids(column: &ArrayRef, place: &Place<'_>) -> Result<ArrayRef> {
    let text = cast(column, &DataType::Utf8, place)?;
    let text: &StringArray = downcast(&text, place)?;
    let mut out = FixedSizeBinaryBuilder::with_capacity(text.len(), 16);
    for (row, value) in text.iter().enumerate() {
        match value {
            Some(value) => {
                let uuid = Uuid::parse_str(value).map_err(|error| {
                    let example = "write such as f79c3e09-677c-4bbd-a479-3f349cb785e7";
                    place.refuse_as(row, &format!("'{value}'"), "uuid", example).with_source(error)
                })?;
                out.append_value(uuid.as_bytes())?;
            }
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// Casts, and refuses values that are others afterwards.
fn cast_exactly(column: &ArrayRef, target: &DataType, place: &Place<'_>) -> Result<ArrayRef> {
    use DataType as D;
    let from = column.data_type();
    // A number does not say whether it counts seconds, microseconds or days.
    if (from.is_numeric() && target.is_temporal()) || (from.is_temporal() && target.is_numeric()) {
        return Err(unfit(column, target, place)
            .with_hint("write dates and times as such, or as text: a number has no unit"));
    }
    let fitted = cast(column, target, place)?;
    let wrong = match target {
        D::Float32 | D::Float64 => {
            (0..column.len()).find(|row| is_infinite(&fitted, *row) && !is_infinite(column, *row))
        }
        D::Boolean | D::Decimal128(..) | D::Date32 => changed(column, &fitted)?,
        number if number.is_numeric() => changed(column, &fitted)?,
        _ => None,
    };
    match wrong {
        Some(row) => Err(place.refuse(row, &array_value_to_string(column, row)?, target)),
        None => Ok(fitted),
    }
}

/// The first row whose value is another after the cast.
fn changed(column: &ArrayRef, fitted: &ArrayRef) -> Result<Option<usize>> {
    let back = cast_with_options(fitted, column.data_type(), &CastOptions::default())?;
    let same = not_distinct(&back, column)?;
    Ok((0..same.len()).find(|row| !same.value(*row)))
}

fn is_infinite(column: &ArrayRef, row: usize) -> bool {
    column.is_valid(row)
        && match column.data_type() {
            DataType::Float32 => column.as_primitive::<Float32Type>().value(row).is_infinite(),
            DataType::Float64 => column.as_primitive::<Float64Type>().value(row).is_infinite(),
            _ => false,
        }
}

fn cast(column: &ArrayRef, target: &DataType, place: &Place<'_>) -> Result<ArrayRef> {
    // Not `safe`: a value that does not fit is an error, not a null.
    let options = CastOptions { safe: false, ..Default::default() };
    cast_with_options(column, target, &options).map_err(|error| {
        let hint = format!("give it values of type {target}");
        unfit(column, target, place).with_hint(hint).with_source(error)
    })
}

fn unfit(column: &ArrayRef, target: &DataType, place: &Place<'_>) -> Error {
    Error::invalid(format!(
        "column `{}` holds {}, which does not fit the table's {target}",
        place.path,
        column.data_type()
    ))
}

fn downcast<'a, T: 'static>(column: &'a ArrayRef, place: &Place<'_>) -> Result<&'a T> {
    column.as_any().downcast_ref().ok_or_else(|| {
        Error::internal("an array is not of its type").with_context("column", &place.path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::TimeUnit;

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
        let fitted = conform(&given, &target(), 1).unwrap();
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
        let error = conform(&given, &target(), 1).unwrap_err();
        assert!(error.to_string().contains("`small`"), "{error}");
    }

    #[test]
    fn unknown_missing_and_null_columns_are_refused_by_name() {
        let unknown = batch(vec![("nope", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
        assert!(conform(&unknown, &target(), 1).unwrap_err().to_string().contains("`nope`"));
        let lacking = batch(vec![("small", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]);
        assert!(conform(&lacking, &target(), 1).unwrap_err().to_string().contains("`id`"));
        let null = batch(vec![("id", Arc::new(Int64Array::from(vec![None])) as ArrayRef)]);
        assert!(conform(&null, &target(), 1).unwrap_err().to_string().contains("`id` is null"));
    }

    /// What becomes of one value in a column of another type.
    fn one(value: impl Array + 'static, target: DataType) -> Result<ArrayRef> {
        let target = Arc::new(Schema::new(vec![Field::new("c", target, true)]));
        let given = batch(vec![("c", Arc::new(value) as ArrayRef)]);
        Ok(conform(&given, &target, 41)?.column(0).clone())
    }

    #[test]
    fn no_value_becomes_another_on_its_way_into_a_column() {
        use DataType::*;
        let stamp = || Timestamp(TimeUnit::Microsecond, None);
        let decimal = |v| Decimal128Array::from(vec![v]).with_precision_and_scale(9, 3).unwrap();
        for (what, lost) in [
            ("1.5 as int", one(Float64Array::from(vec![1.5]), Int32)),
            ("1.239 as decimal(9,2)", one(decimal(1239), Decimal128(9, 2))),
            ("1e300 as float", one(Float64Array::from(vec![1e300]), Float32)),
            ("7 as boolean", one(Int64Array::from(vec![7]), Boolean)),
            (
                "5 o'clock as date",
                one(TimestampMicrosecondArray::from(vec![18_000_000_000]), Date32),
            ),
            ("7 as date", one(Int32Array::from(vec![7]), Date32)),
            ("7 as timestamp", one(Int64Array::from(vec![7]), stamp())),
            ("'1.5' as int", one(StringArray::from(vec!["1.5"]), Int32)),
        ] {
            let error = lost.expect_err(what);
            let told = error.to_string();
            assert!(told.contains("`c`") && error.hint().is_some(), "{what}: {told}");
            assert!(told.contains("row: 41") || what.starts_with("7 as"), "{what}: {told}");
        }
        for (what, kept, expected) in [
            (
                "2.0 as int",
                one(Float64Array::from(vec![2.0]), Int32),
                Arc::new(Int32Array::from(vec![2])) as ArrayRef,
            ),
            (
                "0.1 as float",
                one(Float64Array::from(vec![0.1]), Float32),
                Arc::new(Float32Array::from(vec![0.1])),
            ),
            (
                "an infinity",
                one(Float64Array::from(vec![f64::INFINITY]), Float32),
                Arc::new(Float32Array::from(vec![f32::INFINITY])),
            ),
            (
                "midnight as date",
                one(TimestampMicrosecondArray::from(vec![86_400_000_000]), Date32),
                Arc::new(Date32Array::from(vec![1])),
            ),
            (
                "null",
                one(Float64Array::from(vec![None]), Int32),
                Arc::new(Int32Array::from(vec![None])),
            ),
        ] {
            assert_eq!(&kept.expect(what), &expected, "{what}");
        }
    }

    #[test]
    fn two_columns_of_one_name_are_refused() {
        let id = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
        let error = conform(&batch(vec![("id", id()), ("id", id())]), &target(), 1).unwrap_err();
        assert!(error.to_string().contains("two columns `id`"), "{error}");
    }
}
