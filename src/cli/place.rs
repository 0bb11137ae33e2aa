//! Opens what a word names: a catalog by its URI, a table by its folder or metadata file.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::storage::PathMap;
use crate::table::Table;

/// Opens a catalog.
pub(super) async fn open_catalog(
    uri: &str,
    _p: HashMap<String, String>,
) -> Result<Arc<dyn Catalog>> {
    Err(Error::unsupported(format!("catalogs such as `{uri}` are not built in yet")))
}

/// Opens a table by its folder or metadata file.
pub(super) async fn open(place: &str, _m: PathMap, _p: HashMap<String, String>) -> Result<Table> {
    Err(Error::unsupported(format!("tables by place such as `{place}` are not built in yet")))
}
