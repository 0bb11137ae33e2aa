//! A catalog in memory that is silent or fails on demand.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use meltwater::catalog::{Catalog, LoadedTable, NewTable};
use meltwater::spec::*;
use meltwater::storage::Storage;
use meltwater::{Error, ErrorKind, Result};

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

/// Knows tables by name and swaps them under a lock; nothing else.
#[derive(Debug, Default)]
pub struct MemoryCatalog {
    pub storage: Storage,
    tables: Mutex<HashMap<TableIdent, (TableMetadataRef, usize)>>,
    /// While this is set it gives no answer.
    pub silent: Arc<AtomicBool>,
    faults: Mutex<VecDeque<Fault>>,
    pub swaps: AtomicUsize,
}

impl MemoryCatalog {
    /// An empty one, for tables whose files are in this store.
    pub fn over(storage: Storage) -> Self {
        Self { storage, ..Self::default() }
    }

    /// Faults of the next swaps, first come first served.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    /// A table's next version, or its first one.
    pub fn put(&self, ident: &TableIdent, metadata: TableMetadata) -> LoadedTable {
        let mut tables = self.tables.lock().unwrap();
        let version = tables.get(ident).map_or(1, |(_, version)| version + 1);
        let metadata = Arc::new(metadata);
        tables.insert(ident.clone(), (metadata.clone(), version));
        self.loaded(metadata, version)
    }

    fn loaded(&self, metadata: TableMetadataRef, version: usize) -> LoadedTable {
        LoadedTable {
            metadata,
            metadata_location: location(version),
            config: HashMap::new(),
            storage: self.storage.clone(),
        }
    }
}

fn location(version: usize) -> String {
    format!("memory:///t/metadata/v{version}.metadata.json")
}

fn no_table() -> Error {
    Error::new(ErrorKind::NotFound, "no such table")
}

fn conflict() -> Error {
    Error::new(ErrorKind::CommitConflict, "lost")
}

fn no_answer() -> Error {
    Error::new(ErrorKind::Unavailable, "the catalog gives no answer")
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
        )?;
        Ok(self.put(ident, built.build()?.metadata))
    }
    async fn load_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        if self.silent.load(Ordering::Relaxed) {
            return Err(no_answer());
        }
        let found = self.tables.lock().unwrap().get(ident).cloned();
        let (metadata, version) = found.ok_or_else(no_table)?;
        Ok(self.loaded(metadata, version))
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
            Some(Fault::Conflict) => return Err(conflict()),
            _ => {}
        }
        if self.silent.load(Ordering::Relaxed) {
            return Err(no_answer());
        }
        let mut tables = self.tables.lock().unwrap();
        let (metadata, version) = tables.get(ident).cloned().ok_or_else(no_table)?;
        for requirement in &requirements {
            requirement.check(Some(&metadata))?;
        }
        let mut builder = metadata.as_ref().clone().into_builder(Some(location(version)));
        for update in updates {
            builder = update.apply(builder)?;
        }
        let metadata = Arc::new(builder.build()?.metadata);
        tables.insert(ident.clone(), (metadata.clone(), version + 1));
        let swapped = self.loaded(metadata, version + 1);
        match fault {
            Some(Fault::AppliedAnswerLost) => Err(no_answer()),
            Some(Fault::AppliedSaysConflict) => Err(conflict()),
            _ => Ok(swapped),
        }
    }
}
