//! The commit loop: refresh, validate, produce, swap, and find out what became of it.
//!
//! Everything a commit writes is written before the swap and removed after a definite failure.
//! After an unknown outcome nothing is removed (CMT-6).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::manifest::write_manifest_list;
use crate::measure;
use crate::spec::{
    DataContentType, MAIN_BRANCH, ManifestContentType, ManifestFile, PartitionKey, SequenceNumber,
    Snapshot, SnapshotId, SnapshotRef, TableRequirement, refs_of,
};

use super::commit::{Commit, Committed, manifest_codec, metadata_builder};
use super::delta::{Delta, OperationKind, RemovedFile};
use super::idempotency::{self, EpochState, WriterEpoch};
use super::produce::{Produced, Producer};
use super::retry::RetryPolicy;
use super::summary::key;
use super::{Table, validate};

/// How often the head is looked at after a swap without an answer.
const STATUS_CHECKS: u32 = 3;

/// One commit on its way through the loop.
pub(super) struct Run {
    table: Table,
    delta: Delta,
    branch: String,
    writer: Option<WriterEpoch>,
    snapshot_id: SnapshotId,
    name: String,
    producer: Producer,
    lists: Vec<String>,
    keep: HashSet<String>,
    sent: bool,
    /// Attempts made so far.
    attempts: u64,
}

enum Sent {
    Landed(Table),
    Conflict(Error),
}

impl Run {
    pub(super) fn new(commit: Commit) -> Self {
        let ids = commit.table.environment().ids.clone();
        let mut snapshot_id = SnapshotId(ids.snapshot_id());
        while commit.table.metadata().snapshot_by_id(snapshot_id.0).is_some() {
            snapshot_id = SnapshotId(ids.snapshot_id());
        }
        let name = ids.uuid().to_string();
        Self {
            table: commit.table,
            delta: commit.delta,
            branch: commit.branch,
            writer: commit.writer,
            snapshot_id,
            producer: Producer::new(snapshot_id, name.clone()),
            name,
            lists: Vec::new(),
            keep: HashSet::new(),
            sent: false,
            attempts: 0,
        }
    }

    pub(super) async fn run(&mut self) -> Result<Committed> {
        let policy = RetryPolicy::from_properties(&self.table.properties())?;
        let mut backoff = policy.start();
        loop {
            let last = match self.attempt(backoff.attempt()).await {
                Ok(Ok(committed)) => return Ok(committed),
                Ok(Err(conflict)) => conflict,
                Err(error) if error.kind() == ErrorKind::Unavailable && self.sent => error,
                Err(error) => return Err(error),
            };
            tracing::debug!(attempt = backoff.attempt(), error = %last, "commit attempt lost");
            if !backoff.wait(self.table.environment()).await {
                let unsure = last.kind() == ErrorKind::Unavailable && !last.is_nothing_changed();
                return Err(if unsure { unknown(&self.table, last) } else { last });
            }
        }
    }

