//! Small maps keyed by field id, packed: a table of 100,000 files holds millions of them.
//!
//! The ids of a map are shared between maps (files of one table nearly always describe the same
//! columns), and numbers are stored as differences from their minimum in as few bytes as the
//! widest of them needs: counts that are equal in all columns take no memory of their own.

use std::sync::Arc;

/// The ids of a map, strictly ascending, shared by all maps over the same columns.
pub type IdSet = Arc<[i32]>;

/// A map from field id to a number, sorted by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdMap {
    /// `None` when the map is empty.
    ids: Option<IdSet>,
    least: u64,
    /// Differences to `least`, little endian, all of one width: the byte count divided by the
    /// number of ids, one of 0, 1, 2, 4 and 8.
    differences: Box<[u8]>,
}

impl IdMap {
    /// Packs the `values` of `ids`, which must be strictly ascending. What has no partner in
    /// the other slice is left out.
    pub fn from_sorted(ids: &IdSet, values: &[u64]) -> Self {
        debug_assert!(ids.is_sorted_by(|a, b| a < b));
        if ids.len() != values.len() {
            return ids.iter().copied().zip(values.iter().copied()).collect();
        }
        let Some(least) = values.iter().copied().min() else {
            return Self::default();
        };
        let most = values.iter().copied().max().unwrap_or(least);
        let width = match most - least {
            0 => 0,
            1..=0xff => 1,
            0x100..=0xffff => 2,
            0x1_0000..=0xffff_ffff => 4,
            _ => 8,
        };
        let mut differences = Vec::with_capacity(values.len() * width);
        for value in values {
            differences.extend_from_slice(&(value - least).to_le_bytes()[..width]);
        }
        Self { ids: Some(ids.clone()), least, differences: differences.into_boxed_slice() }
    }

    /// The value of `id`.
    pub fn get(&self, id: i32) -> Option<u64> {
        let ids = self.ids.as_deref()?;
        let at = ids.binary_search(&id).ok()?;
        Some(self.value(at, self.differences.len() / ids.len()))
    }

    /// All pairs, ascending by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (i32, u64)> + '_ {
        let ids = self.ids.as_deref().unwrap_or(&[]);
        let width = self.differences.len().checked_div(ids.len()).unwrap_or(0);
        ids.iter().enumerate().map(move |(at, id)| (*id, self.value(at, width)))
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.ids.is_none()
    }

    /// Bytes on the heap, without the shared ids.
    pub fn heap_bytes(&self) -> usize {
        self.differences.len()
    }

    /// The ids, for sharing with another map.
    pub fn ids(&self) -> Option<&IdSet> {
        self.ids.as_ref()
    }

    fn value(&self, at: usize, width: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(&self.differences[at * width..(at + 1) * width]);
        self.least + u64::from_le_bytes(bytes)
    }
}

/// Collects pairs; of several with one id the last stays.
impl FromIterator<(i32, u64)> for IdMap {
    fn from_iter<I: IntoIterator<Item = (i32, u64)>>(pairs: I) -> Self {
        let mut entries: Vec<_> = pairs.into_iter().collect();
        sort_keep_last(&mut entries);
        let (ids, values): (Vec<i32>, Vec<u64>) = entries.into_iter().unzip();
        Self::from_sorted(&ids.into(), &values)
    }
}

/// A map from field id to bytes, sorted by id, in one allocation beside the shared ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdBytes {
    /// `None` when the map is empty.
    ids: Option<IdSet>,
    /// Where each value ends (4 bytes each, little endian), then the values.
    packed: Box<[u8]>,
}

impl IdBytes {
    /// Packs the values of `ids`, which must be strictly ascending. `bytes` holds the values
    /// one after the other, `ends` where each ends in it, ascending. Empty when they disagree
    /// or hold more than 4 GiB.
    pub fn from_sorted(ids: &IdSet, ends: &[u32], bytes: &[u8]) -> Self {
        debug_assert!(ids.is_sorted_by(|a, b| a < b));
        let whole = ends.is_sorted() && ends.last().is_some_and(|e| *e as usize == bytes.len());
        if ids.len() != ends.len() || !whole {
            debug_assert!(ids.is_empty() && bytes.is_empty(), "ids, ends and bytes disagree");
            return Self::default();
        }
        let mut packed = Vec::with_capacity(ends.len() * 4 + bytes.len());
        for end in ends {
            packed.extend_from_slice(&end.to_le_bytes());
        }
        packed.extend_from_slice(bytes);
        Self { ids: Some(ids.clone()), packed: packed.into_boxed_slice() }
    }

