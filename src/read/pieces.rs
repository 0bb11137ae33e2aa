//! How a file is cut into pieces that are decoded side by side.
//!
//! Pure. In: a footer. Out: runs of whole row groups; where there are fewer than cores, large row
//! groups are cut at rows too, if an offset index tells the decoder where the pages of those rows
//! are. A page at a cut is decoded twice, and dictionaries once a piece.

use std::ops::Range;

use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

/// Files below this are read in one piece.
pub(super) const SPLIT_FILES_OVER: u64 = 8 * 1024 * 1024;
/// Pieces have at least this many compressed bytes, for a piece costs a task and a request.
const PIECE_BYTES: u64 = 8 * 1024 * 1024;

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Only these row groups.
    pub row_groups: Option<Range<usize>>,
    /// Only these rows, counted from the start of the file.
    pub rows: Option<Range<u64>>,
    /// KiB that its largest row group takes while it is decoded.
    pub kib: u32,
}

impl Part {
    /// Some rows of a file, of so many bytes.
    pub(super) fn of_rows(rows: Range<u64>, bytes: u64) -> Self {
        Self { row_groups: None, rows: Some(rows), kib: kib(bytes) }
    }

    /// A whole file of so many bytes.
    pub(super) fn whole(bytes: u64) -> Self {
        Self { row_groups: None, rows: None, kib: kib(bytes) }
    }
}

/// The parts of a file, in the order of its rows, for so many cores.
pub(super) fn cut(footer: &ParquetMetaData, cores: usize) -> Vec<Part> {
    let groups = footer.row_groups();
    let (mut parts, mut first_row) = (Vec::new(), 0);
    let (mut start, mut start_row, mut bytes, mut largest) = (0, 0, 0u64, 0u64);
    for (at, group) in groups.iter().enumerate() {
        let size = u64::try_from(group.compressed_size()).unwrap_or(0);
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        first_row += rows;
        (bytes, largest) = (bytes.saturating_add(size), largest.max(size));
        if bytes >= PIECE_BYTES || at + 1 == groups.len() {
            let whole = Part { row_groups: Some(start..at + 1), rows: None, kib: kib(largest) };
            let alone = start == at && groups.len() < cores && has_offset_index(group);
            match alone.then(|| (size / PIECE_BYTES).min(cores as u64)) {
                Some(count) if count > 1 => {
                    parts.extend(by_rows(&whole, start_row..first_row, count));
                }
                _ => parts.push(whole),
            }
            (start, start_row, bytes, largest) = (at + 1, first_row, 0, 0);
        }
    }
    parts
}

/// The rows of a file in ranges that cost about the same, each with its compressed bytes: for
/// readers that take parts of it whenever they like.
pub(super) fn row_ranges(footer: &ParquetMetaData, readers: usize) -> Vec<(Range<u64>, u64)> {
    let groups = footer.row_groups();
    let rows = |group: &RowGroupMetaData| u64::try_from(group.num_rows()).unwrap_or(0);
    let bytes = |group: &RowGroupMetaData| u64::try_from(group.compressed_size()).unwrap_or(0);
    let first_row = |at: usize| groups.iter().take(at).map(rows).sum::<u64>();
    let range = |part: Part| {
        let whole = part.row_groups.unwrap_or(0..groups.len());
        let in_them = first_row(whole.start)..first_row(whole.end);
        let size: u64 = groups.get(whole).unwrap_or_default().iter().map(bytes).sum();
        let of = (in_them.end - in_them.start).max(1);
        let rows = part.rows.unwrap_or(in_them);
        let share = u128::from(size) * u128::from(rows.end - rows.start) / u128::from(of);
        (rows, u64::try_from(share).unwrap_or(size))
    };
    cut(footer, readers).into_iter().map(range).collect()
}

fn by_rows(whole: &Part, rows: Range<u64>, count: u64) -> impl Iterator<Item = Part> {
    let each = (rows.end - rows.start).div_ceil(count).max(1);
    let Part { row_groups, kib, .. } = whole.clone();
    (0..count).filter_map(move |n| {
        let start = rows.start + n * each;
        let rows = start..(start + each).min(rows.end);
        (rows.start < rows.end).then(|| Part {
            row_groups: row_groups.clone(),
            rows: Some(rows),
            kib: kib / count as u32,
        })
    })
}

fn has_offset_index(group: &RowGroupMetaData) -> bool {
    group.columns().iter().all(|column| column.offset_index_offset().is_some())
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes / 1024).unwrap_or(u32::MAX)
}
