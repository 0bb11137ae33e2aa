//! How long does planning take? 10,000 and 100,000 data files of 20 columns with bounds, a tenth
//! as many position delete files; cold (manifests read and decoded) and warm (cached).
//!
//! Goals (DESIGN §9), at 100,000 files: warm below 1 s and 500 MB, cold below 3 s.

mod support;

use std::sync::Arc;

use futures::TryStreamExt;
use meltwater::manifest::ManifestCache;
use meltwater::spec::{
    DataContentType, DataFile, Datum, NestedField, PartitionKey, PrimitiveType, Reference, Schema,
    Type,
};
use meltwater::table::{Table, WriteResult};
use support::{Result, median, peak_memory_mib, report, scaled, wanted};

fn main() -> Result<()> {
    support::runtime().block_on(async {
        for files in [10_000, 100_000] {
            if wanted("plan") {
                plan(scaled(files)).await?;
            }
        }
        Ok(())
    })
}

fn wide_schema() -> Schema {
    let fields = (1..=20).map(|id| {
        NestedField::optional(id, format!("c{id}"), Type::Primitive(PrimitiveType::Long)).into()
    });
    Schema::builder().with_fields(fields).build().expect("the schema is valid")
}

/// File `n` holds values `n * 1000 .. n * 1000 + 999` in every column.
fn file(n: u64) -> DataFile {
    let path = format!("file:///nowhere/bench/data/{n:08}-data-of-a-usual-length.parquet");
    let mut file =
        DataFile::new(DataContentType::Data, path, PartitionKey::unpartitioned(0), 1000, 1 << 20);
    let ids = 1..=20i32;
    file.column_sizes = ids.clone().map(|id| (id, 50_000)).collect();
    file.value_counts = ids.clone().map(|id| (id, 1000)).collect();
    file.null_value_counts = ids.clone().map(|id| (id, 0)).collect();
    let bound = |v: u64| (v as i64).to_le_bytes();
    file.lower_bounds = ids.clone().map(|id| (id, bound(n * 1000))).collect();
    file.upper_bounds = ids.map(|id| (id, bound(n * 1000 + 999))).collect();
    file
}

fn delete(n: u64, about: &DataFile) -> DataFile {
    let path = format!("file:///nowhere/bench/data/{n:08}-pos-deletes.parquet");
    let partition = PartitionKey::unpartitioned(0);
    let mut file = DataFile::new(DataContentType::PositionDeletes, path, partition, 10, 2000);
    file.referenced_data_file = Some(about.file_path.clone());
    file
}

async fn plan(files: u64) -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let table = support::table(folder.path(), wide_schema(), &[]).await?;
    let data: Vec<DataFile> = (0..files).map(file).collect();
    let deletes = data.iter().step_by(10).enumerate().map(|(n, f)| delete(n as u64, f)).collect();
    let one = table.append(WriteResult { data_files: data, ..Default::default() }).commit().await?;
    let two = WriteResult { delete_files: deletes, ..Default::default() };
    let table = one.table.row_delta(two).commit().await?.table;

    let cold = median(3, files, || count(fresh(&table))).await;
    report(&format!("plan/{files}_files/cold"), cold, files, "files", &[]);
    let warm_table = fresh(&table);
    count(warm_table.clone()).await?;
    let warm = median(5, files, || count(warm_table.clone())).await;
    report(&format!("plan/{files}_files/warm"), warm, files, "files", &[]);
    let narrow = median(5, 1, || narrow(warm_table.clone(), files / 2)).await;
    report(&format!("plan/{files}_files/warm/one_file"), narrow, files, "files", &[]);
    if let Some(peak) = peak_memory_mib() {
        println!("{:<44} {peak:>10} MiB peak so far", "");
    }
    Ok(())
}

fn fresh(table: &Table) -> Table {
    table.with_manifest_cache(Arc::new(ManifestCache::new(1 << 30)))
}

async fn count(table: Table) -> Result<u64> {
    let mut tasks = table.scan().plan().await?;
    let mut count = 0;
    while tasks.try_next().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

async fn narrow(table: Table, n: u64) -> Result<u64> {
    let filter = Reference::new("c7").equal_to(Datum::long(n as i64 * 1000 + 5));
    let tasks: Vec<_> = table.scan().filter(filter).plan().await?.try_collect().await?;
    Ok(tasks.len() as u64)
}
