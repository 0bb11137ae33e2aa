//! Amazon S3 and what speaks its protocol.
//!
//! In: storage properties under the names that other engines use, or the environment
//! (`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, …). Out: one client per bucket.
//! Conditional puts are the pointer swaps of a catalog, so they go out exactly once: a hidden
//! retry would report our own success as a conflict (CAT-2).

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
    RetryConfig,
};

use crate::error::{Error, Result};

/// A bucket: one client that retries, one that does not.
#[derive(Debug)]
struct S3Store {
    calm: AmazonS3,
    once: AmazonS3,
}

/// Opens a bucket.
///
/// # Errors
/// `InvalidInput` if the properties make no client.
pub(super) fn open(
    bucket: &str,
    properties: &HashMap<String, String>,
) -> Result<Arc<dyn ObjectStore>> {
    let build = |retry: RetryConfig| {
        let builder = configured(bucket, properties).with_retry(retry);
        builder.build().map_err(|e| {
            Error::invalid(format!("bucket `{bucket}` cannot be opened: {e}"))
                .with_hint("set s3.region, and s3.endpoint for a service that is not Amazon's")
                .with_source(e)
        })
    };
    let once = RetryConfig { max_retries: 0, ..Default::default() };
    Ok(Arc::new(S3Store { calm: build(RetryConfig::default())?, once: build(once)? }))
}

fn configured(bucket: &str, properties: &HashMap<String, String>) -> AmazonS3Builder {
    let get = |name: &str| properties.get(name).map(String::as_str);
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch);
    let endpoint = get("s3.endpoint").map(str::to_string).or_else(environment_endpoint);
    if let Some(endpoint) = endpoint {
        builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
    }
    if let Some(region) = get("s3.region").or_else(|| get("client.region")) {
        builder = builder.with_region(region);
    }
    if let Some(id) = get("s3.access-key-id") {
        builder = builder.with_access_key_id(id);
    }
    if let Some(secret) = get("s3.secret-access-key") {
        builder = builder.with_secret_access_key(secret);
    }
    if let Some(token) = get("s3.session-token") {
        builder = builder.with_token(token);
    }
    if let Some(path_style) = get("s3.path-style-access") {
        let virtual_hosted = !path_style.eq_ignore_ascii_case("true");
        builder = builder.with_virtual_hosted_style_request(virtual_hosted);
    }
    if get("s3.anonymous").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        builder = builder.with_skip_signature(true);
    }
    builder
}

fn environment_endpoint() -> Option<String> {
    std::env::var("AWS_ENDPOINT_URL_S3").or_else(|_| std::env::var("AWS_ENDPOINT_URL")).ok()
}

impl fmt::Display for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.calm.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        match options.mode {
            PutMode::Overwrite => self.calm.put_opts(location, payload, options).await,
            PutMode::Create | PutMode::Update(_) => {
                self.once.put_opts(location, payload, options).await
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.calm.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.calm.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.calm.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.calm.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.calm.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.calm.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.calm.copy_opts(from, to, options).await
    }
}
