//! Is this row still alive? Which delete files apply to a data file, and what they delete.
//!
//! In: the live delete entries of one snapshot, and the bytes of delete files. Out: per data
//! file the deletes that apply ([`DeleteFileIndex`]), a bitmap of dead positions
//! ([`DeleteLoader::positions`]) and maps of dead keys ([`EqualityDeleteMap`]).
//! The rules are written down in `format-spec/deletes.md`.

mod columns;
mod equality;
mod group;
mod index;
mod int_table;
mod key_read;
mod key_table;
mod key_values;
mod loader;
mod positions;
mod pruning;

use std::sync::Arc;

use crate::spec::{DataFile, SequenceNumber};

pub(crate) use columns::path_to;
pub use columns::{KeyColumn, KeyColumns};
pub use equality::{EqualityDeleteMap, EqualityDeleteMapBuilder, HashPartition};
pub use index::DeleteFileIndex;
pub(crate) use key_read::graft;
pub use key_read::identity_constants;
pub(crate) use key_values::{BytesColumn, canonical, int_values};
pub use loader::{DeleteLoader, EqualityDeletes, OversizedDeletes};
pub use positions::{PositionsByPath, collect_positions, position_columns};

/// A delete file and the age of its deletes.
#[derive(Debug, Clone, PartialEq)]
pub struct DeleteFile {
    /// The file as its manifest describes it.
    pub file: Arc<DataFile>,
    /// Its data sequence number.
    pub sequence_number: SequenceNumber,
}
