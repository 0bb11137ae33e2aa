//! Files to batches: Parquet, CSV, JSON lines and Arrow IPC, from disk or from stdin.
//!
//! A thread of its own reads and decodes, so that a writer can be interrupted while its input
//! stands still.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::sync::mpsc;

use super::conform::{Place, conform, text_schema};
use super::failure::Outcome;
use super::quotes::Quotes;
use super::spelled::bytes;
use crate::error::{Error, ErrorKind, Result};

/// Rows per batch: large enough for columns to pay, small enough to be interrupted quickly.
const BATCH_ROWS: usize = 8192;
/// Rows looked at to infer a schema.
const SAMPLE_ROWS: usize = 1000;

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FileFormat {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated, with a header line; empty is null.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Arrow IPC: a file or a stream.
    Arrow,
}

impl FileFormat {
    /// By `--format`, else by the file's extension; stdin is taken for JSON lines.
    pub(super) fn of(name: &str, given: Option<Self>) -> Result<Self> {
        if let Some(format) = given {
            return Ok(format);
        }
        let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            _ if name == "-" => Ok(Self::Jsonl),
            "parquet" | "parq" => Ok(Self::Parquet),
            "csv" => Ok(Self::Csv),
            "jsonl" | "ndjson" | "json" => Ok(Self::Jsonl),
            "arrow" | "ipc" | "arrows" | "feather" => Ok(Self::Arrow),
            _ => Err(Error::invalid(format!("the format of `{name}` is not known by its name"))
                .with_hint("say `--format parquet|csv|jsonl|arrow`")),
        }
    }
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch>>>;

/// Batches on their way from the reading thread.
#[derive(Debug)]
pub(super) struct Input {
    receiver: mpsc::Receiver<Item>,
}

#[derive(Debug)]
enum Item {
    Batch(RecordBatch),
    Failed(Error),
    /// Said aloud: a thread that died must not look like an input that ended.
    End,
}

impl Input {
    /// All files, in order, in the form of `target`. Errors name the file.
    pub(super) fn open(files: Vec<String>, format: Option<FileFormat>, target: SchemaRef) -> Self {
        let (sender, receiver) = mpsc::channel(2);
        std::thread::spawn(move || {
            for file in files {
                let batches = open(&file, format, &target);
                let mut row = 1;
                let mut fitted = |batch: RecordBatch| {
                    let first = row;
                    row += batch.num_rows() as u64;
                    conform(&batch, &target, first)
                };
                let mut batches = match batches {
                    Ok(batches) => batches.map(|batch| batch.and_then(&mut fitted)),
                    Err(error) => {
                        let _ =
                            sender.blocking_send(Item::Failed(error.with_context("file", file)));
                        return;
                    }
                };
                let sent = batches.try_for_each(|batch| match batch {
                    Ok(batch) => sender.blocking_send(Item::Batch(batch)).map_err(drop),
                    Err(error) => {
                        let _ =
                            sender.blocking_send(Item::Failed(error.with_context("file", &file)));
                        Err(())
                    }
                });
                if sent.is_err() {
                    return;
                }
            }
            let _ = sender.blocking_send(Item::End);
        });
        Self { receiver }
    }

    /// The next batch, or none when every file has been read to its end. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        match self.receiver.recv().await {
            Some(Item::Batch(batch)) => Ok(Some(batch)),
            Some(Item::End) => Ok(None),
            Some(Item::Failed(error)) => Err(error),
            None => Err(Error::invalid("the input is so damaged that its decoder gave up")),
        }
    }
}

/// The Arrow schema of a file: stored, or inferred from its first rows.
pub(super) fn schema_of(file: &str, format: Option<FileFormat>) -> Outcome<Schema> {
    let format = FileFormat::of(file, format)?;
    let found = match format {
        FileFormat::Parquet => ParquetRecordBatchReaderBuilder::try_new(open_file(file)?)
            .map_err(unreadable)?
            .schema()
            .as_ref()
            .clone(),
        FileFormat::Csv => {
            let csv = arrow_csv::reader::Format::default().with_header(true);
            let input = behind_mark(BufReader::new(open_file(file)?))?;
            csv.infer_schema(input, Some(SAMPLE_ROWS)).map_err(unreadable)?.0
        }
        FileFormat::Jsonl => {
            let reader = behind_mark(BufReader::new(open_file(file)?))?;
            arrow_json::reader::infer_json_schema(reader, Some(SAMPLE_ROWS)).map_err(unreadable)?.0
        }
        FileFormat::Arrow => {
            let mut reader = BufReader::new(open_file(file)?);
            match is_arrow_file(&mut reader)? {
                true => arrow_ipc::reader::FileReader::try_new(reader, None)
                    .map_err(unreadable)?
                    .schema(),
                false => arrow_ipc::reader::StreamReader::try_new(reader, None)
                    .map_err(unreadable)?
                    .schema(),
            }
            .as_ref()
            .clone()
        }
    };
    if found.fields().is_empty() {
        return Err(Error::invalid(format!("`{file}` has no columns to be like"))
            .with_hint("name a file with at least one row, or say --schema")
            .into());
    }
    Ok(found)
}

