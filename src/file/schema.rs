//! Iceberg types as Arrow types and as Parquet types: the exact shapes that batches have in
//! this library and that files get from it.
//!
//! Pure. One Iceberg type has one Arrow type here; whatever a file or a caller brings is
//! brought to it (see `convert`).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Schema as ArrowSchema, SchemaRef as ArrowSchemaRef, TimeUnit,
};
use parquet::basic::Type as PhysicalType;
use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit as ParquetUnit};
use parquet::schema::types::{SchemaDescriptor, Type as ParquetType, TypePtr};

use crate::error::{Error, Result};
use crate::spec::{NestedField, PrimitiveType, Schema, Type};

/// The key under which Arrow fields carry their Iceberg field id, as the Parquet crate does.
pub const FIELD_ID_KEY: &str = "PARQUET:field_id";

/// The zone of `timestamptz` in Arrow.
pub(crate) const UTC: &str = "+00:00";

/// The Arrow schema of a table or projection: field ids as metadata on every level.
///
/// `timestamptz` is `Timestamp(µs, "+00:00")`, `uuid` is `FixedSizeBinary(16)`, `time` is
/// `Time64(µs)`, `decimal` is `Decimal128`, lists hold `element`, maps `key_value`.
///
/// # Errors
/// `Unsupported` for types that Arrow cannot hold (a fixed type of 2 GiB and more).
pub fn arrow_schema(schema: &Schema) -> Result<ArrowSchemaRef> {
    let fields = schema.as_struct().fields().iter().map(|f| arrow_field(f));
    Ok(Arc::new(ArrowSchema::new(fields.collect::<Result<Vec<_>>>()?)))
}

/// One field with its id as metadata.
pub(crate) fn arrow_field(field: &NestedField) -> Result<FieldRef> {
    let data_type = arrow_type(&field.field_type)?;
    Ok(with_id(Field::new(&field.name, data_type, !field.required), field.id))
}

fn with_id(field: Field, id: i32) -> FieldRef {
    Arc::new(field.with_metadata(HashMap::from([(FIELD_ID_KEY.to_string(), id.to_string())])))
}

/// The Arrow type of an Iceberg type.
pub(crate) fn arrow_type(field_type: &Type) -> Result<DataType> {
    Ok(match field_type {
        Type::Primitive(primitive) => arrow_primitive(primitive)?,
        Type::Struct(fields) => {
            let fields = fields.fields().iter().map(|f| arrow_field(f));
            DataType::Struct(fields.collect::<Result<Fields>>()?)
        }
        Type::List(list) => {
            let element = &list.element_field;
            let data_type = arrow_type(&element.field_type)?;
            DataType::List(with_id(Field::new("element", data_type, !element.required), element.id))
        }
        Type::Map(map) => {
            let key = arrow_type(&map.key_field.field_type)?;
            let value = arrow_type(&map.value_field.field_type)?;
            let entries = Fields::from(vec![
                with_id(Field::new("key", key, false), map.key_field.id),
                with_id(Field::new("value", value, !map.value_field.required), map.value_field.id),
            ]);
            let entries = Field::new("key_value", DataType::Struct(entries), false);
            DataType::Map(Arc::new(entries), false)
        }
    })
}

/// The Arrow type of a primitive Iceberg type.
pub(crate) fn arrow_primitive(primitive: &PrimitiveType) -> Result<DataType> {
    Ok(match primitive {
        PrimitiveType::Boolean => DataType::Boolean,
        PrimitiveType::Int => DataType::Int32,
        PrimitiveType::Long => DataType::Int64,
        PrimitiveType::Float => DataType::Float32,
        PrimitiveType::Double => DataType::Float64,
        PrimitiveType::Decimal { precision, scale } => {
            let (Ok(precision), Ok(scale)) = (u8::try_from(*precision), i8::try_from(*scale))
            else {
                return Err(Error::unsupported(format!("type {primitive} is out of range")));
            };
            DataType::Decimal128(precision, scale)
        }
        PrimitiveType::Date => DataType::Date32,
        PrimitiveType::Time => DataType::Time64(TimeUnit::Microsecond),
        PrimitiveType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        PrimitiveType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        PrimitiveType::TimestampNs => DataType::Timestamp(TimeUnit::Nanosecond, None),
        PrimitiveType::TimestamptzNs => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
        PrimitiveType::String => DataType::Utf8,
        PrimitiveType::Uuid => DataType::FixedSizeBinary(16),
        PrimitiveType::Fixed(length) => match i32::try_from(*length) {
            Ok(length) => DataType::FixedSizeBinary(length),
            Err(_) => {
                return Err(Error::unsupported(format!("type {primitive} is out of range")));
            }
        },
        PrimitiveType::Binary => DataType::Binary,
    })
}

/// The Parquet schema of files that hold `schema` (FIL-1).
///
/// # Source
/// Iceberg spec, "Appendix A: Format-specific requirements, Parquet".
pub(crate) fn parquet_schema(schema: &Schema) -> Result<SchemaDescriptor> {
    let fields = schema.as_struct().fields().iter().map(|f| parquet_type(f, &f.name));
    let root = ParquetType::group_type_builder("table")
        .with_fields(fields.collect::<Result<Vec<_>>>()?)
        .build()?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}

