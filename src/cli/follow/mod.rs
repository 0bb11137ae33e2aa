//! `follow`: the changes of a table, in order, as they are committed.
//!
//! Rows go to stdout or to a file, words and a status line to stderr. A position is stored only
//! for rows that were written and flushed.

mod file;
pub(in crate::cli) mod lines;
mod metrics;
pub(in crate::cli) mod output;
pub(in crate::cli) mod rows;
mod status;
pub(in crate::cli) mod words;

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use futures::TryStreamExt;
use tokio::time::MissedTickBehavior;

use super::failure::{Failure, Outcome};
use super::output::{JsonSink, RowFormat, row_sink};
use super::session::Session;
use super::terminal::{OutputFormat, say};
use crate::error::Error;
use crate::expr;
use crate::spec::MAIN_BRANCH;
use crate::stream::{
    ChangeKind, ChangeStream, Emit, KeyFilterStore, OnSchemaChange, Order, StreamEvent,
};
use crate::table::{Table, Token};
use lines::LinesSink;
use output::{ChangeSink, FlatSink, JsonChanges, Output, Written};
use rows::{Item, Shape};
use status::Status;

/// How often the position of a named stream is stored.
const STORE_EVERY: Duration = Duration::from_secs(1);
/// How long rows on their way are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How changes are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ChangeFormat {
    /// A line each for people, an update's old and new value side by side.
    Lines,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated with a header line.
    Csv,
    /// Arrow IPC stream.
    Arrow,
}

/// Print the changes of a table in order, as they are committed.
#[derive(Debug, Args)]
#[command(after_help = "Rows carry _change_type (insert, update_before, update_after, delete), \
    _change_ordinal, _commit_snapshot_id and _commit_timestamp. A named stream goes on where it \
    stopped and repeats at most what was printed after its last stored position (stored every \
    second and at the end). --to FILE repeats nothing: the file itself tells how far it got.")]
pub(super) struct Follow {
    /// NAMESPACE.TABLE, a table folder or a metadata file
    table: String,
    /// Store the position under this name, and go on from it next time
    #[arg(long)]
    name: Option<String>,
    /// Where positions are stored [default: meltwater-positions beside the SQLite catalog]
    #[arg(long, value_name = "DIR")]
    positions: Option<PathBuf>,
    /// The branch to follow
    #[arg(long, default_value = MAIN_BRANCH)]
    branch: String,
    /// Where to start if no position is stored: earliest, latest, full (the rows that are there,
    /// then their changes), after:ID, since:TIME or at:TOKEN
    #[arg(long, value_name = "START", default_value = "latest")]
    from: String,
    /// Where to end: caught-up or snapshot:ID [default: never]
    #[arg(long, value_name = "END")]
    until: Option<String>,
    /// What to tell: added rows only, the latest row per key, or exact changes with old values
    #[arg(long, value_name = "WHAT", default_value_t = Emit::Changes, value_parser = emission)]
    emit: Emit,
    /// What is in order: the changes of each partition, those of each snapshot in one lane, or
    /// none, to read on all lanes whatever the partitions (_change_ordinal tells what is later)
    #[arg(long, value_parser = ["partition", "snapshot", "none"], default_value = "partition")]
    order: String,
    /// What to do when the table's schema changes: keep the columns of the start, tell the new
    /// ones (a line with _change_type schema) and go on with them, or end before
    #[arg(long, value_name = "WAY", default_value_t = OnSchemaChange::Pin, value_parser = way)]
    on_schema_change: OnSchemaChange,
    /// Readers side by side
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    lanes: u16,
    /// How many decoders read the rows that are there (--from full, earliest) side by side
    /// [default: one a core, at least 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    full_parallelism: Option<u16>,
    /// How far readers may drift apart in commit time, such as 60s
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    max_drift: Option<Duration>,
    /// Columns that name a row [default: the table's key]
    #[arg(long, value_name = "a,b", value_delimiter = ',')]
    key: Vec<String>,
    /// Columns to print, in this order; all otherwise
    #[arg(long, value_name = "a,b", value_delimiter = ',')]
    select: Vec<String>,
    /// Rows to print, such as "status = 'open'"; an update into or out of them is an insert or
    /// a delete
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    /// Kinds of changes to leave out: insert, update_before, update_after, delete
    #[arg(long, value_name = "KIND,…", value_delimiter = ',')]
    drop: Vec<String>,
    /// When snapshots expired that were not followed yet: end, or go on with the net difference
    #[arg(long, value_name = "WHAT", value_parser = ["refuse", "net"], default_value = "refuse")]
    on_gap: String,
    /// When the branch was rolled back behind what was followed: end, or go on with the net
    /// difference, which undoes it
    #[arg(long, value_name = "WHAT", value_parser = ["refuse", "net"], default_value = "refuse")]
    on_rollback: String,
    /// Snapshots that claim to change no row: pass over them, read them and end if they do, or
    /// print what they do change
    #[arg(long, value_name = "WHAT", value_parser = ["trust", "refuse", "emit"],
        default_value = "trust")]
    verify_replace: String,
    /// How changes are printed [default: lines on a terminal, jsonl otherwise]
    #[arg(long, value_enum)]
    format: Option<ChangeFormat>,
    /// Add a column _token: on the last row of each batch, where to go on after it (--from at:TOKEN)
    #[arg(long)]
    tokens: bool,
    /// Append JSON lines to a file, each change exactly once, whenever the command is run again
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["name", "format"])]
    to: Option<PathBuf>,
    /// Where to keep what was learned of keys, so that it is not read again by the next run
    /// [default: meltwater-key-filters beside the positions of a named stream]
    #[arg(long, value_name = "DIR")]
    key_filters: Option<PathBuf>,
    /// Serve metrics to Prometheus at this address, such as 127.0.0.1:9184
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Memory for planning, deletes and decoding, such as 512MB
    #[arg(long, value_name = "BYTES", value_parser = super::size::memory)]
    memory: Option<bytesize::ByteSize>,
}

