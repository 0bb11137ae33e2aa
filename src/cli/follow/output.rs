//! Where followed changes go: stdout or a file, written by a thread of their own, so that a reader
//! who is slow to take them never keeps the follower from stopping.
//!
//! In: batches of changes. Out: their rows, and the token of the last row that was written and
//! flushed. Rows are flushed when nothing more is waiting, and at least every quarter of a second.

use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::rows::{Announced, Changes, Item, TOKEN_COLUMN};
use crate::cli::failure::Outcome;
use crate::cli::output::{JsonSink, RowSink};
use crate::cli::time::show_ms;
use crate::error::Error;

/// Batches that wait for the writing thread.
const WAITING: usize = 2;
/// The longest that written rows stay in a buffer.
const FLUSH_EVERY: Duration = Duration::from_millis(250);

/// Takes changes and prints them; what was not flushed may be lost.
pub(in crate::cli) trait ChangeSink: Send {
    /// Prints a batch, or keeps it.
    fn write(&mut self, changes: &Changes) -> Outcome;
    /// Prints that the columns change.
    fn announce(&mut self, announced: &Announced) -> Outcome;
    /// Hands over what was kept.
    fn flush(&mut self) -> Outcome;
    /// Prints what is left and what ends the format.
    fn finish(self: Box<Self>) -> Outcome;
}

/// Rows as JSON lines, and schema changes as lines among them.
pub(super) struct JsonChanges<W: Write>(pub(super) JsonSink<W>);

impl<W: Write + Send> ChangeSink for JsonChanges<W> {
    fn write(&mut self, changes: &Changes) -> Outcome {
        self.0.write(&changes.records)
    }

    fn announce(&mut self, announced: &Announced) -> Outcome {
        let Announced { change, columns, .. } = announced;
        self.0.turn(&schema_line(announced)?, &change.schema, columns)
    }

    fn flush(&mut self) -> Outcome {
        self.0.flush()
    }

    fn finish(self: Box<Self>) -> Outcome {
        Box::new(self.0).finish()
    }
}

/// A schema change as an object among rows: `_change_type` is `schema`, `_schema` is the table's
/// schema as Iceberg's JSON has it, `_columns` are the columns of the rows from here on.
fn schema_line(announced: &Announced) -> Outcome<Value> {
    let Announced { change, has_token, .. } = announced;
    let schema = serde_json::to_value(change.schema.as_ref())
        .map_err(|e| Error::internal("a schema cannot be printed").with_source(e))?;
    let columns: Vec<&String> = change.arrow_schema.fields().iter().map(|f| f.name()).collect();
    let mut line = json!({
        "_change_type": "schema",
        "_change_ordinal": change.commit.sequence_number,
        "_commit_snapshot_id": change.commit.snapshot_id.0,
        "_commit_timestamp": show_ms(change.commit.committed_at_ms),
        "_schema": schema,
        "_columns": columns,
    });
    if let (true, Some(object)) = (has_token, line.as_object_mut()) {
        object.insert(TOKEN_COLUMN.to_string(), Value::Null);
    }
    Ok(line)
}

/// Rows in a format of one schema.
pub(super) struct FlatSink(pub(super) Box<dyn RowSink>);

impl ChangeSink for FlatSink {
    fn write(&mut self, changes: &Changes) -> Outcome {
        self.0.write(&changes.records)
    }

    fn announce(&mut self, _: &Announced) -> Outcome {
        Err(Error::unsupported("the format has one schema from beginning to end").into())
    }

    fn flush(&mut self) -> Outcome {
        self.0.flush()
    }

    fn finish(self: Box<Self>) -> Outcome {
        self.0.finish()
    }
}

/// Stdout, buffered, from any thread.
pub(super) fn stdout() -> impl Write + Send {
    BufWriter::with_capacity(64 * 1024, std::io::stdout())
}

/// What was written and flushed so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    /// Where to go on after the last flushed row; none before the first.
    pub(super) token: Option<String>,
    /// Rows flushed.
    pub(super) rows: u64,
    /// Batches and announcements flushed.
    pub(super) items: u64,
}

/// The writing thread.
pub(super) struct Output {
    items: mpsc::Sender<Item>,
    written: watch::Receiver<Written>,
    thread: JoinHandle<Outcome>,
}

impl Output {
    /// Starts the thread; call it inside the runtime.
    pub(super) fn start(sink: Box<dyn ChangeSink>) -> Self {
        let (items, waiting) = mpsc::channel(WAITING);
        let (tell, written) = watch::channel(Written::default());
        let thread = tokio::task::spawn_blocking(move || write_all(sink, waiting, &tell));
        Self { items, written, thread }
    }

    /// Hands something over, waiting while the thread has enough; false when it has ended.
    /// Cancelled, it was not taken.
    pub(super) async fn write(&self, item: Item) -> bool {
        self.items.send(item).await.is_ok()
    }

    /// What was written and flushed so far.
    pub(super) fn written(&self) -> Written {
        self.written.borrow().clone()
    }

