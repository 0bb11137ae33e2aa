//! One run at a time per table, across processes.
//!
//! A lease is a folder of numbered files in the table's location, each made once by
//! create-if-absent; the highest whole one counts. It names its holder and when it lapses, and
//! carries what the next holder must know: when which action ran, and how much was rewritten. A
//! holder that is killed is replaced when its lease lapses; one that slept too long finds a higher
//! number and stops. Should two run at once all the same, their commits stay correct: the lease
//! saves work, it protects nothing (MNT-67).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::trigger::Action;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::MAIN_BRANCH;
use crate::storage::Created;
use crate::table::{MAINTENANCE_FOLDER, Table};
use futures::TryStreamExt;

/// Files that are kept besides the newest, in case that one was torn.
const KEPT: usize = 2;

/// When an action ran last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// When it ended, in milliseconds since the epoch.
    pub at_ms: i64,
    /// The sequence number of the branch's head then.
    pub sequence_number: i64,
}

/// What is known from earlier runs on a table, of whichever process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// When each action ran last; those on a branch, on `main`.
    pub last_runs: BTreeMap<Action, LastRun>,
    /// When each action ran last on other branches.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub branches: BTreeMap<String, BTreeMap<Action, LastRun>>,
    /// Bytes rewritten in the last hour, by when.
    pub rewritten: Vec<(i64, u64)>,
}

impl Memory {
    /// When an action ran last on a branch, or on the table as a whole.
    pub fn last_run(&self, branch: &str, action: Action) -> Option<&LastRun> {
        match is_of_table(branch, action) {
            true => self.last_runs.get(&action),
            false => self.branches.get(branch)?.get(&action),
        }
    }

    /// Notes that an action ran.
    pub fn ran(&mut self, branch: &str, action: Action, run: LastRun) {
        let runs = match is_of_table(branch, action) {
            true => &mut self.last_runs,
            false => self.branches.entry(branch.to_string()).or_default(),
        };
        runs.insert(action, run);
    }
}

fn is_of_table(branch: &str, action: Action) -> bool {
    branch == MAIN_BRANCH || !action.rewrites()
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    holder: Uuid,
    /// The holder's time plus the length of the lease; 0 when it was given back.
    lapses_at_ms: i64,
    /// How long it was asked for; missing in older records.
    #[serde(default)]
    length_ms: Option<i64>,
    memory: Memory,
}

/// How far clocks of two machines may be apart.
const CLOCK_SKEW_MS: i64 = 60_000;

impl Record {
    /// Whether somebody holds it. A lease that claims to run for longer than it was asked for was
    /// given by a clock that ran ahead: it is taken over, since it protects nothing (MNT-67).
    fn runs(&self, now_ms: i64, length: Duration) -> bool {
        let length_ms = self.length_ms.unwrap_or(millis(length));
        let longest = length_ms.saturating_mul(2).saturating_add(CLOCK_SKEW_MS);
        (1..=longest).contains(&self.lapses_at_ms.saturating_sub(now_ms))
    }
}

/// What came of asking for a lease.
#[derive(Debug)]
pub(super) enum Asked {
    /// It is ours.
    Held(Lease),
    /// Somebody else's, until then.
    Taken { lapses_at_ms: i64 },
}

/// The right to maintain a table, until it lapses.
#[derive(Debug)]
pub(super) struct Lease {
    table: Table,
    holder: Uuid,
    number: u64,
    length: Duration,
    pub memory: Memory,
    lapses_at_ms: i64,
}

impl Lease {
    /// Takes the lease of a table if nobody holds it.
    ///
    /// # Errors
    /// What the store gives.
    pub async fn ask(table: &Table, length: Duration) -> Result<Asked> {
        let (highest, record) = latest(table).await?;
        let now_ms = table.environment().clock.now_ms();
        let memory = match record {
            Some(record) if record.runs(now_ms, length) => {
                return Ok(Asked::Taken { lapses_at_ms: record.lapses_at_ms });
            }
            Some(record) => record.memory,
            None => Memory::default(),
        };
        let holder = table.environment().ids.uuid();
        let table = table.clone();
        let mut lease = Self { table, holder, number: highest, length, memory, lapses_at_ms: 0 };
        match lease.renew().await {
            Ok(()) => Ok(Asked::Held(lease)),
            Err(e) if e.kind() == ErrorKind::Fenced => {
                let lapses_at_ms = now_ms.saturating_add(millis(length));
                Ok(Asked::Taken { lapses_at_ms })
            }
            Err(e) => Err(e),
        }
    }

