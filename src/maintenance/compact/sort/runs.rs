//! Sorted runs in local files, as Arrow IPC streams.
//!
//! A run is written and read once, by this process, and removed when dropped.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;

use crate::error::{Error, ErrorKind, Result};

const BUFFER_BYTES: usize = 64 * 1024;

/// A finished run; its file goes when it is dropped.
#[derive(Debug)]
pub(super) struct Run {
    path: PathBuf,
}

impl Drop for Run {
    fn drop(&mut self) {
        // A run that stays behind is a temporary file like any other.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A run under construction.
pub(super) struct RunWriter {
    run: Run,
    out: StreamWriter<BufWriter<File>>,
}

impl RunWriter {
    pub(super) fn create(path: PathBuf, schema: &SchemaRef) -> Result<Self> {
        let file = File::create_new(&path).map_err(|e| no_service(e, &path))?;
        let run = Run { path };
        let out = BufWriter::with_capacity(BUFFER_BYTES, file);
        let out = StreamWriter::try_new(out, schema).map_err(|e| failed(e, &run.path))?;
        Ok(Self { run, out })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.out.write(batch).map_err(|e| failed(e, &self.run.path))
    }

    pub(super) fn finish(mut self) -> Result<Run> {
        self.out.finish().map_err(|e| failed(e, &self.run.path))?;
        self.out.get_mut().flush().map_err(|e| no_service(e, &self.run.path))?;
        Ok(self.run)
    }
}

/// A run being read.
pub(super) struct RunReader {
    run: Run,
    input: StreamReader<BufReader<File>>,
}

impl RunReader {
    pub(super) fn open(run: Run) -> Result<Self> {
        let file = File::open(&run.path).map_err(|e| no_service(e, &run.path))?;
        let input = BufReader::with_capacity(BUFFER_BYTES, file);
        let input = StreamReader::try_new(input, None).map_err(|e| failed(e, &run.path))?;
        Ok(Self { run, input })
    }

    pub(super) fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        self.input.next().transpose().map_err(|e| failed(e, &self.run.path))
    }
}

fn failed(error: ArrowError, path: &Path) -> Error {
    match error {
        ArrowError::IoError(_, error) => no_service(error, path),
        other => Error::from(other).with_context("file", path.display()),
    }
}

fn no_service(error: std::io::Error, path: &Path) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the spill file gave no service: {error}"))
        .with_context("file", path.display())
        .with_hint("free space there, choose another spill directory or raise the memory budget")
        .with_source(error)
}
