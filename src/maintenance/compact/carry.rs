//! Position deletes that others committed while rows were rewritten, translated to the new files.
//!
//! Whatever names a row of an input and was not there when the input was read is carried over,
//! whoever wrote it and whatever its age says: conversions and rewrites of deletes too (MNT-3).

use std::collections::{BTreeMap, HashSet};

use roaring::RoaringTreemap;

use super::CompactGroup;
use super::group::own_deletes;
use super::row_map::RowMap;
use crate::deletes::{DeleteFile, DeleteFileIndex, DeleteLoader};
use crate::error::Result;
use crate::file::{WriterOptions, write_position_deletes};
use crate::spec::{DataContentType, DataFile};
use crate::table::{RemovedFile, Table};

/// Position delete files that go with their data files: those about one input only that are live
/// now.
pub(super) fn going_deletes(
    group: &CompactGroup,
    deletes: &DeleteFileIndex,
) -> Result<Vec<RemovedFile>> {
    let mut going = Vec::new();
    for task in &group.tasks {
        let mut now = task.clone();
        now.deletes = deletes.for_data_file(&task.file, task.sequence_number)?;
        let own = own_deletes(&now);
        going.extend(own.map(|d| RemovedFile::new(&d.file, Some(d.sequence_number))));
    }
    Ok(going)
}

/// Rows of the new files that others deleted by position since the inputs were read, by file.
pub(super) async fn deleted_meanwhile(
    base: &Table,
    group: &CompactGroup,
    deletes: &DeleteFileIndex,
    map: &RowMap,
    memory_bytes: u64,
) -> Result<BTreeMap<usize, RoaringTreemap>> {
    let (storage, metadata) = (base.storage().clone(), base.metadata().clone());
    let loader = DeleteLoader::new(storage, metadata, None, memory_bytes);
    let mut dead: BTreeMap<usize, RoaringTreemap> = BTreeMap::new();
    for task in &group.tasks {
        let known: HashSet<&str> = task.deletes.iter().map(|d| d.file.file_path.as_str()).collect();
        let is_new = |d: &DeleteFile| {
            d.file.content == DataContentType::PositionDeletes
                && !known.contains(d.file.file_path.as_str())
        };
        let mut new = deletes.for_data_file(&task.file, task.sequence_number)?;
        new.retain(is_new);
        let Some(positions) = loader.positions(&task.file, &new).await? else { continue };
        for position in positions.iter() {
            if let Some((file, row)) = map.locate(&task.file.file_path, position) {
                dead.entry(file).or_default().insert(row);
            }
        }
    }
    Ok(dead)
}

/// Writes one position delete file per new file that lost rows. After an error none stays.
pub(super) async fn write(
    table: &Table,
    files: &[DataFile],
    dead: &BTreeMap<usize, RoaringTreemap>,
) -> Result<Vec<DataFile>> {
    let options = WriterOptions::from_properties(&table.properties(), table.schema())?;
    let mut written = Vec::new();
    for (file, positions) in dead.iter().filter_map(|(at, p)| Some((files.get(*at)?, p))) {
        let path = table.new_data_path(&file.partition_key(), "pos-deletes")?;
        match write_position_deletes(table.storage(), &path, file, positions, &options).await {
            Ok(delete) => written.push(delete),
            Err(error) => {
                discard(table, written).await;
                return Err(error);
            }
        }
    }
    Ok(written)
}

/// Removes translated deletes that will not be committed; leftovers are orphans.
pub(super) async fn discard(table: &Table, deletes: Vec<DataFile>) {
    for file in deletes {
        let _ = table.storage().delete(&file.file_path).await;
    }
}
