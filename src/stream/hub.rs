//! The one lock of a stream, and the bells that its tasks wait for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::ahead::{Allowance, Held};
use super::lane_state::LaneState;
use super::meters::Meters;
use super::split::{Out, Split};
use super::state::State;
use crate::error::{Error, ErrorKind};
use crate::read::ChangeReader;

/// How often the age of what waits is told anew.
const LAG_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Hub {
    state: Mutex<State>,
    /// Rings when planning may go on.
    planner: Notify,
    /// Rings when something may have changed for the readers of any lane.
    lanes: Notify,
    pub meters: Meters,
}

impl Hub {
    pub fn new(state: State, meters: Meters) -> Arc<Self> {
        let (planner, lanes) = (Notify::new(), Notify::new());
        Arc::new(Self { state: Mutex::new(state), planner, lanes, meters })
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
        self.lanes.notify_waiters();
    }

    pub async fn planner_bell(&self) {
        self.planner.notified().await;
    }

    /// Tells the lag again and again: it grows while nobody polls and no store answers, and then
    /// nothing else happens that would tell it.
    pub async fn keep_telling_lag(self: Arc<Self>) {
        let mut timer = tokio::time::interval(LAG_EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            self.meters.lag(&self.state());
        }
    }

    /// Waits until `ready` gives something, which is asked again whenever the lanes' bell rings.
    async fn when<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // From here on the bell is heard, though nobody waits for it yet.
            let bell = self.lanes.notified();
            if let Some(found) = ready(&mut self.state()) {
                return found;
            }
            bell.await;
        }
    }

    /// Waits for a lane's next split; `None` once its owner is gone.
    pub async fn take(&self, lane: usize) -> Option<Arc<Split>> {
        let next = |state: &mut State| match state.is_dropped(lane) {
            true => Some(None),
            false => state.take(lane).map(Some),
        };
        let split = self.when(next).await?;
        self.ring_planner();
        if split.is_full() {
            self.meters.full_readers(&self.state());
        }
        Some(split)
    }

    /// Waits for a split of a whole snapshot that may be read beside others, of any lane, and for
    /// memory for its rows; `None` once no more can come.
    pub async fn take_beside(&self) -> Option<(usize, Arc<Split>, Held)> {
        let next = |state: &mut State| match state.is_full_phase() {
            false => Some(None),
            true => state.take_beside().map(Some),
        };
        let found = self.when(next).await?;
        self.ring_planner();
        self.meters.full_readers(&self.state());
        Some(found)
    }

    /// A split that the lane may read before its turn.
    pub fn take_ahead(&self, lane: usize) -> Option<Arc<Split>> {
        let split = self.state().take_ahead(lane)?;
        self.ring_planner();
        Some(split)
    }

    /// The change units that a lane reads next, so many at the most, with the bytes of their rows.
    pub fn next_units(&self, lane: usize, most: usize) -> Vec<(Arc<Split>, u64)> {
        let state = self.state();
        let Some(lane) = state.lanes.get(lane) else { return Vec::new() };
        lane.next_units().take(most).map(|(split, bytes)| (split.clone(), bytes)).collect()
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
        let room = |state: &mut State| match state.lanes.get(lane) {
            Some(lane) if !lane.is_dropped => lane.has_room().then_some(true),
            _ => Some(false),
        };
        self.when(room).await
    }

    /// Waits until the lane's consumer has room, and gives it this; false once its owner is gone.
    pub async fn give(&self, lane: usize, out: Out) -> bool {
        let (mut out, mut is_first) = (Some(out), false);
        let give = |state: &mut State| match state.lanes.get_mut(lane) {
            Some(lane) if !lane.is_dropped => lane.has_room().then(|| {
                out.take().into_iter().for_each(|out| is_first = lane.take_in(out));
                true
            }),
            _ => Some(false),
        };
        let is_given = self.when(give).await;
        if is_first {
            // Helpers may have waited to know how wide rows are.
            self.ring_lanes();
        }
        is_given
    }

    /// Notes that a lane's split was cut into pieces, the first of which is being read.
    pub fn cut(&self, lane: usize, pieces: Vec<Split>) {
        self.state().cut(lane, pieces);
        self.ring_lanes();
    }

    /// Ends the reading of a split beside others, which gave no row from `next` on.
    pub fn finished_beside(&self, lane: usize, split: Arc<Split>, next: u64) {
        self.end_beside(lane, |lane| {
            lane.learn_rest(&split, next);
            lane.deliver(Out::Finished(split));
        });
    }

    /// Ends the reading of a split of a lane whose owner is gone.
    pub fn unwanted_beside(&self, lane: usize) {
        self.end_beside(lane, |_| ());
    }

    /// One split less is read beside others: at once with what that means for the lane, which may
    /// go on behind the snapshot now.
    fn end_beside(&self, lane: usize, end: impl FnOnce(&mut LaneState)) {
        let mut state = self.state();
        if let Some(lane) = state.lanes.get_mut(lane) {
            end(lane);
            lane.beside = lane.beside.saturating_sub(1);
        }
        self.meters.full_readers(&state);
        drop(state);
        self.ring_lanes();
    }

    /// As [`Hub::failed`], for a split that was read beside others.
    pub fn failed_beside(&self, lane: usize, left: Split, error: Error) {
        self.failed(lane, Some(left), error);
        self.end_beside(lane, |_| ());
    }

    /// Ends the reading of a lane's oldest split, which gave no row from `next` on.
    pub fn finished(&self, lane: usize, next: u64) {
        if let Some(lane) = self.state().lanes.get_mut(lane) {
            lane.finish_reading(next);
        }
    }

    /// Puts back what could not be read on, and tells the consumer behind the rows. Nothing is
    /// read on this lane before the consumer saw it, and on no lane if it is for good (STR-13).
    pub fn failed(&self, lane: usize, left: Option<Split>, error: Error) {
        let mut state = self.state();
        let is_over = error.kind() != ErrorKind::Unavailable;
        if is_over && state.failed.is_none() {
            state.failed = Some((lane, error.again()));
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
