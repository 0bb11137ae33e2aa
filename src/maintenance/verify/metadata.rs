//! What the table metadata says about itself, read from its JSON: so that metadata which contradicts
//! itself too much to be loaded is explained as well. Pure.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use super::codes::Code;
use super::report::Findings;
use crate::spec::SnapshotId;

/// The parts that are checked; whatever else is wrong with a field makes it absent.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Outline {
    format_version: i64,
    last_sequence_number: i64,
    schemas: Vec<SchemaId>,
    snapshots: Vec<Snapshot>,
    refs: BTreeMap<String, Reference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SchemaId {
    #[serde(default)]
    schema_id: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Snapshot {
    snapshot_id: i64,
    parent_snapshot_id: Option<i64>,
    #[serde(default)]
    sequence_number: i64,
    schema_id: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Reference {
    snapshot_id: i64,
    r#type: String,
}

/// Checks refs, parents, sequence numbers and schema ids. JSON of another shape has no findings.
pub(super) fn check(json: &Value, findings: &mut Findings) {
    let Ok(outline) = Outline::deserialize(json) else { return };
    let snapshots: BTreeMap<i64, &Snapshot> =
        outline.snapshots.iter().map(|s| (s.snapshot_id, s)).collect();
    for (name, Reference { snapshot_id, r#type }) in &outline.refs {
        if !snapshots.contains_key(snapshot_id) {
            let cause = format!("it names snapshot {snapshot_id}, which the table does not have");
            findings.add(Code::RefDangling, format!("{type} {name}"), None, cause);
        }
    }
    cycles(&snapshots, findings);
    for snapshot in snapshots.values() {
        if outline.format_version > 1 {
            sequence(&outline, &snapshots, snapshot, findings);
        }
        let is_known = |id: &i64| outline.schemas.iter().any(|s| s.schema_id == *id);
        if let Some(schema) = snapshot.schema_id.filter(|id| !is_known(id)) {
            let id = SnapshotId(snapshot.snapshot_id);
            let cause = format!("it was written with schema {schema}");
            findings.add(Code::SchemaUnknown, format!("snapshot {id}"), Some(id), cause);
        }
    }
}

fn sequence(
    outline: &Outline,
    snapshots: &BTreeMap<i64, &Snapshot>,
    snapshot: &Snapshot,
    findings: &mut Findings,
) {
    let (id, number) = (SnapshotId(snapshot.snapshot_id), snapshot.sequence_number);
    if number > outline.last_sequence_number {
        let cause = format!(
            "its sequence number is {number}, the table's last is {}",
            outline.last_sequence_number
        );
        findings.add(Code::LastSequence, format!("snapshot {id}"), Some(id), cause);
    }
    let parent = snapshot.parent_snapshot_id.and_then(|id| snapshots.get(&id));
    // A table that was v1 keeps its old snapshots at 0.
    if let Some(parent) = parent.filter(|p| p.sequence_number >= number.max(1)) {
        let cause = format!(
            "its sequence number is {number}, that of its parent {} is {}",
            parent.snapshot_id, parent.sequence_number
        );
        findings.add(Code::SnapshotSequence, format!("snapshot {id}"), Some(id), cause);
    }
}

/// Walks every parent chain once.
fn cycles(snapshots: &BTreeMap<i64, &Snapshot>, findings: &mut Findings) {
    let mut proven: HashSet<i64> = HashSet::new();
    for &start in snapshots.keys() {
        let mut path = HashSet::new();
        let mut next = Some(start);
        while let Some(id) = next.filter(|id| !proven.contains(id)) {
            if !path.insert(id) {
                let place = format!("snapshot {id}");
                let cause = "it is its own ancestor";
                findings.add(Code::ParentCycle, place, Some(SnapshotId(id)), cause);
                break;
            }
            next = snapshots.get(&id).and_then(|s| s.parent_snapshot_id);
        }
        proven.extend(path);
    }
}
