//! Equality deletes of more keys than memory may hold.
//!
//! For a set of data files at once: the keys are loaded in hash parts, one after the other, and
//! for each part the key columns of every file of the set are probed. What is found dead goes
//! into a bitmap a file, and the files are then read like files with position deletes. Cost:
//! delete files and key columns are read once a part and set; memory: one part, and the bitmaps.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use roaring::RoaringTreemap;
use tracing::debug;

use super::probe::named_rows;
use super::task::{Prepared, TaskReader, in_task};
use crate::deletes::{EqualityDeleteMap, HashPartition, OversizedDeletes};
use crate::error::{Error, Result};
use crate::scan::FileScanTask;

/// Finds the rows of `tasks` that die by their oversized deletes.
pub(super) async fn resolve(reader: &Arc<TaskReader>, tasks: &mut [Prepared]) -> Result<()> {
    for (deletes, members) in groups(tasks) {
        debug!(parts = deletes.parts, files = members.len(), "equality deletes in parts");
        for index in 0..deletes.parts {
            let part = HashPartition { index, of: deletes.parts };
            let map = Arc::new(reader.loader().part(&deletes, part).await?);
            let probes = members.iter().filter_map(|at| {
                let task = tasks.get(*at)?.task.clone();
                let (reader, map, at) = (reader.clone(), map.clone(), *at);
                Some(async move {
                    let mut found = tokio::task::JoinSet::new();
                    found.spawn(async move { probe(&reader, &task, &map).await });
                    match found.join_next().await {
                        Some(Ok(dead)) => dead.map(|dead| (at, dead)),
                        _ => Err(Error::internal("a probe of equality deletes broke off")),
                    }
                })
            });
            let probes: Vec<_> = probes.collect();
            let mut found = stream::iter(probes).buffer_unordered(reader.parallelism);
            while let Some((at, dead)) = found.try_next().await? {
                if let Some(task) = tasks.get_mut(at) {
                    task.found_dead |= dead;
                }
            }
        }
    }
    Ok(())
}

/// Tasks by the deletes that they share: one scope and set of columns, the union of the files.
/// A part may then hold keys of files that statistics ruled out for a task: they meet no row.
fn groups(tasks: &[Prepared]) -> Vec<(OversizedDeletes, Vec<usize>)> {
    let mut groups: Vec<(OversizedDeletes, Vec<usize>)> = Vec::new();
    for (at, task) in tasks.iter().enumerate() {
        for deletes in &task.equality.oversized {
            let same = |(group, _): &&mut (OversizedDeletes, Vec<usize>)| {
                group.scope == deletes.scope && group.columns == deletes.columns
            };
            match groups.iter_mut().find(same) {
                None => groups.push((deletes.clone(), vec![at])),
                Some((group, members)) => {
                    members.push(at);
                    group.parts = group.parts.max(deletes.parts);
                    group.files.extend(deletes.files.iter().cloned());
                }
            }
        }
    }
    for (group, _) in &mut groups {
        group.files.sort_by(|a, b| a.file.file_path.cmp(&b.file.file_path));
        group.files.dedup_by(|a, b| a.file.file_path == b.file.file_path);
    }
    groups
}

/// The positions of a data file that one part of the keys names.
async fn probe(
    reader: &TaskReader,
    task: &FileScanTask,
    map: &EqualityDeleteMap,
) -> Result<RoaringTreemap> {
    let found =
        named_rows(&reader.context, &task.file, task.sequence_number, &[map], |_, _| Ok(())).await;
    found.map_err(|e| in_task(e, task))
}
