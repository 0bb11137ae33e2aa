//! A commit in the making, and what became of it.

use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::manifest::ManifestCodec;
use crate::spec::{
    MAIN_BRANCH, Predicate, SequenceNumber, SnapshotId, SnapshotRef, TableMetadataBuilder, property,
};

use super::attempt::Run;
use super::delta::{Delta, Isolation};
use super::idempotency::WriterEpoch;
use super::{Table, WriteResult};

/// A commit in the making: what to change, where, and what to check.
#[derive(Debug, Clone)]
#[must_use = "nothing is committed before `commit` is awaited"]
pub struct Commit {
    pub(super) table: Table,
    pub(super) delta: Delta,
    pub(super) branch: String,
    pub(super) writer: Option<WriterEpoch>,
    discard: Option<WriteResult>,
}

/// What a commit did.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The table as of this commit.
    pub table: Table,
    /// The snapshot that holds the work.
    pub snapshot_id: SnapshotId,
    /// The same, unless it has expired since: when `already_done`, or when the answer was lost.
    pub snapshot: Option<SnapshotRef>,
    /// How many times the swap was tried.
    pub attempts: u32,
    /// True when this writer's epoch had been committed before: nothing was changed now. The
    /// files handed in are then either part of that snapshot or orphans; they are left alone.
    pub already_done: bool,
}

impl Commit {
    pub(super) fn new(table: Table, delta: Delta) -> Self {
        let branch = MAIN_BRANCH.to_string();
        Self { table, delta, branch, writer: None, discard: None }
    }

    /// Commits to a branch other than `main`. The branch must exist.
    pub fn branch(mut self, name: impl Into<String>) -> Self {
        self.branch = name.into();
        self
    }

    /// Adds an entry to the snapshot's summary. Keys that we write ourselves win, and what only
    /// the commit can say ([`super::summary_key::OURS`]) is not taken from callers (CMT-9).
    pub fn summary(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.delta.summary.insert(key.into(), value.into());
        self
    }

    /// Checks everything committed after this snapshot for conflicts: the one that was read to
    /// plan this work, not the one current at commit time.
    pub fn validate_from(mut self, start: Option<SnapshotId>) -> Self {
        self.delta.start = start;
        self.delta.validate = true;
        self
    }

    /// Narrows conflicts to rows that may match `filter`.
    pub fn conflict_filter(mut self, filter: Predicate) -> Self {
        self.delta.conflict_filter = Some(filter);
        self
    }

    /// Which new rows of others are a conflict.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.delta.isolation = isolation;
        self
    }

    /// Takes delete files of others as a conflict too, as an update in place must.
    pub fn check_new_deletes(mut self) -> Self {
        self.delta.check_new_deletes = true;
        self.delta.count_plain_deletes = true;
        self
    }

    /// Gives the added data files the age of the snapshot that was read, for rewrites.
    pub fn data_sequence_number(mut self, number: SequenceNumber) -> Self {
        self.delta.data_sequence_number = Some(number);
        self
    }

    /// Removes the files handed in when the commit definitely fails.
    pub fn discard_on_failure(mut self) -> Self {
        self.discard = Some(WriteResult {
            data_files: self.delta.added_data.clone(),
            delete_files: self.delta.added_deletes.iter().map(|d| d.file.clone()).collect(),
            ..WriteResult::default()
        });
        self
    }

    /// The changes as a plain value.
    pub fn delta(&self) -> &Delta {
        &self.delta
    }

    /// Commits at most once for this writer and epoch: a repeated epoch returns the snapshot it
    /// made the first time. Epochs of one writer grow.
    ///
    /// # Errors
    /// As [`Commit::commit`]; `ValidationFailed` when rollbacks make it impossible to tell
    /// whether the epoch is in the table.
    pub async fn commit_with(mut self, writer: impl Into<String>, epoch: u64) -> Result<Committed> {
        self.writer = Some(WriterEpoch { writer: writer.into(), epoch });
        self.commit().await
    }

    /// Makes the snapshot.
    ///
    /// # Errors
    /// * `InvalidInput` for files outside the table's specs and schemas, duplicates, tags.
    /// * `NotFound` for an unknown branch.
    /// * `ValidationFailed` when others changed what this work relies on.
    /// * `CommitConflict` when all retries lost against others.
    /// * `CommitStateUnknown` when nobody knows: keep every file and look.
    #[tracing::instrument(name = "table.commit", skip_all, err(level = "debug"),
        fields(table = %self.table.ident(), kind = ?self.delta.kind, branch = %self.branch,
            attempts = tracing::field::Empty))]
    pub async fn commit(self) -> Result<Committed> {
        let (storage, discard) = (self.table.storage().clone(), self.discard.clone());
        let mut run = Run::new(self);
        let began = Instant::now();
        let outcome = run.run().await;
        run.measure(&outcome, began);
        match outcome {
            Ok(committed) => {
                run.clean_up().await;
                Ok(committed)
            }
            Err(error) if error.kind() == ErrorKind::CommitStateUnknown => Err(error),
            Err(error) => {
                run.take_back().await;
                if let Some(files) = discard {
                    // The first error is the one to report; leftovers are orphans.
                    let _ = files.discard(&storage).await;
                }
                Err(error)
            }
        }
    }
}

/// A builder on this version, whose changes become the updates of a commit.
pub(super) fn metadata_builder(base: &Table) -> TableMetadataBuilder {
    let metadata = base.metadata().as_ref().clone();
    metadata.into_builder(Some(base.metadata_location().to_string()))
}

/// The codec of manifests and manifest lists: gzip (deflate in Avro) unless set.
pub(super) fn manifest_codec(base: &Table) -> Result<ManifestCodec> {
    let name = base.properties().get(property::MANIFEST_COMPRESSION).unwrap_or("gzip");
    match name.to_ascii_lowercase().as_str() {
        "gzip" | "deflate" => Ok(ManifestCodec::Deflate),
        "zstd" | "zstandard" => Ok(ManifestCodec::Zstd),
        "snappy" => Ok(ManifestCodec::Snappy),
        "uncompressed" | "none" | "null" => Ok(ManifestCodec::Uncompressed),
        other => Err(Error::invalid(format!(
            "table property `{}` is `{other}`",
            property::MANIFEST_COMPRESSION
        ))
        .with_hint("use gzip, zstd, snappy or uncompressed")),
    }
}
