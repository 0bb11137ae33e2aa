//! One data file with its deletes.

use std::sync::Arc;

use crate::deletes::DeleteFile;
use crate::spec::{BoundPredicate, DataFile, SequenceNumber, SnapshotId};

/// One data file to read and everything that decides which of its rows are in the result.
#[derive(Debug, Clone)]
pub struct FileScanTask {
    /// The data file.
    pub file: Arc<DataFile>,
    /// Its data sequence number: the age of its rows.
    pub sequence_number: SequenceNumber,
    /// The delete files that may hold deletes of its rows.
    pub deletes: Vec<DeleteFile>,
    /// What rows still have to pass; `None` when partition or statistics prove that all do.
    pub residual: Option<Arc<BoundPredicate>>,
    /// The snapshot that is read.
    pub snapshot_id: SnapshotId,
}

impl FileScanTask {
    /// The number of result rows when it is known without reading: no deletes, nothing left of
    /// the filter.
    pub fn exact_rows(&self) -> Option<u64> {
        let whole = self.deletes.is_empty() && self.residual.is_none();
        whole.then_some(self.file.record_count)
    }
}