/// Why following ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The end that was asked for.
    Reached,
    /// Ctrl-C or SIGTERM.
    Stopped,
    /// The output takes no more.
    OutputEnded,
}

impl Follow {
    /// Follows until the end that was asked for, Ctrl-C, or a reader that left.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let _exporter = match self.metrics {
            Some(address) => Some(metrics::serve(address)?),
            None => None,
        };
        let table = session.readable(&self.table).await?;
        let (file, token) = match &self.to {
            None => (None, None),
            Some(path) => {
                let (file, token) = file::open(path)?;
                (Some(file), token)
            }
        };
        let mut changes = self.open(session, &table, token.as_deref()).await?;
        let status = Status::begin(&self.table);
        let (shape, sink) = self.printer(session, &table, &changes, file, &status)?;
        let output = Output::start(sink);
        let mut pump = Pump { changes: &mut changes, output: &output, status: &status, taken: 0 };
        let ended = pump.run(session, shape).await;
        let taken = pump.taken;
        let (written, outcome) = output.finish(PATIENCE).await;
        status.clear();
        let stored = store(&mut changes, taken, &written).await;
        let closed = changes.close().await;
        // The first failure tells the most.
        let end = ended?;
        outcome?;
        let token = stored?;
        closed?;
        self.say_how_to_go_on(end, &written, &token);
        Ok(())
    }

    /// The stream as the flags describe it.
    async fn open(
        &self,
        session: &Session,
        table: &Table,
        token: Option<&str>,
    ) -> Outcome<ChangeStream> {
        let start = match token {
            Some(token) => words::start(&format!("at:{token}"))?,
            None => words::start(&self.from)?,
        };
        let names =
            |names: &[String]| names.iter().map(|n| n.trim().to_string()).collect::<Vec<_>>();
        let mut stream = table
            .stream()
            .branch(&self.branch)
            .start(start)
            .emit(self.emit)
            .order(match self.order.as_str() {
                "snapshot" => Order::PerSnapshot,
                "none" => Order::Unordered,
                _ => Order::PerPartition,
            })
            .on_schema_change(self.on_schema_change)
            .lanes(usize::from(self.lanes))
            .on_gap(self.on_gap.parse()?)
            .on_rollback(self.on_rollback.parse()?)
            .verify_replace(self.verify_replace.parse()?);
        if let Some(name) = &self.name {
            let folder = session.positions(&self.table, self.positions.as_deref())?;
            stream = stream.named(name).positions(folder);
        }
        if let Some(folder) = self.key_filters_folder(session)? {
            stream = stream.key_filters(KeyFilterStore::directory(folder)?);
        }
        if let Some(until) = &self.until {
            stream = stream.until(words::until(until)?);
        }
        if let Some(decoders) = self.full_parallelism {
            stream = stream.full_parallelism(usize::from(decoders));
        }
        if let Some(drift) = self.max_drift {
            stream = stream.max_drift(drift);
        }
        if !self.key.is_empty() {
            stream = stream.key(names(&self.key));
        }
        if !self.select.is_empty() {
            stream = stream.select(names(&self.select));
        }
        if let Some(text) = &self.filter {
            stream = stream.filter(expr::parse(text, table.schema())?);
        }
        if !self.drop.is_empty() {
            let kinds = self.drop.iter().map(|kind| ChangeKind::from_str(kind.trim()));
            stream = stream.drop_kinds(kinds.collect::<Result<Vec<_>, Error>>()?);
        }
        if let Some(memory) = self.memory {
            stream = stream.memory_budget(memory.as_u64());
        }
        Ok(stream.open().await?)
    }

    fn key_filters_folder(&self, session: &Session) -> Outcome<Option<PathBuf>> {
        if self.key_filters.is_some() || self.name.is_none() {
            return Ok(self.key_filters.clone());
        }
        let positions = session.positions_folder(&self.table, self.positions.as_deref())?;
        Ok(Some(positions.with_file_name(KeyFilterStore::FOLDER)))
    }

    /// What prints the changes, and the shape it wants them in.
    fn printer(
        &self,
        session: &Session,
        table: &Table,
        changes: &ChangeStream,
        file: Option<File>,
        status: &Status,
    ) -> Outcome<(Shape, Box<dyn ChangeSink>)> {
        let terminal = std::io::stdout().is_terminal();
        let person = terminal && session.output == OutputFormat::Table && !self.tokens;
        let format = match (self.format, person && file.is_none()) {
            (Some(format), _) => format,
            (None, true) => ChangeFormat::Lines,
            (None, false) => ChangeFormat::Jsonl,
        };
        let format = match format {
            ChangeFormat::Lines if self.tokens => {
                let words = "lines for people hold no tokens; use --format jsonl, csv or arrow";
                return Err(Failure::Usage(words.into()));
            }
            ChangeFormat::Lines => {
                let coloured = terminal && std::env::var_os("NO_COLOR").is_none();
                let sink = LinesSink::new(output::stdout(), coloured, status.bar());
                return Ok((Shape::Bare, Box::new(sink)));
            }
            ChangeFormat::Jsonl => RowFormat::Jsonl,
            ChangeFormat::Csv => RowFormat::Csv,
            ChangeFormat::Arrow => RowFormat::Arrow,
        };
        let shape = match self.tokens || file.is_some() {
            true => Shape::WithToken,
            false => Shape::Flat,
        };
        let (schema, columns) = (table.schema().clone(), shape.schema(changes.arrow_schema())?);
        let out: Box<dyn Write + Send> = match file {
            Some(file) => Box::new(BufWriter::new(file)),
            None => Box::new(output::stdout()),
        };
        if format == RowFormat::Jsonl {
            return Ok((shape, Box::new(JsonChanges(JsonSink::new(out, &schema, &columns)?))));
        }
        if self.on_schema_change == OnSchemaChange::Announce {
            let words = "CSV and Arrow have one schema from beginning to end; announce schema \
                changes in --format jsonl, or use --on-schema-change pin or refuse";
            return Err(Failure::Usage(words.into()));
        }
        Ok((shape, Box::new(FlatSink(row_sink(format, out, schema, columns)?))))
    }

    /// The last lines tell how to go on.
    fn say_how_to_go_on(&self, end: End, written: &Written, token: &Token) {
        if end == End::OutputEnded {
            return;
        }
        let how = match end {
            End::Stopped => "stopped",
            _ => "reached the end",
        };
        say(format!("{how} after {} changes", written.rows));
        match (&self.to, &self.name) {
            (Some(path), _) => {
                say(format!("the same command goes on behind the last row of `{}`", path.display()))
            }
            (None, Some(name)) => {
                say(format!(
                    "the position is stored as `{name}`; the same command goes on from it"
                ));
            }
            (None, None) => {
                say(format!("go on with the same flags and --from 'at:{token}'"));
            }
        }
    }
}

