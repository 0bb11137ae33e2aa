//! Rows to files: what to append, what to upsert.
//!
//! [`AppendWriter`] turns batches into a [`crate::table::WriteResult`] for
//! the table floor to commit. Partition fan-out and its budget are shared.

mod append;
mod cleanup;
mod fanout;
mod partition;
mod transform;

pub use append::{AppendOptions, AppendWriter};
