//! One table, opened by its folder or metadata file, without the catalog that manages it.
//!
//! In: a location and a path map. Out: a [`Catalog`] of exactly one table. The highest version in
//! the folder is the head (CAT-11). Only the file-system layout, where it lies where it says, can
//! be committed to; everything else is read-only. Where a table lies elsewhere than its metadata
//! says, the path map is inferred from the folder (CAT-12).

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::cache::MetadataCache;
use super::names::{no_namespace, no_table};
use super::naming::{FileVersion, file_name, folder, pointer_version_of, same_place, version_of};
use super::pointer::{self, PointerTable};
use super::{Catalog, LoadedTable, NewTable, nothing_changed};
use crate::clock::Environment;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{
    NamespaceIdent, TableIdent, TableMetadata, TableMetadataRef, TableRequirement, TableUpdate,
};
use crate::storage::{PathMap, Storage};

/// A catalog of one table that was opened by its place.
#[derive(Debug, Clone)]
pub struct StaticCatalog {
    name: String,
    ident: TableIdent,
    storage: Storage,
    cache: MetadataCache,
    source: Source,
    /// Set where commits are possible.
    pointer: Option<PointerTable>,
    probed: Arc<OnceCell<()>>,
    environment: Environment,
}

#[derive(Debug, Clone)]
enum Source {
    /// This very file, for ever.
    File(String),
    /// Whatever is the head of this folder of metadata files.
    Folder(String),
}

impl StaticCatalog {
    /// Opens a table folder, its `metadata` folder, or one metadata file.
    ///
    /// # Errors
    /// * `NotFound` if there is no metadata, or if the table's files lie elsewhere than the
    ///   metadata says and no map was given: the hint proposes one.
    /// * `CorruptData` if two files claim to be the head.
    /// * `Unsupported` for format version 3 and for stores that this build does not reach.
    pub async fn open(
        storage: &Storage,
        location: &str,
        paths: PathMap,
        environment: Environment,
    ) -> Result<Self> {
        let location = location.trim_end_matches('/');
        let (source, table_folder) = find(storage, location).await?;
        let head = head_of(storage, &source).await?;
        let cache = MetadataCache::default();
        let metadata = cache.load(storage, &head).await?;
        let given = paths.clone();
        let paths = infer(storage, &metadata, table_folder.as_deref(), paths).await?;

        let in_place = given.is_empty() && paths.is_empty();
        let storage = storage.with_path_map(paths);
        let pointer = table_folder.clone().filter(|_| {
            let layout = pointer_version_of(&head).is_some();
            layout && in_place && matches!(source, Source::Folder(_))
        });
        let pointer = pointer.map(|folder| {
            PointerTable::new(storage.clone(), folder, cache.clone(), environment.clone())
        });
        let ident = ident_of(table_folder.as_deref().unwrap_or_else(|| folder(&head)));
        Ok(Self {
            name: location.to_string(),
            ident,
            storage,
            cache,
            source,
            pointer,
            probed: Arc::default(),
            environment,
        })
    }

    /// The name under which the table is found here: the last two parts of its folder.
    pub fn ident(&self) -> &TableIdent {
        &self.ident
    }

    /// Whether commits are possible.
    pub fn is_writable(&self) -> bool {
        self.pointer.is_some()
    }

    fn check(&self, ident: &TableIdent) -> Result<()> {
        if *ident == self.ident { Ok(()) } else { Err(no_table(ident)) }
    }

    fn read_only<T>(&self) -> Result<T> {
        Err(Error::unsupported("a table opened by its folder or file is read-only")
            .with_context("table", &self.name)
            .with_hint("open it through the catalog that manages it, or register it in one"))
    }
}

fn ident_of(table_folder: &str) -> TableIdent {
    let mut parts = table_folder.rsplit('/').filter(|part| !part.is_empty());
    let name = parts.next().unwrap_or("table").to_string();
    let namespace = parts.next().filter(|part| !part.ends_with(':')).unwrap_or("default");
    TableIdent::new(NamespaceIdent::new(namespace.to_string()), name)
}

/// What a location names, and the folder of the table if that is known.
async fn find(storage: &Storage, location: &str) -> Result<(Source, Option<String>)> {
    let parent = |location: &str| {
        let metadata = folder(location);
        (file_name(metadata) == "metadata").then(|| folder(metadata).to_string())
    };
    if version_of(location).is_some() {
        return Ok((Source::File(location.to_string()), parent(location)));
    }
    let below = format!("{location}/metadata");
    if has_metadata(storage, &below).await? {
        return Ok((Source::Folder(below), Some(location.to_string())));
    }
    if has_metadata(storage, location).await? {
        let table = parent(&format!("{location}/_"));
        return Ok((Source::Folder(location.to_string()), table));
    }
    Err(Error::new(ErrorKind::NotFound, "there is no table here")
        .with_context("location", location)
        .with_hint("name a folder with `metadata/*.metadata.json` in it, or such a file"))
}

async fn has_metadata(storage: &Storage, folder: &str) -> Result<bool> {
    let listing = storage.list_folder(folder).await?;
    Ok(listing.files.iter().any(|file| version_of(&file.location).is_some()))
}