/// Moves batches from the stream to the output.
struct Pump<'a> {
    changes: &'a mut ChangeStream,
    output: &'a Output,
    status: &'a Status,
    /// Batches and announcements taken from the stream, whether or not the output has them.
    taken: u64,
}

impl Pump<'_> {
    async fn run(&mut self, session: &Session, shape: Shape) -> Outcome<End> {
        let mut timer = tokio::time::interval(STORE_EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                biased;
                () = session.interrupt.asked() => return Ok(End::Stopped),
                () = self.output.ended() => return Ok(End::OutputEnded),
                _ = timer.tick() => {
                    self.tick().await?;
                    continue;
                }
                event = self.changes.try_next() => event?,
            };
            let item = match event {
                None => return Ok(End::Reached),
                Some(StreamEvent::Watermark(_)) => continue,
                Some(StreamEvent::Schema(change)) => Item::Schema(shape.announced(change)?),
                Some(StreamEvent::Batch(batch)) => Item::Changes(shape.of(batch)?),
            };
            self.taken += 1;
            let mut handed_over = pin!(self.output.write(item));
            // A reader who takes nothing holds up the rows, and nothing else.
            let goes_on = loop {
                tokio::select! {
                    biased;
                    () = session.interrupt.asked() => return Ok(End::Stopped),
                    goes_on = &mut handed_over => break goes_on,
                    _ = timer.tick() => self.tick().await?,
                }
            };
            if !goes_on {
                return Ok(End::OutputEnded);
            }
        }
    }

    /// Stores what was written, and says how the stream stands.
    async fn tick(&mut self) -> Outcome {
        let written = self.output.written();
        store(self.changes, self.taken, &written).await?;
        self.status.show(self.changes, written.rows).await;
        Ok(())
    }
}

/// Stores the position behind the rows that were written and flushed; gives it. If that is all
/// that was taken, commits without a row to print count as followed too.
async fn store(changes: &mut ChangeStream, taken: u64, written: &Written) -> Outcome<Token> {
    let committed = changes.committed().await;
    let token = match &written.token {
        _ if written.items == taken => changes.token(),
        Some(token) => Token::from_str(token)?,
        None => return Ok(committed),
    };
    if token != committed {
        changes.commit(token.clone()).await?;
    }
    Ok(token)
}

fn way(text: &str) -> Result<OnSchemaChange, Error> {
    text.parse()
}

fn emission(text: &str) -> Result<Emit, Error> {
    text.parse()
}
