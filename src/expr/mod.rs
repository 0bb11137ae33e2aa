//! Predicates over partitions, bounds and rows.
//!
//! The AST is the `iceberg` crate's ([`Predicate`], [`BoundPredicate`]); what it means is decided
//! here, in one compiled form ([`Filter`]) that every evaluator shares, so that pruning and row
//! filtering cannot disagree:
//!
//! ```text
//! text ─parse→ Predicate ─bind→ BoundPredicate ─Filter::new→ Filter
//!                                      ├─ might_match / must_match (ColumnStats: files, row groups, pages)
//!                                      ├─ evaluate (RecordBatch)
//!                                      └─ PartitionFilter (manifests, partitions)
//! ```
//!
//! Logic is SQL's three-valued one with "unknown" counted as false (EXP-1). Pure: no storage, no
//! clock.

mod bind;
mod coerce;
mod evaluate;
mod facts;
mod filter;
mod number;
mod order;
mod parse;
mod partition;
mod project;
mod rename;
mod show;
mod stats;
mod time;

pub(crate) use bind::nearest;
pub use bind::{bind, field_ids};
pub use evaluate::evaluate;
pub use filter::Filter;
pub(crate) use number::exact_number;
pub(crate) use order::compare;
pub use parse::parse;
pub use partition::PartitionFilter;
pub use rename::{names, renamed};
pub use show::describe;
pub use stats::{ColumnStats, FileStats, might_match, must_match};

#[allow(unused_imports)] // Named by the module doc.
use crate::spec::{BoundPredicate, Predicate};

#[cfg(test)]
mod tests;
