//! Rows to files.
