//! A hash table from a deleted key to the highest sequence number that deletes it: of byte strings
//! (strings, binaries and encoded rows) kept in one arena. And sketches that rule most keys out.
//! Pure.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// A small sketch of a set of hashes: says "not in it" for nearly all that are not, from two
/// bytes a key. Most rows are not deleted, and the sketch stays in the processor's cache where
/// the tables do not.
#[derive(Debug)]
pub(super) struct Sketch {
    words: Box<[u64]>,
}

impl Sketch {
    pub(super) fn of(hashes: impl ExactSizeIterator<Item = u64>) -> Self {
        let words = (hashes.len() / 4).next_power_of_two();
        let mut sketch = Self { words: vec![0; words].into_boxed_slice() };
        for hash in hashes {
            let at = sketch.word(hash);
            if let Some(word) = sketch.words.get_mut(at) {
                *word |= Self::bits(hash);
            }
        }
        sketch
    }

    /// False is certain.
    #[inline]
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        let bits = Self::bits(hash);
        self.words.get(self.word(hash)).is_some_and(|word| word & bits == bits)
    }

    fn word(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.words.len() - 1)
    }

    fn bits(hash: u64) -> u64 {
        1 << (hash & 63) | 1 << (hash >> 6 & 63) | 1 << (hash >> 12 & 63) | 1 << (hash >> 18 & 63)
    }

    fn heap_bytes(&self) -> usize {
        self.words.len() * 8
    }
}

/// The integers that occur in one column of encoded rows, as a [`Sketch`]: rows that it rules
/// out need not be encoded at all.
#[derive(Debug, Default)]
pub(super) struct Guard {
    hasher: DefaultHashBuilder,
    hashes: Vec<u64>,
    sketch: Option<Sketch>,
    has_null: bool,
}

impl Guard {
    pub(super) fn insert(&mut self, value: Option<i64>) {
        match value {
            Some(value) => self.hashes.push(self.hasher.hash_one(value)),
            None => self.has_null = true,
        }
    }

    pub(super) fn finish(&mut self) {
        self.sketch = Some(Sketch::of(std::mem::take(&mut self.hashes).into_iter()));
    }

    #[inline]
    pub(super) fn may_hold(&self, value: Option<i64>) -> bool {
        match (value, &self.sketch) {
            (None, _) => self.has_null,
            (Some(value), Some(sketch)) => sketch.may_hold(self.hasher.hash_one(value)),
            (Some(_), None) => true,
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.hashes.capacity() * 8 + self.sketch.as_ref().map_or(0, Sketch::heap_bytes)
    }
}

/// Keys of any bytes.
#[derive(Debug, Default)]
pub(super) struct BytesTable {
    hasher: DefaultHashBuilder,
    table: HashTable<u32>,
    entries: Vec<Entry>,
    arena: Vec<u8>,
    sketch: Option<Sketch>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    end: usize,
    sequence: i64,
}

impl BytesTable {
    /// Returns false when the table is full (4 billion keys).
    pub(super) fn insert(&mut self, key: &[u8], sequence: i64) -> bool {
        self.sketch = None;
        let hash = self.hasher.hash_one(key);
        let (entries, arena) = (&self.entries, &self.arena);
        if let Some(at) = self.table.find(hash, |at| slice(entries, arena, *at) == key).copied() {
            if let Some(entry) = self.entries.get_mut(at as usize) {
                entry.sequence = entry.sequence.max(sequence);
            }
            return true;
        }
        let hasher = &self.hasher;
        let Ok(at) = u32::try_from(self.entries.len()) else { return false };
        self.table.insert_unique(hash, at, |at| hasher.hash_one(slice(entries, arena, *at)));
        self.arena.extend_from_slice(key);
        self.entries.push(Entry { end: self.arena.len(), sequence });
        true
    }

    /// Makes room for `keys` more; their bytes are not known yet.
    pub(super) fn reserve(&mut self, keys: usize) {
        let (hasher, entries, arena) = (&self.hasher, &self.entries, &self.arena);
        self.table.reserve(keys, |at| hasher.hash_one(slice(entries, arena, *at)));
        self.entries.reserve(keys);
    }

    /// Bytes held at once while `keys` more are added.
    pub(super) fn peak_bytes(&self, keys: usize) -> usize {
        let grown = |held: usize, spare: usize, more: usize| {
            if spare >= more { held } else { held * 3 }
        };
        let spare = self.table.capacity() - self.table.len();
        let key = self.arena.len() / self.entries.len().max(1);
        grown(self.table.allocation_size(), spare, keys)
            + self.entries.capacity() * size_of::<Entry>()
            + grown(self.arena.capacity(), self.arena.capacity() - self.arena.len(), keys * key)
    }

    pub(super) fn finish(&mut self) {
        self.entries.shrink_to_fit();
        self.arena.shrink_to_fit();
        let (entries, arena) = (&self.entries, &self.arena);
        let all =
            (0..entries.len()).map(|at| self.hasher.hash_one(slice(entries, arena, at as u32)));
        self.sketch = Some(Sketch::of(all));
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.table.allocation_size()
            + self.entries.capacity() * size_of::<Entry>()
            + self.arena.capacity()
            + self.sketch.as_ref().map_or(0, Sketch::heap_bytes)
    }

    /// Whether `key` is deleted by something younger than `sequence`.
    #[inline]
    pub(super) fn is_dead(&self, key: &[u8], sequence: i64) -> bool {
        let hash = self.hasher.hash_one(key);
        if self.sketch.as_ref().is_some_and(|sketch| !sketch.may_hold(hash)) {
            return false;
        }
        self.table
            .find(hash, |at| slice(&self.entries, &self.arena, *at) == key)
            .and_then(|at| self.entries.get(*at as usize))
            .is_some_and(|entry| entry.sequence > sequence)
    }

    /// Adds all entries of another table; false when full.
    pub(super) fn absorb(&mut self, other: &Self) -> bool {
        (0..other.entries.len()).all(|at| {
            let key = slice(&other.entries, &other.arena, at as u32);
            self.insert(key, other.entries.get(at).map_or(0, |e| e.sequence))
        })
    }
}

#[inline]
fn slice<'a>(entries: &[Entry], arena: &'a [u8], at: u32) -> &'a [u8] {
    let at = at as usize;
    let start = if at == 0 { 0 } else { entries.get(at - 1).map_or(0, |e| e.end) };
    let end = entries.get(at).map_or(start, |e| e.end);
    arena.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_keys_keep_their_highest_sequence_and_the_empty_key_is_a_key() {
        let mut table = BytesTable::default();
        for key in ["", "a", "ab", "b"] {
            assert!(table.insert(key.as_bytes(), 2) && table.insert(key.as_bytes(), 5));
        }
        table.finish();
        assert_eq!(table.len(), 4);
        for key in ["", "a", "ab", "b"] {
            assert!(table.is_dead(key.as_bytes(), 4) && !table.is_dead(key.as_bytes(), 5));
        }
        assert!(!table.is_dead(b"abc", 0));
    }
}
