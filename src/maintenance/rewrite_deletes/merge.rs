//! The position deletes of a few data files, read and written as one file each.

use crate::deletes::DeleteLoader;
use crate::error::Result;
use crate::file::{WriterOptions, write_position_deletes};
use crate::scan::FileScanTask;
use crate::spec::DataFile;
use crate::table::{AddedDelete, RemovedFile, Table, WriteResult};

use super::plan::DeletesUnit;

/// A unit whose new files are written and belong to no snapshot yet.
#[derive(Debug)]
pub(super) struct Merged {
    pub unit: DeletesUnit,
    pub files: Vec<AddedDelete>,
}

impl Merged {
    pub(super) fn removed(&self) -> impl Iterator<Item = RemovedFile> + '_ {
        let deletes = self.unit.deletes.iter();
        deletes.map(|d| RemovedFile::new(&d.file, Some(d.sequence_number)))
    }

    pub(super) fn data_files(self) -> impl Iterator<Item = DataFile> {
        self.files.into_iter().map(|added| added.file)
    }
}

/// Reads and writes; after an error no file stays.
pub(super) async fn merge(
    table: &Table,
    loader: &DeleteLoader,
    unit: DeletesUnit,
    options: &WriterOptions,
) -> Result<Merged> {
    let mut files: Vec<AddedDelete> = Vec::new();
    for task in &unit.tasks {
        match merge_one(table, loader, task, options).await {
            Ok(file) => files.extend(file),
            Err(error) => {
                discard(table, files.into_iter().map(|added| added.file)).await;
                return Err(error);
            }
        }
    }
    Ok(Merged { unit, files })
}

/// The youngest of the merged deletes gives the new file its age: it is no older than the data
/// file, as none of them is, and no younger than what others already checked for (MNT-41).
async fn merge_one(
    table: &Table,
    loader: &DeleteLoader,
    task: &FileScanTask,
    options: &WriterOptions,
) -> Result<Option<AddedDelete>> {
    let (file, deletes) = (&task.file, &task.deletes);
    let Some(positions) = loader.positions(file, deletes).await? else { return Ok(None) };
    let mut positions = (*positions).clone();
    // Others may name rows that the file never had.
    positions.remove_range(file.record_count..);
    if positions.is_empty() {
        return Ok(None);
    }
    let location = table.new_data_path(&file.partition_key(), "pos-deletes")?;
    let written = write_position_deletes(table.storage(), &location, file, &positions, options);
    let sequence_number = deletes.iter().map(|d| d.sequence_number).max();
    match written.await {
        Ok(file) => Ok(Some(AddedDelete { file, sequence_number })),
        Err(error) => {
            // The answer may be lost and the file there.
            let _ = table.storage().delete(&location).await;
            Err(error)
        }
    }
}

/// Removes files that no commit will list. What cannot be removed is an orphan.
pub(super) async fn discard(table: &Table, files: impl Iterator<Item = DataFile>) {
    let written = WriteResult { delete_files: files.collect(), ..WriteResult::default() };
    if let Err(error) = written.discard(table.storage()).await {
        tracing::warn!(%error, "merged deletes that did not land were left behind");
    }
}
