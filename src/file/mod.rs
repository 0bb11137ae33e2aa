//! Parquet both ways: projection by field id, metrics, bounds.
