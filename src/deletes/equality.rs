//! The keys that equality deletes name, as one map from key to the highest delete sequence.
//!
//! In: batches of delete rows, each with its delete file's sequence number. Out: an
//! [`EqualityDeleteMap`] that says of a batch of data which rows are dead. A row with data
//! sequence `s` is dead when the map holds its key with a sequence above `s` (DEL-1), so one
//! map serves every data file of a scope. Pure: no storage.

use arrow::array::{Array, ArrayRef, BooleanBufferBuilder, UInt32Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};

use super::columns::{KeyColumns, key_data_type};
use super::int_table::IntTable;
use super::key_table::{BytesTable, Guard};
use super::key_values::{BytesColumn, IntValues, canonical, int_values, is_int_like};
use crate::error::{Error, Result};
use crate::spec::SequenceNumber;

/// Keys of one scope and one exact set of equality columns, each with the highest sequence
/// number that deletes it.
///
/// Null equals null and NaN equals NaN (DEL-7). Single integer-like columns and single strings
/// or binaries are kept as they are, everything else as encoded rows.
/// Memory: about 8 bytes an integer key of one commit and 20 of several, about 25 bytes and the key's bytes otherwise;
/// [`EqualityDeleteMap::heap_bytes`] says how much.
#[derive(Debug)]
pub struct EqualityDeleteMap {
    columns: KeyColumns,
    keys: Keys,
    /// Of the all-null key where keys are single columns.
    null_sequence: Option<i64>,
    min_sequence: i64,
    max_sequence: i64,
}

#[derive(Debug)]
enum Keys {
    Ints(IntTable),
    Bytes(BytesTable),
    Rows(Box<RowConverter>, BytesTable, Option<RowGuard>),
}

/// Rules rows out by one integer column, before they are encoded.
#[derive(Debug)]
struct RowGuard {
    column: usize,
    values: Guard,
}

impl RowGuard {
    fn value(values: &IntValues<'_>, nulls: Option<&NullBuffer>, row: usize) -> Option<i64> {
        nulls.is_none_or(|n| n.is_valid(row)).then(|| values.get(row))
    }

    fn add(&mut self, arrays: &[ArrayRef]) {
        let Some(array) = arrays.get(self.column) else { return };
        let Some((values, nulls)) = int_values(array) else { return };
        for row in 0..array.len() {
            self.values.insert(Self::value(&values, nulls, row));
        }
    }

    /// The rows that may be dead; `None` when they are too many to be worth picking.
    fn candidates(&self, arrays: &[ArrayRef]) -> Option<UInt32Array> {
        let array = arrays.get(self.column)?;
        let (values, nulls) = int_values(array)?;
        let mut found = Vec::new();
        for row in 0..array.len() {
            if self.values.may_hold(Self::value(&values, nulls, row)) {
                found.push(u32::try_from(row).ok()?);
            }
        }
        (found.len() * 2 < array.len()).then(|| found.into())
    }
}

/// One of `of` equal parts of all keys, by hash: a map that would pass its memory budget is
/// built and asked part by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashPartition {
    /// Which part, from 0.
    pub index: u32,
    /// How many parts there are.
    pub of: u32,
}

impl EqualityDeleteMap {
    /// Starts an empty map; with `part`, one that keeps only that part of the keys.
    ///
    /// # Errors
    /// `Internal` if Arrow cannot encode rows of the key types.
    pub fn builder(
        columns: KeyColumns,
        part: Option<HashPartition>,
    ) -> Result<EqualityDeleteMapBuilder> {
        let types: Vec<DataType> = columns.iter().map(|c| key_data_type(&c.key_type)).collect();
        let keys = match types.as_slice() {
            [one] if is_int_like(one) => Keys::Ints(IntTable::default()),
            [DataType::Utf8 | DataType::LargeBinary | DataType::FixedSizeBinary(_)] => {
                Keys::Bytes(BytesTable::default())
            }
            _ => {
                let guard = types.iter().position(is_int_like);
                let guard = guard.map(|column| RowGuard { column, values: Guard::default() });
                let fields = types.into_iter().map(SortField::new).collect();
                Keys::Rows(Box::new(RowConverter::new(fields)?), BytesTable::default(), guard)
            }
        };
        let map = Self {
            columns,
            keys,
            null_sequence: None,
            min_sequence: i64::MAX,
            max_sequence: i64::MIN,
        };
        Ok(EqualityDeleteMapBuilder { map, part })
    }

