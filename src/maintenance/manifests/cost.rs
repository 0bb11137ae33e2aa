//! What planning a scan costs, counted in manifests.

use std::fmt;

use serde::Serialize;

use super::order::Partitions;
use crate::error::Result;
use crate::maintenance::report::Bytes;
use crate::spec::ManifestFile;
use crate::table::{Table, may_hold};

/// Partitions that are asked for; more would only sharpen the mean.
const SAMPLE: usize = 1000;

/// What a scan has to read before it knows its files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PlanningCost {
    /// Manifests: a scan of the whole table opens all of them.
    pub manifests: u64,
    /// Their size.
    pub bytes: u64,
    /// Manifests that a scan of one partition opens, in the mean over partitions.
    pub opened_per_partition: f64,
}

impl PlanningCost {
    /// Of manifests of one spec and kind of content; at most a thousand partitions are asked.
    pub(super) fn of(
        table: &Table,
        spec_id: i32,
        manifests: &[ManifestFile],
        partitions: &Partitions,
    ) -> Result<Self> {
        let types = table.partition_types(spec_id)?;
        let step = partitions.sorted.len().div_ceil(SAMPLE).max(1);
        let (mut asked, mut opened) = (0u64, 0u64);
        for (partition, _) in partitions.sorted.iter().step_by(step) {
            asked += 1;
            opened += manifests.iter().filter(|m| may_hold(m, partition, &types)).count() as u64;
        }
        Ok(Self {
            manifests: manifests.len() as u64,
            bytes: manifests.iter().map(length).sum(),
            opened_per_partition: opened as f64 / asked.max(1) as f64,
        })
    }
}

pub(super) fn length(manifest: &ManifestFile) -> u64 {
    u64::try_from(manifest.manifest_length).unwrap_or(0)
}

/// Such as `12 manifests, 5.6 MiB, 3.2 opened per partition`.
impl fmt::Display for PlanningCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.manifests == 1 { "" } else { "s" };
        write!(
            f,
            "{} manifest{plural}, {}, {:.1} opened per partition",
            self.manifests,
            Bytes(self.bytes),
            self.opened_per_partition
        )
    }
}
