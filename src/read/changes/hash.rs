//! Hashes of keys and of whole rows: 128 bits, so that equal hashes are taken for equal rows.

use arrow::array::{Array, ArrayRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use twox_hash::XxHash64;

use crate::deletes::KeyColumns;
use crate::error::Result;

const SEEDS: (u64, u64) = (0x006d_656c_7477_6174, 0x0065_7221_6963_6521);

/// Hashes the key columns of batches. Null equals null, as in equality deletes.
pub(in crate::read) fn key_hashes(keys: &KeyColumns, batch: &RecordBatch) -> Result<Vec<u128>> {
    hashes(keys.arrays(batch)?, batch.num_rows())
}

/// Hashes all columns of a batch but the one at `except`.
pub(super) fn row_hashes(batch: &RecordBatch, except: usize) -> Result<Vec<u128>> {
    let columns = batch.columns().iter().enumerate().filter(|(at, _)| *at != except);
    hashes(columns.map(|(_, column)| column.clone()).collect(), batch.num_rows())
}

fn hashes(columns: Vec<ArrayRef>, rows: usize) -> Result<Vec<u128>> {
    let field = |column: &ArrayRef| SortField::new(column.data_type().clone());
    let (plain, other): (Vec<ArrayRef>, Vec<ArrayRef>) =
        columns.into_iter().partition(|c| RowConverter::supports_fields(&[field(c)]));
    let mut hashes = vec![0u128; rows];
    if !plain.is_empty() {
        let converter = RowConverter::new(plain.iter().map(field).collect())?;
        let encoded = converter.convert_columns(&plain)?;
        for (hash, row) in hashes.iter_mut().zip(encoded.iter()) {
            *hash = hash128(0, row.as_ref());
        }
    }
    // Types without a row encoding, such as maps, are hashed as they print.
    for column in &other {
        let options = FormatOptions::default().with_null("\u{0}null");
        let formatter = ArrayFormatter::try_new(column, &options)?;
        for (row, hash) in hashes.iter_mut().enumerate() {
            let text = if column.is_null(row) {
                String::new()
            } else {
                format!("={}", formatter.value(row))
            };
            *hash = hash128(*hash, text.as_bytes());
        }
    }
    Ok(hashes)
}

/// Folds bytes into a hash.
fn hash128(before: u128, bytes: &[u8]) -> u128 {
    let (high, low) = ((before >> 64) as u64, before as u64);
    let high = XxHash64::oneshot(SEEDS.0 ^ high, bytes);
    let low = XxHash64::oneshot(SEEDS.1 ^ low, bytes);
    u128::from(high) << 64 | u128::from(low)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn equal_rows_hash_alike_and_shifted_values_do_not() {
        let names = StringArray::from(vec![Some("a"), Some("a"), Some(""), None]);
        let ids = Int64Array::from(vec![Some(1), Some(1), None, None]);
        let hashes = hashes(vec![Arc::new(ids), Arc::new(names)], 4).unwrap();
        assert_eq!(hashes[0], hashes[1]);
        assert_ne!(hashes[1], hashes[2]);
        assert_ne!(hashes[2], hashes[3]);
    }
}
