//! What a removal of orphans would do, and what it did.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::listing::Sieve;
use crate::maintenance::Report;
use crate::maintenance::sweep::Disposable;

/// A file that nothing in the table names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrphanFile {
    /// Where it is.
    pub location: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written, in milliseconds since the epoch.
    pub last_modified_ms: i64,
}

impl Disposable for OrphanFile {
    fn location(&self) -> &str {
        &self.location
    }
}

/// The orphans of a table.
#[derive(Debug, Clone, Serialize)]
pub struct OrphanPlan {
    /// The table.
    pub table: String,
    /// The folder that was listed.
    pub location: String,
    /// Files in it.
    pub listed: u64,
    /// Files too young to be looked at.
    pub young: u64,
    /// Files that are hidden or not the table's.
    pub hidden: u64,
    /// Files that nothing names.
    pub orphans: u64,
    #[serde(skip)]
    pub(super) sieve: Sieve,
    #[serde(skip)]
    pub(super) prints: Arc<HashSet<u128>>,
}

impl fmt::Display for OrphanPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, listed, young, hidden, orphans, .. } = self;
        write!(
            f,
            "remove-orphans {table}: {orphans} orphans among {listed} files ({young} too young, \
             {hidden} hidden)"
        )
    }
}

/// What a removal of orphans did: the shared numbers, of the files that are gone, and its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OrphanReport {
    /// Files and bytes, and what could not be removed.
    #[serde(flatten)]
    pub report: Report,
    /// Files in the folder.
    pub listed: u64,
    /// Files too young to be looked at.
    pub young: u64,
    /// Files that are hidden or not the table's.
    pub hidden: u64,
}

impl fmt::Display for OrphanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { report, listed, young, hidden } = self;
        write!(
            f,
            "remove-orphans {}: {} went, {listed} files were listed ({young} too young, {hidden} \
             hidden), {}",
            report.table,
            report.before,
            report.took(),
        )?;
        report.failures(f)
    }
}
