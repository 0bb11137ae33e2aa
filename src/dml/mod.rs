//! Delete and overwrite by filter, merge-on-read.
//!
//! ```text
//! table.delete_where(filter) ─plan→ DeletePlan ─commit→ DeleteReport
//! ```
//!
//! *Plan*: data files of which every row matches, by partition or statistics, go as a whole; of
//! files that may hold matching rows, the rows are looked up. *Run*: matching rows that are still
//! alive become one position delete file per data file. *Commit*: one snapshot, checked against
//! whatever others committed since the plan; if that is in the way, planned again on the new
//! head. Rules: `format-spec/dml.md`.

mod plan;
mod run;

pub use plan::{DeletePlan, PlannedFile};
pub use run::{DeleteReport, DeleteWhere, OverwriteWhere};

#[cfg(test)]
pub(crate) mod tests;
