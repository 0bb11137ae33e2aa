//! Manifests and manifest lists: codec and cache.
