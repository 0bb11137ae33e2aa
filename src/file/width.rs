//! How wide the rows of a file are once they are decoded, as far as its footer tells.

use parquet::basic::{ConvertedType, Type as PhysicalType};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};

use super::select::GroupRows;

/// Bytes of a decoded row with these leaf columns, in the widest of these row groups. Short only of
/// columns that repeat texts in files that do not tell how long they are.
pub(super) fn row_bytes(footer: &ParquetMetaData, groups: &[GroupRows], leaves: &[usize]) -> u64 {
    let width = |group: &RowGroupMetaData| {
        let columns = leaves.iter().filter_map(|leaf| group.columns().get(*leaf));
        let bytes: u64 = columns.map(column_bytes).sum();
        bytes.div_ceil(number(group.num_rows()).max(1))
    };
    let groups = groups.iter().filter_map(|group| footer.row_groups().get(group.group));
    groups.map(width).max().unwrap_or(0)
}

fn column_bytes(column: &ColumnChunkMetaData) -> u64 {
    let each = match column.column_type() {
        _ if column.column_descr().converted_type() == ConvertedType::DECIMAL => 16,
        PhysicalType::BOOLEAN => 1,
        // Of texts: where they begin.
        PhysicalType::INT32 | PhysicalType::FLOAT | PhysicalType::BYTE_ARRAY => 4,
        PhysicalType::INT64 | PhysicalType::DOUBLE | PhysicalType::INT96 => 8,
        PhysicalType::FIXED_LEN_BYTE_ARRAY => {
            u64::try_from(column.column_descr().type_length()).unwrap_or(0)
        }
    };
    let texts = match (column.column_type(), column.unencoded_byte_array_data_bytes()) {
        (PhysicalType::BYTE_ARRAY, Some(bytes)) => number(bytes),
        (PhysicalType::BYTE_ARRAY, None) => number(column.uncompressed_size()),
        _ => 0,
    };
    number(column.num_values()).saturating_mul(each).saturating_add(texts)
}

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
