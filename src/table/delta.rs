//! One set of changes on its way to a snapshot, as a plain value.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::error::{Error, Result};
use crate::spec::{
    DataContentType, DataFile, DataFileFormat, FormatVersion, ManifestFile, Operation,
    PartitionKey, Predicate, SequenceNumber, SnapshotId, Struct, TableMetadata, Type, promoted,
};

use super::Table;

/// Which of the thin configurations of the one engine a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// Adds data files, touches nothing else, writes no merged manifests.
    FastAppend,
    /// Adds data files and merges small manifests.
    Append,
    /// Adds data and delete files.
    RowDelta,
    /// Replaces data files by others with different rows.
    Overwrite,
    /// Replaces whole partitions.
    ReplacePartitions,
    /// Removes data files.
    Delete,
    /// Replaces files without changing the table's rows.
    Rewrite,
}

/// How much of what others committed meanwhile a commit tolerates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Isolation {
    /// The files that were read must still be there; new rows of others are fine.
    Snapshot,
    /// As if nobody else had committed since the start snapshot: rows that others added and
    /// that the conflict filter may match are a conflict.
    #[default]
    Serializable,
}

/// A file to remove from the table.
#[derive(Debug, Clone, PartialEq)]
pub struct RemovedFile {
    /// Its location, as the manifest writes it.
    pub path: String,
    /// Its partition: manifests of other partitions are not opened.
    pub partition: PartitionKey,
    /// What it holds.
    pub content: DataContentType,
    /// Its data sequence number, where the caller knows it.
    pub sequence_number: Option<SequenceNumber>,
    /// What an equality delete compares; empty for others.
    pub equality_ids: Vec<i32>,
}

impl RemovedFile {
    /// Names a file that was read from the table.
    pub fn new(file: &DataFile, sequence_number: Option<SequenceNumber>) -> Self {
        Self {
            path: file.file_path.clone(),
            partition: file.partition_key(),
            content: file.content,
            sequence_number,
            equality_ids: file.equality_ids.clone().unwrap_or_default(),
        }
    }
}

/// A delete file to add.
#[derive(Debug, Clone, PartialEq)]
pub struct AddedDelete {
    /// The file.
    pub file: DataFile,
    /// An explicit age, for rewritten deletes; otherwise the commit's number.
    pub sequence_number: Option<SequenceNumber>,
}

/// Everything that one commit adds, removes, relies on and records.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    /// The configuration.
    pub kind: OperationKind,
    /// Data files to add.
    pub added_data: Vec<DataFile>,
    /// Delete files to add.
    pub added_deletes: Vec<AddedDelete>,
    /// Data files to remove.
    pub removed_data: Vec<RemovedFile>,
    /// Delete files to remove.
    pub removed_deletes: Vec<RemovedFile>,
    /// Age of the added data files, for rewrites: the sequence number of the snapshot that was
    /// read. Otherwise they take the commit's number.
    pub data_sequence_number: Option<SequenceNumber>,
    /// The snapshot that the work was planned against; later ones are checked for conflicts.
    pub start: Option<SnapshotId>,
    /// Whether conflicts since `start` are looked for even when `start` is `None`, which then
    /// means: since the table was empty.
    pub validate: bool,
    /// Only rows that may match this can conflict; `None` is every row.
    pub conflict_filter: Option<Predicate>,
    /// Which new rows of others conflict.
    pub isolation: Isolation,
    /// Data files that position deletes point at and that must still be there.
    pub referenced: BTreeSet<String>,
    /// Whether a plain delete of a referenced file is a conflict too.
    pub count_plain_deletes: bool,
    /// Whether delete files that others added are a conflict.
    pub check_new_deletes: bool,
    /// Whether rows that others moved to another partition spec are a conflict (CMT-14).
    pub check_moves: bool,
    /// See [`super::WriteResult::covered_specs`].
    pub covered_specs: Option<BTreeSet<i32>>,
    /// Data files that the planner of this rewrite saw, for the check of rule CMT-3.
    pub planned: HashSet<String>,
    /// Manifests to leave out, by location: their live entries are in `added_manifests`.
    pub removed_manifests: BTreeSet<String>,
    /// Manifests written beforehand, whose entries are all kept ones with the numbers they had.
    pub added_manifests: Vec<ManifestFile>,
    /// True when the commit changes files but no rows, whatever operation it is recorded as.
    pub no_logical_change: bool,
    /// Extra summary entries.
    pub summary: BTreeMap<String, String>,
}

