//! Positions: the tokens of named streams, stored so that nothing gets lost.
//!
//! A name is a folder of numbered files, each made once and never changed; the highest whole one
//! counts. That works on local disks and on every object store, survives full disks and torn
//! files, and tells two live holders of one name apart. Rules: `format-spec/stream.md`.

mod hold;
mod log;
mod record;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::spec::SnapshotRef;
use crate::storage::{Created, Location, Storage};

use super::{Table, Token};
use log::FolderLog;
use record::Record;

pub use hold::PositionHold;
pub use log::PositionLog;

/// How often files are listed while those that were listed are gone when they are read.
const LISTINGS: usize = 5;

/// Where named streams keep their positions.
#[derive(Debug, Clone)]
pub struct PositionStore {
    log: Arc<dyn PositionLog>,
}

/// A position as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPosition {
    /// The stream's name.
    pub name: String,
    /// Where it stands.
    pub token: Token,
    /// When that was stored, in milliseconds since the epoch.
    pub stored_at_ms: i64,
    /// False once the stream closed. A stream that was killed still counts as held.
    pub is_held: bool,
}

impl StoredPosition {
    /// The oldest snapshot that this stream needs to go on: it and everything after it must
    /// stay. `None` if it is gone already.
    pub fn oldest_needed(&self, table: &Table) -> Option<SnapshotRef> {
        self.token.oldest_needed(table)
    }
}

/// The newest whole record of a name, and the highest number in use.
struct Latest {
    highest: u64,
    record: Option<Record>,
}

impl PositionStore {
    /// The usual name of such a folder; a removal of orphans leaves it alone wherever it lies
    /// (MNT-34).
    pub const FOLDER: &'static str = "meltwater-positions";

    /// Positions in a local folder, made on first use.
    ///
    /// # Errors
    /// `InvalidInput` if the path cannot be written as a location.
    pub fn directory(path: impl AsRef<Path>) -> Result<Self> {
        let folder = Location::of_folder(path.as_ref(), "positions")?;
        Self::location(Storage::default(), &folder)
    }

    /// Positions in a folder of any store, outside the tables' own folders.
    ///
    /// # Errors
    /// `InvalidInput` for a location that names no store.
    pub fn location(storage: Storage, folder: &str) -> Result<Self> {
        let root = Location::normal(folder.trim_end_matches('/'))?;
        Ok(Self { log: Arc::new(FolderLog::new(storage, root)) })
    }

    /// Positions in a place of the caller's own.
    pub fn custom(log: Arc<dyn PositionLog>) -> Self {
        Self { log }
    }

    /// Refuses a store inside a table's folder, where a removal of orphans would find it.
    ///
    /// # Errors
    /// `InvalidInput` naming both places.
    pub fn check_outside(&self, table: &Table) -> Result<()> {
        let Some(place) = self.log.location() else { return Ok(()) };
        let inside = [table.metadata().location(), &table.data_location()]
            .into_iter()
            .filter_map(|folder| Location::normal(folder).ok())
            .any(|folder| place == folder || place.starts_with(&format!("{folder}/")));
        if !inside {
            return Ok(());
        }
        Err(Error::invalid("positions cannot lie in the table's own folder")
            .with_context("positions", place)
            .with_context("table", table.metadata().location())
            .with_hint(
                "choose a folder beside the table: files that no snapshot names get removed",
            ))
    }

    /// The positions of all named streams of a table, by name.
    ///
    /// # Errors
    /// `Unavailable`; `InvalidInput` for a token of another version.
    pub async fn positions_of(&self, table: &Table) -> Result<Vec<StoredPosition>> {
        let folder = record::table_folder(table.metadata().uuid());
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for file in self.log.list(&folder).await? {
            let mut parts = file.rsplit('/').skip(1);
            if record::number_of(&file).is_some()
                && let Some(encoded) = parts.next()
                && let Some(name) = record::name_of(encoded)
            {
                names.insert(name, format!("{folder}/{encoded}"));
            }
        }
        let mut found = Vec::new();
        for (name, folder) in names {
            let latest = self.latest(&folder).await.map_err(|e| e.with_context("stream", &name))?;
            found.extend(latest.record.and_then(|record| stored(&name, record)));
        }
        Ok(found)
    }

