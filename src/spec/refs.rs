//! Branches and tags.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{SnapshotReference, TableMetadata};
use crate::error::Result;

/// The branch that readers and writers use unless told otherwise.
pub const MAIN_BRANCH: &str = "main";

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
