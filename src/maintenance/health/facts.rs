//! Gathers the facts: manifests once, then the plans of the actions.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};

use super::Health;
use super::report::{
    CommitFacts, CompactionFacts, ConversionFacts, DeleteFacts, FileFacts, HealthReport,
    HistoryFacts, ManifestFacts, ManifestsToRewrite, MergeFacts, PartitionDeletes, SizeClass,
};
use crate::error::{ErrorKind, Result};
use crate::maintenance::partitions::partition_name;
use crate::maintenance::{
    CompactFile, CompactOptions, ConvertOptions, ExpireOptions, ManifestOptions,
    RewriteDeletesOptions, Totals,
};
use crate::spec::{
    DataContentType, MAIN_BRANCH, ManifestContentType, ManifestEntry, PartitionKey, SnapshotId,
    SnapshotRef, property,
};
use crate::table::{At, Table};

/// Manifests that are read at the same time.
const READERS: usize = 8;

/// The smallest class of file sizes ends here; each next one is four times as large.
const SMALLEST_CLASS: u64 = 1024 * 1024;
const CLASSES: usize = 7;

/// Partitions that are named.
const WORST: usize = 8;

/// Stretches of the timeline.
const STRETCHES: usize = 48;

/// Commits that the usual interval is taken from.
const RECENT: usize = 100;

pub(super) async fn gather(health: &Health) -> Result<HealthReport> {
    let (table, branch) = (&health.table, health.branch.as_str());
    let at = match branch {
        MAIN_BRANCH => At::Current,
        branch => At::Ref(branch.to_string()),
    };
    let snapshot = table.snapshot_at(&at)?;
    let mut report = HealthReport {
        table: table.ident().to_string(),
        branch: branch.to_string(),
        snapshot_id: snapshot.as_ref().map(|s| SnapshotId(s.snapshot_id())),
        at_ms: table.environment().clock.now_ms(),
        history: history(health).await?,
        ..HealthReport::default()
    };
    report.files.target_bytes = table.properties().target_file_size_bytes()?;
    if let Some(snapshot) = &snapshot {
        let mut seen = Seen::new(table, report.files.target_bytes);
        report.manifests = manifests(table, snapshot, &mut seen).await?;
        (report.files, report.deletes) = seen.finish();
        report.commits = commits(table, snapshot);
    }
    report.compaction = compaction(table, branch).await?;
    report.conversion = conversion(table, branch, report.files.all.files).await?;
    report.merge = merge(table, branch).await?;
    report.manifests.to_rewrite = to_rewrite(table, branch).await?;
    Ok(report)
}

async fn manifests(
    table: &Table,
    snapshot: &SnapshotRef,
    seen: &mut Seen<'_>,
) -> Result<ManifestFacts> {
    let list = table.manifests(snapshot).await?;
    let target = table.properties().number(property::MANIFEST_TARGET_SIZE, 8 * 1024 * 1024)?;
    let mut facts = ManifestFacts { target_bytes: target, ..ManifestFacts::default() };
    let read = |manifest: crate::spec::ManifestFile| async move {
        table.entries(&manifest).await.map(|entries| (manifest, entries))
    };
    let mut read = stream::iter(list.iter().cloned()).map(read).buffered(READERS);
    let mut spread = 0u64;
    while let Some((manifest, entries)) = read.try_next().await? {
        facts.bytes += u64::try_from(manifest.manifest_length).unwrap_or(0);
        let is_data = manifest.content == ManifestContentType::Data;
        *(if is_data { &mut facts.data } else { &mut facts.deletes }) += 1;
        let mut partitions = HashSet::new();
        for entry in entries.iter().filter(|e| e.is_live()) {
            let key = entry.file.partition_key();
            if is_data && partitions.insert(key.stable_hash()) {
                spread += 1;
            }
            seen.add(entry, key);
        }
    }
    facts.per_partition = spread as f64 / (seen.partitions_with_data().max(1)) as f64;
    Ok(facts)
}

/// Live files, added up.
struct Seen<'a> {
    table: &'a Table,
    files: FileFacts,
    deletes: DeleteFacts,
    partitions: HashMap<PartitionKey, PartitionDeletes>,
}

impl<'a> Seen<'a> {
    fn new(table: &'a Table, target_bytes: u64) -> Self {
        let class = |n: usize| SizeClass {
            below_bytes: (n + 1 < CLASSES).then(|| SMALLEST_CLASS << (2 * n)),
            ..SizeClass::default()
        };
        let histogram = (0..CLASSES).map(class).collect();
        Self {
            table,
            files: FileFacts { target_bytes, histogram, ..FileFacts::default() },
            deletes: DeleteFacts::default(),
            partitions: HashMap::new(),
        }
    }

    fn add(&mut self, entry: &ManifestEntry, key: PartitionKey) {
        let file = &entry.file;
        let one = || Totals::from_iter([&**file]);
        let partition = self.partitions.entry(key).or_default();
        match file.content {
            DataContentType::Data => {
                let bytes = file.file_size_in_bytes;
                partition.rows = partition.rows.saturating_add(file.record_count);
                self.files.all += one();
                if bytes < self.files.target_bytes / 4 * 3 {
                    self.files.small += one();
                }
                let fits = |c: &&mut SizeClass| c.below_bytes.is_none_or(|below| bytes < below);
                if let Some(class) = self.files.histogram.iter_mut().find(fits) {
                    class.files += 1;
                    class.bytes = class.bytes.saturating_add(bytes);
                }
            }
            DataContentType::PositionDeletes => {
                partition.delete_files += 1;
                partition.position_deletes += file.record_count;
                self.deletes.positions += one();
            }
            DataContentType::EqualityDeletes => {
                partition.delete_files += 1;
                partition.equality_deletes += file.record_count;
                self.deletes.equality += one();
            }
        }
    }

