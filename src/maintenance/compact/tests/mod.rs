//! Compaction on tables with a past.

mod commits;
mod meanwhile;
mod model;
mod plans;
mod sorting;
