//! Rows to files: what to append, what to upsert.
//!
//! [`AppendWriter`] and [`UpsertWriter`] turn batches into a [`crate::table::WriteResult`] for
//! the table floor to commit. Partition fan-out and its budget are shared.

mod append;
mod cleanup;
mod fanout;
mod key;
mod key_log;
mod lookup;
mod partition;
mod reach;
mod runs;
#[cfg(test)]
mod tests;
mod transform;
mod upsert;

pub use append::{AppendOptions, AppendWriter};
pub(crate) use append::{data_options, writable};
pub(crate) use cleanup::Cleanup;
pub use lookup::{Found, OnPartitionMove, PartitionLookup};
pub(crate) use partition::datums_of;
pub(crate) use transform::transform;
pub use upsert::{UpsertOptions, UpsertWriter};
