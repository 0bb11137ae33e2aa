//! A set of key hashes that answers "certainly not" or "very likely".
//!
//! Keys of a data file are put into buckets by the high bits of their hash; a bucket keeps 32
//! more bits of each, sorted. About 36 bits a key, one wrong yes in some 500 million questions:
//! ten thousand keys against a hundred files find none by chance, where a Bloom filter of ten
//! bits would let every file through.

mod store;
mod stored;

pub use store::KeyFilterStore;
pub(super) use stored::StoredFilters;

/// The keys of one data file under one set of columns.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeyFilter {
    /// How far a hash is shifted to give its bucket.
    shift: u32,
    /// Where each bucket starts, and the end.
    starts: Vec<u32>,
    remainders: Vec<u32>,
}

/// Collects hashes for a filter. Memory: 8 bytes a key.
#[derive(Debug)]
pub(super) struct KeyFilterBuilder {
    hashes: Vec<u64>,
}

impl KeyFilter {
    /// A builder for about this many keys.
    pub(super) fn builder(keys: u64) -> KeyFilterBuilder {
        const MOST: u64 = 1 << 24;
        KeyFilterBuilder { hashes: Vec::with_capacity(keys.min(MOST) as usize) }
    }

    /// False when no key has this hash.
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        let bucket = bucket(hash, self.shift);
        let (Some(start), Some(end)) = (self.starts.get(bucket), self.starts.get(bucket + 1))
        else {
            return false;
        };
        let found = self.remainders.get(*start as usize..*end as usize).unwrap_or_default();
        found.binary_search(&remainder(hash, self.shift)).is_ok()
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        4 * (self.starts.capacity() + self.remainders.capacity())
    }

    /// The filter as bytes: shift, number of buckets, their starts, remainders; little-endian.
    fn to_bytes(&self) -> Vec<u8> {
        let head = [self.shift, self.starts.len() as u32];
        let words = head.iter().chain(&self.starts).chain(&self.remainders);
        words.flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The filter that [`KeyFilter::to_bytes`] wrote; `None` for anything else.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<4>() else { return None };
        let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
        let (shift, starts) = (words.next()?, words.next()? as usize);
        let buckets = 1usize.checked_shl(64u32.checked_sub(shift)?)?;
        let mut rest = words.collect::<Vec<u32>>();
        if !(33..=64).contains(&shift) || starts != buckets + 1 || rest.len() < starts {
            return None;
        }
        let remainders = rest.split_off(starts);
        let is_whole = rest.first() == Some(&0)
            && rest.is_sorted()
            && rest.last().is_some_and(|end| *end as usize == remainders.len());
        is_whole.then_some(Self { shift, starts: rest, remainders })
    }
}

impl KeyFilterBuilder {
    /// How many keys were added, repeated ones too.
    pub(super) fn len(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// Adds keys.
    pub(super) fn extend(&mut self, hashes: impl IntoIterator<Item = u64>) {
        self.hashes.extend(hashes);
    }

    /// The filter.
    pub(super) fn finish(mut self) -> KeyFilter {
        self.hashes.sort_unstable();
        self.hashes.dedup();
        let keys = self.hashes.len();
        // About eight keys a bucket; never more than 32 bits of bucket.
        let bits = (keys / 8).max(1).ilog2().min(31);
        let shift = 64 - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        let mut remainders = Vec::with_capacity(keys);
        for hash in &self.hashes {
            let bucket = bucket(*hash, shift);
            while starts.len() <= bucket {
                starts.push(remainders.len() as u32);
            }
            remainders.push(remainder(*hash, shift));
        }
        while starts.len() <= 1 << bits {
            starts.push(remainders.len() as u32);
        }
        KeyFilter { shift, starts, remainders }
    }
}

fn bucket(hash: u64, shift: u32) -> usize {
    hash.checked_shr(shift).unwrap_or_default() as usize
}

/// The 32 bits below those of the bucket: sorted hashes have sorted remainders in a bucket.
fn remainder(hash: u64, shift: u32) -> u32 {
    (hash.checked_shr(shift - 32).unwrap_or_default() & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use twox_hash::XxHash64;

    use super::*;

    fn hash(key: u64) -> u64 {
        XxHash64::oneshot(0, &key.to_le_bytes())
    }

    #[test]
    fn a_filter_holds_every_key_and_almost_nothing_else() {
        for keys in [0u64, 1, 7, 8, 9, 1000, 100_000] {
            let mut builder = KeyFilter::builder(keys);
            builder.extend((0..keys).map(hash));
            let filter = builder.finish();
            assert!((0..keys).all(|key| filter.may_hold(hash(key))), "{keys} keys");
            let wrong = (keys..keys + 200_000).filter(|key| filter.may_hold(hash(*key))).count();
            assert!(wrong <= 1, "{wrong} wrong answers with {keys} keys");
            assert!(filter.heap_bytes() as u64 <= 64 + keys * 5, "{}", filter.heap_bytes());
            let bytes = filter.to_bytes();
            assert_eq!(KeyFilter::from_bytes(&bytes).as_ref(), Some(&filter));
            for wrong in [&bytes[..bytes.len() - 4], &bytes[..bytes.len() - 1], &bytes[4..], &[]] {
                assert_ne!(KeyFilter::from_bytes(wrong).as_ref(), Some(&filter));
            }
        }
    }
}
