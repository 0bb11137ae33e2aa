//! Does a table stay fast under upserts, and does maintenance stay out of the writer's way?
//!
//! `upkeep/commits`: scan and plan of a table of 1,000 upsert commits, before and after conversion
//! and compaction. `upkeep/beside`: compaction while a writer commits every second, against the
//! same on an idle table. `upkeep/soak` (`MELTWATER_SOAK_SECONDS`, 120 unless set): a commit a
//! second that updates live rows of a table that keeps its size, maintenance and a follower beside
//! it; each line has the four quarters of the time, and flat lines are the goal. `upkeep/look`:
//! `inspect health` and `verify` (not deep) on a table of 100,000 files, against reading its
//! manifests alone; `verify` looks at every file as well.

#[path = "support/counting.rs"]
mod counting;
mod support;

use std::alloc::System;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use counting::{Counting, held};
use futures::{StreamExt, TryStreamExt, stream};
use meltwater::clock::{Clock, SystemClock};
use meltwater::maintenance::{CompactOptions, ConvertOptions, ExpireOptions, VerifyOptions};
use meltwater::manifest::ManifestCache;
use meltwater::spec::ManifestFile;
use meltwater::stream::{Start, StreamEvent, Until};
use meltwater::table::{Table, WriteResult};
use meltwater::write::{AppendOptions, UpsertOptions};
use support::{Result, drain, median, peak_memory_mib, report, scaled, speed, wanted};

#[global_allocator]
static ALLOCATOR: Counting<System> = Counting(System);

fn main() -> Result<()> {
    // As the command does.
    meltwater::cli::limit_arenas();
    let runtime = support::runtime();
    runtime.spawn(meltwater::cli::give_memory_back());
    runtime.block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        if wanted("upkeep/commits") {
            commits(folder.path()).await?;
        }
        if wanted("upkeep/beside") {
            beside(folder.path()).await?;
        }
        if wanted("upkeep/soak") {
            soak(folder.path()).await?;
        }
        if wanted("upkeep/look") {
            look(scaled(100_000).max(1_000)).await?;
        }
        Ok(())
    })
}

async fn append(table: &Table, range: Range<u64>) -> Result<Table> {
    let mut writer = table.append_writer(AppendOptions::default())?;
    for start in range.clone().step_by(65_536) {
        let rows = start..(start + 65_536).min(range.end);
        writer.write(support::rows(table.schema(), rows)?).await?;
    }
    Ok(table.append(writer.close().await?).commit().await?.table)
}

/// Nine new keys for each live one, as a table of events and their corrections has them.
async fn upsert(table: &Table, rows: u64, new_from: u64) -> Result<Table> {
    let mut writer = table.upsert_writer(UpsertOptions::default())?;
    let old = rows / 10;
    let from = new_from.wrapping_mul(7_919) % new_from.saturating_sub(old).max(1);
    writer.write(support::rows(table.schema(), from..from + old)?).await?;
    writer.write(support::rows(table.schema(), new_from..new_from + rows - old)?).await?;
    Ok(table.row_delta(writer.close().await?).commit().await?.table)
}

/// A run of live keys somewhere among `all`.
async fn update(table: &Table, rows: u64, all: u64, commit: u64) -> Result<Table> {
    let mut writer = table.upsert_writer(UpsertOptions::default())?;
    let from = commit.wrapping_mul(104_729) % all.saturating_sub(rows).max(1);
    writer.write(support::rows(table.schema(), from..from + rows)?).await?;
    Ok(table.row_delta(writer.close().await?).commit().await?.table)
}

async fn planned(table: &Table) -> Result<u64> {
    let tasks: Vec<_> = table.scan().plan().await?.try_collect().await?;
    Ok(tasks.len() as u64)
}

