//! What a consumer has committed: merged over lanes, and stored if the stream has a name.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::error::{Error, Result};
use crate::table::{PositionHold, Token};

/// The committed position of a stream, shared by its lanes.
#[derive(Debug, Clone)]
pub(super) struct Commits(Arc<Mutex<Committed>>);

#[derive(Debug)]
struct Committed {
    token: Token,
    hold: Option<PositionHold>,
    is_closed: bool,
}

impl Commits {
    pub fn new(token: Token, hold: Option<PositionHold>) -> Self {
        Self(Arc::new(Mutex::new(Committed { token, hold, is_closed: false })))
    }

    /// Merges a token into what was committed, and stores that (STR-11).
    pub async fn commit(&self, token: &Token) -> Result<()> {
        let mut committed = self.0.lock().await;
        if committed.is_closed {
            return Err(Error::invalid("the stream was closed: its name may belong to another"));
        }
        let merged = committed.token.merge(token)?;
        if let Some(hold) = &mut committed.hold {
            hold.store(&merged).await?;
        }
        committed.token = merged;
        Ok(())
    }

    pub async fn token(&self) -> Token {
        self.0.lock().await.token.clone()
    }

    /// Gives the name back.
    pub async fn close(&self) -> Result<()> {
        let mut committed = self.0.lock().await;
        committed.is_closed = true;
        match committed.hold.take() {
            Some(hold) => hold.release().await,
            None => Ok(()),
        }
    }
}
