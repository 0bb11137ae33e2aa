//! One live stream's hold on its name.

use uuid::Uuid;

use super::record::{Record, file};
use super::{Latest, PositionStore};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Created;
use crate::table::{Table, Token};

/// Files of a name that are kept besides the newest, in case that one was torn.
const KEPT: usize = 2;

/// The right to store positions under a name, until another stream takes it.
///
/// Every store makes the next number. Whoever takes the name makes a higher one, and the older
/// holder finds it at its next store: [`ErrorKind::Fenced`] (TOK-6).
#[derive(Debug)]
pub struct PositionHold {
    store: PositionStore,
    table: Table,
    folder: String,
    name: String,
    holder: Uuid,
    /// The highest number that this holder knows to be its own.
    number: u64,
    token: Token,
}

impl PositionStore {
    /// Takes a name for a stream that starts: at the stored position, else at what `start` gives,
    /// which is stored at once so that its snapshots are kept.
    ///
    /// # Errors
    /// As `start`; `InvalidInput` for names that cannot be kept, and for stored tokens of
    /// another version; `Unavailable`.
    pub async fn hold(
        &self,
        table: &Table,
        name: &str,
        start: impl Fn() -> Result<Token>,
    ) -> Result<PositionHold> {
        let folder = super::record::folder(table.metadata().uuid(), name)?;
        let holder = table.environment().ids.uuid();
        loop {
            let Latest { highest, record } = self.latest(&folder).await?;
            let token = match record.and_then(|r| r.token) {
                Some(token) => token,
                None => start()?,
            };
            let mut hold = PositionHold {
                store: self.clone(),
                table: table.clone(),
                folder: folder.clone(),
                name: name.to_string(),
                holder,
                number: highest,
                token: token.clone(),
            };
            match hold.store_record(&token, true).await {
                Ok(()) => return Ok(hold),
                // Another stream took the name at the same moment: it comes first, we come next.
                Err(e) if e.kind() == ErrorKind::Fenced => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl PositionHold {
    /// The position that was stored last.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// The stream's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stores a position. After an error the position before is still there, or this one is;
    /// storing again is safe.
    ///
    /// # Errors
    /// `Fenced` if another stream took the name; `Unavailable`, such as for a full disk.
    pub async fn store(&mut self, token: &Token) -> Result<()> {
        self.store_record(token, true).await
    }

    /// Gives the name back: listings no longer show it as held.
    ///
    /// # Errors
    /// As [`PositionHold::store`].
    pub async fn release(mut self) -> Result<()> {
        let token = self.token.clone();
        self.store_record(&token, false).await
    }

    async fn store_record(&mut self, token: &Token, is_held: bool) -> Result<()> {
        let record = Record {
            token: Some(token.clone()),
            holder: self.holder,
            is_held,
            stored_at_ms: self.table.environment().clock.now_ms(),
        };
        let bytes = record.to_bytes()?;
        loop {
            let next = self.number + 1;
            let path = file(&self.folder, next);
            let made = self.store.log.create(&path, bytes.clone()).await;
            match made.map_err(|e| self.told(e))? {
                Created::New => {
                    self.number = next;
                    break;
                }
                // Ours when an answer got lost, nobody's when the file is torn: go on behind it.
                Created::AlreadyThere => {
                    match self.store.read(&path).await.map_err(|e| self.told(e))? {
                        Some(other) if other.holder != self.holder => return Err(self.fenced(next)),
                        _ => self.number = next,
                    }
                }
            }
        }
        self.token = token.clone();
        self.check_still_first().await.map_err(|e| self.told(e))
    }

    /// What a failure to store means: of which stream, and what is left.
    fn told(&self, error: Error) -> Error {
        let error = error.with_context("stream", &self.name);
        match error.kind() {
            ErrorKind::Unavailable => error.with_further_hint(
                "the position stored before is kept, unless this one arrived after all: try again",
            ),
            _ => error,
        }
    }

    /// Old numbers are removed, so a holder that slept long could make one of them again without
    /// meeting anybody: the listing shows whether somebody went past.
    async fn check_still_first(&self) -> Result<()> {
        let numbers = self.store.numbers(&self.folder).await?;
        if let Some(higher) = numbers.iter().find(|n| **n > self.number) {
            return Err(self.fenced(*higher));
        }
        let old = numbers.iter().rev().filter(|n| **n < self.number).skip(KEPT);
        for number in old {
            // Best effort: what stays is removed by a later store.
            if self.store.log.delete(&file(&self.folder, *number)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn fenced(&self, number: u64) -> Error {
        Error::new(ErrorKind::Fenced, format!("another stream took the name `{}`", self.name))
            .with_context("table", self.table.ident())
            .with_context("stored as number", number)
            .with_hint("let one of the two stop, or give this one another name")
    }
}