    /// One attempt: the outer error ends the commit, the inner one is worth a retry.
    async fn attempt(&mut self, number: u32) -> Result<Result<Committed>> {
        self.attempts += 1;
        let base = self.table.refresh().await?;
        if self.sent && self.has_landed(&base) {
            let snapshot = base.metadata().snapshot_by_id(self.snapshot_id.0).cloned();
            self.keep_landed(&base, snapshot.as_ref()).await;
            return Ok(Ok(self.committed(base, snapshot, number - 1)));
        }
        let head = self.branch_head(&base)?;
        if let Some(id) = &self.writer {
            match idempotency::look_up(&base, &self.branch, head.as_ref(), id)? {
                EpochState::New => {}
                EpochState::Done(snapshot) => {
                    return Ok(Ok(done_before(base, Some(snapshot), None)));
                }
                EpochState::DoneAndExpired(id) => return Ok(Ok(done_before(base, None, Some(id)))),
            }
        }
        let manifests = match &head {
            Some(head) => base.manifests(head).await?,
            None => Arc::default(),
        };
        self.delta.promote_partitions(&base);
        self.delta.check(base.metadata())?;
        if self.delta.kind == OperationKind::ReplacePartitions {
            replace_partitions(&base, &manifests, &mut self.delta).await?;
        }
        validate::validate(&base, head.as_ref(), &manifests, &self.delta).await?;
        let produced = self.producer.produce(&base, &manifests, &self.delta).await?;
        let snapshot = self.write_list(&base, head.as_ref(), &produced, number).await?;
        match self.send(&base, head.as_ref(), snapshot.clone()).await? {
            Sent::Conflict(error) => Ok(Err(error)),
            Sent::Landed(table) => {
                self.keep.extend(produced.manifests.iter().map(|m| m.manifest_path.clone()));
                self.keep.insert(snapshot.manifest_list().to_string());
                let found = table.metadata().snapshot_by_id(self.snapshot_id.0).cloned();
                let snapshot = found.unwrap_or_else(|| Arc::new(snapshot));
                tracing::info!(snapshot = %self.snapshot_id, "snapshot committed");
                Ok(Ok(self.committed(table, Some(snapshot), number)))
            }
        }
    }

    pub(super) fn measure(&self, outcome: &Result<Committed>, began: Instant) {
        let (table, kind) = (self.table.ident().to_string(), format!("{:?}", self.delta.kind));
        let word = match outcome {
            Ok(_) => "committed",
            Err(e) if e.kind() == ErrorKind::CommitConflict => "conflict",
            Err(e) if e.kind() == ErrorKind::CommitStateUnknown => "unknown",
            Err(_) => "failed",
        };
        measure::COMMITS.add(&[&table, &kind, word], 1);
        measure::COMMIT_ATTEMPTS.add(&[&table, &kind], self.attempts);
        measure::COMMIT_SECONDS.took(&[&table, &kind], began.elapsed());
        tracing::Span::current().record("attempts", self.attempts);
    }

    fn committed(&self, table: Table, snapshot: Option<SnapshotRef>, attempts: u32) -> Committed {
        let snapshot_id = self.snapshot_id;
        Committed { table, snapshot_id, snapshot, attempts, already_done: false }
    }

    /// Whether our snapshot is part of this version, or was: a child shows that it expired since
    /// (CMT-6).
    fn has_landed(&self, table: &Table) -> bool {
        let (metadata, ours) = (table.metadata(), self.snapshot_id.0);
        metadata.snapshot_by_id(ours).is_some()
            || metadata.snapshots().any(|s| s.parent_snapshot_id() == Some(ours))
    }

    /// Marks what a snapshot found after a lost answer refers to, so that clean-up spares it.
    /// If its list is gone or cannot be read everything is spared: children list our manifests.
    async fn keep_landed(&mut self, base: &Table, snapshot: Option<&SnapshotRef>) {
        let manifests = match snapshot {
            Some(snapshot) => base.manifests(snapshot).await.ok(),
            None => None,
        };
        if let Some((manifests, snapshot)) = manifests.zip(snapshot) {
            self.keep.extend(manifests.iter().map(|m| m.manifest_path.clone()));
            self.keep.insert(snapshot.manifest_list().to_string());
        } else {
            self.lists.clear();
            self.producer.written.clear();
        }
    }

