//! What a writer hands to a commit.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::spec::{DataContentType, DataFile, Predicate, SequenceNumber, SnapshotId};
use crate::storage::Storage;

/// The files of one unit of work, written but not yet part of any snapshot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WriteResult {
    /// New rows.
    pub data_files: Vec<DataFile>,
    /// Position and equality deletes.
    pub delete_files: Vec<DataFile>,
    /// Data files of the table that the position deletes are about. The commit refuses if one of
    /// them is gone by then. Files of this very result need not be named.
    pub referenced_data_files: Vec<String>,
    /// For upserts: the partition specs whose live data the equality deletes reach. The commit
    /// refuses if rows live under another spec by then (CMT-4).
    pub covered_specs: Option<BTreeSet<i32>>,
    /// For upserts whose old rows were looked up: what the look-up saw. The commit refuses if rows
    /// that it might have found came or moved since (CMT-14).
    pub looked_up: Option<LookedUp>,
}

/// What a look-up of keys saw.
#[derive(Debug, Clone, PartialEq)]
pub struct LookedUp {
    /// The snapshot that was read; `None` when the table was empty.
    pub at: Option<SnapshotId>,
    /// Its sequence number; 0 when the table was empty.
    pub sequence_number: SequenceNumber,
    /// Every row with one of the keys passes this; `None` stands for every row.
    pub filter: Option<Predicate>,
}

impl LookedUp {
    /// What holds for the work of two look-ups.
    pub(crate) fn merge(self, other: Self) -> Self {
        let filter = self.filter.zip(other.filter).map(|(a, b)| a.or(b));
        let (older, younger) = (self.sequence_number, other.sequence_number);
        let at = if older <= younger { self.at } else { other.at };
        Self { at, sequence_number: older.min(younger), filter }
    }
}

impl WriteResult {
    /// True when there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.data_files.is_empty() && self.delete_files.is_empty()
    }

    /// Rows in the new data files.
    pub fn rows(&self) -> u64 {
        self.data_files.iter().map(|f| f.record_count).sum()
    }

    /// Bytes in all files.
    pub fn bytes(&self) -> u64 {
        self.files().map(|f| f.file_size_in_bytes).sum()
    }

    /// Rows in the delete files of one content.
    pub fn deletes(&self, content: DataContentType) -> u64 {
        let of_kind = self.delete_files.iter().filter(|f| f.content == content);
        of_kind.map(|f| f.record_count).sum()
    }

    /// All files, data first.
    pub fn files(&self) -> impl Iterator<Item = &DataFile> {
        self.data_files.iter().chain(&self.delete_files)
    }

    /// Joins the work of several writers that goes into one snapshot.
    pub fn merge(mut self, other: Self) -> Self {
        self.data_files.extend(other.data_files);
        self.delete_files.extend(other.delete_files);
        self.referenced_data_files.extend(other.referenced_data_files);
        self.covered_specs = match (self.covered_specs, other.covered_specs) {
            (Some(a), Some(b)) => Some(a.intersection(&b).copied().collect()),
            (a, b) => a.or(b),
        };
        self.looked_up = match (self.looked_up, other.looked_up) {
            (Some(a), Some(b)) => Some(a.merge(b)),
            (a, b) => a.or(b),
        };
        self
    }

    /// Deletes the files, for work that will not be committed. Never call this after
    /// [`crate::ErrorKind::CommitStateUnknown`]: the files may be part of the table.
    ///
    /// # Errors
    /// The first failure, after every file was tried.
    pub async fn discard(&self, storage: &Storage) -> Result<()> {
        let mut first = Ok(());
        for file in self.files() {
            let deleted = storage.delete(&file.file_path).await;
            if first.is_ok() {
                first = deleted;
            }
        }
        first
    }
}
