//! Schema evolution: add, drop, rename, widen, reorder, make optional, choose the key.
//!
//! Columns are bound by id, so none of this rewrites a file; ids are never used again.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::spec::{
    ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType,
    TableRequirement, Type,
};

use super::super::Table;
use super::super::commit::metadata_builder;
use super::{Change, apply};

/// A change of schema in the making. Columns are named by their full path, such as `address.zip`;
/// steps apply in the order given.
#[derive(Debug, Clone)]
#[must_use = "nothing changes before `commit` is awaited"]
pub struct SchemaUpdate {
    table: Table,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    Add { parent: Option<String>, name: String, field_type: Type, doc: Option<String> },
    Drop { name: String },
    Rename { name: String, to: String },
    Widen { name: String, to: PrimitiveType },
    Optional { name: String },
    Doc { name: String, doc: Option<String> },
    Move { name: String, after: Option<String> },
    Key { names: Vec<String> },
}

impl SchemaUpdate {
    pub(super) fn new(table: Table) -> Self {
        Self { table, steps: Vec::new() }
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Adds an optional column at the end, to the table or, for a dotted name, to a struct (also
    /// that of a list's elements or a map's values). Ids inside `field_type` are assigned anew.
    pub fn add_column(self, path: &str, field_type: Type, doc: Option<&str>) -> Self {
        let (parent, name) = match path.rsplit_once('.') {
            Some((parent, name)) => (Some(parent.to_string()), name.to_string()),
            None => (None, path.to_string()),
        };
        self.step(Step::Add { parent, name, field_type, doc: doc.map(str::to_string) })
    }

    /// Drops a column. Equality deletes that use it still work.
    pub fn drop_column(self, path: &str) -> Self {
        self.step(Step::Drop { name: path.into() })
    }

    /// Renames a column; `to` is its new last name.
    pub fn rename_column(self, path: &str, to: &str) -> Self {
        self.step(Step::Rename { name: path.into(), to: to.into() })
    }

    /// Widens a type: int to long, float to double, decimal to more digits.
    pub fn widen_column(self, path: &str, to: PrimitiveType) -> Self {
        self.step(Step::Widen { name: path.into(), to })
    }

    /// Allows nulls.
    pub fn make_optional(self, path: &str) -> Self {
        self.step(Step::Optional { name: path.into() })
    }

    /// Sets or removes a column's documentation.
    pub fn set_doc(self, path: &str, doc: Option<&str>) -> Self {
        self.step(Step::Doc { name: path.into(), doc: doc.map(str::to_string) })
    }

    /// Moves a column after a sibling, or to the front.
    pub fn move_column(self, path: &str, after: Option<&str>) -> Self {
        self.step(Step::Move { name: path.into(), after: after.map(str::to_string) })
    }

    /// Chooses the identifier fields: required primitive columns that name a row.
    pub fn set_identifier_fields<S: Into<String>>(
        self,
        names: impl IntoIterator<Item = S>,
    ) -> Self {
        self.step(Step::Key { names: names.into_iter().map(Into::into).collect() })
    }

    /// Makes the change.
    ///
    /// # Errors
    /// `InvalidInput` naming the column and why it cannot change so; then as any commit.
    pub async fn commit(self) -> Result<Table> {
        apply(&self.table, |base| {
            let schema = evolve(base, &self.steps)?;
            let requirements = vec![
                TableRequirement::CurrentSchemaIdMatch {
                    current_schema_id: base.metadata().current_schema_id(),
                },
                TableRequirement::LastAssignedFieldIdMatch {
                    last_assigned_field_id: base.metadata().last_column_id(),
                },
            ];
            Change::from_builder(metadata_builder(base).add_current_schema(schema)?, requirements)
        })
        .await
    }
}

/// The schema after all steps.
fn evolve(base: &Table, steps: &[Step]) -> Result<Schema> {
    let mut last_id = base.metadata().last_column_id();
    let mut schema = base.schema().as_ref().clone();
    for step in steps {
        schema = one_step(base, schema, step, &mut last_id)?;
    }
    Ok(schema)
}

fn one_step(base: &Table, schema: Schema, step: &Step, last_id: &mut i32) -> Result<Schema> {
    let mut key: Vec<i32> = schema.identifier_field_ids().collect();
    let fields = schema.as_struct().fields();
    let fields = match step {
        Step::Add { parent, name, field_type, doc } => {
            let full = parent.as_ref().map_or(name.clone(), |p| format!("{p}.{name}"));
            if schema.field_by_name(&full).is_some() {
                return Err(Error::invalid(format!("column `{full}` is there already"))
                    .with_hint("choose another name"));
            }
            *last_id += 1;
            let id = *last_id;
            let field_type = with_fresh_ids(field_type, last_id);
            let mut field = NestedField::optional(id, name, field_type);
            field.doc = doc.clone();
            let parent = parent.as_ref().map(|p| find(&schema, p)).transpose()?;
            add_field(fields, parent.as_deref(), &Arc::new(field))?
        }
        Step::Drop { name } => {
            let field = find(&schema, name)?;
            refuse_needed(base, &schema, name, &field)?;
            edit(fields, &|f| if f.id == field.id { Edit::Drop } else { Edit::Keep })
        }
        Step::Rename { name, to } => {
            let id = find(&schema, name)?.id;
            siblings(fields, id).ok_or_else(|| no_member(name, "renamed"))?;
            edit(fields, &|f| if f.id == id { renamed(f, to) } else { Edit::Keep })
        }
        Step::Widen { name, to } => {
            let field = find(&schema, name)?;
            check_widening(name, &field.field_type, to)?;
            edit(fields, &|f| if f.id == field.id { widened(f, to) } else { Edit::Keep })
        }
        Step::Optional { name } => {
            let id = find(&schema, name)?.id;
            if key.contains(&id) {
                return Err(Error::invalid(format!(
                    "column `{name}` is part of the key and must stay required"
                ))
                .with_hint("choose other identifier fields first"));
            }
            edit(fields, &|f| if f.id == id { optional(f) } else { Edit::Keep })
        }
        Step::Doc { name, doc } => {
            let id = find(&schema, name)?.id;
            edit(fields, &|f| if f.id == id { documented(f, doc) } else { Edit::Keep })
        }
        Step::Move { name, after } => {
            let id = find(&schema, name)?.id;
            let after = after.as_ref().map(|a| find(&schema, a)).transpose()?.map(|f| f.id);
            move_field(fields, id, after).ok_or_else(|| no_sibling(name))?
        }
        Step::Key { names } => {
            key = names.iter().map(|n| Ok(find(&schema, n)?.id)).collect::<Result<_>>()?;
            fields.to_vec()
        }
    };
    Ok(Schema::builder().with_fields(fields).with_identifier_field_ids(key).build()?)
}

fn find(schema: &Schema, name: &str) -> Result<NestedFieldRef> {
    schema.field_by_name(name).cloned().ok_or_else(|| {
        let names: Vec<&str> =
            schema.as_struct().fields().iter().map(|f| f.name.as_str()).collect();
        Error::invalid(format!("the table has no column `{name}`"))
            .with_hint(format!("its columns are {}", names.join(", ")))
    })
}

fn refuse_needed(base: &Table, schema: &Schema, name: &str, field: &NestedField) -> Result<()> {
    let mut inside = Vec::new();
    collect_ids(field, &mut inside);
    if schema.identifier_field_ids().any(|id| inside.contains(&id)) {
        return Err(Error::invalid(format!("column `{name}` is part of the key"))
            .with_hint("choose other identifier fields first"));
    }
    let spec = base.metadata().default_partition_spec();
    if let Some(partition) = spec.fields().iter().find(|f| inside.contains(&f.source_id)) {
        return Err(Error::invalid(format!(
            "column `{name}` is the source of partition field `{}`",
            partition.name
        ))
        .with_hint("remove the partition field first"));
    }
    let order = base.metadata().default_sort_order();
    if order.fields.iter().any(|f| inside.contains(&f.source_id)) {
        return Err(Error::invalid(format!("column `{name}` is part of the table's sort order"))
            .with_hint("give the table another sort order first"));
    }
    match siblings(schema.as_struct().fields(), field.id) {
        None => Err(no_member(name, "dropped")),
        Some(1) => Err(Error::invalid(format!("column `{name}` is the only one there"))
            .with_hint("drop what holds it, or add another column first")),
        Some(_) => Ok(()),
    }
}

/// How many fields the struct has, or the table, that a field is directly in; `None` for keys,
/// values and elements.
fn siblings(fields: &[NestedFieldRef], id: i32) -> Option<usize> {
    if fields.iter().any(|field| field.id == id) {
        return Some(fields.len());
    }
    fields.iter().find_map(|field| siblings_in(&field.field_type, id))
}

fn siblings_in(field_type: &Type, id: i32) -> Option<usize> {
    match field_type {
        Type::Primitive(_) => None,
        Type::Struct(s) => siblings(s.fields(), id),
        Type::List(l) => siblings_in(&l.element_field.field_type, id),
        Type::Map(m) => siblings_in(&m.key_field.field_type, id)
            .or_else(|| siblings_in(&m.value_field.field_type, id)),
    }
}

fn no_sibling(name: &str) -> Error {
    Error::invalid(format!("column `{name}` has no such sibling"))
        .with_hint("name a column of the same struct, or of the table")
}

fn no_member(name: &str, what: &str) -> Error {
    Error::invalid(format!("`{name}` is a part of a list or map and cannot be {what} alone"))
        .with_hint("name the list or map itself")
}

fn collect_ids(field: &NestedField, ids: &mut Vec<i32>) {
    ids.push(field.id);
    match field.field_type.as_ref() {
        Type::Primitive(_) => {}
        Type::Struct(s) => s.fields().iter().for_each(|f| collect_ids(f, ids)),
        Type::List(l) => collect_ids(&l.element_field, ids),
        Type::Map(m) => {
            collect_ids(&m.key_field, ids);
            collect_ids(&m.value_field, ids);
        }
    }
}

fn check_widening(name: &str, from: &Type, to: &PrimitiveType) -> Result<()> {
    use PrimitiveType as P;
    let allowed = match (from, to) {
        (Type::Primitive(from), to) if from == to => true,
        (Type::Primitive(P::Int), P::Long) | (Type::Primitive(P::Float), P::Double) => true,
        (
            Type::Primitive(P::Decimal { precision: a, scale: s }),
            P::Decimal { precision: b, scale: t },
        ) => s == t && b >= a,
        _ => false,
    };
    if allowed {
        return Ok(());
    }
    Err(Error::invalid(format!("column `{name}` cannot change from {from} to {to}"))
        .with_hint("types widen only: int to long, float to double, decimal to more digits"))
}

enum Edit {
    Keep,
    Drop,
    Replace(Box<NestedField>),
}

fn replaced(field: NestedField) -> Edit {
    Edit::Replace(Box::new(field))
}

fn renamed(field: &NestedField, to: &str) -> Edit {
    replaced(NestedField { name: to.to_string(), ..field.clone() })
}

fn widened(field: &NestedField, to: &PrimitiveType) -> Edit {
    let field_type = Box::new(Type::Primitive(to.clone()));
    replaced(NestedField { field_type, ..field.clone() })
}

fn optional(field: &NestedField) -> Edit {
    replaced(NestedField { required: false, ..field.clone() })
}

fn documented(field: &NestedField, doc: &Option<String>) -> Edit {
    replaced(NestedField { doc: doc.clone(), ..field.clone() })
}

/// Applies `change` to every field of the tree, parents before children.
fn edit(fields: &[NestedFieldRef], change: &dyn Fn(&NestedField) -> Edit) -> Vec<NestedFieldRef> {
    let one = |field: &NestedFieldRef| -> Option<NestedFieldRef> {
        let field = match change(field) {
            Edit::Drop => return None,
            Edit::Keep => field.as_ref().clone(),
            Edit::Replace(new) => *new,
        };
        let inner = |f: &NestedFieldRef| edit(std::slice::from_ref(f), change).pop();
        let field_type = match field.field_type.as_ref() {
            Type::Primitive(_) => field.field_type.clone(),
            Type::Struct(s) => Box::new(Type::Struct(StructType::new(edit(s.fields(), change)))),
            Type::List(l) => {
                let element = inner(&l.element_field).unwrap_or_else(|| l.element_field.clone());
                Box::new(Type::List(ListType::new(element)))
            }
            Type::Map(m) => {
                let key = inner(&m.key_field).unwrap_or_else(|| m.key_field.clone());
                let value = inner(&m.value_field).unwrap_or_else(|| m.value_field.clone());
                Box::new(Type::Map(MapType::new(key, value)))
            }
        };
        Some(Arc::new(NestedField { field_type, ..field }))
    };
    fields.iter().filter_map(one).collect()
}

fn add_field(
    fields: &[NestedFieldRef],
    parent: Option<&NestedField>,
    new: &NestedFieldRef,
) -> Result<Vec<NestedFieldRef>> {
    let Some(parent) = parent else {
        return Ok(fields.iter().cloned().chain([new.clone()]).collect());
    };
    let target = match parent.field_type.as_ref() {
        Type::Struct(_) => parent.id,
        Type::List(l) if matches!(*l.element_field.field_type, Type::Struct(_)) => {
            l.element_field.id
        }
        Type::Map(m) if matches!(*m.value_field.field_type, Type::Struct(_)) => m.value_field.id,
        _ => {
            return Err(Error::invalid(format!("column `{}` is no struct", parent.name))
                .with_hint("only structs take fields; a list or map of structs does, too"));
        }
    };
    Ok(edit(fields, &|field| match field.field_type.as_ref() {
        Type::Struct(s) if field.id == target => {
            let members = s.fields().iter().cloned().chain([new.clone()]).collect();
            let field_type = Box::new(Type::Struct(StructType::new(members)));
            replaced(NestedField { field_type, ..field.clone() })
        }
        _ => Edit::Keep,
    }))
}

/// Moves a field among its siblings; `None` when `after` is not one of them.
fn move_field(
    fields: &[NestedFieldRef],
    id: i32,
    after: Option<i32>,
) -> Option<Vec<NestedFieldRef>> {
    if let Some(at) = fields.iter().position(|f| f.id == id) {
        let mut siblings = fields.to_vec();
        let moved = siblings.remove(at);
        let to = match after {
            None => 0,
            Some(after) => siblings.iter().position(|f| f.id == after)? + 1,
        };
        siblings.insert(to, moved);
        return Some(siblings);
    }
    for (at, field) in fields.iter().enumerate() {
        if let Type::Struct(s) = field.field_type.as_ref()
            && let Some(members) = move_field(s.fields(), id, after)
        {
            let mut all = fields.to_vec();
            let field_type = Box::new(Type::Struct(StructType::new(members)));
            all[at] = Arc::new(NestedField { field_type, ..field.as_ref().clone() });
            return Some(all);
        }
    }
    None
}

/// The same type with ids after `last_id`, which moves on.
fn with_fresh_ids(field_type: &Type, last_id: &mut i32) -> Type {
    let mut fresh = |field: &NestedFieldRef| {
        *last_id += 1;
        let id = *last_id;
        let field_type = Box::new(with_fresh_ids(&field.field_type, last_id));
        Arc::new(NestedField { id, field_type, ..field.as_ref().clone() })
    };
    match field_type {
        Type::Primitive(_) => field_type.clone(),
        Type::Struct(s) => Type::Struct(StructType::new(s.fields().iter().map(fresh).collect())),
        Type::List(l) => Type::List(ListType::new(fresh(&l.element_field))),
        Type::Map(m) => {
            let key = fresh(&m.key_field);
            Type::Map(MapType::new(key, fresh(&m.value_field)))
        }
    }
}
