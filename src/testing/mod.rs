//! Fixtures, faults and contract suites.

mod canonical;
mod faulty;

pub use canonical::canonical_lines;
pub use faulty::{FaultPlan, FaultyStore};
