//! Delete files that no live row can meet.
//!
//! Pure. Position deletes: no live data file of their age or older that they may name. Equality
//! deletes: no live data file in their scope that is older, where the scope is their partition, or
//! the whole table when their spec is unpartitioned (MNT-42).

use std::collections::{HashMap, HashSet};

use serde::{Serialize, Serializer};

use crate::deletes::{DeleteFile, DeleteFileIndex};
use crate::error::Result;
use crate::scan::FileScanTask;
use crate::spec::{DataContentType, PartitionKey, SequenceNumber};
use crate::table::{RemovedFile, Table};

/// A delete file that deletes nothing any more.
#[derive(Debug, Clone, Serialize)]
pub struct DanglingDelete {
    /// Its location.
    pub path: String,
    /// Whether it deletes by position or by key.
    #[serde(serialize_with = "kind")]
    pub content: DataContentType,
    /// Deletes in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    #[serde(skip)]
    pub(super) delete: DeleteFile,
}

fn kind<S: Serializer>(content: &DataContentType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match content {
        DataContentType::EqualityDeletes => "equality-deletes",
        _ => "position-deletes",
    })
}

impl DanglingDelete {
    fn new(delete: &DeleteFile) -> Self {
        Self {
            path: delete.file.file_path.clone(),
            content: delete.file.content,
            rows: delete.file.record_count,
            bytes: delete.file.file_size_in_bytes,
            delete: delete.clone(),
        }
    }

    pub(super) fn removed(&self) -> RemovedFile {
        RemovedFile::new(&self.delete.file, Some(self.delete.sequence_number))
    }
}

/// Live data files as they come by, as far as delete files care about them.
#[derive(Debug, Default)]
pub(super) struct Living {
    oldest: Option<SequenceNumber>,
    oldest_of: HashMap<PartitionKey, SequenceNumber>,
    /// Position delete files that some data file is read with.
    met: HashSet<String>,
}

impl Living {
    pub(super) fn add(&mut self, task: &FileScanTask) {
        let age = task.sequence_number;
        self.oldest = Some(self.oldest.map_or(age, |oldest| oldest.min(age)));
        let oldest = self.oldest_of.entry(task.file.partition_key()).or_insert(age);
        *oldest = age.min(*oldest);
        for delete in task.deletes.iter().filter(|d| is_position(d)) {
            if !self.met.contains(&delete.file.file_path) {
                self.met.insert(delete.file.file_path.clone());
            }
        }
    }

    /// The delete files that met no data file. With `partial`, only some partitions were looked
    /// at, and deletes that reach the whole table stay.
    pub(super) fn dangling(
        &self,
        table: &Table,
        deletes: &DeleteFileIndex,
        partial: bool,
    ) -> Result<Vec<DanglingDelete>> {
        let mut found = Vec::new();
        for delete in deletes.files() {
            let file = &delete.file;
            let older = |oldest: SequenceNumber| oldest < delete.sequence_number;
            let lives = match is_position(delete) {
                true => self.met.contains(&file.file_path),
                false if table.spec(file.spec_id)?.is_unpartitioned() => {
                    partial || self.oldest.is_some_and(older)
                }
                false => self.oldest_of.get(&file.partition_key()).copied().is_some_and(older),
            };
            if !lives {
                found.push(DanglingDelete::new(delete));
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }
}

pub(super) fn is_position(delete: &DeleteFile) -> bool {
    delete.file.content == DataContentType::PositionDeletes
}
