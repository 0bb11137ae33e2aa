//! The files that only expired snapshots need.
//!
//! In: the snapshots that went and those that stay. Out: files, one manifest at a time. Memory: 16
//! bytes per file of the manifests that went, within a budget: when there are more files, the
//! space of fingerprints is split and the manifests are read once per part.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::paths::{fingerprint, normal};
use crate::spec::{
    DataContentType, DataFile, ManifestFile, SnapshotRef, TableMetadata, snapshots_of,
};
use crate::table::Table;

/// Manifests that are read at the same time.
const READERS: usize = 8;

/// Bytes that a remembered file takes in a set, about.
const BYTES_PER_FILE: u64 = 32;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// Rows.
    Data,
    /// Deleted positions.
    PositionDeletes,
    /// Deleted keys.
    EqualityDeletes,
    /// A list of files.
    Manifest,
    /// A list of manifests.
    ManifestList,
    /// Statistics about a snapshot.
    Statistics,
}

/// A file that no snapshot of the table needs any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnusedFile {
    /// Where it is, as the metadata wrote it.
    pub location: String,
    /// What it is.
    pub kind: FileKind,
    /// Its rows; zero where it has none.
    pub rows: u64,
    /// Its size; zero where nobody wrote it down.
    pub bytes: u64,
}

impl UnusedFile {
    fn content(file: &DataFile) -> Self {
        let kind = match file.content {
            DataContentType::Data => FileKind::Data,
            DataContentType::PositionDeletes => FileKind::PositionDeletes,
            DataContentType::EqualityDeletes => FileKind::EqualityDeletes,
        };
        let (rows, bytes) = (file.record_count, file.file_size_in_bytes);
        Self { location: file.file_path.clone(), kind, rows, bytes }
    }

    fn other(location: &str, kind: FileKind, bytes: u64) -> Self {
        Self { location: location.to_string(), kind, rows: 0, bytes }
    }
}

/// Some of the snapshots of a table, and the statistics of these.
#[derive(Debug, Clone, Default)]
pub(super) struct Side {
    pub snapshots: Vec<SnapshotRef>,
    pub statistics: Vec<(String, u64)>,
}

impl Side {
    /// The snapshots of `metadata` for which `take` is true.
    pub(super) fn of(metadata: &TableMetadata, take: impl Fn(i64) -> bool) -> Self {
        let snapshots = snapshots_of(metadata).into_iter().filter(|s| take(s.snapshot_id()));
        let size = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
        let tables = metadata.statistics_iter().filter(|s| take(s.snapshot_id));
        let parts = metadata.partition_statistics_iter().filter(|s| take(s.snapshot_id));
        let mut statistics: Vec<(String, u64)> = tables
            .map(|s| (s.statistics_path.clone(), size(s.file_size_in_bytes)))
            .chain(parts.map(|s| (s.statistics_path.clone(), size(s.file_size_in_bytes))))
            .collect();
        statistics.sort();
        Self { snapshots: snapshots.cloned().collect(), statistics }
    }
}

/// The files that `gone` needs and `stay` does not (MNT-21).
pub(super) fn unused(
    table: &Table,
    gone: Side,
    stay: Side,
    budget_bytes: u64,
) -> BoxStream<'static, Result<UnusedFile>> {
    let table = table.clone();
    let whole = async move {
        if gone.snapshots.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let search = Search::new(table, gone, stay, budget_bytes).await?;
        let metadata = search.metadata_files();
        Ok::<_, Error>(search.content_files().chain(metadata).boxed())
    };
    stream::once(whole).try_flatten().boxed()
}

struct Search {
    table: Table,
    gone: Side,
    stay: Side,
    /// Manifests that no snapshot lists any more.
    manifests: Vec<ManifestFile>,
    passes: u64,
}

impl Search {
    async fn new(table: Table, gone: Side, stay: Side, budget_bytes: u64) -> Result<Self> {
        let mut listed = HashSet::new();
        for snapshot in &stay.snapshots {
            let manifests = table.manifests(snapshot).await?;
            listed.extend(manifests.iter().map(|m| fingerprint(&normal(&m.manifest_path))));
        }
        let mut found = Vec::new();
        for snapshot in &gone.snapshots {
            for manifest in known(table.manifests(snapshot).await)?.iter().flat_map(|m| m.iter()) {
                if listed.insert(fingerprint(&normal(&manifest.manifest_path))) {
                    let manifest = ManifestFile { partitions: None, ..manifest.clone() };
                    found.push(manifest);
                }
            }
        }
        let files: u64 = found.iter().map(file_count).sum();
        let passes = (files * BYTES_PER_FILE).div_ceil(budget_bytes.max(1)).max(1);
        Ok(Self { table, gone, stay, manifests: found, passes })
    }

