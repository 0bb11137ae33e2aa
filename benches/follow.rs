//! How fast do changes flow? Against the floor (plain `parquet` decode of the files a follower has
//! to read), what a poll that finds nothing costs, how long it takes to resume, and how much memory
//! a snapshot of very many files takes.
//!
//! Goals (DESIGN §9): `Appends` on one lane at least 0.85 of the floor, `Upserts` 0.7; `Changes`
//! over 10M live rows in 100 files with 10k keys a commit, 9 of 10 new and the rest in the newest
//! files, warm: at least a commit a second, at most 5 % of the table's bytes read per commit. The
//! full phase by 1, 2 and 8 decoders is told beside a floor of as many threads, and has no goal.

mod support;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use meltwater::catalog::{Catalog, NewTable, parse_ident};
use meltwater::clock::{Clock, SystemClock};
use meltwater::read::Emit;
use meltwater::spec::{DataFile, NamespaceIdent, SnapshotId};
use meltwater::stream::{ChangeStream, Start, StreamEvent, Until};
use meltwater::table::{Table, Token, WriteResult};
use meltwater::write::{AppendOptions, UpsertOptions};
use support::{Result, decode, median, peak_memory_mib, report, scaled, speed, threads, wanted};

/// Commits of `follow/freshness`, one a second.
const COMMITS: u64 = 40;

fn main() -> Result<()> {
    support::runtime().block_on(async {
        if let Ok(folder) = std::env::var(WRITER) {
            return write_every_second(&folder).await;
        }
        if let Ok(folder) = std::env::var(READER) {
            return read_first_rows(&folder).await;
        }
        if wanted("follow/appends") {
            appends().await?;
        }
        if wanted("follow/full") {
            full().await?;
        }
        if wanted("follow/upserts") {
            upserts().await?;
        }
        if wanted("follow/changes") {
            changes(Keys::Recent).await?;
            changes(Keys::Anywhere).await?;
        }
        if wanted("follow/idle") {
            idle().await?;
        }
        if wanted("follow/freshness") {
            freshness().await?;
        }
        if wanted("follow/many_files") {
            many_files().await?;
        }
        Ok(())
    })
}

/// Commits rows `range` in one append; gives the files.
async fn append(table: &Table, range: Range<u64>) -> Result<(Table, Vec<DataFile>)> {
    let mut writer = table.append_writer(AppendOptions::default())?;
    for start in range.clone().step_by(65_536) {
        let rows = start..(start + 65_536).min(range.end);
        writer.write(support::rows(table.schema(), rows)?).await?;
    }
    let written = writer.close().await?;
    let files = written.data_files.clone();
    Ok((table.append(written).commit().await?.table, files))
}

async fn upsert(table: &Table, batches: &[Range<u64>]) -> Result<(Table, Vec<DataFile>)> {
    let mut writer = table.upsert_writer(UpsertOptions::default())?;
    for range in batches {
        writer.write(support::rows(table.schema(), range.clone())?).await?;
    }
    let written = writer.close().await?;
    let files = written.files().cloned().collect();
    Ok((table.row_delta(written).commit().await?.table, files))
}

/// A table of `files` commits of one file each.
async fn appended(
    folder: &std::path::Path,
    rows: u64,
    files: u64,
) -> Result<(Table, Vec<DataFile>)> {
    let mut table = support::table(folder, support::schema(), &[]).await?;
    let mut all = Vec::new();
    for n in 0..files {
        let (next, files) = append(&table, rows * n / files..rows * (n + 1) / files).await?;
        table = next;
        all.extend(files);
    }
    Ok((table, all))
}

/// Takes what is there; gives rows and the token behind them.
async fn drain(mut changes: ChangeStream) -> Result<(u64, Option<Token>)> {
    let (mut rows, mut token) = (0, None);
    while let Some(event) = changes.try_next().await? {
        if let StreamEvent::Batch(batch) = event {
            rows += batch.records.num_rows() as u64;
            token = Some(batch.end());
        }
    }
    Ok((rows, token))
}

