//! The one lock of a stream, and the bells that its tasks wait for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::ahead::Allowance;
use super::failure::again;
use super::lane_state::LaneState;
use super::meters::Meters;
use super::split::{Out, Split};
use super::state::State;
use crate::error::{Error, ErrorKind};
use crate::read::ChangeReader;

#[derive(Debug)]
pub(super) struct Hub {
    state: Mutex<State>,
    /// Rings when planning may go on.
    planner: Notify,
    /// Ring when a lane may go on.
    lanes: Vec<Notify>,
    pub meters: Meters,
}

impl Hub {
    pub fn new(state: State, meters: Meters) -> Arc<Self> {
        let lanes = state.lanes.iter().map(|_| Notify::new()).collect();
        Arc::new(Self { state: Mutex::new(state), planner: Notify::new(), lanes, meters })
    }

    /// The state. A task that panicked is reported by itself; what it left is still whole,
    /// because no change is made in two steps that can fail between.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn ring_planner(&self) {
        self.planner.notify_one();
    }

    pub fn ring_lanes(&self) {
        self.lanes.iter().for_each(Notify::notify_one);
    }

    pub async fn planner_bell(&self) {
        self.planner.notified().await;
    }

    async fn lane_bell(&self, lane: usize) {
        match self.lanes.get(lane) {
            Some(bell) => bell.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Waits for a lane's next split; `None` once its owner is gone.
    pub async fn take(&self, lane: usize) -> Option<Arc<Split>> {
        while !self.is_dropped(lane) {
            if let Some(split) = self.state().take(lane) {
                self.ring_planner();
                return Some(split);
            }
            self.lane_bell(lane).await;
        }
        None
    }

    /// A split that the lane may read before its turn.
    pub fn take_ahead(&self, lane: usize) -> Option<Arc<Split>> {
        let split = self.state().take_ahead(lane)?;
        self.ring_planner();
        Some(split)
    }

    /// What reads a lane's splits now; `None` for a lane that is not there.
    pub fn reader(&self, lane: usize) -> Option<Arc<ChangeReader>> {
        self.state().lanes.get(lane).map(|lane| lane.reader.clone())
    }

    /// How much a lane may read ahead.
    pub fn allowance(&self, lane: usize) -> Arc<Allowance> {
        let state = self.state();
        state.lanes.get(lane).map_or_else(|| Allowance::new(0), |lane| lane.ahead.clone())
    }

    /// Waits until the lane's consumer has room for more; false once its owner is gone.
    pub async fn room(&self, lane: usize) -> bool {
        while !self.is_dropped(lane) {
            if self.state().lanes.get(lane).is_some_and(LaneState::has_room) {
                return true;
            }
            self.lane_bell(lane).await;
        }
        false
    }

    fn is_dropped(&self, lane: usize) -> bool {
        self.state().lanes.get(lane).is_none_or(|lane| lane.is_dropped)
    }

    pub fn deliver(&self, lane: usize, out: Out) {
        if let Some(lane) = self.state().lanes.get_mut(lane) {
            lane.deliver(out);
        }
    }

    /// Ends the reading of a lane's oldest split.
    pub fn finished(&self, lane: usize) {
        if let Some(lane) = self.state().lanes.get_mut(lane) {
            lane.finish_reading();
        }
    }

    /// Puts back what could not be read on, and tells the consumer behind the rows. Nothing is
    /// read on this lane before the consumer saw it, and on no lane if it is for good (STR-13).
    pub fn failed(&self, lane: usize, left: Option<Split>, error: Error) {
        let mut state = self.state();
        let is_over = error.kind() != ErrorKind::Unavailable;
        if is_over && state.failed.is_none() {
            state.failed = Some((lane, again(&error)));
        }
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.put_back(left);
            lane.halt(error);
        }
        if is_over {
            state.wake_all();
        }
    }

    /// Lets go of a lane whose owner is gone. Others may have waited for it.
    pub fn drop_lane(&self, lane: usize) {
        let mut state = self.state();
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.drop_all();
        }
        state.wake_all();
        drop(state);
        self.ring_lanes();
        self.ring_planner();
    }

    /// Interrupts planning until a consumer saw why.
    pub fn stop_planning(&self, why: Error) {
        let mut state = self.state();
        state.stopped = Some(why);
        state.wake_all();
    }
}