    /// How many keys are held.
    pub fn len(&self) -> usize {
        let keys = match &self.keys {
            Keys::Ints(table) => table.len(),
            Keys::Bytes(table) | Keys::Rows(_, table, _) => table.len(),
        };
        keys + usize::from(self.null_sequence.is_some())
    }

    /// True when no key is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.keys {
            Keys::Ints(table) => table.heap_bytes(),
            Keys::Bytes(table) => table.heap_bytes(),
            Keys::Rows(converter, table, guard) => {
                let guard = guard.as_ref().map_or(0, |g| g.values.heap_bytes());
                converter.size() + table.heap_bytes() + guard
            }
        }
    }

    /// The columns that are compared.
    pub fn columns(&self) -> &KeyColumns {
        &self.columns
    }

    /// True when no key is younger than data of this sequence number: nothing to probe.
    pub fn is_harmless_to(&self, data_sequence: SequenceNumber) -> bool {
        self.is_empty() || self.max_sequence <= data_sequence.0
    }

    /// Which rows of a batch survive: set bits are alive. `None` when all do.
    ///
    /// `data_sequence` is the data sequence number of the batch's file.
    ///
    /// # Errors
    /// As [`KeyColumns::arrays`].
    pub fn alive(
        &self,
        batch: &RecordBatch,
        data_sequence: SequenceNumber,
    ) -> Result<Option<BooleanBuffer>> {
        if batch.num_rows() == 0 || self.is_harmless_to(data_sequence) {
            return Ok(None);
        }
        let arrays = self.columns.arrays(batch)?;
        let dead = self.dead(&arrays, batch.num_rows(), data_sequence.0)?;
        Ok(dead.filter(|d| d.count_set_bits() > 0).map(|d| !&d))
    }

    fn dead(
        &self,
        arrays: &[ArrayRef],
        rows: usize,
        sequence: i64,
    ) -> Result<Option<BooleanBuffer>> {
        let null_dead = self.null_sequence.is_some_and(|deleted| deleted > sequence);
        match (&self.keys, arrays) {
            (Keys::Ints(table), [array]) => {
                let Some((values, nulls)) = int_values(array) else {
                    return Err(Error::internal("an integer key column is not integer-like"));
                };
                Ok(self.dead_ints(table, &values, nulls, null_dead, sequence))
            }
            (Keys::Bytes(table), [array]) => {
                let bytes = BytesColumn::new(array)?;
                Ok(Some(BooleanBuffer::collect_bool(rows, |row| match bytes.get(row) {
                    Some(key) => table.is_dead(key, sequence),
                    None => null_dead,
                })))
            }
            (Keys::Rows(converter, table, guard), arrays) => {
                let Some(few) = guard.as_ref().and_then(|g| g.candidates(arrays)) else {
                    let rows = converter.convert_columns(&canonical(arrays))?;
                    return Ok(Some(BooleanBuffer::collect_bool(rows.num_rows(), |at| {
                        table.is_dead(rows.row(at).data(), sequence)
                    })));
                };
                if few.is_empty() {
                    return Ok(None);
                }
                let picked: Vec<ArrayRef> =
                    arrays.iter().map(|a| take(a, &few, None)).collect::<Result<_, _>>()?;
                let keys = converter.convert_columns(&canonical(&picked))?;
                let mut dead = BooleanBufferBuilder::new(rows);
                dead.append_n(rows, false);
                for (key, row) in keys.iter().zip(few.values()) {
                    dead.set_bit(*row as usize, table.is_dead(key.data(), sequence));
                }
                Ok(Some(dead.finish()))
            }
            _ => Err(Error::internal("single keys were asked with several columns")),
        }
    }

    fn dead_ints(
        &self,
        table: &IntTable,
        values: &IntValues<'_>,
        nulls: Option<&NullBuffer>,
        null_dead: bool,
        sequence: i64,
    ) -> Option<BooleanBuffer> {
        let nulls = nulls.filter(|n| n.null_count() > 0);
        let range = values.range();
        let meets = range.is_some_and(|(low, high)| table.overlaps(low, high));
        if !(meets || null_dead && nulls.is_some()) {
            return None;
        }
        // When all deletes are younger than the data, being named is being dead.
        let all_younger = self.min_sequence > sequence;
        let dead = match (values, all_younger) {
            (IntValues::I64(v), true) => collect(v, |key| table.contains(key)),
            (IntValues::I64(v), false) => collect(v, |key| table.is_dead(key, sequence)),
            (IntValues::I32(v), true) => collect(v, |key| table.contains(i64::from(key))),
            (IntValues::I32(v), false) => collect(v, |key| table.is_dead(i64::from(key), sequence)),
        };
        Some(match nulls {
            None => dead,
            Some(nulls) if null_dead => &dead | &!nulls.inner(),
            Some(nulls) => &dead & nulls.inner(),
        })
    }
}