async fn appends() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = scaled(10_000_000);
    let (table, files) = appended(folder.path(), rows, 10).await?;
    for lanes in [1, threads()] {
        let floor = median(3, rows, || async { Ok(decode(&files, lanes)) }).await;
        let follow = || async {
            let stream = table.stream().start(Start::Earliest).until(Until::CaughtUp);
            Ok(drain(stream.emit(Emit::Appends).lanes(lanes).open().await?).await?.0)
        };
        let taken = median(5, rows, follow).await;
        let name = format!("follow/appends/{lanes}_lanes");
        report(&name, taken, rows, "rows", &[("floor", speed(taken, floor))]);
    }
    Ok(())
}

/// The rows of a whole snapshot by so many decoders, on one lane.
async fn full() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = scaled(10_000_000);
    let (table, files) = appended(folder.path(), rows, 10).await?;
    for decoders in [1, 2, 8] {
        let floor = median(3, rows, || async { Ok(decode(&files, decoders.min(threads()))) }).await;
        let follow = || async {
            let stream = table.stream().start(Start::LatestFull).until(Until::CaughtUp);
            let stream = stream.emit(Emit::Appends).full_parallelism(decoders);
            Ok(drain(stream.open().await?).await?.0)
        };
        let taken = median(5, rows, follow).await;
        let name = format!("follow/full/{decoders}_decoders");
        report(&name, taken, rows, "rows", &[("floor", speed(taken, floor))]);
    }
    Ok(())
}

async fn upserts() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let (rows, each) = (scaled(2_000_000), scaled(200_000));
    let (mut table, _) = appended(folder.path(), rows, 4).await?;
    let base = SnapshotId(table.current_snapshot().expect("rows").snapshot_id());
    let mut files = Vec::new();
    for n in 0..10 {
        let keys = n * each / 2..n * each / 2 + each;
        let (next, written) = upsert(&table, std::slice::from_ref(&keys)).await?;
        table = next;
        files.extend(written);
    }
    // Data and keys of deletes: what has to be read at the least.
    let floor = median(3, 20 * each, || async { Ok(decode(&files, 1)) }).await;
    let follow = || async {
        let stream = table.stream().start(Start::AfterSnapshot(base)).until(Until::CaughtUp);
        Ok(drain(stream.emit(Emit::Upserts).open().await?).await?.0)
    };
    let (runs, before) = (5, bytes_read());
    let taken = median(runs, 10 * each, follow).await;
    let bytes: u64 = files.iter().map(|f| f.file_size_in_bytes).sum();
    let read = (bytes_read() - before) as f64 / runs as f64 / bytes as f64;
    let ratios = [("floor", speed(taken, floor)), ("of the files' bytes read", read)];
    report("follow/upserts", taken, 10 * each, "rows", &ratios);
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Keys {
    /// 9 of 10 new, the rest in the five newest files.
    Recent,
    /// Spread over all live rows.
    Anywhere,
}

