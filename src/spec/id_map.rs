//! Small maps keyed by field id, packed: a table of 100,000 files holds millions of them.

/// A map from field id to a number, sorted by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdMap {
    entries: Box<[(i32, u64)]>,
}

impl IdMap {
    /// The value of `id`.
    pub fn get(&self, id: i32) -> Option<u64> {
        let at = self.entries.binary_search_by_key(&id, |(k, _)| *k).ok()?;
        Some(self.entries[at].1)
    }

    /// All pairs, ascending by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (i32, u64)> + '_ {
        self.entries.iter().copied()
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.entries)
    }
}

/// Collects pairs; of several with one id the last stays.
impl FromIterator<(i32, u64)> for IdMap {
    fn from_iter<I: IntoIterator<Item = (i32, u64)>>(pairs: I) -> Self {
        let mut entries: Vec<_> = pairs.into_iter().collect();
        sort_keep_last(&mut entries);
        Self { entries: entries.into_boxed_slice() }
    }
}

/// A map from field id to bytes, sorted by id, in three allocations however many pairs it has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdBytes {
    ids: Box<[i32]>,
    ends: Box<[u32]>,
    bytes: Box<[u8]>,
}

impl IdBytes {
    /// The bytes of `id`.
    pub fn get(&self, id: i32) -> Option<&[u8]> {
        let at = self.ids.binary_search(&id).ok()?;
        Some(self.slice(at))
    }

    /// All pairs, ascending by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (i32, &[u8])> + '_ {
        self.ids.iter().enumerate().map(|(at, id)| (*id, self.slice(at)))
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.ids.len() * 8 + self.bytes.len()
    }

    fn slice(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.bytes[start..self.ends[at] as usize]
    }
}

/// Collects pairs; of several with one id the last stays.
impl<B: AsRef<[u8]>> FromIterator<(i32, B)> for IdBytes {
    fn from_iter<I: IntoIterator<Item = (i32, B)>>(pairs: I) -> Self {
        let mut entries: Vec<_> = pairs.into_iter().collect();
        sort_keep_last(&mut entries);
        let mut bytes = Vec::new();
        let (mut ids, mut ends) = (Vec::new(), Vec::new());
        for (id, value) in &entries {
            bytes.extend_from_slice(value.as_ref());
            ids.push(*id);
            ends.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
        Self {
            ids: ids.into_boxed_slice(),
            ends: ends.into_boxed_slice(),
            bytes: bytes.into_boxed_slice(),
        }
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
}
