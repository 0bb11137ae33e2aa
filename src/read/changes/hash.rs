//! Hashes of keys and of whole rows: 128 bits, so that equal hashes are taken for equal rows.

use arrow::array::{Array, ArrayRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use twox_hash::XxHash64;

use crate::deletes::{BytesColumn, KeyColumns, canonical, int_values};
use crate::error::Result;

const SEEDS: (u64, u64) = (0x006d_656c_7477_6174, 0x0065_7221_6963_6521);

/// Stands for a null where a key is one column.
const NULL: u128 = 1 << 64;

/// Hashes the key columns of batches. Null equals null and NaN equals NaN, as in equality deletes
/// (DEL-7). Single integers, dates and times stand for themselves: they never collide, and keys
/// that are neighbours stay so.
pub(super) fn key_hashes(keys: &KeyColumns, batch: &RecordBatch) -> Result<Vec<u128>> {
    let arrays = keys.arrays(batch)?;
    let [array] = arrays.as_slice() else {
        return hashes(canonical(&arrays), batch.num_rows());
    };
    if let Some((values, nulls)) = int_values(array) {
        let nulls = nulls.filter(|n| n.null_count() > 0);
        let hash = |row| match nulls.is_some_and(|n| n.is_null(row)) {
            true => NULL,
            false => u128::from(values.get(row) as u64),
        };
        return Ok((0..array.len()).map(hash).collect());
    }
    let Ok(bytes) = BytesColumn::new(array) else {
        return hashes(canonical(&arrays), batch.num_rows());
    };
    let hash = |row| bytes.get(row).map_or(NULL, |bytes| hash128(0, bytes));
    Ok((0..array.len()).map(hash).collect())
}

/// The same in 64 bits of equal worth, for key filters. Stored: a change needs a new version there.
pub(super) fn filter_hashes(
    keys: &KeyColumns,
    batch: &RecordBatch,
) -> Result<impl Iterator<Item = u64> + use<>> {
    Ok(key_hashes(keys, batch)?.into_iter().map(mixed))
}

/// One number for another (splitmix64), so that every bit of it depends on every bit of the hash.
pub(super) fn mixed(hash: u128) -> u64 {
    let value = (hash as u64 ^ (hash >> 64) as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
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

    use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray};

    use super::*;
    use crate::kit;
    use crate::spec::PrimitiveType;

    fn hashes_of(key_type: PrimitiveType, array: ArrayRef) -> Vec<u128> {
        let table = kit::table(vec![kit::optional(1, "key", key_type)]);
        let keys = KeyColumns::resolve(&[1], table.metadata()).unwrap();
        key_hashes(&keys, &kit::batch(vec![("key", 1, array)])).unwrap()
    }

    #[test]
    fn a_key_hashes_alike_in_every_file_and_unlike_any_other() {
        let ints = Int64Array::from(vec![Some(0), None, Some(-1), Some(i64::MIN), Some(1)]);
        let narrow = Int32Array::from(vec![Some(0), None, Some(-1), None, Some(1)]);
        let (wide, narrow) = (
            hashes_of(PrimitiveType::Long, Arc::new(ints)),
            hashes_of(PrimitiveType::Long, Arc::new(narrow)),
        );
        for row in [0, 1, 2, 4] {
            assert_eq!(wide[row], narrow[row], "a promoted integer keeps its hash");
        }
        let texts = StringArray::from(vec![Some(""), None, Some("a"), Some("\u{0}"), Some("b")]);
        for hashes in [wide, hashes_of(PrimitiveType::String, Arc::new(texts))] {
            let unlike: std::collections::HashSet<u128> = hashes.iter().copied().collect();
            assert_eq!(unlike.len(), 5);
            let mixed: std::collections::HashSet<u64> =
                hashes.iter().skip(2).map(|h| mixed(*h)).collect();
            assert_eq!(mixed.len(), 3, "filters take these");
        }
    }

    #[test]
    fn every_nan_is_one_key() {
        let odd = f64::from_bits(f64::NAN.to_bits() ^ 1);
        let floats = Float64Array::from(vec![f64::NAN, odd, -f64::NAN, 1.0]);
        let hashes = hashes_of(PrimitiveType::Double, Arc::new(floats));
        assert_eq!((hashes[0], hashes[1]), (hashes[1], hashes[2]));
        assert_ne!(hashes[2], hashes[3]);
    }

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
