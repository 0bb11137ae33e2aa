//! Which rows of a data file deletes name: position deletes as they are, equality deletes by
//! reading the file's key columns.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use roaring::RoaringTreemap;

use crate::deletes::{
    DeleteFile, DeleteLoader, EqualityDeleteMap, HashPartition, KeyColumns, graft,
    identity_constants,
};
use crate::error::{Error, Result};
use crate::file::{self, FileRead, reserved};
use crate::scan::ScanContext;
use crate::spec::{DataFile, Schema, SequenceNumber, Type};

/// The rows of a data file that `deletes` kill, whatever they are.
///
/// Cost: its key columns are read once, and once more for every part of deletes that memory
/// cannot hold. Memory: the loader's budget, and the bitmap.
pub(in crate::read) async fn dead_rows(
    context: &ScanContext,
    loader: &DeleteLoader,
    data: &DataFile,
    sequence: SequenceNumber,
    deletes: &[DeleteFile],
) -> Result<RoaringTreemap> {
    let by_position = loader.positions(data, deletes).await?;
    let mut dead = by_position.map(|d| d.as_ref().clone()).unwrap_or_default();
    let equality = loader.equality(deletes).await?;
    let maps: Vec<&EqualityDeleteMap> = equality.maps.iter().map(Arc::as_ref).collect();
    dead |= named_rows(context, data, sequence, &maps, |_, _| Ok(())).await?;
    for deletes in &equality.oversized {
        for index in 0..deletes.parts {
            let part = HashPartition { index, of: deletes.parts };
            let map = loader.part(deletes, part).await?;
            dead |= named_rows(context, data, sequence, &[&map], |_, _| Ok(())).await?;
        }
    }
    Ok(dead)
}

/// The rows that any of the maps names. `see` gets each batch of key columns on its way, with
/// the first row's position.
pub(in crate::read) async fn named_rows(
    context: &ScanContext,
    data: &DataFile,
    sequence: SequenceNumber,
    maps: &[&EqualityDeleteMap],
    mut see: impl FnMut(&RecordBatch, &[i64]) -> Result<()>,
) -> Result<RoaringTreemap> {
    let mut dead = RoaringTreemap::new();
    let maps: Vec<_> = maps.iter().filter(|map| !map.is_harmless_to(sequence)).collect();
    if maps.is_empty() {
        return Ok(dead);
    }
    let keys: Vec<&KeyColumns> = maps.iter().map(|map| map.columns()).collect();
    let (request, pos_at) = key_request(context, data, &keys)?;
    let mut batches = file::read(context.table.storage(), request).await?;
    while let Some(batch) = batches.try_next().await? {
        let Some(positions) = batch.column(pos_at).as_primitive_opt::<Int64Type>() else {
            return Err(Error::internal("row positions are not long integers"));
        };
        see(&batch, positions.values())?;
        for map in &maps {
            let Some(alive) = map.alive(&batch, sequence)? else { continue };
            let rows = (!&alive).set_indices().collect::<Vec<_>>();
            let named = rows.into_iter().filter_map(|row| positions.values().get(row));
            dead.extend(named.map(|position| *position as u64));
        }
    }
    Ok(dead)
}

/// Reads the key columns of a file, and its positions behind them.
fn key_request(
    context: &ScanContext,
    data: &DataFile,
    keys: &[&KeyColumns],
) -> Result<(FileRead, usize)> {
    let mut fields = Vec::new();
    for columns in keys {
        for field in columns.schema()?.as_struct().fields() {
            merge(&mut fields, field);
        }
    }
    graft(&mut fields, &[reserved::pos()]);
    let pos_at = fields.len().saturating_sub(1);
    let schema = Arc::new(Schema::builder().with_fields(fields).build()?);
    let mut request = FileRead::new(data.file_path.clone(), schema);
    request.file_size_in_bytes = Some(data.file_size_in_bytes);
    request.constants = identity_constants(data, context.table.metadata())?;
    request.name_mapping = context.name_mapping.clone();
    Ok((request, pos_at))
}

/// Adds a field with all that is inside it.
fn merge(fields: &mut Vec<crate::spec::NestedFieldRef>, field: &crate::spec::NestedFieldRef) {
    fn walk(
        fields: &mut Vec<crate::spec::NestedFieldRef>,
        path: &mut Vec<crate::spec::NestedFieldRef>,
    ) {
        let Some(last) = path.last().cloned() else { return };
        match &*last.field_type {
            Type::Struct(inner) => {
                for child in inner.fields() {
                    path.push(child.clone());
                    walk(fields, path);
                    path.pop();
                }
            }
            _ => graft(fields, path),
        }
    }
    walk(fields, &mut vec![field.clone()]);
}
