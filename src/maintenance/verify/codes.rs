//! What can be wrong with a table: stable codes, how bad each is, and what to do about it.

use std::fmt;

use serde::{Serialize, Serializer};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Readers fail or return wrong rows, or the check could not be made.
    Error,
    /// Numbers that people and planners look at are wrong; rows are right.
    Warning,
    /// Worth knowing; nothing is wrong.
    Notice,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        })
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])+ $code:ident = $name:literal, $severity:ident, $next:literal;)+) => {
        /// What is wrong. Names are stable: scripts may rely on them (MNT-60).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])+ $code,)+
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$code),+];

            /// The stable name, such as `data-file-missing`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$code => $name,)+ }
            }

            /// How bad it is.
            pub fn severity(self) -> Severity {
                match self { $(Self::$code => Severity::$severity,)+ }
            }

            /// What to do next; `{table}` stands for the table's name.
            pub(super) fn advice(self) -> &'static str {
                match self { $(Self::$code => $next,)+ }
            }
        }
    };
}

codes! {
    /// The metadata file that the catalog points at is gone.
    MetadataMissing = "metadata-missing", Error,
        "restore the file, or `meltwater register` the newest metadata file that is left";
    /// The metadata file that the catalog points at cannot be read.
    MetadataUnreadable = "metadata-unreadable", Error,
        "`meltwater register` an earlier metadata file under a new name and look at that table";
    /// The log names an earlier metadata file that is gone.
    MetadataLogMissing = "metadata-log-missing", Notice,
        "nothing: earlier versions are not read";
    /// A branch or tag names a snapshot that the table does not have.
    RefDangling = "ref-dangling", Error,
        "drop the ref: `meltwater branch {table}` or `meltwater tag {table}`";
    /// Parents of snapshots go in a circle.
    ParentCycle = "parent-cycle", Error,
        "`meltwater register` an earlier metadata file; history cannot be walked";
    /// A snapshot's sequence number is not above its parent's.
    SnapshotSequence = "snapshot-sequence", Error,
        "roll back to the parent, `meltwater rollback {table}`: deletes reach the wrong rows";
    /// The table's last sequence number is below that of a snapshot.
    LastSequence = "last-sequence-number", Error,
        "commit nothing with writers that trust the number; repair the metadata first";
    /// A snapshot was written with a schema that the table does not have.
    SchemaUnknown = "schema-unknown", Error,
        "`meltwater register` an earlier metadata file that still has the schema";
    /// A manifest or file belongs to a partition spec that the table does not have.
    SpecUnknown = "spec-unknown", Error,
        "`meltwater register` an earlier metadata file that still has the spec";
    /// A snapshot's manifest list is gone.
    ManifestListMissing = "manifest-list-missing", Error,
        "restore the file, or `meltwater rollback {table}` to a snapshot that has its list";
    /// A snapshot's manifest list cannot be read.
    ManifestListUnreadable = "manifest-list-unreadable", Error,
        "restore the file, or `meltwater rollback {table}` to a snapshot that has its list";
    /// A manifest is gone.
    ManifestMissing = "manifest-missing", Error,
        "restore the file, or `meltwater rollback {table}` to a snapshot without it";
    /// A manifest cannot be read.
    ManifestUnreadable = "manifest-unreadable", Error,
        "restore the file, or `meltwater rollback {table}` to a snapshot without it";
    /// A manifest's size differs from what its list says.
    ManifestLength = "manifest-length", Error,
        "restore the file: it was cut off or written twice";
    /// Counts of the manifest list differ from the entries of the manifest.
    ManifestCounts = "manifest-counts", Error,
        "`meltwater rewrite-manifests {table}` writes the counts anew";
    /// The least sequence number of the manifest list is above an entry's.
    ManifestMinSequence = "manifest-min-sequence", Error,
        "`meltwater rewrite-manifests {table}` writes the number anew";
    /// A partition summary of the manifest list excludes an entry.
    ManifestPartitions = "manifest-partitions", Error,
        "`meltwater rewrite-manifests {table}` writes the summaries anew: filters miss files";
    /// A manifest lists a file of the other content.
    ManifestContent = "manifest-content", Error,
        "`meltwater rollback {table}` to a snapshot without this manifest";
    /// An entry or manifest is younger than its snapshot.
    SequenceBeyondSnapshot = "sequence-beyond-snapshot", Error,
        "`meltwater rollback {table}` to a snapshot without it: deletes reach the wrong rows";
    /// The rows of a file are younger than the file.
    SequenceBeyondFile = "sequence-beyond-file", Error,
        "`meltwater rollback {table}` to a snapshot without it: deletes reach the wrong rows";
    /// One file is live twice in a snapshot: its rows are read twice.
    DuplicateFile = "duplicate-file", Error,
        "`meltwater rollback {table}` to before the commit that added the file again";
    /// An equality delete file has no equality ids, or such that no schema knows.
    EqualityIds = "equality-ids", Error,
        "`meltwater rollback {table}` to a snapshot without it: nobody can tell what it deletes";
    /// A data file is gone.
    DataFileMissing = "data-file-missing", Error,
        "restore the file, or `meltwater rollback {table}` to a snapshot without it";
    /// A delete file is gone.
    DeleteFileMissing = "delete-file-missing", Error,
        "restore the file, or `meltwater rollback {table}` to a snapshot without it";
    /// A file's size differs from what the manifest says.
    FileSize = "file-size", Error,
        "restore the file: readers that trust the size cannot read it";
    /// A data or delete file cannot be read.
    FileUnreadable = "file-unreadable", Error,
        "restore the file, or `meltwater rollback {table}` to a snapshot without it";
    /// A data file has more or fewer rows than the manifest says.
    RecordCount = "record-count", Error,
        "rewrite the file with `meltwater compact {table} --all`: counts and positions are wrong";
    /// A delete file has more or fewer deletes than the manifest says.
    DeleteCount = "delete-count", Warning,
        "nothing is lost; `meltwater convert-deletes {table}` replaces equality deletes";
    /// A lower or upper bound excludes a row of the file.
    Bounds = "bounds", Error,
        "rewrite the file with `meltwater compact {table} --all`: filters miss rows";
    /// The number of nulls of a column is wrong.
    NullCount = "null-count", Error,
        "rewrite the file with `meltwater compact {table} --all`: IS NULL misses rows";
    /// The number of NaNs of a column is wrong.
    NanCount = "nan-count", Error,
        "rewrite the file with `meltwater compact {table} --all`: IS NAN misses rows";
    /// The number of values of a column is wrong.
    ValueCount = "value-count", Warning,
        "rewrite the file with `meltwater compact {table} --all` if it matters";
    /// Rows of a data file lie in another partition than the file claims.
    RowPartition = "row-partition", Error,
        "`meltwater rollback {table}` to before it and append its rows again: filters miss them";
    /// An equality delete file lacks a column that it compares.
    EqualityColumn = "equality-column", Error,
        "`meltwater rollback {table}` to a snapshot without it: nobody can tell what it deletes";
    /// A position delete names a row beyond the end of its data file.
    PositionBeyondFile = "position-beyond-file", Error,
        "`meltwater rollback {table}` to a snapshot without it: it was made for another file";
    /// The rows of a position delete file are not sorted by path and position.
    PositionOrder = "position-order", Error,
        "rewrite it with `meltwater rewrite-position-deletes {table}`: merging readers miss rows";
    /// A position delete's one data file lies in another partition.
    PositionPartition = "position-partition", Error,
        "rewrite it with the engine that wrote it: readers refuse it or miss it";
    /// Totals of a snapshot's summary differ from its files.
    SummaryTotals = "summary-totals", Warning,
        "nothing is lost; the next rewrite of the table by its writer may count anew";
    /// A delete file reaches no live row.
    DeleteDangling = "delete-dangling", Notice,
        "`meltwater rewrite-position-deletes {table}` drops it";
    /// A file lies outside the table's location.
    OutsideLocation = "outside-location", Notice,
        "nothing, unless the folder is cleaned up by others or the table is to be moved";
    /// A file of a kind that this version does not read.
    NotChecked = "not-checked", Notice,
        "check it with an engine that reads it";
    /// Storage gave no answer about a file.
    Unavailable = "unavailable", Error,
        "check again when the storage answers";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
