//! A data or delete file, and the manifest entry that says since when it is in the table.

use std::sync::Arc;

use super::{
    DataContentType, DataFileFormat, Datum, IdBytes, IdMap, PartitionKey, PrimitiveType,
    SequenceNumber, SnapshotId, Struct, datum_from_bound,
};

/// One data, position-delete or equality-delete file as manifests describe it.
///
/// Statistics are kept packed and as written; [`DataFile::lower_bound`] and
/// [`DataFile::upper_bound`] decode them on demand.
///
/// # Source
/// Iceberg spec v2, "Manifests", struct `data_file`.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile {
    /// What the file holds (field 134).
    pub content: DataContentType,
    /// Full location, exactly as written: position deletes match by it (field 100).
    pub file_path: String,
    /// Parquet, Avro or ORC (field 101).
    pub file_format: DataFileFormat,
    /// The partition spec of the manifest that lists the file.
    pub spec_id: i32,
    /// Partition values in the order of that spec's fields (field 102).
    pub partition: Struct,
    /// Rows in the file; for delete files, delete rows (field 103).
    pub record_count: u64,
    /// Exact size in bytes (field 104).
    pub file_size_in_bytes: u64,
    /// Bytes by column (field 108).
    pub column_sizes: IdMap,
    /// Values by column, nulls and NaNs included (field 109).
    pub value_counts: IdMap,
    /// Nulls by column (field 110).
    pub null_value_counts: IdMap,
    /// NaNs by column (field 137).
    pub nan_value_counts: IdMap,
    /// Lower bounds as single-value binary (field 125).
    pub lower_bounds: IdBytes,
    /// Upper bounds as single-value binary (field 128).
    pub upper_bounds: IdBytes,
    /// Encryption key metadata, opaque (field 131).
    pub key_metadata: Option<Vec<u8>>,
    /// Offsets where row groups start (field 132).
    pub split_offsets: Option<Vec<i64>>,
    /// The columns that an equality delete compares (field 135).
    pub equality_ids: Option<Vec<i32>>,
    /// The sort order the rows follow (field 140); never set on position deletes.
    pub sort_order_id: Option<i32>,
    /// The one data file that a position delete file is about (field 143).
    pub referenced_data_file: Option<String>,
}

impl DataFile {
    /// A file without statistics, as a start for a writer.
    pub fn new(
        content: DataContentType,
        file_path: impl Into<String>,
        partition: PartitionKey,
        record_count: u64,
        file_size_in_bytes: u64,
    ) -> Self {
        Self {
            content,
            file_path: file_path.into(),
            file_format: DataFileFormat::Parquet,
            spec_id: partition.spec_id,
            partition: partition.values,
            record_count,
            file_size_in_bytes,
            column_sizes: IdMap::default(),
            value_counts: IdMap::default(),
            null_value_counts: IdMap::default(),
            nan_value_counts: IdMap::default(),
            lower_bounds: IdBytes::default(),
            upper_bounds: IdBytes::default(),
            key_metadata: None,
            split_offsets: None,
            equality_ids: None,
            sort_order_id: None,
            referenced_data_file: None,
        }
    }

    /// Spec and partition values together.
    pub fn partition_key(&self) -> PartitionKey {
        PartitionKey { spec_id: self.spec_id, values: self.partition.clone() }
    }

    /// The lower bound of a column read as `as_type`, which may be wider than what was written.
    /// `None` when the file has none or it cannot be decoded.
    pub fn lower_bound(&self, field_id: i32, as_type: &PrimitiveType) -> Option<Datum> {
        datum_from_bound(self.lower_bounds.get(field_id)?, as_type)
    }

    /// The upper bound of a column read as `as_type`; see [`DataFile::lower_bound`].
    pub fn upper_bound(&self, field_id: i32, as_type: &PrimitiveType) -> Option<Datum> {
        datum_from_bound(self.upper_bounds.get(field_id)?, as_type)
    }

    /// True for position and equality delete files.
    pub fn is_delete(&self) -> bool {
        self.content != DataContentType::Data
    }

    /// The one data file that this position delete file is about: field 143, else inferred
    /// from equal `file_path` bounds.
    pub fn referenced_path(&self) -> Option<&str> {
        const FILE_PATH: i32 = 2_147_483_546;
        if self.content != DataContentType::PositionDeletes {
            return None;
        }
        if let Some(path) = &self.referenced_data_file {
            return Some(path);
        }
        let lower = self.lower_bounds.get(FILE_PATH)?;
        let upper = self.upper_bounds.get(FILE_PATH)?;
        if lower == upper { std::str::from_utf8(lower).ok() } else { None }
    }

    /// Bytes that this value holds on the heap, for caches that weigh by real size.
    pub fn heap_bytes(&self) -> usize {
        self.file_path.len()
            + self.partition.fields().len() * 48
            + [&self.column_sizes, &self.value_counts, &self.null_value_counts]
                .iter()
                .map(|m| m.heap_bytes())
                .sum::<usize>()
            + self.nan_value_counts.heap_bytes()
            + self.lower_bounds.heap_bytes()
            + self.upper_bounds.heap_bytes()
            + self.key_metadata.as_ref().map_or(0, Vec::len)
            + self.split_offsets.as_ref().map_or(0, |v| v.len() * 8)
            + self.equality_ids.as_ref().map_or(0, |v| v.len() * 4)
            + self.referenced_data_file.as_ref().map_or(0, String::len)
    }
}

/// What a manifest entry says about its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ManifestStatus {
    /// Was there before this manifest.
    Existing = 0,
    /// Added by the entry's snapshot.
    Added = 1,
    /// Removed by the entry's snapshot; not live.
    Deleted = 2,
}

/// A manifest entry with everything that is inherited filled in.
///
/// # Source
/// Iceberg spec v2, "Manifests" and "Sequence Number Inheritance".
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestEntry {
    /// Added, existing or deleted.
    pub status: ManifestStatus,
    /// The snapshot that added, or for deleted entries removed, the file.
    pub snapshot_id: SnapshotId,
    /// Data sequence number: the age of the rows, the only one deletes are matched by.
    pub sequence_number: SequenceNumber,
    /// The number of the snapshot that physically added the file.
    pub file_sequence_number: SequenceNumber,
    /// The file.
    pub file: Arc<DataFile>,
}

impl ManifestEntry {
    /// True when the file is part of the snapshot that lists the manifest.
    pub fn is_live(&self) -> bool {
        self.status != ManifestStatus::Deleted
    }
}
