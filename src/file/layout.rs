//! The columns of one Parquet file as a tree with field ids: from the file itself, from a name
//! mapping, or by position.
//!
//! Pure. In: the Arrow schema that the Parquet crate infers (without the schema an Arrow writer
//! may have embedded). Out: [`FileColumn`]s that a projection is matched against.

use std::ops::Range;

use arrow::datatypes::{DataType, Field, Fields, Schema as ArrowSchema};

use super::schema::FIELD_ID_KEY;
use crate::spec::{MappedField, NameMapping};

/// One column or nested field of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FileColumn {
    /// The Iceberg field id, if anything names one.
    pub id: Option<i32>,
    /// The name in the file.
    pub name: String,
    /// The type that decoding yields.
    pub data_type: DataType,
    /// The Parquet leaf columns below it.
    pub leaves: Range<usize>,
    /// Fields of a struct; the element of a list; key and value of a map.
    pub children: Vec<FileColumn>,
}

/// The columns of a file with ids resolved (FIL-4).
///
/// A file with any id is read by ids alone. One without takes `mapping` if there is one, else
/// the position of top-level columns, counted from one; nested fields then go by name.
///
/// # Source
/// Iceberg spec v2, "Column Projection" and "Name Mapping".
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FileLayout {
    /// Top-level columns in file order.
    pub columns: Vec<FileColumn>,
    /// How a field is found.
    pub matching: Matching,
}

/// How a column or nested field is found among its siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matching {
    /// By field id on every level.
    Ids,
    /// By field id on top, by name below.
    IdsThenNames,
    /// By name, and by field id where no sibling has the name: what callers hand in.
    Names,
}

impl FileLayout {
    pub(crate) fn new(schema: &ArrowSchema, mapping: Option<&NameMapping>) -> Self {
        let mut next_leaf = 0;
        let mut columns: Vec<_> =
            schema.fields().iter().map(|field| column(field, &mut next_leaf)).collect();
        let mut matching = Matching::Ids;
        if !columns.iter().any(has_id) {
            match mapping {
                Some(mapping) => {
                    let fields: Vec<&MappedField> = mapping.fields().iter().collect();
                    columns.iter_mut().for_each(|c| map_names(c, &fields));
                }
                None => {
                    matching = Matching::IdsThenNames;
                    for (column, id) in columns.iter_mut().zip(1..) {
                        column.id = Some(id);
                    }
                }
            }
        }
        Self { columns, matching }
    }

    /// The columns of a batch that a caller hands in.
    pub(crate) fn of_input(schema: &ArrowSchema) -> Self {
        let mut next_leaf = 0;
        let columns = schema.fields().iter().map(|field| column(field, &mut next_leaf)).collect();
        Self { columns, matching: Matching::Names }
    }
}

fn column(field: &Field, next_leaf: &mut usize) -> FileColumn {
    let start = *next_leaf;
    let children = match field.data_type() {
        DataType::Struct(fields) => columns(fields, next_leaf),
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::FixedSizeList(element, _) => vec![column(element, next_leaf)],
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => columns(fields, next_leaf),
            _ => Vec::new(),
        },
        _ => {
            *next_leaf += 1;
            Vec::new()
        }
    };
    FileColumn {
        id: field.metadata().get(FIELD_ID_KEY).and_then(|id| id.parse().ok()),
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        leaves: start..*next_leaf,
        children,
    }
}

fn columns(fields: &Fields, next_leaf: &mut usize) -> Vec<FileColumn> {
    fields.iter().map(|field| column(field, next_leaf)).collect()
}

fn has_id(column: &FileColumn) -> bool {
    column.id.is_some() || column.children.iter().any(has_id)
}

fn map_names(column: &mut FileColumn, fields: &[&MappedField]) {
    map_as(column, fields, &column.name.clone());
}

fn map_as(column: &mut FileColumn, fields: &[&MappedField], name: &str) {
    let Some(mapped) = fields.iter().find(|f| f.names().iter().any(|n| n == name)) else {
        return;
    };
    column.id = mapped.field_id();
    let nested: Vec<&MappedField> = mapped.fields().iter().map(|f| f.as_ref()).collect();
    // A mapping calls the parts of lists and maps by their role, whatever the file calls them.
    let roles: &[&str] = match column.data_type {
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => &["element"],
        DataType::Map(..) => &["key", "value"],
        _ => &[],
    };
    if roles.is_empty() {
        column.children.iter_mut().for_each(|c| map_names(c, &nested));
    } else {
        for (child, role) in column.children.iter_mut().zip(roles) {
            map_as(child, &nested, role);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn nested() -> ArrowSchema {
        let element = Field::new("array", DataType::Int32, true);
        ArrowSchema::new(vec![
            Field::new("a", DataType::Int32, true),
            Field::new("l", DataType::List(Arc::new(element)), true),
        ])
    }

    #[test]
    fn a_file_without_ids_takes_the_mapping_and_roles_of_nested_parts() {
        let element = MappedField::new(Some(8), vec!["element".into()], vec![]);
        let mapping = NameMapping::new(vec![
            MappedField::new(Some(5), vec!["old".into(), "a".into()], vec![]),
            MappedField::new(Some(7), vec!["l".into()], vec![element]),
        ]);
        let layout = FileLayout::new(&nested(), Some(&mapping));
        assert_eq!(layout.columns[0].id, Some(5));
        assert_eq!(layout.columns[1].id, Some(7));
        assert_eq!(layout.columns[1].children[0].id, Some(8));
        assert_eq!(layout.matching, Matching::Ids);
    }

    #[test]
    fn a_file_without_ids_and_mapping_goes_by_position() {
        let layout = FileLayout::new(&nested(), None);
        assert_eq!(layout.columns.iter().map(|c| c.id).collect::<Vec<_>>(), [Some(1), Some(2)]);
        assert_eq!(layout.columns[1].leaves, 1..2);
        assert_eq!(layout.matching, Matching::IdsThenNames);
    }
}
