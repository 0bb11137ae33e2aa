//! The bytes of `metadata.json` to table metadata.
//!
//! In: the bytes of a metadata file, plain or gzip, of any writer. Out: checked table metadata,
//! or an error that names the file. What the `iceberg` crate would take on trust is checked here
//! first: format version, duplicate ids, parents that go in circles, times and numbers out of
//! range (CAT-3). Pure: no storage, no clock.

use std::collections::{HashMap, HashSet};
use std::io::Read;

use flate2::read::GzDecoder;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::spec::TableMetadata;

/// A metadata file may not grow beyond this when unpacked: a gzip file of a few kilobytes can
/// hold gigabytes of zeros.
const MAX_UNPACKED_BYTES: u64 = 1 << 30;

/// Times further from 1970 than this (some 36,000 years) would overflow in comparisons.
const MAX_TIME_MS: i64 = 1 << 50;

/// Reads a metadata file; `location` is only used in errors.
///
/// # Errors
/// * `CorruptData` if the bytes are no table metadata or contradict themselves.
/// * `Unsupported` for format version 3 and above.
pub fn read_metadata(bytes: &[u8], location: &str) -> Result<TableMetadata> {
    let unpacked;
    let json = if bytes.starts_with(&[0x1f, 0x8b]) {
        unpacked = unpack(bytes).map_err(|e| e.with_context("metadata file", location))?;
        unpacked.as_slice()
    } else {
        bytes
    };
    parse(json).map_err(|e| e.with_context("metadata file", location))
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut json = Vec::new();
    GzDecoder::new(bytes)
        .take(MAX_UNPACKED_BYTES + 1)
        .read_to_end(&mut json)
        .map_err(|e| Error::corrupt("gzip data of the metadata file is broken").with_source(e))?;
    if json.len() as u64 > MAX_UNPACKED_BYTES {
        return Err(Error::corrupt("metadata file is larger than 1 GiB when unpacked"));
    }
    Ok(json)
}

fn parse(json: &[u8]) -> Result<TableMetadata> {
    let outline: Outline = serde_json::from_slice(json)
        .map_err(|e| Error::corrupt(format!("not table metadata: {e}")).with_source(e))?;
    outline.check()?;
    serde_json::from_slice(json).map_err(|e| {
        // The crate tries one format version after the other and reports none of its reasons.
        let reason = e.to_string();
        let reason = if reason.contains("untagged") {
            "a required field is missing or has the wrong type".to_string()
        } else {
            reason
        };
        Error::corrupt(format!("table metadata cannot be read: {reason}")).with_source(e)
    })
}

/// The parts of a metadata file that are checked before anything is built from them.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Outline {
    format_version: i64,
    last_updated_ms: i64,
    #[serde(default)]
    last_sequence_number: i64,
    #[serde(default)]
    schemas: Option<Vec<SchemaOutline>>,
    #[serde(default)]
    partition_specs: Option<Vec<SpecOutline>>,
    #[serde(default)]
    sort_orders: Option<Vec<OrderOutline>>,
    #[serde(default)]
    snapshots: Option<Vec<SnapshotOutline>>,
    #[serde(default)]
    snapshot_log: Option<Vec<LogOutline>>,
    #[serde(default)]
    metadata_log: Option<Vec<LogOutline>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SchemaOutline {
    #[serde(default)]
    schema_id: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SpecOutline {
    #[serde(default)]
    spec_id: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct OrderOutline {
    #[serde(default)]
    order_id: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SnapshotOutline {
    snapshot_id: i64,
    #[serde(default)]
    parent_snapshot_id: Option<i64>,
    #[serde(default)]
    sequence_number: i64,
    timestamp_ms: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct LogOutline {
    timestamp_ms: i64,
}

impl Outline {
    fn check(&self) -> Result<()> {
        match self.format_version {
            1 | 2 => {}
            version @ 3.. => {
                return Err(Error::unsupported(format!(
                    "table format version {version} is not supported"
                ))
                .with_hint("Meltwater reads versions 1 and 2 and writes version 2"));
            }
            version => {
                return Err(Error::corrupt(format!("there is no format version {version}")));
            }
        }
        self.check_ids()?;
        self.check_numbers()?;
        self.check_parents()
    }

    fn check_ids(&self) -> Result<()> {
        fn ids<T>(list: &Option<Vec<T>>, id: fn(&T) -> i64) -> Vec<i64> {
            list.iter().flatten().map(id).collect()
        }
        for (what, ids) in [
            ("schema", ids(&self.schemas, |s| s.schema_id)),
            ("partition spec", ids(&self.partition_specs, |s| s.spec_id)),
            ("sort order", ids(&self.sort_orders, |s| s.order_id)),
            ("snapshot", ids(&self.snapshots, |s| s.snapshot_id)),
        ] {
            let mut seen = HashSet::with_capacity(ids.len());
            if let Some(twice) = ids.into_iter().find(|id| !seen.insert(*id)) {
                return Err(Error::corrupt(format!("two {what}s have the id {twice}")));
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<()> {
        let snapshots = self.snapshots.iter().flatten();
        let times = std::iter::once(self.last_updated_ms)
            .chain(snapshots.clone().map(|s| s.timestamp_ms))
            .chain(self.snapshot_log.iter().flatten().map(|l| l.timestamp_ms))
            .chain(self.metadata_log.iter().flatten().map(|l| l.timestamp_ms));
        for time in times {
            if !(-MAX_TIME_MS..=MAX_TIME_MS).contains(&time) {
                return Err(Error::corrupt(format!("the time {time} ms is out of range")));
            }
        }
        let numbers =
            std::iter::once(self.last_sequence_number).chain(snapshots.map(|s| s.sequence_number));
        for number in numbers {
            // The last commit of a table must still have a successor.
            if !(0..i64::MAX).contains(&number) {
                return Err(Error::corrupt(format!(
                    "the sequence number {number} is out of range"
                )));
            }
        }
        Ok(())
    }

    /// Walks every parent chain once: whoever walks history later relies on an end.
    fn check_parents(&self) -> Result<()> {
        let parents: HashMap<i64, Option<i64>> = self
            .snapshots
            .iter()
            .flatten()
            .map(|s| (s.snapshot_id, s.parent_snapshot_id))
            .collect();
        let mut proven: HashSet<i64> = HashSet::with_capacity(parents.len());
        for &start in parents.keys() {
            let mut path = HashSet::new();
            let mut next = Some(start);
            while let Some(id) = next.filter(|id| !proven.contains(id)) {
                if !path.insert(id) {
                    return Err(Error::corrupt(format!(
                        "snapshot {id} is its own ancestor: the parents go in a circle"
                    )));
                }
                next = parents.get(&id).copied().flatten();
            }
            proven.extend(path);
        }
        Ok(())
    }
}
