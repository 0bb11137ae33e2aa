//! Integer keys (also dates and times), each with the highest sequence number that deletes it.
//!
//! Most often one commit deletes them all: then they are a list while they arrive, and in the end
//! a bitmap, or a set where they lie too far apart. Only keys of several sequence numbers need a
//! map. Pure.

use hashbrown::{HashMap, HashSet};

/// A key range this many times larger than the number of keys is still kept as a bitmap.
const BITMAP_BITS_PER_KEY: u64 = 64;
/// The same where the bitmap stays in the processor's cache.
const SMALL_BITMAP_BITS_PER_KEY: u64 = 256;
const SMALL_BITMAP_BITS: u64 = 16 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct IntTable {
    keys: Keys,
    min: i64,
    max: i64,
    /// One bit a value of `min..=max`, when that is small: most rows are not deleted, and a bit
    /// in the second-level cache says so without a visit to the keys.
    present: Option<Bitmap>,
}

#[derive(Debug)]
enum Keys {
    /// Of one sequence number, in the order of arrival, repeated ones too.
    Listed { sequence: i64, keys: Vec<i64> },
    /// Of one sequence number, `len` of them, all in the bitmap.
    Bits { sequence: i64, len: usize },
    /// Of one sequence number, too far apart for a bitmap.
    Set { sequence: i64, keys: HashSet<i64> },
    /// Each with its sequence number.
    Map(HashMap<i64, i64>),
}

impl Default for Keys {
    fn default() -> Self {
        Self::Listed { sequence: 0, keys: Vec::new() }
    }
}

/// Which values from `min` on are there.
#[derive(Debug)]
struct Bitmap {
    min: i64,
    words: Box<[u64]>,
}

impl Bitmap {
    /// `None` when the keys lie too far apart.
    fn of<'a>(
        (min, max): (i64, i64),
        count: usize,
        keys: impl Iterator<Item = &'a i64>,
    ) -> Option<Self> {
        let width = max.wrapping_sub(min) as u64;
        let bits_per_key = match width < SMALL_BITMAP_BITS {
            true => SMALL_BITMAP_BITS_PER_KEY,
            false => BITMAP_BITS_PER_KEY,
        };
        if count == 0 || width / bits_per_key > count as u64 {
            return None;
        }
        let mut words = vec![0u64; (width / 64) as usize + 1].into_boxed_slice();
        for key in keys {
            let at = key.wrapping_sub(min) as u64;
            if let Some(word) = words.get_mut((at / 64) as usize) {
                *word |= 1 << (at % 64);
            }
        }
        Some(Self { min, words })
    }

    #[inline]
    fn holds(&self, key: i64) -> bool {
        // Below `min` wraps to a huge distance, so one comparison checks both ends.
        let at = key.wrapping_sub(self.min) as u64;
        self.words.get((at / 64) as usize).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn each(&self, mut take: impl FnMut(i64)) {
        for (at, word) in self.words.iter().enumerate() {
            let mut left = *word;
            while left != 0 {
                let bit = (at as u64 * 64 + u64::from(left.trailing_zeros())) as i64;
                take(self.min.wrapping_add(bit));
                left &= left - 1;
            }
        }
    }
}

impl IntTable {
    pub(super) fn insert(&mut self, key: i64, sequence: i64) {
        let range =
            if self.is_empty() { (key, key) } else { (self.min.min(key), self.max.max(key)) };
        match &mut self.keys {
            Keys::Listed { sequence: of, keys } if *of == sequence || keys.is_empty() => {
                *of = sequence;
                keys.push(key);
            }
            Keys::Map(map) => raise(map, key, sequence),
            _ => {
                let mut map = self.to_map();
                raise(&mut map, key, sequence);
                self.keys = Keys::Map(map);
            }
        }
        self.present = None;
        (self.min, self.max) = range;
    }

    /// What is held, ready for keys of other sequence numbers.
    fn to_map(&self) -> HashMap<i64, i64> {
        let room = match &self.keys {
            Keys::Listed { keys, .. } => keys.capacity(),
            _ => self.len() + 1,
        };
        let mut map = HashMap::with_capacity(room);
        self.each(|key, sequence| raise(&mut map, key, sequence));
        map
    }

