//! A catalog that is nothing but folders: `<root>/<namespace>/<table>/metadata/vN.metadata.json`.
//!
//! In: a root on local disk, S3 or in memory. Out: tables that Java's HadoopCatalog layout
//! describes. Several processes may commit at once where the store's create-if-absent is atomic;
//! the first write of a catalog handle checks that (CAT-10).

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::cache::MetadataCache;
use super::names::{
    check_ident, check_namespace, namespace_exists, namespace_folder, namespace_in_use,
    no_namespace, no_table, table_exists, table_folder,
};
use super::naming::file_name;
use super::pointer::{self, PointerTable};
use super::{Catalog, LoadedTable, NewTable, change, nothing_changed};
use crate::clock::Environment;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{NamespaceIdent, TableIdent, TableRequirement, TableUpdate};
use crate::storage::{Created, Storage};

/// Holds a namespace's properties and keeps its folder alive where folders are only prefixes.
const NAMESPACE_FILE: &str = ".meltwater-namespace.json";

/// How many folders are looked at at once.
const LOOKUPS: usize = 16;

/// Tables in folders below one root.
#[derive(Debug, Clone)]
pub struct FileSystemCatalog {
    name: String,
    root: String,
    storage: Storage,
    cache: MetadataCache,
    environment: Environment,
    probed: Arc<OnceCell<()>>,
}

enum Folder {
    Table,
    Namespace,
    Neither,
}

impl FileSystemCatalog {
    /// A catalog below `root`, an absolute location. Nothing is read or written yet.
    pub fn new(root: impl Into<String>, storage: Storage) -> Self {
        let root = root.into();
        Self {
            name: root.clone(),
            root: root.trim_end_matches('/').to_string(),
            storage,
            cache: MetadataCache::default(),
            environment: Environment::default(),
            probed: Arc::default(),
        }
    }

    /// Takes time and identifiers from `environment`.
    pub fn with_environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// The catalog's root location.
    pub fn root(&self) -> &str {
        &self.root
    }

    fn table(&self, ident: &TableIdent) -> Result<PointerTable> {
        check_ident(ident)?;
        Ok(self.table_at(table_folder(&self.root, ident)))
    }

    fn table_at(&self, folder: String) -> PointerTable {
        let (storage, cache) = (self.storage.clone(), self.cache.clone());
        PointerTable::new(storage, folder, cache, self.environment.clone())
    }

    async fn probed(&self) -> Result<()> {
        let probe = || pointer::probe(&self.storage, &self.root, &self.environment);
        self.probed.get_or_try_init(probe).await.map(|_| ())
    }

    async fn kind_of(&self, folder: &str) -> Result<Folder> {
        if self.storage.exists(&format!("{folder}/{NAMESPACE_FILE}")).await? {
            return Ok(Folder::Namespace);
        }
        if self.table_at(folder.to_string()).head().await?.is_some() {
            return Ok(Folder::Table);
        }
        // Other writers leave no file in a namespace; a folder with metadata was a table.
        let listing = self.storage.list_folder(folder).await?;
        let was_table = listing.folders.iter().any(|f| file_name(f) == "metadata");
        Ok(if was_table { Folder::Neither } else { Folder::Namespace })
    }

    async fn exists(&self, namespace: &NamespaceIdent) -> Result<bool> {
        check_namespace(namespace)?;
        let folder = namespace_folder(&self.root, namespace);
        if self.storage.exists(&format!("{folder}/{NAMESPACE_FILE}")).await? {
            return Ok(true);
        }
        // An empty folder shows only in the listing of the folder above.
        let above = folder.rsplit_once('/').map_or(self.root.as_str(), |(above, _)| above);
        let listing = self.storage.list_folder(above).await?;
        let found = listing.folders.iter().any(|f| file_name(f) == file_name(&folder));
        Ok(found && matches!(self.kind_of(&folder).await?, Folder::Namespace))
    }

    async fn require(&self, namespace: &NamespaceIdent) -> Result<()> {
        match self.exists(namespace).await? {
            true => Ok(()),
            false => Err(no_namespace(namespace)
                .with_hint(format!("create it first: `meltwater create` makes `{namespace}`"))),
        }
    }

    /// The names of the folders below a folder, with what they are; sorted.
    async fn children(&self, folder: &str) -> Result<Vec<(String, Folder)>> {
        let listing = self.storage.list_folder(folder).await?;
        let mut children: Vec<(String, Folder)> = futures::stream::iter(listing.folders)
            .filter(|child| std::future::ready(!file_name(child).starts_with('.')))
            .map(|child| async move {
                let name = file_name(&child).to_string();
                Ok::<_, Error>((
                    name,
                    self.kind_of(&format!("{folder}/{}", file_name(&child))).await?,
                ))
            })
            .buffered(LOOKUPS)
            .try_collect()
            .await?;
        children.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(children)
    }
}

