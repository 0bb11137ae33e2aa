//! A file that is written piece by piece and appears whole on close.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};

use super::named;
use crate::error::Result;

/// How much is buffered before a multipart upload starts.
const BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// A file under construction. Nothing is visible under its name before [`OutputFile::close`];
/// dropping it leaves nothing behind that a reader could see.
#[derive(Debug)]
pub struct OutputFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
    location: String,
    buffer: Vec<u8>,
    upload: Option<WriteMultipart>,
    written: u64,
}

impl OutputFile {
    pub(super) fn new(store: Arc<dyn ObjectStore>, path: Path, location: String) -> Self {
        Self { store, path, location, buffer: Vec::new(), upload: None, written: 0 }
    }

    /// The location under which the file will appear.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Bytes taken so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// `Unavailable` when the store gives no answer; the file is then lost and must be aborted.
    pub async fn write(&mut self, piece: Bytes) -> Result<()> {
        self.written += piece.len() as u64;
        if self.upload.is_none() && self.buffer.len() + piece.len() > BUFFER_BYTES {
            let upload = self.store.put_multipart(&self.path).await;
            let mut upload = WriteMultipart::new(upload.map_err(|e| named(e, &self.location))?);
            upload.write(&std::mem::take(&mut self.buffer));
            self.upload = Some(upload);
        }
        match &mut self.upload {
            Some(upload) => {
                upload.wait_for_capacity(4).await.map_err(|e| named(e, &self.location))?;
                upload.put(piece);
            }
            None => self.buffer.extend_from_slice(&piece),
        }
        Ok(())
    }

    /// Makes the file visible and durable; returns its size in bytes.
    ///
    /// # Errors
    /// `Unavailable`; the file may then be there or not.
    pub async fn close(mut self) -> Result<u64> {
        match self.upload.take() {
            Some(upload) => {
                upload.finish().await.map_err(|e| named(e, &self.location))?;
            }
            None => {
                let payload = PutPayload::from(std::mem::take(&mut self.buffer));
                let put = self.store.put(&self.path, payload).await;
                put.map_err(|e| named(e, &self.location))?;
            }
        }
        Ok(self.written)
    }

    /// Gives the file up and removes what was uploaded.
    pub async fn abort(mut self) {
        if let Some(upload) = self.upload.take() {
            // Best effort: parts of an unfinished upload are invisible to readers.
            let _ = upload.abort().await;
        }
    }
}
