//! Every catalog keeps the contract.

use std::collections::HashMap;
use std::sync::Arc;

use super::catalog_contract;
use crate::Result;
use crate::catalog::{Catalog, FileSystemCatalog, open};
use crate::storage::Storage;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_file_system_catalog_keeps_the_contract_in_memory() {
    let storage = Storage::default();
    let make = |name: &'static str| {
        let storage = storage.clone();
        async move {
            let catalog = FileSystemCatalog::new(format!("memory:///{name}"), storage);
            Result::<Arc<dyn Catalog>>::Ok(Arc::new(catalog))
        }
    };
    catalog_contract::run(make).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_file_system_catalog_keeps_the_contract_on_local_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display().to_string();
    let make = |name: &'static str| {
        let uri = format!("file:{root}/{name}?local.sync=false");
        async move { open(&uri, HashMap::new()).await }
    };
    catalog_contract::run(make).await.unwrap();
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_sql_catalog_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display().to_string();
    let make = |name: &'static str| {
        let uri =
            format!("sqlite:{root}/{name}/catalog.db?warehouse={root}/{name}&local.sync=false");
        async move { open(&uri, HashMap::new()).await }
    };
    catalog_contract::run(make).await.unwrap();
}
