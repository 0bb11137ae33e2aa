//! `diff`: what tells two snapshots of a table apart.

use std::io::{BufWriter, IsTerminal, Write};
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef as ArrowSchemaRef};
use bytesize::ByteSize;
use clap::Args;
use futures::TryStreamExt;
use indicatif::ProgressBar;
use serde_json::json;

use super::failure::{Failure, Outcome};
use super::follow::lines::LinesSink;
use super::follow::output::ChangeSink;
use super::follow::rows::Changes;
use super::output::{RowFormat, RowSink, row_sink};
use super::session::Session;
use super::terminal::{OutputFormat, print_json, say, stdout};
use crate::error::{Error, Result};
use crate::expr;
use crate::read::{ChangeKind, ChangeRows, DiffStat, TableDiff};
use crate::spec::SnapshotId;
use crate::stream::Naming;
use crate::table::{At, Table};

/// How differences are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DiffFormat {
    /// A line each for people, an update's old and new value side by side.
    Lines,
    /// Aligned columns.
    Table,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated with a header line.
    Csv,
    /// Arrow IPC stream.
    Arrow,
}

/// Print what tells two snapshots of a table apart.
#[derive(Debug, Args)]
#[command(
    after_help = "A and B are snapshot ids, branches, tags, `earliest` (the oldest snapshot \
    that the other side still has behind it) or `current`; `A..` ends at the current snapshot, \
    `..B` begins at the earliest. Neither need be an ancestor of the other. Rows that both sides \
    have are no difference, however often they were rewritten between. Columns are those of a \
    scan at B."
)]
pub(super) struct Diff {
    /// NAMESPACE.TABLE, a table folder or a metadata file
    table: String,
    /// From where to where
    #[arg(value_name = "A..B")]
    range: String,
    /// Only count, and say which files were looked at
    #[arg(long, conflicts_with_all = ["select", "limit", "format"])]
    stat: bool,
    /// Columns to print, in this order; all otherwise
    #[arg(long, value_name = "a,b", value_delimiter = ',')]
    select: Vec<String>,
    /// Rows to print, such as "status = 'open'"; an update into or out of them is an insert or
    /// a delete
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    /// Columns that name a row [default: the table's key]
    #[arg(long, value_name = "a,b", value_delimiter = ',')]
    key: Vec<String>,
    /// At most so many changes; the two images of an update are one
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// How changes are printed [default: lines on a terminal, jsonl elsewhere]
    #[arg(long, value_enum)]
    format: Option<DiffFormat>,
    /// Memory to hold, such as 256MB
    #[arg(long, value_name = "BYTES", value_parser = super::size::memory)]
    memory: Option<ByteSize>,
}

impl Diff {
    /// Compares and prints.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.readable(&self.table).await?;
        let (from, to) = range(&self.range, &table)?;
        let diff = self.question(&table, from, to)?;
        if self.stat {
            return print_stat(&diff.stat().await?, session.output);
        }
        let mut printer = self.printer(session, &table, &diff)?;
        let mut rows = diff.rows().await?;
        let (mut left, mut seen) = (self.limit.unwrap_or(u64::MAX), 0);
        while left > 0 {
            let Some(changes) = rows.try_next().await? else { break };
            let (changes, taken) = first(changes, left);
            printer.write(changes)?;
            (left, seen) = (left - taken, seen + taken);
        }
        printer.finish()?;
        if std::io::stdout().is_terminal() {
            say(format!("{seen} changes"));
        }
        Ok(())
    }

    fn question(&self, table: &Table, from: At, to: At) -> Outcome<TableDiff> {
        let names = |names: &[String]| -> Vec<String> {
            names.iter().map(|name| name.trim().to_string()).collect()
        };
        let schema = table.scan().at(to.clone()).context()?.schema;
        let mut diff = table.diff(from, to);
        if !self.select.is_empty() {
            diff = diff.select(names(&self.select));
        }
        if !self.key.is_empty() {
            diff = diff.key(names(&self.key));
        }
        if let Some(text) = &self.filter {
            diff = diff.filter(expr::parse(text, &schema)?);
        }
        if let Some(memory) = self.memory {
            diff = diff.memory_budget(memory.as_u64());
        }
        Ok(diff)
    }

    fn printer(&self, session: &Session, table: &Table, diff: &TableDiff) -> Outcome<Printer> {
        let terminal = std::io::stdout().is_terminal();
        let person = terminal && session.output == OutputFormat::Table;
        let format = match self.format.unwrap_or(match person {
            true => DiffFormat::Lines,
            false => DiffFormat::Jsonl,
        }) {
            DiffFormat::Lines => {
                let coloured = terminal && std::env::var_os("NO_COLOR").is_none();
                let mut sink = LinesSink::new(buffered(), coloured, ProgressBar::hidden());
                sink.without_heads();
                return Ok(Printer::Lines(Box::new(sink)));
            }
            DiffFormat::Table => RowFormat::Table,
            DiffFormat::Jsonl => RowFormat::Jsonl,
            DiffFormat::Csv => RowFormat::Csv,
            DiffFormat::Arrow => RowFormat::Arrow,
        };
        let columns = with_kind(&diff.arrow_schema()?)?;
        let sink = row_sink(format, buffered(), table.schema().clone(), columns.clone())?;
        Ok(Printer::Rows(sink, columns))
    }
}

fn buffered() -> impl Write + Send {
    BufWriter::with_capacity(64 * 1024, std::io::stdout())
}

enum Printer {
    Lines(Box<dyn ChangeSink>),
    /// Rows with what happened to them in a column behind.
    Rows(Box<dyn RowSink>, ArrowSchemaRef),
}

