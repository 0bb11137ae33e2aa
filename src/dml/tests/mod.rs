//! Deletes and overwrites by filter on real files in memory.

mod commits;
mod fixture;
mod model;
