//! Leaf columns of batches by their way through structs.
//!
//! Pure.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::compute::nullif;

use crate::spec::{NestedFieldRef, Schema, Type};

/// The child indices that lead to a field through structs; `None` for a field below a list or
/// map, or one that the schema does not have.
pub(crate) fn leaf_path(schema: &Schema, field_id: i32) -> Option<Vec<usize>> {
    fn search(fields: &[NestedFieldRef], field_id: i32, path: &mut Vec<usize>) -> bool {
        for (index, field) in fields.iter().enumerate() {
            path.push(index);
            if field.id == field_id {
                return true;
            }
            if let Type::Struct(nested) = field.field_type.as_ref()
                && search(nested.fields(), field_id, path)
            {
                return true;
            }
            path.pop();
        }
        false
    }
    let mut path = Vec::new();
    search(schema.as_struct().fields(), field_id, &mut path).then_some(path)
}

/// The array at the end of a path through structs; a value below a null struct is null.
pub(crate) fn leaf_at(batch: &RecordBatch, path: &[usize]) -> Option<ArrayRef> {
    let (first, rest) = path.split_first()?;
    let mut array = batch.columns().get(*first)?.clone();
    let mut above: Option<NullBuffer> = None;
    for index in rest {
        above = NullBuffer::union(above.as_ref(), array.nulls());
        array = array.as_struct_opt()?.columns().get(*index)?.clone();
    }
    match above.filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) => nullif(&array, &BooleanArray::new(!nulls.inner(), None)).ok(),
        None => Some(array),
    }
}
