//! Writers on a table in memory.

mod append;
mod upsert;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use futures::TryStreamExt;

use crate::table::Table;

/// Rows of the test table: `id`, `name`, `day`.
pub(super) fn batch(rows: &[(i64, &str, Option<i32>)]) -> RecordBatch {
    let ids: Int64Array = rows.iter().map(|r| Some(r.0)).collect();
    let names: StringArray = rows.iter().map(|r| Some(r.1)).collect();
    let days: Int32Array = rows.iter().map(|r| r.2).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(ids) as ArrayRef, false),
        ("name", Arc::new(names), true),
        ("day", Arc::new(days), true),
    ])
    .unwrap()
}

/// Every data and delete file in the store.
pub(super) async fn stored(table: &Table) -> Vec<String> {
    let listing = table.storage().list(&table.data_location()).unwrap();
    listing.map_ok(|info| info.location).try_collect().await.unwrap()
}
