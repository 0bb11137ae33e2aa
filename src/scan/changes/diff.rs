//! Which manifests, and which entries in them, tell a snapshot from its parent, or from any other
//! snapshot.
//!
//! A snapshot and its parent share most manifests; what came and went is in those they do not
//! share. Entry statuses say which files those are, and the counts of the manifest lists prove
//! that the statuses tell everything; where they do not, and between snapshots that are not
//! parent and child, paths are compared.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use crate::error::Result;
use crate::spec::{
    ManifestContentType, ManifestEntry, ManifestFile, ManifestStatus, SnapshotRef, StableHasher,
};
use crate::table::Table;

use super::Base;

/// Manifests that are read at once.
const READERS: usize = 4;

/// A snapshot's manifests against those of its base.
pub(super) struct ManifestDiff {
    table: Table,
    /// Those of the snapshot, then those that only the base has.
    pub manifests: Vec<ManifestFile>,
    /// How many of them are the snapshot's.
    pub own: usize,
    /// Of the snapshot's: those that the base lacks.
    pub is_new: Vec<bool>,
    /// The base is in the table, or there never was one.
    base_known: bool,
    /// The base is the parent: statuses speak of the step between them.
    is_step: bool,
}

/// A file that came or went, by its place.
pub(super) struct Moved {
    pub manifest: usize,
    pub entry: usize,
    pub added: bool,
}

impl ManifestDiff {
    /// Reads both manifest lists.
    pub(super) async fn load(table: &Table, base: Base, snapshot: &SnapshotRef) -> Result<Self> {
        let mut manifests = table.manifests(snapshot).await?.to_vec();
        let own = manifests.len();
        let (is_step, table) = (!matches!(base, Base::Snapshot(_)), table.clone());
        let Some(base) = manifests_of(&table, base, snapshot).await? else {
            let id = snapshot.snapshot_id();
            let is_new = manifests.iter().map(|m| m.added_snapshot_id == id).collect();
            return Ok(Self { table, manifests, own, is_new, base_known: false, is_step });
        };
        let before: HashSet<&str> = base.iter().map(|m| m.manifest_path.as_str()).collect();
        let after: HashSet<&str> = manifests.iter().map(|m| m.manifest_path.as_str()).collect();
        let is_new = manifests.iter().map(|m| !before.contains(m.manifest_path.as_str())).collect();
        let gone: Vec<ManifestFile> =
            base.iter().filter(|m| !after.contains(m.manifest_path.as_str())).cloned().collect();
        manifests.extend(gone);
        Ok(Self { table, manifests, own, is_new, base_known: true, is_step })
    }

    /// True when both have the same manifests, and so the same files and deletes.
    pub(super) fn is_empty(&self) -> bool {
        self.own == self.manifests.len() && !self.is_new.contains(&true)
    }

    /// The new manifests of one content.
    pub(super) fn new_manifests(
        &self,
        content: ManifestContentType,
    ) -> impl Iterator<Item = (usize, &ManifestFile)> {
        let own = self.manifests.iter().take(self.own).zip(&self.is_new).enumerate();
        own.filter(move |(_, (m, is_new))| **is_new && m.content == content)
            .map(|(at, (manifest, _))| (at, manifest))
    }

    fn gone(&self, content: ManifestContentType) -> impl Iterator<Item = (usize, &ManifestFile)> {
        let all = self.manifests.iter().enumerate().skip(self.own);
        all.filter(move |(_, m)| m.content == content)
    }

    /// Whether files of this content may have gone.
    pub(super) fn may_remove(&self, content: ManifestContentType) -> bool {
        !self.statuses_tell_all(content)
            || self.new_manifests(content).any(|(_, m)| m.deleted_files_count != Some(0))
    }

    /// Whether files of this content may have come.
    pub(super) fn may_add(&self, content: ManifestContentType) -> bool {
        !self.statuses_tell_all(content)
            || self.new_manifests(content).any(|(_, m)| m.added_files_count != Some(0))
    }

    /// Every live file of the manifests that went is carried over or marked as removed in those
    /// that came (CHG-3). Without the base there is nothing to compare with.
    pub(super) fn statuses_tell_all(&self, content: ManifestContentType) -> bool {
        if !self.is_step {
            return false;
        }
        if !self.base_known {
            return true;
        }
        let live = |m: &ManifestFile| {
            Some(u64::from(m.added_files_count?) + u64::from(m.existing_files_count?))
        };
        let told = |m: &ManifestFile| {
            Some(u64::from(m.existing_files_count?) + u64::from(m.deleted_files_count?))
        };
        let gone: Option<u64> = self.gone(content).map(|(_, m)| live(m)).sum();
        let told: Option<u64> = self.new_manifests(content).map(|(_, m)| told(m)).sum();
        gone.is_some() && gone == told
    }

