//! Decodes what a unit's files hold before the unit's turn.
//!
//! What a unit says depends on what earlier ones left behind; the bytes of the files that it adds,
//! and the keys that its deletes name, do not. So decoding goes ahead, and nothing else does.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use roaring::RoaringTreemap;
use tokio::task::JoinSet;

use super::ChangeReader;
use super::hold::hold;
use super::sources::{Source, SourceKind, SourceReader};
use super::unit::Parts;
use crate::error::Result;
use crate::scan::{Role, SnapshotChanges};
use crate::spec::SchemaRef;

/// Batches by path of their file.
type Decoded = HashMap<String, Arc<Vec<RecordBatch>>>;

/// Decoding of one unit's files that goes on; it stops when this is dropped.
#[derive(Debug)]
pub struct UnitAhead {
    work: JoinSet<Result<Decoded>>,
}

impl UnitAhead {
    pub(super) fn begin(
        reader: Arc<ChangeReader>,
        schema: SchemaRef,
        changes: Arc<SnapshotChanges>,
        unit: usize,
        budget: u64,
    ) -> Self {
        let mut work = JoinSet::new();
        work.spawn(decode(reader, schema, changes, unit, budget));
        Self { work }
    }

    /// Gives to sources what was decoded of them. Failures show again when they are read.
    pub(super) async fn give<'a>(mut self, sources: impl Iterator<Item = &'a mut Source>) {
        let Some(Ok(Ok(decoded))) = self.work.join_next().await else { return };
        for source in sources.filter(|source| source.kind != SourceKind::Picked) {
            source.held = decoded.get(&source.file.file_path).cloned();
        }
    }
}

async fn decode(
    reader: Arc<ChangeReader>,
    schema: SchemaRef,
    changes: Arc<SnapshotChanges>,
    unit: usize,
    budget: u64,
) -> Result<Decoded> {
    let Parts { key, files, keys, .. } = Parts::of(&reader, &changes, unit).await?;
    let added = files.iter().filter(|file| file.role == Role::Added).map(|file| {
        let mut rows = RoaringTreemap::new();
        rows.insert_range(0..file.file.record_count);
        Source {
            file: file.file.clone(),
            rows,
            kind: SourceKind::Moved,
            sequence_number: file.sequence_number,
            held: None,
        }
    });
    let mut sources: Vec<Source> = added.chain(keys.iter().map(Source::keys)).collect();
    let reader = SourceReader::new(reader, schema, key, changes.id())?;
    hold(&reader, sources.iter_mut(), budget).await?;
    let held = sources.into_iter().filter_map(|s| Some((s.file.file_path.clone(), s.held?)));
    Ok(held.collect())
}
