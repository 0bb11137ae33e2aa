//! Serves the `iceberg` crate's `FileIO` from our storage, so that its helpers read and write
//! through the same stores, faults and path maps as everything else.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use iceberg::io::{
    FileIO, FileIOBuilder, FileMetadata, FileRead, FileWrite, InputFile, OutputFile,
    Storage as IcebergStorage, StorageConfig, StorageFactory,
};
use serde::{Deserialize, Serialize};

use super::Storage;
use crate::error::{Error, ErrorKind};

/// Our storage in the crate's clothes. Settings and stores do not travel through serialisation:
/// a deserialised adapter reaches local files and memory only.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Adapter {
    #[serde(skip)]
    storage: Storage,
}

impl Storage {
    /// A handle for functions of the `iceberg` crate that ask for a `FileIO`.
    pub fn file_io(&self) -> FileIO {
        FileIOBuilder::new(Arc::new(Adapter { storage: self.clone() })).build()
    }
}

fn theirs(error: Error) -> iceberg::Error {
    let kind = match error.kind() {
        ErrorKind::Unsupported => iceberg::ErrorKind::FeatureUnsupported,
        ErrorKind::InvalidInput | ErrorKind::CorruptData => iceberg::ErrorKind::DataInvalid,
        _ => iceberg::ErrorKind::Unexpected,
    };
    iceberg::Error::new(kind, error.to_string()).with_source(error)
}

#[typetag::serde(name = "meltwater")]
impl StorageFactory for Adapter {
    fn build(&self, _config: &StorageConfig) -> iceberg::Result<Arc<dyn IcebergStorage>> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
#[typetag::serde(name = "meltwater")]
impl IcebergStorage for Adapter {
    async fn exists(&self, path: &str) -> iceberg::Result<bool> {
        self.storage.exists(path).await.map_err(theirs)
    }

    async fn metadata(&self, path: &str) -> iceberg::Result<FileMetadata> {
        let size = self.storage.size(path).await.map_err(theirs)?;
        Ok(FileMetadata { size })
    }

    async fn read(&self, path: &str) -> iceberg::Result<Bytes> {
        self.storage.read(path).await.map_err(theirs)
    }

    async fn reader(&self, path: &str) -> iceberg::Result<Box<dyn FileRead>> {
        Ok(Box::new(Reader { storage: self.storage.clone(), location: path.to_string() }))
    }

    async fn write(&self, path: &str, bytes: Bytes) -> iceberg::Result<()> {
        self.storage.write(path, bytes).await.map_err(theirs)
    }

    async fn writer(&self, path: &str) -> iceberg::Result<Box<dyn FileWrite>> {
        let output = self.storage.output(path).map_err(theirs)?;
        Ok(Box::new(Writer { output: Some(output) }))
    }

    async fn delete(&self, path: &str) -> iceberg::Result<()> {
        self.storage.delete(path).await.map_err(theirs)
    }

    async fn delete_prefix(&self, path: &str) -> iceberg::Result<()> {
        let mut files = self.storage.list(path).map_err(theirs)?;
        while let Some(file) = files.next().await {
            let location = file.map_err(theirs)?.location;
            self.storage.delete(&location).await.map_err(theirs)?;
        }
        Ok(())
    }

    async fn delete_stream(&self, mut paths: BoxStream<'static, String>) -> iceberg::Result<()> {
        while let Some(path) = paths.next().await {
            self.storage.delete(&path).await.map_err(theirs)?;
        }
        Ok(())
    }

    fn new_input(&self, path: &str) -> iceberg::Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_string()))
    }

    fn new_output(&self, path: &str) -> iceberg::Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_string()))
    }
}

struct Reader {
    storage: Storage,
    location: String,
}

#[async_trait]
impl FileRead for Reader {
    async fn read(&self, range: Range<u64>) -> iceberg::Result<Bytes> {
        self.storage.read_range(&self.location, range).await.map_err(theirs)
    }
}

struct Writer {
    output: Option<super::OutputFile>,
}

fn closed() -> iceberg::Error {
    iceberg::Error::new(iceberg::ErrorKind::Unexpected, "the file was closed before")
}

#[async_trait]
impl FileWrite for Writer {
    async fn write(&mut self, bytes: Bytes) -> iceberg::Result<()> {
        self.output.as_mut().ok_or_else(closed)?.write(bytes).await.map_err(theirs)
    }

    async fn close(&mut self) -> iceberg::Result<()> {
        let output = self.output.take().ok_or_else(closed)?;
        output.close().await.map(|_| ()).map_err(theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_crates_file_io_reads_what_our_storage_wrote() {
        let storage = Storage::default();
        storage.write("memory:///a/b", Bytes::from_static(b"ice")).await.unwrap();
        let io = storage.file_io();
        assert_eq!(io.new_input("memory:///a/b").unwrap().read().await.unwrap(), "ice");
        io.new_output("memory:///a/c").unwrap().write(Bytes::from_static(b"melt")).await.unwrap();
        assert_eq!(storage.read("memory:///a/c").await.unwrap(), "melt");
        assert!(!io.exists("memory:///a/d").await.unwrap());
    }
}
