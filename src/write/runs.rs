//! Sorted runs of keys in local files, and their merge.
//!
//! A run holds entries of `length u32, flags u8, file u32, row u64, key`, little-endian. It is read
//! once, by the process that wrote it, and removed when dropped.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind as IoErrorKind, Read, Write};
use std::path::PathBuf;

use super::key_log::{Entry, OwnedEntry, Resolved};
use crate::error::{Error, ErrorKind, Result};

const BUFFER_BYTES: usize = 256 * 1024;
const HAS_PLACE: u8 = 1;
const MAY_BE_OLD: u8 = 2;
const HEADER_BYTES: usize = 17;

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
#[derive(Debug)]
pub(super) struct RunWriter {
    run: Run,
    out: BufWriter<File>,
}

impl RunWriter {
    pub(super) fn create(path: PathBuf) -> Result<Self> {
        let file = File::create_new(&path).map_err(|e| local(e, &path))?;
        let run = Run { path };
        Ok(Self { run, out: BufWriter::with_capacity(BUFFER_BYTES, file) })
    }

    /// Adds the next key, in ascending order.
    pub(super) fn write(&mut self, entry: &Entry<'_>) -> Result<()> {
        let length = u32::try_from(entry.key.len())
            .map_err(|_| Error::invalid("a key is longer than 4 GiB"))?;
        let (file, row) = entry.place.unwrap_or_default();
        let flags = if entry.place.is_some() { HAS_PLACE } else { 0 }
            | if entry.may_be_old { MAY_BE_OLD } else { 0 };
        let mut put = |bytes: &[u8]| self.out.write_all(bytes);
        put(&length.to_le_bytes())
            .and_then(|()| put(&[flags]))
            .and_then(|()| put(&file.to_le_bytes()))
            .and_then(|()| put(&row.to_le_bytes()))
            .and_then(|()| put(entry.key))
            .map_err(|e| local(e, &self.run.path))
    }

    pub(super) fn finish(mut self) -> Result<Run> {
        self.out.flush().map_err(|e| local(e, &self.run.path))?;
        Ok(self.run)
    }
}

fn local(error: std::io::Error, path: &std::path::Path) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the spill file gave no service: {error}"))
        .with_context("file", path.display())
        .with_hint("free space there, choose another spill directory or raise the memory budget")
        .with_source(error)
}

struct RunReader {
    run: Run,
    input: BufReader<File>,
}

impl RunReader {
    fn open(run: Run) -> Result<Self> {
        let file = File::open(&run.path).map_err(|e| local(e, &run.path))?;
        Ok(Self { input: BufReader::with_capacity(BUFFER_BYTES, file), run })
    }

    fn next(&mut self) -> Result<Option<OwnedEntry>> {
        let mut header = [0u8; HEADER_BYTES];
        match self.input.read_exact(&mut header) {
            Ok(()) => {}
            Err(e) if e.kind() == IoErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(local(e, &self.run.path)),
        }
        let [l0, l1, l2, l3, flags, f0, f1, f2, f3, row @ ..] = header;
        let mut key = vec![0; u32::from_le_bytes([l0, l1, l2, l3]) as usize];
        self.input.read_exact(&mut key).map_err(|e| local(e, &self.run.path))?;
        let place = (u32::from_le_bytes([f0, f1, f2, f3]), u64::from_le_bytes(row));
        Ok(Some(OwnedEntry {
            key,
            place: (flags & HAS_PLACE != 0).then_some(place),
            may_be_old: flags & MAY_BE_OLD != 0,
        }))
    }
}

/// Merges runs, oldest first, with the keys still in memory, which are the youngest.
pub(super) fn merge(
    runs: Vec<Run>,
    memory: impl Iterator<Item = OwnedEntry>,
) -> Result<impl Iterator<Item = Result<Resolved>>> {
    let readers = runs.into_iter().map(RunReader::open).collect::<Result<Vec<_>>>()?;
    let mut merge = Merge { readers, memory, heads: BinaryHeap::new(), places: Vec::new() };
    for source in 0..=merge.readers.len() {
        merge.advance(source)?;
    }
    let mut failed = false;
    Ok(std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let next = merge.next_key().transpose();
        failed = matches!(next, Some(Err(_)));
        next
    }))
}

struct Merge<M> {
    readers: Vec<RunReader>,
    memory: M,
    /// Least key first; of one key the oldest source first.
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    /// What the heads say beside their keys, by source.
    places: Vec<(Option<(u32, u64)>, bool)>,
}

impl<M: Iterator<Item = OwnedEntry>> Merge<M> {
    fn advance(&mut self, source: usize) -> Result<()> {
        let next = match self.readers.get_mut(source) {
            Some(reader) => reader.next()?,
            None => self.memory.next(),
        };
        if self.places.len() <= source {
            self.places.resize(source + 1, (None, false));
        }
        if let (Some(entry), Some(place)) = (next, self.places.get_mut(source)) {
            *place = (entry.place, entry.may_be_old);
            self.heads.push(Reverse((entry.key, source)));
        }
        Ok(())
    }

    fn next_key(&mut self) -> Result<Option<Resolved>> {
        let Some(Reverse((key, source))) = self.heads.pop() else { return Ok(None) };
        let (mut place, may_be_old) = self.places.get(source).copied().unwrap_or_default();
        self.advance(source)?;
        let mut superseded = Vec::new();
        while self.heads.peek().is_some_and(|Reverse((next, _))| *next == key) {
            let Some(Reverse((_, source))) = self.heads.pop() else { break };
            superseded.extend(place);
            place = self.places.get(source).and_then(|(place, _)| *place);
            self.advance(source)?;
        }
        Ok(Some(Resolved { key, may_be_old, superseded }))
    }
}
