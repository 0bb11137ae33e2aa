//! The SQL catalog on SQLite: the embedded default.
//!
//! In: a database file and a warehouse location. Out: tables that Java's JdbcCatalog and
//! PyIceberg's SqlCatalog open from the same file. A commit writes a metadata file under a fresh
//! name, then swaps the row that points at it in one statement (CAT-14); whoever loses removes
//! the file, whoever gets no answer looks first (CAT-15).

#[cfg(test)]
pub(super) mod fault;
mod rows;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use self::rows::{Inserted, Rows};
use super::cache::MetadataCache;
use super::change::NextVersion;
use super::names::{
    check_ident, check_namespace, namespace_exists, namespace_in_use, no_namespace, no_table,
    table_exists, table_folder,
};
use super::naming::{next_location, version_of};
use super::render::Refs;
use super::{Catalog, LoadedTable, NewTable, change, nothing_changed};
use crate::clock::Environment;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{
    NamespaceIdent, TableIdent, TableMetadata, TableProperties, TableRequirement, TableUpdate,
    property,
};
use crate::storage::Storage;

/// How often a lost race is run again while the requirements still hold.
const SWAP_RETRIES: u32 = 4;

/// How often the catalog is asked what became of a swap.
const LOOK_RETRIES: u32 = 5;

/// The namespace property that moves a namespace's tables.
const LOCATION: &str = "location";

/// Tables in a SQLite file.
///
/// The file is made by the first write; before that every question is `NotFound`. Clones share
/// connections and cache.
#[derive(Debug, Clone)]
pub struct SqlCatalog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    name: String,
    warehouse: String,
    storage: Storage,
    cache: MetadataCache,
    environment: Environment,
    rows: OnceCell<Rows>,
}

enum Swapped {
    Won,
    Lost,
}

