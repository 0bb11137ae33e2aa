//! Table properties: the names and defaults that other engines use, parsed once.

use std::collections::HashMap;
use std::time::Duration;

use crate::error::{Error, Result};

/// Names of table properties.
pub mod property {
    /// Target size of data files in bytes.
    pub const TARGET_FILE_SIZE: &str = "write.target-file-size-bytes";
    /// Target size of delete files in bytes.
    pub const DELETE_TARGET_FILE_SIZE: &str = "write.delete.target-file-size-bytes";
    /// Row group size in bytes.
    pub const PARQUET_ROW_GROUP_SIZE: &str = "write.parquet.row-group-size-bytes";
    /// Parquet codec: zstd, snappy, gzip, lz4, brotli, uncompressed.
    pub const PARQUET_COMPRESSION: &str = "write.parquet.compression-codec";
    /// Parquet codec level.
    pub const PARQUET_COMPRESSION_LEVEL: &str = "write.parquet.compression-level";
    /// Default metrics mode: none, counts, truncate(n), full.
    pub const METRICS_DEFAULT: &str = "write.metadata.metrics.default";
    /// Prefix of the metrics mode of one column.
    pub const METRICS_COLUMN_PREFIX: &str = "write.metadata.metrics.column.";
    /// How many columns get metrics without a configured default.
    pub const METRICS_MAX_COLUMNS: &str = "write.metadata.metrics.max-inferred-column-defaults";
    /// Prefix that turns the bloom filter of one column on or off.
    pub const BLOOM_COLUMN_PREFIX: &str = "write.parquet.bloom-filter-enabled.column.";
    /// Where data files go instead of `<location>/data`.
    pub const DATA_PATH: &str = "write.data.path";
    /// Where metadata goes instead of `<location>/metadata`.
    pub const METADATA_PATH: &str = "write.metadata.path";
    /// How many retries a commit gets.
    pub const COMMIT_RETRIES: &str = "commit.retry.num-retries";
    /// Shortest wait between commit attempts.
    pub const COMMIT_MIN_WAIT_MS: &str = "commit.retry.min-wait-ms";
    /// Longest wait between commit attempts.
    pub const COMMIT_MAX_WAIT_MS: &str = "commit.retry.max-wait-ms";
    /// Longest time all attempts may take.
    pub const COMMIT_TOTAL_MS: &str = "commit.retry.total-timeout-ms";
    /// Merge small manifests on commit.
    pub const MANIFEST_MERGE_ENABLED: &str = "commit.manifest-merge.enabled";
    /// Target size of manifests.
    pub const MANIFEST_TARGET_SIZE: &str = "commit.manifest.target-size-bytes";
    /// How many small manifests make a merge worth it.
    pub const MANIFEST_MIN_MERGE: &str = "commit.manifest.min-count-to-merge";
    /// Avro codec of manifests.
    pub const MANIFEST_COMPRESSION: &str = "write.manifest.compression-codec";
    /// How many previous metadata files are logged.
    pub const METADATA_PREVIOUS_MAX: &str = "write.metadata.previous-versions-max";
    /// Whether metadata files that leave the log are deleted.
    pub const METADATA_DELETE_AFTER_COMMIT: &str = "write.metadata.delete-after-commit.enabled";
    /// Codec of metadata.json: none or gzip.
    pub const METADATA_COMPRESSION: &str = "write.metadata.compression-codec";
    /// The name mapping for files without field ids.
    pub const NAME_MAPPING: &str = "schema.name-mapping.default";
    /// Whether files of the table may be deleted.
    pub const GC_ENABLED: &str = "gc.enabled";
    /// How old a snapshot gets before it expires, in milliseconds.
    pub const MAX_SNAPSHOT_AGE_MS: &str = "history.expire.max-snapshot-age-ms";
    /// How many snapshots of a branch never expire.
    pub const MIN_SNAPSHOTS_TO_KEEP: &str = "history.expire.min-snapshots-to-keep";
    /// How old a branch or tag gets before it expires, in milliseconds.
    pub const MAX_REF_AGE_MS: &str = "history.expire.max-ref-age-ms";
    /// Isolation of deletes: serializable or snapshot.
    pub const DELETE_ISOLATION: &str = "write.delete.isolation-level";
}

/// The properties of one table, read through typed getters with the defaults of the reference
/// implementation.
#[derive(Debug, Clone, Copy)]
pub struct TableProperties<'a> {
    map: &'a HashMap<String, String>,
}

impl<'a> TableProperties<'a> {
    /// Reads from a table's property map.
    pub fn new(map: &'a HashMap<String, String>) -> Self {
        Self { map }
    }

    /// The raw value.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.map.get(name).map(String::as_str)
    }

    /// A number, or `default` when the property is not set.
    ///
    /// # Errors
    /// `InvalidInput` naming the property if it is set to something else than a number.
    pub fn number(&self, name: &str, default: u64) -> Result<u64> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => text.trim().parse().map_err(|_| {
                Error::invalid(format!("table property `{name}` is `{text}`, not a whole number"))
                    .with_hint(format!("set `{name}` to a number such as {default}"))
            }),
        }
    }

    /// A switch, or `default` when the property is not set.
    ///
    /// # Errors
    /// `InvalidInput` naming the property if it is neither `true` nor `false`.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.get(name).map(str::trim) {
            None => Ok(default),
            Some(t) if t.eq_ignore_ascii_case("true") => Ok(true),
            Some(t) if t.eq_ignore_ascii_case("false") => Ok(false),
            Some(t) => Err(Error::invalid(format!(
                "table property `{name}` is `{t}`, neither `true` nor `false`"
            ))),
        }
    }

    /// A duration given in milliseconds.
    ///
    /// # Errors
    /// As [`TableProperties::number`].
    pub fn millis(&self, name: &str, default: u64) -> Result<Duration> {
        self.number(name, default).map(Duration::from_millis)
    }

    /// Target size of data files: 512 MiB unless set.
    ///
    /// # Errors
    /// As [`TableProperties::number`].
    pub fn target_file_size_bytes(&self) -> Result<u64> {
        self.number(property::TARGET_FILE_SIZE, 512 * 1024 * 1024)
    }

    /// Target size of delete files: 64 MiB unless set.
    ///
    /// # Errors
    /// As [`TableProperties::number`].
    pub fn delete_target_file_size_bytes(&self) -> Result<u64> {
        self.number(property::DELETE_TARGET_FILE_SIZE, 64 * 1024 * 1024)
    }
}
