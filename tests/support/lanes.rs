//! A sink that takes from single lanes, each in its own time, and stores their tokens when it
//! likes: what a lane told since its last commit is lost with a crash, and comes again.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use meltwater::Result;
use meltwater::spec::SchemaRef;
use meltwater::stream::{ChangeStream, CommitInfo, Lane, StreamEvent};
use meltwater::table::Token;

use super::replay::{Change, changes_in};
use super::sink::{Sink, cut, stored};

/// Longer than a stream takes to notice a commit, and to wait for a store: on a clock that nobody
/// waits for.
const QUIET: Duration = Duration::from_secs(5);

pub struct Lanes {
    lanes: Vec<Following>,
    schema: SchemaRef,
}

struct Following {
    lane: Lane,
    told: Vec<(Arc<CommitInfo>, Change)>,
    /// Its consumer died in the middle of a batch.
    is_dead: bool,
}

impl Lanes {
    /// Takes over a stream whose rows are in this schema, from its start on.
    pub fn of(stream: ChangeStream, schema: &SchemaRef, sink: &mut Sink) -> Result<Self> {
        sink.token = Some(stream.token());
        let following = |lane| Following { lane, told: Vec::new(), is_dead: false };
        let lanes = stream.into_lanes()?.into_iter().map(following).collect();
        Ok(Self { lanes, schema: schema.clone() })
    }

    /// Where the lanes stand, whatever they stored.
    pub fn token(&self) -> Option<Token> {
        let tokens = self.lanes.iter().map(|following| following.lane.token());
        tokens.reduce(|all, lane| all.merge(&lane).unwrap_or(all))
    }

    /// Takes about so many rows of a lane, or what there is.
    pub async fn take(&mut self, lane: usize, rows: usize, sink: &mut Sink) -> Result<()> {
        let count = self.lanes.len();
        let schema = self.schema.clone();
        let following = &mut self.lanes[lane % count];
        let mut left = rows;
        while left > 0 {
            let next = tokio::time::timeout(QUIET, following.lane.try_next()).await;
            let Ok(event) = next else { return Ok(()) };
            let Some(StreamEvent::Batch(batch)) = event? else { continue };
            let taken = cut(&batch, left);
            let came = changes_in(&schema, &batch).into_iter().take(taken);
            following.told.extend(came.map(|change| (batch.commit.clone(), change)));
            if taken < batch.kinds.len() {
                if taken > 0 {
                    following.store(&stored(&batch, taken)?, sink)?;
                }
                following.is_dead = true;
                return Ok(());
            }
            left -= taken;
        }
        Ok(())
    }

    /// Stores where a lane stands, with what it told.
    pub fn commit(&mut self, lane: usize, sink: &mut Sink) -> Result<()> {
        let count = self.lanes.len();
        let following = &mut self.lanes[lane % count];
        let token = following.lane.token();
        following.store(&token, sink)
    }
}

impl Following {
    fn store(&mut self, token: &Token, sink: &mut Sink) -> Result<()> {
        if self.is_dead {
            return Ok(());
        }
        sink.told.append(&mut self.told);
        let merged = sink.token.as_ref().map_or(Ok(token.clone()), |all| all.merge(token))?;
        sink.token = Some(merged.to_string().parse()?);
        Ok(())
    }
}
