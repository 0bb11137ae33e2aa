//! Avro object container files, as far as manifests need them.
//!
//! In: the bytes of a file. Out: its header, its writer schema as a tree of [`schema::Node`]s,
//! and its blocks, decompressed under a bound (MAN-1). Nothing here knows Iceberg. Bytes are
//! hostile until proved otherwise: lengths and counts are checked against what is left, and
//! recursion has a limit.

mod codec;
mod container;
mod cursor;
mod encode;
pub(super) mod schema;

pub use codec::ManifestCodec;
pub(super) use container::{ContainerReader, ContainerWriter};
pub(super) use cursor::Cursor;
pub(super) use encode::{put_bool, put_bytes, put_long, put_string};
