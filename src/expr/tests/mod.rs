//! Properties that hold the evaluators together, and truth tables for the rules they follow.
//!
//! Whatever is known about some rows: `must_match` ⇒ every row passes ⇒ (some row) ⇒ `might_match`.

mod bounds;
mod model;
mod partitions;
mod rows;