impl Printer {
    fn write(&mut self, changes: ChangeRows) -> Outcome {
        match self {
            Self::Lines(sink) => sink.write(&Changes::uncommitted(changes)),
            Self::Rows(sink, schema) => {
                let kinds = changes.kinds.iter().map(|kind| kind.as_str());
                let mut columns = changes.records.columns().to_vec();
                columns.push(Arc::new(StringArray::from_iter_values(kinds)));
                let rows = RecordBatch::try_new(schema.clone(), columns);
                sink.write(&rows.map_err(Error::from)?)
            }
        }
    }

    fn finish(self) -> Outcome {
        match self {
            Self::Lines(sink) => sink.finish(),
            Self::Rows(sink, _) => sink.finish(),
        }
    }
}

fn with_kind(rows: &ArrowSchemaRef) -> Result<ArrowSchemaRef> {
    let name = Naming::default().change_type;
    if rows.field_with_name(&name).is_ok() {
        return Err(Error::invalid(format!("the table has a column `{name}` of its own"))
            .with_hint("leave it out with `--select`"));
    }
    let mut fields: Vec<Arc<Field>> = rows.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(name, DataType::Utf8, false)));
    Ok(Arc::new(ArrowSchema::new_with_metadata(fields, rows.metadata().clone())))
}

/// The first `most` changes of a batch, and how many those are: two images count as one.
fn first(changes: ChangeRows, most: u64) -> (ChangeRows, u64) {
    let (mut rows, mut taken) = (0, 0);
    while let Some(kind) = changes.kinds.get(rows).filter(|_| taken < most) {
        let next = changes.kinds.get(rows + 1);
        let is_pair = *kind == ChangeKind::UpdateBefore && next == Some(&ChangeKind::UpdateAfter);
        rows += if is_pair { 2 } else { 1 };
        taken += 1;
    }
    let ChangeRows { records, mut kinds, mut ordinals } = changes;
    kinds.truncate(rows);
    ordinals.truncate(rows);
    (ChangeRows { records: records.slice(0, rows), kinds, ordinals }, taken)
}

/// `A..B`, `A..` or `..B`.
fn range(text: &str, table: &Table) -> Outcome<(At, At)> {
    let Some((from, to)) = text.split_once("..").filter(|(_, to)| !to.starts_with('.')) else {
        return Err(Failure::Usage(format!(
            "`{text}` is no range; write A..B, such as earliest..current or TAG..BRANCH"
        )));
    };
    let to = match to.trim() {
        "" | "current" => At::Current,
        "earliest" => earliest(table, &At::Current)?,
        word => point(word),
    };
    let from = match from.trim() {
        "" | "earliest" => earliest(table, &to)?,
        "current" => At::Current,
        word => point(word),
    };
    Ok((from, to))
}

fn point(word: &str) -> At {
    match word.parse() {
        Ok(id) => At::Snapshot(SnapshotId(id)),
        Err(_) => At::Ref(word.to_string()),
    }
}

/// The oldest snapshot that is still behind this one.
fn earliest(table: &Table, to: &At) -> Result<At> {
    let Some(to) = table.snapshot_at(to)? else { return Ok(At::Current) };
    let oldest = table.ancestors(SnapshotId(to.snapshot_id())).last();
    Ok(At::Snapshot(SnapshotId(oldest.unwrap_or(&to).snapshot_id())))
}

fn print_stat(stat: &DiffStat, output: OutputFormat) -> Outcome {
    let files = &stat.files;
    if output == OutputFormat::Json {
        return print_json(&json!({
            "from": stat.from.map(|id| id.0),
            "to": stat.to.map(|id| id.0),
            "inserted": stat.inserted,
            "updated": stat.updated,
            "deleted": stat.deleted,
            "added_files": files.added_files,
            "added_bytes": files.added_bytes,
            "removed_files": files.removed_files,
            "removed_bytes": files.removed_bytes,
            "touched_files": files.touched_files,
            "touched_bytes": files.touched_bytes,
            "untouched_files": files.untouched_files,
            "manifests": files.manifests,
            "manifests_skipped": files.manifests_skipped,
        }));
    }
    let mut out = stdout();
    let name = |id: Option<SnapshotId>| id.map_or("nothing".to_string(), |id| id.to_string());
    writeln!(out, "{} .. {}", name(stat.from), name(stat.to))?;
    writeln!(out, "{stat}")?;
    let part = |files: u64, bytes: u64| format!("{files} files ({})", ByteSize(bytes));
    writeln!(
        out,
        "added {}, removed {}, touched {}; {} files untouched",
        part(files.added_files, files.added_bytes),
        part(files.removed_files, files.removed_bytes),
        part(files.touched_files, files.touched_bytes),
        files.untouched_files,
    )?;
    let opened = files.manifests - files.manifests_skipped;
    writeln!(out, "opened {opened} of {} manifests", files.manifests)?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn a_limit_counts_the_two_images_of_an_update_as_one() {
        use ChangeKind::{Delete, Insert, UpdateAfter, UpdateBefore};
        let kinds = vec![Delete, UpdateBefore, UpdateAfter, Insert];
        let ids = Int64Array::from_iter_values(0..4);
        let records = RecordBatch::try_from_iter([("id", Arc::new(ids) as _)]).unwrap();
        let changes = ChangeRows { records, kinds, ordinals: (0..4).collect() };
        for (limit, rows, taken) in [(0, 0, 0), (1, 1, 1), (2, 3, 2), (3, 4, 3), (9, 4, 3)] {
            let (found, count) = first(changes.clone(), limit);
            assert_eq!((found.kinds.len(), found.records.num_rows(), count), (rows, rows, taken));
        }
    }
}