fn parquet_type(field: &NestedField, name: &str) -> Result<TypePtr> {
    let repetition = if field.required { Repetition::REQUIRED } else { Repetition::OPTIONAL };
    let group = |logical: Option<LogicalType>, children: Vec<TypePtr>| {
        ParquetType::group_type_builder(name)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .with_id(Some(field.id))
            .with_fields(children)
            .build()
    };
    let repeated = |name: &str, children: Vec<TypePtr>| {
        ParquetType::group_type_builder(name)
            .with_repetition(Repetition::REPEATED)
            .with_fields(children)
            .build()
            .map(Arc::new)
    };
    let built = match field.field_type.as_ref() {
        Type::Primitive(primitive) => parquet_primitive(field.id, name, repetition, primitive)?,
        Type::Struct(fields) => {
            let children = fields.fields().iter().map(|f| parquet_type(f, &f.name));
            group(None, children.collect::<Result<Vec<_>>>()?)?
        }
        Type::List(list) => {
            let element = parquet_type(&list.element_field, "element")?;
            group(Some(LogicalType::List), vec![repeated("list", vec![element])?])?
        }
        Type::Map(map) => {
            let key = parquet_type(&map.key_field, "key")?;
            let value = parquet_type(&map.value_field, "value")?;
            group(Some(LogicalType::Map), vec![repeated("key_value", vec![key, value])?])?
        }
    };
    Ok(Arc::new(built))
}

fn parquet_primitive(
    id: i32,
    name: &str,
    repetition: Repetition,
    primitive: &PrimitiveType,
) -> Result<ParquetType> {
    let time =
        |utc: bool, unit: ParquetUnit| LogicalType::Timestamp { is_adjusted_to_u_t_c: utc, unit };
    let (physical, logical, length) = match primitive {
        PrimitiveType::Boolean => (PhysicalType::BOOLEAN, None, -1),
        PrimitiveType::Int => (PhysicalType::INT32, None, -1),
        PrimitiveType::Long => (PhysicalType::INT64, None, -1),
        PrimitiveType::Float => (PhysicalType::FLOAT, None, -1),
        PrimitiveType::Double => (PhysicalType::DOUBLE, None, -1),
        PrimitiveType::Date => (PhysicalType::INT32, Some(LogicalType::Date), -1),
        PrimitiveType::Time => (
            PhysicalType::INT64,
            Some(LogicalType::Time { is_adjusted_to_u_t_c: false, unit: ParquetUnit::MICROS }),
            -1,
        ),
        PrimitiveType::Timestamp => {
            (PhysicalType::INT64, Some(time(false, ParquetUnit::MICROS)), -1)
        }
        PrimitiveType::Timestamptz => {
            (PhysicalType::INT64, Some(time(true, ParquetUnit::MICROS)), -1)
        }
        PrimitiveType::TimestampNs => {
            (PhysicalType::INT64, Some(time(false, ParquetUnit::NANOS)), -1)
        }
        PrimitiveType::TimestamptzNs => {
            (PhysicalType::INT64, Some(time(true, ParquetUnit::NANOS)), -1)
        }
        PrimitiveType::String => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String), -1),
        PrimitiveType::Binary => (PhysicalType::BYTE_ARRAY, None, -1),
        PrimitiveType::Uuid => (PhysicalType::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid), 16),
        PrimitiveType::Fixed(length) => {
            let length = i32::try_from(*length)
                .map_err(|_| Error::unsupported(format!("type {primitive} is out of range")))?;
            (PhysicalType::FIXED_LEN_BYTE_ARRAY, None, length)
        }
        PrimitiveType::Decimal { precision, scale } => {
            return decimal(id, name, repetition, *precision, *scale);
        }
    };
    Ok(ParquetType::primitive_type_builder(name, physical)
        .with_repetition(repetition)
        .with_logical_type(logical)
        .with_length(length)
        .with_id(Some(id))
        .build()?)
}

fn decimal(
    id: i32,
    name: &str,
    repetition: Repetition,
    precision: u32,
    scale: u32,
) -> Result<ParquetType> {
    let out_of_range =
        || Error::unsupported(format!("type decimal({precision}, {scale}) is out of range"));
    if !(1..=38).contains(&precision) || scale > precision {
        return Err(out_of_range());
    }
    let (physical, length) = match precision {
        1..=9 => (PhysicalType::INT32, -1),
        10..=18 => (PhysicalType::INT64, -1),
        _ => {
            let bytes = Type::decimal_required_bytes(precision)?;
            (PhysicalType::FIXED_LEN_BYTE_ARRAY, i32::try_from(bytes).map_err(|_| out_of_range())?)
        }
    };
    let (precision, scale) = (precision as i32, scale as i32);
    Ok(ParquetType::primitive_type_builder(name, physical)
        .with_repetition(repetition)
        .with_converted_type(ConvertedType::DECIMAL)
        .with_logical_type(Some(LogicalType::Decimal { scale, precision }))
        .with_precision(precision)
        .with_scale(scale)
        .with_length(length)
        .with_id(Some(id))
        .build()?)
}
