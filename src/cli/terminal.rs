//! Data to stdout, words and progress to stderr.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde::Serialize;
use serde_json::Value;

use super::failure::Outcome;

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum OutputFormat {
    /// For people.
    Table,
    /// For programs; stable.
    Json,
}

/// Buffered stdout. A reader that left surfaces as an error, never as a panic.
pub(super) fn stdout() -> BufWriter<io::StdoutLock<'static>> {
    BufWriter::with_capacity(64 * 1024, io::stdout().lock())
}

/// Whether words on stderr may be coloured.
pub(super) fn coloured() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Says a sentence to the person on stderr; a closed stderr is nobody's loss.
pub(super) fn say(words: impl AsRef<str>) {
    let _ = Words.write_all(format!("{}\n", words.as_ref()).as_bytes());
}

/// Stderr for whole lines of words: on a terminal they take the place of the line that is drawn
/// there, which is drawn anew below.
#[derive(Debug)]
pub(super) struct Words;

impl Write for Words {
    fn write(&mut self, words: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        match stderr.is_terminal() {
            // In one piece, or the line could be drawn in between.
            true => stderr.write_all(&[ERASE_LINE.as_bytes(), words].concat())?,
            false => stderr.write_all(words)?,
        }
        Ok(words.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

const ERASE_LINE: &str = "\r\u{1b}[2K";
const TO_FIRST_COLUMN: &str = "\u{1b}[1G";

/// The look of a line on a terminal. It must fill its row, by a `wide_` part. The cursor goes back
/// to where it begins: what a person types stands on it then, and is cleared with it. Behind it,
/// `^C` would begin a row of its own, and that would be cleared in its place.
pub(super) fn line_style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(&format!("{template}{TO_FIRST_COLUMN}"));
    style.unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Progress of work whose size nobody knows; drawn only on a terminal.
pub(super) fn progress(verb: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
    bar.set_style(line_style("{spinner} {prefix} {human_pos} rows ({per_sec}) {wide_msg}"));
    bar.set_prefix(verb);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Rows of a small answer, such as `inspect snapshots`.
#[derive(Debug)]
pub(super) struct Listing {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Listing {
    /// An empty listing with these columns.
    pub(super) fn new(columns: &[&'static str]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with one value per column.
    pub(super) fn push(&mut self, row: Vec<Value>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// Whether it has no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints: aligned columns, or a JSON array of objects.
    pub(super) fn print(&self, format: OutputFormat) -> Outcome {
        let mut out = stdout();
        match format {
            OutputFormat::Table => self.write_table(&mut out)?,
            OutputFormat::Json => self.write_json(&mut out)?,
        }
        out.flush()?;
        Ok(())
    }

    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let objects = self.rows.iter().map(|row| {
            let fields = self.columns.iter().map(|c| c.to_string()).zip(row.iter().cloned());
            Value::Object(fields.collect())
        });
        serde_json::to_writer_pretty(&mut *out, &Value::Array(objects.collect()))?;
        writeln!(out)
    }

    fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let text: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
        let header: Vec<String> = self.columns.iter().map(|c| c.to_string()).collect();
        let right: Vec<bool> = (0..header.len())
            .map(|i| self.rows.iter().any(|row| row.get(i).is_some_and(Value::is_number)))
            .collect();
        let grid = Grid::fitting(&header, &text, right);
        grid.header(out, &header)?;
        text.iter().try_for_each(|row| grid.row(out, row))
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => one_line(text),
        other => other.to_string(),
    }
}

/// Prints one JSON document on a line of its own.
pub(super) fn print_json(value: &impl Serialize) -> Outcome {
    let value = serde_json::to_value(value).map_err(io::Error::from)?;
    let mut out = stdout();
    writeln!(out, "{value}")?;
    out.flush()?;
    Ok(())
}

/// Column widths and alignment of a printed table.
#[derive(Debug)]
pub(super) struct Grid {
    widths: Vec<usize>,
    right: Vec<bool>,
}

impl Grid {
    /// Wide enough for the header and these rows; wider cells that come later overflow.
    pub(super) fn fitting(header: &[String], rows: &[Vec<String>], right: Vec<bool>) -> Self {
        let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        Self { widths, right }
    }

    /// The header and a rule.
    pub(super) fn header(&self, out: &mut impl Write, names: &[String]) -> io::Result<()> {
        self.row(out, names)?;
        let rule: Vec<String> = self.widths.iter().map(|w| "-".repeat(*w)).collect();
        writeln!(out, "{}", rule.join("  "))
    }

    /// One row, without trailing blanks.
    pub(super) fn row(&self, out: &mut impl Write, cells: &[String]) -> io::Result<()> {
        let mut line = String::new();
        for (i, ((cell, width), right)) in
            cells.iter().zip(&self.widths).zip(&self.right).enumerate()
        {
            if i > 0 {
                line.push_str("  ");
            }
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            match right {
                true => line.extend([pad.as_str(), cell]),
                false => line.extend([cell.as_str(), &pad]),
            }
        }
        writeln!(out, "{}", line.trim_end())
    }
}

/// Text for one cell: line breaks and other control characters, which would break the grid or
/// steer the terminal, are escaped.
pub(super) fn one_line(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_string();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_align_right_and_control_characters_are_escaped() {
        let mut listing = Listing::new(&["name", "rows"]);
        listing.push(vec![json!("a\u{1b}[2J"), json!(7)]);
        listing.push(vec![Value::Null, json!(1234)]);
        let mut out = Vec::new();
        listing.write_table(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().next().unwrap().starts_with("name"), "{text}");
        assert!(text.contains("a\\u{1b}[2J"), "{text}");
        assert!(text.ends_with("1234\n"), "{text}");
    }
}