    fn partitions_with_data(&self) -> usize {
        self.partitions.values().filter(|p| p.rows > 0).count()
    }

    fn finish(mut self) -> (FileFacts, DeleteFacts) {
        self.files.partitions = self.partitions_with_data() as u64;
        let mut worst: Vec<PartitionDeletes> = self
            .partitions
            .into_iter()
            .filter(|(_, p)| p.delete_files > 0)
            .map(|(key, p)| PartitionDeletes { partition: partition_name(self.table, &key), ..p })
            .collect();
        worst.sort_by(|a, b| {
            b.ratio().total_cmp(&a.ratio()).then_with(|| a.partition.cmp(&b.partition))
        });
        worst.truncate(WORST);
        self.deletes.worst = worst;
        (self.files, self.deletes)
    }
}

fn commits(table: &Table, head: &SnapshotRef) -> CommitFacts {
    let id = SnapshotId(head.snapshot_id());
    let mut times: Vec<i64> = table.ancestors(id).map(|s| s.timestamp_ms()).collect();
    times.sort_unstable();
    let (Some(&first), Some(&last)) = (times.first(), times.last()) else {
        return CommitFacts::default();
    };
    let mut timeline = vec![0u64; STRETCHES.min(times.len())];
    let stretches = timeline.len() as i128;
    let span = i128::from(last) - i128::from(first) + 1;
    for time in &times {
        let at = (i128::from(*time) - i128::from(first)) * stretches / span;
        if let Some(stretch) = usize::try_from(at).ok().and_then(|at| timeline.get_mut(at)) {
            *stretch += 1;
        }
    }
    let recent = times.get(times.len().saturating_sub(RECENT)..).unwrap_or_default();
    let mut gaps: Vec<i64> =
        recent.iter().zip(recent.iter().skip(1)).map(|(a, b)| b.saturating_sub(*a)).collect();
    gaps.sort_unstable();
    CommitFacts {
        first_ms: Some(first),
        last_ms: Some(last),
        timeline,
        usual_interval_ms: gaps.get(gaps.len() / 2).copied(),
    }
}

async fn history(health: &Health) -> Result<HistoryFacts> {
    let table = &health.table;
    let mut expire = table.expire(ExpireOptions::default());
    if let Some(positions) = &health.positions {
        expire = expire.positions(positions.clone());
    }
    let plan = or_none(expire.plan().await)?;
    Ok(HistoryFacts {
        snapshots: table.metadata().snapshots().len() as u64,
        expirable: plan.as_ref().map(|p| p.snapshots.len() as u64),
        held: plan.map(|p| p.held).unwrap_or_default(),
        streams_known: health.positions.is_some(),
        metadata_bytes: table.storage().size(table.metadata_location()).await.ok(),
        metadata_versions: table.metadata().metadata_log().len() as u64,
    })
}

/// An action that the table refuses, such as a read-only one, is no reason to say nothing.
fn or_none<T>(plan: Result<T>) -> Result<Option<T>> {
    match plan {
        Ok(plan) => Ok(Some(plan)),
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(None),
        Err(e) => Err(e),
    }
}

async fn compaction(table: &Table, branch: &str) -> Result<Option<CompactionFacts>> {
    let options = CompactOptions { branch: branch.to_string(), ..CompactOptions::default() };
    let Some(plan) = or_none(table.compact(options).plan().await)? else { return Ok(None) };
    let for_deletes = |f: &&CompactFile| f.reason.is_deletes();
    Ok(Some(CompactionFacts {
        input: plan.input(),
        output_files: plan.groups.iter().map(|g| g.output_files).sum(),
        for_deletes: plan.groups.iter().flat_map(|g| &g.files).filter(for_deletes).count() as u64,
    }))
}

async fn conversion(
    table: &Table,
    branch: &str,
    data_files: u64,
) -> Result<Option<ConversionFacts>> {
    let options = ConvertOptions { branch: branch.to_string(), ..ConvertOptions::default() };
    let plan = or_none(table.convert_equality_deletes(options).plan().await)?;
    let Some(plan) = plan else { return Ok(None) };
    let mut facts = ConversionFacts::default();
    let mut pairs = 0u64;
    for group in &plan.groups {
        facts.deletes += group.deletes;
        facts.data += group.data;
        pairs = pairs.saturating_add(group.deletes.files.saturating_mul(group.data.files));
    }
    facts.files_per_data_file = pairs as f64 / data_files.max(1) as f64;
    Ok(Some(facts))
}

async fn merge(table: &Table, branch: &str) -> Result<Option<MergeFacts>> {
    let options =
        RewriteDeletesOptions { branch: branch.to_string(), ..RewriteDeletesOptions::default() };
    let Some(plan) = or_none(table.rewrite_position_deletes(options).plan().await)? else {
        return Ok(None);
    };
    Ok(Some(MergeFacts {
        input: plan.input(),
        data_files: plan.groups.iter().map(|g| g.data_files).sum(),
        dangling: plan.dangling_totals(),
    }))
}

async fn to_rewrite(table: &Table, branch: &str) -> Result<Option<ManifestsToRewrite>> {
    let options = ManifestOptions { branch: branch.to_string(), ..ManifestOptions::default() };
    let Some(plan) = or_none(table.rewrite_manifests(options).plan().await)? else {
        return Ok(None);
    };
    Ok(Some(ManifestsToRewrite {
        manifests: plan.groups.iter().map(|g| g.manifests.len() as u64).sum(),
        output_manifests: plan.groups.iter().map(|g| g.output_manifests).sum(),
    }))
}
