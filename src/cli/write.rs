//! `append` and `upsert`: files to rows of a table, in one commit.
//!
//! Ctrl-C before the commit removes what was written and leaves the table as it was; during the
//! commit it waits for the outcome.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::failure::{Failure, Outcome};
use super::input::{FileFormat, Input};
use super::session::Session;
use super::terminal::{Listing, OutputFormat, progress, say};
use crate::error::{Error, ErrorKind, Result};
use crate::file::arrow_schema;
use crate::read::ScanLookup;
use crate::spec::{DataContentType, MAIN_BRANCH};
use crate::table::{Committed, Table, WriteResult};
use crate::write::{AppendOptions, AppendWriter, OnPartitionMove, UpsertOptions, UpsertWriter};

/// What both commands take.
#[derive(Debug, Args)]
struct Source {
    /// NAMESPACE.TABLE
    table: String,
    /// Parquet, CSV, JSON lines or Arrow files; `-` is stdin (JSON lines unless --format says)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// The format of the files, if their names do not say
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// The branch to commit to
    #[arg(long, default_value = MAIN_BRANCH)]
    branch: String,
    /// Commit at most once under this name and --epoch: a repeated call changes nothing
    #[arg(long, value_name = "WRITER", requires = "epoch")]
    writer: Option<String>,
    /// The number of this piece of work; each one of a writer is greater than the last
    #[arg(long, value_name = "N", requires = "writer")]
    epoch: Option<u64>,
}

/// Add rows.
#[derive(Debug, Args)]
pub(super) struct Append {
    #[command(flatten)]
    source: Source,
}

/// Add rows, replacing those with the same key.
#[derive(Debug, Args)]
pub(super) struct Upsert {
    #[command(flatten)]
    source: Source,
    /// Columns that name a row; the table's key otherwise
    #[arg(long, value_name = "a,b", value_delimiter = ',')]
    key: Vec<String>,
    /// When the key leaves open in which partition an old row lies: refuse, or look it up
    #[arg(long, value_enum, default_value_t = Move::Refuse, value_name = "WHAT")]
    on_partition_move: Move,
}

/// See [`OnPartitionMove`].
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Move {
    Refuse,
    Lookup,
}

impl Append {
    /// Appends all files in one commit.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.table(&self.source.table).await?;
        let writer = Writer::Append(Box::new(table.append_writer(AppendOptions::default())?));
        self.source.run(session, table, writer).await
    }
}

impl Upsert {
    /// Upserts all files in one commit; of several rows with one key the last one stays.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.table(&self.source.table).await?;
        let options = UpsertOptions {
            key: self.key,
            on_partition_move: match self.on_partition_move {
                Move::Refuse => OnPartitionMove::Refuse,
                Move::Lookup => OnPartitionMove::Lookup(Arc::new(ScanLookup::default())),
            },
            branch: Some(self.source.branch.clone()),
            ..UpsertOptions::default()
        };
        let writer = Writer::Upsert(Box::new(table.upsert_writer(options)?));
        self.source.run(session, table, writer).await
    }
}

/// Either writer, so that reading and stopping are written once.
enum Writer {
    Append(Box<AppendWriter>),
    Upsert(Box<UpsertWriter>),
}

impl Writer {
    fn verb(&self) -> &'static str {
        match self {
            Self::Append(_) => "appending",
            Self::Upsert(_) => "upserting",
        }
    }

    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        match self {
            Self::Append(writer) => writer.write(batch).await,
            Self::Upsert(writer) => writer.write(batch).await,
        }
    }

    async fn close(self) -> Result<WriteResult> {
        match self {
            Self::Append(writer) => writer.close().await,
            Self::Upsert(writer) => writer.close().await,
        }
    }

    async fn abort(self) {
        match self {
            Self::Append(writer) => writer.abort().await,
            Self::Upsert(writer) => writer.abort().await,
        }
    }
}

