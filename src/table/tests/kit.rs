//! A catalog in memory that fails on demand, and short names for files and commits.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::TryStreamExt;

use crate::catalog::{Catalog, LoadedTable, NewTable};
use crate::clock::{Environment, ManualClock, SeededIds};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::ManifestCache;
use crate::spec::*;
use crate::storage::Storage;
use crate::table::{RemovedFile, Table, WriteResult};

/// What the next swap does instead of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Applies the swap, then loses the answer.
    AppliedAnswerLost,
    /// Applies the swap, then says somebody else was first.
    AppliedSaysConflict,
    /// Does not apply it and gives no answer.
    NoAnswer,
    /// Does not apply it and says so.
    Conflict,
}

#[derive(Debug)]
pub struct MemoryCatalog {
    storage: Storage,
    tables: Mutex<HashMap<TableIdent, (TableMetadataRef, usize)>>,
    faults: Mutex<VecDeque<Fault>>,
    pub swaps: AtomicUsize,
}

impl MemoryCatalog {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            storage: Storage::default(),
            tables: Mutex::default(),
            faults: Mutex::default(),
            swaps: AtomicUsize::new(0),
        })
    }

    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    fn loaded(&self, metadata: &TableMetadataRef, version: usize) -> LoadedTable {
        LoadedTable {
            metadata: metadata.clone(),
            metadata_location: location(version),
            config: HashMap::new(),
            storage: self.storage.clone(),
        }
    }
}

fn location(version: usize) -> String {
    format!("memory:///t/metadata/v{version}.metadata.json")
}

fn no_answer() -> Error {
    Error::new(ErrorKind::Unavailable, "no answer from the catalog")
}

fn not_here<T>() -> Result<T> {
    Err(Error::unsupported("not part of the memory catalog"))
}

#[async_trait]
impl Catalog for MemoryCatalog {
    fn name(&self) -> &str {
        "memory"
    }
    fn storage(&self) -> &Storage {
        &self.storage
    }
    async fn create_namespace(&self, _: &NamespaceIdent, _: HashMap<String, String>) -> Result<()> {
        Ok(())
    }
    async fn list_namespaces(&self, _: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>> {
        not_here()
    }
    async fn namespace_properties(&self, _: &NamespaceIdent) -> Result<HashMap<String, String>> {
        not_here()
    }
    async fn drop_namespace(&self, _: &NamespaceIdent) -> Result<()> {
        not_here()
    }
    async fn list_tables(&self, _: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        not_here()
    }
    async fn create_table(&self, ident: &TableIdent, new: NewTable) -> Result<LoadedTable> {
        let built = TableMetadataBuilder::new(
            new.schema,
            new.spec,
            new.sort_order,
            "memory:///t".into(),
            FormatVersion::V2,
            new.properties,
        )?
        .build()?;
        let metadata = Arc::new(built.metadata);
        self.tables.lock().unwrap().insert(ident.clone(), (metadata.clone(), 1));
        Ok(self.loaded(&metadata, 1))
    }
    async fn load_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        let tables = self.tables.lock().unwrap();
        let (metadata, version) =
            tables.get(ident).ok_or_else(|| Error::new(ErrorKind::NotFound, "no such table"))?;
        Ok(self.loaded(metadata, *version))
    }
    async fn register_table(&self, _: &TableIdent, _: &str) -> Result<LoadedTable> {
        not_here()
    }
    async fn rename_table(&self, _: &TableIdent, _: &TableIdent) -> Result<()> {
        not_here()
    }
    async fn drop_table(&self, _: &TableIdent) -> Result<LoadedTable> {
        not_here()
    }
    async fn changed_since(&self, ident: &TableIdent, metadata_location: &str) -> Result<bool> {
        Ok(self.load_table(ident).await?.metadata_location != metadata_location)
    }
    async fn commit(
        &self,
        ident: &TableIdent,
        requirements: Vec<TableRequirement>,
        updates: Vec<TableUpdate>,
    ) -> Result<LoadedTable> {
        self.swaps.fetch_add(1, Ordering::Relaxed);
        let fault = self.faults.lock().unwrap().pop_front();
        match fault {
            Some(Fault::NoAnswer) => return Err(no_answer()),
            Some(Fault::Conflict) => return Err(Error::new(ErrorKind::CommitConflict, "lost")),
            _ => {}
        }
        let mut tables = self.tables.lock().unwrap();
        let (metadata, version) = tables.get(ident).cloned().ok_or_else(no_answer)?;
        for requirement in &requirements {
            requirement.check(Some(&metadata))?;
        }
        let mut builder = metadata.as_ref().clone().into_builder(Some(location(version)));
        for update in updates {
            builder = update.apply(builder)?;
        }
        let metadata = Arc::new(builder.build()?.metadata);
        tables.insert(ident.clone(), (metadata.clone(), version + 1));
        match fault {
            Some(Fault::AppliedAnswerLost) => Err(no_answer()),
            Some(Fault::AppliedSaysConflict) => Err(Error::new(ErrorKind::CommitConflict, "lost")),
            _ => Ok(self.loaded(&metadata, version + 1)),
        }
    }
}

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
    let catalog = MemoryCatalog::new();
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
