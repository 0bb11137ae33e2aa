//! Streams over tables in memory, against plain lists of what was committed.

mod assign;
mod breaks;
mod changes;
mod faults;
mod full;
mod history;
mod lanes;
mod measured;
mod names;
mod order;
mod schemas;
mod there_and_back;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;

use super::*;
use crate::clock::{Environment, ManualClock, SeededIds};
use crate::error::{Error, ErrorKind, Result};
use crate::kit;
use crate::spec::*;
use crate::storage::Storage;
use crate::table::{Place, Table, Token};

/// `part` and `id` of rows, in the order they came.
type Seen = Vec<(i64, i64)>;

fn fields() -> Vec<NestedFieldRef> {
    vec![kit::optional(1, "id", PrimitiveType::Long), kit::optional(2, "part", PrimitiveType::Long)]
}

fn longs(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// A table `id long, part long`, partitioned by `part`, and what was appended to it.
struct Feed {
    table: Table,
    clock: Arc<ManualClock>,
    rows: Seen,
    commits: i64,
}

impl Feed {
    fn new() -> Self {
        Self::on(Storage::default())
    }

    fn on(storage: Storage) -> Self {
        let spec = UnboundPartitionSpec::builder()
            .add_partition_field(2, "part", Transform::Identity)
            .unwrap()
            .build();
        let clock = Arc::new(ManualClock::new(NOW));
        let environment = Environment { clock: clock.clone(), ids: Arc::new(SeededIds::new(3)) };
        let table = kit::table_in(storage, fields(), spec, &[]);
        let table = kit::made_at(&table, NOW as i64).with_environment(environment);
        Self { table, clock, rows: Vec::new(), commits: 0 }
    }

    /// One commit: a file a partition named, `rows` rows each, ids ascending over all commits.
    async fn append(&mut self, parts: &[i64], rows: i64) -> SnapshotId {
        self.commits += 1;
        self.clock.advance_ms(1_000);
        let mut files = Vec::new();
        for (n, part) in parts.iter().enumerate() {
            let first = self.commits * 1_000_000 + n as i64 * 10_000;
            let ids: Vec<i64> = (first..first + rows).collect();
            self.rows.extend(ids.iter().map(|id| (*part, *id)));
            files.push(self.file(&format!("c{}-{n}", self.commits), *part, &ids).await);
        }
        self.table = kit::append(&self.table, files).await;
        self.head()
    }

    async fn file(&self, name: &str, part: i64, ids: &[i64]) -> DataFile {
        let batch = kit::batch(vec![
            ("id", 1, longs(ids.iter().copied())),
            ("part", 2, longs(vec![part; ids.len()])),
        ]);
        let mut file = kit::file(&self.table, name, &batch).await;
        if !self.table.metadata().default_partition_spec().is_unpartitioned() {
            file.partition = Struct::from_iter([Some(Literal::long(part))]);
        }
        file
    }

    fn head(&self) -> SnapshotId {
        SnapshotId(self.table.current_snapshot().unwrap().snapshot_id())
    }

    fn appends(&self) -> StreamBuilder {
        self.table.stream().emit(Emit::Appends).until(Until::CaughtUp)
    }
}

/// Long before the wall clock, which the metadata builder takes for changes without a snapshot.
const NOW: u64 = 1_700_000_000_000;

/// For rows of a whole snapshot, which come in the order of its manifests, newest first.
fn sorted_by_part(rows: &Seen) -> BTreeMap<i64, Vec<i64>> {
    let mut parts = by_part(rows);
    parts.values_mut().for_each(|ids| ids.sort_unstable());
    parts
}

fn by_part(rows: &Seen) -> BTreeMap<i64, Vec<i64>> {
    let mut parts: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (part, id) in rows {
        parts.entry(*part).or_default().push(*id);
    }
    parts
}

fn rows_of(batch: &ChangeBatch) -> Seen {
    let column =
        |name: &str| batch.records.column_by_name(name).unwrap().as_primitive::<Int64Type>();
    let (ids, parts) = (column("id"), column("part"));
    parts.values().iter().copied().zip(ids.values().iter().copied()).collect()
}

/// Everything that a stream gives until it ends or fails.
async fn drain(stream: &mut ChangeStream) -> Result<Seen> {
    let mut seen = Vec::new();
    while let Some(event) = stream.try_next().await? {
        if let StreamEvent::Batch(batch) = event {
            seen.extend(rows_of(&batch));
        }
    }
    Ok(seen)
}

/// As [`drain`], by polling on whenever the store gives no answer; says how often that was.
async fn drain_through_failures(stream: &mut ChangeStream) -> (Seen, usize) {
    let (mut seen, mut failures) = (Vec::new(), 0);
    loop {
        match stream.try_next().await {
            Ok(None) => return (seen, failures),
            Ok(Some(StreamEvent::Batch(batch))) => seen.extend(rows_of(&batch)),
            Ok(Some(StreamEvent::Watermark(_) | StreamEvent::Schema(_))) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                failures += 1;
                assert!(failures < 1_000);
            }
        }
    }
}

/// An error is of a kind, names the thing, and its hint says what to do.
#[track_caller]
fn assert_advises(error: &Error, kind: ErrorKind, names: &[&str], advice: &[&str]) {
    assert_eq!(error.kind(), kind, "{error:?}");
    let (text, hint) = (error.to_string(), error.hint().unwrap_or_default());
    assert!(names.iter().all(|name| text.contains(name)), "{names:?} in {error:?}");
    assert!(advice.iter().all(|words| hint.contains(words)), "{advice:?} in {error:?}");
}

async fn all(builder: StreamBuilder) -> Result<Seen> {
    drain(&mut builder.open().await?).await
}

/// The next event, or `None` if nothing comes for a while.
async fn soon(stream: &mut ChangeStream) -> Option<Result<StreamEvent>> {
    let next = tokio::time::timeout(Duration::from_secs(2), stream.try_next());
    next.await.ok().and_then(Result::transpose)
}

/// Some commits over seven partitions.
async fn busy_feed() -> Feed {
    let mut feed = Feed::new();
    for n in 0..12 {
        let parts: Vec<i64> = (0..7).filter(|part| (part * 5 + n) % 3 != 0).collect();
        feed.append(&parts, 3 + n % 4).await;
    }
    feed
}

#[test]
fn streams_can_be_sent_and_polled_anywhere() {
    fn goes_anywhere<T: futures::Stream + Send + Unpin + 'static>() {}
    goes_anywhere::<ChangeStream>();
    goes_anywhere::<Lane>();
}
