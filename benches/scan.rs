//! How fast is merge-on-read? One table of 10 files and five columns; each kind of delete lies on
//! a branch of its own, so that all read the same data files.
//!
//! * floor: plain `parquet` decode of the same files on as many threads.
//! * peer: the `iceberg` crate's own reader, at 10,000 equality deletes over 1M rows, once: `scan/peer`,
//!   and all others `scan/rows`.
//!
//! Goals (DESIGN §9): no deletes at least 0.90 of the floor; 1 % position deletes 0.85 of the scan
//! without; 1M equality deletes of one integer key over 10M rows 0.65 of the scan without, and 300
//! times the peer at 10,000.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use meltwater::arrow::array::{ArrayRef, Int64Array, StringArray};
use meltwater::arrow::record_batch::RecordBatch;
use meltwater::file::{ParquetFileWriter, WriterOptions, arrow_schema, write_position_deletes};
use meltwater::spec::{DataContentType, DataFile, MAIN_BRANCH, Schema, SnapshotId};
use meltwater::table::{At, RefUpdate, Table, WriteResult};
use meltwater::write::AppendOptions;
use roaring::RoaringTreemap;
use support::{Result, code, decode, drain, median, report, scaled, speed, threads, wanted};

const FILES: u64 = 10;

fn main() -> Result<()> {
    support::runtime().block_on(async {
        if wanted("scan/peer") {
            peer().await?;
        }
        if !wanted("scan/rows") {
            return Ok(());
        }
        let bench = Bench::new(scaled(10_000_000)).await?;
        let plain = bench.plain().await?;
        bench.projected().await?;
        for share in [1000, 100, 10] {
            bench.position_deletes(share, plain).await?;
        }
        for keys in [10_000, 100_000, 1_000_000] {
            for kind in [Keys::Integer, Keys::String, Keys::Pair] {
                bench.equality_deletes(scaled(keys), kind, plain).await?;
            }
        }
        Ok(())
    })
}

#[derive(Debug, Clone, Copy)]
enum Keys {
    Integer,
    String,
    Pair,
}

struct Bench {
    _folder: tempfile::TempDir,
    table: Table,
    files: Vec<DataFile>,
    rows: u64,
    base: SnapshotId,
}

impl Bench {
    async fn new(rows: u64) -> Result<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let table = support::table(folder.path(), support::schema(), &[]).await?;
        let mut written = WriteResult::default();
        for file in 0..FILES {
            let mut writer = table.append_writer(AppendOptions::default())?;
            let (from, to) = (rows * file / FILES, rows * (file + 1) / FILES);
            for start in (from..to).step_by(65_536) {
                let range = start..(start + 65_536).min(to);
                writer.write(support::rows(table.schema(), range)?).await?;
            }
            written = written.merge(writer.close().await?);
        }
        let files = written.data_files.clone();
        let done = table.append(written).commit().await?;
        Ok(Self { _folder: folder, table: done.table, files, rows, base: done.snapshot_id })
    }

    async fn plain(&self) -> Result<Duration> {
        let floor = median(5, self.rows, || async { Ok(decode(&self.files, threads())) }).await;
        report("scan/floor (parquet decode)", floor, self.rows, "rows", &[]);
        let scan = self.table.scan();
        let plain = median(5, self.rows, || drain(&scan)).await;
        report("scan/plain", plain, self.rows, "rows", &[("floor", speed(plain, floor))]);
        Ok(plain)
    }

    async fn projected(&self) -> Result<()> {
        let scan = self.table.scan().select(["id", "amount"]);
        let taken = median(5, self.rows, || drain(&scan)).await;
        report("scan/two_of_five_columns", taken, self.rows, "rows", &[]);
        Ok(())
    }

    /// A branch at the plain snapshot with these deletes on top.
    async fn branch(&self, name: &str, delete_files: Vec<DataFile>) -> Result<Table> {
        let branch = RefUpdate::CreateBranch { name: name.into(), snapshot: self.base };
        let table = self.table.refresh().await?.update_ref(branch).await?;
        let written = WriteResult { delete_files, ..WriteResult::default() };
        Ok(table.row_delta(written).branch(name).commit().await?.table)
    }

    async fn position_deletes(&self, one_in: u64, plain: Duration) -> Result<()> {
        let options = WriterOptions::default();
        let (mut deletes, mut dead) = (Vec::new(), 0);
        for file in &self.files {
            // Scattered: one row in each run of `one_in`, at a place that varies.
            let positions: RoaringTreemap =
                (0..file.record_count / one_in).map(|n| n * one_in + (n * 7919) % one_in).collect();
            dead += positions.len();
            let location = self.table.new_data_path(&file.partition_key(), "pos-deletes")?;
            let storage = self.table.storage();
            deletes.push(
                write_position_deletes(storage, &location, file, &positions, &options).await?,
            );
        }
        let name = format!("pos{one_in}");
        let scan = self.branch(&name, deletes).await?.scan().at(At::Ref(name));
        let taken = median(5, self.rows - dead, || drain(&scan)).await;
        let name = format!("scan/position_deletes/{}pct", 100.0 / one_in as f64);
        report(&name, taken, self.rows, "rows", &[("plain", speed(taken, plain))]);
        Ok(())
    }

    async fn equality_deletes(&self, keys: u64, kind: Keys, plain: Duration) -> Result<()> {
        let file = equality_file(&self.table, self.rows, keys, kind).await?;
        let name = format!("{kind:?}{keys}").to_lowercase();
        let scan = self.branch(&name, vec![file]).await?.scan().at(At::Ref(name.clone()));
        let taken = median(3, self.rows - keys, || drain(&scan)).await;
        let name = format!("scan/equality_deletes/{name}");
        report(&name, taken, self.rows, "rows", &[("plain", speed(taken, plain))]);
        Ok(())
    }
}

