//! Puts the changes of a unit in order and hands them out in batches.

use std::collections::{BTreeMap, HashMap};

use arrow::array::BooleanArray;
use arrow::compute::{filter_record_batch, interleave_record_batch};
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use roaring::RoaringTreemap;
use tokio::sync::mpsc;

use super::pairing::{Matched, Pairing, Place};
use super::sources::{Source, SourceKind, SourceReader};
use super::{ChangeKind, ChangeRows};
use crate::error::{Error, Result};

/// Rows that a batch of changes has at most, about.
const BATCH_ROWS: usize = 8192;

/// Hands out the changes of one unit from an ordinal on.
pub(super) struct Emitter<'a> {
    pub reader: &'a SourceReader,
    pub sender: &'a mpsc::Sender<Result<ChangeRows>>,
    /// The first ordinal that is wanted.
    pub from: u64,
    /// Bytes of pre-images and new rows that are held together.
    pub budget: u64,
    /// The next ordinal.
    pub next: u64,
}

/// Some inserted rows that wait for their pre-images.
struct Chunk {
    source: u32,
    batch: RecordBatch,
    positions: Vec<u64>,
}

/// Pre-images by the place of the deleted row.
#[derive(Default)]
struct PreImages {
    batches: Vec<RecordBatch>,
    passes: Vec<Option<BooleanArray>>,
    places: HashMap<Place, (usize, usize)>,
}