    /// The files of one content that came and went, in the order of manifests and entries.
    pub(super) async fn moved(&self, content: ManifestContentType) -> Result<Vec<Moved>> {
        if self.statuses_tell_all(content) {
            return self.by_status(content).await;
        }
        self.by_path(content).await
    }

    async fn by_status(&self, content: ManifestContentType) -> Result<Vec<Moved>> {
        let changed =
            |m: &ManifestFile| m.added_files_count != Some(0) || m.deleted_files_count != Some(0);
        let wanted: Vec<_> = self.new_manifests(content).filter(|(_, m)| changed(m)).collect();
        let mut found = Vec::new();
        let mut read = self.read(wanted);
        while let Some((manifest, entries)) = read.try_next().await? {
            for (entry, of) in entries.iter().enumerate() {
                let added = is_added(of);
                if added || of.status == ManifestStatus::Deleted {
                    found.push(Moved { manifest, entry, added });
                }
            }
        }
        Ok(found)
    }

    /// Compares by path. Memory: 24 bytes a live file of the manifests that differ.
    async fn by_path(&self, content: ManifestContentType) -> Result<Vec<Moved>> {
        let live = |entries: &[ManifestEntry]| -> Vec<(usize, u64)> {
            let live = entries.iter().enumerate().filter(|(_, e)| e.is_live());
            live.map(|(at, e)| (at, identity(e))).collect()
        };
        let mut before: HashMap<u64, (usize, usize)> = HashMap::new();
        let mut gone = self.read(self.gone(content).collect());
        while let Some((manifest, entries)) = gone.try_next().await? {
            before.extend(live(&entries).into_iter().map(|(at, hash)| (hash, (manifest, at))));
        }
        drop(gone);
        let mut found = Vec::new();
        let mut new = self.read(self.new_manifests(content).collect());
        while let Some((manifest, entries)) = new.try_next().await? {
            for (entry, hash) in live(&entries) {
                if before.remove(&hash).is_none() {
                    found.push(Moved { manifest, entry, added: true });
                }
            }
        }
        let left = before.into_values();
        found.extend(left.map(|(manifest, entry)| Moved { manifest, entry, added: false }));
        found.sort_by_key(|moved| (moved.manifest, moved.entry));
        Ok(found)
    }

    /// Entries of manifests, in the order given.
    pub(super) fn read<'a>(
        &'a self,
        manifests: Vec<(usize, &'a ManifestFile)>,
    ) -> stream::BoxStream<'a, Result<(usize, Arc<Vec<ManifestEntry>>)>> {
        let read = move |(at, manifest): (usize, &'a ManifestFile)| async move {
            Ok((at, self.table.entries(manifest).await?))
        };
        stream::iter(manifests).map(read).buffered(READERS).boxed()
    }
}

/// In a manifest that the parent lacks, an entry of this status is new to the table.
pub(super) fn is_added(entry: &ManifestEntry) -> bool {
    entry.status == ManifestStatus::Added
}

/// A file that was put back under another sequence number is another file: other deletes apply.
fn identity(entry: &ManifestEntry) -> u64 {
    let mut hash = StableHasher::default();
    hash.bytes(entry.file.file_path.as_bytes()).number(entry.sequence_number.0 as u64);
    hash.finish()
}

/// The manifests of a snapshot's base; `None` when its parent expired.
async fn manifests_of(
    table: &Table,
    base: Base,
    snapshot: &SnapshotRef,
) -> Result<Option<Arc<Vec<ManifestFile>>>> {
    let base = match base {
        Base::Snapshot(id) => id.map(|id| table.snapshot(id)).transpose()?,
        Base::Parent | Base::Unclaimed => match snapshot.parent_snapshot_id() {
            None => None,
            Some(id) => match table.metadata().snapshot_by_id(id) {
                Some(parent) => Some(parent.clone()),
                None => return Ok(None),
            },
        },
    };
    match base {
        Some(base) => table.manifests(&base).await.map(Some),
        None => Ok(Some(Arc::default())),
    }
}