    /// The bytes of `id`.
    pub fn get(&self, id: i32) -> Option<&[u8]> {
        let ids = self.ids.as_deref()?;
        let at = ids.binary_search(&id).ok()?;
        Some(self.slice(at, ids.len()))
    }

    /// All pairs, ascending by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (i32, &[u8])> + '_ {
        let ids = self.ids.as_deref().unwrap_or(&[]);
        ids.iter().enumerate().map(move |(at, id)| (*id, self.slice(at, ids.len())))
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.ids.is_none()
    }

    /// Bytes on the heap, without the shared ids.
    pub fn heap_bytes(&self) -> usize {
        self.packed.len()
    }

    /// The ids, for sharing with another map.
    pub fn ids(&self) -> Option<&IdSet> {
        self.ids.as_ref()
    }

    fn end(&self, at: usize) -> usize {
        let mut end = [0; 4];
        end.copy_from_slice(&self.packed[at * 4..at * 4 + 4]);
        u32::from_le_bytes(end) as usize
    }

    fn slice(&self, at: usize, count: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.end(at - 1) };
        &self.packed[count * 4..][start..self.end(at)]
    }
}

/// Collects pairs; of several with one id the last stays.
impl<B: AsRef<[u8]>> FromIterator<(i32, B)> for IdBytes {
    fn from_iter<I: IntoIterator<Item = (i32, B)>>(pairs: I) -> Self {
        let mut entries: Vec<_> = pairs.into_iter().collect();
        sort_keep_last(&mut entries);
        let (mut ids, mut ends, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for (id, value) in &entries {
            bytes.extend_from_slice(value.as_ref());
            ids.push(*id);
            ends.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
        Self::from_sorted(&ids.into(), &ends, &bytes)
    }
}

fn sort_keep_last<V>(entries: &mut Vec<(i32, V)>) {
    if entries.is_sorted_by(|a, b| a.0 < b.0) {
        return;
    }
    entries.reverse(); // the stable sort and dedup then keep what came last
    entries.sort_by_key(|(id, _)| *id);
    entries.dedup_by_key(|(id, _)| *id);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn maps_sort_and_keep_the_last_value_of_an_id() {
        let map: IdMap = [(3, 30), (1, 10), (3, 31)].into_iter().collect();
        assert_eq!(map.iter().collect::<Vec<_>>(), [(1, 10), (3, 31)]);
        let bytes: IdBytes = [(2, "b".as_bytes()), (1, b""), (2, b"bb")].into_iter().collect();
        assert_eq!(bytes.get(1), Some(&b""[..]));
        assert_eq!(bytes.get(2), Some(&b"bb"[..]));
        assert_eq!(bytes.get(3), None);
    }

    #[test]
    fn empty_maps_are_equal_however_they_were_made() {
        assert_eq!(IdMap::from_iter([]), IdMap::default());
        assert_eq!(IdBytes::from_iter(Vec::<(i32, Vec<u8>)>::new()), IdBytes::default());
        assert_eq!(IdMap::default().get(1), None);
        assert_eq!(IdMap::default().iter().len(), 0);
    }

    #[test]
    fn equal_counts_take_no_memory() {
        let map: IdMap = (0..100).map(|id| (id, 5_000_000_000)).collect();
        assert_eq!(map.heap_bytes(), 0);
        assert_eq!(map.get(99), Some(5_000_000_000));
    }

    proptest! {
        #[test]
        fn packed_maps_hold_what_a_btree_holds(
            pairs in proptest::collection::vec((any::<i32>(), prop_oneof![
                0u64..3, 0u64..300, 0u64..100_000, any::<u32>().prop_map(u64::from), any::<u64>(),
            ]), 0..12),
        ) {
            let model: BTreeMap<i32, u64> = pairs.iter().copied().collect();
            let map: IdMap = pairs.iter().copied().collect();
            prop_assert!(map.iter().eq(model.iter().map(|(k, v)| (*k, *v))));
            let bytes: IdBytes = pairs.iter().map(|(k, v)| (*k, v.to_string())).collect();
            for (id, value) in &model {
                prop_assert_eq!(map.get(*id), Some(*value));
                let text = value.to_string();
                prop_assert_eq!(bytes.get(*id), Some(text.as_bytes()));
            }
            prop_assert_eq!(bytes.iter().len(), model.len());
        }
    }
}