async fn changes(kind: Keys) -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let (rows, each, commits) = (scaled(10_000_000), scaled(10_000), 10);
    let (mut table, files) = appended(folder.path(), rows, 100).await?;
    let bytes: u64 = files.iter().map(|f| f.file_size_in_bytes).sum();
    let stream = table.stream().start(Start::Latest).until(Until::Forever);
    let mut stream = stream.emit(Emit::Changes).open().await?;
    let (mut took, mut read) = (Vec::new(), Vec::new());
    for n in 0..commits {
        let fresh = rows + n * each;
        let keys = match kind {
            Keys::Recent => {
                let old = fresh - 5 * each / 2 + (n % 5) * each / 10;
                vec![fresh..fresh + each * 9 / 10, old..old + each / 10]
            }
            Keys::Anywhere => {
                (0..each).map(|k| (k * 7919 + n) * 997 % rows).map(|k| k..k + 1).collect()
            }
        };
        let (before, began) = (bytes_read(), Instant::now());
        table = upsert(&table, &keys).await?.0;
        let head = SnapshotId(table.current_snapshot().expect("rows").snapshot_id());
        let mut seen = 0;
        while seen < each {
            if let Some(StreamEvent::Batch(batch)) = stream.try_next().await? {
                assert_eq!(batch.commit.snapshot_id, head);
                seen += batch.kinds.iter().filter(|k| k.as_str() != "update_before").count() as u64;
            }
        }
        // The first commits fill what is remembered of files.
        if n >= 3 {
            took.push(began.elapsed());
            read.push(bytes_read() - before);
        }
    }
    took.sort();
    read.sort();
    let (taken, share) = (took[took.len() / 2], read[read.len() / 2] as f64 / bytes as f64);
    let name = format!("follow/changes/{}_keys", format!("{kind:?}").to_lowercase());
    report(&name, taken, 1, "commits", &[("of the table's bytes read", share)]);
    Ok(())
}

/// Bytes that this process has read so far (Linux).
fn bytes_read() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|l| l.strip_prefix("rchar: "));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// Processor time of this process so far, in ticks of 10 ms (Linux).
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_whitespace().skip(11).take(2);
    fields.filter_map(|n| n.parse::<u64>().ok()).sum()
}

async fn idle() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut table, _) = appended(folder.path(), scaled(1_000_000), 100).await?;
    let stream = table.stream().start(Start::Earliest).until(Until::CaughtUp);
    let (_, token) = drain(stream.emit(Emit::Appends).open().await?).await?;
    let token = token.expect("rows were followed");
    let resume = || async {
        let stream = table.stream().start(Start::At(token.clone())).until(Until::CaughtUp);
        Ok(drain(stream.emit(Emit::Appends).open().await?).await?.0)
    };
    report("follow/resume/nothing_behind", median(9, 0, resume).await, 1, "times", &[]);

    let stream = table.stream().start(Start::Latest).emit(Emit::Appends);
    let mut stream = stream.until(Until::Forever).open().await?;
    let (before, wait) = (ticks(), Duration::from_secs(5));
    let _ = tokio::time::timeout(wait, stream.try_next()).await;
    while tokio::time::timeout(wait, stream.try_next()).await.is_ok() {}
    let share = (ticks() - before) as f64 * 0.01 / (2.0 * wait.as_secs_f64());
    println!("{:<44} {:>10.2} % of a processor", "follow/idle", share * 100.0);

    let mut took = Vec::new();
    for n in 0..20 {
        table = append(&table, n..n + 1).await?.0;
        let began = Instant::now();
        while !matches!(stream.try_next().await?, Some(StreamEvent::Batch(_))) {}
        took.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    took.sort();
    report("follow/freshness/same_process_p50", took[10], 1, "commits", &[]);
    report("follow/freshness/same_process_max", took[19], 1, "commits", &[]);
    Ok(())
}

/// Where the child process of `follow/freshness` finds its catalog.
const WRITER: &str = "MELTWATER_BENCH_WRITER";

async fn shared(folder: &str) -> Result<Arc<dyn Catalog>> {
    let uri = format!("sqlite:{folder}/catalog.db?warehouse=file://{folder}");
    meltwater::catalog::open(&uri, Default::default()).await
}

async fn shared_table(folder: &str) -> Result<Table> {
    let (catalog, ident) = (shared(folder).await?, parse_ident("bench.t")?);
    catalog.create_namespace(&NamespaceIdent::new("bench".into()), Default::default()).await?;
    let loaded = catalog.create_table(&ident, NewTable::new(support::schema())).await?;
    Ok(Table::from_loaded(catalog, ident, loaded))
}

/// The child: a commit a second, and each time it was acknowledged.
async fn write_every_second(folder: &str) -> Result<()> {
    let mut table = Table::load(shared(folder).await?, &parse_ident("bench.t")?).await?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for n in 0..COMMITS {
        ticks.tick().await;
        (table, _) = append(&table, n..n + 1).await?;
        println!("{}", SystemClock.now_ms());
    }
    Ok(())
}