    /// The head to build on: branches move, tags do not (CMT-13).
    fn branch_head(&self, base: &Table) -> Result<Option<SnapshotRef>> {
        if self.branch == MAIN_BRANCH {
            return Ok(base.current_snapshot().cloned());
        }
        let Some(head) = base.metadata().snapshot_for_ref(&self.branch) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("table `{}` has no branch `{}`", base.ident(), self.branch),
            )
            .with_hint(format!(
                "create it first: `meltwater branch {} {}`",
                base.ident(),
                self.branch
            )));
        };
        // A tag names one snapshot for good (CMT-13).
        if refs_of(base.metadata())?.get(&self.branch).is_some_and(|r| !r.is_branch()) {
            return Err(Error::invalid(format!("`{}` is a tag: tags do not move", self.branch))
                .with_hint("commit to a branch; make one at the tag's snapshot if need be"));
        }
        Ok(Some(head.clone()))
    }

    async fn write_list(
        &mut self,
        base: &Table,
        head: Option<&SnapshotRef>,
        produced: &Produced,
        attempt: u32,
    ) -> Result<Snapshot> {
        let id = self.snapshot_id;
        let location =
            format!("{}/snap-{id}-{attempt}-{}.avro", base.manifest_location(), self.name);
        let number = SequenceNumber(base.metadata().last_sequence_number()).next();
        let parent = head.map(|h| SnapshotId(h.snapshot_id()));
        let codec = manifest_codec(base)?;
        let bytes = write_manifest_list(&produced.manifests, id, parent, number, codec)?;
        self.lists.push(location.clone());
        base.storage().write(&location, bytes).await?;

        let mut extra = self.delta.summary.clone();
        extra.retain(|name, _| !key::OURS.contains(&name.as_str()));
        if self.delta.no_logical_change && self.delta.kind != OperationKind::Rewrite {
            extra.insert(key::LOGICAL_CHANGE.into(), "none".into());
        }
        if let Some(writer) = &self.writer {
            extra.insert(key::WRITER_ID.into(), writer.writer.clone());
            extra.insert(key::EPOCH.into(), writer.epoch.to_string());
        }
        let summary =
            produced.counts.summary(self.delta.operation(), head.map(|h| h.summary()), &extra);
        Ok(Snapshot::builder()
            .with_snapshot_id(id.0)
            .with_parent_snapshot_id(parent.map(|p| p.0))
            .with_sequence_number(number.0)
            .with_timestamp_ms(commit_time(base, head))
            .with_manifest_list(location)
            .with_summary(summary)
            .with_schema_id(base.metadata().current_schema_id())
            .build())
    }

    async fn send(
        &mut self,
        base: &Table,
        head: Option<&SnapshotRef>,
        snapshot: Snapshot,
    ) -> Result<Sent> {
        let time = snapshot.timestamp_ms();
        let builder = metadata_builder(base).set_branch_snapshot(snapshot, &self.branch)?;
        let mut updates = builder.build()?.changes;
        if let Some(id) = &self.writer {
            updates.extend(idempotency::record(base, &self.branch, id, self.snapshot_id, time));
        }
        let requirements = vec![
            TableRequirement::UuidMatch { uuid: base.metadata().uuid() },
            TableRequirement::RefSnapshotIdMatch {
                r#ref: self.branch.clone(),
                snapshot_id: head.map(|h| h.snapshot_id()),
            },
        ];
        self.sent = true;
        let outcome = base.catalog().commit(base.ident(), requirements, updates).await;
        match outcome {
            Ok(loaded) => Ok(Sent::Landed(base.with_loaded(loaded))),
            Err(error) => self.after_error(base, error).await,
        }
    }

    /// A reply other than "done": find out what it means.
    async fn after_error(&self, base: &Table, error: Error) -> Result<Sent> {
        match error.kind() {
            ErrorKind::CommitConflict => Ok(Sent::Conflict(error)),
            // A busy or a full disk, and a catalog that knows what became of the swap.
            ErrorKind::Unavailable if error.is_nothing_changed() => Ok(Sent::Conflict(error)),
            ErrorKind::CommitStateUnknown | ErrorKind::Unavailable => {
                self.look_for_snapshot(base, error).await
            }
            // The catalog refused the updates; if the table moved on meanwhile (another branch
            // took our sequence number), that is a conflict like any other.
            _ => match base.catalog().changed_since(base.ident(), base.metadata_location()).await {
                Ok(true) => Ok(Sent::Conflict(error.with_kind(ErrorKind::CommitConflict))),
                _ => Err(error),
            },
        }
    }

    async fn look_for_snapshot(&self, base: &Table, error: Error) -> Result<Sent> {
        for check in 0..STATUS_CHECKS {
            if check > 0 {
                let wait = std::time::Duration::from_millis(100 << check);
                tokio::time::sleep(wait).await;
            }
            let Ok(now) = base.refresh().await else { continue };
            if self.has_landed(&now) {
                return Ok(Sent::Landed(now));
            }
            if now.metadata_location() != base.metadata_location() {
                // The pointer our swap compared against is gone: ours can no longer land.
                return Ok(Sent::Conflict(error.with_kind(ErrorKind::CommitConflict)));
            }
        }
        Err(unknown(base, error))
    }

    /// Removes everything that was written: nothing of it is in the table.
    pub(super) async fn take_back(&mut self) {
        self.keep.clear();
        self.clean_up().await;
    }

    /// Removes what was written and is not part of the outcome. Failures leave orphans, no more.
    pub(super) async fn clean_up(&self) {
        for location in self.producer.written.iter().chain(&self.lists) {
            if !self.keep.contains(location) {
                let _ = self.table.storage().delete(location).await;
            }
        }
    }
}

