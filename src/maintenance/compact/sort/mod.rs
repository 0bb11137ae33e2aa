//! Rows in order, whether or not they fit into memory.
//!
//! ```text
//! batches ─push→ Sorter ─(full)→ sorted runs in local files ─merge→ batches in order
//! ```
//!
//! Rows of one key keep the order in which they came.

mod keys;
mod merge;
mod runs;
mod sorter;
#[cfg(test)]
mod tests;

pub(super) use keys::SortKeys;
pub(super) use sorter::Sorter;
