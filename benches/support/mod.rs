//! What every bench shares: a table on local disk, timing, the raw Parquet floor, and a report
//! of ratios.
#![allow(dead_code, reason = "each bench uses its part")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use meltwater::arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use meltwater::arrow::record_batch::RecordBatch;
use meltwater::catalog::{Catalog, FileSystemCatalog, NewTable};
use meltwater::file::arrow_schema;
use meltwater::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use meltwater::scan::TableScan;
use meltwater::spec::{
    DataFile, NamespaceIdent, NestedField, PrimitiveType, Schema, TableIdent, Type,
};
use meltwater::storage::Storage;
use meltwater::table::Table;

pub type Result<T> = meltwater::Result<T>;

/// Rows of a bench, scaled by `MELTWATER_BENCH_SCALE` (1.0 by default; 0.01 for a smoke test).
pub fn scaled(rows: u64) -> u64 {
    let scale = std::env::var("MELTWATER_BENCH_SCALE").ok().and_then(|s| s.parse::<f64>().ok());
    ((rows as f64) * scale.unwrap_or(1.0)).max(1.0) as u64
}

/// `cargo bench -- NAME` runs the parts whose name contains NAME; `cargo test --benches` passes
/// `--test`, and then nothing is measured.
pub fn wanted(name: &str) -> bool {
    let mut filters = std::env::args().skip(1).filter(|a| !a.starts_with("--")).peekable();
    if std::env::args().any(|a| a == "--test") {
        return false;
    }
    filters.peek().is_none() || filters.any(|f| name.contains(&f))
}

/// `id long (key), group long, amount double, code string, note string`.
pub fn schema() -> Schema {
    let long = || Type::Primitive(PrimitiveType::Long);
    Schema::builder()
        .with_fields([
            NestedField::required(1, "id", long()).into(),
            NestedField::required(2, "group", long()).into(),
            NestedField::optional(3, "amount", Type::Primitive(PrimitiveType::Double)).into(),
            NestedField::required(4, "code", Type::Primitive(PrimitiveType::String)).into(),
            NestedField::optional(5, "note", Type::Primitive(PrimitiveType::String)).into(),
        ])
        .with_identifier_field_ids([1])
        .build()
        .expect("the schema is valid")
}

/// Row `n` has id `n`, group `n % 1000`, code `k` and the id in ten digits, a short note.
pub fn rows(schema: &Schema, range: std::ops::Range<u64>) -> Result<RecordBatch> {
    let ids = || range.clone().map(|n| n as i64);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids())),
        Arc::new(Int64Array::from_iter_values(ids().map(|n| n % 1000))),
        Arc::new(Float64Array::from_iter_values(ids().map(|n| (n * 7919 % 100_003) as f64 / 4.0))),
        Arc::new(StringArray::from_iter_values(range.clone().map(code))),
        Arc::new(StringArray::from_iter_values(ids().map(|n| format!("note {}", n % 97)))),
    ];
    Ok(RecordBatch::try_new(arrow_schema(schema)?, columns)?)
}

pub fn code(n: u64) -> String {
    format!("k{n:010}")
}

/// An empty table of a file-system catalog in `folder`.
pub async fn table(folder: &Path, schema: Schema, properties: &[(&str, &str)]) -> Result<Table> {
    let root = format!("file://{}", folder.display());
    let catalog = Arc::new(FileSystemCatalog::new(root, Storage::default()));
    let namespace = NamespaceIdent::new("bench".into());
    let _ = catalog.create_namespace(&namespace, HashMap::new()).await;
    let name = format!("t{}", std::fs::read_dir(folder.join("bench")).map_or(0, |d| d.count()));
    let ident = TableIdent::new(namespace, name);
    let mut new = NewTable::new(schema);
    new.properties = properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let loaded = catalog.create_table(&ident, new).await?;
    Ok(Table::from_loaded(catalog, ident, loaded))
}

/// The median time of `times` runs; each must give `expected`.
pub async fn median<T, F>(times: usize, expected: T, mut run: impl FnMut() -> F) -> Duration
where
    T: PartialEq + std::fmt::Debug,
    F: Future<Output = Result<T>>,
{
    let mut taken = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        let got = run().await.expect("the benched work succeeds");
        taken.push(start.elapsed());
        assert_eq!(got, expected, "the benched work gives the right answer");
    }
    taken.sort();
    taken[taken.len() / 2]
}

/// Rows of a scan, decoded and counted.
pub async fn drain(scan: &TableScan) -> Result<u64> {
    let mut rows = 0;
    let mut batches = scan.to_batches().await?;
    while let Some(batch) = batches.try_next().await? {
        rows += batch.num_rows() as u64;
    }
    Ok(rows)
}

/// The floor of a scan: plain `parquet` decode of whole files on `threads` threads.
pub fn decode(files: &[DataFile], threads: usize) -> u64 {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || {
            let mut rows = 0;
            loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(file) = files.get(at) else { return rows };
                let path = file.file_path.trim_start_matches("file://");
                let file = std::fs::File::open(path).expect("the file is there");
                let reader = ParquetRecordBatchReaderBuilder::try_new(file)
                    .and_then(|b| b.with_batch_size(8192).build())
                    .expect("the file reads");
                rows += reader.map(|b| b.expect("a batch reads").num_rows() as u64).sum::<u64>();
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|t| t.join().expect("no panic")).sum()
    })
}

/// Prints one line: what, how long, a rate, and how it compares.
pub fn report(name: &str, taken: Duration, work: u64, unit: &str, against: &[(&str, f64)]) {
    let rate = work as f64 / taken.as_secs_f64();
    let (rate, scale) = match rate {
        r if r >= 1e6 => (r / 1e6, "M"),
        r if r >= 1e3 => (r / 1e3, "k"),
        r => (r, ""),
    };
    let ratios: Vec<String> = against.iter().map(|(what, r)| format!("{r:.2} x {what}")).collect();
    println!(
        "{name:<44} {:>10.1} ms  {rate:>8.2} {scale}{unit}/s  {}",
        taken.as_secs_f64() * 1e3,
        ratios.join(", ")
    );
}

/// How fast `a` is as a share of `b`: 1.0 is equal, 0.5 takes twice as long.
pub fn speed(a: Duration, b: Duration) -> f64 {
    b.as_secs_f64() / a.as_secs_f64()
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts")
}

pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |n| n.get())
}

/// The peak resident memory of this process so far, in MiB (Linux).
pub fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}
