//! Who swaps the metadata: one small trait, and the catalogs that implement it.
//!
//! A catalog knows names and metadata locations; it knows no table, no manifest and no row. What
//! a catalog cannot do is `Unsupported`.

use std::collections::HashMap;
use std::fmt::Debug;

use async_trait::async_trait;

use crate::error::Result;
use crate::spec::{
    NamespaceIdent, Schema, SortOrder, TableIdent, TableMetadataRef, TableRequirement, TableUpdate,
    UnboundPartitionSpec,
};
use crate::storage::Storage;

/// A table as its catalog knows it now.
#[derive(Debug, Clone)]
pub struct LoadedTable {
    /// The current metadata.
    pub metadata: TableMetadataRef,
    /// Where it lies.
    pub metadata_location: String,
    /// Settings that the catalog hands out with the table.
    pub config: HashMap<String, String>,
    /// The stores to read and write the table's files with.
    pub storage: Storage,
}

/// A table to be made.
#[derive(Debug, Clone)]
pub struct NewTable {
    /// Columns; ids are assigned anew by the catalog's metadata builder.
    pub schema: Schema,
    /// How rows are partitioned; unpartitioned by default.
    pub spec: UnboundPartitionSpec,
    /// How files are sorted; unsorted by default.
    pub sort_order: SortOrder,
    /// Where the table's files go; the catalog chooses when `None`.
    pub location: Option<String>,
    /// Table properties.
    pub properties: HashMap<String, String>,
}

impl NewTable {
    /// An unpartitioned, unsorted table without properties.
    pub fn new(schema: Schema) -> Self {
        Self {
            schema,
            spec: UnboundPartitionSpec::default(),
            sort_order: SortOrder::unsorted_order(),
            location: None,
            properties: HashMap::new(),
        }
    }
}

/// Keeps the names of tables and swaps their metadata atomically.
#[async_trait]
pub trait Catalog: Debug + Send + Sync {
    /// The catalog's own name, as messages show it.
    fn name(&self) -> &str;

    /// The stores that metadata is read from and written to.
    fn storage(&self) -> &Storage;

    /// Makes a namespace.
    ///
    /// # Errors
    /// `AlreadyExists`; `NotFound` if its parent is missing where the catalog asks for one.
    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<()>;

    /// The namespaces directly below `parent`, or the top ones, sorted.
    ///
    /// # Errors
    /// `NotFound` if the parent is missing.
    async fn list_namespaces(&self, parent: Option<&NamespaceIdent>)
    -> Result<Vec<NamespaceIdent>>;

    /// The properties of a namespace.
    ///
    /// # Errors
    /// `NotFound`.
    async fn namespace_properties(
        &self,
        namespace: &NamespaceIdent,
    ) -> Result<HashMap<String, String>>;

    /// Removes an empty namespace.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` if it holds tables or namespaces.
    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()>;

    /// The tables of a namespace, sorted.
    ///
    /// # Errors
    /// `NotFound` if the namespace is missing.
    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>>;

    /// Makes a table without snapshots.
    ///
    /// # Errors
    /// `AlreadyExists`; `NotFound` if the namespace is missing; `InvalidInput` for a spec or sort
    /// order that does not bind.
    async fn create_table(&self, ident: &TableIdent, table: NewTable) -> Result<LoadedTable>;

    /// Loads a table's current metadata.
    ///
    /// # Errors
    /// `NotFound`; `CorruptData` or `Unsupported` for metadata that cannot be used.
    async fn load_table(&self, ident: &TableIdent) -> Result<LoadedTable>;

    /// Takes a table over whose metadata file is given.
    ///
    /// # Errors
    /// `AlreadyExists`; reading errors of the metadata file.
    async fn register_table(
        &self,
        ident: &TableIdent,
        metadata_location: &str,
    ) -> Result<LoadedTable>;

    /// Gives a table another name. Its files stay where they are.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`.
    async fn rename_table(&self, from: &TableIdent, to: &TableIdent) -> Result<()>;

    /// Forgets a table and returns its last state, so that the caller can purge its files.
    ///
    /// # Errors
    /// `NotFound`.
    async fn drop_table(&self, ident: &TableIdent) -> Result<LoadedTable>;

    /// Whether the table has moved on from a metadata location, as cheaply as possible.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    async fn changed_since(&self, ident: &TableIdent, metadata_location: &str) -> Result<bool>;

    /// Checks the requirements against the current metadata, applies the updates and swaps, as
    /// one atomic step.
    ///
    /// # Errors
    /// * `CommitConflict`: a requirement does not hold, or somebody swapped first. Not applied.
    /// * `CommitStateUnknown`: nobody knows, even after a look at the head and its metadata log.
    /// * Others: not applied.
    async fn commit(
        &self,
        ident: &TableIdent,
        requirements: Vec<TableRequirement>,
        updates: Vec<TableUpdate>,
    ) -> Result<LoadedTable>;
}
