//! Tells the consumer when a task of the stream panicked, so that nobody waits for ever.

use std::sync::Arc;

use super::hub::Hub;
use crate::error::Error;

/// Reports a panic of the task that holds it. A task that is cancelled says nothing.
pub(super) struct TaskGuard {
    hub: Arc<Hub>,
    /// The lane; `None` for the planner.
    lane: Option<usize>,
    armed: bool,
}

impl TaskGuard {
    pub fn new(hub: Arc<Hub>, lane: Option<usize>) -> Self {
        Self { hub, lane, armed: true }
    }

    pub fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        if !self.armed || !std::thread::panicking() {
            return;
        }
        match self.lane {
            Some(lane) => self.hub.failed(lane, None, Error::internal("a lane panicked")),
            None => {
                let error = Error::internal("the planner of the stream panicked");
                self.hub.stop_planning(error);
            }
        }
    }
}
