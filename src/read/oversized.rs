//! Equality deletes of more keys than memory may hold.
//!
//! For a set of data files at once: the keys are loaded in hash parts, one after the other, and
//! for each part the key columns of every file of the set are probed. What is found dead goes
//! into a bitmap a file, and the files are then read like files with position deletes. Cost:
//! delete files and key columns are read once a part and set; memory: one part, and the bitmaps.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::{StreamExt, TryStreamExt, stream};
use roaring::RoaringTreemap;
use tracing::debug;

use super::task::{Prepared, TaskReader, in_task};
use crate::deletes::{
    EqualityDeleteMap, HashPartition, OversizedDeletes, graft, identity_constants,
};
use crate::error::{Error, Result};
use crate::file::{self, FileRead, reserved};
use crate::scan::FileScanTask;
use crate::spec::{NestedField, PrimitiveType, Schema, Type};

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
    let named = |e: Error| in_task(e, task);
    let mut dead = RoaringTreemap::new();
    if map.is_harmless_to(task.sequence_number) {
        return Ok(dead);
    }
    let mut fields = map.columns().schema()?.as_struct().fields().to_vec();
    let pos = NestedField::required(reserved::POS, "_pos", Type::Primitive(PrimitiveType::Long));
    graft(&mut fields, &[Arc::new(pos)]);
    let at = fields.len().saturating_sub(1);
    let mut request = FileRead::new(
        task.file.file_path.clone(),
        Arc::new(Schema::builder().with_fields(fields).build()?),
    );
    request.file_size_in_bytes = Some(task.file.file_size_in_bytes);
    request.constants = identity_constants(&task.file, reader.context.table.metadata())?;
    request.name_mapping = reader.context.name_mapping.clone();
    let mut keys = file::read(reader.context.table.storage(), request).await.map_err(named)?;
    while let Some(batch) = keys.try_next().await.map_err(named)? {
        let Some(alive) = map.alive(&batch, task.sequence_number)? else { continue };
        let Some(positions) = batch.column(at).as_primitive_opt::<Int64Type>() else {
            return Err(Error::internal("row positions are not long integers"));
        };
        let rows = (!&alive).set_indices().collect::<Vec<_>>();
        dead.extend(rows.into_iter().filter_map(|r| positions.values().get(r)).map(|p| *p as u64));
    }
    Ok(dead)
}
