//! Which listed files may be orphans at all: old enough, in the open, and not somebody else's.

use std::time::Duration;

use crate::catalog::{POINTER_MIN_AGE_MS, pointer_version_of};
use crate::read::KeyFilterStore;
use crate::spec::encoded_name;
use crate::storage::{ObjectInfo, UNFINISHED};
use crate::table::{PositionStore, Table};

/// Folders of streams, wherever somebody put them.
const OF_STREAMS: [&str; 2] = [PositionStore::FOLDER, KeyFilterStore::FOLDER];

/// Why a file is or is not looked at (MNT-34).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It may be an orphan.
    Candidate,
    /// It is too young.
    Young,
    /// It is hidden, or not the table's.
    Hidden,
}

/// Tells candidates from what stays without a look.
#[derive(Debug, Clone)]
pub(super) struct Sieve {
    now_ms: i64,
    age_ms: i64,
    /// Length of the path of the table's folder, with its slash.
    below: usize,
    /// Partition fields whose folders look hidden, with their `=`.
    partitions: Vec<String>,
}

impl Sieve {
    pub(super) fn new(table: &Table, folder: &str, older_than: Duration) -> Self {
        let fields = table.metadata().partition_specs_iter().flat_map(|spec| spec.fields());
        let names = fields.flat_map(|field| [field.name.clone(), encoded_name(&field.name)]);
        let mut partitions: Vec<String> =
            names.filter(|name| is_hidden(name)).map(|name| format!("{name}=")).collect();
        partitions.sort();
        partitions.dedup();
        Self {
            now_ms: table.environment().clock.now_ms(),
            age_ms: i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX),
            below: folder.len() + 1,
            partitions,
        }
    }

    /// Looks at a file by its path in the store.
    pub(super) fn look(&self, file: &ObjectInfo, path: &str) -> Look {
        let below = path.get(self.below..).unwrap_or(path);
        let mut parts = below.split('/').rev();
        let name = parts.next().unwrap_or(below);
        if parts.any(|folder| OF_STREAMS.contains(&folder) || self.hides(folder))
            || (self.hides(name) && !name.starts_with(UNFINISHED))
        {
            return Look::Hidden;
        }
        let age = self.now_ms.saturating_sub(file.last_modified_ms);
        // A slow writer may still build on a pointer file (CAT-8).
        let pointer = pointer_version_of(name).is_some();
        let floor = if pointer { self.age_ms.max(POINTER_MIN_AGE_MS) } else { self.age_ms };
        if age > floor { Look::Candidate } else { Look::Young }
    }

    fn hides(&self, part: &str) -> bool {
        is_hidden(part) && !self.partitions.iter().any(|field| part.starts_with(field.as_str()))
    }
}

fn is_hidden(part: &str) -> bool {
    part.starts_with(['_', '.'])
}
