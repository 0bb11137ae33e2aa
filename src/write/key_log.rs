//! What one commit did to each key: where its last row stands, or that it is gone.
//!
//! The log answers at once while it fits in memory. Past its budget it is written to a local
//! file, sorted by key, and starts anew; at the end all runs are merged, and what an earlier run
//! says about a key is superseded by a later one. So the last row per key wins however many keys
//! there are, with memory for one run and a small buffer per run.

use std::hash::BuildHasher;
use std::path::PathBuf;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::runs::{Run, RunWriter, merge};
use crate::error::{Error, Result};

/// Where the last row of a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Deleted, and not written since.
    Gone,
    /// Row of the batch at hand, not written yet.
    Pending(u32),
    /// File number and position in it.
    At(u32, u64),
}

/// One key in memory.
#[derive(Debug, Clone, Copy)]
struct Slot {
    end: u64,
    place: Place,
    /// Older data may hold the key, so that it needs an equality delete.
    may_be_old: bool,
}

/// One key after all changes of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    pub key: Vec<u8>,
    pub may_be_old: bool,
    /// Rows that a later run of the log replaced or deleted.
    pub superseded: Vec<(u32, u64)>,
}

/// Keys in memory, and runs of keys on disk.
#[derive(Debug)]
pub(super) struct KeyLog {
    memory: Memory,
    runs: Vec<Run>,
    budget_bytes: usize,
    directory: PathBuf,
}

#[derive(Debug, Default)]
struct Memory {
    keys: Vec<u8>,
    slots: Vec<Slot>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl KeyLog {
    /// A log that keeps about `budget_bytes` in memory and the rest under `directory`.
    pub(super) fn new(budget_bytes: usize, directory: PathBuf) -> Self {
        Self { memory: Memory::default(), runs: Vec::new(), budget_bytes, directory }
    }

    /// Notes a change of `key` and returns its slot and where its row was before. The first
    /// change of a key in a commit decides whether older data may hold it.
    pub(super) fn change(
        &mut self,
        key: &[u8],
        to: Place,
        may_be_old: bool,
    ) -> Result<(u32, Option<Place>)> {
        self.memory.change(key, to, may_be_old)
    }

    /// Says where a pending row was written.
    pub(super) fn settle(&mut self, slot: u32, file: u32, row: u64) {
        if let Some(slot) = self.memory.slots.get_mut(slot as usize) {
            slot.place = Place::At(file, row);
        }
    }

    /// Bytes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Writes the keys to disk when they are too many; no slot is valid afterwards. `name` makes
    /// the file's name.
    ///
    /// # Errors
    /// `Unavailable` when the local disk does not take them.
    pub(super) async fn spill_if_full(&mut self, name: impl FnOnce() -> String) -> Result<()> {
        // Half, because vectors double when they grow.
        if self.memory.bytes() < self.budget_bytes / 2 {
            return Ok(());
        }
        let memory = std::mem::take(&mut self.memory);
        let path = self.directory.join(format!("meltwater-keys-{}.run", name()));
        let written = tokio::task::spawn_blocking(move || memory.spill(path)).await;
        self.runs.push(written.map_err(|e| Error::internal(e.to_string()))??);
        Ok(())
    }

    /// How many runs are on disk.
    #[cfg(test)]
    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Every key once, ascending.
    ///
    /// # Errors
    /// `Unavailable` when the local disk does not give the runs back.
    pub(super) fn resolve(self) -> Result<impl Iterator<Item = Result<Resolved>>> {
        merge(self.runs, self.memory.into_sorted())
    }
}

impl Memory {
    fn change(&mut self, key: &[u8], to: Place, may_be_old: bool) -> Result<(u32, Option<Place>)> {
        let hash = self.hasher.hash_one(key);
        let (keys, slots) = (&self.keys, &self.slots);
        if let Some(index) = self.table.find(hash, |i| key_at(keys, slots, *i) == key).copied() {
            let Some(slot) = self.slots.get_mut(index as usize) else {
                return Err(Error::internal("a key has no slot"));
            };
            let before = std::mem::replace(&mut slot.place, to);
            return Ok((index, Some(before)));
        }
        let index = u32::try_from(self.slots.len())
            .map_err(|_| Error::invalid("too many keys in one commit for this budget"))?;
        self.keys.extend_from_slice(key);
        self.slots.push(Slot { end: self.keys.len() as u64, place: to, may_be_old });
        let (keys, slots, hasher) = (&self.keys, &self.slots, &self.hasher);
        self.table.insert_unique(hash, index, |i| hasher.hash_one(key_at(keys, slots, *i)));
        Ok((index, None))
    }

