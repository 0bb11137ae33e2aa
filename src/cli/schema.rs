//! What a person writes about columns to an Iceberg schema: a JSON file, a data file to be like,
//! a type by its name.

use std::fs;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, TimeUnit};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::spec::{
    ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Type,
};

const TYPES: &str = "boolean, int, long, float, double, decimal(p,s), date, time, timestamp, \
                     timestamptz, string, uuid, fixed[n], binary, list<type>, map<type,type>, \
                     struct<name:type,…>";

/// Reads a schema file: Iceberg's own JSON, or `{"id": "long not null", "tags": "list<string>"}`.
///
/// # Errors
/// `InvalidInput` naming the file and the column.
pub(super) fn schema_from_file(path: &str, key: &[String]) -> Result<Schema> {
    let text = fs::read_to_string(path).map_err(|error| {
        Error::invalid(format!("schema file `{path}` cannot be read")).with_source(error)
    })?;
    parse_schema(&text, key).map_err(|e| e.with_context("file", path))
}

fn parse_schema(text: &str, key: &[String]) -> Result<Schema> {
    let value: Value = serde_json::from_str(text)
        .map_err(|e| Error::invalid("the schema file is not JSON").with_source(e))?;
    let Value::Object(object) = &value else {
        return Err(Error::invalid("the schema file holds no JSON object"));
    };
    if object.get("fields").is_some_and(Value::is_array) {
        let schema: Schema = serde_json::from_value(value)
            .map_err(|e| Error::invalid("this is no Iceberg schema").with_source(e))?;
        let named = schema.identifier_field_ids().filter_map(|id| schema.name_by_field_id(id));
        let key = if key.is_empty() { named.map(str::to_string).collect() } else { key.to_vec() };
        return build(schema.as_struct().fields().to_vec(), &key);
    }
    // serde_json keeps objects sorted; the order of columns is the file's own.
    let mut fields = Vec::new();
    for (name, declared) in ordered_entries(text)? {
        let (kind, required) = match declared.trim().strip_suffix("not null") {
            Some(kind) => (kind, true),
            None => (declared.as_str(), false),
        };
        let kind = parse_type(kind).map_err(|e| e.with_context("column", &name))?;
        fields.push(Arc::new(NestedField::new(0, name, kind, required)));
    }
    build(fields, key)
}

/// The string members of a JSON object in the order of the text.
fn ordered_entries(text: &str) -> Result<Vec<(String, String)>> {
    struct Entries(Vec<(String, String)>);
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Entries;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object of column names and types, such as {\"id\": \"long\"}")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = map.next_entry()? {
                entries.push(entry);
            }
            Ok(Entries(entries))
        }
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    serde::Deserializer::deserialize_map(&mut reader, Visitor)
        .map(|entries| entries.0)
        .map_err(|e| Error::invalid("a column needs a name and a type").with_source(e))
}

/// A type by its name, such as `decimal(9,2)` or `map<string,list<long>>`.
///
/// # Errors
/// `InvalidInput` quoting what is not a type.
pub(super) fn parse_type(text: &str) -> Result<Type> {
    let text = text.trim();
    let inner = |prefix: &str| {
        let body = text.strip_prefix(prefix)?.trim_start();
        body.strip_prefix('<')?.strip_suffix('>')
    };
    if let Some(element) = inner("list") {
        let element = NestedField::list_element(0, parse_type(element)?, false);
        return Ok(Type::List(ListType::new(Arc::new(element))));
    }
    if let Some(body) = inner("map") {
        let parts = split_top(body);
        let [key, value] = parts.as_slice() else {
            return Err(Error::invalid(format!("`{text}`: a map has a key and a value type")));
        };
        let key = NestedField::map_key_element(0, parse_type(key)?);
        let value = NestedField::map_value_element(0, parse_type(value)?, false);
        return Ok(Type::Map(MapType::new(Arc::new(key), Arc::new(value))));
    }
    if let Some(body) = inner("struct") {
        let fields = split_top(body).into_iter().map(|part| {
            let (name, kind) = part.split_once(':').ok_or_else(|| {
                Error::invalid(format!("`{part}`: a field of a struct is `name:type`"))
            })?;
            Ok(Arc::new(NestedField::optional(0, name.trim(), parse_type(kind)?)))
        });
        return Ok(Type::Struct(StructType::new(fields.collect::<Result<_>>()?)));
    }
    parse_primitive(text).map(Type::Primitive)
}

