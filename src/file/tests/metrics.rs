//! Bounds and counts against a plain model.
