//! Who swaps the metadata.
