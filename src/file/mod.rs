//! Parquet both ways: rows of a file as the table sees them, and rows to files with the
//! statistics that Iceberg wants.
//!
//! Reading: [`read`] a [`FileRead`]. Writing: [`ParquetFileWriter`] for data and equality
//! deletes, [`write_position_deletes`] for position deletes. [`arrow_schema`] is the shape of
//! batches on both sides. Knows no table and no snapshot.

mod bloom;
mod constant;
mod convert;
mod facts;
mod footer;
mod layout;
mod leaf;
mod metrics;
mod normalize;
mod options;
mod position_deletes;
mod project;
mod prune;
mod read;
pub mod reserved;
mod schema;
mod select;
mod source;
#[cfg(test)]
mod tests;
mod thrift_guard;
mod truncate;
mod width;
mod writer;

pub(crate) use facts::{FooterFacts, footer_facts};
pub use footer::footer;
#[cfg(any(test, feature = "testing"))]
pub(crate) use footer::forget_footers;
pub(crate) use leaf::{leaf_at, leaf_path};
pub(crate) use metrics::MetricsCollector;
pub(crate) use normalize::Normalizer;
pub use options::{MetricsMode, WriterOptions};
pub use position_deletes::{position_delete_schema, write_position_deletes};
pub use read::{FileRead, read};
pub use schema::{FIELD_ID_KEY, arrow_schema};
pub use writer::ParquetFileWriter;
