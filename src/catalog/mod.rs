//! Who swaps the metadata: catalogs, and tables opened without one.
//!
//! In: names, and updates to a table. Out: loaded metadata, and one atomic swap per commit that
//! either happened, did not happen, or is honestly unknown (CAT-6). A catalog knows no snapshots
//! and no files of a table; the `table` floor above does.
//!
//! * [`SqlCatalog`] (feature `sqlite`): the layout that Java's JdbcCatalog and PyIceberg's
//!   SqlCatalog share.
//! * [`FileSystemCatalog`]: tables in folders of any object store, the pointer is a file name.
//! * [`StaticCatalog`]: one table of another catalog, opened by its folder or metadata file.

mod cache;
mod change;
mod file_system;
mod metadata;
mod names;
mod naming;
mod pointer;
mod render;
#[cfg(feature = "sqlite")]
mod sql;
mod static_table;
#[cfg(test)]
mod tests;
mod uri;

use std::collections::HashMap;
use std::fmt::Debug;

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::spec::{
    NamespaceIdent, Schema, SortOrder, TableIdent, TableMetadataRef, TableRequirement, TableUpdate,
    UnboundPartitionSpec,
};
use crate::storage::Storage;

pub use file_system::FileSystemCatalog;
pub use metadata::read_metadata;
pub use names::{parse_ident, parse_namespace};
pub(crate) use naming::pointer_version_of;
pub(crate) use pointer::POINTER_MIN_AGE_MS;
pub use render::write_metadata;
#[cfg(feature = "sqlite")]
pub use sql::SqlCatalog;
pub use static_table::StaticCatalog;
pub use uri::{open, open_table_location};

/// One version of a table, as a catalog knows it.
#[derive(Debug, Clone)]
pub struct LoadedTable {
    /// The metadata.
    pub metadata: TableMetadataRef,
    /// The file it was read from or written to.
    pub metadata_location: String,
    /// Settings that the catalog hands out with this table.
    pub config: HashMap<String, String>,
    /// Reaches the table's files, with the table's path map.
    pub storage: Storage,
}

/// A table to be made.
#[derive(Debug, Clone)]
pub struct NewTable {
    /// Columns. Field ids are assigned anew, in order.
    pub schema: Schema,
    /// Partitioning; source ids are those of `schema`. Default: none.
    pub spec: UnboundPartitionSpec,
    /// Sort order; default: none.
    pub sort_order: SortOrder,
    /// Where the table lies; default: a folder of the catalog's choice.
    pub location: Option<String>,
    /// Table properties.
    pub properties: HashMap<String, String>,
}

impl NewTable {
    /// An unpartitioned, unsorted table without properties, in the catalog's default place.
    pub fn new(schema: Schema) -> Self {
        Self {
            schema,
            spec: UnboundPartitionSpec::builder().build(),
            sort_order: SortOrder::unsorted_order(),
            location: None,
            properties: HashMap::new(),
        }
    }

    /// Partitions the table.
    pub fn with_spec(mut self, spec: UnboundPartitionSpec) -> Self {
        self.spec = spec;
        self
    }

    /// Declares a sort order.
    pub fn with_sort_order(mut self, sort_order: SortOrder) -> Self {
        self.sort_order = sort_order;
        self
    }

    /// Chooses the table's folder.
    pub fn with_location(mut self, location: impl Into<String>) -> Self {
        self.location = Some(location.into());
        self
    }

    /// Sets a table property.
    pub fn with_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }
}

/// A catalog: names of tables, and the one place where a table's next version wins.
///
/// What a catalog cannot do is `Unsupported`. A new catalog is finished when
/// `testing::catalog_contract` passes.
#[async_trait]
pub trait Catalog: Debug + Send + Sync {
    /// The catalog's name, for messages.
    fn name(&self) -> &str;

    /// Reaches the files of the catalog's tables.
    fn storage(&self) -> &Storage;

    /// Makes a namespace.
    ///
    /// # Errors
    /// `AlreadyExists`; `InvalidInput` for a name that the catalog cannot hold.
    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<()>;

    /// The namespaces directly under `parent`, or at the top; sorted.
    ///
    /// # Errors
    /// `NotFound` if there is no such parent.
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
    /// `NotFound`; `InvalidInput` if something is in it.
    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()>;

    /// The tables of a namespace, sorted by name; not those of namespaces below it.
    ///
    /// # Errors
    /// `NotFound` if there is no such namespace.
    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>>;

    /// Makes a table without snapshots.
    ///
    /// # Errors
    /// `NotFound` if the namespace is missing, `AlreadyExists`, `InvalidInput`.
    async fn create_table(&self, ident: &TableIdent, new: NewTable) -> Result<LoadedTable>;

    /// Reads the current version of a table.
    ///
    /// # Errors
    /// `NotFound`; `CorruptData` or `Unsupported` if its metadata cannot be read.
    async fn load_table(&self, ident: &TableIdent) -> Result<LoadedTable>;

    /// Enters a table that exists already, by its metadata file.
    ///
    /// # Errors
    /// `AlreadyExists` for the name; `NotFound` for the file or the namespace.
    async fn register_table(
        &self,
        ident: &TableIdent,
        metadata_location: &str,
    ) -> Result<LoadedTable>;

    /// Gives a table another name; its files stay where they are.
    ///
    /// # Errors
    /// `NotFound` for the old name or the new namespace, `AlreadyExists` for the new name.
    async fn rename_table(&self, from: &TableIdent, to: &TableIdent) -> Result<()>;

    /// Takes a table out of the catalog and returns its last version, so that the caller can
    /// remove the files or register the table again.
    ///
    /// # Errors
    /// `NotFound`.
    async fn drop_table(&self, ident: &TableIdent) -> Result<LoadedTable>;

    /// Whether the table's current version is another one than `metadata_location`: a cheap
    /// question that reads no metadata.
    ///
    /// # Errors
    /// `NotFound`.
    async fn changed_since(&self, ident: &TableIdent, metadata_location: &str) -> Result<bool>;

    /// Swaps a table to its next version, in one atomic step. Updates that change nothing commit
    /// nothing and return the current version.
    ///
    /// # Errors
    /// * `CommitConflict`: a requirement does not hold, or another commit came first. Nothing
    ///   was changed.
    /// * `CommitStateUnknown`: no answer came, and looking at the table's head and metadata log
    ///   did not settle it. Keep every file.
    /// * any other kind: nothing was changed.
    async fn commit(
        &self,
        ident: &TableIdent,
        requirements: Vec<TableRequirement>,
        updates: Vec<TableUpdate>,
    ) -> Result<LoadedTable>;
}

/// Marks an error of our own catalogs' commits: unless the outcome is unknown, the promise of
/// [`Catalog::commit`] is kept, also where the store gave no answer (CAT-6).
fn nothing_changed(error: Error) -> Error {
    match error.kind() {
        ErrorKind::CommitStateUnknown => error,
        _ => error.with_nothing_changed(),
    }
}
