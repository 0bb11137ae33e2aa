//! Where the rows of old files are in the new ones.
//!
//! Pure. A compaction that keeps the order of rows only leaves dead ones out. So the place of a
//! row follows from where its file began in the stream of rows and how many dead rows came before
//! it: one bitmap of dead rows per input is all there is to remember.

use std::collections::HashMap;

use roaring::RoaringTreemap;

use crate::error::{Error, Result};
use crate::spec::DataFile;

/// Old positions to new ones.
#[derive(Debug, Default)]
pub(super) struct RowMap {
    by_path: HashMap<String, usize>,
    inputs: Vec<Input>,
    /// Rows written so far.
    rows: u64,
    /// Where each new file begins in the stream of rows.
    starts: Vec<u64>,
}

#[derive(Debug)]
struct Input {
    /// Rows of the file, dead ones included.
    rows: u64,
    /// Where its living rows begin in the stream.
    start: u64,
    /// The position after the last one that was read.
    next: u64,
    dead: RoaringTreemap,
}

impl RowMap {
    /// For inputs that will be read in this order.
    pub(super) fn new<'a>(inputs: impl IntoIterator<Item = &'a DataFile>) -> Self {
        let mut map = Self::default();
        for file in inputs {
            map.by_path.insert(file.file_path.clone(), map.inputs.len());
            let dead = RoaringTreemap::new();
            map.inputs.push(Input { rows: file.record_count, start: 0, next: 0, dead });
        }
        map
    }

    /// Notes living rows of one input, ascending.
    pub(super) fn push(&mut self, input: usize, positions: &[i64]) -> Result<()> {
        let wrong = || Error::internal("rows were not read in the order of their file");
        let input = self.inputs.get_mut(input).ok_or_else(wrong)?;
        if input.next == 0 {
            input.start = self.rows;
        }
        for position in positions {
            let position = u64::try_from(*position).map_err(|_| wrong())?;
            if position < input.next {
                return Err(wrong());
            }
            if position > input.next {
                input.dead.insert_range(input.next..position);
            }
            input.next = position + 1;
        }
        self.rows += positions.len() as u64;
        Ok(())
    }

    /// All rows were read and went into these files, in this order.
    pub(super) fn finish<'a>(&mut self, outputs: impl IntoIterator<Item = &'a DataFile>) {
        for input in &mut self.inputs {
            if input.next < input.rows {
                input.dead.insert_range(input.next..input.rows);
            }
        }
        let mut start = 0;
        for file in outputs {
            self.starts.push(start);
            start += file.record_count;
        }
    }

    /// Where a row of an old file is: the number of the new file, and its position there.
    /// `None` if it was dead already.
    pub(super) fn locate(&self, path: &str, position: u64) -> Option<(usize, u64)> {
        let input = self.inputs.get(*self.by_path.get(path)?)?;
        if position >= input.rows || input.dead.contains(position) {
            return None;
        }
        let row = input.start + position - input.dead.rank(position);
        let file = self.starts.partition_point(|start| *start <= row).checked_sub(1)?;
        Some((file, row - self.starts.get(file)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{DataContentType, PartitionKey};

    fn file(path: &str, rows: u64) -> DataFile {
        DataFile::new(DataContentType::Data, path, PartitionKey::unpartitioned(0), rows, 1)
    }

    #[test]
    fn every_living_row_is_found_where_it_was_written() {
        // `a` lost 0, 3, 4 and 9; `b` all of its rows; `c` none.
        let inputs = [file("a", 10), file("b", 3), file("c", 4)];
        let mut map = RowMap::new(&inputs);
        map.push(0, &[1, 2]).unwrap();
        map.push(0, &[5, 6, 7, 8]).unwrap();
        map.push(2, &[0, 1, 2, 3]).unwrap();
        map.finish(&[file("x", 4), file("y", 4), file("z", 2)]);

        let written: Vec<(&str, u64)> = [1, 2, 5, 6, 7, 8]
            .map(|p| ("a", p))
            .into_iter()
            .chain([0, 1, 2, 3].map(|p| ("c", p)))
            .collect();
        for (row, (path, position)) in written.iter().enumerate() {
            assert_eq!(map.locate(path, *position), Some((row / 4, row as u64 % 4)));
        }
        for (path, position) in [("a", 0), ("a", 4), ("a", 9), ("a", 10), ("b", 1), ("d", 0)] {
            assert_eq!(map.locate(path, position), None, "{path} {position}");
        }
    }

    #[test]
    fn rows_out_of_order_are_refused() {
        let mut map = RowMap::new(&[file("a", 10)]);
        map.push(0, &[4]).unwrap();
        assert!(map.push(0, &[4]).is_err());
    }
}
