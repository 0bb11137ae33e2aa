//! Fixtures, faults and contract suites.

mod canonical;
pub mod catalog_contract;
mod faulty;
#[cfg(test)]
mod tests;

pub use canonical::canonical_lines;
pub use faulty::{FaultPlan, FaultyStore};
