//! Tables in a catalog that fails on demand, and short names for files and commits.

use std::sync::Arc;

use futures::TryStreamExt;

use crate::catalog::{Catalog, NewTable};
use crate::clock::{Environment, ManualClock, SeededIds};
pub use crate::kit::catalog::{Fault, MemoryCatalog};
use crate::manifest::ManifestCache;
use crate::spec::*;
use crate::table::{RemovedFile, Table, WriteResult};

/// A table `id long (key), name string, day int`, unpartitioned (spec 0).
pub async fn table() -> (Arc<MemoryCatalog>, Table) {
    table_with(UnboundPartitionSpec::default(), &[]).await
}

/// The same table, partitioned by identity of `day`.
pub async fn partitioned() -> (Arc<MemoryCatalog>, Table) {
    let field = UnboundPartitionField {
        source_id: 3,
        field_id: None,
        name: "day".into(),
        transform: Transform::Identity,
    };
    let spec = UnboundPartitionSpec::builder().add_partition_fields([field]).unwrap().build();
    table_with(spec, &[]).await
}

pub async fn table_with(
    spec: UnboundPartitionSpec,
    properties: &[(&str, &str)],
) -> (Arc<MemoryCatalog>, Table) {
    let schema = Schema::builder()
        .with_fields([
            NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long)).into(),
            NestedField::optional(2, "name", Type::Primitive(PrimitiveType::String)).into(),
            NestedField::optional(3, "day", Type::Primitive(PrimitiveType::Int)).into(),
        ])
        .with_identifier_field_ids([1])
        .build()
        .unwrap();
    let catalog = Arc::new(MemoryCatalog::default());
    let ident = TableIdent::from_strs(["ns", "t"]).unwrap();
    let mut new = NewTable { spec, ..NewTable::new(schema) };
    new.properties = properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let loaded = catalog.create_table(&ident, new).await.unwrap();
    let environment = Environment {
        clock: Arc::new(ManualClock::new(1_700_000_000_000)),
        ids: Arc::new(SeededIds::new(42)),
    };
    let table = Table::from_loaded(catalog.clone(), ident, loaded)
        .with_environment(environment)
        .with_manifest_cache(Arc::new(ManifestCache::new(1 << 20)));
    (catalog, table)
}

pub fn day(spec_id: i32, day: i32) -> PartitionKey {
    PartitionKey { spec_id, values: Struct::from_iter([Some(Literal::int(day))]) }
}

pub fn whole() -> PartitionKey {
    PartitionKey::unpartitioned(0)
}

pub fn data(name: &str, partition: PartitionKey) -> DataFile {
    DataFile::new(DataContentType::Data, format!("memory:///t/data/{name}"), partition, 10, 1000)
}

pub fn equality(name: &str, partition: PartitionKey) -> DataFile {
    let mut file = data(name, partition);
    file.content = DataContentType::EqualityDeletes;
    file.equality_ids = Some(vec![1]);
    file.record_count = 1;
    file
}

pub fn position(name: &str, about: &DataFile) -> DataFile {
    let mut file = data(name, about.partition_key());
    file.content = DataContentType::PositionDeletes;
    file.referenced_data_file = Some(about.file_path.clone());
    file.record_count = 1;
    file
}

pub fn rows(files: impl IntoIterator<Item = DataFile>) -> WriteResult {
    WriteResult { data_files: files.into_iter().collect(), ..WriteResult::default() }
}

pub fn deletes(files: impl IntoIterator<Item = DataFile>) -> WriteResult {
    WriteResult { delete_files: files.into_iter().collect(), ..WriteResult::default() }
}

pub fn gone(file: &DataFile) -> RemovedFile {
    RemovedFile::new(file, None)
}

/// Names of the live files of the current snapshot with their data sequence numbers, sorted.
pub async fn live(table: &Table) -> Vec<(String, i64)> {
    let table = table.refresh().await.unwrap();
    let Some(head) = table.current_snapshot() else { return Vec::new() };
    let mut found = Vec::new();
    for manifest in table.manifests(head).await.unwrap().iter() {
        for entry in table.entries(manifest).await.unwrap().iter().filter(|e| e.is_live()) {
            let name = entry.file.file_path.rsplit('/').next().unwrap().to_string();
            found.push((name, entry.sequence_number.0));
        }
    }
    found.sort();
    found
}

/// Every metadata file in the store.
pub async fn stored(table: &Table) -> Vec<String> {
    let listing = table.storage().list("memory:///t/metadata").unwrap();
    let mut all: Vec<String> = listing.map_ok(|info| info.location).try_collect().await.unwrap();
    all.sort();
    all
}