/// Deletes every `rows / keys`-th row by key.
async fn equality_file(table: &Table, rows: u64, keys: u64, kind: Keys) -> Result<DataFile> {
    let ids: &[i32] = match kind {
        Keys::Integer => &[1],
        Keys::String => &[4],
        Keys::Pair => &[1, 2],
    };
    let fields = ids.iter().filter_map(|id| table.schema().field_by_id(*id).cloned());
    let schema = Arc::new(Schema::builder().with_fields(fields).build()?);
    let step = rows / keys;
    let dead = || (0..keys).map(move |n| n * step);
    let column = |id: &i32| -> ArrayRef {
        match id {
            1 => Arc::new(Int64Array::from_iter_values(dead().map(|n| n as i64))),
            2 => Arc::new(Int64Array::from_iter_values(dead().map(|n| n as i64 % 1000))),
            _ => Arc::new(StringArray::from_iter_values(dead().map(code))),
        }
    };
    let batch = RecordBatch::try_new(arrow_schema(&schema)?, ids.iter().map(column).collect())?;
    let partition = meltwater::spec::PartitionKey::unpartitioned(0);
    let location = table.new_data_path(&partition, "eq-deletes")?;
    let options = WriterOptions::default();
    let mut writer = ParquetFileWriter::create(table.storage(), &location, schema, &options)?;
    writer.write(&batch).await?;
    let mut file = writer.close(DataContentType::EqualityDeletes, partition).await?;
    file.equality_ids = Some(ids.to_vec());
    Ok(file)
}

/// The crate's reader and ours on the same small table: its cost is rows times deletes.
async fn peer() -> Result<()> {
    let (rows, keys) = (scaled(1_000_000), scaled(10_000));
    let bench = Bench::new(rows).await?;
    let file = equality_file(&bench.table, rows, keys, Keys::Integer).await?;
    let delta = WriteResult { delete_files: vec![file], ..WriteResult::default() };
    let table = bench.table.row_delta(delta).branch(MAIN_BRANCH).commit().await?.table;
    let scan = table.scan();
    let floor = median(5, rows, || async { Ok(decode(&bench.files, threads())) }).await;
    let ours = median(5, rows - keys, || drain(&scan)).await;
    let theirs = meltwater::iceberg::table::Table::builder()
        .file_io(table.storage().file_io())
        .metadata(table.metadata().clone())
        .metadata_location(table.metadata_location())
        .identifier(table.ident().clone())
        .runtime(meltwater::iceberg::Runtime::current())
        .build()?;
    let start = Instant::now();
    let batches: Vec<RecordBatch> =
        theirs.scan().select_all().build()?.to_arrow().await?.try_collect().await?;
    let taken = start.elapsed();
    assert_eq!(batches.iter().map(|b| b.num_rows() as u64).sum::<u64>(), rows - keys);
    report("scan/peer/iceberg_0.10.1", taken, rows, "rows", &[]);
    let ratios = [("the peer", speed(ours, taken)), ("floor", speed(ours, floor))];
    report("scan/peer/ours", ours, rows, "rows", &ratios);
    Ok(())
}
