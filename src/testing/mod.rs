//! Fixtures, faults and contract suites.

mod faulty;

pub use faulty::{FaultPlan, FaultyStore};