/// When each commit's row came.
async fn arrivals(stream: &mut ChangeStream) -> Result<Vec<i64>> {
    let mut arrived = Vec::new();
    while (arrived.len() as u64) < COMMITS {
        if let Some(StreamEvent::Batch(_)) = stream.try_next().await? {
            arrived.push(SystemClock.now_ms());
        }
    }
    Ok(arrived)
}

/// From the writer's acknowledgement, in a process of its own, to the row in the follower's hands.
async fn freshness() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display().to_string();
    let table = shared_table(&path).await?;
    let stream = table.stream().start(Start::Earliest).emit(Emit::Appends);
    let mut stream = stream.until(Until::Forever).open().await?;
    let program = std::env::current_exe().expect("this program has a path");
    let child = std::process::Command::new(program)
        .env(WRITER, &path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the writer starts");
    let arrived = arrivals(&mut stream).await;
    let told = child.wait_with_output().expect("the writer ends").stdout;
    let arrived = arrived?;
    let acknowledged = String::from_utf8(told).expect("numbers are text");
    let acknowledged = acknowledged.lines().map(|line| line.parse::<i64>().expect("a number"));
    let late = acknowledged.zip(&arrived).map(|(at, seen)| u64::try_from(seen - at).unwrap_or(0));
    let mut late: Vec<Duration> = late.map(Duration::from_millis).collect();
    late.sort();
    let at = |share: usize| late[(late.len() * share / 100).min(late.len() - 1)];
    report("follow/freshness/two_processes_p50", at(50), 1, "commits", &[]);
    report("follow/freshness/two_processes_p99", at(99), 1, "commits", &[]);
    Ok(())
}

/// Where the child process of `follow/many_files` finds its catalog.
const READER: &str = "MELTWATER_BENCH_READER";

/// One snapshot of very many files, of which the first thousand are read, by a process that does
/// nothing else: what it holds beyond an idle one.
async fn many_files() -> Result<()> {
    for files in [scaled(100_000), scaled(1_000_000)] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().display().to_string();
        let table = shared_table(&path).await?;
        let (table, written) = append(&table, 0..1).await?;
        let first = &written[0];
        let real = first.file_path.trim_start_matches("file://");
        let mut linked = Vec::new();
        for n in 0..files {
            let path = format!("{real}-{n}.parquet");
            if n < 2_000 {
                std::fs::hard_link(real, &path).expect("a link");
            }
            linked.push(DataFile { file_path: format!("file://{path}"), ..first.clone() });
        }
        let all = WriteResult { data_files: linked, ..WriteResult::default() };
        table.append(all).commit().await?;
        println!("follow/many_files/{files}");
        let program = std::env::current_exe().expect("this program has a path");
        let read = std::process::Command::new(program).env(READER, &path).status();
        assert!(read.expect("the reader starts").success());
    }
    Ok(())
}

/// The child: the first rows of the snapshot.
async fn read_first_rows(folder: &str) -> Result<()> {
    let table = Table::load(shared(folder).await?, &parse_ident("bench.t")?).await?;
    let stream = table.stream().start(Start::Earliest).until(Until::CaughtUp);
    let (before, began, mut rows) = (peak_memory_mib(), Instant::now(), 0);
    let mut stream = stream.emit(Emit::Appends).open().await?;
    while rows < 1000 {
        if let Some(StreamEvent::Batch(batch)) = stream.try_next().await? {
            rows += batch.records.num_rows() as u64;
        }
    }
    report("follow/many_files/first_1000_rows", began.elapsed(), rows, "rows", &[]);
    if let (Some(before), Some(after)) = (before, peak_memory_mib()) {
        println!("{:<44} {before:>10} MiB idle, {after} MiB peak", "");
    }
    Ok(())
}