fn collect<T: Copy>(values: &[T], dead: impl Fn(T) -> bool) -> BooleanBuffer {
    let mut words = Vec::with_capacity(values.len().div_ceil(64));
    for chunk in values.chunks(64) {
        let mut word = 0u64;
        for (bit, value) in chunk.iter().enumerate() {
            word |= u64::from(dead(*value)) << bit;
        }
        words.push(word);
    }
    BooleanBuffer::new(words.into(), 0, values.len())
}

/// Fills an [`EqualityDeleteMap`].
#[derive(Debug)]
pub struct EqualityDeleteMapBuilder {
    map: EqualityDeleteMap,
    part: Option<HashPartition>,
}

impl EqualityDeleteMapBuilder {
    /// Adds the rows of one batch of a delete file. Columns that are not compared are ignored.
    ///
    /// # Errors
    /// As [`KeyColumns::arrays`].
    pub fn add(&mut self, batch: &RecordBatch, sequence_number: SequenceNumber) -> Result<()> {
        let arrays = self.map.columns.arrays(batch)?;
        let sequence = sequence_number.0;
        let part = self.part;
        let mut took_null = false;
        match (&mut self.map.keys, arrays.as_slice()) {
            (Keys::Ints(table), [array]) => {
                let Some((values, nulls)) = int_values(array) else {
                    return Err(Error::internal("an integer key column is not integer-like"));
                };
                for row in 0..array.len() {
                    if nulls.is_some_and(|n| n.is_null(row)) {
                        took_null = true;
                        continue;
                    }
                    let key = values.get(row);
                    if part.is_none_or(|p| p.holds(&key.to_le_bytes())) {
                        table.insert(key, sequence);
                    }
                }
            }
            (Keys::Bytes(table), [array]) => {
                let bytes = BytesColumn::new(array)?;
                for row in 0..array.len() {
                    match bytes.get(row) {
                        None => took_null = true,
                        Some(key) => insert(table, key, sequence, part)?,
                    }
                }
            }
            (Keys::Rows(converter, table, guard), arrays) => {
                if let Some(guard) = guard {
                    guard.add(arrays);
                }
                let rows = converter.convert_columns(&canonical(arrays))?;
                for row in &rows {
                    insert(table, row.data(), sequence, part)?;
                }
            }
            _ => return Err(Error::internal("single keys were given with several columns")),
        }
        let map = &mut self.map;
        if took_null && part.is_none_or(|p| p.index == 0) {
            map.null_sequence = Some(map.null_sequence.unwrap_or(i64::MIN).max(sequence));
        }
        if batch.num_rows() > 0 {
            map.min_sequence = map.min_sequence.min(sequence);
            map.max_sequence = map.max_sequence.max(sequence);
        }
        Ok(())
    }

