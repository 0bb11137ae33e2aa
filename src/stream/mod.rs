//! How changes flow out: a table as an ordered, resumable stream.
//!
//! ```text
//! timeline ─planner→ queues of splits, one a lane ─lanes→ batches ─consumer→ events and tokens
//! ```
//!
//! One planner walks over the snapshots of a branch (`timeline`) and fills a bounded queue a
//! lane (`queue`); each lane reads its splits in order; the consumer takes what they read, and
//! with it the position moves on. What may happen when is decided in `state`, under one lock.
//! Rules: `format-spec/stream.md`.

mod ahead;
mod assigner;
mod batch;
mod breaks;
mod builder;
mod change_stream;
mod columns;
mod commits;
mod consumer;
mod describe;
mod failure;
mod full;
mod groups;
mod guard;
mod hub;
mod lag;
mod lane;
mod lane_state;
mod meters;
mod named;
mod open;
mod plan;
mod planner;
mod progress;
mod queue;
mod reader;
mod resume;
mod retry;
mod route;
mod split;
mod start;
mod state;
#[cfg(test)]
mod tests;
mod timeline;
mod width;

pub use batch::{ChangeBatch, Naming, StreamEvent};
pub use breaks::{OnGap, OnRollback, VerifyReplace};
pub use builder::StreamBuilder;
pub use change_stream::{ChangeStream, Lane};
pub use columns::{OnSchemaChange, SchemaChange};
pub use describe::Description;
pub use groups::Order;
pub use lag::Lag;
pub use queue::QueueMarks;
pub use start::{Start, Until};
pub use timeline::CommitInfo;

pub use crate::read::{ChangeKind, Emit, KeyFilterStore};
