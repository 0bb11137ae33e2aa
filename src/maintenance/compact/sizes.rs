//! How big files should be, and how many a group becomes.
//!
//! Pure. What comes out of a compaction is no candidate of the next one, wherever the bounds
//! allow that.

use super::CompactOptions;
use crate::error::{Error, Result};
use crate::spec::property;
use crate::table::Table;

/// The sizes that files should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub target: u64,
    pub min: u64,
    pub max: u64,
}

impl Sizes {
    /// What options and table properties ask for.
    ///
    /// # Errors
    /// `InvalidInput` unless smallest < target < largest.
    pub(super) fn new(table: &Table, options: &CompactOptions) -> Result<Self> {
        let target = match options.target_file_size_bytes {
            Some(bytes) => bytes,
            None => table.properties().target_file_size_bytes()?,
        };
        let min = options.min_file_size_bytes.unwrap_or(target / 4 * 3);
        let max = options.max_file_size_bytes.unwrap_or((target / 5).saturating_mul(9));
        if min < target && target < max {
            return Ok(Self { target, min, max });
        }
        Err(Error::invalid("the file sizes contradict each other")
            .with_context("smallest", min)
            .with_context("target", target)
            .with_context("largest", max)
            .with_hint(format!(
                "smallest < target < largest must hold; without a target of its own a compaction \
                 takes `{}`",
                property::TARGET_FILE_SIZE
            )))
    }

    /// Whether a file should be rewritten for its size.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        (self.min..=self.max).contains(&bytes)
    }

    /// How many files of even size `bytes` of rows become (MNT-2): as near to the target as can be,
    /// but rather one larger file than two that would be too small.
    pub(super) fn output_files(&self, bytes: u64) -> u64 {
        let nearest = (bytes.saturating_add(self.target / 2) / self.target).max(1);
        let tolerated = self.max - (self.max - self.target) / 4;
        let fewer = (nearest - 1).max(1);
        if bytes / nearest < self.min + self.min / 10 && bytes / fewer <= tolerated {
            fewer
        } else {
            nearest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { target: 1000, min: 750, max: 1800 };

    #[test]
    fn outputs_are_as_near_to_the_target_as_can_be() {
        let outputs = |bytes| SIZES.output_files(bytes);
        assert_eq!([0, 1, 999, 1400, 1550].map(outputs), [1; 5]);
        assert_eq!([1700, 2000, 2400].map(outputs), [2; 3]);
        assert_eq!(outputs(10_400), 10);
    }

    #[test]
    fn outputs_of_more_than_one_small_file_are_no_candidates_again() {
        for bytes in 750..60_000 {
            let files = SIZES.output_files(bytes);
            assert!(SIZES.fits(bytes / files), "{bytes} bytes in {files} files");
        }
    }
}
