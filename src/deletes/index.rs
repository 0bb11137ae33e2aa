//! Decides which delete files apply to which data file.
//!
//! In: the live delete entries of one snapshot. Out: a [`DeleteFileIndex`] that a scan asks
//! once per data file. Pure: no storage, no clock.

use std::fmt::Display;

use hashbrown::HashMap;

use super::DeleteFile;
use super::pruning::{FileBounds, KeyStats, is_outside_path_bounds};
use crate::error::{Error, Result};
use crate::spec::{
    DataContentType, DataFile, DataFileFormat, Literal, PartitionKey, PrimitiveLiteral,
    SequenceNumber, TableMetadata,
};

/// All delete files of one snapshot, laid out so that a data file finds its own at once.
///
/// * Global list: equality deletes whose spec is unpartitioned (DEL-3).
/// * By (spec, partition): the other equality deletes, and position deletes about several files.
/// * By path: position deletes about one file.
///
/// Lists are sorted by sequence number, so one binary search finds those young enough.
/// Memory: about 200 bytes a delete file beyond the shared [`DataFile`].
///
/// # Source
/// Iceberg spec v2, "Scan Planning".
#[derive(Debug, Default)]
pub struct DeleteFileIndex {
    global: EqualityList,
    equality: HashMap<PartitionKey, EqualityList>,
    positions: HashMap<PartitionKey, Vec<DeleteFile>>,
    by_path: HashMap<String, Vec<DeleteFile>>,
    files: usize,
}

/// Equality deletes of one scope, ascending by sequence number.
#[derive(Debug, Default)]
struct EqualityList {
    deletes: Vec<(DeleteFile, Vec<KeyStats>)>,
}

impl DeleteFileIndex {
    /// Sorts the delete files of one snapshot into their scopes.
    ///
    /// # Errors
    /// * `CorruptData` for a data file among the deletes, an unknown partition spec, an equality
    ///   delete without equality ids, or an equality column that no schema of the table knows.
    /// * `Unsupported` for deletion vectors (v3) and delete files that are not Parquet.
    pub fn new(
        deletes: impl IntoIterator<Item = DeleteFile>,
        metadata: &TableMetadata,
    ) -> Result<Self> {
        let mut index = Self::default();
        let mut unpartitioned: HashMap<i32, bool> = HashMap::new();
        for spec in metadata.partition_specs_iter() {
            unpartitioned.insert(spec.spec_id(), spec.is_unpartitioned());
        }
        for delete in deletes {
            check_format(&delete.file)?;
            let Some(is_global) = unpartitioned.get(&delete.file.spec_id).copied() else {
                return Err(broken(&delete.file, "delete file has an unknown partition spec")
                    .with_context("spec id", delete.file.spec_id));
            };
            index.insert(delete, is_global, metadata)?;
        }
        index.sort();
        Ok(index)
    }

    /// The delete files that apply to a data file of data sequence number `sequence_number`
    /// (DEL-1, DEL-2, DEL-3), without those whose statistics prove that they cannot meet it
    /// (DEL-5, DEL-6).
    ///
    /// # Errors
    /// `CorruptData` if a position delete names this file by path but carries another partition
    /// (DEL-4).
    pub fn for_data_file(
        &self,
        file: &DataFile,
        sequence_number: SequenceNumber,
    ) -> Result<Vec<DeleteFile>> {
        let mut found = Vec::new();
        if self.files == 0 {
            return Ok(found);
        }
        let mut bounds = FileBounds::new(file);
        self.global.collect(&mut bounds, sequence_number, &mut found);
        if !self.equality.is_empty() || !self.positions.is_empty() {
            let key = scope_key(file);
            if let Some(list) = self.equality.get(&key) {
                list.collect(&mut bounds, sequence_number, &mut found);
            }
            if let Some(list) = self.positions.get(&key) {
                for delete in young_enough(list, sequence_number) {
                    if !is_outside_path_bounds(&file.file_path, &delete.file) {
                        found.push(delete.clone());
                    }
                }
            }
        }
        if let Some(list) = self.by_path.get(file.file_path.as_str()) {
            for delete in young_enough(list, sequence_number) {
                check_same_partition(file, &delete.file)?;
                found.push(delete.clone());
            }
        }
        Ok(found)
    }

    /// True when the snapshot has no delete files at all.
    pub fn is_empty(&self) -> bool {
        self.files == 0
    }

    /// How many delete files are held.
    pub fn len(&self) -> usize {
        self.files
    }

    /// Every delete file held, in no order.
    pub fn files(&self) -> impl Iterator<Item = &DeleteFile> {
        let equality = self.equality.values().chain(std::iter::once(&self.global));
        let positions = self.positions.values().chain(self.by_path.values());
        equality
            .flat_map(|list| list.deletes.iter().map(|(delete, _)| delete))
            .chain(positions.flatten())
    }

