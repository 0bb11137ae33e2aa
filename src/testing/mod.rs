//! Fixtures, faults and contract suites.

mod canonical;
pub mod catalog_contract;
mod faulty;
#[cfg(test)]
mod tests;

pub use canonical::canonical_lines;
pub use faulty::{FaultPlan, FaultyStore};

/// Empties the cache of Parquet footers, which the whole process shares, so that a simulation finds
/// what a new process would.
pub async fn forget_footers() {
    crate::file::forget_footers().await;
}
