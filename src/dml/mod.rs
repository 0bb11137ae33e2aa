//! Delete and overwrite by filter.
