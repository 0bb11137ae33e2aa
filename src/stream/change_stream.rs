//! The stream as its user holds it: one stream of all lanes, or one stream a lane.

use std::pin::Pin;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use futures::Stream;

use super::batch::StreamEvent;
use super::commits::Commits;
use super::consumer::Consumer;
use super::describe::Description;
use super::lag::Lag;
use crate::error::{Error, Result};
use crate::table::Token;

/// The changes of a table, as they are committed.
///
/// * `next` is cancel-safe: what was not returned comes with the next call.
/// * Not polled, it holds at most its memory budget. Dropping it stops all work and stores
///   nothing.
/// * After `Unavailable` the next call goes on in place; after any other error it ends.
#[derive(Debug)]
pub struct ChangeStream {
    consumer: Consumer,
    commits: Commits,
    description: Description,
    schema: ArrowSchemaRef,
}

impl ChangeStream {
    #[cfg(test)]
    pub(super) fn hub(&self) -> &super::hub::Hub {
        self.consumer.hub()
    }

    pub(super) fn new(
        consumer: Consumer,
        commits: Commits,
        description: Description,
        schema: ArrowSchemaRef,
    ) -> Self {
        Self { consumer, commits, description, schema }
    }

    /// The columns of the batches, until a schema change is announced.
    pub fn arrow_schema(&self) -> &ArrowSchemaRef {
        &self.schema
    }

    /// Says that everything up to a token is done: after the work, after any batch. A stream
    /// with a name stores it and goes on from there when it is opened again; without a name it
    /// is kept in memory only.
    ///
    /// # Errors
    /// `Fenced` if another stream took the name; `InvalidInput` for a token of another stream;
    /// `Unavailable`, such as for a full disk: the position before is kept, commit again.
    pub async fn commit(&mut self, token: Token) -> Result<()> {
        self.commits.commit(&token).await
    }

    /// The position that was committed last, or where the stream began.
    pub async fn committed(&self) -> Token {
        self.commits.token().await
    }

    /// Where the stream stands: after everything it gave so far.
    pub fn token(&self) -> Token {
        self.consumer.token()
    }

    /// The last watermark it gave.
    pub fn watermark(&self) -> Option<i64> {
        self.consumer.watermark()
    }

    /// How far the stream is behind the newest commit. Reads the table's pointer and metadata,
    /// no data and no manifests.
    ///
    /// # Errors
    /// `Unavailable`; `PositionExpired` and `HistoryRewritten`.
    pub async fn lag(&self) -> Result<Lag> {
        let (table, breaks) = {
            let state = self.consumer.hub().state();
            (state.table.clone(), state.timeline.breaks())
        };
        table.refresh().await?.lag_over(&self.token(), &self.description.branch, breaks)
    }

    /// What this stream promises and what that costs.
    pub fn describe(&self) -> &Description {
        &self.description
    }

    /// Snapshots that were passed over because they delete, by
    /// [`super::StreamBuilder::skip_deletes`].
    pub fn skipped_snapshots(&self) -> u64 {
        self.consumer.hub().state().skipped_snapshots
    }

    /// One stream a lane, to be spawned where the caller likes. Their commits merge into the one
    /// stored position. Poll them side by side: a lane that is not polled holds back the others
    /// as far as alignment and barriers say (at a change of spec, and behind the rows of a whole
    /// snapshot), and no further.
    ///
    /// # Errors
    /// `InvalidInput` for order per snapshot, which is one sequence.
    pub fn into_lanes(self) -> Result<Vec<Lane>> {
        if self.description.order == super::Order::PerSnapshot {
            return Err(Error::invalid("order per snapshot is one sequence: it has no lanes")
                .with_hint("read the stream itself, or open it with order per partition"));
        }
        let Self { consumer, commits, schema, .. } = self;
        let lane = |consumer| Lane { consumer, commits: commits.clone(), schema: schema.clone() };
        Ok(consumer.split().into_iter().map(lane).collect())
    }

    #[cfg(test)]
    pub(super) fn hub_state(&self) -> std::sync::MutexGuard<'_, super::state::State> {
        self.consumer.hub().state()
    }

    /// Stops all work and gives the name back, without storing anything new.
    ///
    /// # Errors
    /// As [`ChangeStream::commit`].
    pub async fn close(self) -> Result<()> {
        let Self { consumer, commits, .. } = self;
        drop(consumer);
        commits.close().await
    }
}

impl Stream for ChangeStream {
    type Item = Result<StreamEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.consumer.poll_next(context);
        if let Poll::Ready(Some(Ok(StreamEvent::Schema(change)))) = &next {
            self.schema = change.arrow_schema.clone();
        }
        next
    }
}

/// One lane of a stream: the changes of its partitions, in order.
///
/// * When a lane fails for good (with anything but `Unavailable`), the others give what they have
///   read and then end with an error that names the lane and its failure.
/// * A lane that is dropped stops itself only: the position of its groups stays where it was, and
///   the others go on. Where they would have to wait for it, by alignment or at a barrier, they end
///   with an error that names it.
/// * Either way nothing is lost: the stream goes on from the stored position, or from the merged
///   tokens of its lanes, at any number of lanes (STR-13).
#[derive(Debug)]
pub struct Lane {
    consumer: Consumer,
    commits: Commits,
    schema: ArrowSchemaRef,
}

impl Lane {
    #[cfg(test)]
    pub(super) fn hub(&self) -> &super::hub::Hub {
        self.consumer.hub()
    }

    /// The lane's number.
    pub fn number(&self) -> usize {
        self.consumer.lanes().first().copied().unwrap_or(0)
    }

    /// The columns of the batches, until a schema change is announced.
    pub fn arrow_schema(&self) -> &ArrowSchemaRef {
        &self.schema
    }

    /// Where the lane stands; covers its groups only.
    pub fn token(&self) -> Token {
        self.consumer.token()
    }

    /// As [`ChangeStream::commit`], for the groups of this lane.
    ///
    /// # Errors
    /// As [`ChangeStream::commit`].
    pub async fn commit(&mut self, token: Token) -> Result<()> {
        self.commits.commit(&token).await
    }

    /// The position of the whole stream that was committed last.
    pub async fn committed(&self) -> Token {
        self.commits.token().await
    }

    /// Gives the stream's name back, for all lanes: none of them can commit any more.
    ///
    /// # Errors
    /// As [`ChangeStream::commit`].
    pub async fn close(self) -> Result<()> {
        self.commits.close().await
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.consumer.give_up();
    }
}

impl Stream for Lane {
    type Item = Result<StreamEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.consumer.poll_next(context);
        if let Poll::Ready(Some(Ok(StreamEvent::Schema(change)))) = &next {
            self.schema = change.arrow_schema.clone();
        }
        next
    }
}
