//! How fast do rows become files? Append and upsert of batches that are in memory already.
//!
//! * floor: one plain `parquet` writer with the same codec, statistics and bloom filter, to a file
//!   that is synced.
//!
//! Goal (DESIGN §9): append with zstd at least 0.85 of the floor. Upserts also write an equality
//! delete for each key and remember where each key of the commit lies; they are reported.

mod support;

use std::fs::File;
use std::time::Duration;

use meltwater::arrow::record_batch::RecordBatch;
use meltwater::file::arrow_schema;
use meltwater::parquet::arrow::ArrowWriter;
use meltwater::parquet::basic::{Compression, ZstdLevel};
use meltwater::parquet::file::properties::{EnabledStatistics, WriterProperties};
use meltwater::parquet::schema::types::ColumnPath;
use meltwater::spec::Schema;
use meltwater::table::Table;
use meltwater::write::{AppendOptions, UpsertOptions};
use support::{Result, median, report, scaled, speed, wanted};

const BATCH: u64 = 8192;

fn main() -> Result<()> {
    support::runtime().block_on(async {
        if !wanted("write") {
            return Ok(());
        }
        let rows = scaled(4_000_000);
        let folder = tempfile::tempdir().expect("a folder");
        let table = support::table(folder.path(), support::schema(), &[]).await?;
        let batches: Vec<RecordBatch> = (0..rows)
            .step_by(BATCH as usize)
            .map(|n| support::rows(table.schema(), n..(n + BATCH).min(rows)))
            .collect::<Result<_>>()?;

        let path = folder.path().join("floor.parquet");
        let schema = table.schema().clone();
        let floor = median(5, rows, || async { Ok(plain(&path, &schema, &batches, rows)) }).await;
        report("write/floor (parquet encode)", floor, rows, "rows", &[]);
        let taken = median(5, rows, || append(&table, &batches)).await;
        report("write/append", taken, rows, "rows", &[("floor", speed(taken, floor))]);
        upsert_all(&table, &batches, rows, floor).await
    })
}

async fn upsert_all(
    table: &Table,
    batches: &[RecordBatch],
    rows: u64,
    floor: Duration,
) -> Result<()> {
    let part = &batches[..batches.len().div_ceil(4)];
    let rows = rows.min(part.iter().map(|b| b.num_rows() as u64).sum());
    let floor = floor.mul_f64(part.len() as f64 / batches.len() as f64);
    let taken = median(3, rows, || upsert(table, part)).await;
    report("write/upsert", taken, rows, "rows", &[("floor", speed(taken, floor))]);
    Ok(())
}

/// Encodes with the properties that our writer uses for this table.
fn plain(path: &std::path::Path, schema: &Schema, batches: &[RecordBatch], rows: u64) -> u64 {
    let key = ColumnPath::from("id");
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_column_bloom_filter_enabled(key.clone(), true)
        .set_column_bloom_filter_ndv(key.clone(), rows)
        .set_column_bloom_filter_fpp(key, 0.01)
        .set_dictionary_page_size_limit(2 * 1024 * 1024)
        .build();
    let file = File::create(path).expect("a file");
    let schema = arrow_schema(schema).expect("a schema");
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).expect("a writer");
    batches.iter().for_each(|b| writer.write(b).expect("a batch"));
    let file = writer.into_inner().expect("a footer");
    file.sync_all().expect("a sync");
    batches.iter().map(|b| b.num_rows() as u64).sum()
}

async fn append(table: &Table, batches: &[RecordBatch]) -> Result<u64> {
    let mut writer = table.append_writer(AppendOptions::default())?;
    for batch in batches {
        writer.write(batch.clone()).await?;
    }
    let written = writer.close().await?;
    let rows = written.rows();
    written.discard(table.storage()).await?;
    Ok(rows)
}

async fn upsert(table: &Table, batches: &[RecordBatch]) -> Result<u64> {
    let mut writer = table.upsert_writer(UpsertOptions::default())?;
    for batch in batches {
        writer.write(batch.clone()).await?;
    }
    let written = writer.close().await?;
    let rows = written.rows();
    written.discard(table.storage()).await?;
    Ok(rows)
}