    /// Adds every key of a finished map over the same columns.
    ///
    /// # Errors
    /// `Internal` if the maps differ in kind.
    pub fn absorb(&mut self, other: &EqualityDeleteMap) -> Result<()> {
        let taken = match (&mut self.map.keys, &other.keys) {
            (Keys::Ints(table), Keys::Ints(more)) => {
                table.absorb(more);
                true
            }
            (Keys::Bytes(table), Keys::Bytes(more)) => table.absorb(more),
            (Keys::Rows(_, table, guard), Keys::Rows(_, more, _)) => {
                *guard = None; // a finished sketch cannot be added to another
                table.absorb(more)
            }
            _ => false,
        };
        if !taken {
            return Err(Error::internal("maps of equality deletes cannot be merged"));
        }
        let map = &mut self.map;
        map.null_sequence = map.null_sequence.max(other.null_sequence);
        map.min_sequence = map.min_sequence.min(other.min_sequence);
        map.max_sequence = map.max_sequence.max(other.max_sequence);
        Ok(())
    }

    /// How many keys are held so far.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// True when no key is held.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Makes room for `keys` more if that takes no more than `limit_bytes`. Filling is then faster
    /// and takes no more than the room; to be called before any key is added.
    pub fn reserve(&mut self, keys: u64, limit_bytes: usize) {
        const BYTES_PER_SLOT: u64 = 17;
        const BYTES_PER_KEY: u64 = 8; // integers are listed before they are a map
        // Tables have a power of two of slots and fill seven eighths of them.
        let slots = keys.saturating_mul(8) / 7 + 1;
        let bytes =
            slots.checked_next_power_of_two().unwrap_or(u64::MAX).saturating_mul(BYTES_PER_SLOT);
        let bytes = bytes.saturating_add(keys.saturating_mul(BYTES_PER_KEY));
        if bytes > limit_bytes as u64 {
            return;
        }
        let keys = usize::try_from(keys).unwrap_or_default();
        match &mut self.map.keys {
            Keys::Ints(table) => table.reserve(keys),
            Keys::Bytes(table) | Keys::Rows(_, table, _) => table.reserve(keys),
        }
    }

    /// Bytes that may be held at once while `keys` more are added.
    pub fn peak_bytes(&self, keys: usize) -> usize {
        match &self.map.keys {
            Keys::Ints(table) => table.peak_bytes(keys),
            Keys::Bytes(table) => table.peak_bytes(keys),
            Keys::Rows(converter, table, guard) => {
                let guard = guard.as_ref().map_or(0, |g| g.values.heap_bytes());
                converter.size() + table.peak_bytes(keys) + guard
            }
        }
    }

    /// Bytes held so far.
    pub fn heap_bytes(&self) -> usize {
        self.map.heap_bytes()
    }

    /// The map, ready to be asked and shared.
    pub fn finish(mut self) -> EqualityDeleteMap {
        match &mut self.map.keys {
            Keys::Ints(table) => table.finish(),
            Keys::Bytes(table) => table.finish(),
            Keys::Rows(_, table, guard) => {
                table.finish();
                if let Some(guard) = guard {
                    guard.values.finish();
                }
            }
        }
        self.map
    }
}

impl HashPartition {
    /// Another hash than the tables use, and the same in every process.
    fn holds(self, key: &[u8]) -> bool {
        const PRIME: u64 = 0x0000_0100_0000_01B3;
        let hash = key.iter().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
        });
        let spread = (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        spread % u64::from(self.of.max(1)) == u64::from(self.index)
    }
}

fn insert(
    table: &mut BytesTable,
    key: &[u8],
    sequence: i64,
    part: Option<HashPartition>,
) -> Result<()> {
    if part.is_some_and(|p| !p.holds(key)) || table.insert(key, sequence) {
        return Ok(());
    }
    Err(Error::unsupported("more than four billion equality deletes in one scope"))
}

#[cfg(test)]
mod tests;
