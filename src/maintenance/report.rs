//! What an action did, in the numbers that all actions share.

use std::fmt;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::measure;
use crate::spec::DataFile;
use crate::table::Table;

/// Files with their rows and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// How many files.
    pub files: u64,
    /// Rows in them; of delete files, the deletes.
    pub rows: u64,
    /// Their size.
    pub bytes: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

impl<'a> FromIterator<&'a DataFile> for Totals {
    fn from_iter<I: IntoIterator<Item = &'a DataFile>>(files: I) -> Self {
        files.into_iter().fold(Self::default(), |mut all, file| {
            all += Self { files: 1, rows: file.record_count, bytes: file.file_size_in_bytes };
            all
        })
    }
}

/// Such as `12 files, 3400 rows, 5.6 MiB`.
impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |n: u64| if n == 1 { "" } else { "s" };
        let Self { files, rows, bytes } = *self;
        write!(f, "{files} file{}, {rows} row{}, {}", plural(files), plural(rows), Bytes(bytes))
    }
}

/// A part of an action that did not succeed; the others did what they could.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// What was worked on, such as a partition or a file.
    pub what: String,
    /// The error in one line.
    pub error: String,
    /// What the caller can do about it.
    #[serde(skip)]
    pub kind: ErrorKind,
}

impl Failed {
    /// Notes an error about `what`.
    pub fn new(what: impl Into<String>, error: &Error) -> Self {
        Self { what: what.into(), error: error.to_string(), kind: error.kind() }
    }
}

/// What an action did. Actions with more to say flatten this into a report of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The action, such as `compact`.
    pub action: &'static str,
    /// The table.
    pub table: String,
    /// The files that the action replaced or removed.
    pub before: Totals,
    /// The files that stand in their place.
    pub after: Totals,
    /// Pieces of work done, each committed by itself.
    pub groups: u64,
    /// How often other commits were in the way, so that something was planned again.
    pub conflicts: u64,
    /// What did not succeed.
    pub failed: Vec<Failed>,
    /// True if the action was stopped before it was done.
    pub stopped: bool,
    /// How long it took, by the table's clock.
    pub duration_ms: u64,
}

impl Report {
    /// An empty report of an action on a table.
    pub fn new(action: &'static str, table: &Table) -> Self {
        Self { action, table: table.ident().to_string(), ..Self::default() }
    }

    /// The action came to its end: notes how long it took, and measures what it did.
    pub fn finish(&mut self, watch: &Stopwatch) {
        self.duration_ms = watch.elapsed_ms();
        let labels = [self.table.as_str(), self.action];
        measure::MAINTENANCE_RUNS.add(&labels, 1);
        measure::MAINTENANCE_CONFLICTS.add(&labels, self.conflicts);
        measure::MAINTENANCE_FAILURES.add(&labels, self.failed.len() as u64);
        measure::MAINTENANCE_SECONDS.took(&labels, Duration::from_millis(self.duration_ms));
        for (side, totals) in [("before", self.before), ("after", self.after)] {
            let labels = [self.table.as_str(), self.action, side];
            measure::MAINTENANCE_FILES.add(&labels, totals.files);
            measure::MAINTENANCE_BYTES.add(&labels, totals.bytes);
        }
    }
}

/// One line of totals, and one for each failure.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, table, before, after, groups, conflicts, .. } = self;
        write!(f, "{action} {table}: ")?;
        match groups + conflicts + before.files {
            0 => write!(f, "nothing was rewritten, {}", self.took())?,
            _ => {
                let plural = |n: u64| if n == 1 { "" } else { "s" };
                write!(f, "{before} became {after}, in {groups} group{}", plural(*groups))?;
                write!(f, " with {conflicts} conflict{}, {}", plural(*conflicts), self.took())?;
            }
        }
        self.failures(f)
    }
}

impl Report {
    /// Such as `1.234 s`, and whether it was stopped.
    pub(super) fn took(&self) -> String {
        let stopped = if self.stopped { " (stopped)" } else { "" };
        format!("{}.{:03} s{stopped}", self.duration_ms / 1000, self.duration_ms % 1000)
    }

    /// A line for each failure.
    pub(super) fn failures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failed
            .iter()
            .try_for_each(|failed| write!(f, "\nfailed {}: {}", failed.what, failed.error))
    }
}

/// Measures an action by the clock of its table.
#[derive(Debug, Clone)]
pub struct Stopwatch {
    clock: Arc<dyn Clock>,
    began_ms: i64,
}

impl Stopwatch {
    /// Starts now.
    pub fn start(table: &Table) -> Self {
        let clock = table.environment().clock.clone();
        Self { began_ms: clock.now_ms(), clock }
    }

    /// Milliseconds since the start; zero if the clock went back.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.clock.now_ms() - self.began_ms).unwrap_or(0)
    }
}

/// A size for people, such as `5.6 MiB`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut size = self.0 as f64 / 1024.0;
        let mut units = UNITS.iter();
        let mut unit = units.next();
        while size >= 1024.0 && units.len() > 0 {
            size /= 1024.0;
            unit = units.next();
        }
        write!(f, "{size:.1} {}", unit.unwrap_or(&"B"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        let said: Vec<String> = [0, 1023, 1024, 1_572_864, 5 << 40, u64::MAX]
            .iter()
            .map(|bytes| Bytes(*bytes).to_string())
            .collect();
        assert_eq!(said, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 TiB", "16384.0 PiB"]);
    }

    #[test]
    fn a_report_says_before_after_and_what_failed() {
        let mut report = Report {
            action: "compact",
            table: "ns.t".into(),
            before: Totals { files: 5, rows: 10, bytes: 2048 },
            after: Totals { files: 1, rows: 9, bytes: 1024 },
            groups: 1,
            duration_ms: 1234,
            ..Report::default()
        };
        let line = "compact ns.t: 5 files, 10 rows, 2.0 KiB became 1 file, 9 rows, 1.0 KiB, \
                    in 1 group with 0 conflicts, 1.234 s";
        assert_eq!(report.to_string(), line);
        let idle = Report { before: Totals::default(), groups: 0, ..report.clone() };
        assert_eq!(idle.to_string(), "compact ns.t: nothing was rewritten, 1.234 s");
        report.failed.push(Failed::new("day=1", &Error::invalid("no")));
        report.stopped = true;
        assert!(
            report.to_string().ends_with("s (stopped)\nfailed day=1: invalid input: no"),
            "{report}"
        );
        assert_eq!(serde_json::to_value(&report).unwrap()["before"]["files"], 5);
    }

    #[test]
    fn a_finished_action_is_measured() {
        let recorder = crate::measure::recorder::TestRecorder::measure(async {
            let table = crate::kit::table(Vec::new());
            let mut report = Report::new("compact", &table);
            report.before = Totals { files: 5, rows: 50, bytes: 500 };
            report.after = Totals { files: 1, rows: 40, bytes: 300 };
            report.conflicts = 2;
            report.finish(&Stopwatch::start(&table));
        });
        let sum = |metric: measure::Metric, with| recorder.sum(metric.name, with);
        assert_eq!(sum(measure::MAINTENANCE_RUNS, "table=ns.t,action=compact"), 1.0);
        assert_eq!(sum(measure::MAINTENANCE_FILES, "side=before"), 5.0);
        assert_eq!(sum(measure::MAINTENANCE_BYTES, "side=after"), 300.0);
        assert_eq!(sum(measure::MAINTENANCE_CONFLICTS, ""), 2.0);
    }
}