    /// The position of one name; `None` if nothing is stored.
    ///
    /// # Errors
    /// As [`PositionStore::positions_of`].
    pub async fn load(&self, table: &Table, name: &str) -> Result<Option<StoredPosition>> {
        let folder = record::folder(table.metadata().uuid(), name)?;
        let latest = self.latest(&folder).await.map_err(|e| e.with_context("stream", name))?;
        Ok(latest.record.and_then(|record| stored(name, record)))
    }

    /// Puts a name somewhere else. A stream that holds it is fenced.
    ///
    /// # Errors
    /// `InvalidInput` for a token of another table or an incomplete one; `Unavailable`.
    pub async fn reset(&self, table: &Table, name: &str, token: &Token) -> Result<()> {
        token.check_table(table.metadata().uuid())?;
        if !token.is_complete() {
            return Err(Error::invalid("the token is a lane's: it does not cover the stream")
                .with_hint("merge the tokens of all lanes first"));
        }
        self.put_next(table, name, Some(token.clone())).await.map(|_| ())
    }

    /// Forgets a name; false if nothing was stored. A stream that holds it is fenced. One small
    /// file stays, so that a holder which wakes up late cannot bring the position back.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn remove(&self, table: &Table, name: &str) -> Result<bool> {
        if self.load(table, name).await?.is_none() {
            return Ok(false);
        }
        let (folder, number) = self.put_next(table, name, None).await?;
        for old in self.numbers(&folder).await?.into_iter().filter(|n| *n < number) {
            self.log.delete(&record::file(&folder, old)).await?;
        }
        Ok(true)
    }

    /// Makes the next number of a name, behind whoever makes one at the same time.
    async fn put_next(
        &self,
        table: &Table,
        name: &str,
        token: Option<Token>,
    ) -> Result<(String, u64)> {
        let folder = record::folder(table.metadata().uuid(), name)?;
        let environment = table.environment();
        let record = Record {
            token,
            holder: environment.ids.uuid(),
            is_held: false,
            stored_at_ms: environment.clock.now_ms(),
        };
        let bytes = record.to_bytes()?;
        loop {
            let next = self.numbers(&folder).await?.last().copied().unwrap_or(0) + 1;
            let created = self.log.create(&record::file(&folder, next), bytes.clone()).await?;
            if created == Created::New {
                return Ok((folder, next));
            }
        }
    }

    /// The numbers of a name, ascending.
    async fn numbers(&self, folder: &str) -> Result<Vec<u64>> {
        let files = self.log.list(folder).await?;
        let mut numbers: Vec<u64> = files.iter().filter_map(|f| record::number_of(f)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Torn files are passed over: the number before them counts (TOK-7).
    async fn latest(&self, folder: &str) -> Result<Latest> {
        for _ in 0..LISTINGS {
            let numbers = self.numbers(folder).await?;
            let Some(highest) = numbers.last().copied() else {
                return Ok(Latest { highest: 0, record: None });
            };
            for number in numbers.iter().rev() {
                if let Some(record) = self.read(&record::file(folder, *number)).await? {
                    return Ok(Latest { highest, record: Some(record) });
                }
                tracing::warn!(folder, number, "a stored position is torn or gone");
            }
            // A holder that is quicker than we are removes what was listed, once it has stored more.
        }
        Err(Error::corrupt("no stored position of the stream is whole")
            .with_context("folder", folder)
            .with_hint("`meltwater streams reset` stores a new one"))
    }

    async fn read(&self, file: &str) -> Result<Option<Record>> {
        let Some(bytes) = self.log.read(file).await? else { return Ok(None) };
        let record = Record::parse(&bytes).transpose();
        record.map_err(|e| e.with_context("position file", file))
    }
}

fn stored(name: &str, record: Record) -> Option<StoredPosition> {
    let Record { token, is_held, stored_at_ms, .. } = record;
    Some(StoredPosition { name: name.to_string(), token: token?, stored_at_ms, is_held })
}

#[cfg(test)]
mod tests;
