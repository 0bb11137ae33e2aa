//! Branches, tags and snapshots.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{SnapshotRef, SnapshotReference, TableMetadata};
use crate::error::Result;

/// The branch that readers and writers use unless told otherwise.
pub const MAIN_BRANCH: &str = "main";

/// Every snapshot of the metadata, oldest first. The `iceberg` crate gives them in the random order
/// of a map: whoever reads files by them must do so the same way each time.
pub fn snapshots_of(metadata: &TableMetadata) -> Vec<&SnapshotRef> {
    let mut snapshots: Vec<_> = metadata.snapshots().collect();
    snapshots.sort_by_key(|s| (s.sequence_number(), s.timestamp_ms(), s.snapshot_id()));
    snapshots
}

#[derive(Deserialize)]
struct RefsOnly {
    #[serde(default)]
    refs: BTreeMap<String, SnapshotReference>,
}

/// All branches and tags by name. The `iceberg` crate looks up one ref by name only, so this
/// goes through the metadata's JSON: fine for a person's question, not for a hot loop.
///
/// # Errors
/// `Internal` if the metadata cannot be written as JSON.
pub fn refs_of(metadata: &TableMetadata) -> Result<BTreeMap<String, SnapshotReference>> {
    let json = serde_json::to_value(metadata)?;
    Ok(serde_json::from_value::<RefsOnly>(json)?.refs)
}
