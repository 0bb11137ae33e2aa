//! The way from the Parquet decoder to storage: byte ranges of one file.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ParquetMetaData;

use crate::storage::Storage;

/// Reads ranges of one file; near ranges travel together (see [`Storage::read_ranges`]).
#[derive(Debug)]
pub(crate) struct FileSource {
    storage: Storage,
    location: Arc<str>,
    metadata: Arc<ParquetMetaData>,
}

impl FileSource {
    pub(crate) fn new(storage: &Storage, location: &str, metadata: Arc<ParquetMetaData>) -> Self {
        Self { storage: storage.clone(), location: location.into(), metadata }
    }
}

fn external(error: crate::error::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for FileSource {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { self.storage.read_range(&self.location, range).await.map_err(external) }
            .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { self.storage.read_ranges(&self.location, &ranges).await.map_err(external) }
            .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let metadata = self.metadata.clone();
        async move { Ok(metadata) }.boxed()
    }
}