    /// Returns when the thread has ended, which before `finish` only a failure explains.
    pub(super) async fn ended(&self) {
        self.items.closed().await;
    }

    /// Waits for what was handed over, at most for `patience`; gives what was written and how the
    /// thread ended. A reader that takes nothing leaves rows unwritten, and that is no failure.
    pub(super) async fn finish(self, patience: Duration) -> (Written, Outcome) {
        drop(self.items);
        let outcome = match tokio::time::timeout(patience, self.thread).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(died)) => {
                Err(Error::internal("the writing thread died").with_source(died).into())
            }
            Err(_late) => Ok(()),
        };
        (self.written.borrow().clone(), outcome)
    }
}

fn write_all(
    mut sink: Box<dyn ChangeSink>,
    mut waiting: mpsc::Receiver<Item>,
    tell: &watch::Sender<Written>,
) -> Outcome {
    let mut written = Written::default();
    let mut flushed = Instant::now();
    loop {
        let next = match waiting.try_recv() {
            Ok(next) if flushed.elapsed() < FLUSH_EVERY => Some(next),
            other => {
                sink.flush()?;
                tell.send_replace(written.clone());
                flushed = Instant::now();
                other.ok().or_else(|| waiting.blocking_recv())
            }
        };
        let Some(item) = next else { break };
        match item {
            Item::Schema(announced) => sink.announce(&announced)?,
            Item::Changes(changes) => {
                sink.write(&changes)?;
                written.rows += changes.kinds.len() as u64;
                written.token = Some(changes.token);
            }
        }
        written.items += 1;
    }
    sink.finish()?;
    tell.send_replace(written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::rows::tests::changes;
    use super::*;
    use crate::cli::failure::Failure;
    use crate::stream::ChangeKind;

    #[derive(Default)]
    struct Seen {
        written: u64,
        flushed: u64,
        finished: bool,
        /// A pipe that nobody reads: the thread waits for this lock.
        stuck: Arc<Mutex<()>>,
        gone: bool,
    }

    struct Probe(Arc<Mutex<Seen>>);

    impl ChangeSink for Probe {
        fn write(&mut self, changes: &Changes) -> Outcome {
            let (stuck, gone) = {
                let seen = self.0.lock().unwrap();
                (seen.stuck.clone(), seen.gone)
            };
            let _waits = stuck.lock().unwrap();
            if gone {
                return Err(Failure::ReaderGone);
            }
            self.0.lock().unwrap().written += changes.kinds.len() as u64;
            Ok(())
        }
        fn announce(&mut self, _: &Announced) -> Outcome {
            Ok(())
        }
        fn flush(&mut self) -> Outcome {
            let mut seen = self.0.lock().unwrap();
            seen.flushed = seen.written;
            Ok(())
        }
        fn finish(mut self: Box<Self>) -> Outcome {
            self.flush()?;
            self.0.lock().unwrap().finished = true;
            Ok(())
        }
    }

    fn one(token: &str) -> Item {
        let changes = changes(&[(ChangeKind::Insert, 1, None)]);
        Item::Changes(Changes { token: token.into(), ..changes })
    }

    async fn until(output: &Output, rows: u64) -> Written {
        let mut written = output.written.clone();
        written.wait_for(|w| w.rows >= rows).await.unwrap().clone()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn idle_output_is_flushed_and_only_then_told() {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let output = Output::start(Box::new(Probe(seen.clone())));
        assert_eq!(output.written().token, None);
        assert!(output.write(one("t1")).await);
        assert_eq!(until(&output, 1).await.token.as_deref(), Some("t1"));
        assert_eq!(seen.lock().unwrap().flushed, 1);
        assert!(output.write(one("t2")).await);
        let (written, outcome) = output.finish(Duration::from_secs(9)).await;
        assert!(outcome.is_ok() && seen.lock().unwrap().finished);
        assert_eq!((written.rows, written.token.as_deref()), (2, Some("t2")));
    }

    // The lock stands for a full pipe: it must be held while the output waits for it.
    #[allow(clippy::await_holding_lock)]
    #[tokio::test(flavor = "multi_thread")]
    async fn a_reader_who_takes_nothing_does_not_keep_the_follower() {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stuck = seen.lock().unwrap().stuck.clone();
        let output = Output::start(Box::new(Probe(seen)));
        let held = stuck.lock().unwrap();
        assert!(output.write(one("never written")).await);
        let (written, outcome) = output.finish(Duration::from_millis(50)).await;
        assert!(outcome.is_ok());
        assert_eq!(written.token, None);
        drop(held);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_reader_that_left_ends_the_output_quietly() {
        let seen = Arc::new(Mutex::new(Seen { gone: true, ..Seen::default() }));
        let output = Output::start(Box::new(Probe(seen)));
        assert!(output.write(one("t")).await);
        output.ended().await;
        assert!(!output.write(one("u")).await);
        let (written, outcome) = output.finish(Duration::from_secs(9)).await;
        assert!(matches!(outcome, Err(Failure::ReaderGone)));
        assert_eq!(written.token, None);
    }
}