impl Emitter<'_> {
    /// Deletions without a counterpart.
    pub(super) async fn deletions(&mut self, sources: &[Source], matched: &Matched) -> Result<()> {
        for (source, matched) in sources.iter().zip(&matched.deletions) {
            let source = source.without(matched);
            if self.skips(source.len()) {
                continue;
            }
            let mut batches = self.reader.rows(&source).await?;
            while let Some(batch) = batches.try_next().await? {
                let change = self.deletion(&source, &batch)?;
                self.send(change).await?;
            }
        }
        Ok(())
    }

    fn deletion(&mut self, source: &Source, batch: &RecordBatch) -> Result<ChangeRows> {
        let columns = &self.reader.reader.columns;
        let ordinals = self.take(batch.num_rows());
        let kinds = vec![ChangeKind::Delete; batch.num_rows()];
        if source.kind == SourceKind::Keys {
            // They say nothing of other columns, so no filter can judge them.
            return Ok(ChangeRows { records: columns.finish_keys_alone(batch)?, kinds, ordinals });
        }
        let output = self.reader.output(batch)?;
        let records = if columns.upserts {
            columns.finish_keys(&output)?
        } else {
            columns.finish(&output)?
        };
        let change = ChangeRows { records, kinds, ordinals };
        match self.passing(batch)? {
            None => Ok(change),
            Some(passing) => filtered(change, &passing),
        }
    }

    /// Insertions, each behind its pre-image if it has one.
    pub(super) async fn insertions(
        &mut self,
        deletions: &[Source],
        insertions: &[Source],
        matched: &Matched,
        pairing: Option<&Pairing<'_>>,
    ) -> Result<()> {
        let mut chunk: Vec<Chunk> = Vec::new();
        let (mut bytes, mut pairs) = (0u64, 0u64);
        for (source, of) in (0u32..).zip(insertions) {
            let paired = matched.insertions.get(source as usize);
            let paired_rows = paired.map_or(0, RoaringTreemap::len);
            if chunk.is_empty() && self.skips(of.len() + paired_rows) {
                continue;
            }
            let mut batches = self.reader.rows(of).await?;
            while let Some(batch) = batches.try_next().await? {
                let positions = self.positions(&batch)?;
                if let Some(paired) = paired.filter(|rows| !rows.is_empty()) {
                    pairs += positions.iter().filter(|p| paired.contains(**p)).count() as u64;
                }
                bytes += batch.get_array_memory_size() as u64;
                chunk.push(Chunk { source, batch, positions });
                let most = pairing.map_or(u64::MAX, Pairing::pairs_at_once);
                if pairs == 0 || bytes >= self.budget || pairs >= most {
                    self.chunk(&mut chunk, deletions, matched, pairing).await?;
                    (bytes, pairs) = (0, 0);
                }
            }
        }
        self.chunk(&mut chunk, deletions, matched, pairing).await
    }

    async fn chunk(
        &mut self,
        chunk: &mut Vec<Chunk>,
        deletions: &[Source],
        matched: &Matched,
        pairing: Option<&Pairing<'_>>,
    ) -> Result<()> {
        let chunk = std::mem::take(chunk);
        let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { return Ok(()) };
        let start = (first.source, first.positions.first().copied().unwrap_or_default());
        let end = (last.source, last.positions.last().copied().unwrap_or_default() + 1);
        let pairs: HashMap<Place, Place> = match (&matched.pairs, pairing) {
            (Some(pairs), _) => {
                let from = pairs.partition_point(|(insertion, _)| *insertion < start);
                let to = pairs.partition_point(|(insertion, _)| *insertion < end);
                pairs.get(from..to).unwrap_or_default().iter().copied().collect()
            }
            (None, Some(pairing)) => pairing.pairs_in(start..end).await?.into_iter().collect(),
            (None, None) => HashMap::new(),
        };
        let images = self.pre_images(deletions, pairs.values().copied()).await?;
        for part in chunk {
            for change in self.insertion(&part, &pairs, &images)? {
                self.send(change).await?;
            }
        }
        Ok(())
    }

    async fn pre_images(
        &self,
        deletions: &[Source],
        wanted: impl Iterator<Item = Place>,
    ) -> Result<PreImages> {
        let mut by_source: BTreeMap<u32, RoaringTreemap> = BTreeMap::new();
        for (source, position) in wanted {
            by_source.entry(source).or_default().insert(position);
        }
        let mut images = PreImages::default();
        for (source, rows) in by_source {
            let Some(of) = deletions.get(source as usize) else { continue };
            let of = Source { rows, ..of.clone() };
            let mut batches = self.reader.rows(&of).await?;
            while let Some(batch) = batches.try_next().await? {
                let at = images.batches.len();
                for (row, position) in self.positions(&batch)?.into_iter().enumerate() {
                    images.places.insert((source, position), (at, row));
                }
                images.passes.push(self.passing(&batch)?);
                let output = self.reader.output(&batch)?;
                images.batches.push(self.reader.reader.columns.finish(&output)?);
            }
        }
        Ok(images)
    }

    /// The changes of some inserted rows. An update that enters or leaves the filter becomes an
    /// insert or a delete (CHG-8).
    fn insertion(
        &mut self,
        part: &Chunk,
        pairs: &HashMap<Place, Place>,
        images: &PreImages,
    ) -> Result<Vec<ChangeRows>> {
        let columns = &self.reader.reader.columns;
        let output = self.reader.output(&part.batch)?;
        let after = columns.finish(&output)?;
        let passing = self.passing(&part.batch)?;
        if passing.is_none() && pairs.is_empty() {
            let kind = if columns.upserts { ChangeKind::UpdateAfter } else { ChangeKind::Insert };
            let (kinds, ordinals) = (vec![kind; after.num_rows()], self.take(after.num_rows()));
            return Ok(vec![ChangeRows { records: after, kinds, ordinals }]);
        }
        let keys = match &passing {
            Some(_) if columns.upserts => Some(columns.finish_keys(&output)?),
            _ => None,
        };
        let mut inputs: Vec<&RecordBatch> = images.batches.iter().collect();
        let after_at = inputs.len();
        inputs.push(&after);
        inputs.extend(&keys);
        let upserts = columns.upserts;
        let mut rows = Rows::default();
        for (row, position) in part.positions.iter().enumerate() {
            let passes = passing.as_ref().is_none_or(|p| p.value(row));
            let pre_image = pairs.get(&(part.source, *position));
            let Some(deleted) = pre_image else {
                match (passes, upserts) {
                    (true, true) => rows.push(after_at, row, ChangeKind::UpdateAfter, self.next),
                    (true, false) => rows.push(after_at, row, ChangeKind::Insert, self.next),
                    (false, true) => rows.push(after_at + 1, row, ChangeKind::Delete, self.next),
                    (false, false) => {}
                }
                self.next += 1;
                continue;
            };
            let Some((batch, before)) = images.places.get(deleted).copied() else {
                return Err(Error::internal("the pre-image of an update was not read"));
            };
            let filter = images.passes.get(batch).and_then(Option::as_ref);
            let passed = filter.is_none_or(|p| p.value(before));
            let (first, second) = (self.next, self.next + 1);
            match (passed, passes) {
                (true, true) => {
                    rows.push(batch, before, ChangeKind::UpdateBefore, first);
                    rows.push(after_at, row, ChangeKind::UpdateAfter, second);
                }
                (true, false) => rows.push(batch, before, ChangeKind::Delete, first),
                (false, true) => rows.push(after_at, row, ChangeKind::Insert, second),
                (false, false) => {}
            }
            self.next += 2;
        }
        rows.batches(&inputs)
    }

    fn positions(&self, batch: &RecordBatch) -> Result<Vec<u64>> {
        self.reader.reader.columns.positions(batch)
    }

    /// Which rows pass the filter; `None` when there is none.
    fn passing(&self, batch: &RecordBatch) -> Result<Option<BooleanArray>> {
        let Some(filter) = &self.reader.reader.columns.filter else { return Ok(None) };
        let passing = filter.evaluate(batch)?;
        // Unknown is not true.
        let truths = (0..passing.len())
            .map(|row| arrow::array::Array::is_valid(&passing, row) && passing.value(row));
        Ok(Some(truths.collect::<Vec<bool>>().into()))
    }

    /// True when the next so many ordinals are not wanted; they are counted.
    fn skips(&mut self, ordinals: u64) -> bool {
        let skips = self.next + ordinals <= self.from;
        if skips {
            self.next += ordinals;
        }
        skips
    }

    fn take(&mut self, rows: usize) -> Vec<u64> {
        let first = self.next;
        self.next += rows as u64;
        (first..self.next).collect()
    }

    async fn send(&self, change: ChangeRows) -> Result<()> {
        let skipped = change.ordinals.partition_point(|ordinal| *ordinal < self.from);
        let left = change.ordinals.len() - skipped;
        if left == 0 {
            return Ok(());
        }
        let change = match skipped {
            0 => change,
            _ => ChangeRows {
                records: change.records.slice(skipped, left),
                kinds: change.kinds.get(skipped..).unwrap_or_default().to_vec(),
                ordinals: change.ordinals.get(skipped..).unwrap_or_default().to_vec(),
            },
        };
        // Nobody listens any more: the task is about to be stopped.
        let _ = self.sender.send(Ok(change)).await;
        Ok(())
    }
}

