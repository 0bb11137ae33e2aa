//! New manifests: live entries in the order of their partitions.

use std::collections::HashMap;

use futures::TryStreamExt;

use super::order::{Partitions, entries};
use super::plan::ManifestGroup;
use crate::error::Result;
use crate::maintenance::Progress;
use crate::manifest::ManifestWriter;
use crate::spec::{ManifestEntry, ManifestFile};
use crate::table::{MAX_ENTRIES, Table};
use crate::write::Cleanup;

/// Bytes of an entry in memory, about: a file with bounds of a few dozen columns.
const ENTRY_BYTES: u64 = 2048;

/// Manifests that belong to no snapshot yet: removed when this is dropped, unless they are kept.
pub(super) struct Written {
    pub manifests: Vec<ManifestFile>,
    pub cleanup: Cleanup,
}

/// Writes the live entries of a group; `None` if it was asked to stop. Without success no
/// manifest stays.
pub(super) async fn write(
    table: &Table,
    group: &ManifestGroup,
    target_bytes: u64,
    memory_bytes: u64,
    progress: &dyn Progress,
) -> Result<Option<Written>> {
    let mut rolling = Rolling::new(table, group, target_bytes);
    let done = write_all(&mut rolling, group, memory_bytes, progress).await;
    match done {
        Ok(true) => Ok(Some(Written { manifests: rolling.done, cleanup: rolling.cleanup })),
        Ok(false) => {
            rolling.cleanup.run().await;
            Ok(None)
        }
        Err(error) => {
            rolling.cleanup.run().await;
            Err(error)
        }
    }
}

async fn write_all(
    rolling: &mut Rolling<'_>,
    group: &ManifestGroup,
    memory_bytes: u64,
    progress: &dyn Progress,
) -> Result<bool> {
    let table = rolling.table;
    // Not those of the plan: these may be the small manifests only.
    let partitions = Partitions::of(table, &group.files).await?;
    for range in partitions.ranges((memory_bytes / ENTRY_BYTES).max(1)) {
        let place: HashMap<_, usize> = range.iter().enumerate().map(|(n, (p, _))| (p, n)).collect();
        let mut found: Vec<(usize, ManifestEntry)> = Vec::new();
        let mut reading = std::pin::pin!(entries(table, &group.files));
        while let Some(entries) = reading.try_next().await? {
            if progress.should_stop() {
                return Ok(false);
            }
            for entry in entries.iter().filter(|e| e.is_live()) {
                match place.get(&entry.file.partition_key()) {
                    // One partition needs no sorting, however large it is.
                    Some(_) if range.len() == 1 => rolling.push(entry).await?,
                    Some(at) => found.push((*at, entry.clone())),
                    None => {}
                }
            }
        }
        // Within a partition entries keep their order.
        found.sort_by_key(|(at, _)| *at);
        for (_, entry) in &found {
            rolling.push(entry).await?;
        }
    }
    rolling.close().await?;
    progress.advance(group.files.len() as u64);
    Ok(true)
}

/// One manifest after the other.
struct Rolling<'a> {
    table: &'a Table,
    group: &'a ManifestGroup,
    target_bytes: u64,
    current: Option<ManifestWriter>,
    done: Vec<ManifestFile>,
    cleanup: Cleanup,
}

impl<'a> Rolling<'a> {
    fn new(table: &'a Table, group: &'a ManifestGroup, target_bytes: u64) -> Self {
        let cleanup = Cleanup::new(table.storage().clone());
        Self { table, group, target_bytes, current: None, done: Vec::new(), cleanup }
    }

    async fn push(&mut self, entry: &ManifestEntry) -> Result<()> {
        let mut writer = match self.current.take() {
            Some(writer) => writer,
            None => self.table.manifest_writer(self.group.content, self.group.spec_id)?,
        };
        writer.existing(entry)?;
        let full =
            writer.len_hint() as u64 >= self.target_bytes || writer.entry_count() >= MAX_ENTRIES;
        self.current = Some(writer);
        if full { self.close().await } else { Ok(()) }
    }

    async fn close(&mut self) -> Result<()> {
        let Some(writer) = self.current.take() else { return Ok(()) };
        let id = self.table.environment().ids.uuid();
        let location = format!("{}/{id}-m0.avro", self.table.manifest_location());
        let (bytes, manifest) = writer.finish(&location)?;
        self.cleanup.paths().note(&location);
        self.table.storage().write(&location, bytes).await?;
        self.done.push(manifest);
        Ok(())
    }
}
