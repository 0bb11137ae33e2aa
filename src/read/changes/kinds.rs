//! The words for changes, and the batches that carry them.

use std::fmt;
use std::str::FromStr;

use arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ChangeKind {
    /// A new row.
    Insert,
    /// A row as it was before an update; its new image follows at once.
    UpdateBefore,
    /// A row as it is after an update.
    UpdateAfter,
    /// A row as it was when it was deleted.
    Delete,
}

impl ChangeKind {
    /// The word for it in `_change_type` columns.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::UpdateBefore => "update_before",
            Self::UpdateAfter => "update_after",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ChangeKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "insert" => Ok(Self::Insert),
            "update_before" => Ok(Self::UpdateBefore),
            "update_after" => Ok(Self::UpdateAfter),
            "delete" => Ok(Self::Delete),
            _ => Err(Error::invalid(format!("unknown kind of change `{text}`"))
                .with_hint("the kinds are insert, update_before, update_after and delete")),
        }
    }
}

/// Which changes a reader gives (CHG-6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Emit {
    /// Added rows, as inserts. Snapshots that remove rows cannot be shown.
    Appends,
    /// The newest row of each changed key as `update_after`, and key-only deletes, which may
    /// name keys that were not there.
    Upserts,
    /// Exact changes with pre-images.
    #[default]
    Changes,
}

impl fmt::Display for Emit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Appends => "appends",
            Self::Upserts => "upserts",
            Self::Changes => "changes",
        })
    }
}

impl FromStr for Emit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "appends" => Ok(Self::Appends),
            "upserts" => Ok(Self::Upserts),
            "changes" => Ok(Self::Changes),
            _ => Err(Error::invalid(format!("unknown emission `{text}`"))
                .with_hint("the emissions are appends, upserts and changes")),
        }
    }
}

/// Some changes, in order.
#[derive(Debug, Clone)]
pub struct ChangeRows {
    /// The rows.
    pub records: RecordBatch,
    /// What happened to each.
    pub kinds: Vec<ChangeKind>,
    /// The place of each in its file or unit, ascending.
    pub ordinals: Vec<u64>,
}

impl ChangeRows {
    /// Bytes that it takes in memory: the rows, and what is told of each.
    pub fn memory_size(&self) -> u64 {
        let of_each = size_of_val(self.kinds.as_slice()) + size_of_val(self.ordinals.as_slice());
        (self.records.get_array_memory_size() + of_each) as u64
    }
}
