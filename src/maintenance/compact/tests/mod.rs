//! Compaction on tables with a past.

mod commits;
mod fixture;
mod meanwhile;
mod model;
mod plans;
mod sorting;