/// Rows of several batches on their way into one.
#[derive(Default)]
struct Rows {
    places: Vec<(usize, usize)>,
    kinds: Vec<ChangeKind>,
    ordinals: Vec<u64>,
}

impl Rows {
    fn push(&mut self, batch: usize, row: usize, kind: ChangeKind, ordinal: u64) {
        self.places.push((batch, row));
        self.kinds.push(kind);
        self.ordinals.push(ordinal);
    }

    /// Batches of bounded size that never part the two images of an update.
    fn batches(self, inputs: &[&RecordBatch]) -> Result<Vec<ChangeRows>> {
        let mut batches = Vec::new();
        let mut start = 0;
        while start < self.places.len() {
            let mut end = (start + BATCH_ROWS).min(self.places.len());
            if self.kinds.get(end - 1) == Some(&ChangeKind::UpdateBefore) {
                end += 1;
            }
            let part = start..end;
            let places = self.places.get(part.clone()).unwrap_or_default();
            batches.push(ChangeRows {
                records: interleave_record_batch(inputs, places)?,
                kinds: self.kinds.get(part.clone()).unwrap_or_default().to_vec(),
                ordinals: self.ordinals.get(part).unwrap_or_default().to_vec(),
            });
            start = end;
        }
        Ok(batches)
    }
}

fn filtered(change: ChangeRows, passing: &BooleanArray) -> Result<ChangeRows> {
    let keep = |row: &usize| passing.value(*row);
    let rows: Vec<usize> = (0..change.kinds.len()).filter(keep).collect();
    Ok(ChangeRows {
        records: filter_record_batch(&change.records, passing)?,
        kinds: rows.iter().filter_map(|row| change.kinds.get(*row).copied()).collect(),
        ordinals: rows.iter().filter_map(|row| change.ordinals.get(*row).copied()).collect(),
    })
}