impl SqlCatalog {
    /// Opens the catalog `name` in the SQLite file `path`; new tables go below `warehouse`.
    ///
    /// Without a name, the only catalog in the file is meant, or `default` in a new file.
    ///
    /// # Errors
    /// `InvalidInput` if the file holds several catalogs and no name was given, or cannot be
    /// opened; `CorruptData` if it is no SQLite file.
    pub async fn open(
        path: impl Into<PathBuf>,
        name: Option<&str>,
        warehouse: &str,
        storage: Storage,
    ) -> Result<Self> {
        let path = path.into();
        let rows = match Rows::open(&path, name, false).await {
            Ok(rows) => Some(rows),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let found = rows.as_ref().map(|rows| rows.catalog().to_string());
        let name = found.or(name.map(str::to_string)).unwrap_or_else(|| "default".to_string());
        let inner = Inner {
            path,
            name,
            warehouse: warehouse.trim_end_matches('/').to_string(),
            storage,
            cache: MetadataCache::default(),
            environment: Environment::default(),
            rows: OnceCell::new_with(rows),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Same file, with time and identifiers from `environment`. Connections are opened anew.
    pub fn with_environment(self, environment: Environment) -> Self {
        let inner = Inner {
            path: self.inner.path.clone(),
            name: self.inner.name.clone(),
            warehouse: self.inner.warehouse.clone(),
            storage: self.inner.storage.clone(),
            cache: MetadataCache::default(),
            environment,
            rows: OnceCell::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    async fn rows(&self, create: bool) -> Result<&Rows> {
        let open = || Rows::open(&self.inner.path, Some(&self.inner.name), create);
        self.inner.rows.get_or_try_init(open).await
    }

    /// The faults of the next pointer swaps.
    #[cfg(test)]
    pub(super) async fn faults(&self) -> fault::Faults {
        self.rows(true).await.unwrap().faults.clone()
    }

    async fn location_of(&self, ident: &TableIdent) -> Result<String> {
        let rows = self.rows(false).await?;
        let found = rows.location(&key(ident.namespace()), ident.name()).await?;
        found.ok_or_else(|| no_table(ident))
    }

    async fn load_at(&self, location: String) -> Result<LoadedTable> {
        let metadata = self.inner.cache.load(&self.inner.storage, &location).await?;
        Ok(self.loaded(metadata, location))
    }

    fn loaded(&self, metadata: Arc<TableMetadata>, location: String) -> LoadedTable {
        LoadedTable {
            metadata,
            metadata_location: location,
            config: HashMap::new(),
            storage: self.inner.storage.clone(),
        }
    }

    async fn require(&self, rows: &Rows, namespace: &NamespaceIdent) -> Result<()> {
        let (own, below) = (key(namespace), format!("{}.", key(namespace)));
        let all = rows.namespaces().await?;
        match all.iter().any(|name| *name == own || name.starts_with(&below)) {
            true => Ok(()),
            false => Err(no_namespace(namespace)),
        }
    }

    async fn default_location(&self, rows: &Rows, ident: &TableIdent) -> Result<String> {
        let properties = rows.properties(&key(ident.namespace())).await?;
        let location = properties.into_iter().find(|(name, _)| name == LOCATION);
        let folder = match location {
            Some((_, folder)) => format!("{}/{}", folder.trim_end_matches('/'), ident.name()),
            None => table_folder(&self.inner.warehouse, ident),
        };
        // A table that was renamed, one that was dropped, or one of another catalog: none of them
        // shares its folder (CAT-20).
        let listing = self.inner.storage.list_folder(&format!("{folder}/metadata")).await?;
        if listing.files.iter().any(|file| version_of(&file.location).is_some()) {
            return Ok(format!("{folder}-{}", self.inner.environment.ids.uuid()));
        }
        Ok(folder)
    }

    async fn write(&self, metadata: &TableMetadata, refs: &Refs, location: &str) -> Result<usize> {
        let bytes = self.inner.cache.render(metadata, refs)?;
        let length = bytes.len();
        self.inner.storage.write(location, bytes).await?;
        Ok(length)
    }

    /// Removes a metadata file that no row ever pointed at.
    async fn discard(&self, location: &str) {
        if let Err(error) = self.inner.storage.delete(location).await {
            tracing::warn!(%error, location, "an unused metadata file was not deleted");
        }
    }

    /// Commits, again and again while others come first and the requirements hold.
    async fn commit_or_race(
        &self,
        ident: &TableIdent,
        requirements: &[TableRequirement],
        updates: &[TableUpdate],
    ) -> Result<LoadedTable> {
        for attempt in 0..=SWAP_RETRIES {
            let base = self.load_table(ident).await?;
            let environment = &self.inner.environment;
            let refs = self.inner.cache.refs(&base).await?;
            let next = change::apply(&base, &refs, requirements, updates.to_vec(), environment)?;
            let Some(next) = next else { return Ok(base) };
            if let Some(table) = self.try_commit(ident, &base, next).await? {
                return Ok(table);
            }
            tracing::debug!(table = %ident, attempt, "another commit came first");
            self.pause(attempt).await;
        }
        Err(Error::new(ErrorKind::CommitConflict, "other commits kept coming first")
            .with_context("table", ident)
            .with_hint("run it again, or let fewer writers commit at a time"))
    }

    /// One attempt. `None`: somebody else came first, and our file is gone.
    async fn try_commit(
        &self,
        ident: &TableIdent,
        base: &LoadedTable,
        next: NextVersion,
    ) -> Result<Option<LoadedTable>> {
        let uuid = self.inner.environment.ids.uuid();
        let location = next_location(&next.metadata, Some(&base.metadata_location), uuid);
        let file_bytes = match self.write(&next.metadata, &next.refs, &location).await {
            Ok(bytes) => bytes,
            Err(e) => {
                self.discard(&location).await;
                return Err(e);
            }
        };
        match self.swap(ident, base, &location).await {
            Ok(Swapped::Won) => {}
            Ok(Swapped::Lost) => {
                self.discard(&location).await;
                return Ok(None);
            }
            Err(e) if e.kind() == ErrorKind::CommitStateUnknown => return Err(e),
            Err(e) => {
                self.discard(&location).await;
                return Err(e);
            }
        }
        let metadata = Arc::new(next.metadata);
        self.inner.cache.put(&location, metadata.clone(), next.refs, file_bytes, None).await;
        self.clean_up(&metadata, &next.expired).await;
        Ok(Some(self.loaded(metadata, location)))
    }

    /// The swap, with an answer in every case that can be decided.
    async fn swap(&self, ident: &TableIdent, base: &LoadedTable, new: &str) -> Result<Swapped> {
        let rows = self.rows(false).await?;
        let namespace = key(ident.namespace());
        let old = base.metadata_location.as_str();
        // The reply to the only send: zero rows are somebody else's doing.
        let error = match rows.swap(&namespace, ident.name(), old, new).await {
            Ok(true) => return Ok(Swapped::Won),
            Ok(false) => return Ok(Swapped::Lost),
            Err(error) => error,
        };
        tracing::warn!(%error, table = %ident, "no answer to a pointer swap; looking");
        for attempt in 0..=LOOK_RETRIES {
            match self.became_of(ident, old, new).await {
                Ok(Some(Fate::Landed)) => return Ok(Swapped::Won),
                Ok(Some(Fate::Overtaken)) => return Ok(Swapped::Lost),
                // SQLite runs in this process: what has not happened by now never will.
                Ok(Some(Fate::Absent)) => return Err(error),
                Ok(None) => break,
                Err(look) => tracing::debug!(error = %look, attempt, "the look failed"),
            }
            self.pause(attempt).await;
        }
        Err(Error::new(ErrorKind::CommitStateUnknown, "nobody can say whether the commit landed")
            .with_context("table", ident)
            .with_context("metadata file", new)
            .with_hint(
                "load the table and look for the change before writing again; keep every file",
            )
            .with_source(error))
    }

    /// Looks for our metadata file in the head and its log. `None`: not to be decided.
    async fn became_of(&self, ident: &TableIdent, old: &str, new: &str) -> Result<Option<Fate>> {
        let head = match self.location_of(ident).await {
            Ok(head) => head,
            // Dropped or renamed meanwhile, with or without our change.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if head == new {
            return Ok(Some(Fate::Landed));
        }
        if head == old {
            return Ok(Some(Fate::Absent));
        }
        let metadata = self.load_at(head).await?.metadata;
        let log: Vec<&str> =
            metadata.metadata_log().iter().map(|entry| entry.metadata_file.as_str()).collect();
        Ok(if log.contains(&new) {
            Some(Fate::Landed)
        } else if log.contains(&old) {
            // The base has a successor, and it is not ours.
            Some(Fate::Overtaken)
        } else {
            None
        })
    }

    /// Removes what left the log, if the table asks for it (CAT-17).
    async fn clean_up(&self, metadata: &TableMetadata, expired: &[String]) {
        let properties = TableProperties::new(metadata.properties());
        if properties.flag(property::METADATA_DELETE_AFTER_COMMIT, false).unwrap_or(false) {
            for location in expired {
                self.discard(location).await;
            }
        }
    }

    async fn pause(&self, attempt: u32) {
        let longest = 10u64 << attempt.min(6);
        let wait = longest / 2 + self.inner.environment.ids.below(longest);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
}

/// What became of a swap without an answer.
enum Fate {
    Landed,
    Overtaken,
    Absent,
}

/// The table is there and broken: whoever takes that for a missing one may clean up its files.
fn metadata_gone(ident: &TableIdent, location: &str, cause: Error) -> Error {
    Error::corrupt("the metadata file that the catalog names is gone")
        .with_context("table", ident)
        .with_context("metadata file", location)
        .with_hint("restore the file, or register the table again with an older metadata file")
        .with_source(cause)
}

/// The form of a namespace in a row's key.
fn key(namespace: &NamespaceIdent) -> String {
    namespace.iter().map(String::as_str).collect::<Vec<_>>().join(".")
}

#[async_trait]
impl Catalog for SqlCatalog {
    fn name(&self) -> &str {
        &self.inner.name
    }

    fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<()> {
        check_namespace(namespace)?;
        let rows = self.rows(true).await?;
        if self.require(rows, namespace).await.is_ok() {
            return Err(namespace_exists(namespace));
        }
        let pairs = properties.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        match rows.insert_namespace(&key(namespace), pairs).await? {
            Inserted::New => Ok(()),
            Inserted::AlreadyThere => Err(namespace_exists(namespace)),
        }
    }

    async fn list_namespaces(
        &self,
        parent: Option<&NamespaceIdent>,
    ) -> Result<Vec<NamespaceIdent>> {
        let rows = self.rows(false).await?;
        if let Some(parent) = parent {
            self.require(rows, parent).await?;
        }
        let above = parent.map(|parent| parent.as_ref().clone()).unwrap_or_default();
        let mut children: Vec<Vec<String>> = Vec::new();
        for name in rows.namespaces().await? {
            let levels: Vec<String> = name.split('.').map(str::to_string).collect();
            let Some(child) = levels.get(..=above.len()) else { continue };
            if child.starts_with(&above) {
                children.push(child.to_vec());
            }
        }
        children.sort();
        children.dedup();
        children.into_iter().map(|levels| Ok(NamespaceIdent::from_vec(levels)?)).collect()
    }

    async fn namespace_properties(
        &self,
        namespace: &NamespaceIdent,
    ) -> Result<HashMap<String, String>> {
        let rows = self.rows(false).await?;
        self.require(rows, namespace).await?;
        Ok(rows.properties(&key(namespace)).await?.into_iter().collect())
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        let rows = self.rows(false).await?;
        self.require(rows, namespace).await?;
        let below = format!("{}.", key(namespace));
        let all = rows.namespaces().await?;
        if all.iter().any(|name| name.starts_with(&below))
            || !rows.remove_namespace(&key(namespace)).await?
        {
            return Err(namespace_in_use(namespace));
        }
        Ok(())
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let rows = self.rows(false).await?;
        self.require(rows, namespace).await?;
        let names = rows.tables(&key(namespace)).await?;
        Ok(names.into_iter().map(|name| TableIdent::new(namespace.clone(), name)).collect())
    }

    async fn create_table(&self, ident: &TableIdent, new: NewTable) -> Result<LoadedTable> {
        check_ident(ident)?;
        let rows = self.rows(true).await?;
        self.require(rows, ident.namespace()).await?;
        let namespace = key(ident.namespace());
        if rows.location(&namespace, ident.name()).await?.is_some() {
            return Err(table_exists(ident));
        }
        let location = match &new.location {
            Some(location) => location.trim_end_matches('/').to_string(),
            None => self.default_location(rows, ident).await?,
        };
        let metadata = change::create(new, location, &self.inner.environment)?;
        let uuid = self.inner.environment.ids.uuid();
        let location = next_location(&metadata, None, uuid);
        let refs = Refs::new();
        let file_bytes = self.write(&metadata, &refs, &location).await?;
        match rows.insert(&namespace, ident.name(), &location).await {
            Ok(Inserted::New) => {}
            Ok(Inserted::AlreadyThere) => {
                self.discard(&location).await;
                return Err(table_exists(ident));
            }
            // Without an answer the row may be there: the file stays.
            Err(e) => match rows.location(&namespace, ident.name()).await {
                Ok(Some(found)) if found == location => {}
                _ => return Err(e.with_kind(ErrorKind::CommitStateUnknown)),
            },
        }
        let metadata = Arc::new(metadata);
        self.inner.cache.put(&location, metadata.clone(), refs, file_bytes, None).await;
        Ok(self.loaded(metadata, location))
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        for _ in 0..=SWAP_RETRIES {
            let location = self.location_of(ident).await?;
            match self.load_at(location.clone()).await {
                // Old metadata may be cleaned up as soon as it has a successor (CAT-17).
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    if self.location_of(ident).await? == location {
                        return Err(metadata_gone(ident, &location, e));
                    }
                }
                other => return other.map_err(|e| e.with_context("table", ident)),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the table changes faster than it can be read")
            .with_context("table", ident)
            .with_hint("keep old metadata longer: `write.metadata.previous-versions-max`"))
    }

    async fn register_table(
        &self,
        ident: &TableIdent,
        metadata_location: &str,
    ) -> Result<LoadedTable> {
        check_ident(ident)?;
        let rows = self.rows(true).await?;
        self.require(rows, ident.namespace()).await?;
        let table = self.load_at(metadata_location.to_string()).await?;
        match rows.insert(&key(ident.namespace()), ident.name(), metadata_location).await? {
            Inserted::New => Ok(table),
            Inserted::AlreadyThere => Err(table_exists(ident)),
        }
    }

    async fn rename_table(&self, from: &TableIdent, to: &TableIdent) -> Result<()> {
        check_ident(to)?;
        let rows = self.rows(false).await?;
        self.require(rows, to.namespace()).await?;
        let (old, new) = (key(from.namespace()), key(to.namespace()));
        match rows.rename((&old, from.name()), (&new, to.name())).await? {
            Some(Inserted::New) => Ok(()),
            Some(Inserted::AlreadyThere) => Err(table_exists(to)),
            None => Err(no_table(from)),
        }
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        let rows = self.rows(false).await?;
        for attempt in 0..=SWAP_RETRIES {
            let location = self.location_of(ident).await?;
            let last = self.load_at(location.clone()).await?;
            if rows.remove(&key(ident.namespace()), ident.name(), &location).await? {
                return Ok(last);
            }
            self.pause(attempt).await;
        }
        Err(Error::new(
            ErrorKind::CommitConflict,
            "commits kept coming while the table was dropped",
        )
        .with_context("table", ident)
        .with_hint("stop the table's writers, then drop it again"))
    }

    async fn changed_since(&self, ident: &TableIdent, metadata_location: &str) -> Result<bool> {
        Ok(self.location_of(ident).await? != metadata_location)
    }

    async fn commit(
        &self,
        ident: &TableIdent,
        requirements: Vec<TableRequirement>,
        updates: Vec<TableUpdate>,
    ) -> Result<LoadedTable> {
        self.commit_or_race(ident, &requirements, &updates).await.map_err(nothing_changed)
    }
}