async fn commits(folder: &Path) -> Result<()> {
    let (commits, each) = (scaled(1_000).max(10), 200);
    let mut rows = scaled(2_000_000);
    let mut table = append(&support::table(folder, support::schema(), &[]).await?, 0..rows).await?;
    let began = Instant::now();
    for _ in 0..commits {
        table = upsert(&table, each, rows).await?;
        rows += each - each / 10;
    }
    report("upkeep/commits/upserts", began.elapsed(), commits, "commits", &[]);
    let mut first: Option<Duration> = None;
    for step in ["before", "converted", "compacted"] {
        let began = Instant::now();
        match step {
            "converted" => {
                drop(table.convert_equality_deletes(ConvertOptions::default()).run().await?)
            }
            "compacted" => drop(table.compact(CompactOptions::default()).run().await?),
            _ => {}
        }
        let work = began.elapsed();
        table = table.refresh().await?;
        let files = planned(&table).await?;
        let plan = median(5, files, || planned(&table)).await;
        let scan = median(3, rows, || async { drain(&table.scan()).await }).await;
        let before = *first.get_or_insert(scan);
        println!(
            "{:<44} {:>10.1} ms, {files} data files",
            format!("upkeep/commits/{step}/work"),
            work.as_secs_f64() * 1e3
        );
        report(&format!("upkeep/commits/{step}/plan"), plan, files, "files", &[]);
        report(
            &format!("upkeep/commits/{step}/scan"),
            scan,
            rows,
            "rows",
            &[("before", speed(scan, before))],
        );
    }
    Ok(())
}

/// Health and verification of many files, each with a cache of its own, as a process that starts.
async fn look(files: u64) -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let table = linked_files(folder.path(), files).await?;
    let fresh = || table.with_manifest_cache(Arc::new(ManifestCache::new(1 << 30)));

    let manifests = median(3, files, || entries(fresh())).await;
    report("upkeep/look/manifests", manifests, files, "files", &[]);
    let health = median(3, files, || {
        let table = fresh();
        async move { Ok(table.health().run().await?.files.all.files) }
    });
    let health = health.await;
    let ratio = [("manifests", speed(health, manifests))];
    report("upkeep/look/health", health, files, "files", &ratio);
    let verify = median(3, files, || {
        let table = fresh();
        async move {
            let report = table.verify(VerifyOptions::default()).run().await?;
            assert!(report.is_sound(), "{report}");
            Ok(report.data_files)
        }
    });
    let verify = verify.await;
    let ratio = [("manifests", speed(verify, manifests))];
    report("upkeep/look/verify", verify, files, "files", &ratio);
    if let Some(peak) = peak_memory_mib() {
        println!("{:<44} {peak:>10} MiB peak so far", "");
    }
    Ok(())
}

/// A table of many names of one small file.
async fn linked_files(folder: &Path, files: u64) -> Result<Table> {
    let table = support::table(folder, support::schema(), &[]).await?;
    let mut writer = table.append_writer(AppendOptions::default())?;
    writer.write(support::rows(table.schema(), 0..100)?).await?;
    let first = writer.close().await?.data_files.remove(0);
    let local = |location: &str| location.trim_start_matches("file://").to_string();
    let (mut linked, mut data_files) = (local(&first.file_path), vec![first.clone()]);
    for n in 1..files {
        let mut file = first.clone();
        file.file_path = first.file_path.replace(".parquet", &format!("-{n:06}.parquet"));
        // Some disks allow 65,000 names of one file.
        let place = local(&file.file_path);
        if n.is_multiple_of(50_000) {
            std::fs::copy(&linked, &place).expect("a copy");
            linked = place;
        } else {
            std::fs::hard_link(&linked, place).expect("links on this disk");
        }
        data_files.push(file);
    }
    let written = WriteResult { data_files, ..WriteResult::default() };
    Ok(table.append(written).commit().await?.table)
}