    fn each(&self, mut take: impl FnMut(i64, i64)) {
        match &self.keys {
            Keys::Listed { sequence, keys } => keys.iter().for_each(|key| take(*key, *sequence)),
            Keys::Bits { sequence, .. } => {
                let bits = self.present.iter();
                bits.for_each(|bits| bits.each(|key| take(key, *sequence)));
            }
            Keys::Set { sequence, keys } => keys.iter().for_each(|key| take(*key, *sequence)),
            Keys::Map(map) => map.iter().for_each(|(key, sequence)| take(*key, *sequence)),
        }
    }

    /// Makes room for `keys` more, so that nothing grows while it is filled.
    pub(super) fn reserve(&mut self, keys: usize) {
        match &mut self.keys {
            Keys::Listed { keys: list, .. } => list.reserve_exact(keys),
            Keys::Map(map) => map.reserve(keys),
            Keys::Bits { .. } | Keys::Set { .. } => {}
        }
    }

    /// Bytes held at once while `keys` more are added, whatever their sequence numbers: growing
    /// keeps the old keys until the new room is filled.
    pub(super) fn peak_bytes(&self, keys: usize) -> usize {
        let held = self.heap_bytes();
        let grown =
            |len: usize, capacity: usize| if capacity - len >= keys { held } else { held * 3 };
        match &self.keys {
            Keys::Listed { keys: list, .. } => {
                let room = list.capacity().max(list.len() + keys);
                grown(list.len(), list.capacity()) + map_bytes(room)
            }
            Keys::Map(map) => grown(map.len(), map.capacity()),
            Keys::Bits { .. } | Keys::Set { .. } => held + map_bytes(self.len() + keys),
        }
    }

    /// To be called once all keys are there.
    pub(super) fn finish(&mut self) {
        let range = (self.min, self.max);
        match &mut self.keys {
            Keys::Listed { sequence, keys } => {
                let sequence = *sequence;
                self.present = Bitmap::of(range, keys.len(), keys.iter());
                self.keys = match &self.present {
                    Some(bits) => Keys::Bits { sequence, len: bits.len() },
                    None => Keys::Set { sequence, keys: keys.drain(..).collect() },
                };
            }
            Keys::Map(map) => {
                map.shrink_to_fit();
                self.present = Bitmap::of(range, map.len(), map.keys());
            }
            Keys::Bits { .. } | Keys::Set { .. } => {}
        }
    }

    /// How many keys are held; while they arrive, repeated ones count again.
    pub(super) fn len(&self) -> usize {
        match &self.keys {
            Keys::Listed { keys, .. } => keys.len(),
            Keys::Bits { len, .. } => *len,
            Keys::Set { keys, .. } => keys.len(),
            Keys::Map(map) => map.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let keys = match &self.keys {
            Keys::Listed { keys, .. } => keys.capacity() * size_of::<i64>(),
            Keys::Bits { .. } => 0,
            Keys::Set { keys, .. } => keys.allocation_size(),
            Keys::Map(map) => map.allocation_size(),
        };
        keys + self.present.as_ref().map_or(0, |bits| bits.words.len() * 8)
    }

    /// Whether any value of `low..=high` can be a key.
    pub(super) fn overlaps(&self, low: i64, high: i64) -> bool {
        !self.is_empty() && low <= self.max && high >= self.min
    }

    /// Whether `key` is held, with whatever sequence number.
    #[inline]
    pub(super) fn contains(&self, key: i64) -> bool {
        if let Some(bits) = &self.present {
            return bits.holds(key);
        }
        let is_near = key >= self.min && key <= self.max;
        is_near
            && match &self.keys {
                Keys::Listed { keys, .. } => keys.contains(&key),
                Keys::Bits { .. } => false,
                Keys::Set { keys, .. } => keys.contains(&key),
                Keys::Map(map) => map.contains_key(&key),
            }
    }

    /// Whether `key` is deleted by something younger than `sequence`.
    #[inline]
    pub(super) fn is_dead(&self, key: i64, sequence: i64) -> bool {
        match &self.keys {
            Keys::Listed { sequence: deleted, .. }
            | Keys::Bits { sequence: deleted, .. }
            | Keys::Set { sequence: deleted, .. } => *deleted > sequence && self.contains(key),
            Keys::Map(map) => {
                self.contains(key) && map.get(&key).is_some_and(|deleted| *deleted > sequence)
            }
        }
    }

    /// Adds all entries of another table.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.reserve(other.len());
        other.each(|key, sequence| self.insert(key, sequence));
    }
}