impl Delta {
    /// An empty delta of one kind.
    pub fn new(kind: OperationKind) -> Self {
        Self {
            kind,
            added_data: Vec::new(),
            added_deletes: Vec::new(),
            removed_data: Vec::new(),
            removed_deletes: Vec::new(),
            data_sequence_number: None,
            start: None,
            validate: false,
            conflict_filter: None,
            isolation: Isolation::default(),
            referenced: BTreeSet::new(),
            count_plain_deletes: false,
            check_new_deletes: false,
            check_moves: false,
            covered_specs: None,
            planned: HashSet::new(),
            removed_manifests: BTreeSet::new(),
            added_manifests: Vec::new(),
            no_logical_change: false,
            summary: BTreeMap::new(),
        }
    }

    /// The operation that the snapshot's summary names (CMT-8).
    pub fn operation(&self) -> Operation {
        let adds_data = !self.added_data.is_empty();
        let adds_deletes = !self.added_deletes.is_empty();
        let removes_data = !self.removed_data.is_empty();
        match self.kind {
            OperationKind::FastAppend | OperationKind::Append => Operation::Append,
            OperationKind::RowDelta => match (adds_data, adds_deletes, removes_data) {
                (_, false, false) => Operation::Append,
                (false, true, _) => Operation::Delete,
                _ => Operation::Overwrite,
            },
            OperationKind::Overwrite if self.no_logical_change => Operation::Overwrite,
            OperationKind::Overwrite => match (adds_data, adds_deletes || removes_data) {
                (true, false) => Operation::Append,
                (false, true) => Operation::Delete,
                _ => Operation::Overwrite,
            },
            OperationKind::ReplacePartitions => Operation::Overwrite,
            OperationKind::Delete => Operation::Delete,
            OperationKind::Rewrite => Operation::Replace,
        }
    }

    /// True when small manifests are merged on this commit.
    pub(crate) fn merges(&self) -> bool {
        self.kind != OperationKind::FastAppend
    }

    /// Brings partition values that were written before their column was promoted to the types of
    /// `base`: there they would be partitions of their own (CMT-16).
    pub(crate) fn promote_partitions(&mut self, base: &Table) {
        let mut types: HashMap<i32, Option<Vec<Type>>> = HashMap::new();
        let mut promote = |spec_id: i32, values: &mut Struct| {
            let types = types.entry(spec_id).or_insert_with(|| base.partition_types(spec_id).ok());
            if let Some(wide) = types.as_ref().and_then(|types| promoted(values, types)) {
                *values = wide;
            }
        };
        let added = self.added_data.iter_mut();
        for file in added.chain(self.added_deletes.iter_mut().map(|delete| &mut delete.file)) {
            promote(file.spec_id, &mut file.partition);
        }
        for file in self.removed_data.iter_mut().chain(&mut self.removed_deletes) {
            promote(file.partition.spec_id, &mut file.partition.values);
        }
    }

    /// Refuses what can never be right, before anything is written (CMT-10).
    ///
    /// # Errors
    /// `InvalidInput` naming the file; `Unsupported` for tables that we only read.
    pub(crate) fn check(&self, metadata: &TableMetadata) -> Result<()> {
        if metadata.format_version() != FormatVersion::V2 {
            return Err(Error::unsupported(format!(
                "tables of format version {} are read-only here",
                metadata.format_version() as u8
            ))
            .with_hint("upgrade the table to format version 2 with the engine that owns it"));
        }
        let mut seen = HashSet::new();
        let added = self.added_data.iter().chain(self.added_deletes.iter().map(|d| &d.file));
        for file in added {
            if !seen.insert(file.file_path.as_str()) {
                return Err(Error::invalid("a file is added twice in one commit")
                    .with_context("file", &file.file_path)
                    .with_hint("hand every file to one commit only once"));
            }
            check_file(file, metadata).map_err(|e| e.with_context("file", &file.file_path))?;
        }
        self.check_contents()?;
        self.check_rewrite()?;
        let removed = self.removed_data.iter().chain(&self.removed_deletes);
        for file in removed {
            if seen.contains(file.path.as_str()) {
                return Err(Error::invalid("a file is both added and removed in one commit")
                    .with_context("file", &file.path));
            }
        }
        if let Some(file) = self.removed_data.iter().find(|f| self.referenced.contains(&f.path)) {
            return Err(Error::invalid(
                "a commit removes a data file that its own position deletes reference",
            )
            .with_context("file", &file.path));
        }
        Ok(())
    }

