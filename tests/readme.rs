//! The Rust of the README compiles as it stands there.
#![allow(dead_code, unused_mut, unused_variables)]

use std::collections::HashMap;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use meltwater::catalog::{self, parse_ident};
use meltwater::read::ChangeKind;
use meltwater::stream::StreamEvent;
use meltwater::table::{PositionStore, Table, WriteResult};
use meltwater::write::UpsertOptions;
use meltwater::{Result, arrow};

#[rustfmt::skip]
async fn ten_lines(batch: RecordBatch) -> Result<()> {
    let catalog = catalog::open("sqlite:warehouse/catalog.db?warehouse=warehouse", HashMap::new()).await?;
    let table = Table::load(catalog, &parse_ident("sales.orders")?).await?;

    let mut writer = table.upsert_writer(UpsertOptions::default())?;
    writer.write(batch).await?;
    let written: WriteResult = writer.close().await?;
    table.row_delta(written).commit().await?;

    let mut rows = table.scan().select(["id", "status"]).to_batches().await?;
    while let Some(batch) = rows.try_next().await? { /* … */ }
    Ok(())
}

/// Somewhere changes go.
struct Sink;

impl Sink {
    async fn write(&mut self, records: &RecordBatch, kinds: &[ChangeKind]) -> Result<()> {
        Ok(())
    }
}

#[rustfmt::skip]
async fn follow(table: Table, mut sink: Sink) -> Result<()> {
    let mut changes = table.stream().named("to-search").positions(PositionStore::directory("positions")?).open().await?;
    while let Some(event) = changes.try_next().await? {
        if let StreamEvent::Batch(batch) = event {
            sink.write(&batch.records, &batch.kinds).await?;
            changes.commit(batch.end()).await?;      // or keep batch.end() beside the rows: then it is exactly once
        }
    }
    Ok(())
}

#[test]
fn the_rust_of_the_readme_compiles() {
    let lines = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let compiled = lines(include_str!("readme.rs"));
    let blocks: Vec<&str> = include_str!("../README.md").split("```rust\n").skip(1).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let code = block.split("```").next().unwrap_or_default().trim();
        assert!(
            compiled.contains(&lines(code)),
            "this is not compiled in tests/readme.rs:\n{code}"
        );
    }
}
