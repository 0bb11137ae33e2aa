//! Locations as small numbers, so that a million of them fit into memory.

use std::hash::{DefaultHasher, Hasher};

use crate::storage::Location;

/// A location in the one form that all its spellings share. What cannot be parsed stays as it is.
pub(super) fn normal(location: &str) -> String {
    Location::normal(location).unwrap_or_else(|_| location.to_string())
}

/// The store and the path in it.
pub(super) fn split(location: &str) -> Option<(String, String)> {
    let location = Location::parse(location).ok()?;
    let root = location.root().to_string();
    Some((root, location.into_path().to_string()))
}

/// 128 bits of a text. Two texts with the same bits only ever keep a file that could go.
pub(super) fn fingerprint(text: &str) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(seed);
        hasher.write(text.as_bytes());
        u128::from(hasher.finish())
    };
    (half(0) << 64) | half(1)
}
