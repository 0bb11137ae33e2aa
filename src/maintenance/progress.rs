//! Whoever watches an action, and may stop it.

use std::fmt::Debug;

/// What the steps of an action are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Bytes of files read.
    Bytes,
    /// Files looked at or removed.
    Files,
}

/// Told how far an action has come, and asked whether it should go on.
///
/// Called from several tasks at once, between batches of rows: answers must be quick.
pub trait Progress: Debug + Send + Sync {
    /// A phase such as `compacting` begins; `total` units of work lie ahead, if that is known.
    fn begin(&self, phase: &'static str, unit: Unit, total: Option<u64>) {
        let _ = (phase, unit, total);
    }

    /// This many more units are done.
    fn advance(&self, units: u64) {
        let _ = units;
    }

    /// True to stop: what is finished is kept, what is half done is cleaned up.
    fn should_stop(&self) -> bool {
        false
    }
}

/// Nobody watches.
impl Progress for () {}
