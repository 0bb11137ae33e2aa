//! How fast is compaction, against decoding and encoding the same bytes and nothing else?

mod support;

use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::TryStreamExt;
use meltwater::file::arrow_schema;
use meltwater::maintenance::{CompactOptions, SortBy, SortColumn};
use meltwater::parquet::arrow::ArrowWriter;
use meltwater::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use meltwater::parquet::basic::{Compression, ZstdLevel};
use meltwater::parquet::file::properties::{EnabledStatistics, WriterProperties};
use meltwater::parquet::schema::types::ColumnPath;
use meltwater::spec::{DataFile, Schema};
use meltwater::table::Table;
use meltwater::write::AppendOptions;
use support::{Result, median, report, scaled, speed, threads, wanted};

const FILES: u64 = 40;

fn main() -> Result<()> {
    support::runtime().block_on(async {
        if !wanted("compact") {
            return Ok(());
        }
        let rows = scaled(8_000_000) / FILES * FILES;
        let folder = tempfile::tempdir().expect("a folder");
        let table = small_files(folder.path(), rows).await?;
        let files: Vec<DataFile> =
            table.scan().plan().await?.map_ok(|t| (*t.file).clone()).try_collect().await?;
        let schema = table.schema().clone();
        let floor = median(3, rows, || async { Ok(plain(folder.path(), &schema, &files)) }).await;
        report("compact/floor (decode + encode)", floor, rows, "rows", &[]);

        // Four groups, so that every core has one; the same work is done again for each round.
        let group = files.iter().map(|f| f.file_size_in_bytes).sum::<u64>() / 4 + 4096;
        // A file that fits into no group would be left alone: every file is to be rewritten.
        let options = CompactOptions {
            max_group_bytes: group,
            rewrite_all: true,
            ..CompactOptions::default()
        };
        let taken = median(3, rows, || compact(&table, options.clone())).await;
        report("compact/bin-pack", taken, rows, "rows", &[("floor", speed(taken, floor))]);

        let by_code = SortColumn { name: "amount".into(), descending: false };
        let sorted = CompactOptions { sort: Some(SortBy::Columns(vec![by_code])), ..options };
        let taken = median(1, rows, || compact(&table, sorted.clone())).await;
        report("compact/sort", taken, rows, "rows", &[("floor", speed(taken, floor))]);
        Ok(())
    })
}

async fn small_files(folder: &std::path::Path, rows: u64) -> Result<Table> {
    let mut table = support::table(folder, support::schema(), &[]).await?;
    let per_file = (rows / FILES).max(1);
    for n in 0..FILES {
        let mut writer = table.append_writer(AppendOptions::default())?;
        for start in (n * per_file..(n + 1) * per_file).step_by(8192) {
            let end = (start + 8192).min((n + 1) * per_file);
            writer.write(support::rows(table.schema(), start..end)?).await?;
        }
        table = table.append(writer.close().await?).commit().await?.table;
    }
    Ok(table)
}

/// Compacts, checks the number of rows, and rolls back.
async fn compact(table: &Table, options: CompactOptions) -> Result<u64> {
    let done = table.compact(options).run().await?;
    let head = table.current_snapshot().expect("the table has rows").snapshot_id();
    table.refresh().await?.rollback_to(head.into()).await?;
    Ok(done.report.after.rows)
}

/// Four files from the files, on all cores: what the work costs without a table.
fn plain(folder: &std::path::Path, schema: &Schema, files: &[DataFile]) -> u64 {
    let groups: Vec<&[DataFile]> = files.chunks(files.len().div_ceil(4)).collect();
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let path = folder.join(format!("floor-{:p}.parquet", group.as_ptr()));
                    let done = one(&path, schema, group);
                    *rows.lock().expect("no panic") += done;
                    std::fs::remove_file(path).expect("the file goes");
                }
            });
        }
    });
    rows.into_inner().expect("no panic")
}

fn one(path: &std::path::Path, schema: &Schema, files: &[DataFile]) -> u64 {
    let key = ColumnPath::from("id");
    let rows: u64 = files.iter().map(|f| f.record_count).sum();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_column_bloom_filter_enabled(key.clone(), true)
        .set_column_bloom_filter_ndv(key.clone(), rows)
        .set_column_bloom_filter_fpp(key, 0.01)
        .set_dictionary_page_size_limit(2 * 1024 * 1024)
        .build();
    let file = File::create(path).expect("a file");
    let arrow = arrow_schema(schema).expect("a schema");
    let mut writer = ArrowWriter::try_new(file, arrow, Some(properties)).expect("a writer");
    for file in files {
        let path = file.file_path.trim_start_matches("file://");
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("it is there"))
                .and_then(|b| b.with_batch_size(8192).build())
                .expect("the file reads");
        reader.for_each(|b| writer.write(&b.expect("a batch reads")).expect("a batch"));
    }
    writer.into_inner().expect("a footer").sync_all().expect("a sync");
    rows
}
