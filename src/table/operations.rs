//! The operations a user asks for, each a thin configuration of the one engine.

use std::collections::HashSet;

use crate::error::Result;
use crate::spec::{DataFile, SequenceNumber, SnapshotId};

use super::delta::{AddedDelete, Delta, Isolation, OperationKind, RemovedFile};
use super::{Commit, Table, WriteResult};

impl Table {
    /// Adds data files and merges small manifests on the way.
    pub fn append(&self, written: WriteResult) -> Commit {
        self.with_files(OperationKind::Append, written)
    }

    /// Adds data files and touches no manifest that is there: the quickest commit.
    pub fn fast_append(&self, written: WriteResult) -> Commit {
        self.with_files(OperationKind::FastAppend, written)
    }

    /// Adds rows and deletes in one snapshot. Deletes of existing rows by position should be
    /// validated from the snapshot that was read ([`Commit::validate_from`]).
    pub fn row_delta(&self, written: WriteResult) -> Commit {
        self.with_files(OperationKind::RowDelta, written)
    }

    /// Replaces data files that were read by others with other rows.
    pub fn overwrite_files(&self, removed: Vec<RemovedFile>, written: WriteResult) -> Commit {
        let mut commit = self.with_files(OperationKind::Overwrite, written);
        (commit.delta.removed_data, commit.delta.removed_deletes) = split(removed);
        commit
    }

    /// Replaces every partition that `written` has rows for by those rows.
    pub fn replace_partitions(&self, written: WriteResult) -> Commit {
        self.with_files(OperationKind::ReplacePartitions, written)
            .summary("replace-partitions", "true")
    }

    /// Removes whole data files.
    pub fn delete_files(&self, removed: Vec<RemovedFile>) -> Commit {
        let mut commit = self.with_files(OperationKind::Delete, WriteResult::default());
        (commit.delta.removed_data, commit.delta.removed_deletes) = split(removed);
        commit
    }

    /// Replaces files by others that hold the same rows.
    ///
    /// `planned_at` is the snapshot that was read: the new data files take its sequence number,
    /// so that equality deletes committed meanwhile still apply to them.
    ///
    /// # Errors
    /// `NotFound` if the table no longer keeps that snapshot.
    pub fn rewrite_files(
        &self,
        removed: Vec<RemovedFile>,
        added: Vec<DataFile>,
        planned_at: SnapshotId,
    ) -> Result<Commit> {
        let number = SequenceNumber(self.snapshot(planned_at)?.sequence_number());
        let written = WriteResult { data_files: added, ..WriteResult::default() };
        let mut commit = self.with_files(OperationKind::Rewrite, written);
        (commit.delta.removed_data, commit.delta.removed_deletes) = split(removed);
        commit.delta.data_sequence_number = Some(number);
        commit.delta.no_logical_change = true;
        Ok(commit.validate_from(Some(planned_at)))
    }

    /// Replaces equality deletes by position deletes that hit the same rows (CMT-3): committed as
    /// an overwrite that is marked as no logical change.
    ///
    /// `planned` names every data file that the planner saw; if a file that it did not see could
    /// still be hit by a removed delete, the commit is refused.
    pub fn convert_deletes(
        &self,
        removed: Vec<RemovedFile>,
        added: Vec<AddedDelete>,
        planned: HashSet<String>,
        planned_at: SnapshotId,
    ) -> Commit {
        let mut delta = Delta::new(OperationKind::Overwrite);
        delta.referenced =
            added.iter().filter_map(|d| d.file.referenced_path().map(str::to_string)).collect();
        delta.count_plain_deletes = true;
        delta.added_deletes = added;
        (delta.removed_data, delta.removed_deletes) = split(removed);
        delta.planned = planned;
        delta.no_logical_change = true;
        delta.isolation = Isolation::Snapshot;
        Commit::new(self.clone(), delta).validate_from(Some(planned_at))
    }

    /// Replaces delete files by others that hit the same rows, or removes such as hit none.
    ///
    /// Every delete to add carries an age that is no higher than those it replaces: the youngest of
    /// them. The data files that it names must stay; an equality delete may go only if no live row is
    /// left that it reaches (CMT-3).
    pub fn rewrite_deletes(
        &self,
        removed: Vec<RemovedFile>,
        added: Vec<AddedDelete>,
        planned_at: SnapshotId,
    ) -> Commit {
        let mut delta = Delta::new(OperationKind::Rewrite);
        delta.referenced =
            added.iter().filter_map(|d| d.file.referenced_path().map(str::to_string)).collect();
        delta.count_plain_deletes = true;
        delta.added_deletes = added;
        (delta.removed_data, delta.removed_deletes) = split(removed);
        delta.no_logical_change = true;
        Commit::new(self.clone(), delta).validate_from(Some(planned_at))
    }

    fn with_files(&self, kind: OperationKind, written: WriteResult) -> Commit {
        let mut delta = Delta::new(kind);
        let own: HashSet<&str> = written.data_files.iter().map(|f| f.file_path.as_str()).collect();
        let foreign = |path: &&String| !own.contains(path.as_str());
        delta.referenced = written.referenced_data_files.iter().filter(foreign).cloned().collect();
        delta.added_data = written.data_files;
        delta.added_deletes = written
            .delete_files
            .into_iter()
            .map(|file| AddedDelete { file, sequence_number: None })
            .collect();
        delta.covered_specs = written.covered_specs;
        if let Some(seen) = written.looked_up {
            (delta.start, delta.conflict_filter) = (seen.at, seen.filter);
            (delta.validate, delta.check_moves) = (true, true);
        }
        Commit::new(self.clone(), delta)
    }
}

impl Commit {
    /// For a rewrite whose inputs lost rows by position meanwhile: `deletes` are what others
    /// committed up to the snapshot `through`, translated to the added files. Deletes committed
    /// after `through` are a conflict as before. With `deletes` the snapshot is an overwrite that
    /// is marked as no logical change (CMT-3), since readers of deletes pass over `replace`.
    pub fn with_carried_deletes(mut self, deletes: Vec<DataFile>, through: SnapshotId) -> Self {
        self.delta.start = Some(through);
        if !deletes.is_empty() {
            self.delta.kind = OperationKind::Overwrite;
            self.delta.isolation = Isolation::Snapshot;
            let added = deletes.into_iter().map(|file| AddedDelete { file, sequence_number: None });
            self.delta.added_deletes = added.collect();
        }
        self
    }
}

fn split(removed: Vec<RemovedFile>) -> (Vec<RemovedFile>, Vec<RemovedFile>) {
    removed.into_iter().partition(|f| f.content == crate::spec::DataContentType::Data)
}
