//! What a reader remembers of data files between snapshots: dead rows and key filters.
//!
//! Everything here can be worked out anew; what was not used for longest goes first when the
//! budget is full.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringTreemap;

use super::key_filter::KeyFilter;

/// Remembered facts by path of the data file.
#[derive(Debug)]
pub(super) struct FileMemory {
    budget: usize,
    bytes: usize,
    ticks: u64,
    files: HashMap<String, Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    used: u64,
    bytes: usize,
    /// Dead rows, and the sequence number of the snapshot they were dead in.
    dead: Option<(i64, Arc<RoaringTreemap>)>,
    /// Key filters by field ids.
    filters: Vec<(Vec<i32>, Arc<KeyFilter>)>,
}

impl FileMemory {
    pub(super) fn new(budget_bytes: u64) -> Self {
        let budget = usize::try_from(budget_bytes).unwrap_or(usize::MAX);
        Self { budget, bytes: 0, ticks: 0, files: HashMap::new() }
    }

    /// The dead rows of a file just before the snapshot of this sequence number, if they were
    /// noted in an earlier one. Holds for whoever sees every snapshot that touches the file.
    pub(super) fn dead_before(&mut self, path: &str, sequence: i64) -> Option<Arc<RoaringTreemap>> {
        let facts = self.touch(path)?;
        facts.dead.as_ref().filter(|(as_of, _)| *as_of < sequence).map(|(_, dead)| dead.clone())
    }

    /// Notes the dead rows of a file in the snapshot of this sequence number.
    pub(super) fn set_dead(&mut self, path: &str, as_of: i64, dead: Arc<RoaringTreemap>) {
        self.change(path, |facts| facts.dead = Some((as_of, dead)));
    }

    /// The key filter of a file.
    pub(super) fn filter(&mut self, path: &str, ids: &[i32]) -> Option<Arc<KeyFilter>> {
        let facts = self.touch(path)?;
        facts.filters.iter().find(|(of, _)| of == ids).map(|(_, filter)| filter.clone())
    }

    /// Notes a key filter; data files never change, so it stays true.
    pub(super) fn add_filter(&mut self, path: &str, ids: Vec<i32>, filter: Arc<KeyFilter>) {
        self.change(path, |facts| {
            facts.filters.retain(|(of, _)| *of != ids);
            facts.filters.push((ids, filter));
        });
    }

    /// Forgets a file.
    pub(super) fn forget(&mut self, path: &str) {
        if let Some(facts) = self.files.remove(path) {
            self.bytes -= facts.bytes;
        }
    }

    /// Forgets what was dead, of all files.
    pub(super) fn forget_dead(&mut self) {
        for facts in self.files.values_mut() {
            if let Some((_, dead)) = facts.dead.take() {
                let bytes = dead.serialized_size() + 64;
                facts.bytes -= bytes;
                self.bytes -= bytes;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    fn touch(&mut self, path: &str) -> Option<&mut Facts> {
        self.ticks += 1;
        let facts = self.files.get_mut(path)?;
        facts.used = self.ticks;
        Some(facts)
    }

    fn change(&mut self, path: &str, change: impl FnOnce(&mut Facts)) {
        self.ticks += 1;
        let facts = self.files.entry(path.to_string()).or_default();
        self.bytes -= facts.bytes;
        change(facts);
        let dead = facts.dead.as_ref().map_or(0, |(_, dead)| dead.serialized_size() + 64);
        let filters: usize = facts.filters.iter().map(|(_, f)| f.heap_bytes() + 64).sum();
        (facts.used, facts.bytes) = (self.ticks, dead + filters + path.len() + 160);
        self.bytes += facts.bytes;
        self.evict();
    }

    /// Lets go of the older half once the budget is passed, so that it happens seldom.
    fn evict(&mut self) {
        if self.bytes <= self.budget {
            return;
        }
        let mut ages: Vec<(u64, String)> =
            self.files.iter().map(|(path, facts)| (facts.used, path.clone())).collect();
        ages.sort_unstable();
        for (_, path) in ages {
            if self.bytes <= self.budget / 2 {
                break;
            }
            self.forget(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: impl IntoIterator<Item = u64>) -> Arc<RoaringTreemap> {
        Arc::new(rows.into_iter().collect())
    }

    #[test]
    fn dead_rows_noted_in_a_snapshot_are_not_taken_for_those_before_it() {
        let mut memory = FileMemory::new(1 << 20);
        memory.set_dead("f", 5, rows([1]));
        assert_eq!(memory.dead_before("f", 5), None);
        assert_eq!(memory.dead_before("f", 6), Some(rows([1])));
        assert_eq!(memory.dead_before("g", 6), None);
    }

    #[test]
    fn the_budget_holds_and_what_was_used_last_stays() {
        let mut memory = FileMemory::new(20_000);
        for file in 0..1000 {
            memory.set_dead(&format!("f{file}"), 1, rows(0..10));
            memory.set_dead("always", 1, rows([1]));
            assert!(memory.bytes <= memory.budget);
        }
        assert!(memory.dead_before("always", 2).is_some());
        assert!(memory.dead_before("f0", 2).is_none());
    }
}
