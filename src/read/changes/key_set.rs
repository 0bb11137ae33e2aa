//! A set of the keys of one unit, by their hashes.
//!
//! Integers stand for themselves among hashes, and keys of one commit tend to be neighbours: those
//! share an entry of 64 bits. Pure.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use super::hash::mixed;

/// Bytes that a key takes at the worst.
pub(super) const KEY_BYTES: u64 = 40;

/// Some keys.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    /// Those below 2^64, by what is above their lowest six bits.
    blocks: HashMap<u64, u64, BuildHasherDefault<Mixer>>,
    /// The block that was added to last: its number, and bits of which `blocks` may lack some.
    last: Option<(u64, u64)>,
    others: HashSet<u128, BuildHasherDefault<Mixer>>,
}

impl KeySet {
    /// Adds a key; false if it was there.
    pub(super) fn insert(&mut self, hash: u128) -> bool {
        let Ok(small) = u64::try_from(hash) else { return self.others.insert(hash) };
        let (block, bit) = (small >> 6, 1 << (small & 63));
        if let Some((last, bits)) = &mut self.last {
            if *last == block {
                let is_new = *bits & bit == 0;
                *bits |= bit;
                return is_new;
            }
            // A lone key was written at once.
            if bits.count_ones() > 1 {
                self.blocks.insert(*last, *bits);
            }
        }
        let bits = self.blocks.entry(block).or_default();
        let is_new = *bits & bit == 0;
        *bits |= bit;
        self.last = Some((block, *bits));
        is_new
    }

    /// Whether a key is there.
    pub(super) fn contains(&self, hash: u128) -> bool {
        let Ok(small) = u64::try_from(hash) else { return self.others.contains(&hash) };
        let block = small >> 6;
        let bits = match &self.last {
            Some((last, bits)) if *last == block => Some(bits),
            _ => self.blocks.get(&block),
        };
        bits.is_some_and(|bits| bits >> (small & 63) & 1 == 1)
    }
}

impl FromIterator<u128> for KeySet {
    fn from_iter<I: IntoIterator<Item = u128>>(hashes: I) -> Self {
        let mut set = Self::default();
        set.extend(hashes);
        set
    }
}

impl Extend<u128> for KeySet {
    fn extend<I: IntoIterator<Item = u128>>(&mut self, hashes: I) {
        for hash in hashes {
            self.insert(hash);
        }
    }
}

/// Spreads one number over the table.
#[derive(Debug, Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mixed(u128::from(self.0 ^ number));
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = mixed(hash);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_was_added_and_nothing_else(
            keys in prop::collection::vec(prop_oneof![
                4 => 0u128..200,
                1 => any::<u64>().prop_map(u128::from),
                1 => (0u128..4).prop_map(|n| n << 64),
                1 => any::<u128>(),
            ], 0..200),
        ) {
            let (half, rest) = keys.split_at(keys.len() / 2);
            let mut model: HashSet<u128> = HashSet::new();
            let mut set = KeySet::default();
            for key in half {
                prop_assert_eq!(set.insert(*key), model.insert(*key));
            }
            for key in rest {
                prop_assert_eq!(set.contains(*key), model.contains(key));
            }
        }
    }
}