/// Live entries of all manifests, as many manifests at a time as the actions read.
async fn entries(table: Table) -> Result<u64> {
    let Some(snapshot) = table.current_snapshot() else { return Ok(0) };
    let manifests = table.manifests(snapshot).await?;
    let read = |manifest: ManifestFile| {
        let table = table.clone();
        async move { table.entries(&manifest).await }
    };
    let mut read = stream::iter(manifests.iter().cloned()).map(read).buffered(8);
    let mut live = 0;
    while let Some(entries) = read.try_next().await? {
        live += entries.iter().filter(|e| e.is_live()).count() as u64;
    }
    Ok(live)
}

async fn small_files(folder: &Path, rows: u64) -> Result<Table> {
    let mut table = support::table(folder, support::schema(), &[]).await?;
    for n in 0..40 {
        table = append(&table, rows * n / 40..rows * (n + 1) / 40).await?;
    }
    Ok(table)
}

async fn beside(folder: &Path) -> Result<()> {
    let rows = scaled(8_000_000);
    let mut alone = Duration::ZERO;
    for writes in [false, true] {
        let table = small_files(folder, rows).await?;
        let done = Arc::new(AtomicBool::new(false));
        let writer = writes.then(|| {
            let (mut table, done) = (table.clone(), done.clone());
            tokio::spawn(async move {
                let (mut commits, mut next) = (0u64, rows);
                let mut ticks = tokio::time::interval(Duration::from_secs(1));
                while !done.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    table = upsert(&table, 1_000, next).await?;
                    (commits, next) = (commits + 1, next + 900);
                }
                Result::Ok(commits)
            })
        });
        let began = Instant::now();
        let compacted = table
            .compact(CompactOptions { max_group_bytes: 16 << 20, ..CompactOptions::default() })
            .run()
            .await?;
        let taken = began.elapsed();
        done.store(true, Ordering::Relaxed);
        let Some(writer) = writer else {
            alone = taken;
            report("upkeep/beside/idle_table", taken, rows, "rows", &[]);
            continue;
        };
        let commits = writer.await.expect("the writer does not panic")?;
        report(
            "upkeep/beside/a_commit_a_second",
            taken,
            rows,
            "rows",
            &[("idle", speed(taken, alone))],
        );
        let live = drain(&table.refresh().await?.scan()).await?;
        assert_eq!(live, rows + 900 * commits, "no row is lost, none comes back");
        println!(
            "{:<44} {commits:>10} commits meanwhile, {} groups planned again",
            "", compacted.report.conflicts
        );
    }
    Ok(())
}

/// What the observers of a soak noted, by the second at which they did.
#[derive(Debug, Default)]
struct Notes {
    freshness_ms: Vec<(u64, f64)>,
    commit_ms: Vec<(u64, f64)>,
    plan_ms: Vec<(u64, f64)>,
    scan_ms: Vec<(u64, f64)>,
    heap_mib: Vec<(u64, f64)>,
    rss_mib: Vec<(u64, f64)>,
}

