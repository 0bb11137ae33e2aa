//! stub
#![allow(missing_docs, unused)]
use crate::error::Result;
use crate::spec::*;
use crate::storage::Storage;
use bytes::Bytes;
use std::sync::Arc;
pub fn read_manifest_list(
    bytes: &[u8],
    location: &str,
    format_version: FormatVersion,
) -> Result<Vec<ManifestFile>> {
    unimplemented!()
}
pub fn write_manifest_list(
    manifests: &[ManifestFile],
    snapshot_id: SnapshotId,
    parent: Option<SnapshotId>,
    sequence_number: SequenceNumber,
    codec: ManifestCodec,
) -> Result<Bytes> {
    unimplemented!()
}
pub fn read_manifest(bytes: &[u8], list_entry: &ManifestFile) -> Result<Vec<ManifestEntry>> {
    unimplemented!()
}
#[derive(Debug)]
pub struct ManifestWriter;
impl ManifestWriter {
    pub fn new(
        content: ManifestContentType,
        schema: SchemaRef,
        spec: PartitionSpecRef,
        partition_types: Vec<Type>,
        snapshot_id: SnapshotId,
        codec: ManifestCodec,
    ) -> Self {
        unimplemented!()
    }
    pub fn add(&mut self, file: &DataFile, sequence_number: Option<SequenceNumber>) -> Result<()> {
        unimplemented!()
    }
    pub fn existing(&mut self, entry: &ManifestEntry) -> Result<()> {
        unimplemented!()
    }
    pub fn delete(&mut self, entry: &ManifestEntry) -> Result<()> {
        unimplemented!()
    }
    pub fn len_hint(&self) -> usize {
        unimplemented!()
    }
    pub fn finish(self, location: &str) -> Result<(Bytes, ManifestFile)> {
        unimplemented!()
    }
}
#[derive(Debug, Clone, Copy)]
pub enum ManifestCodec {
    Uncompressed,
    Deflate,
    Zstd,
    Snappy,
}
#[derive(Debug)]
pub struct ManifestCache;
impl ManifestCache {
    pub fn shared() -> Arc<Self> {
        unimplemented!()
    }
    pub fn new(budget_bytes: u64) -> Self {
        unimplemented!()
    }
    pub async fn list(
        &self,
        storage: &Storage,
        location: &str,
        v: FormatVersion,
    ) -> Result<Arc<Vec<ManifestFile>>> {
        unimplemented!()
    }
    pub async fn entries(
        &self,
        storage: &Storage,
        manifest: &ManifestFile,
    ) -> Result<Arc<Vec<ManifestEntry>>> {
        unimplemented!()
    }
}
