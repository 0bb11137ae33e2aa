//! Sinks of followers that die anywhere: each keeps what came with the token behind it.

use std::sync::Arc;

use futures::TryStreamExt;
use meltwater::Result;
use meltwater::read::ChangeKind;
use meltwater::spec::SchemaRef;
use meltwater::stream::{ChangeBatch, CommitInfo, Start, StreamBuilder, StreamEvent, Until};
use meltwater::table::{Table, Token};

use super::differ;
use super::history::Pair;
use super::replay::{Change, Replica, changes_in, projected};

/// Where a sink stops in a batch when it takes about `rows` of it: an update is told whole or
/// not at all.
pub(super) fn cut(batch: &ChangeBatch, rows: usize) -> usize {
    match batch.kinds.get(rows) {
        Some(ChangeKind::UpdateAfter) => rows - 1,
        _ => rows.min(batch.kinds.len()),
    }
}

/// The token behind so many rows of a batch, as it is stored: as text.
pub(super) fn stored(batch: &ChangeBatch, rows: usize) -> Result<Token> {
    let token = match rows == batch.kinds.len() {
        true => batch.end(),
        false => batch.token_after(rows - 1)?,
    };
    token.to_string().parse()
}

/// Follows with the token until `rows` more rows came, then dies in the middle of a batch. What
/// comes goes to `keep`, with the number of rows that it takes of a batch.
async fn follow(
    token: &mut Option<Token>,
    stream: StreamBuilder,
    rows: usize,
    mut keep: impl FnMut(&StreamEvent, usize) -> Result<()>,
) -> Result<()> {
    let start = token.clone().map_or(Start::Earliest, Start::At);
    let mut changes = stream.start(start).until(Until::CaughtUp).open().await?;
    let mut left = rows;
    while let Some(event) = changes.try_next().await? {
        let StreamEvent::Batch(batch) = &event else {
            keep(&event, 0)?;
            continue;
        };
        let taken = cut(batch, left);
        keep(&event, taken)?;
        if taken > 0 {
            *token = Some(stored(batch, taken)?);
        }
        if taken < batch.kinds.len() {
            return Ok(());
        }
        left -= taken;
    }
    Ok(())
}

/// Keeps changes in the order in which they came.
#[derive(Default)]
pub struct Sink {
    pub told: Vec<(Arc<CommitInfo>, Change)>,
    pub token: Option<Token>,
}

impl Sink {
    /// Follows until `rows` more rows came.
    pub async fn follow(
        &mut self,
        table: &Table,
        stream: StreamBuilder,
        rows: usize,
    ) -> Result<()> {
        let Self { told, token } = self;
        let keep = |event: &StreamEvent, taken| {
            if let StreamEvent::Batch(batch) = event {
                let came = changes_in(table.schema(), batch).into_iter().take(taken);
                told.extend(came.map(|change| (batch.commit.clone(), change)));
            }
            Ok(())
        };
        follow(token, stream, rows, keep).await
    }

    pub fn changes(&self) -> Vec<Change> {
        self.told.iter().map(|(_, change)| change.clone()).collect()
    }
}

/// A sink that is told of schema changes: its rows are those of the last one.
#[derive(Default)]
pub struct Schemed {
    pub token: Option<Token>,
    rows: SchemedRows,
}

#[derive(Default)]
struct SchemedRows {
    replica: Replica,
    schema: Option<SchemaRef>,
}

impl Schemed {
    /// Follows until `rows` more rows came.
    pub async fn follow(
        &mut self,
        table: &Table,
        stream: StreamBuilder,
        rows: usize,
    ) -> Result<()> {
        let Self { token, rows: kept } = self;
        follow(token, stream, rows, |event, taken| kept.keep(table, event, taken)).await
    }

    /// Its rows are those of the table, as far as it was told: nobody tells of a schema that
    /// changed behind the last snapshot.
    pub fn check(&self, pair: &Pair) -> Result<()> {
        let schema = pair.table.schema();
        let known = self.rows.schema.as_ref().unwrap_or(schema);
        let expected = projected(&projected(&pair.rows, known), schema);
        let found = self.rows.replica.projected(schema);
        match expected == found {
            true => Ok(()),
            false => Err(differ("following announced schemas", &expected, &found)),
        }
    }
}

impl SchemedRows {
    fn keep(&mut self, table: &Table, event: &StreamEvent, taken: usize) -> Result<()> {
        match event {
            StreamEvent::Watermark(_) => Ok(()),
            StreamEvent::Schema(change) => {
                let of = table.snapshot(change.commit.snapshot_id)?;
                assert_eq!(&change.schema, table.schema_of(&of), "that of the snapshot");
                self.replica = self.replica.in_schema(&change.schema);
                self.schema = Some(change.schema.clone());
                Ok(())
            }
            StreamEvent::Batch(batch) => {
                let came = self.changes_in(table, batch)?;
                self.replica.apply(&came[..taken])
            }
        }
    }

    fn changes_in(&mut self, table: &Table, batch: &ChangeBatch) -> Result<Vec<Change>> {
        let of = table.snapshot(batch.commit.snapshot_id)?;
        let schema = self.schema.get_or_insert_with(|| table.schema_of(&of).clone());
        let names = schema.as_struct().fields().iter().map(|f| f.name.clone());
        let columns = batch.records.schema();
        let found: Vec<_> = columns.fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(found, names.collect::<Vec<_>>(), "the columns that were announced");
        Ok(changes_in(schema, batch))
    }
}
