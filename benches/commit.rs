//! How long does a commit take, and does it grow with the table? Fast appends of one file to
//! tables of 0 and 100,000 files and of 1, 1,000 and 10,000 snapshots.
//!
//! Goal (DESIGN §9): 100,000 files and 1,000 snapshots within 2 x of an empty table.

mod support;

use std::time::{Duration, Instant};

use meltwater::spec::{
    DataContentType, DataFile, MAIN_BRANCH, PartitionKey, Snapshot, SnapshotReference,
    SnapshotRetention, TableUpdate,
};
use meltwater::table::{Table, WriteResult};
use support::{Result, report, scaled, speed, wanted};

fn main() -> Result<()> {
    support::runtime().block_on(async {
        if !wanted("commit") {
            return Ok(());
        }
        let empty = latency(0, 1).await?;
        report("commit/empty", empty, 1, "commits", &[]);
        for (files, snapshots) in [(100_000, 1), (0, 1000), (100_000, 1000), (0, 10_000)] {
            let (files, snapshots) = (scaled(files), scaled(snapshots));
            let taken = latency(files, snapshots).await?;
            let name = format!("commit/{files}_files_{snapshots}_snapshots");
            report(&name, taken, 1, "commits", &[("the empty table", speed(taken, empty))]);
        }
        Ok(())
    })
}

fn files(range: std::ops::Range<u64>) -> WriteResult {
    let file = |n: u64| {
        let path = format!("file:///nowhere/bench/data/{n:08}.parquet");
        let partition = PartitionKey::unpartitioned(0);
        DataFile::new(DataContentType::Data, path, partition, 1000, 1 << 20)
    };
    WriteResult { data_files: range.map(file).collect(), ..WriteResult::default() }
}

async fn latency(count: u64, snapshots: u64) -> Result<Duration> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut table = support::table(folder.path(), support::schema(), &[]).await?;
    if count > 0 {
        table = table.append(files(0..count)).commit().await?.table;
    }
    if snapshots > 1 {
        table = one(&table, count).await?.0;
        table = with_history(&table, snapshots - 1).await?;
    }
    let mut taken = Vec::new();
    for n in 0..15 {
        let (next, time) = one(&table, count + snapshots + n).await?;
        table = next;
        taken.push(time);
    }
    taken.sort();
    Ok(taken[taken.len() / 2])
}

/// Adds empty snapshots in one swap: they share the head's manifest list.
async fn with_history(table: &Table, snapshots: u64) -> Result<Table> {
    let head = table.current_snapshot().expect("the table has a head").clone();
    let mut updates = Vec::new();
    let mut parent = head.snapshot_id();
    for n in 1..=snapshots as i64 {
        let id = head.snapshot_id() ^ n;
        let snapshot = Snapshot::builder()
            .with_snapshot_id(id)
            .with_parent_snapshot_id(Some(parent))
            .with_sequence_number(head.sequence_number() + n)
            .with_timestamp_ms(head.timestamp_ms() + n)
            .with_manifest_list(head.manifest_list())
            .with_summary(head.summary().clone())
            .with_schema_id(table.metadata().current_schema_id())
            .build();
        updates.push(TableUpdate::AddSnapshot { snapshot });
        parent = id;
    }
    let retention = SnapshotRetention::branch(None, None, None);
    let reference = SnapshotReference::new(parent, retention);
    updates.push(TableUpdate::SetSnapshotRef { ref_name: MAIN_BRANCH.into(), reference });
    table.catalog().commit(table.ident(), Vec::new(), updates).await?;
    table.refresh().await
}

async fn one(table: &Table, n: u64) -> Result<(Table, Duration)> {
    let start = Instant::now();
    let done = table.fast_append(files(n..n + 1)).commit().await?;
    Ok((done.table, start.elapsed()))
}
