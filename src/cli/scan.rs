//! `scan`: the rows that are alive, merged on read.

use std::fs::File;
use std::io::{BufWriter, Write};

use clap::Args;
use futures::TryStreamExt;

use super::failure::Outcome;
use super::inspect::AtFlags;
use super::output::{RowFormat, row_sink};
use super::session::Session;
use super::terminal::{OutputFormat, say};
use crate::error::{Error, ErrorKind};
use crate::expr;

/// Print the rows that are alive.
#[derive(Debug, Args)]
pub(super) struct Scan {
    /// NAMESPACE.TABLE, a table folder or a metadata file
    table: String,
    /// Columns to print, in this order; all otherwise
    #[arg(long, value_name = "a,b", value_delimiter = ',')]
    select: Vec<String>,
    /// Rows to print, such as "status = 'open' and day >= date '2026-01-01'"
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    #[command(flatten)]
    at: AtFlags,
    /// At most so many rows
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Only count them
    #[arg(long, conflicts_with_all = ["select", "limit", "format"])]
    count: bool,
    /// How rows are printed [default: as the name of --to says; else table, or jsonl with --output
    /// json]
    #[arg(long, value_enum)]
    format: Option<RowFormat>,
    /// Memory for deletes and decoding, such as 512MB
    #[arg(long, value_name = "BYTES", value_parser = super::size::memory)]
    memory: Option<bytesize::ByteSize>,
    /// Write to a file instead of stdout
    #[arg(long, short, value_name = "FILE")]
    to: Option<String>,
}

impl Scan {
    /// Scans and prints.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let table = session.readable(&self.table).await?;
        let mut scan = table.scan().at(self.at.at()?);
        if !self.select.is_empty() {
            scan = scan.select(self.select.iter().map(|name| name.trim()));
        }
        if let Some(text) = &self.filter {
            let schema = scan.context()?.schema;
            scan = scan.filter(expr::parse(text, &schema)?);
        }
        if let Some(limit) = self.limit {
            scan = scan.limit(limit);
        }
        if let Some(memory) = self.memory {
            scan = scan.memory_budget(memory.as_u64());
        }
        if self.count {
            let count = scan.count().await?;
            let mut out = super::terminal::stdout();
            match session.output {
                OutputFormat::Json => writeln!(out, "{{\"count\":{count}}}")?,
                OutputFormat::Table => writeln!(out, "{count}")?,
            }
            return Ok(out.flush()?);
        }
        let named = || self.to.as_deref().and_then(RowFormat::of_file);
        let format = self.format.or_else(named).unwrap_or(match session.output {
            OutputFormat::Table => RowFormat::Table,
            OutputFormat::Json => RowFormat::Jsonl,
        });
        let context = scan.context()?;
        let mut batches = scan.to_batches().await?;
        let out: Box<dyn Write + Send> = match &self.to {
            Some(path) => Box::new(BufWriter::new(create(path)?)),
            None => Box::new(BufWriter::with_capacity(64 * 1024, std::io::stdout())),
        };
        let mut sink = row_sink(format, out, context.output, context.arrow)?;
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await? {
            rows += batch.num_rows();
            sink.write(&batch)?;
        }
        sink.finish()?;
        if format == RowFormat::Table || self.to.is_some() {
            say(format!("{rows} rows"));
        }
        Ok(())
    }
}

fn create(path: &str) -> Outcome<File> {
    File::create(path).map_err(|error| {
        Error::new(ErrorKind::Unavailable, format!("`{path}` cannot be written"))
            .with_source(error)
            .with_hint("name a file in a folder that is there and that you may write to")
            .into()
    })
}
