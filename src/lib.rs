//! Meltwater: streaming lakehouses on plain Apache Iceberg v2.
//!
//! Write tables (append, upsert, delete), read them merge-on-read, keep them small. Every byte
//! written is plain Iceberg v2 that Spark, Flink, Trino, PyIceberg, DuckDB and ClickHouse read.
#![deny(missing_docs)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
// In tests the plain spelling reads best: one-range arrays are positions, `[x.clone()]` is a list.
#![cfg_attr(
    test,
    allow(
        clippy::cloned_ref_to_slice_refs,
        clippy::single_range_in_vec_init,
        clippy::type_complexity
    )
)]

// Test helpers are shared between unit and integration tests under one name.
#[cfg(any(test, feature = "testing"))]
extern crate self as meltwater;

pub mod catalog;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
pub mod deletes;
pub mod dml;
pub mod error;
pub mod expr;
pub mod file;
pub mod maintenance;
pub mod manifest;
pub mod measure;
pub mod read;
pub mod scan;
pub mod spec;
pub mod storage;
pub mod stream;
pub mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod write;

pub use error::{Error, ErrorKind, Result};

pub use arrow;
pub use iceberg;
pub use object_store;
pub use parquet;

/// Tables, batches and rows for unit tests that integration tests use too.
#[cfg(test)]
#[path = "../tests/kit/mod.rs"]
mod kit;
