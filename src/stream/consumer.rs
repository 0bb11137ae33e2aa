//! The consumer's side: takes what the lanes read, in turns, as events.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::task::JoinSet;

use super::batch::{ChangeBatch, StreamEvent};
use super::failure::{dropped, in_lane};
use super::groups::lane_of;
use super::hub::Hub;
use super::split::Out;
use super::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::SnapshotId;
use crate::table::Token;

/// The planner and the lanes of a stream; they stop when this is dropped.
#[derive(Debug)]
pub(super) struct Tasks {
    _running: JoinSet<()>,
}

impl Tasks {
    pub fn new(running: JoinSet<()>) -> Arc<Self> {
        Arc::new(Self { _running: running })
    }
}

/// Takes from some lanes of a stream: all of them, or one.
#[derive(Debug)]
pub(super) struct Consumer {
    hub: Arc<Hub>,
    /// Kept for its drop; `None` once the stream ended.
    tasks: Option<Arc<Tasks>>,
    lanes: Vec<usize>,
    all_lanes: usize,
    /// The lane that is asked first.
    turn: usize,
    watermark: Option<i64>,
    /// The snapshot whose schema was announced last.
    announced: Option<SnapshotId>,
}

impl Consumer {
    pub fn new(hub: Arc<Hub>, tasks: Arc<Tasks>, lanes: usize) -> Self {
        let (lanes, all_lanes) = ((0..lanes).collect(), lanes);
        Self {
            hub,
            tasks: Some(tasks),
            lanes,
            all_lanes,
            turn: 0,
            watermark: None,
            announced: None,
        }
    }

    /// One consumer a lane.
    pub fn split(self) -> Vec<Self> {
        let one = |lane: usize| Self {
            hub: self.hub.clone(),
            tasks: self.tasks.clone(),
            lanes: vec![lane],
            all_lanes: self.all_lanes,
            turn: 0,
            watermark: None,
            announced: None,
        };
        self.lanes.iter().map(|lane| one(*lane)).collect()
    }

    /// Says that nobody will take anything from these lanes any more.
    pub fn give_up(&self) {
        self.lanes.iter().for_each(|lane| self.hub.drop_lane(*lane));
    }

    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub fn lanes(&self) -> &[usize] {
        &self.lanes
    }

    pub fn watermark(&self) -> Option<i64> {
        self.watermark
    }

    /// What was delivered, as far as these lanes go.
    pub fn token(&self) -> Token {
        self.token_of(&self.hub.state())
    }

    fn token_of(&self, state: &State) -> Token {
        let token = state.delivered.clone();
        if self.lanes.len() == self.all_lanes {
            return token.trimmed();
        }
        token.covering(|group| self.lanes.contains(&lane_of(group, self.all_lanes)))
    }

    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<StreamEvent>>> {
        if self.tasks.is_none() {
            return Poll::Ready(None);
        }
        let hub = self.hub.clone();
        let mut state = hub.state();
        for n in 0..self.lanes.len() {
            let turn = (self.turn + n) % self.lanes.len();
            let Some(lane) = self.lanes.get(turn).copied() else { continue };
            if let Some(waiting) = state.lanes.get_mut(lane) {
                waiting.wait(context.waker());
            }
            if let Some(event) = self.next_of(&mut state, lane) {
                self.turn = (turn + 1) % self.lanes.len();
                return Poll::Ready(Some(event));
            }
        }
        match self.end(&mut state) {
            Some(end) => Poll::Ready(end.map(Err)),
            None => Poll::Pending,
        }
    }

    /// Takes from a lane until there is something to tell.
    fn next_of(&mut self, state: &mut State, lane: usize) -> Option<Result<StreamEvent>> {
        while let Some(out) = state.pop(lane) {
            // Room, alignment and barriers may all have changed.
            self.hub.ring_lanes();
            match out {
                Out::Rows(rows) => {
                    self.hub.meters.batch(state, &rows);
                    let batch = ChangeBatch::new(rows, lane, self.token_of(state));
                    return Some(Ok(StreamEvent::Batch(batch)));
                }
                Out::Finished(_) => self.hub.meters.split(),
                Out::Schema(change) => {
                    // Each lane has it in front of its rows: who takes from many tells it once.
                    let id = Some(change.commit.snapshot_id);
                    if std::mem::replace(&mut self.announced, id) != id {
                        return Some(Ok(StreamEvent::Schema(change)));
                    }
                }
                Out::Boundary(_) => {
                    self.hub.meters.lag(state);
                    let watermark = state.watermark(&self.lanes);
                    if watermark > self.watermark {
                        self.watermark = watermark;
                        watermark.iter().for_each(|time| self.hub.meters.watermark(*time));
                        return watermark.map(|time| Ok(StreamEvent::Watermark(time)));
                    }
                }
                Out::Failure(error) => {
                    if error.kind() != ErrorKind::Unavailable {
                        self.tasks = None;
                    }
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// How the stream ends, if nothing more can come: with nothing, or with an error. After
    /// `Unavailable` it goes on when it is asked again (STR-10).
    fn end(&mut self, state: &mut State) -> Option<Option<Error>> {
        let end = if state.is_done(&self.lanes) {
            state.refused.as_ref().map(Error::again)
        } else if let Some((lane, error)) = &state.failed
            && state.is_taken(&self.lanes)
        {
            Some(in_lane(*lane, error))
        } else if state.stopped.is_some() && state.is_stuck(&self.lanes) {
            let error = state.stopped.take()?;
            if error.kind() == ErrorKind::Unavailable {
                self.hub.ring_planner();
                return Some(Some(error));
            }
            state.stopped = Some(error.again());
            Some(error)
        } else {
            Some(dropped(state.waits_for_dropped(&self.lanes)?))
        };
        self.tasks = None;
        Some(end)
    }
}
