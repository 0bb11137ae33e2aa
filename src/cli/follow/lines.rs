//! Changes for a person at a terminal: one line each, an update's old and new value side by side.
//!
//! ```text
//! snapshot 7163  2026-01-31T12:00:00.123Z
//! + id=4  status=open
//! ~ id=2  status=open → paid
//! - id=1  status=void
//! schema 3  id, status, note
//! ```

use std::io::Write;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use indicatif::ProgressBar;

use super::output::ChangeSink;
use super::rows::{Announced, Changes};
use crate::cli::failure::Outcome;
use crate::cli::terminal::one_line;
use crate::cli::time::show_ms;
use crate::stream::ChangeKind;

const RED: &str = "31";
const GREEN: &str = "32";
const DIM: &str = "2";
const BOLD: &str = "1";

/// Prints lines above the status line.
pub(in crate::cli) struct LinesSink<W> {
    out: W,
    coloured: bool,
    status: ProgressBar,
    snapshot: Option<i64>,
    heads: bool,
}

impl<W: Write> LinesSink<W> {
    pub(in crate::cli) fn new(out: W, coloured: bool, status: ProgressBar) -> Self {
        Self { out, coloured, status, snapshot: None, heads: true }
    }

    /// Leaves out the lines that say which commit made the changes below.
    pub(in crate::cli) fn without_heads(&mut self) {
        self.heads = false;
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.coloured {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_string(),
        }
    }

    fn lines(&mut self, changes: &Changes) -> Outcome<String> {
        let mut text = String::new();
        if self.heads && self.snapshot.replace(changes.snapshot_id) != Some(changes.snapshot_id) {
            let head =
                format!("snapshot {}  {}", changes.snapshot_id, show_ms(changes.committed_ms));
            text.push_str(&self.paint(BOLD, &head));
            if let Some(remark) = &changes.remark {
                text.push_str(&format!("  {}", self.paint(DIM, remark)));
            }
            text.push('\n');
        }
        let options = FormatOptions::default().with_null("null");
        let columns = changes.records.columns().iter();
        let cells = columns
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()?;
        let schema = changes.records.schema();
        let names: Vec<String> = schema.fields().iter().map(|f| one_line(f.name())).collect();
        let values = |row: usize| -> Vec<String> {
            cells.iter().map(|c| one_line(&c.value(row).to_string())).collect()
        };
        let mut row = 0;
        while let Some(kind) = changes.kinds.get(row) {
            let after = changes.kinds.get(row + 1) == Some(&ChangeKind::UpdateAfter);
            let line = match kind {
                ChangeKind::UpdateBefore if after => {
                    row += 1;
                    self.update(&names, &values(row - 1), &values(row))
                }
                ChangeKind::Insert => self.whole("+", GREEN, &names, &values(row)),
                ChangeKind::UpdateAfter => self.whole(">", GREEN, &names, &values(row)),
                ChangeKind::UpdateBefore => self.whole("<", RED, &names, &values(row)),
                ChangeKind::Delete => self.whole("-", RED, &names, &values(row)),
            };
            text.push_str(&line);
            text.push('\n');
            row += 1;
        }
        Ok(text)
    }

    fn whole(&self, sign: &str, code: &str, names: &[String], values: &[String]) -> String {
        let cells = names.iter().zip(values).map(|(name, value)| format!("{name}={value}"));
        self.paint(code, &format!("{sign} {}", cells.collect::<Vec<_>>().join("  ")))
    }

    fn update(&self, names: &[String], old: &[String], new: &[String]) -> String {
        let cells =
            names.iter().zip(old.iter().zip(new)).map(|(name, (old, new))| match old == new {
                true => self.paint(DIM, &format!("{name}={new}")),
                false => format!("{name}={} → {}", self.paint(RED, old), self.paint(GREEN, new)),
            });
        format!("~ {}", cells.collect::<Vec<_>>().join("  "))
    }
}

impl<W: Write + Send> ChangeSink for LinesSink<W> {
    fn write(&mut self, changes: &Changes) -> Outcome {
        let text = self.lines(changes)?;
        let (out, status) = (&mut self.out, &self.status);
        // Flushed while the status line is away, or the two would share a line.
        status.suspend(|| out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
        Ok(())
    }

    fn announce(&mut self, announced: &Announced) -> Outcome {
        let change = &announced.change;
        let names: Vec<String> =
            change.arrow_schema.fields().iter().map(|f| one_line(f.name())).collect();
        let head = format!("schema {}  {}\n", change.schema.schema_id(), names.join(", "));
        let text = self.paint(BOLD, &head);
        let (out, status) = (&mut self.out, &self.status);
        status.suspend(|| out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
        Ok(())
    }

    fn flush(&mut self) -> Outcome {
        Ok(self.out.flush()?)
    }

    fn finish(mut self: Box<Self>) -> Outcome {
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::changes;
    use super::*;

    fn shown(coloured: bool, batches: &[Changes]) -> String {
        let mut sink = LinesSink::new(Vec::new(), coloured, ProgressBar::hidden());
        batches.iter().for_each(|b| sink.write(b).unwrap());
        String::from_utf8(sink.out).unwrap()
    }

    #[test]
    fn old_and_new_values_stand_side_by_side_and_only_where_they_differ() {
        let batch = changes(&[
            (ChangeKind::Insert, 4, Some("d")),
            (ChangeKind::UpdateBefore, 2, Some("b")),
            (ChangeKind::UpdateAfter, 2, None),
            (ChangeKind::Delete, 1, Some("a\nb")),
        ]);
        assert_eq!(
            shown(false, &[batch.clone(), batch.clone()]).lines().take(5).collect::<Vec<_>>(),
            [
                "snapshot 77  2023-11-14T22:13:20.123Z",
                "+ id=4  name=d",
                "~ id=2  name=b → null",
                "- id=1  name=a\\nb",
                "+ id=4  name=d"
            ]
        );
        assert!(shown(true, &[batch]).contains("name=\u{1b}[31mb\u{1b}[0m → \u{1b}[32mnull"));
    }

    #[test]
    fn halves_of_updates_stand_alone_where_the_other_was_dropped() {
        let batch =
            changes(&[(ChangeKind::UpdateAfter, 2, None), (ChangeKind::UpdateBefore, 3, None)]);
        let text = shown(false, &[batch]);
        assert!(text.contains("> id=2") && text.contains("< id=3"), "{text}");
    }
}