#[async_trait]
impl Catalog for FileSystemCatalog {
    fn name(&self) -> &str {
        &self.name
    }

    fn storage(&self) -> &Storage {
        &self.storage
    }

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<()> {
        if self.exists(namespace).await? {
            return Err(namespace_exists(namespace));
        }
        self.probed().await?;
        let file = format!("{}/{NAMESPACE_FILE}", namespace_folder(&self.root, namespace));
        match self.storage.create(&file, serde_json::to_vec(&properties)?.into()).await? {
            Created::New => Ok(()),
            Created::AlreadyThere => Err(namespace_exists(namespace)),
        }
    }

    async fn list_namespaces(
        &self,
        parent: Option<&NamespaceIdent>,
    ) -> Result<Vec<NamespaceIdent>> {
        let (folder, levels) = match parent {
            Some(parent) => {
                self.require(parent).await?;
                (namespace_folder(&self.root, parent), parent.as_ref().clone())
            }
            None => (self.root.clone(), Vec::new()),
        };
        let children = self.children(&folder).await?;
        children
            .into_iter()
            .filter(|(name, kind)| matches!(kind, Folder::Namespace) && !name.contains('.'))
            .map(|(name, _)| {
                let levels = levels.iter().cloned().chain([name]).collect();
                Ok(NamespaceIdent::from_vec(levels)?)
            })
            .collect()
    }

    async fn namespace_properties(
        &self,
        namespace: &NamespaceIdent,
    ) -> Result<HashMap<String, String>> {
        self.require(namespace).await?;
        let file = format!("{}/{NAMESPACE_FILE}", namespace_folder(&self.root, namespace));
        match self.storage.read(&file).await {
            Ok(json) => Ok(serde_json::from_slice(&json)
                .map_err(|e| Error::from(e).with_context("file", &file))?),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(HashMap::new()),
            Err(e) => Err(e),
        }
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        self.require(namespace).await?;
        let folder = namespace_folder(&self.root, namespace);
        let children = self.children(&folder).await?;
        if children.iter().any(|(_, kind)| !matches!(kind, Folder::Neither)) {
            return Err(namespace_in_use(namespace));
        }
        self.storage.delete(&format!("{folder}/{NAMESPACE_FILE}")).await?;
        self.storage.remove_empty_folder(&folder).await;
        Ok(())
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        self.require(namespace).await?;
        let children = self.children(&namespace_folder(&self.root, namespace)).await?;
        let tables = children.into_iter().filter(|(_, kind)| matches!(kind, Folder::Table));
        Ok(tables.map(|(name, _)| TableIdent::new(namespace.clone(), name)).collect())
    }

    async fn create_table(&self, ident: &TableIdent, new: NewTable) -> Result<LoadedTable> {
        let table = self.table(ident)?;
        self.require(ident.namespace()).await?;
        let folder = table_folder(&self.root, ident);
        if new.location.as_ref().is_some_and(|l| l.trim_end_matches('/') != folder) {
            return Err(Error::invalid("a file-system catalog decides where a table lies")
                .with_context("location", &folder)
                .with_hint("leave the location out, or keep the table in a SQL catalog"));
        }
        self.probed().await?;
        let metadata = change::create(new, folder, &self.environment)?;
        table.create(metadata).await.map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists if e.hint().is_none() => table_exists(ident),
            _ => e,
        })
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        let table = self.table(ident)?;
        let Some(head) = table.head().await? else { return Err(no_table(ident)) };
        let loaded = table.load(head).await?.ok_or_else(|| no_table(ident))?;
        table.check_place(&loaded).await?;
        Ok(loaded)
    }

    async fn register_table(
        &self,
        _ident: &TableIdent,
        _metadata_location: &str,
    ) -> Result<LoadedTable> {
        Err(Error::unsupported("a file-system catalog holds only tables in its own folders")
            .with_hint("move the table's folder here, or register it in a SQL catalog"))
    }

    async fn rename_table(&self, _from: &TableIdent, _to: &TableIdent) -> Result<()> {
        Err(Error::unsupported("a file-system catalog cannot rename: a table's name is its folder")
            .with_hint("create a table of the new name, or keep tables in a SQL catalog"))
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        self.table(ident)?.drop_table().await?.ok_or_else(|| no_table(ident))
    }

    async fn changed_since(&self, ident: &TableIdent, metadata_location: &str) -> Result<bool> {
        let table = self.table(ident)?;
        let head = table.head().await?.ok_or_else(|| no_table(ident))?;
        Ok(table.file(head) != metadata_location)
    }

    async fn commit(
        &self,
        ident: &TableIdent,
        requirements: Vec<TableRequirement>,
        updates: Vec<TableUpdate>,
    ) -> Result<LoadedTable> {
        let table = self.table(ident)?;
        self.probed().await.map_err(nothing_changed)?;
        let committed = table.commit(&requirements, &updates).await.map_err(nothing_changed)?;
        committed.ok_or_else(|| no_table(ident))
    }
}