    fn bytes(&self) -> usize {
        self.keys.len()
            + self.slots.len() * (size_of::<Slot>() + size_of::<u32>())
            + self.table.capacity() * 5
    }

    fn sorted_indices(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.slots.len() as u32).collect();
        order.sort_unstable_by(|a, b| {
            key_at(&self.keys, &self.slots, *a).cmp(key_at(&self.keys, &self.slots, *b))
        });
        order
    }

    fn entry(&self, index: u32) -> Option<Entry<'_>> {
        let slot = self.slots.get(index as usize)?;
        let place = match slot.place {
            Place::At(file, row) => Some((file, row)),
            Place::Gone | Place::Pending(_) => None,
        };
        let key = key_at(&self.keys, &self.slots, index);
        Some(Entry { key, place, may_be_old: slot.may_be_old })
    }

    fn spill(self, path: PathBuf) -> Result<Run> {
        let mut writer = RunWriter::create(path)?;
        for index in self.sorted_indices() {
            if let Some(entry) = self.entry(index) {
                writer.write(&entry)?;
            }
        }
        writer.finish()
    }

    fn into_sorted(self) -> impl Iterator<Item = OwnedEntry> {
        let order = self.sorted_indices();
        order.into_iter().filter_map(move |index| {
            let entry = self.entry(index)?;
            Some(OwnedEntry {
                key: entry.key.to_vec(),
                place: entry.place,
                may_be_old: entry.may_be_old,
            })
        })
    }
}

fn key_at<'a>(keys: &'a [u8], slots: &[Slot], index: u32) -> &'a [u8] {
    let index = index as usize;
    let end = slots.get(index).map_or(0, |slot| slot.end) as usize;
    let start = index.checked_sub(1).and_then(|i| slots.get(i)).map_or(0, |slot| slot.end) as usize;
    keys.get(start..end).unwrap_or_default()
}

/// One key of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub key: &'a [u8],
    pub place: Option<(u32, u64)>,
    pub may_be_old: bool,
}

/// One key of a run, on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnedEntry {
    pub key: Vec<u8>,
    pub place: Option<(u32, u64)>,
    pub may_be_old: bool,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn the_last_place_of_a_key_wins_however_often_the_log_spills(
            changes in proptest::collection::vec((0u8..20, any::<bool>(), any::<bool>()), 0..200),
            budget in prop_oneof![Just(0usize), Just(600), Just(1 << 20)],
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let folder = tempfile::tempdir().unwrap();
            let mut log = KeyLog::new(budget, folder.path().to_path_buf());
            let mut model: BTreeMap<Vec<u8>, (Option<u64>, bool)> = BTreeMap::new();
            let (mut dead, mut expected_dead) = (Vec::new(), Vec::new());
            for (row, (key, delete, may_be_old)) in changes.into_iter().enumerate() {
                let (row, key) = (row as u64, vec![key; usize::from(key % 3)]);
                let to = if delete { Place::Gone } else { Place::Pending(0) };
                let (slot, before) = log.change(&key, to, may_be_old).unwrap();
                if let Some(Place::At(_, row)) = before { dead.push(row); }
                if !delete { log.settle(slot, 0, row); }
                let entry = model.entry(key).or_insert((None, may_be_old));
                expected_dead.extend(entry.0);
                entry.0 = (!delete).then_some(row);
                runtime.block_on(log.spill_if_full(|| row.to_string())).unwrap();
            }
            if budget == 0 { prop_assert!(log.runs() > 0 || model.is_empty()); }
            let resolved: Vec<Resolved> = log.resolve().unwrap().map(Result::unwrap).collect();
            dead.extend(resolved.iter().flat_map(|r| r.superseded.iter().map(|s| s.1)));
            dead.sort();
            expected_dead.sort();
            prop_assert_eq!(dead, expected_dead);
            let keys: Vec<_> = resolved.into_iter().map(|r| (r.key, r.may_be_old)).collect();
            let expected: Vec<_> = model.into_iter().map(|(k, v)| (k, v.1)).collect();
            prop_assert_eq!(keys, expected);
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
