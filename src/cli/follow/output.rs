//! Where followed changes go: stdout or a file, written by a thread of their own, so that a reader
//! who is slow to take them never keeps the follower from stopping.
//!
//! In: batches of changes. Out: their rows, and the token of the last row that was written and
//! flushed. Rows are flushed when nothing more is waiting, and at least every quarter of a second.

use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::rows::Changes;
use crate::cli::failure::Outcome;
use crate::cli::output::RowSink;
use crate::error::Error;

/// Batches that wait for the writing thread.
const WAITING: usize = 2;
/// The longest that written rows stay in a buffer.
const FLUSH_EVERY: Duration = Duration::from_millis(250);

/// Takes changes and prints them; what was not flushed may be lost.
pub(in crate::cli) trait ChangeSink: Send {
    /// Prints a batch, or keeps it.
    fn write(&mut self, changes: &Changes) -> Outcome;
    /// Hands over what was kept.
    fn flush(&mut self) -> Outcome;
    /// Prints what is left and what ends the format.
    fn finish(self: Box<Self>) -> Outcome;
}

/// Rows in a format for programs.
pub(super) struct FlatSink(pub(super) Box<dyn RowSink>);

impl ChangeSink for FlatSink {
    fn write(&mut self, changes: &Changes) -> Outcome {
        self.0.write(&changes.records)
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
}

/// The writing thread.
pub(super) struct Output {
    batches: mpsc::Sender<Changes>,
    written: watch::Receiver<Written>,
    thread: JoinHandle<Outcome>,
}

impl Output {
    /// Starts the thread; call it inside the runtime.
    pub(super) fn start(sink: Box<dyn ChangeSink>) -> Self {
        let (batches, waiting) = mpsc::channel(WAITING);
        let (tell, written) = watch::channel(Written::default());
        let thread = tokio::task::spawn_blocking(move || write_all(sink, waiting, &tell));
        Self { batches, written, thread }
    }

    /// Hands a batch over, waiting while the thread has enough; false when it has ended.
    /// Cancelled, the batch was not taken.
    pub(super) async fn write(&self, changes: Changes) -> bool {
        self.batches.send(changes).await.is_ok()
    }

    /// What was written and flushed so far.
    pub(super) fn written(&self) -> Written {
        self.written.borrow().clone()
    }

    /// Returns when the thread has ended, which before `finish` only a failure explains.
    pub(super) async fn ended(&self) {
        self.batches.closed().await;
    }

    /// Waits for what was handed over, at most for `patience`; gives what was written and how the
    /// thread ended. A reader that takes nothing leaves rows unwritten, and that is no failure.
    pub(super) async fn finish(self, patience: Duration) -> (Written, Outcome) {
        drop(self.batches);
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
    mut waiting: mpsc::Receiver<Changes>,
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
        let Some(changes) = next else { break };
        sink.write(&changes)?;
        written.rows += changes.kinds.len() as u64;
        written.token = Some(changes.token);
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

    fn one(token: &str) -> Changes {
        Changes { token: token.into(), ..changes(&[(ChangeKind::Insert, 1, None)]) }
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
