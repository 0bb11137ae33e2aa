//! Bloom filters of row groups: a proof that none of a filter's values is in a column.
//!
//! Asked for `=` and `IN` after statistics have had their say. A filter only saves work, so one
//! that is broken, or larger than what it could save, is left alone (FIL-13).

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as PhysicalType};
use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::schema::types::ColumnDescriptor;

use super::prune::unsigned;
use super::select::GroupRows;
use crate::error::Result;
use crate::spec::{PrimitiveLiteral, PrimitiveType};
use crate::storage::Storage;

/// A filter must not be larger than this part of the bytes it may save.
const WORTHWHILE_PART: u64 = 2;

/// The Bloom filters of some columns, by row group and leaf column.
#[derive(Debug, Default)]
pub(super) struct BloomFilters(HashMap<(usize, usize), BloomFilter>);

/// The Bloom filter of one column in one row group.
#[derive(Debug)]
pub(super) struct BloomFilter {
    bits: Sbbf,
    form: Form,
}

/// How a column writes its values, as far as its filter hashes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Int32,
    Int64,
    /// Bytes as they are; big-endian numbers of this many bytes.
    Bytes(Option<usize>),
}

impl BloomFilters {
    /// Fetches the filters of `leaves` in all of `groups` with one request for near ranges.
    /// `decoded` are the leaf columns that will be read where no filter says otherwise.
    pub(super) async fn fetch(
        storage: &Storage,
        location: &str,
        metadata: &ParquetMetaData,
        groups: &[GroupRows],
        leaves: &[(usize, PrimitiveType)],
        decoded: &[usize],
    ) -> Result<Self> {
        let mut found = Vec::new();
        for group in groups {
            let Some(columns) = metadata.row_groups().get(group.group) else { continue };
            let most = bytes_of(columns, decoded) / WORTHWHILE_PART;
            for (leaf, kind) in leaves {
                let Some(chunk) = columns.columns().get(*leaf) else { continue };
                let Some(form) = form(chunk.column_descr(), kind) else { continue };
                let place = place(chunk).filter(|p| p.end - p.start <= most);
                found.extend(place.map(|place| (group.group, *leaf, form, place)));
            }
        }
        if found.is_empty() {
            return Ok(Self::default());
        }
        let ranges: Vec<Range<u64>> = found.iter().map(|(.., place)| place.clone()).collect();
        let Ok(bytes) = storage.read_ranges(location, &ranges).await else {
            tracing::debug!(location, "the Bloom filters are not where the footer says");
            return Ok(Self::default());
        };
        let filters = found.into_iter().zip(bytes).filter_map(|((group, leaf, form, _), bytes)| {
            Some(((group, leaf), BloomFilter { bits: decode(&bytes)?, form }))
        });
        Ok(Self(filters.collect()))
    }