fn open(file: &str, format: Option<FileFormat>, target: &SchemaRef) -> Result<Batches> {
    match (FileFormat::of(file, format)?, file) {
        (FileFormat::Parquet, "-") => {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes).map_err(not_readable)?;
            parquet_batches(bytes::Bytes::from(bytes))
        }
        (FileFormat::Parquet, _) => parquet_batches(open_file(file)?),
        (FileFormat::Csv, "-") => csv_batches(BufReader::new(io::stdin()), target),
        (FileFormat::Csv, _) => csv_batches(BufReader::new(open_file(file)?), target),
        (FileFormat::Jsonl, "-") => json_batches(BufReader::new(io::stdin()), target),
        (FileFormat::Jsonl, _) => json_batches(BufReader::new(open_file(file)?), target),
        (FileFormat::Arrow, "-") => {
            let mut reader = BufReader::new(io::stdin());
            // The magic of a file cannot be sought back on a pipe: look without taking.
            if !reader.fill_buf().map_err(not_readable)?.starts_with(b"ARROW1") {
                return arrow_stream(reader);
            }
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map_err(not_readable)?;
            arrow_file(Cursor::new(bytes))
        }
        (FileFormat::Arrow, _) => {
            let mut reader = BufReader::new(open_file(file)?);
            match is_arrow_file(&mut reader)? {
                true => arrow_file(reader),
                false => arrow_stream(reader),
            }
        }
    }
}

fn parquet_batches<T: parquet::file::reader::ChunkReader + 'static>(input: T) -> Result<Batches> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(input)
        .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
        .map_err(unreadable)?;
    Ok(Box::new(reader.map(|batch| batch.map_err(unreadable))))
}

fn csv_batches(input: impl BufRead + 'static, target: &SchemaRef) -> Result<Batches> {
    let mut input = behind_mark(input)?;
    let mut header = String::new();
    input.read_line(&mut header).map_err(not_readable)?;
    let names = arrow_csv::reader::Format::default()
        .with_header(true)
        .infer_schema(header.as_bytes(), Some(0))
        .map_err(unreadable)?
        .0;
    let types = text_schema(target);
    // A column that the table does not have is read as text and then refused by name.
    let fields = names.fields().iter().map(|column| match types.field_with_name(column.name()) {
        Ok(field) if is_bytes(field) => column.as_ref().clone().with_data_type(DataType::Utf8),
        Ok(field) => field.clone(),
        Err(_) => column.as_ref().clone().with_data_type(DataType::Utf8),
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    if let Some(nested) = schema.fields().iter().find(|f| f.data_type().is_nested()) {
        return Err(Error::unsupported(format!(
            "CSV cannot hold the nested column `{}`",
            nested.name()
        ))
        .with_hint("use JSON lines, Parquet or Arrow"));
    }
    let reader = arrow_csv::ReaderBuilder::new(schema)
        .with_batch_size(BATCH_ROWS)
        .build_buffered(Quotes::behind_header(input))
        .map_err(unreadable)?;
    Ok(Box::new(reader.map(move |batch| with_bytes(&batch.map_err(unreadable)?, &types))))
}

fn is_bytes(field: &Field) -> bool {
    matches!(field.data_type(), DataType::Binary | DataType::FixedSizeBinary(_))
}

/// The batch with its hex digits read as the bytes that `types` has in their place.
fn with_bytes(batch: &RecordBatch, types: &Schema) -> Result<RecordBatch> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let (mut field, mut column) = (field.as_ref().clone(), column.clone());
        if let Ok(wanted) = types.field_with_name(field.name())
            && is_bytes(wanted)
        {
            let place = Place { path: field.name().into(), first_row: None };
            column = bytes(column.as_string(), wanted.data_type(), &place)?;
            field = field.with_data_type(wanted.data_type().clone());
        }
        fields.push(field);
        columns.push(column);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn json_batches(input: impl BufRead + 'static, target: &SchemaRef) -> Result<Batches> {
    let mut input = behind_mark(input)?;
    let start = input.fill_buf().map_err(not_readable)?;
    if start.trim_ascii_start().starts_with(b"[") {
        return Err(Error::invalid("the input is one JSON array, not one object a line")
            .with_hint("take it apart first, such as with `jq -c '.[]'`"));
    }
    let reader = arrow_json::ReaderBuilder::new(Arc::new(text_schema(target)))
        .with_batch_size(BATCH_ROWS)
        // Numbers come as their text, which is then read exactly.
        .with_coerce_primitive(true)
        // A misspelt key must not become a column of nulls.
        .with_strict_mode(true)
        .build(input)
        .map_err(unreadable)?;
    Ok(Box::new(reader.map(|batch| batch.map_err(unreadable))))
}

/// The input behind the byte order mark that some programs put before UTF-8.
fn behind_mark<R: BufRead>(mut input: R) -> Result<R> {
    const MARK: &[u8] = "\u{feff}".as_bytes();
    if input.fill_buf().map_err(not_readable)?.starts_with(MARK) {
        input.consume(MARK.len());
    }
    Ok(input)
}

fn arrow_file(input: impl Read + Seek + 'static) -> Result<Batches> {
    let reader = arrow_ipc::reader::FileReader::try_new(input, None).map_err(unreadable)?;
    Ok(Box::new(reader.map(|batch| batch.map_err(unreadable))))
}

fn arrow_stream(input: impl Read + 'static) -> Result<Batches> {
    let reader = arrow_ipc::reader::StreamReader::try_new(input, None).map_err(unreadable)?;
    Ok(Box::new(reader.map(|batch| batch.map_err(unreadable))))
}

fn is_arrow_file(reader: &mut BufReader<File>) -> Result<bool> {
    Ok(reader.fill_buf().map_err(not_readable)?.starts_with(b"ARROW1"))
}

fn open_file(file: &str) -> Result<File> {
    File::open(file).map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, format!("input file `{file}` cannot be opened")).with_source(error)
    })
}

