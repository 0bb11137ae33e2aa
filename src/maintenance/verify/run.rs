//! From the metadata outwards.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, stream};

use super::codes::Code;
use super::files::reason;
use super::report::VerifyReport;
use super::snapshot::Walk;
use super::{Verify, VerifySnapshots, metadata};
use crate::error::{ErrorKind, Result};
use crate::maintenance::{Stopwatch, Unit};
use crate::manifest::ManifestCache;
use crate::spec::{SnapshotRef, refs_of, snapshots_of};
use crate::table::Table;

/// Bytes of decoded manifests that are kept from one snapshot to the next.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// See [`Verify::run`].
#[tracing::instrument(name = "maintenance.verify", skip_all, err(level = "debug"),
    fields(table = %verify.table.ident()))]
pub(super) async fn run(verify: Verify) -> Result<VerifyReport> {
    let watch = Stopwatch::start(&verify.table);
    // What others read through the shared cache may be gone by now (MNT-61).
    let cache = Arc::new(ManifestCache::new(CACHE_BYTES));
    let table = verify.table.with_manifest_cache(cache);
    let snapshots = chosen(&table, verify.options.snapshots)?;
    let mut walk = Walk::new(verify, table);
    walk.progress.begin("verifying", Unit::Files, None);
    let json = serde_json::to_value(walk.table.metadata().as_ref())?;
    metadata::check(&json, &mut walk.findings);
    versions(&mut walk).await;
    for snapshot in snapshots {
        if walk.is_stopped() {
            break;
        }
        walk.snapshot(&snapshot).await;
    }
    let mut report = walk.findings.into_report(walk.report);
    report.duration_ms = watch.elapsed_ms();
    Ok(report)
}

/// The snapshots to walk, oldest first.
fn chosen(table: &Table, which: VerifySnapshots) -> Result<Vec<SnapshotRef>> {
    let metadata = table.metadata();
    let mut chosen: Vec<SnapshotRef> = match which {
        VerifySnapshots::One(id) => vec![table.snapshot(id)?],
        VerifySnapshots::All => snapshots_of(metadata).into_iter().cloned().collect(),
        VerifySnapshots::Heads => {
            let refs = refs_of(metadata)?;
            let current = table.current_snapshot().map(|s| s.snapshot_id());
            let ids: BTreeSet<i64> = refs.values().map(|r| r.snapshot_id).chain(current).collect();
            // A ref that names nothing is a finding of its own.
            ids.into_iter().filter_map(|id| metadata.snapshot_by_id(id).cloned()).collect()
        }
    };
    chosen.sort_by_key(|s| (s.sequence_number(), s.snapshot_id()));
    Ok(chosen)
}

/// Is the current metadata file there, and are the earlier ones?
async fn versions(walk: &mut Walk) {
    let (storage, location) = (walk.table.storage().clone(), walk.table.metadata_location());
    if let Err(error) = storage.size(location).await {
        let code = match error.kind() {
            ErrorKind::NotFound => Code::MetadataMissing,
            _ => Code::Unavailable,
        };
        walk.findings.add(code, location, None, reason(&error));
    }
    let log: Vec<String> =
        walk.table.metadata().metadata_log().iter().map(|l| l.metadata_file.clone()).collect();
    let all = log.len();
    let is_gone = |file: String| {
        let storage = storage.clone();
        async move { (matches!(storage.exists(&file).await, Ok(false)), file) }
    };
    let looks = stream::iter(log).map(is_gone).buffered(walk.options.concurrency.max(1));
    let gone: Vec<String> = looks
        .filter_map(|(is_gone, file)| std::future::ready(is_gone.then_some(file)))
        .collect()
        .await;
    if let Some(first) = gone.first() {
        let cause = format!("{} of {all} metadata files of the log are gone", gone.len());
        walk.findings.add(Code::MetadataLogMissing, first, None, cause);
    }
}
