//! The changes of one unit: resolve, cancel what was carried over, pair, hand out.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::ahead::UnitAhead;
use super::emit::Emitter;
use super::hold::{fitting, hold};
use super::pairing::{Matched, Pairing, Rule};
use super::resolve::ResolvedFile;
use super::sources::{Compare, Source, SourceKind, SourceReader};
use super::{ChangeReader, ChangeRows, Emit};
use crate::deletes::{DeleteFile, KeyColumns};
use crate::error::{Error, Result};
use crate::scan::{ChangeUnit, ChangedFile, Role, SnapshotChanges};
use crate::spec::{DataContentType, SchemaRef};

/// Batches that wait for the caller.
const AHEAD: usize = 2;

/// Reads one unit, with one part in `share` of the memory for pairing. The work stops when the
/// stream is dropped.
pub(super) fn read(
    reader: Arc<ChangeReader>,
    schema: SchemaRef,
    changes: Arc<SnapshotChanges>,
    unit: usize,
    (from, share): (u64, u64),
    ahead: Option<UnitAhead>,
) -> BoxStream<'static, Result<ChangeRows>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let mut work = JoinSet::new();
    work.spawn(async move {
        let snapshot = changes.snapshot().snapshot_id();
        let place = (from, share);
        if let Err(error) = produce(reader, schema, changes, unit, place, ahead, &sender).await {
            let named = error.context().any(|(key, _)| key == "snapshot");
            let error = if named { error } else { error.with_context("snapshot", snapshot) };
            let _ = sender.send(Err(error)).await;
        }
    });
    stream::try_unfold((receiver, work), |(mut receiver, mut work)| async move {
        match receiver.recv().await {
            Some(rows) => Ok(Some((rows?, (receiver, work)))),
            None => match work.join_next().await {
                Some(Err(e)) => Err(super::broke_off(e)),
                _ => Ok(None),
            },
        }
    })
    .boxed()
}

async fn produce(
    reader: Arc<ChangeReader>,
    schema: SchemaRef,
    changes: Arc<SnapshotChanges>,
    unit: usize,
    (from, share): (u64, u64),
    ahead: Option<UnitAhead>,
    sender: &mpsc::Sender<Result<ChangeRows>>,
) -> Result<()> {
    if reader.options.emit == Emit::Appends {
        return Err(Error::invalid("the snapshot removes rows, which `appends` cannot show")
            .with_hint("follow `upserts` or `changes`"));
    }
    let Parts { key, files, passed, keys } = Parts::of(&reader, &changes, unit).await?;
    if !passed.is_empty() {
        reader.resolver.forget(&passed)?;
    }
    let resolver = reader.resolver_of(&changes)?;
    let resolved = resolver.resolve(&changes, files).await?;
    let sources = SourceReader::new(reader.clone(), schema, key, changes.id())?;
    let mut unit = UnitRows::of(&resolved, &keys, changes.is_net());
    if let Some(ahead) = ahead {
        ahead.give(unit.insertions.iter_mut().chain(&mut unit.deletions)).await;
    }
    let budget = reader.options.memory_budget / 4 / share.max(1);
    unit.hand_out(&sources, budget, from, sender).await?;
    match changes.is_net() {
        true => Ok(()),
        false => resolver.remember(&changes, &resolved),
    }
}

/// What a unit consists of, before anything is known of its rows.
pub(super) struct Parts {
    pub key: Option<KeyColumns>,
    /// Files whose rows have to be looked at.
    pub files: Vec<ChangedFile>,
    /// Files that need no look, because deletes name the keys.
    passed: Vec<ChangedFile>,
    /// Those deletes.
    pub keys: Vec<DeleteFile>,
}

impl Parts {
    pub(super) async fn of(
        reader: &ChangeReader,
        changes: &SnapshotChanges,
        unit: usize,
    ) -> Result<Self> {
        let Some(unit) = changes.units().get(unit) else {
            return Err(Error::internal("a snapshot has no such change unit"));
        };
        let files = changes.files_of(unit).await?;
        let files = match changes.is_net() {
            true => reader.columns.may_show(files),
            false => files,
        };
        let key = unit_key(reader, changes, &files)?;
        Ok(match key {
            // Between any two snapshots a key that a delete names may live on in a file of both.
            Some(key) if reader.columns.upserts && !changes.is_net() => {
                let (files, passed, keys) = known_by_key(unit, files, &key);
                Self { key: Some(key), files, passed, keys }
            }
            key => Self { key, files, passed: Vec::new(), keys: Vec::new() },
        })
    }
}

/// The key: the reader's, else the one set of columns that the unit's equality deletes compare;
/// for a net difference, all equality deletes of both sides.
fn unit_key(
    reader: &ChangeReader,
    changes: &SnapshotChanges,
    files: &[ChangedFile],
) -> Result<Option<KeyColumns>> {
    let metadata = reader.columns.context.table.metadata();
    if let Some(key) = &reader.columns.key {
        return Ok(Some(key.clone()));
    }
    if changes.is_net() {
        return changes.equality_ids().map(|ids| KeyColumns::resolve(ids, metadata)).transpose();
    }
    let equality = files.iter().flat_map(|f| &f.added).filter(|d| is_equality(d));
    let mut sets: Vec<Vec<i32>> = equality.map(ids).collect();
    sets.sort();
    sets.dedup();
    match sets.as_slice() {
        [one] => KeyColumns::resolve(one, metadata).map(Some),
        _ => Ok(None),
    }
}

