//! Manifests and manifest lists: which files make up a snapshot, and how old they are.
//!
//! Our own Avro codec reads and writes them, straight into the packed types of
//! [`crate::spec`]. Reading and writing are pure, from bytes to values and back; only
//! [`ManifestCache`] touches storage. The rules (MAN-n) are in `format-spec/manifests.md`.

mod avro;
mod cache;
mod entry;
mod list;
mod partition;
mod plan;
mod summary;
mod writer;

pub use avro::ManifestCodec;
pub use cache::ManifestCache;
pub use entry::{ReadOptions, read_manifest, read_manifest_with};
pub use list::{UNASSIGNED, read_manifest_list, write_manifest_list};
pub use writer::ManifestWriter;

#[cfg(test)]
mod tests;
