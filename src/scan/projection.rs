//! The columns of a result: names to a schema that is a part of the table's.

use std::sync::Arc;

use crate::deletes::path_to;
use crate::error::{Error, Result};
use crate::expr::nearest;
use crate::file::reserved;
use crate::spec::{
    NestedField, NestedFieldRef, PrimitiveType, Schema, SchemaRef, StructType, TableMetadata, Type,
    partition_types,
};

/// The schema of the named columns, in the order of their first naming. `s.a` and `s.b` give one
/// struct `s` with two fields.
///
/// # Errors
/// `InvalidInput` for unknown names and for fields inside lists and maps.
pub(super) fn select(
    schema: &Schema,
    names: &[String],
    case_sensitive: bool,
    partition_struct: &StructType,
) -> Result<SchemaRef> {
    let mut fields = Vec::new();
    for name in names {
        let path = match metadata_column(name, partition_struct) {
            Some(field) if schema.field_by_name(name).is_none() => vec![field],
            _ => column(schema, name, case_sensitive)?,
        };
        add(&mut fields, &path);
    }
    let schema = Schema::builder().with_schema_id(schema.schema_id()).with_fields(fields);
    Ok(Arc::new(schema.build()?))
}

fn column(schema: &Schema, name: &str, case_sensitive: bool) -> Result<Vec<NestedFieldRef>> {
    let mut field = schema.field_by_name(name);
    if field.is_none() && !case_sensitive {
        field = schema.field_by_name_case_insensitive(name);
    }
    let Some(field) = field else {
        let known: Vec<&str> =
            schema.as_struct().fields().iter().map(|f| f.name.as_str()).collect();
        let error = Error::invalid(format!("unknown column `{name}`"));
        return Err(match nearest(name, known.iter().copied()) {
            Some(near) => error.with_hint(format!("did you mean `{near}`?")),
            None => error.with_hint(format!("the table has the columns {}", known.join(", "))),
        });
    };
    path_to(schema.as_struct(), field.id).ok_or_else(|| {
        Error::invalid(format!("column `{name}` is inside a list or map"))
            .with_hint("select the whole list or map")
    })
}

/// Adds a column, or merges it into a struct that is there in part.
fn add(fields: &mut Vec<NestedFieldRef>, path: &[NestedFieldRef]) {
    let Some((first, rest)) = path.split_first() else { return };
    let Some(found) = fields.iter_mut().find(|f| f.id == first.id) else {
        fields.push(if rest.is_empty() { first.clone() } else { with_children(first, &[], rest) });
        return;
    };
    if rest.is_empty() {
        *found = first.clone();
    } else if let Type::Struct(inner) = &*found.field_type {
        *found = with_children(first, inner.fields(), rest);
    }
}

fn with_children(
    field: &NestedField,
    children: &[NestedFieldRef],
    path: &[NestedFieldRef],
) -> NestedFieldRef {
    let mut children = children.to_vec();
    add(&mut children, path);
    let mut field = field.clone();
    field.field_type = Box::new(Type::Struct(StructType::new(children)));
    Arc::new(field)
}

fn metadata_column(name: &str, partition_struct: &StructType) -> Option<NestedFieldRef> {
    let primitive = |id, t| NestedField::required(id, name, Type::Primitive(t));
    let field = match name {
        "_file" => primitive(reserved::FILE, PrimitiveType::String),
        "_pos" => return Some(reserved::pos()),
        "_deleted" => primitive(reserved::DELETED, PrimitiveType::Boolean),
        "_spec_id" => primitive(reserved::SPEC_ID, PrimitiveType::Int),
        "_partition" => {
            let fields = Type::Struct(partition_struct.clone());
            NestedField::required(reserved::PARTITION, name, fields)
        }
        _ => return None,
    };
    Some(Arc::new(field))
}

/// The type of the `_partition` column: the fields of all specs, oldest spec first, each once.
pub(super) fn partition_struct(metadata: &TableMetadata) -> Result<StructType> {
    let mut specs: Vec<_> = metadata.partition_specs_iter().collect();
    specs.sort_by_key(|s| s.spec_id());
    let mut fields: Vec<NestedFieldRef> = Vec::new();
    for spec in specs {
        for (field, field_type) in spec.fields().iter().zip(partition_types(spec, metadata)?) {
            if fields.iter().any(|f| f.id == field.field_id) {
                continue;
            }
            let mut name = field.name.clone();
            if fields.iter().any(|f| f.name == name) {
                name = format!("{name}_{}", field.field_id);
            }
            fields.push(Arc::new(NestedField::optional(field.field_id, name, field_type)));
        }
    }
    Ok(StructType::new(fields))
}
