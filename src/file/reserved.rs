//! Field ids that the specification reserves for columns no data file holds.

use std::sync::Arc;

use crate::spec::{NestedField, NestedFieldRef, PrimitiveType, Type};

/// `_file`: the location of the row's file.
pub const FILE: i32 = i32::MAX - 1;
/// `_pos`: the row's position in its file, counted from zero.
pub const POS: i32 = i32::MAX - 2;
/// `_deleted`: whether the row has been deleted.
pub const DELETED: i32 = i32::MAX - 3;
/// `_spec_id`: the partition spec of the row's file.
pub const SPEC_ID: i32 = i32::MAX - 4;
/// `_partition`: the partition of the row's file, as a struct.
pub const PARTITION: i32 = i32::MAX - 5;
/// `file_path` of position delete files.
pub const DELETE_FILE_PATH: i32 = i32::MAX - 101;
/// `pos` of position delete files.
pub const DELETE_POS: i32 = i32::MAX - 102;

/// The column `_pos`.
pub(crate) fn pos() -> NestedFieldRef {
    Arc::new(NestedField::required(POS, "_pos", Type::Primitive(PrimitiveType::Long)))
}

/// True for ids that are never read from a file, even if the file has such a column.
pub(crate) fn is_computed(id: i32) -> bool {
    (PARTITION..=FILE).contains(&id)
}