    pub(super) fn get(&self, group: usize, leaf: usize) -> Option<&BloomFilter> {
        self.0.get(&(group, leaf))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl BloomFilter {
    /// True when the column certainly does not hold the value.
    pub(super) fn excludes(&self, value: &PrimitiveLiteral) -> bool {
        use PrimitiveLiteral as L;
        match (self.form, value) {
            (Form::Int32, value) => match whole(value).map(i32::try_from) {
                Some(Ok(number)) => !self.bits.check(&number),
                Some(Err(_)) => true, // the column is too narrow to hold it
                None => false,
            },
            (Form::Int64, value) => match whole(value).map(i64::try_from) {
                Some(Ok(number)) => !self.bits.check(&number),
                Some(Err(_)) => true,
                None => false,
            },
            (Form::Bytes(None), L::String(text)) => !self.bits.check(text.as_bytes()),
            (Form::Bytes(None), L::Binary(bytes)) => !self.bits.check(bytes.as_slice()),
            (Form::Bytes(None), L::UInt128(uuid)) => !self.bits.check(&uuid.to_be_bytes()[..]),
            (Form::Bytes(Some(width)), L::Int128(number)) => match in_bytes(*number, width) {
                Some(bytes) => !self.bits.check(bytes.as_slice()),
                None => true,
            },
            _ => false,
        }
    }
}

fn whole(value: &PrimitiveLiteral) -> Option<i128> {
    match value {
        PrimitiveLiteral::Int(number) => Some(i128::from(*number)),
        PrimitiveLiteral::Long(number) => Some(i128::from(*number)),
        PrimitiveLiteral::Int128(number) => Some(*number),
        _ => None,
    }
}

/// A number as big-endian two's complement of `width` bytes; `None` if it does not fit.
fn in_bytes(number: i128, width: usize) -> Option<Vec<u8>> {
    let bytes = number.to_be_bytes();
    let sign = if number < 0 { 0xFF } else { 0 };
    let Some(spare) = bytes.len().checked_sub(width) else {
        let mut wide = vec![sign; width - bytes.len()];
        wide.extend_from_slice(&bytes);
        return Some(wide);
    };
    let (dropped, kept) = bytes.split_at(spare);
    let fits = dropped.iter().all(|b| *b == sign)
        && kept.first().is_some_and(|first| (first & 0x80 != 0) == (number < 0));
    fits.then(|| kept.to_vec())
}

/// The form of a column of the table's type `kind`; `None` where equal values may be written in
/// different ways, or differ in the file from what they are in the table.
fn form(column: &ColumnDescriptor, kind: &PrimitiveType) -> Option<Form> {
    use PrimitiveType as T;
    let whole = || match column.physical_type() {
        PhysicalType::INT32 => Some(Form::Int32),
        PhysicalType::INT64 => Some(Form::Int64),
        _ => None,
    };
    match (kind, column.physical_type()) {
        (T::Int | T::Long | T::Date, _) if !unsigned(column) => whole(),
        (T::Time | T::Timestamp | T::Timestamptz, PhysicalType::INT64) if in_micros(column) => {
            Some(Form::Int64)
        }
        (T::Decimal { scale, .. }, physical)
            if i32::try_from(*scale).ok() == Some(column.type_scale()) =>
        {
            match physical {
                PhysicalType::FIXED_LEN_BYTE_ARRAY => {
                    let width = usize::try_from(column.type_length()).ok()?;
                    Some(Form::Bytes(Some(width)))
                }
                _ => whole(),
            }
        }
        (T::String | T::Binary, PhysicalType::BYTE_ARRAY)
        | (T::Uuid | T::Fixed(_), PhysicalType::FIXED_LEN_BYTE_ARRAY) => Some(Form::Bytes(None)),
        _ => None,
    }
}

fn in_micros(column: &ColumnDescriptor) -> bool {
    match column.logical_type_ref() {
        Some(LogicalType::Time { unit, .. } | LogicalType::Timestamp { unit, .. }) => {
            matches!(unit, TimeUnit::MICROS)
        }
        _ => matches!(
            column.converted_type(),
            ConvertedType::TIME_MICROS | ConvertedType::TIMESTAMP_MICROS
        ),
    }
}

/// Where a filter lies. Files that do not tell its length are older than what we write.
fn place(chunk: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = u64::try_from(chunk.bloom_filter_offset()?).ok()?;
    let length = u64::try_from(chunk.bloom_filter_length()?).ok()?;
    Some(start..start.checked_add(length)?)
}

fn bytes_of(group: &RowGroupMetaData, leaves: &[usize]) -> u64 {
    let sizes = leaves.iter().filter_map(|leaf| group.columns().get(*leaf));
    sizes.map(|chunk| u64::try_from(chunk.compressed_size()).unwrap_or_default()).sum()
}

/// A filter from its bytes; `None` for what cannot be one.
fn decode(bytes: &Bytes) -> Option<Sbbf> {
    let decoded = catch_unwind(AssertUnwindSafe(|| Sbbf::from_bytes(bytes))).ok()?.ok()?;
    (decoded.num_blocks() > 0).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_in_as_many_bytes_as_the_column_has() {
        assert_eq!(in_bytes(-2, 3), Some(vec![0xFF, 0xFF, 0xFE]));
        assert_eq!(in_bytes(127, 1), Some(vec![127]));
        assert_eq!(in_bytes(128, 1), None);
        assert_eq!(in_bytes(-128, 1), Some(vec![0x80]));
        assert_eq!(in_bytes(-129, 1), None);
        assert_eq!(in_bytes(1, 18).map(|b| (b.len(), b[17])), Some((18, 1)));
        assert_eq!(in_bytes(-1, 18), Some(vec![0xFF; 18]));
    }
}
