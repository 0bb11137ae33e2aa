//! The one lock of a stream, and the bells that its tasks wait for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::split::{Out, Split};
use super::state::{State, Stopped};
use crate::error::Error;

#[derive(Debug)]
pub(super) struct Hub {
    state: Mutex<State>,
    /// Rings when planning may go on.
    planner: Notify,
    /// Ring when a lane may go on.
    lanes: Vec<Notify>,
}

impl Hub {
    pub fn new(state: State) -> Arc<Self> {
        let lanes = state.lanes.iter().map(|_| Notify::new()).collect();
        Arc::new(Self { state: Mutex::new(state), planner: Notify::new(), lanes })
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

    /// Waits for a lane's next split.
    pub async fn take(&self, lane: usize) -> Arc<Split> {
        loop {
            if let Some(split) = self.state().take(lane) {
                self.ring_planner();
                return split;
            }
            self.lane_bell(lane).await;
        }
    }

    /// Waits until the lane's consumer has room for more.
    pub async fn room(&self, lane: usize) {
        while !self.state().lanes.get(lane).is_some_and(|l| l.has_room()) {
            self.lane_bell(lane).await;
        }
    }

    pub fn deliver(&self, lane: usize, out: Out) {
        if let Some(lane) = self.state().lanes.get_mut(lane) {
            lane.deliver(out);
        }
    }

    /// Ends the reading of a split.
    pub fn finished(&self, lane: usize, split: Arc<Split>) {
        if let Some(lane) = self.state().lanes.get_mut(lane) {
            lane.reading = false;
            lane.deliver(Out::Finished(split));
        }
    }

    /// Puts a split back that could not be read on, and tells the consumer behind the rows.
    /// Nothing is read on this lane before the consumer saw it.
    pub fn failed(&self, lane: usize, left: Option<Split>, error: Error) {
        if let Some(lane) = self.state().lanes.get_mut(lane) {
            lane.reading = false;
            lane.halted = true;
            if let Some(split) = left {
                lane.queue.put_back(split);
            }
            lane.deliver(Out::Failure(error));
        }
    }

    /// Ends planning, or interrupts it until a consumer saw why.
    pub fn stop_planning(&self, why: Stopped) {
        let mut state = self.state();
        state.stopped = Some(why);
        state.wake_all();
    }
}
