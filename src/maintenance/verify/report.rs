//! What a check found.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;

use super::codes::{Code, Severity};
use super::files::reason;
use super::metadata;
use crate::error::{Error, ErrorKind};
use crate::maintenance::paths::fingerprint;
use crate::spec::SnapshotId;
use crate::storage::Storage;

/// Findings of one code that are kept one by one; more are counted.
const KEPT_PER_CODE: u64 = 1000;

/// Something that is wrong with a table, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub code: Code,
    /// The file, ref or snapshot that it is about.
    pub place: String,
    /// The snapshot in which it was met first.
    pub snapshot_id: Option<SnapshotId>,
    /// What was expected and what was found.
    pub cause: String,
    /// What to do about it.
    pub next_step: String,
}

/// `error data-file-missing PLACE (snapshot 7)`, then the cause and the next step.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:7} {}: {}", self.severity, self.code, self.place)?;
        if let Some(id) = self.snapshot_id {
            write!(f, " (snapshot {id})")?;
        }
        write!(f, "\n        {}\n        next: {}", self.cause, self.next_step)
    }
}

/// What a check of a table looked at and what it found; the worst first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The table.
    pub table: String,
    /// The version that was checked.
    pub metadata_location: String,
    /// Snapshots whose files were checked.
    pub snapshots: Vec<SnapshotId>,
    /// Manifests read.
    pub manifests: u64,
    /// Data files looked at.
    pub data_files: u64,
    /// Delete files looked at.
    pub delete_files: u64,
    /// Rows read by a deep check.
    pub rows: u64,
    /// Findings that are errors.
    pub errors: u64,
    /// Findings that are warnings.
    pub warnings: u64,
    /// Findings that are notices.
    pub notices: u64,
    /// The findings; of each code the first thousand.
    pub findings: Vec<Finding>,
    /// True if the check was stopped before it was done.
    pub stopped: bool,
    /// How long it took, by the table's clock.
    pub duration_ms: u64,
}

impl VerifyReport {
    /// A report of a table that could not even be loaded: `error` is what loading it gave. The
    /// metadata file that it names is read again, to tell what is wrong inside.
    pub async fn unreadable(storage: &Storage, table: &str, error: &Error) -> Self {
        let named = |(key, _): &(&str, &str)| matches!(*key, "metadata file" | "location");
        let location = error.context().find(named).map_or(table, |(_, location)| location);
        let bytes = storage.read(location).await;
        let is_gone = matches!(&bytes, Err(e) if e.kind() == ErrorKind::NotFound);
        let code = match error.kind() {
            ErrorKind::Unavailable => Code::Unavailable,
            _ if is_gone || error.kind() == ErrorKind::NotFound => Code::MetadataMissing,
            _ => Code::MetadataUnreadable,
        };
        let mut findings = Findings::new(table);
        findings.add(code, location, None, reason(error));
        if let Ok(bytes) = bytes
            && let Ok(json) = serde_json::from_slice(&bytes)
        {
            metadata::check(&json, &mut findings);
        }
        let metadata_location = location.to_string();
        let table = table.to_string();
        findings.into_report(Self { table, metadata_location, ..Self::default() })
    }

    /// True if there are no errors: notices and warnings are allowed.
    pub fn is_sound(&self) -> bool {
        self.errors == 0 && !self.stopped
    }

    /// True if some finding has this code.
    pub fn has(&self, code: Code) -> bool {
        self.findings.iter().any(|finding| finding.code == code)
    }

    /// Such as `verify ns.t: 1 snapshot, 2 manifests, …: no errors, 1 warning, 0 notices`.
    pub fn summary(&self) -> String {
        let plural = |n: u64| if n == 1 { "" } else { "s" };
        let count = |n: u64, what: &str| format!("{n} {what}{}", plural(n));
        let rows = if self.rows > 0 { format!(", {}", count(self.rows, "row")) } else { "".into() };
        format!(
            "verify {}: {}, {}, {}, {}{rows} in {}.{:03} s: {}, {}, {}{}",
            self.table,
            count(self.snapshots.len() as u64, "snapshot"),
            count(self.manifests, "manifest"),
            count(self.data_files, "data file"),
            count(self.delete_files, "delete file"),
            self.duration_ms / 1000,
            self.duration_ms % 1000,
            count(self.errors, "error"),
            count(self.warnings, "warning"),
            count(self.notices, "notice"),
            if self.stopped { " (stopped)" } else { "" },
        )
    }
}

/// Every finding, then the summary.
impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))?;
        f.write_str(&self.summary())
    }
}

/// Findings while they are gathered: each thing is said once, however many snapshots share it.
#[derive(Debug)]
pub(super) struct Findings {
    table: String,
    said: HashSet<u128>,
    counts: std::collections::HashMap<Code, u64>,
    kept: Vec<Finding>,
}

impl Findings {
    pub fn new(table: &str) -> Self {
        Self {
            table: table.to_string(),
            said: HashSet::new(),
            counts: Default::default(),
            kept: Vec::new(),
        }
    }

    pub fn add(
        &mut self,
        code: Code,
        place: impl Into<String>,
        snapshot_id: Option<SnapshotId>,
        cause: impl Into<String>,
    ) {
        let (place, cause) = (place.into(), cause.into());
        if !self.said.insert(fingerprint(&format!("{code}\n{place}\n{cause}"))) {
            return;
        }
        let count = self.counts.entry(code).or_default();
        *count += 1;
        if *count > KEPT_PER_CODE {
            return;
        }
        self.kept.push(Finding {
            severity: code.severity(),
            code,
            place,
            snapshot_id,
            cause,
            next_step: code.advice().replace("{table}", &self.table),
        });
    }

    pub fn into_report(mut self, report: VerifyReport) -> VerifyReport {
        let place = |f: &Finding| (f.severity, f.code, f.place.clone(), f.cause.clone());
        self.kept.sort_by_cached_key(place);
        let of = |severity: Severity| {
            self.counts.iter().filter(|(code, _)| code.severity() == severity).map(|(_, n)| n).sum()
        };
        VerifyReport {
            errors: of(Severity::Error),
            warnings: of(Severity::Warning),
            notices: of(Severity::Notice),
            findings: self.kept,
            ..report
        }
    }
}
