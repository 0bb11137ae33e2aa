//! A follower beside the writer: a replica of the table that followed changes alone keep up to
//! date.
//!
//! It applies a batch and takes its token in one step, so it may be killed at any moment: another
//! follower goes on from the token, and nothing is lost or comes twice. The replica is strict: a
//! row that comes must be new, a row that goes must be there as it was.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use arrow::array::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use futures::TryStreamExt;
use tokio::task::JoinHandle;

use super::airline::KEY;
use super::board::Latencies;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::read::ChangeKind;
use crate::spec::SnapshotId;
use crate::stream::{ChangeBatch, Start, StreamEvent, Until};
use crate::table::{Table, Token};

/// What was followed so far.
#[derive(Debug, Default)]
pub(super) struct Replica {
    /// Rows by key, both as arrow-row encodes them.
    rows: HashMap<Box<[u8]>, Box<[u8]>>,
    token: Option<Token>,
    last: Option<SnapshotId>,
    /// Rows that came, changed and went.
    pub(super) inserted: u64,
    /// Rows that changed.
    pub(super) updated: u64,
    /// Rows that went.
    pub(super) deleted: u64,
    /// From each commit to its first change.
    pub(super) seen: Latencies,
}

/// A task that follows, and the replica it keeps.
pub(super) struct Follower {
    table: Table,
    replica: Arc<Mutex<Replica>>,
    task: Option<JoinHandle<Result<()>>>,
}

impl Follower {
    /// Follows the table from its beginning.
    pub(super) fn start(table: &Table) -> Self {
        let mut follower = Self { table: table.clone(), replica: Arc::default(), task: None };
        follower.resume(1);
        follower
    }

    /// Goes on from the replica's token.
    pub(super) fn resume(&mut self, lanes: usize) {
        let work = follow(self.table.clone(), self.replica.clone(), lanes, Until::Forever);
        self.task = Some(tokio::spawn(work));
    }

    /// Ends the task where it stands, without asking it. Gives the changes followed so far.
    ///
    /// # Errors
    /// As following failed, if it had.
    pub(super) async fn kill(&mut self) -> Result<u64> {
        if let Some(task) = self.task.take() {
            task.abort();
            match task.await {
                Ok(outcome) => outcome?,
                Err(died) if died.is_cancelled() => {}
                Err(died) => return Err(Error::internal("the follower died").with_source(died)),
            }
        }
        let replica = lock(&self.replica)?;
        Ok(replica.inserted + replica.updated + replica.deleted)
    }

    /// Follows what is left and compares the replica with a scan.
    ///
    /// # Errors
    /// `Internal` if they differ; what following and scanning give.
    pub(super) async fn prove(mut self, table: &Table) -> Result<Replica> {
        self.kill().await?;
        follow(table.clone(), self.replica.clone(), 1, Until::CaughtUp).await?;
        let replica = std::mem::take(&mut *lock(&self.replica)?);
        let mut batches = table.scan().to_batches().await?;
        let mut encoder = None;
        let mut alive = 0;
        while let Some(batch) = batches.try_next().await? {
            let (keys, rows) = Encoder::get(&mut encoder, &batch)?.encode(&batch)?;
            alive += batch.num_rows();
            let same = |(key, row): (&[u8], &[u8])| {
                replica.rows.get(key).is_some_and(|known| known.as_ref() == row)
            };
            if !bytes(&keys).zip(bytes(&rows)).all(same) {
                return Err(Error::internal("the table has a row that the replica does not have"));
            }
        }
        if alive != replica.len() {
            return Err(Error::internal("the replica has rows that the table does not have")
                .with_context("replica", replica.len())
                .with_context("table", alive));
        }
        Ok(replica)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn lock(replica: &Mutex<Replica>) -> Result<MutexGuard<'_, Replica>> {
    replica.lock().map_err(|_| Error::internal("a follower died while it held the replica"))
}

async fn follow(
    table: Table,
    replica: Arc<Mutex<Replica>>,
    lanes: usize,
    until: Until,
) -> Result<()> {
    let start = match lock(&replica)?.token.clone() {
        Some(token) => Start::At(token),
        None => Start::Earliest,
    };
    let mut changes = table.stream().start(start).lanes(lanes).until(until).open().await?;
    let mut encoder = None;
    while let Some(event) = changes.try_next().await? {
        if let StreamEvent::Batch(batch) = event {
            let encoder = Encoder::get(&mut encoder, &batch.records)?;
            lock(&replica)?.apply(&batch, encoder)?;
        }
    }
    Ok(())
}

impl Replica {
    /// How many rows it holds.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    fn apply(&mut self, batch: &ChangeBatch, encoder: &Encoder) -> Result<()> {
        let (keys, rows) = encoder.encode(&batch.records)?;
        for ((key, row), kind) in bytes(&keys).zip(bytes(&rows)).zip(&batch.kinds) {
            let was = match kind {
                ChangeKind::Insert | ChangeKind::UpdateAfter => {
                    self.rows.insert(key.into(), row.into()).is_none()
                }
                ChangeKind::Delete | ChangeKind::UpdateBefore => {
                    self.rows.remove(key).is_some_and(|known| known.as_ref() == row)
                }
            };
            if !was {
                return Err(Error::internal(format!("a followed {kind} does not fit the replica"))
                    .with_context("snapshot", batch.commit.snapshot_id));
            }
            match kind {
                ChangeKind::Insert => self.inserted += 1,
                ChangeKind::UpdateAfter => self.updated += 1,
                ChangeKind::Delete => self.deleted += 1,
                ChangeKind::UpdateBefore => {}
            }
        }
        self.token = Some(batch.end());
        let id = batch.commit.snapshot_id;
        if self.last.replace(id) != Some(id) {
            let after = SystemClock.now_ms().saturating_sub(batch.commit.committed_at_ms);
            let after = u64::try_from(after).unwrap_or_default();
            self.seen.add(std::time::Duration::from_millis(after));
        }
        Ok(())
    }
}

/// Rows and keys as comparable bytes.
struct Encoder {
    keys: RowConverter,
    rows: RowConverter,
    key_columns: Vec<usize>,
}

impl Encoder {
    /// The encoder for batches like this one, made once.
    fn get<'a>(made: &'a mut Option<Self>, like: &RecordBatch) -> Result<&'a Self> {
        if made.is_none() {
            *made = Some(Self::new(like)?);
        }
        made.as_ref().ok_or_else(|| Error::internal("no encoder"))
    }

    fn new(like: &RecordBatch) -> Result<Self> {
        let schema = like.schema();
        let field = |at: usize| SortField::new(schema.field(at).data_type().clone());
        let key_columns = KEY
            .iter()
            .map(|name| schema.index_of(name))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(Self {
            keys: RowConverter::new(key_columns.iter().map(|at| field(*at)).collect())?,
            rows: RowConverter::new((0..schema.fields().len()).map(field).collect())?,
            key_columns,
        })
    }

    fn encode(&self, batch: &RecordBatch) -> Result<(Rows, Rows)> {
        let keys = batch.project(&self.key_columns)?;
        Ok((
            self.keys.convert_columns(keys.columns())?,
            self.rows.convert_columns(batch.columns())?,
        ))
    }
}

fn bytes(rows: &Rows) -> impl Iterator<Item = &[u8]> {
    rows.iter().map(|row| row.data())
}