impl Source {
    async fn run(self, session: &Session, table: Table, mut writer: Writer) -> Outcome {
        let began = Instant::now();
        let is_append = matches!(writer, Writer::Append(_));
        let mut input = Input::open(self.files.clone(), self.format, arrow_schema(table.schema())?);
        if let Err(failure) = feed(session, &mut input, &mut writer).await {
            writer.abort().await;
            return Err(failure);
        }
        let written = writer.close().await?;
        // Last chance: once the commit runs, its outcome is awaited.
        if session.interrupt.is_asked() {
            written.discard(table.storage()).await?;
            return Err(Failure::Interrupted);
        }
        let told = Told::of(&written);
        if written.is_empty() {
            return told.print(session.output, None, began);
        }
        let commit = match is_append {
            true => table.append(written),
            false => table.row_delta(written),
        };
        let commit = commit.branch(self.branch).discard_on_failure();
        let committed = match (self.writer, self.epoch) {
            (Some(name), Some(epoch)) => commit.commit_with(name, epoch).await,
            _ => commit.commit().await,
        };
        let committed = committed.map_err(|error| unsure(error, &self.table))?;
        told.print(session.output, Some(&committed), began)
    }
}

/// Moves all batches from the input to the writer, or stops when asked to.
async fn feed(session: &Session, input: &mut Input, writer: &mut Writer) -> Outcome {
    let bar = progress(writer.verb());
    loop {
        let batch = tokio::select! {
            biased;
            () = session.interrupt.asked() => return Err(Failure::Interrupted),
            batch = input.next() => batch?,
        };
        let Some(batch) = batch else { break };
        let rows = batch.num_rows() as u64;
        writer.write(batch).await?;
        bar.inc(rows);
    }
    bar.finish_and_clear();
    Ok(())
}

fn unsure(error: Error, table: &str) -> Error {
    match error.kind() {
        ErrorKind::CommitStateUnknown if error.hint().is_none() => error.with_hint(format!(
            "run `meltwater inspect snapshots {table}` to see whether it landed before writing again"
        )),
        _ => error,
    }
}

/// What is said about a commit.
struct Told {
    rows: u64,
    files: usize,
    bytes: u64,
    position_deletes: u64,
    equality_deletes: u64,
}

impl Told {
    fn of(written: &WriteResult) -> Self {
        Self {
            rows: written.rows(),
            files: written.data_files.len(),
            bytes: written.bytes(),
            position_deletes: written.deletes(DataContentType::PositionDeletes),
            equality_deletes: written.deletes(DataContentType::EqualityDeletes),
        }
    }

    /// Says what was committed, or that there was nothing to commit.
    fn print(
        &self,
        output: OutputFormat,
        committed: Option<&Committed>,
        began: Instant,
    ) -> Outcome {
        if output == OutputFormat::Json {
            let columns = [
                "snapshot_id",
                "rows",
                "data_files",
                "bytes",
                "position_deletes",
                "equality_deletes",
                "attempts",
                "already_done",
            ];
            let mut listing = Listing::new(&columns);
            listing.push(vec![
                json!(committed.map(|c| c.snapshot_id.0)),
                json!(self.rows),
                json!(self.files),
                json!(self.bytes),
                json!(self.position_deletes),
                json!(self.equality_deletes),
                json!(committed.map_or(0, |c| c.attempts)),
                json!(committed.is_some_and(|c| c.already_done)),
            ]);
            return listing.print(output);
        }
        let Some(committed) = committed else {
            say("no rows; nothing to commit");
            return Ok(());
        };
        let snapshot = committed.snapshot_id;
        if committed.already_done {
            say(format!(
                "this epoch was committed before, as snapshot {snapshot}; nothing changed"
            ));
            return Ok(());
        }
        let size = bytesize::ByteSize::b(self.bytes);
        say(format!(
            "committed snapshot {snapshot}: {} rows in {} files ({size}) in {:.1} s",
            self.rows,
            self.files,
            began.elapsed().as_secs_f64()
        ));
        Ok(())
    }
}