    /// The equality deletes that share scope and equality ids with `delete`, itself included:
    /// they end up in one [`EqualityDeleteMap`](super::EqualityDeleteMap).
    pub fn equality_siblings(&self, delete: &DataFile) -> Vec<DeleteFile> {
        let list = self.equality.get(&scope_key(delete)).unwrap_or(&self.global);
        let wanted = id_set(delete);
        let same = |other: &&(DeleteFile, Vec<KeyStats>)| id_set(&other.0.file) == wanted;
        list.deletes.iter().filter(same).map(|(delete, _)| delete.clone()).collect()
    }

    fn insert(
        &mut self,
        delete: DeleteFile,
        is_global: bool,
        metadata: &TableMetadata,
    ) -> Result<()> {
        self.files += 1;
        match delete.file.content {
            DataContentType::EqualityDeletes => {
                let stats = KeyStats::of(&delete.file, metadata)?;
                let list = if is_global {
                    &mut self.global
                } else {
                    self.equality.entry(scope_key(&delete.file)).or_default()
                };
                list.deletes.push((delete, stats));
            }
            DataContentType::PositionDeletes => match delete.file.referenced_path() {
                Some(path) => self.by_path.entry(path.to_string()).or_default().push(delete),
                None => {
                    self.positions.entry(scope_key(&delete.file)).or_default().push(delete);
                }
            },
            DataContentType::Data => {
                return Err(broken(&delete.file, "a delete manifest lists a data file"));
            }
        }
        Ok(())
    }

    fn sort(&mut self) {
        for list in self.equality.values_mut().chain(std::iter::once(&mut self.global)) {
            list.deletes.sort_by_key(|(delete, _)| delete.sequence_number);
        }
        for list in self.positions.values_mut().chain(self.by_path.values_mut()) {
            list.sort_by_key(|delete| delete.sequence_number);
        }
    }
}

impl EqualityList {
    fn collect(
        &self,
        bounds: &mut FileBounds<'_>,
        sequence_number: SequenceNumber,
        found: &mut Vec<DeleteFile>,
    ) {
        // Strictly younger than the data, so that an upsert does not delete its own insert.
        let start =
            self.deletes.partition_point(|(delete, _)| delete.sequence_number <= sequence_number);
        for (delete, stats) in self.deletes.get(start..).unwrap_or_default() {
            if bounds.can_meet(stats) {
                found.push(delete.clone());
            }
        }
    }
}

/// Position deletes of the data's own commit apply too: a writer may delete what it just wrote.
fn young_enough(list: &[DeleteFile], sequence_number: SequenceNumber) -> &[DeleteFile] {
    let start = list.partition_point(|delete| delete.sequence_number < sequence_number);
    list.get(start..).unwrap_or_default()
}

/// The file's partition, with values written before a promotion widened, so that old and new
/// files of one partition meet (DEL-2).
pub(super) fn scope_key(file: &DataFile) -> PartitionKey {
    let widen = |value: Option<&Literal>| match value {
        Some(Literal::Primitive(PrimitiveLiteral::Int(v))) => Some(Literal::long(i64::from(*v))),
        Some(Literal::Primitive(PrimitiveLiteral::Float(v))) => {
            Some(Literal::double(f64::from(v.0)))
        }
        other => other.cloned(),
    };
    PartitionKey { spec_id: file.spec_id, values: file.partition.iter().map(widen).collect() }
}

pub(super) fn id_set(file: &DataFile) -> Vec<i32> {
    let mut ids = file.equality_ids.clone().unwrap_or_default();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn check_format(file: &DataFile) -> Result<()> {
    let refused = match file.file_format {
        DataFileFormat::Parquet => return Ok(()),
        DataFileFormat::Puffin => "deletion vectors (format version 3) are not supported yet",
        DataFileFormat::Avro => "delete files in Avro are not supported yet",
        DataFileFormat::Orc => "delete files in ORC are not supported yet",
    };
    Err(Error::unsupported(refused).with_context("delete file", &file.file_path))
}

fn check_same_partition(data: &DataFile, delete: &DataFile) -> Result<()> {
    if scope_key(data) == scope_key(delete) {
        return Ok(());
    }
    Err(broken(delete, "position delete names a data file of another partition")
        .with_context("data file", &data.file_path)
        .with_context("spec ids", format!("{} and {}", delete.spec_id, data.spec_id))
        .with_hint("rewrite the position deletes of this table with the engine that wrote them"))
}

fn broken(file: &DataFile, message: impl Display) -> Error {
    Error::corrupt(message.to_string()).with_context("delete file", &file.file_path)
}

#[cfg(test)]
pub(crate) mod tests;