/// The name of a type, as [`parse_type`] reads it.
pub(super) fn type_name(kind: &Type) -> String {
    match kind {
        Type::Primitive(PrimitiveType::Fixed(length)) => format!("fixed[{length}]"),
        Type::Primitive(primitive) => primitive.to_string(),
        Type::List(list) => format!("list<{}>", type_name(&list.element_field.field_type)),
        Type::Map(map) => {
            let (key, value) = (&map.key_field.field_type, &map.value_field.field_type);
            format!("map<{},{}>", type_name(key), type_name(value))
        }
        Type::Struct(inner) => {
            let field = |f: &NestedFieldRef| format!("{}:{}", f.name, type_name(&f.field_type));
            let fields: Vec<String> = inner.fields().iter().map(field).collect();
            format!("struct<{}>", fields.join(","))
        }
    }
}

/// A primitive type by its name.
///
/// # Errors
/// `InvalidInput` quoting what is not a type.
pub(super) fn parse_primitive(text: &str) -> Result<PrimitiveType> {
    let name = text.trim().to_ascii_lowercase();
    let name = match name.as_str() {
        "integer" => "int",
        "bigint" => "long",
        "text" | "varchar" => "string",
        "bool" => "boolean",
        other => other,
    };
    serde_json::from_value(Value::String(name.into())).map_err(|_| {
        Error::invalid(format!("`{text}` is no type")).with_hint(format!("types are {TYPES}"))
    })
}

/// Splits at commas that are not inside `<…>`, `(…)` or `[…]`.
pub(super) fn split_top(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0i32, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '<' | '(' | '[' => depth += 1,
            '>' | ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() || !parts.is_empty() {
        parts.push(last);
    }
    parts
}

/// A schema like a data file's. The columns of `key` become required; the others may be null,
/// whatever the file says: tomorrow's file may lack a value.
///
/// # Errors
/// `Unsupported` naming a column whose type Iceberg v2 has not.
pub(super) fn schema_like(like: &ArrowSchema, key: &[String]) -> Result<Schema> {
    let fields = like.fields().iter().map(|field| iceberg_field(field)).collect::<Result<_>>()?;
    build(fields, key)
}

fn iceberg_field(field: &Field) -> Result<NestedFieldRef> {
    let kind =
        iceberg_type(field.data_type()).map_err(|e| e.with_context("column", field.name()))?;
    Ok(Arc::new(NestedField::optional(0, field.name(), kind)))
}

fn iceberg_type(arrow: &DataType) -> Result<Type> {
    let primitive = match arrow {
        DataType::Boolean => PrimitiveType::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 | DataType::Int32 => {
            PrimitiveType::Int
        }
        DataType::UInt32 | DataType::Int64 => PrimitiveType::Long,
        DataType::UInt64 => PrimitiveType::Decimal { precision: 20, scale: 0 },
        DataType::Float16 | DataType::Float32 => PrimitiveType::Float,
        DataType::Float64 => PrimitiveType::Double,
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s)
            if *s >= 0 =>
        {
            PrimitiveType::Decimal { precision: u32::from(*p), scale: u32::from(s.unsigned_abs()) }
        }
        DataType::Date32 | DataType::Date64 => PrimitiveType::Date,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => PrimitiveType::Time,
        DataType::Timestamp(_, None) => PrimitiveType::Timestamp,
        DataType::Timestamp(_, Some(_)) => PrimitiveType::Timestamptz,
        // A column of nothing but nulls says nothing; text can hold what comes.
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            PrimitiveType::String
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => PrimitiveType::Binary,
        DataType::FixedSizeBinary(n) => PrimitiveType::Fixed(u64::from(n.unsigned_abs())),
        DataType::Dictionary(_, value) => return iceberg_type(value),
        nested => return iceberg_nested(nested),
    };
    Ok(Type::Primitive(primitive))
}

fn iceberg_nested(arrow: &DataType) -> Result<Type> {
    Ok(match arrow {
        DataType::Struct(fields) => Type::Struct(StructType::new(
            fields.iter().map(|f| iceberg_field(f)).collect::<Result<_>>()?,
        )),
        DataType::List(element) | DataType::LargeList(element) => {
            let element = NestedField::list_element(0, iceberg_type(element.data_type())?, false);
            Type::List(ListType::new(Arc::new(element)))
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(Error::internal("map entries are not a struct"));
            };
            let kinds =
                fields.iter().map(|f| iceberg_type(f.data_type())).collect::<Result<Vec<_>>>()?;
            let Ok([key, value]) = <[Type; 2]>::try_from(kinds) else {
                return Err(Error::internal("map entries are not a key and a value"));
            };
            Type::Map(MapType::new(
                Arc::new(NestedField::map_key_element(0, key)),
                Arc::new(NestedField::map_value_element(0, value, false)),
            ))
        }
        other => return Err(Error::unsupported(format!("Iceberg v2 has no type for {other}"))),
    })
}

