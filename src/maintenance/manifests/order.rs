//! Partitions in an order, and the live entries of manifests by partition.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::error::Result;
use crate::expr::compare;
use crate::spec::{Literal, ManifestEntry, ManifestFile, PartitionKey};
use crate::table::Table;

/// Manifests that are read at once.
const READERS: usize = 4;

/// Field by field; null comes first and NaN last.
pub(super) fn by_partition(a: &PartitionKey, b: &PartitionKey) -> Ordering {
    let fields = a.values.iter().zip(b.values.iter());
    fields.map(|(a, b)| by_value(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn by_value(a: Option<&Literal>, b: Option<&Literal>) -> Ordering {
    match (a, b) {
        (Some(Literal::Primitive(a)), Some(Literal::Primitive(b))) => {
            let order = a.is_nan().cmp(&b.is_nan());
            order.then_with(|| compare(a, b).unwrap_or(Ordering::Equal))
        }
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// Partitions with live entries, and how many they have.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    pub sorted: Vec<(PartitionKey, u64)>,
}

impl Partitions {
    /// Counts the live entries of manifests of one spec.
    pub(super) async fn of(table: &Table, manifests: &[ManifestFile]) -> Result<Self> {
        let mut counts: HashMap<PartitionKey, u64> = HashMap::new();
        let mut reading = std::pin::pin!(entries(table, manifests));
        while let Some(entries) = reading.try_next().await? {
            for entry in entries.iter().filter(|e| e.is_live()) {
                *counts.entry(entry.file.partition_key()).or_default() += 1;
            }
        }
        let mut sorted: Vec<_> = counts.into_iter().collect();
        // Values that compare as equal but are not (`-0.0`) have an order as well.
        sorted.sort_by(|(a, _), (b, _)| {
            by_partition(a, b).then_with(|| a.stable_hash().cmp(&b.stable_hash()))
        });
        Ok(Self { sorted })
    }

    /// Ranges of partitions of about `most` entries each, at least one partition a range.
    pub(super) fn ranges(&self, most: u64) -> Vec<&[(PartitionKey, u64)]> {
        let (mut ranges, mut rest) = (Vec::new(), self.sorted.as_slice());
        while !rest.is_empty() {
            let mut entries = 0u64;
            let fits = rest.iter().take_while(|(_, count)| {
                entries = entries.saturating_add(*count);
                entries <= most
            });
            let (range, after) = rest.split_at(fits.count().max(1));
            ranges.push(range);
            rest = after;
        }
        ranges
    }
}

/// The entries of manifests, in their order, read a few manifests ahead.
pub(super) fn entries<'a>(
    table: &'a Table,
    manifests: &'a [ManifestFile],
) -> impl stream::Stream<Item = Result<Arc<Vec<ManifestEntry>>>> + 'a {
    stream::iter(manifests).map(|manifest| table.entries(manifest)).buffered(READERS)
}