fn raise(map: &mut HashMap<i64, i64>, key: i64, sequence: i64) {
    let highest = map.entry(key).or_insert(sequence);
    *highest = (*highest).max(sequence);
}

/// What a map for so many keys takes: slots are a power of two, seven eighths of them filled.
fn map_bytes(keys: usize) -> usize {
    let slots = (keys.saturating_mul(8) / 7 + 1).checked_next_power_of_two();
    slots.unwrap_or(usize::MAX).saturating_mul(size_of::<(i64, i64)>() + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn table(keys: &[(i64, i64)]) -> IntTable {
        let mut table = IntTable::default();
        keys.iter().for_each(|(key, sequence)| table.insert(*key, *sequence));
        table
    }

    #[test]
    fn integer_keys_keep_their_highest_sequence_at_both_ends_of_the_range() {
        for keys in [vec![i64::MIN, 0, i64::MAX], vec![5, 6, 7], vec![-1]] {
            let mut table = IntTable::default();
            for key in &keys {
                table.insert(*key, 3);
                table.insert(*key, 9);
                table.insert(*key, 4);
            }
            table.finish();
            for key in &keys {
                assert!(table.contains(*key) && table.is_dead(*key, 8));
                assert!(!table.is_dead(*key, 9), "{key} is as old as its delete");
            }
            assert!(!table.contains(3) && !table.contains(i64::MIN + 1));
            assert!(!table.contains(i64::MAX - 1));
        }
    }

    #[test]
    fn keys_of_one_commit_take_no_map() {
        let near: Vec<_> = (0..1000).map(|n| (n * 10, 7)).collect();
        let far: Vec<_> = (0..1000).map(|n| (n << 40, 7)).collect();
        for (keys, most) in [(near, 2 * 1000), (far, 20 * 1000)] {
            let mut table = table(&keys);
            table.finish();
            assert!(table.heap_bytes() <= most, "{}", table.heap_bytes());
            assert_eq!(table.len(), 1000);
        }
    }

    fn entries() -> impl Strategy<Value = Vec<(i64, i64)>> {
        let key = prop_oneof![-40..40i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)];
        let sequence = prop_oneof![4 => Just(5i64), 1 => 1..9i64];
        prop::collection::vec((key, sequence), 0..60)
    }

    proptest! {
        #[test]
        fn a_table_answers_like_a_map_however_it_was_filled(
            first in entries(),
            second in entries(),
            others in prop::collection::vec(any::<i64>(), 0..20),
        ) {
            let mut absorbed = table(&first);
            absorbed.finish();
            let mut table = table(&second);
            table.absorb(&absorbed);
            table.finish();
            let mut model = BTreeMap::new();
            for (key, sequence) in first.iter().chain(&second) {
                let highest = model.entry(*key).or_insert(*sequence);
                *highest = (*highest).max(*sequence);
            }
            prop_assert_eq!(table.len(), model.len());
            for key in model.keys().copied().chain(others).chain(-41..41) {
                prop_assert_eq!(table.contains(key), model.contains_key(&key));
                prop_assert!(!table.contains(key) || table.overlaps(key, key));
                for sequence in 0..10 {
                    let dead = model.get(&key).is_some_and(|deleted| *deleted > sequence);
                    prop_assert_eq!(table.is_dead(key, sequence), dead);
                }
            }
        }
    }
}