    /// What earlier holders left behind, without taking anything.
    ///
    /// # Errors
    /// What the store gives.
    pub async fn peek(table: &Table) -> Result<Memory> {
        Ok(latest(table).await?.1.map(|record| record.memory).unwrap_or_default())
    }

    /// Stays the holder for another length of time.
    ///
    /// # Errors
    /// `Fenced` if somebody else took the lease; `Unavailable`: it still runs until it lapses.
    pub async fn renew(&mut self) -> Result<()> {
        let now_ms = self.table.environment().clock.now_ms();
        self.write(now_ms.saturating_add(millis(self.length))).await
    }

    /// Whether it lapsed by our own clock.
    pub fn has_lapsed(&self) -> bool {
        self.table.environment().clock.now_ms() >= self.lapses_at_ms
    }

    /// A third of the lease: two renewals may fail before it lapses.
    pub fn heartbeat(&self) -> Duration {
        self.length / 3
    }

    /// Gives it back, with what the next holder must know.
    ///
    /// # Errors
    /// As [`Lease::renew`].
    pub async fn release(mut self) -> Result<()> {
        self.write(0).await
    }

    async fn write(&mut self, lapses_at_ms: i64) -> Result<()> {
        let (holder, memory) = (self.holder, self.memory.clone());
        let record = Record { holder, lapses_at_ms, length_ms: Some(millis(self.length)), memory };
        let bytes = bytes::Bytes::from(serde_json::to_vec(&record)?);
        let storage = self.table.storage();
        loop {
            let next = self.number + 1;
            let path = file(&self.table, next);
            if storage.create(&path, bytes.clone()).await? == Created::New {
                self.number = next;
                break;
            }
            // Ours when an answer got lost, nobody's when it is torn: go on behind it.
            match read(&self.table, next).await? {
                Some(other) if other.holder != self.holder => return Err(self.fenced()),
                _ => self.number = next,
            }
        }
        self.lapses_at_ms = lapses_at_ms;
        let numbers = numbers(&self.table).await?;
        if numbers.last().is_some_and(|last| *last > self.number) {
            return Err(self.fenced());
        }
        for old in numbers.iter().rev().skip(1 + KEPT) {
            // Best effort: what stays is removed by a later renewal.
            if storage.delete(&file(&self.table, *old)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn fenced(&self) -> Error {
        Error::new(ErrorKind::Fenced, "another process maintains the table")
            .with_context("table", self.table.ident())
            .with_hint("let one of the two stop; nothing is lost when both run for a while")
    }
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

fn folder(table: &Table) -> String {
    format!("{}/{MAINTENANCE_FOLDER}", table.metadata().location().trim_end_matches('/'))
}

fn file(table: &Table, number: u64) -> String {
    format!("{}/{number:020}.json", folder(table))
}

/// The numbers in use, ascending.
async fn numbers(table: &Table) -> Result<Vec<u64>> {
    let files: Vec<_> = match table.storage().list(&folder(table))?.try_collect().await {
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    let number = |location: &str| {
        let name = location.rsplit('/').next()?.strip_suffix(".json")?;
        (name.len() == 20).then(|| name.parse().ok())?
    };
    let mut numbers: Vec<u64> = files.iter().filter_map(|f| number(&f.location)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The highest number, and the newest whole record.
async fn latest(table: &Table) -> Result<(u64, Option<Record>)> {
    let numbers = numbers(table).await?;
    let highest = numbers.last().copied().unwrap_or(0);
    for number in numbers.iter().rev() {
        if let Some(record) = read(table, *number).await? {
            return Ok((highest, Some(record)));
        }
    }
    Ok((highest, None))
}

/// `None` for a file that is gone or was never written whole.
async fn read(table: &Table, number: u64) -> Result<Option<Record>> {
    match table.storage().read(&file(table, number)).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
