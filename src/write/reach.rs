//! Through which partition specs equality deletes must go to reach every row of a key.
//!
//! An equality delete reaches data of its own spec and partition, and all data if its spec has
//! no partitions. Pure but for [`live_specs`], which reads manifest lists.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::key::Key;
use super::lookup::{OnPartitionMove, PartitionLookup};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{ManifestContentType, PartitionSpec, PartitionSpecRef, Transform};
use crate::table::{At, Table};

/// The specs to write equality deletes under, and the specs whose rows these reach.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reach {
    pub through: Vec<PartitionSpecRef>,
    pub covered: BTreeSet<i32>,
}

/// How the deletes of an upsert find old rows.
#[derive(Debug, Clone)]
pub(super) enum Targets {
    /// Written under these specs, they reach every row of a key.
    Reach(Reach),
    /// Written where the old rows lie.
    Lookup(Arc<dyn PartitionLookup>),
}

/// [`plan_reach`], or a look-up where keys alone do not reach.
pub(super) fn plan_targets(
    table: &Table,
    key: &Key,
    live: &BTreeSet<i32>,
    on_move: &OnPartitionMove,
) -> Result<Targets> {
    match (plan_reach(table, key, live), on_move) {
        (Ok(reach), _) => Ok(Targets::Reach(reach)),
        (Err(_), OnPartitionMove::Lookup(lookup)) => Ok(Targets::Lookup(lookup.clone())),
        (Err(error), OnPartitionMove::Refuse) => Err(error),
    }
}

/// The snapshot to look at for a branch; one that the commit is yet to make starts as the
/// current one.
pub(super) fn head_of(table: &Table, branch: Option<&str>) -> Result<At> {
    let Some(name) = branch else { return Ok(At::Current) };
    let at = At::Ref(name.to_string());
    match table.snapshot_at(&at) {
        Ok(_) => Ok(at),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(At::Current),
        Err(e) => Err(e),
    }
}

/// The specs with live rows on a branch.
///
/// # Errors
/// As [`Table::manifests`].
pub(super) async fn live_specs(table: &Table, branch: Option<&str>) -> Result<BTreeSet<i32>> {
    let snapshot = table.snapshot_at(&head_of(table, branch)?)?;
    let Some(snapshot) = snapshot else { return Ok(BTreeSet::new()) };
    let manifests = table.manifests(&snapshot).await?;
    let live = manifests.iter().filter(|m| {
        m.content == ManifestContentType::Data && (m.has_added_files() || m.has_existing_files())
    });
    Ok(live.map(|m| m.partition_spec_id).collect())
}

/// Plans the deletes of an upsert over the specs in `live` and the table's default one, under
/// which others may be writing at this moment (WR-5).
///
/// # Errors
/// `InvalidInput` when some spec partitions by a column that is not part of the key and the table
/// has no unpartitioned spec to delete through.
pub(super) fn plan_reach(table: &Table, key: &Key, live: &BTreeSet<i32>) -> Result<Reach> {
    let metadata = table.metadata();
    let mut targets = live.clone();
    targets.insert(metadata.default_partition_spec_id());
    let specs = targets.iter().map(|id| table.spec(*id).cloned()).collect::<Result<Vec<_>>>()?;
    let global = |specs: &[PartitionSpecRef]| {
        let all: Vec<_> = specs.iter().filter(|s| is_global(s)).cloned().collect();
        // Some readers take only a spec without any field for a global one.
        all.iter().find(|s| s.fields().is_empty()).or(all.first()).cloned()
    };
    let everywhere = |spec: PartitionSpecRef| Reach {
        through: vec![spec],
        covered: metadata.partition_specs_iter().map(|s| s.spec_id()).collect(),
    };
    if let Some(spec) = global(&specs) {
        return Ok(everywhere(spec));
    }
    let Some((spec, column)) = specs.iter().find_map(|s| Some((s, stray_column(s, key)?))) else {
        return Ok(Reach { through: specs, covered: targets });
    };
    let all: Vec<_> = metadata.partition_specs_iter().cloned().collect();
    match global(&all) {
        Some(spec) => Ok(everywhere(spec)),
        None => Err(refuse(table, spec, &column)),
    }
}

fn is_global(spec: &PartitionSpec) -> bool {
    spec.fields().iter().all(|f| f.transform == Transform::Void)
}

/// A partition field whose source is not part of the key: rows of one key may lie in several
/// partitions, and a delete would have to know which.
fn stray_column(spec: &PartitionSpec, key: &Key) -> Option<String> {
    let fields = spec.fields().iter().filter(|f| f.transform != Transform::Void);
    fields.filter(|f| !key.has(f.source_id)).map(|f| f.name.clone()).next()
}

fn refuse(table: &Table, spec: &PartitionSpec, field: &str) -> Error {
    Error::invalid("an equality delete by this key cannot reach all rows of the key")
        .with_context("table", table.ident())
        .with_context("partition spec", spec.spec_id())
        .with_context("partition field", field)
        .with_hint(
            "make the partition field's source column part of the key, and delete the old row \
             before a row that moves to another partition; or look old rows up \
             (`OnPartitionMove::Lookup`, `--on-partition-move lookup`); or rewrite the rows of this \
             spec under one whose columns the key has",
        )
}