    /// Data and delete files, in as many passes as the budget asks for.
    fn content_files(self) -> BoxStream<'static, Result<UnusedFile>> {
        let passes = self.passes;
        let search = Arc::new(self);
        stream::iter(0..passes).flat_map(move |pass| search.clone().pass(pass)).boxed()
    }

    /// The content files of one part of the fingerprints, manifest by manifest.
    fn pass(self: Arc<Self>, pass: u64) -> BoxStream<'static, Result<UnusedFile>> {
        let manifests = async move {
            let unused = self.fingerprints(pass).await?;
            Ok::<_, Error>(stream::try_unfold(
                (self, unused, 0),
                |(search, mut unused, at)| async move {
                    let Some(manifest) = search.manifests.get(at) else {
                        return Ok::<_, Error>(None);
                    };
                    let files = search.take(manifest, &mut unused).await?;
                    Ok(Some((stream::iter(files.into_iter().map(Ok)), (search, unused, at + 1))))
                },
            ))
        };
        stream::once(manifests).try_flatten().try_flatten().boxed()
    }

    /// The live files of manifests that went, less those of manifests that stay.
    async fn fingerprints(&self, pass: u64) -> Result<HashSet<u128>> {
        let mut unused = HashSet::new();
        for manifest in &self.manifests {
            let live = known(live(&self.table, manifest).await)?.unwrap_or_default();
            unused.extend(
                live.iter().map(|file| print_of(file)).filter(|print| self.is_in(*print, pass)),
            );
        }
        let mut seen = HashSet::new();
        for snapshot in self.stay.snapshots.iter().rev() {
            if unused.is_empty() {
                break;
            }
            let manifests = self.table.manifests(snapshot).await?;
            let fresh: Vec<ManifestFile> = manifests
                .iter()
                .filter(|m| seen.insert(fingerprint(&m.manifest_path)))
                .cloned()
                .collect();
            let mut read = stream::iter(fresh)
                .map(|manifest| async move { live(&self.table, &manifest).await })
                .buffer_unordered(READERS);
            while let Some(files) = read.try_next().await? {
                files.iter().for_each(|file| {
                    unused.remove(&print_of(file));
                });
            }
        }
        Ok(unused)
    }

    fn is_in(&self, print: u128, pass: u64) -> bool {
        (print as u64) % self.passes == pass
    }

    /// The unused files of one manifest; each file is given out once.
    async fn take(
        &self,
        manifest: &ManifestFile,
        unused: &mut HashSet<u128>,
    ) -> Result<Vec<UnusedFile>> {
        let live = known(live(&self.table, manifest).await)?.unwrap_or_default();
        let mine = live.iter().filter(|file| unused.remove(&print_of(file)));
        Ok(mine.map(|file| UnusedFile::content(file)).collect())
    }

    /// Manifests, lists and statistics, in this order: what an interrupted run leaves can still
    /// be explained by what is left of the metadata.
    fn metadata_files(&self) -> stream::Iter<std::vec::IntoIter<Result<UnusedFile>>> {
        let mut kept: HashSet<String> =
            self.stay.snapshots.iter().map(|s| normal(s.manifest_list())).collect();
        kept.extend(self.stay.statistics.iter().map(|(location, _)| normal(location)));
        let size = |m: &ManifestFile| u64::try_from(m.manifest_length).unwrap_or(0);
        let manifests = self
            .manifests
            .iter()
            .map(|m| UnusedFile::other(&m.manifest_path, FileKind::Manifest, size(m)));
        let lists = self.gone.snapshots.iter().map(|s| (s.manifest_list(), FileKind::ManifestList));
        let lists = lists.map(|(location, kind)| UnusedFile::other(location, kind, 0));
        let statistics = self
            .gone
            .statistics
            .iter()
            .map(|(location, bytes)| UnusedFile::other(location, FileKind::Statistics, *bytes));
        let files: Vec<Result<UnusedFile>> = manifests
            .chain(lists.chain(statistics).filter(|file| kept.insert(normal(&file.location))))
            .map(Ok)
            .collect();
        stream::iter(files)
    }
}

/// What an expired snapshot needed and is gone already needs no deletion.
fn known<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

async fn live(table: &Table, manifest: &ManifestFile) -> Result<Vec<Arc<DataFile>>> {
    let entries = table.entries(manifest).await?;
    Ok(entries.iter().filter(|e| e.is_live()).map(|e| e.file.clone()).collect())
}

fn print_of(file: &DataFile) -> u128 {
    fingerprint(&normal(&file.file_path))
}

/// Files that a manifest may hold; unknown counts count for much.
fn file_count(manifest: &ManifestFile) -> u64 {
    let count = |n: Option<u32>| u64::from(n.unwrap_or(10_000));
    count(manifest.added_files_count) + count(manifest.existing_files_count)
}