fn is_equality(delete: &DeleteFile) -> bool {
    delete.file.content == DataContentType::EqualityDeletes
}

fn ids(delete: &DeleteFile) -> Vec<i32> {
    let mut ids = delete.file.equality_ids.clone().unwrap_or_default();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// For upserts: files that are only touched by equality deletes over the key need no look at
/// their rows, the delete files name the keys (CHG-7). Returns the files to look at, the others,
/// and those deletes.
fn known_by_key(
    unit: &ChangeUnit,
    files: Vec<ChangedFile>,
    key: &KeyColumns,
) -> (Vec<ChangedFile>, Vec<ChangedFile>, Vec<DeleteFile>) {
    let is_ours = |delete: &DeleteFile| {
        let in_scope = unit.partition().is_none_or(|p| *p == delete.file.partition_key());
        is_equality(delete) && ids(delete) == key.ids() && in_scope
    };
    let (passed, left): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| {
        file.role == Role::Touched && file.removed.is_empty() && file.added.iter().all(is_ours)
    });
    let named = passed.iter().flat_map(|f| &f.added).map(|d| (d.file.file_path.clone(), d.clone()));
    let deletes: BTreeMap<String, DeleteFile> = named.collect();
    (left, passed, deletes.into_values().collect())
}

/// The rows that a unit deletes and inserts, each in order.
struct UnitRows {
    deletions: Vec<Source>,
    insertions: Vec<Source>,
    is_net: bool,
}

impl UnitRows {
    fn of(files: &[ResolvedFile], keys: &[DeleteFile], is_net: bool) -> Self {
        let gone = files.iter().filter_map(Source::gone);
        Self {
            deletions: keys.iter().map(Source::keys).chain(gone).collect(),
            insertions: files.iter().filter_map(Source::come).collect(),
            is_net,
        }
    }

    async fn hand_out(
        mut self,
        reader: &SourceReader,
        budget: u64,
        from: u64,
        sender: &mpsc::Sender<Result<ChangeRows>>,
    ) -> Result<()> {
        self.cancel_carried_over(reader, budget).await?;
        let upserts = reader.reader.columns.upserts;
        let pairs_up = reader.key.is_some() && !self.deletions.is_empty();
        let pairs_up = pairs_up && (upserts || !self.insertions.is_empty());
        if pairs_up {
            let all = self.insertions.iter_mut().chain(&mut self.deletions);
            hold(reader, fitting(all, budget), budget).await?;
        }
        let pairing = Pairing {
            reader,
            deletions: &self.deletions,
            insertions: &self.insertions,
            compare: Compare::Keys,
            rule: if upserts { Rule::Any } else { Rule::Each },
            budget,
        };
        let matched = if pairs_up {
            pairing.run().await?
        } else {
            Matched::unpaired(&self.deletions, &self.insertions)
        };
        let mut emitter = Emitter { reader, sender, from, budget: budget / 2, next: 0 };
        emitter.deletions(&self.deletions, &matched).await?;
        let pairing = (!upserts).then_some(&pairing);
        emitter.insertions(&self.deletions, &self.insertions, &matched, pairing).await
    }

    /// Rows that went with one file and came with another are no change (CHG-9); for a net
    /// difference, all equal rows that went and came (CHG-10).
    async fn cancel_carried_over(&mut self, reader: &SourceReader, budget: u64) -> Result<()> {
        let is_net = self.is_net;
        let compared = |source: &Source| is_net || source.kind == SourceKind::Moved;
        let moved = |sources: &[Source]| -> Vec<Source> {
            sources.iter().filter(|s| compared(s)).cloned().collect()
        };
        let (deletions, insertions) = (moved(&self.deletions), moved(&self.insertions));
        if deletions.is_empty() || insertions.is_empty() {
            return Ok(());
        }
        let pairing = Pairing {
            reader,
            deletions: &deletions,
            insertions: &insertions,
            compare: Compare::WholeRows,
            rule: Rule::Each,
            budget,
        };
        let matched = pairing.run().await?;
        let without = |all: &mut Vec<Source>, rows: &[roaring::RoaringTreemap]| {
            let mut rows = rows.iter();
            for source in all.iter_mut().filter(|s| compared(s)) {
                if let Some(carried) = rows.next() {
                    *source = source.without(carried);
                }
            }
            all.retain(|source| source.len() > 0);
        };
        without(&mut self.deletions, &matched.deletions);
        without(&mut self.insertions, &matched.insertions);
        Ok(())
    }
}

impl Matched {
    /// Nothing has a counterpart.
    fn unpaired(deletions: &[Source], insertions: &[Source]) -> Self {
        let none = |sources: &[Source]| vec![roaring::RoaringTreemap::new(); sources.len()];
        Self { deletions: none(deletions), insertions: none(insertions), pairs: Some(Vec::new()) }
    }
}
