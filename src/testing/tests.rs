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

/// Against a server process: set `MELTWATER_TEST_S3` to an endpoint with a bucket `meltwater`,
/// such as moto's `http://127.0.0.1:5555`; without it the test says so and passes.
#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_file_system_catalog_keeps_the_contract_on_s3() {
    let Ok(endpoint) = std::env::var("MELTWATER_TEST_S3") else {
        eprintln!("skipped: MELTWATER_TEST_S3 names no S3 endpoint");
        return;
    };
    let run = uuid::Uuid::new_v4();
    let make = |name: &'static str| {
        let uri = format!("s3://meltwater/{run}/{name}");
        let properties = HashMap::from(
            [
                ("s3.endpoint", endpoint.as_str()),
                ("s3.region", "us-east-1"),
                ("s3.access-key-id", "test"),
                ("s3.secret-access-key", "test"),
                ("s3.path-style-access", "true"),
            ]
            .map(|(name, value)| (name.to_string(), value.to_string())),
        );
        async move { open(&uri, properties).await }
    };
    catalog_contract::run(make).await.unwrap();
}