fn not_readable(error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the input cannot be read").with_source(error)
}

/// What a decoder says about an input is about the user's file, not about the table.
fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::invalid("the input is damaged, or is not of this format")
        .with_source(error)
        .with_hint("check the file, or name its format with `--format`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::Int64Type;

    fn target() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
        ]))
    }

    fn ids(name: &str, contents: &[u8]) -> Result<Vec<i64>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        let mut input = Input::open(vec![path.display().to_string()], None, target());
        let mut ids = Vec::new();
        while let Some(batch) = futures::executor::block_on(input.next())? {
            ids.extend(batch.column(0).as_primitive::<Int64Type>().values());
        }
        Ok(ids)
    }

    #[test]
    fn csv_columns_may_come_in_any_order() {
        assert_eq!(ids("a.csv", b"name,id\nx,1\n,2\n").unwrap(), [1, 2]);
    }

    #[test]
    fn json_lines_are_read_and_a_misspelt_key_is_refused() {
        assert_eq!(ids("a.jsonl", b"{\"id\":1}\n{\"id\":2,\"name\":\"x\"}\n").unwrap(), [1, 2]);
        assert!(ids("a.jsonl", b"{\"id\":1,\"nmae\":\"x\"}\n").is_err());
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(ids("a.jsonl", "\u{feff}{\"id\":1}\r\n".as_bytes()).unwrap(), [1]);
        assert_eq!(ids("a.csv", "\u{feff}id,name\r\n1,x\r\n".as_bytes()).unwrap(), [1]);
    }

    #[test]
    fn what_does_not_fit_is_named_by_its_row() {
        let mut lines: String = (1..=9000).map(|id| format!("{{\"id\":{id}}}\n")).collect();
        lines.push_str("{\"id\":9001.5}\n");
        let error = ids("a.jsonl", lines.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("9001.5") && error.contains("row: 9001"), "{error}");
    }

    #[test]
    fn a_csv_with_an_open_quote_or_two_columns_of_one_name_is_refused() {
        for (contents, cause) in [("id,name\n1,\"x\n2,y\n", "line 2"), ("id,id\n1,2\n", "two")] {
            let error = ids("a.csv", contents.as_bytes()).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let told = format!("{error} {source:?}");
            assert!(told.contains(cause), "{told}");
        }
    }

    #[test]
    fn arrow_files_and_streams_are_told_apart() {
        let id = Arc::new(Int64Array::from(vec![5])) as _;
        let batch = RecordBatch::try_from_iter([("id", id)]).unwrap();
        let mut stream =
            arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        stream.write(&batch).unwrap();
        assert_eq!(ids("a.arrow", &stream.into_inner().unwrap()).unwrap(), [5]);
        let mut file = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        file.write(&batch).unwrap();
        assert_eq!(ids("a.arrow", &file.into_inner().unwrap()).unwrap(), [5]);
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let error = ids("a.parquet", b"PAR1 this is not Parquet PAR1").unwrap_err();
        assert!(error.to_string().contains("a.parquet"), "{error}");
    }
}
