//! Memory budgets as an operator sees them: a process's peak of resident memory over what it
//! holds when idle. Each job runs in a process of its own, on a table on local disk.
#![cfg(target_os = "linux")]

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use futures::TryStreamExt;
use meltwater::arrow::array::{ArrayRef, Int64Array, StringArray};
use meltwater::arrow::record_batch::RecordBatch;
use meltwater::catalog::{Catalog, FileSystemCatalog, NewTable, parse_ident};
use meltwater::file::arrow_schema;
use meltwater::spec::{
    NestedField, PrimitiveType, Schema, Transform, Type, UnboundPartitionField,
    UnboundPartitionSpec,
};
use meltwater::storage::Storage;
use meltwater::table::Table;
use meltwater::write::{AppendOptions, UpsertOptions};

const MIB: u64 = 1024 * 1024;
const JOB: &str = "MELTWATER_MEMORY_JOB";
const ROWS: i64 = 1_800_000;
const PARTITIONS: i64 = 400;

/// A line of `/proc/self/status` in bytes; `None` where there is no such file.
fn memory(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Keys that no encoding makes small.
fn spread(n: i64) -> i64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15u64 as i64)
}

fn rows(schema: &Schema, numbers: impl Iterator<Item = i64> + Clone) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(numbers.clone().map(spread))),
        Arc::new(Int64Array::from_iter_values(numbers.clone().map(|n| n % PARTITIONS))),
        Arc::new(StringArray::from_iter_values(numbers.map(|n| format!("{:x}", spread(n))))),
    ];
    RecordBatch::try_new(arrow_schema(schema).unwrap(), columns).unwrap()
}

fn catalog(folder: &Path) -> Arc<FileSystemCatalog> {
    let storage = Storage::new(HashMap::from([("local.sync".into(), "false".into())]));
    Arc::new(FileSystemCatalog::new(format!("file://{}", folder.display()), storage))
}

async fn create(folder: &Path, name: &str, partitioned: bool) -> Table {
    let long = || Type::Primitive(PrimitiveType::Long);
    let text = Type::Primitive(PrimitiveType::String);
    let schema = Schema::builder()
        .with_fields([
            NestedField::required(1, "id", long()).into(),
            NestedField::required(2, "part", long()).into(),
            NestedField::required(3, "text", text).into(),
        ])
        .with_identifier_field_ids([1])
        .build()
        .unwrap();
    let mut new = NewTable::new(schema);
    if partitioned {
        let field = UnboundPartitionField {
            source_id: 2,
            field_id: None,
            name: "part".into(),
            transform: Transform::Identity,
        };
        new = new.with_spec(
            UnboundPartitionSpec::builder().add_partition_fields([field]).unwrap().build(),
        );
    }
    let (catalog, ident) = (catalog(folder), parse_ident(name).unwrap());
    let _ = catalog.create_namespace(ident.namespace(), HashMap::new()).await;
    let loaded = catalog.create_table(&ident, new).await.unwrap();
    Table::from_loaded(catalog, ident, loaded)
}

/// 1.8M rows in six files, two thirds of their keys written again by three upserts.
async fn with_equality_deletes(folder: &Path) {
    let mut table = create(folder, "ns.scan", false).await;
    for from in (0..ROWS).step_by(300_000) {
        let mut writer = table.append_writer(AppendOptions::default()).unwrap();
        writer.write(rows(table.schema(), from..from + 300_000)).await.unwrap();
        let written = writer.close().await.unwrap();
        table = table.append(written).commit().await.unwrap().table;
    }
    for n in 0..3 {
        let mut writer = table.upsert_writer(UpsertOptions::default()).unwrap();
        let again = (n..ROWS).step_by(3).take(400_000);
        writer.write(rows(table.schema(), again)).await.unwrap();
        let written = writer.close().await.unwrap();
        table = table.row_delta(written).commit().await.unwrap().table;
    }
}

async fn scan(folder: &Path, budget: u64) -> u64 {
    let table = Table::load(catalog(folder), &parse_ident("ns.scan").unwrap()).await.unwrap();
    let idle = memory("VmRSS").unwrap();
    let mut batches = table.scan().memory_budget(budget).parallelism(2).to_batches().await.unwrap();
    let mut count = 0;
    while let Some(batch) = batches.try_next().await.unwrap() {
        count += batch.num_rows() as i64;
    }
    assert_eq!(count, ROWS);
    memory("VmHWM").unwrap() - idle
}

async fn write(folder: &Path, budget: u64) -> u64 {
    let table = Table::load(catalog(folder), &parse_ident("ns.write").unwrap()).await.unwrap();
    let options = AppendOptions { memory_budget_bytes: budget, ..AppendOptions::default() };
    let idle = memory("VmRSS").unwrap();
    let mut writer = table.append_writer(options).unwrap();
    // Every batch holds every partition, so all of them want to stay open.
    for from in (0..ROWS).step_by(8_000) {
        writer.write(rows(table.schema(), from..from + 8_000)).await.unwrap();
    }
    let written = writer.close().await.unwrap();
    assert_eq!(written.data_files.iter().map(|f| f.record_count).sum::<u64>(), ROWS as u64);
    memory("VmHWM").unwrap() - idle
}

/// Runs in a process of its own; does nothing when tests run as a whole.
#[test]
fn job_of_a_child_process() {
    let Ok(job) = std::env::var(JOB) else { return };
    let mut words = job.split('|');
    let (name, folder) = (words.next().unwrap(), words.next().unwrap());
    let budget: u64 = words.next().unwrap().parse().unwrap();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    let folder = Path::new(folder).to_owned();
    // On a worker, as a program would.
    let name = name.to_string();
    let work = async move {
        match name.as_str() {
            "scan" => scan(&folder, budget).await,
            _ => write(&folder, budget).await,
        }
    };
    let peak = runtime.block_on(runtime.spawn(work)).unwrap();
    println!("peak={peak};");
}

/// What a job held at its peak beyond the idle process.
fn peak_of(job: &str, folder: &Path, budget: u64) -> u64 {
    // glibc gives each thread an arena of its own and returns little of what was freed there: that
    // adds up to half again, and is no business of ours. One arena shows what we hold.
    let output = Command::new(std::env::current_exe().unwrap())
        .env("MALLOC_ARENA_MAX", "1")
        .args(["--exact", "job_of_a_child_process", "--nocapture", "--test-threads=1"])
        .env(JOB, format!("{job}|{}|{budget}", folder.display()))
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let peak = out.split_once("peak=").and_then(|(_, rest)| rest.split_once(';'));
    peak.unwrap_or_else(|| panic!("{out}\n{err}")).0.parse().unwrap()
}

#[test]
fn peak_memory_of_a_process_is_at_most_its_budget_and_a_quarter() {
    if memory("VmHWM").is_none() {
        eprintln!("skipped: no /proc/self/status on this machine");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        with_equality_deletes(folder.path()).await;
        create(folder.path(), "ns.write", true).await;
    });
    for (job, mib) in [("scan", 256), ("scan", 64), ("write", 256), ("write", 64)] {
        let budget = mib * MIB;
        let peak = peak_of(job, folder.path(), budget);
        println!("{job}: {} of {mib} MiB", peak / MIB);
        assert!(peak <= budget + budget / 4, "{job}: {} of {mib} MiB", peak / MIB);
    }
}
