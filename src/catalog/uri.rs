//! From a URI to a catalog, and from a place to a table.
//!
//! `sqlite:PATH?warehouse=URL&name=N`, `file:PATH`, `s3://bucket/prefix`, `memory:`. What follows
//! the question mark are properties, such as `s3.endpoint` or `local.sync`.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{Catalog, FileSystemCatalog, StaticCatalog};
use crate::clock::Environment;
use crate::error::{Error, Result};
use crate::storage::{PathMap, Storage};

/// Opens the catalog that a URI names. Properties in the URI win over those passed beside it.
///
/// # Errors
/// `InvalidInput` for a URI of another form, `Unsupported` for a catalog whose feature is off,
/// `Unavailable` if the catalog does not answer.
pub async fn open(uri: &str, properties: HashMap<String, String>) -> Result<Arc<dyn Catalog>> {
    let (base, properties) = split(uri, properties)?;
    if let Some(path) = base.strip_prefix("sqlite:") {
        return open_sqlite(path, properties).await;
    }
    let root = if base == "memory:" {
        "memory:///".to_string()
    } else if base.starts_with("memory://") || base.starts_with("s3://") {
        base.to_string()
    } else if let Some(path) = base.strip_prefix("s3a://") {
        format!("s3://{path}")
    } else if let Some(path) = base.strip_prefix("file:") {
        local_location(path.strip_prefix("//").unwrap_or(path))?
    } else {
        return Err(Error::invalid(format!("`{uri}` names no catalog")).with_hint(
            "write sqlite:PATH?warehouse=URL, file:PATH, s3://bucket/prefix or memory:",
        ));
    };
    Ok(Arc::new(FileSystemCatalog::new(root, Storage::new(properties))))
}

/// Opens one table by its folder, its metadata folder or a metadata file, without a catalog.
///
/// Local paths may be relative. The result commits only where [`StaticCatalog::is_writable`].
///
/// # Errors
/// As [`StaticCatalog::open`].
pub async fn open_table_location(
    location: &str,
    properties: HashMap<String, String>,
    paths: PathMap,
) -> Result<StaticCatalog> {
    let location = if location.contains("://") {
        location.to_string()
    } else {
        local_location(location.strip_prefix("file:").unwrap_or(location))?
    };
    let storage = Storage::new(properties);
    StaticCatalog::open(&storage, &location, paths, Environment::default()).await
}

fn split(
    uri: &str,
    mut properties: HashMap<String, String>,
) -> Result<(&str, HashMap<String, String>)> {
    let (base, query) = uri.split_once('?').unwrap_or((uri, ""));
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Error::invalid(format!("`{pair}` in `{uri}` is no name=value pair"))
                .with_hint("write properties as `?name=value&name=value`"));
        };
        properties.insert(name.to_string(), value.to_string());
    }
    Ok((base, properties))
}

/// An absolute `file://` location for a path as a person writes it.
pub(super) fn local_location(path: &str) -> Result<String> {
    let absolute = std::path::absolute(Path::new(path)).map_err(|e| {
        Error::invalid(format!("the path `{path}` cannot be made absolute")).with_source(e)
    })?;
    let mut clean = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    match clean.to_str() {
        Some(path) => Ok(format!("file://{path}")),
        None => Err(Error::invalid(format!("the path `{path}` is not UTF-8"))),
    }
}

#[cfg(feature = "sqlite")]
async fn open_sqlite(
    path: &str,
    mut properties: HashMap<String, String>,
) -> Result<Arc<dyn Catalog>> {
    let path = path.strip_prefix("//").unwrap_or(path);
    let name = properties.remove("name");
    let warehouse = match properties.remove("warehouse") {
        Some(url) if url.contains("://") => url,
        Some(path) => local_location(path.strip_prefix("file:").unwrap_or(&path))?,
        None => {
            let file = local_location(path)?;
            file.rsplit_once('/').map_or(file.clone(), |(folder, _)| folder.to_string())
        }
    };
    let storage = Storage::new(properties);
    let catalog = super::SqlCatalog::open(path, name.as_deref(), &warehouse, storage).await?;
    Ok(Arc::new(catalog))
}

#[cfg(not(feature = "sqlite"))]
async fn open_sqlite(
    _path: &str,
    _properties: HashMap<String, String>,
) -> Result<Arc<dyn Catalog>> {
    Err(Error::unsupported("this build has no SQL catalog")
        .with_hint("build with `--features sqlite`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_locations() {
        assert_eq!(local_location("/a/./b/../c").unwrap(), "file:///a/c");
        let here = local_location("x y%20").unwrap();
        assert!(here.starts_with("file:///") && here.ends_with("/x y%20"));
    }

    #[tokio::test]
    async fn a_uri_names_its_catalog_or_says_what_it_could_be() {
        let file = open("file:/tmp/none", HashMap::new()).await.unwrap();
        assert_eq!(file.name(), "file:///tmp/none");
        assert_eq!(open("memory:", HashMap::new()).await.unwrap().name(), "memory:///");
        let error = open("warehouse", HashMap::new()).await.unwrap_err();
        assert!(error.hint().unwrap().contains("sqlite:PATH"));
        assert!(open("file:/x?novalue", HashMap::new()).await.is_err());
    }
}
