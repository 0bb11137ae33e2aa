//! Batches to stdout: a table for people, JSON lines, CSV, Parquet or Arrow IPC for programs,
//! and a canonical form for comparing tables by their bytes.

use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::canonical::canonical_lines;
use super::failure::Outcome;
use super::input::FileFormat;
use super::readable::{EveryFloat, Readable};
use super::terminal::{Grid, one_line};
use crate::error::{Error, Result};
use crate::spec::SchemaRef;

/// Rows that decide how wide the columns of a printed table are.
const GRID_ROWS: usize = 1000;

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum RowFormat {
    /// Aligned columns.
    Table,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated with a header line.
    Csv,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC stream.
    Arrow,
    /// Sorted JSON lines in one exact form: equal tables give equal bytes. Held in memory.
    Canonical,
}

impl RowFormat {
    /// By the extension of a file's name, if it says.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        Some(match FileFormat::of(name, None).ok()? {
            FileFormat::Parquet => Self::Parquet,
            FileFormat::Csv => Self::Csv,
            FileFormat::Jsonl => Self::Jsonl,
            FileFormat::Arrow => Self::Arrow,
        })
    }
}

/// Takes batches and prints them; nothing is complete before `finish`.
pub(super) trait RowSink: Send {
    /// Prints a batch, or keeps it.
    fn write(&mut self, batch: &RecordBatch) -> Outcome;
    /// Hands over what is printed so far, as far as the format allows.
    fn flush(&mut self) -> Outcome;
    /// Prints what is left.
    fn finish(self: Box<Self>) -> Outcome;
}

/// A printer of rows with this schema, Iceberg's and Arrow's.
pub(super) fn row_sink<W: Write + Send + 'static>(
    format: RowFormat,
    out: W,
    schema: SchemaRef,
    columns: ArrowSchemaRef,
) -> Result<Box<dyn RowSink>> {
    let text = || Readable::new(&schema, &columns);
    Ok(match format {
        RowFormat::Table => Box::new(TableSink { out, text: text()?, grid: None }),
        RowFormat::Jsonl => Box::new(JsonSink::new(out, &schema, &columns)?),
        RowFormat::Csv => {
            if let Some(nested) = columns.fields().iter().find(|f| f.data_type().is_nested()) {
                let message = format!("CSV cannot hold the nested column `{}`", nested.name());
                return Err(Error::unsupported(message)
                    .with_hint("leave it out with `--select`, or use `--format jsonl`"));
            }
            Box::new(CsvSink { writer: arrow_csv::Writer::new(out), text: text()? })
        }
        RowFormat::Parquet => {
            let options = parquet::file::properties::WriterProperties::builder()
                .set_compression(parquet::basic::Compression::ZSTD(Default::default()))
                .build();
            let writer = parquet::arrow::ArrowWriter::try_new(out, columns, Some(options))?;
            Box::new(ParquetSink { writer })
        }
        RowFormat::Arrow => {
            Box::new(ArrowSink { writer: arrow_ipc::writer::StreamWriter::try_new(out, &columns)? })
        }
        RowFormat::Canonical => Box::new(CanonicalSink { out, schema, lines: Vec::new() }),
    })
}

struct TableSink<W> {
    out: W,
    text: Readable,
    grid: Option<Grid>,
}

impl<W: Write> TableSink<W> {
    fn header(&mut self, rows: &[Vec<String>]) -> Outcome {
        let fields = self.text.schema.fields();
        let names: Vec<String> = fields.iter().map(|f| one_line(f.name())).collect();
        let right = fields.iter().map(|f| f.data_type().is_numeric()).collect();
        let grid = Grid::fitting(&names, rows, right);
        grid.header(&mut self.out, &names)?;
        self.grid = Some(grid);
        Ok(())
    }
}

impl<W: Write + Send> RowSink for TableSink<W> {
    fn write(&mut self, batch: &RecordBatch) -> Outcome {
        let batch = self.text.apply(batch)?;
        let options = FormatOptions::default().with_null("null");
        let columns = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()?;
        let cells = |row: usize| -> Vec<String> {
            columns.iter().map(|c| one_line(&c.value(row).to_string())).collect()
        };
        if self.grid.is_none() {
            let sample: Vec<_> = (0..batch.num_rows().min(GRID_ROWS)).map(cells).collect();
            self.header(&sample)?;
        }
        if let Some(grid) = &self.grid {
            for row in 0..batch.num_rows() {
                grid.row(&mut self.out, &cells(row))?;
            }
        }
        // A person watches: show rows as they come.
        self.out.flush()?;
        Ok(())
    }

