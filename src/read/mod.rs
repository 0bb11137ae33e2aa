//! Tasks to rows: merge-on-read.
