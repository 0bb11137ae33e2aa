//! Which manifests are rewritten.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::ManifestOptions;
use super::cost::{PlanningCost, length};
use super::order::Partitions;
use crate::error::Result;
use crate::maintenance::partitions::branch_scan;
use crate::spec::{ManifestContentType, ManifestFile, SnapshotId, property};
use crate::table::{MAX_ENTRIES, Table};
use crate::write::writable;

/// Which manifests a rewrite replaces.
///
/// Memory: the manifest list, and one entry a partition.
#[derive(Debug, Clone, Serialize)]
pub struct ManifestPlan {
    /// The table.
    pub table: String,
    /// The branch that will be committed to.
    pub branch: String,
    /// The snapshot that was looked at; `None` for a table without commits.
    pub snapshot_id: Option<SnapshotId>,
    /// Bytes of a new manifest.
    pub target_size_bytes: u64,
    /// What is rewritten together.
    pub groups: Vec<ManifestGroup>,
}

/// Manifests of one kind of content and one spec.
#[derive(Debug, Clone, Serialize)]
pub struct ManifestGroup {
    /// What they list: `data` or `deletes`.
    #[serde(serialize_with = "kind")]
    pub content: ManifestContentType,
    /// The spec of their files.
    pub spec_id: i32,
    /// The manifests that are replaced.
    pub manifests: Vec<String>,
    /// Live entries in them.
    pub entries: u64,
    /// Their size.
    pub bytes: u64,
    /// How many manifests they become, about.
    pub output_manifests: u64,
    /// Whether partitions lie across too many manifests; else these are merely small.
    pub scattered: bool,
    /// What planning costs now, over all manifests of this content and spec.
    pub cost: PlanningCost,
    #[serde(skip)]
    pub(super) files: Vec<ManifestFile>,
    /// The partitions of all manifests of this content and spec.
    #[serde(skip)]
    pub(super) partitions: Arc<Partitions>,
}

pub(super) fn kind_name(content: ManifestContentType) -> &'static str {
    match content {
        ManifestContentType::Data => "data",
        ManifestContentType::Deletes => "deletes",
    }
}

pub(super) fn kind<S: Serializer>(
    content: &ManifestContentType,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind_name(*content))
}

/// Plans on the head of the branch.
pub(super) async fn plan(table: &Table, options: &ManifestOptions) -> Result<ManifestPlan> {
    options.check(table)?;
    writable(table)?;
    let target = target_bytes(table, options)?;
    let context = branch_scan(table, &options.branch).context()?;
    let mut kinds: BTreeMap<(bool, i32), Vec<ManifestFile>> = BTreeMap::new();
    if let Some(head) = &context.snapshot {
        for manifest in table.manifests(head).await?.iter() {
            let is_deletes = manifest.content == ManifestContentType::Deletes;
            let kind = (is_deletes, manifest.partition_spec_id);
            kinds.entry(kind).or_default().push(manifest.clone());
        }
    }
    let mut groups = Vec::new();
    for ((is_deletes, spec_id), all) in kinds {
        if options.spec_id.is_some_and(|only| only != spec_id) {
            continue;
        }
        let content = match is_deletes {
            true => ManifestContentType::Deletes,
            false => ManifestContentType::Data,
        };
        groups.extend(group(table, options, target, content, spec_id, all).await?);
    }
    Ok(ManifestPlan {
        table: table.ident().to_string(),
        branch: options.branch.clone(),
        snapshot_id: context.snapshot.as_ref().map(|s| SnapshotId(s.snapshot_id())),
        target_size_bytes: target,
        groups,
    })
}

pub(super) fn target_bytes(table: &Table, options: &ManifestOptions) -> Result<u64> {
    match options.target_size_bytes {
        Some(bytes) => Ok(bytes),
        None => table.properties().number(property::MANIFEST_TARGET_SIZE, 8 * 1024 * 1024),
    }
}

/// All manifests of a kind if partitions lie across too many of them, else the small ones if there
/// are too many of those (MNT-51).
async fn group(
    table: &Table,
    options: &ManifestOptions,
    target: u64,
    content: ManifestContentType,
    spec_id: i32,
    all: Vec<ManifestFile>,
) -> Result<Option<ManifestGroup>> {
    if all.len() == 1 && !options.rewrite_all {
        return Ok(None);
    }
    let partitions = Partitions::of(table, &all).await?;
    let cost = PlanningCost::of(table, spec_id, &all, &partitions)?;
    let count = partitions.sorted.len() as f64;
    let ideal = (count + outputs(&all, target) as f64) / count.max(1.0);
    let scattered = cost.opened_per_partition > 2.0 * ideal;
    let files = match options.rewrite_all || scattered {
        true => all,
        false => {
            let small: Vec<_> = all.into_iter().filter(|m| is_small(m, target)).collect();
            let outputs = outputs(&small, target);
            if small.len() as u64 <= outputs + outputs / 10 {
                return Ok(None);
            }
            small
        }
    };
    Ok(Some(ManifestGroup {
        content,
        spec_id,
        manifests: files.iter().map(|m| m.manifest_path.clone()).collect(),
        entries: files.iter().map(live).sum(),
        bytes: files.iter().map(length).sum(),
        output_manifests: outputs(&files, target),
        scattered,
        cost,
        files,
        partitions: Arc::new(partitions),
    }))
}

/// Live entries; manifests of format version 1 need not count.
fn live(manifest: &ManifestFile) -> u64 {
    let count = |count: Option<u32>| u64::from(count.unwrap_or(0));
    count(manifest.added_files_count) + count(manifest.existing_files_count)
}

fn is_small(manifest: &ManifestFile, target: u64) -> bool {
    let few = live(manifest) < MAX_ENTRIES as u64 / 4 * 3;
    few && live_bytes(manifest) < target / 4 * 3
}

/// Entries of removed files stay behind.
fn live_bytes(manifest: &ManifestFile) -> u64 {
    let live = live(manifest);
    let all = live + u64::from(manifest.deleted_files_count.unwrap_or(0));
    match all {
        0 => length(manifest),
        all => (length(manifest) as f64 * live as f64 / all as f64) as u64,
    }
}

/// How many manifests the live entries become.
fn outputs(manifests: &[ManifestFile], target: u64) -> u64 {
    let bytes: u64 = manifests.iter().map(live_bytes).sum();
    let entries: u64 = manifests.iter().map(live).sum();
    bytes.div_ceil(target.max(1)).max(entries.div_ceil(MAX_ENTRIES as u64)).min(entries.max(1))
}

impl ManifestPlan {
    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

/// One line of totals and one line a kind and spec.
impl fmt::Display for ManifestPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rewrite-manifests {} on branch {}: ", self.table, self.branch)?;
        if self.is_empty() {
            return write!(f, "nothing to do");
        }
        let manifests: usize = self.groups.iter().map(|g| g.manifests.len()).sum();
        let outputs: u64 = self.groups.iter().map(|g| g.output_manifests).sum();
        write!(f, "{manifests} manifests into {outputs}")?;
        self.groups.iter().try_for_each(|group| write!(f, "\n{group}"))
    }
}

/// Such as `data of spec 0: 12 manifests with 340 entries into 1; now …`.
impl fmt::Display for ManifestGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of spec {}: {} manifests with {} entries into {}; now {}",
            kind_name(self.content),
            self.spec_id,
            self.manifests.len(),
            self.entries,
            self.output_manifests,
            self.cost
        )
    }
}
