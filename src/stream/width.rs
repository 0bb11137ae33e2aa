//! How much memory rows take, as far as it was seen.
//!
//! Files tell how small their rows were compressed, and that may be a hundredth of what they take.
//! So a lane learns it from its batches. Widths are reckoned by the rows that were read for them:
//! where a filter leaves out most rows, the others take less on their way.

/// How wide rows are taken to be before the first ones came. Rather too much: many files may begin
/// to be read at once.
const GUESSED_ROW_BYTES: u64 = 1024;
/// Rows of a batch, unless they are wide.
const BATCH_ROWS: u64 = 8192;
/// How much larger than compressed rows are at least taken to be before the first ones came.
const GUESSED_GROWTH: u64 = 4;
/// What a key takes at the most, about.
const KEY_BYTES: u64 = 64;
/// A batch of fewer rows, and fewer bytes, tells more of batches than of rows.
const TELLING_ROWS: u64 = 1024;
const TELLING_BYTES: u64 = 16 * 1024;
/// What is learned rises at once, and falls by one part in so many.
const FALLS_BY: u64 = 4;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RowWidth {
    /// Of the last batches: bytes of a row, and of a batch.
    seen: Option<(u64, u64)>,
}

impl RowWidth {
    /// Takes in a batch of so many bytes, for which so many rows were read. True if it is the first.
    pub fn learn(&mut self, bytes: u64, rows: u64) -> bool {
        if rows < TELLING_ROWS && bytes < TELLING_BYTES {
            return false;
        }
        let row = bytes.div_ceil(rows.max(1));
        let slowly = |known: u64, now: u64| now.max(known - known.div_ceil(FALLS_BY));
        let is_first = self.seen.is_none();
        self.seen = Some(match self.seen {
            None => (row, bytes),
            Some((known, batch)) => (slowly(known, row), slowly(batch, bytes)),
        });
        is_first
    }

    /// Bytes of so many rows, which have so many compressed.
    pub fn of(&self, rows: u64, compressed: u64) -> u64 {
        match self.seen {
            Some((row, _)) => rows.saturating_mul(row),
            None => {
                let guess = rows.saturating_mul(GUESSED_ROW_BYTES);
                guess.max(compressed.saturating_mul(GUESSED_GROWTH))
            }
        }
    }

    /// Bytes of so many keys without the rows that they are of.
    pub fn of_keys(&self, keys: u64) -> u64 {
        let row = self.seen.map_or(GUESSED_ROW_BYTES, |(row, _)| row);
        keys.saturating_mul(row.min(KEY_BYTES))
    }

    /// Bytes of a batch.
    pub fn batch(&self) -> u64 {
        self.seen.map_or(BATCH_ROWS * GUESSED_ROW_BYTES, |(_, batch)| batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rows_take_is_guessed_until_the_first_batch_and_learned_from_then_on() {
        let mut width = RowWidth::default();
        assert_eq!((width.of(100, 10), width.of(100, 1_000_000)), (102_400, 4_000_000));
        assert!(!width.learn(500, 3), "a tiny batch is mostly the batch itself");
        assert_eq!(width.of_keys(100), 6_400);
        assert!(width.learn(819_200, 8192));
        assert_eq!((width.of(100, 1_000_000), width.batch()), (10_000, 819_200));
    }

    #[test]
    fn wider_rows_count_at_once_and_narrower_ones_bit_by_bit() {
        let mut width = RowWidth::default();
        width.learn(81_920, 8192);
        assert!(!width.learn(8_192_000, 8192));
        assert_eq!((width.of(1, 0), width.batch()), (1000, 8_192_000));
        width.learn(81_920, 8192);
        assert_eq!(width.of(1, 0), 750);
        for _ in 0..60 {
            width.learn(0, 8192);
        }
        assert_eq!((width.of(1, 0), width.batch()), (0, 0), "a filter lets nothing through");
        width.learn(163_840, 8192);
        assert_eq!(width.of_keys(100), 2_000, "a key is no wider than its row");
    }
}
