//! Identifiers as types, so that the compiler spots a swap.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The id of a snapshot: unique in its table, not ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(pub i64);

/// A sequence number: the order of commits in a table, and the age of rows.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SequenceNumber(pub i64);

impl SequenceNumber {
    /// The number after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<i64> for SnapshotId {
    fn from(id: i64) -> Self {
        Self(id)
    }
}

impl From<i64> for SequenceNumber {
    fn from(number: i64) -> Self {
        Self(number)
    }
}