/// Numbers the fields and makes the key's columns required.
fn build(fields: Vec<NestedFieldRef>, key: &[String]) -> Result<Schema> {
    if let Some(missing) = key.iter().find(|k| !fields.iter().any(|f| f.name == **k)) {
        let names: Vec<_> = fields.iter().map(|f| f.name.as_str()).collect();
        return Err(Error::invalid(format!("the key names `{missing}`, which is no column"))
            .with_hint(format!("the columns are {}", names.join(", "))));
    }
    for (index, field) in fields.iter().enumerate() {
        if field.name.trim().is_empty() {
            return Err(Error::invalid(format!("column {} has no name", index + 1))
                .with_hint("give every column a name"));
        }
        if fields.iter().take(index).any(|before| before.name == field.name) {
            return Err(Error::invalid(format!("two columns are named `{}`", field.name))
                .with_hint("give each column a name of its own"));
        }
    }
    // Top-level columns take the first ids, in order, as other engines number them.
    let mut next = i32::try_from(fields.len()).unwrap_or(i32::MAX);
    let fields: Vec<NestedFieldRef> = (1..)
        .zip(fields)
        .map(|(id, field)| {
            let mut field = field.as_ref().clone();
            field.id = id;
            field.required |= key.contains(&field.name);
            field.field_type = Box::new(numbered(&field.field_type, &mut next));
            Arc::new(field)
        })
        .collect();
    let ids = fields.iter().filter(|f| key.contains(&f.name)).map(|f| f.id);
    let ids: Vec<i32> = ids.collect();
    Ok(Schema::builder().with_fields(fields).with_identifier_field_ids(ids).build()?)
}

fn numbered(kind: &Type, next: &mut i32) -> Type {
    let mut renumber = |field: &NestedFieldRef| {
        let mut field = field.as_ref().clone();
        *next += 1;
        field.id = *next;
        field.field_type = Box::new(numbered(&field.field_type, next));
        Arc::new(field)
    };
    match kind {
        Type::Primitive(_) => kind.clone(),
        Type::Struct(s) => Type::Struct(StructType::new(s.fields().iter().map(renumber).collect())),
        Type::List(list) => Type::List(ListType::new(renumber(&list.element_field))),
        Type::Map(map) => {
            let key = renumber(&map.key_field);
            Type::Map(MapType::new(key, renumber(&map.value_field)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_schema_keeps_the_order_of_the_file() {
        let text = r#"{"z": "long", "a": "decimal(9,2) not null", "m": "map<string,list<int>>"}"#;
        let schema = parse_schema(text, &["z".to_string()]).unwrap();
        let fields = schema.as_struct().fields();
        let names: Vec<_> = fields.iter().map(|f| (f.name.as_str(), f.required)).collect();
        assert_eq!(names, [("z", true), ("a", true), ("m", false)]);
        assert_eq!(schema.identifier_field_ids().collect::<Vec<_>>(), [1]);
        assert_eq!(schema.highest_field_id(), 6);
    }

    #[test]
    fn a_type_is_shown_by_the_name_it_is_read_by() {
        for name in [
            "decimal(9,2)",
            "list<map<string,struct<a:long,b:list<fixed[4]>>>>",
            "struct<when:timestamptz>",
        ] {
            let kind = parse_type(name).unwrap();
            assert_eq!(parse_type(&type_name(&kind)).unwrap(), kind);
            assert_eq!(type_name(&kind).replace(' ', ""), name);
        }
    }

    #[test]
    fn columns_without_a_name_or_with_the_name_of_another_are_refused() {
        for (names, word) in [(["a", "a"], "`a`"), (["a", " "], "column 2")] {
            let fields = names.map(|name| Field::new(name, DataType::Int64, true));
            let error = schema_like(&ArrowSchema::new(fields.to_vec()), &[]).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn icebergs_own_json_is_taken_too() {
        let text = r#"{"type":"struct","schema-id":0,"fields":[
            {"id":5,"name":"id","required":true,"type":"long"}],"identifier-field-ids":[5]}"#;
        let schema = parse_schema(text, &[]).unwrap();
        assert_eq!(schema.identifier_field_ids().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn what_is_no_type_is_quoted_with_the_column() {
        let error = parse_schema(r#"{"id": "lnog"}"#, &[]).unwrap_err();
        assert!(error.to_string().contains("`lnog`"), "{error}");
        assert!(error.to_string().contains("column: id"), "{error}");
    }

    #[test]
    fn a_key_that_is_no_column_is_refused() {
        assert!(parse_schema(r#"{"id": "long"}"#, &["nope".to_string()]).is_err());
    }
}