    fn check_contents(&self) -> Result<()> {
        if let Some(file) = self.added_data.iter().find(|f| f.is_delete()) {
            return Err(Error::invalid("a delete file was handed in as a data file")
                .with_context("file", &file.file_path));
        }
        if let Some(delete) = self.added_deletes.iter().find(|d| !d.file.is_delete()) {
            return Err(Error::invalid("a data file was handed in as a delete file")
                .with_context("file", &delete.file.file_path));
        }
        let appends = matches!(self.kind, OperationKind::FastAppend | OperationKind::Append);
        if appends && !self.added_deletes.is_empty() {
            return Err(Error::invalid("an append takes no delete files")
                .with_hint("commit deletes with `row_delta`"));
        }
        Ok(())
    }

    fn check_rewrite(&self) -> Result<()> {
        if self.kind != OperationKind::Rewrite {
            return Ok(());
        }
        if !self.added_data.is_empty() && self.removed_data.is_empty() {
            return Err(Error::invalid("a rewrite adds data files but removes none")
                .with_hint("a rewrite must not change rows; use `append` for new rows"));
        }
        if !self.added_deletes.is_empty() && self.removed_deletes.is_empty() {
            return Err(Error::invalid("a rewrite adds delete files but removes none"));
        }
        let removes = !self.removed_data.is_empty() || !self.removed_deletes.is_empty();
        if !removes && self.removed_manifests.is_empty() {
            return Err(Error::invalid("a rewrite removes nothing"));
        }
        // A conversion committed as `replace` would be invisible to the conflict checks of other
        // engines, and a concurrent compaction could drop the converted deletes (CMT-3).
        let converts =
            self.removed_deletes.iter().any(|f| f.content == DataContentType::EqualityDeletes)
                && !self.added_deletes.is_empty();
        if converts {
            return Err(Error::invalid(
                "a conversion of equality deletes must be committed as an overwrite",
            )
            .with_hint("use `convert_deletes`, which marks the snapshot as no logical change"));
        }
        Ok(())
    }
}

fn check_file(file: &DataFile, metadata: &TableMetadata) -> Result<()> {
    if file.file_format != DataFileFormat::Parquet {
        return Err(Error::unsupported(format!(
            "files of format {} are not written",
            file.file_format
        ))
        .with_hint("write Parquet files"));
    }
    let Some(spec) = metadata.partition_spec_by_id(file.spec_id) else {
        return Err(Error::invalid(format!("the table has no partition spec {}", file.spec_id))
            .with_hint("write the file for a spec that `meltwater inspect schema` shows"));
    };
    let (fields, values) = (spec.fields().len(), file.partition.fields().len());
    if fields != values {
        return Err(Error::invalid(format!(
            "the file has {values} partition values, spec {} has {fields} fields",
            file.spec_id
        )));
    }
    match file.content {
        DataContentType::Data => Ok(()),
        DataContentType::EqualityDeletes => {
            let ids = file.equality_ids.as_deref().unwrap_or_default();
            if ids.is_empty() {
                return Err(Error::invalid("an equality delete file names no equality columns"));
            }
            let known = |id: &i32| metadata.schemas_iter().any(|s| s.field_by_id(*id).is_some());
            match ids.iter().find(|id| !known(id)) {
                Some(id) => Err(Error::invalid(format!(
                    "an equality delete file compares column id {id}, which no schema has"
                ))),
                None => Ok(()),
            }
        }
        DataContentType::PositionDeletes if file.referenced_path().is_none() => {
            Err(Error::invalid("a position delete file names no single data file")
                .with_hint("write one position delete file per data file (CMT-2)"))
        }
        DataContentType::PositionDeletes => Ok(()),
    }
}
