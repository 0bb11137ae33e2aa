//! Deletes and overwrites by filter on real files in memory.

mod commits;
pub(crate) mod fixture;
mod model;
