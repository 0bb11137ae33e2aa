//! A table by its place: a folder or metadata file, without a catalog.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::{StaticCatalog, open_table_location};
use crate::error::Result;
use crate::storage::PathMap;
use crate::table::Table;

/// Opens the table and says whether it may be written to.
pub(super) async fn open(
    place: &str,
    maps: PathMap,
    properties: HashMap<String, String>,
) -> Result<(Table, bool)> {
    let catalog: StaticCatalog = open_table_location(place, properties, maps).await?;
    let (ident, writable) = (catalog.ident().clone(), catalog.is_writable());
    Ok((Table::load(Arc::new(catalog), &ident).await?, writable))
}