fn done_before(table: Table, snapshot: Option<SnapshotRef>, id: Option<SnapshotId>) -> Committed {
    let snapshot_id = match (&snapshot, id) {
        (Some(snapshot), _) => SnapshotId(snapshot.snapshot_id()),
        (None, id) => id.unwrap_or(SnapshotId(-1)),
    };
    Committed { table, snapshot_id, snapshot, attempts: 0, already_done: true }
}

fn unknown(table: &Table, cause: Error) -> Error {
    Error::new(
        ErrorKind::CommitStateUnknown,
        format!("the commit to table `{}` may or may not have landed", table.ident()),
    )
    .with_source(cause)
    .with_hint(format!(
        "look before writing again: `meltwater inspect snapshots {}`; keep every file",
        table.ident()
    ))
}

/// Never before the parent, and within the minute that readers of the snapshot log allow.
fn commit_time(base: &Table, head: Option<&SnapshotRef>) -> i64 {
    let now = base.environment().clock.now_ms();
    let floor = base.metadata().last_updated_ms() - 59_000;
    now.max(head.map_or(0, |h| h.timestamp_ms())).max(floor)
}

/// Fills in what replacing partitions removes on this base: every live file of them.
async fn replace_partitions(
    base: &Table,
    manifests: &[ManifestFile],
    delta: &mut Delta,
) -> Result<()> {
    let spec = base.metadata().default_partition_spec_id();
    if let Some(file) = delta.added_data.iter().find(|f| f.spec_id != spec) {
        return Err(Error::invalid(
            "partitions are replaced under the current partition spec only",
        )
        .with_context("file", &file.file_path)
        .with_context("spec", file.spec_id)
        .with_hint("write the rows again with a writer on the refreshed table"));
    }
    let partitions: HashSet<PartitionKey> =
        delta.added_data.iter().map(|f| f.partition_key()).collect();
    let mut removed: HashMap<ManifestContentType, Vec<RemovedFile>> = HashMap::new();
    for manifest in manifests.iter().filter(|m| m.partition_spec_id == spec) {
        for entry in base.entries(manifest).await?.iter().filter(|e| e.is_live()) {
            // A global equality delete belongs to no single partition of a partitioned spec; in
            // an unpartitioned one the whole table is the partition that goes.
            if partitions.contains(&entry.file.partition_key()) {
                let file = RemovedFile::new(&entry.file, Some(entry.sequence_number));
                removed.entry(manifest.content).or_default().push(file);
            }
        }
    }
    delta.removed_data = removed.remove(&ManifestContentType::Data).unwrap_or_default();
    let deletes = removed.remove(&ManifestContentType::Deletes).unwrap_or_default();
    // Deletes of an unpartitioned spec may still reach rows of other specs.
    let global = base.spec(spec)?.is_unpartitioned();
    let droppable = |f: &RemovedFile| f.content != DataContentType::EqualityDeletes || !global;
    delta.removed_deletes = deletes.into_iter().filter(droppable).collect();
    Ok(())
}