async fn head_of(storage: &Storage, source: &Source) -> Result<String> {
    let folder = match source {
        Source::File(file) => return Ok(file.clone()),
        Source::Folder(folder) => folder,
    };
    let listing = storage.list_folder(folder).await?;
    let versions = listing.files.into_iter().filter_map(|file| {
        Some((version_of(&file.location)?, format!("{folder}/{}", file_name(&file.location))))
    });
    let mut files: Vec<(FileVersion, String)> = versions.collect();
    files.sort();
    let Some((newest, head)) = files.pop() else {
        return Err(Error::new(ErrorKind::NotFound, "the table's metadata files are gone")
            .with_context("folder", folder)
            .with_hint("the table was dropped or moved: look for it through its catalog"));
    };
    let Some((second, rival)) = files.pop().filter(|(version, _)| *version == newest) else {
        return Ok(head);
    };
    if second == FileVersion::Unnumbered
        && let Some(named) = hinted(storage, folder).await?
    {
        return Ok(named);
    }
    Err(Error::corrupt("two metadata files of one version claim to be the head")
        .with_context("one", &rival)
        .with_context("other", head)
        .with_hint("open one of the two files by its name, or the table through its catalog"))
}

/// The file that a hint names by its full stem, as some writers do.
async fn hinted(storage: &Storage, folder: &str) -> Result<Option<String>> {
    let hint = match storage.read(&format!("{folder}/version-hint.text")).await {
        Ok(hint) => hint,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let hint = String::from_utf8_lossy(&hint);
    let file = format!("{folder}/{}.metadata.json", file_name(hint.trim()));
    Ok(storage.exists(&file).await?.then_some(file))
}

/// Completes the path map of a table that lies elsewhere than its metadata says.
async fn infer(
    storage: &Storage,
    metadata: &TableMetadata,
    table_folder: Option<&str>,
    given: PathMap,
) -> Result<PathMap> {
    let written = metadata.location();
    let Some(table_folder) = table_folder else { return Ok(given) };
    if given.apply(written) != written || same_place(written, table_folder) {
        return Ok(given);
    }
    let inferred = given.clone().with(written, table_folder);
    let Some(snapshot) = metadata.current_snapshot() else { return Ok(inferred) };
    let list = snapshot.manifest_list();
    if is_there(storage, &inferred, list).await? {
        return Ok(inferred);
    }
    if is_there(storage, &given, list).await? {
        return Ok(given);
    }
    Err(Error::new(ErrorKind::NotFound, "the table's files lie elsewhere than its metadata says")
        .with_context("location in the metadata", written)
        .with_context("looked for", list)
        .with_hint(format!("say where they are: `--map-prefix {written}=FOLDER`")))
}

async fn is_there(storage: &Storage, paths: &PathMap, location: &str) -> Result<bool> {
    match storage.with_path_map(paths.clone()).exists(location).await {
        // A place that this build cannot reach is not the place.
        Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) => Ok(false),
        other => other,
    }
}

#[async_trait]
impl Catalog for StaticCatalog {
    fn name(&self) -> &str {
        &self.name
    }

    fn storage(&self) -> &Storage {
        &self.storage
    }

    async fn create_namespace(
        &self,
        _namespace: &NamespaceIdent,
        _properties: HashMap<String, String>,
    ) -> Result<()> {
        self.read_only()
    }

    async fn list_namespaces(
        &self,
        parent: Option<&NamespaceIdent>,
    ) -> Result<Vec<NamespaceIdent>> {
        Ok(if parent.is_none() { vec![self.ident.namespace().clone()] } else { Vec::new() })
    }

    async fn namespace_properties(
        &self,
        namespace: &NamespaceIdent,
    ) -> Result<HashMap<String, String>> {
        if namespace == self.ident.namespace() {
            Ok(HashMap::new())
        } else {
            Err(no_namespace(namespace))
        }
    }

    async fn drop_namespace(&self, _namespace: &NamespaceIdent) -> Result<()> {
        self.read_only()
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        self.namespace_properties(namespace).await?;
        Ok(vec![self.ident.clone()])
    }

    async fn create_table(&self, _ident: &TableIdent, _new: NewTable) -> Result<LoadedTable> {
        self.read_only()
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        self.check(ident)?;
        let head = head_of(&self.storage, &self.source).await?;
        let metadata: TableMetadataRef = match pointer_version_of(&head) {
            // Pointer names can come back with other content.
            Some(_) => {
                let stamp = self.storage.stamp(&head).await?;
                self.cache.load_stamped(&self.storage, &head, Some(stamp)).await?
            }
            None => self.cache.load(&self.storage, &head).await?,
        };
        Ok(LoadedTable {
            metadata: Arc::clone(&metadata),
            metadata_location: head,
            config: HashMap::new(),
            storage: self.storage.clone(),
        })
    }

    async fn register_table(
        &self,
        _ident: &TableIdent,
        _metadata_location: &str,
    ) -> Result<LoadedTable> {
        self.read_only()
    }

    async fn rename_table(&self, _from: &TableIdent, _to: &TableIdent) -> Result<()> {
        self.read_only()
    }

    async fn drop_table(&self, _ident: &TableIdent) -> Result<LoadedTable> {
        self.read_only()
    }

    async fn changed_since(&self, ident: &TableIdent, metadata_location: &str) -> Result<bool> {
        self.check(ident)?;
        Ok(head_of(&self.storage, &self.source).await? != metadata_location)
    }

    async fn commit(
        &self,
        ident: &TableIdent,
        requirements: Vec<TableRequirement>,
        updates: Vec<TableUpdate>,
    ) -> Result<LoadedTable> {
        self.check(ident)?;
        let Some(pointer) = &self.pointer else { return self.read_only() };
        let probe = || pointer::probe(&self.storage, &self.name, &self.environment);
        self.probed.get_or_try_init(probe).await.map_err(nothing_changed)?;
        let committed = pointer.commit(&requirements, &updates).await.map_err(nothing_changed)?;
        committed.ok_or_else(|| no_table(ident))
    }
}