    fn flush(&mut self) -> Outcome {
        Ok(self.out.flush()?)
    }

    fn finish(mut self: Box<Self>) -> Outcome {
        if self.grid.is_none() {
            self.header(&[])?;
        }
        self.out.flush()?;
        Ok(())
    }
}

/// One JSON object a line.
pub(super) struct JsonSink<W: Write> {
    writer: arrow_json::Writer<W, arrow_json::writer::LineDelimited>,
    text: Readable,
}

impl<W: Write + Send> JsonSink<W> {
    pub(super) fn new(out: W, schema: &SchemaRef, columns: &ArrowSchemaRef) -> Result<Self> {
        let writer = arrow_json::WriterBuilder::new()
            .with_explicit_nulls(true)
            .with_encoder_factory(Arc::new(EveryFloat));
        let writer = writer.build::<_, arrow_json::writer::LineDelimited>(out);
        Ok(Self { writer, text: Readable::new(schema, columns)? })
    }

    /// Prints a line of its own; batches behind it have other columns.
    pub(super) fn turn(
        &mut self,
        line: &serde_json::Value,
        schema: &SchemaRef,
        columns: &ArrowSchemaRef,
    ) -> Outcome {
        self.text = Readable::new(schema, columns)?;
        Ok(writeln!(self.writer.get_mut(), "{line}")?)
    }
}

impl<W: Write + Send> RowSink for JsonSink<W> {
    fn write(&mut self, batch: &RecordBatch) -> Outcome {
        self.writer.write(&self.text.apply(batch)?)?;
        Ok(())
    }

    fn flush(&mut self) -> Outcome {
        Ok(self.writer.get_mut().flush()?)
    }

    fn finish(mut self: Box<Self>) -> Outcome {
        self.writer.finish()?;
        self.writer.into_inner().flush()?;
        Ok(())
    }
}

struct CsvSink<W: Write> {
    writer: arrow_csv::Writer<W>,
    text: Readable,
}

impl<W: Write + Send> RowSink for CsvSink<W> {
    fn write(&mut self, batch: &RecordBatch) -> Outcome {
        self.writer.write(&self.text.apply(batch)?)?;
        Ok(())
    }

    fn flush(&mut self) -> Outcome {
        // Rows are handed over as they are written; what may be missing is the header.
        self.writer.write(&RecordBatch::new_empty(self.text.schema.clone()))?;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Outcome {
        self.flush()?;
        self.writer.into_inner().flush()?;
        Ok(())
    }
}

struct ParquetSink<W: Write + Send> {
    writer: parquet::arrow::ArrowWriter<W>,
}

impl<W: Write + Send> RowSink for ParquetSink<W> {
    fn write(&mut self, batch: &RecordBatch) -> Outcome {
        self.writer.write(batch).map_err(parquet_failure)
    }

    fn flush(&mut self) -> Outcome {
        // Nothing can be read before the footer is written.
        Ok(())
    }

    fn finish(self: Box<Self>) -> Outcome {
        let mut out = self.writer.into_inner().map_err(parquet_failure)?;
        out.flush()?;
        Ok(())
    }
}

/// A closed pipe travels as an external error inside Parquet's.
fn parquet_failure(error: parquet::errors::ParquetError) -> super::failure::Failure {
    if let parquet::errors::ParquetError::External(inner) = &error
        && inner
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    {
        return super::failure::Failure::ReaderGone;
    }
    Error::from(error).into()
}

struct ArrowSink<W: Write> {
    writer: arrow_ipc::writer::StreamWriter<W>,
}

impl<W: Write + Send> RowSink for ArrowSink<W> {
    fn write(&mut self, batch: &RecordBatch) -> Outcome {
        self.writer.write(batch)?;
        Ok(())
    }

    fn flush(&mut self) -> Outcome {
        Ok(self.writer.flush()?)
    }

    fn finish(mut self: Box<Self>) -> Outcome {
        self.writer.finish()?;
        self.writer.flush()?;
        Ok(())
    }
}

struct CanonicalSink<W> {
    out: W,
    schema: SchemaRef,
    lines: Vec<String>,
}

impl<W: Write + Send> RowSink for CanonicalSink<W> {
    fn write(&mut self, batch: &RecordBatch) -> Outcome {
        self.lines.extend(canonical_lines(batch, &self.schema)?);
        Ok(())
    }

    fn flush(&mut self) -> Outcome {
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Outcome {
        self.lines.sort_unstable();
        for line in &self.lines {
            writeln!(self.out, "{line}")?;
        }
        self.out.flush()?;
        Ok(())
    }
}
