//! Lost answers for tests: what a network between us and a SQL server would do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::error::{Error, ErrorKind, Result};

/// What happens to one pointer swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The statement never ran.
    LostRequest,
    /// The statement ran; its answer was lost.
    LostAnswer,
}

/// Faults of the next swaps, first come first served.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<VecDeque<Fault>>>);

impl Faults {
    pub(crate) fn push(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.lock().unwrap().extend(faults);
    }

    pub(crate) fn before_swap(&self) -> Result<()> {
        let mut faults = self.0.lock().unwrap();
        match faults.front() {
            Some(Fault::LostRequest) => {
                faults.pop_front();
                Err(lost())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn after_swap(&self) -> Result<()> {
        match self.0.lock().unwrap().pop_front() {
            Some(Fault::LostAnswer) => Err(lost()),
            _ => Ok(()),
        }
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection was lost")
}
