//! `inspect health`: a picture of a table, verdicts, and the commands to run.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use bytesize::ByteSize;

use super::failure::Outcome;
use super::picture::{Paint, Style};
use super::session::Session;
use super::terminal::{OutputFormat, one_line, print_json, stdout};
use super::time::show_ms;
use crate::maintenance::{HealthReport, PartitionDeletes, SizeClass, Topic, Verdict};
use crate::table::Table;

/// Characters of the longest bar.
const BAR: usize = 32;

/// Looks at a branch of a table and prints what it sees.
pub(super) async fn run(
    session: &Session,
    name: &str,
    table: &Table,
    branch: Option<&str>,
    positions: Option<&Path>,
) -> Outcome {
    let mut health = table.health();
    if let Some(branch) = branch {
        health = health.branch(branch);
    }
    match session.positions(name, positions) {
        Ok(store) => health = health.positions(store),
        Err(error) if positions.is_some() => return Err(error),
        // Without a folder of positions the report says that nobody looked.
        Err(_) => {}
    }
    let report = health.run().await?;
    if session.output == OutputFormat::Json {
        return print_json(&report);
    }
    let mut out = stdout();
    out.write_all(picture(&report, Style::of_stdout()).as_bytes())?;
    out.flush()?;
    Ok(())
}

/// The whole picture, ending in a line break.
fn picture(report: &HealthReport, style: Style) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = header(&mut text, report, style);
    let _ = files(&mut text, report, style);
    let _ = deletes(&mut text, report, style);
    let _ = commits(&mut text, report, style);
    for topic in &report.topics {
        let _ = verdict(&mut text, topic, style);
    }
    text
}

fn header(text: &mut String, report: &HealthReport, style: Style) -> std::fmt::Result {
    let table = style.paint(Paint::Bold, &one_line(&report.table));
    let branch = one_line(&report.branch);
    match report.snapshot_id {
        None => writeln!(text, "{table}, branch {branch}: no commits yet\n"),
        Some(id) => {
            writeln!(text, "{table}, branch {branch}, snapshot {id}, {}\n", show_ms(report.at_ms))
        }
    }
}

fn files(text: &mut String, report: &HealthReport, style: Style) -> std::fmt::Result {
    let facts = &report.files;
    if facts.all.files == 0 {
        return Ok(());
    }
    writeln!(
        text,
        "data files: {} of {}, {} rows, {} partitions, target {}",
        facts.all.files,
        ByteSize(facts.all.bytes),
        facts.all.rows,
        facts.partitions,
        ByteSize(facts.target_bytes)
    )?;
    let most = facts.histogram.iter().map(|c| c.files).max().unwrap_or(0).max(1);
    let last = facts.histogram.iter().rposition(|c| c.files > 0).unwrap_or(0);
    for SizeClass { below_bytes, files, bytes } in facts.histogram.iter().take(last + 1) {
        let label = match below_bytes {
            Some(below) => format!("< {}", ByteSize(*below)),
            None => "larger".to_string(),
        };
        let bar = padded(style.bar(*files as f64 / most as f64, BAR), BAR);
        let is_small = below_bytes.is_some_and(|below| below <= facts.target_bytes / 4 * 3);
        let paint = if is_small { Paint::Yellow } else { Paint::Green };
        let bar = style.paint(paint, &bar);
        let line = format!("  {label:>11}  {bar}  {files:>7}  {}", ByteSize(*bytes));
        writeln!(text, "{}", line.trim_end())?;
    }
    writeln!(text)
}

/// Pads by characters, not bytes.
fn padded(mut text: String, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    text.push_str(&" ".repeat(missing));
    text
}

fn deletes(text: &mut String, report: &HealthReport, style: Style) -> std::fmt::Result {
    let facts = &report.deletes;
    if facts.worst.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "deletes: {} positions in {} files, {} keys in {} files; the worst partitions:",
        facts.positions.rows, facts.positions.files, facts.equality.rows, facts.equality.files
    )?;
    let name = |p: &PartitionDeletes| match p.partition.as_str() {
        "" => "the table".to_string(),
        partition => one_line(partition),
    };
    let width = facts.worst.iter().map(|p| name(p).chars().count()).max().unwrap_or(0);
    for partition in &facts.worst {
        let ratio = partition.ratio();
        let bar = padded(style.bar(ratio, BAR), BAR);
        let bar = style.paint(if ratio >= 0.2 { Paint::Red } else { Paint::Yellow }, &bar);
        writeln!(
            text,
            "  {}  {bar}  {:>5.1} %  {} positions, {} keys, {} files",
            padded(name(partition), width),
            ratio * 100.0,
            partition.position_deletes,
            partition.equality_deletes,
            partition.delete_files
        )?;
    }
    writeln!(text)
}

fn commits(text: &mut String, report: &HealthReport, style: Style) -> std::fmt::Result {
    let facts = &report.commits;
    let (Some(first), Some(last)) = (facts.first_ms, facts.last_ms) else { return Ok(()) };
    let commits: u64 = facts.timeline.iter().sum();
    writeln!(text, "commits: {commits}, {} to {}", show_ms(first), show_ms(last))?;
    let line = style.sparkline(&facts.timeline);
    writeln!(text, "  |{}|\n", style.paint(Paint::Green, &line))
}

fn verdict(text: &mut String, topic: &Topic, style: Style) -> std::fmt::Result {
    let (paint, mark) = match topic.verdict {
        Verdict::Good => (Paint::Green, "good "),
        Verdict::Watch => (Paint::Yellow, "watch"),
        Verdict::Act => (Paint::Red, "ACT  "),
    };
    let finding = one_line(&topic.finding);
    writeln!(text, "{}  {:17}  {finding}", style.paint(paint, mark), topic.topic.to_string())?;
    let Some(command) = &topic.command else { return Ok(()) };
    write!(text, "       {}", style.paint(Paint::Bold, &one_line(command)))?;
    match &topic.gain {
        Some(gain) => writeln!(text, "  {}", style.paint(Paint::Faint, &format!("# {gain}"))),
        None => writeln!(text),
    }
}

#[cfg(test)]
mod tests;
