//! The live files of one snapshot in a few bytes each, and what their deletes still reach.
//!
//! Pure. Memory: some 60 bytes a data file, and the entries of the delete files.

use std::collections::HashMap;

use crate::deletes::DeleteFile;
use crate::error::Result;
use crate::maintenance::paths::fingerprint;
use crate::spec::{DataContentType, ManifestEntry, SequenceNumber};
use crate::table::Table;

/// What is kept of a data file.
#[derive(Debug, Clone, Copy)]
pub(super) struct LiveData {
    pub rows: u64,
    pub sequence_number: SequenceNumber,
    /// Its spec and partition, hashed.
    scope: u64,
}

/// What becomes of a delete file's deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Some live file may hold a row that it deletes.
    Reaches,
    /// No live file is as old as that and in its scope.
    Dangles,
    /// The one data file that it names lies in another partition (DEL-4).
    OtherPartition,
}

/// The live files of a snapshot.
#[derive(Debug, Default)]
pub(super) struct LiveFiles {
    data: HashMap<u128, LiveData>,
    pub deletes: Vec<DeleteFile>,
    /// The age of the oldest data by spec and partition.
    oldest: HashMap<u64, SequenceNumber>,
    oldest_of_all: Option<SequenceNumber>,
}

impl LiveFiles {
    /// Adds a live entry; false if a data file of that path is there already.
    pub fn add(&mut self, entry: &ManifestEntry) -> bool {
        let (file, sequence_number) = (&entry.file, entry.sequence_number);
        if file.content != DataContentType::Data {
            self.deletes.push(DeleteFile { file: file.clone(), sequence_number });
            return true;
        }
        let scope = file.partition_key().stable_hash();
        let oldest = self.oldest.entry(scope).or_insert(sequence_number);
        *oldest = sequence_number.min(*oldest);
        let of_all = self.oldest_of_all.get_or_insert(sequence_number);
        *of_all = sequence_number.min(*of_all);
        let live = LiveData { rows: file.record_count, sequence_number, scope };
        self.data.insert(fingerprint(&file.file_path), live).is_none()
    }

    /// The live data file of a path.
    pub fn data(&self, path: &str) -> Option<LiveData> {
        self.data.get(&fingerprint(path)).copied()
    }

    /// Whether a delete file still reaches live rows, by scope and age alone (MNT-63).
    ///
    /// # Errors
    /// `CorruptData` for an unknown partition spec.
    pub fn reach(&self, delete: &DeleteFile, table: &Table) -> Result<Reach> {
        let (file, age) = (&delete.file, delete.sequence_number);
        let scope = file.partition_key().stable_hash();
        if file.content == DataContentType::PositionDeletes
            && let Some(path) = file.referenced_path()
        {
            return Ok(match self.data(path) {
                Some(data) if data.sequence_number > age => Reach::Dangles,
                Some(data) if data.scope != scope => Reach::OtherPartition,
                Some(_) => Reach::Reaches,
                None => Reach::Dangles,
            });
        }
        let is_equality = file.content == DataContentType::EqualityDeletes;
        let oldest = match is_equality && table.spec(file.spec_id)?.is_unpartitioned() {
            true => self.oldest_of_all,
            false => self.oldest.get(&scope).copied(),
        };
        // An equality delete reaches strictly older rows, a position delete its own commit's too.
        let reaches = oldest.is_some_and(|o| o < age || (!is_equality && o == age));
        Ok(if reaches { Reach::Reaches } else { Reach::Dangles })
    }
}
