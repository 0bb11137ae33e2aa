//! Predicates over partitions, bounds and rows.