async fn soak(folder: &Path) -> Result<()> {
    let seconds =
        std::env::var("MELTWATER_SOAK_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(120u64);
    let rows = scaled(1_000_000);
    let table = append(&support::table(folder, support::schema(), &[]).await?, 0..rows).await?;
    let (notes, began, over) =
        (Arc::new(Mutex::new(Notes::default())), Instant::now(), Arc::new(AtomicBool::new(false)));
    let writer = tokio::spawn(write(table.clone(), rows, notes.clone(), began, over.clone()));
    let follower = tokio::spawn(follow(table.clone(), notes.clone(), began));
    let upkeep = tokio::spawn(keep(table.clone(), over.clone()));
    while began.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let table = table.refresh().await?;
        let start = Instant::now();
        planned(&table).await?;
        let plan = start.elapsed();
        let start = Instant::now();
        drain(&table.scan()).await?;
        let (scan, now) = (start.elapsed(), began.elapsed().as_secs());
        let mut notes = notes.lock().expect("no panic");
        notes.plan_ms.push((now, plan.as_secs_f64() * 1e3));
        notes.scan_ms.push((now, scan.as_secs_f64() * 1e3));
        notes.heap_mib.push((now, held() as f64 / f64::from(1 << 20)));
        notes.rss_mib.extend(resident_mib().map(|mib| (now, mib)));
    }
    over.store(true, Ordering::Relaxed);
    let commits = writer.await.expect("the writer does not panic")?;
    upkeep.await.expect("maintenance does not panic")?;
    follower.abort();
    let live = drain(&table.refresh().await?.scan()).await?;
    assert_eq!(live, rows, "no row is lost, none comes back");
    let notes = notes.lock().expect("no panic");
    println!("upkeep/soak: {seconds} s, {commits} commits, {live} rows; medians of each quarter");
    for (name, noted, unit) in [
        ("commit", &notes.commit_ms, "ms"),
        ("freshness", &notes.freshness_ms, "ms"),
        ("plan", &notes.plan_ms, "ms"),
        ("scan", &notes.scan_ms, "ms"),
        ("heap", &notes.heap_mib, "MiB"),
        ("resident memory", &notes.rss_mib, "MiB"),
    ] {
        let quarters: Vec<String> = (0..4).map(|q| quarter(noted, q, seconds)).collect();
        println!("{:<44} {} {unit}", format!("upkeep/soak/{name}"), quarters.join("  "));
    }
    Ok(())
}

async fn write(
    mut table: Table,
    rows: u64,
    notes: Arc<Mutex<Notes>>,
    began: Instant,
    over: Arc<AtomicBool>,
) -> Result<u64> {
    let mut commits = 0;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let start = Instant::now();
        table = update(&table, 1_000, rows, commits).await?;
        commits += 1;
        let taken = start.elapsed().as_secs_f64() * 1e3;
        notes.lock().expect("no panic").commit_ms.push((began.elapsed().as_secs(), taken));
    }
    Ok(commits)
}

async fn follow(table: Table, notes: Arc<Mutex<Notes>>, began: Instant) -> Result<()> {
    let stream = table.stream().start(Start::Latest).until(Until::Forever);
    let (mut stream, mut last) = (stream.open().await?, None);
    while let Some(event) = stream.try_next().await? {
        let StreamEvent::Batch(batch) = event else { continue };
        if last.replace(batch.commit.snapshot_id) != Some(batch.commit.snapshot_id) {
            let late = SystemClock.now_ms() - batch.commit.committed_at_ms;
            notes
                .lock()
                .expect("no panic")
                .freshness_ms
                .push((began.elapsed().as_secs(), late as f64));
        }
    }
    Ok(())
}

/// Every fifteen seconds, what an operator would have run.
async fn keep(table: Table, over: Arc<AtomicBool>) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(15));
    ticks.tick().await;
    while !over.load(Ordering::Relaxed) {
        if tokio::time::timeout(Duration::from_millis(500), ticks.tick()).await.is_err() {
            continue;
        }
        let table = table.refresh().await?;
        table.convert_equality_deletes(ConvertOptions::default()).run().await?;
        let table = table.refresh().await?;
        table.compact(CompactOptions::default()).run().await?;
        let table = table.refresh().await?;
        let options = ExpireOptions {
            older_than: Some(Duration::from_secs(20)),
            retain_last: Some(5),
            ..ExpireOptions::default()
        };
        table.expire(options).run().await?;
    }
    Ok(())
}

fn quarter(noted: &[(u64, f64)], quarter: u64, seconds: u64) -> String {
    let span = quarter * seconds / 4..(quarter + 1) * seconds / 4;
    let mut values: Vec<f64> =
        noted.iter().filter(|(at, _)| span.contains(at)).map(|(_, v)| *v).collect();
    values.sort_by(f64::total_cmp);
    let (median, p99) = (values.get(values.len() / 2), values.get(values.len() * 99 / 100));
    match (median, p99) {
        (Some(median), Some(most)) => format!("{median:>7.1} (p99 {most:.0})"),
        _ => "-".to_string(),
    }
}

/// Resident memory now (Linux).
fn resident_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}
