//! Runs the tasks of a scan on all cores, within its budgets.
//!
//! One driver task takes tasks from the planner, loads their deletes, cuts large files into
//! [pieces](super::pieces) and starts a tokio task a piece. Pieces wait for a place
//! (parallelism) and for memory (their row groups); batches wait for memory until the consumer
//! takes them. Nothing here waits for something started later, so nothing can lock up.
//!
//! Batches are handed over a few at a time: waking the consumer for each would take more time from
//! the decoders than the batches are worth.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::oversized;
use super::pieces::{self, Part};
use super::task::{Prepared, TaskReader, in_task};
use crate::error::{Error, Result};
use crate::file::footer;
use crate::measure;
use crate::scan::FileScanTask;

/// What one piece may have waiting when the scan is ordered, in hand-overs.
const ORDERED_AHEAD: usize = 1;
/// Hand-overs of one piece that have left the decoder or are about to, when the scan is ordered:
/// one that is made up, those that wait, one that the caller takes apart.
const ON_THE_WAY: u64 = ORDERED_AHEAD as u64 + 2;
/// Tasks whose oversized deletes are applied in one go.
const OVERSIZED_TASKS: usize = 256;

/// Some batches, and the memory that they hold until they are taken.
type Item = Result<(Vec<RecordBatch>, Option<OwnedSemaphorePermit>)>;

/// Where pieces put their batches.
enum Output {
    AsReady(mpsc::Sender<Item>),
    /// A channel a piece, in order, with the number of its task.
    Ordered(mpsc::Sender<(usize, mpsc::Receiver<Item>)>),
}

/// Bytes of rows that one piece of an ordered scan has on their way at the most, with batches of so
/// many bytes.
pub(super) fn on_the_way(reader: &TaskReader, batch_bytes: u64) -> u64 {
    reader.together.saturating_add(batch_bytes).saturating_mul(ON_THE_WAY)
}

/// Runs all tasks; batches in the order that the reader asks for.
pub(super) fn run(
    reader: Arc<TaskReader>,
    tasks: BoxStream<'static, Result<FileScanTask>>,
) -> BoxStream<'static, Result<RecordBatch>> {
    if reader.ordered {
        return run_ordered(reader, tasks);
    }
    let (sender, receiver) = mpsc::channel(4 * reader.parallelism);
    let mut driver = JoinSet::new();
    driver.spawn(drive(reader, tasks, None, Output::AsReady(sender)));
    let items = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|item| (item, receiver))
    });
    one_by_one(until_error(items.boxed(), driver))
}

/// Runs all tasks; batches in the order of tasks and rows.
pub(super) fn run_ordered(
    reader: Arc<TaskReader>,
    tasks: BoxStream<'static, Result<FileScanTask>>,
) -> BoxStream<'static, Result<RecordBatch>> {
    run_numbered(reader, tasks).map_ok(|(_, batch)| batch).boxed()
}

/// Reads a part of one task with one decoder; batches in the order of rows.
pub(super) fn run_part(
    reader: Arc<TaskReader>,
    task: FileScanTask,
    part: Part,
) -> BoxStream<'static, Result<RecordBatch>> {
    let tasks = stream::iter([Ok(task)]).boxed();
    run_cut(reader, tasks, Some(part)).map_ok(|(_, batch)| batch).boxed()
}

/// Runs all tasks; batches in the order of tasks and rows, each with the number of its task.
pub(super) fn run_numbered(
    reader: Arc<TaskReader>,
    tasks: BoxStream<'static, Result<FileScanTask>>,
) -> BoxStream<'static, Result<(usize, RecordBatch)>> {
    run_cut(reader, tasks, None)
}

fn run_cut(
    reader: Arc<TaskReader>,
    tasks: BoxStream<'static, Result<FileScanTask>>,
    part: Option<Part>,
) -> BoxStream<'static, Result<(usize, RecordBatch)>> {
    let (sender, receiver) = mpsc::channel(reader.parallelism);
    let mut driver = JoinSet::new();
    driver.spawn(drive(reader, tasks, part, Output::Ordered(sender)));
    let pieces = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let items = pieces.flat_map(|(task, piece)| {
        stream::unfold(piece, move |mut piece| async move {
            let numbered = |batches: Vec<_>| batches.into_iter().map(|b| (task, b)).collect();
            let item = piece.recv().await?;
            Some((item.map(|(batches, memory)| (numbered(batches), memory)), piece))
        })
    });
    one_by_one(until_error(items.boxed(), driver))
}

fn one_by_one<T: Send + 'static>(
    items: BoxStream<'static, Result<Vec<T>>>,
) -> BoxStream<'static, Result<T>> {
    items.map_ok(|batches| stream::iter(batches.into_iter().map(Ok))).try_flatten().boxed()
}

/// Takes items until the first error. The driver, and with it every piece, stops when the
/// stream is dropped or has ended.
fn until_error<T: Send + 'static>(
    items: BoxStream<'static, Result<(T, Option<OwnedSemaphorePermit>)>>,
    driver: JoinSet<()>,
) -> BoxStream<'static, Result<T>> {
    let state = (items, driver);
    stream::try_unfold(state, |(mut items, mut driver)| async move {
        match items.try_next().await? {
            Some((batch, memory)) => {
                drop(memory);
                Ok(Some((batch, (items, driver))))
            }
            None => match driver.join_next().await {
                Some(Err(e)) if e.is_panic() => {
                    Err(Error::internal("the scan's driver panicked").with_source(e))
                }
                _ => Ok(None),
            },
        }
    })
    .boxed()
}

async fn drive(
    reader: Arc<TaskReader>,
    tasks: BoxStream<'static, Result<FileScanTask>>,
    part: Option<Part>,
    output: Output,
) {
    if let Err(error) = try_drive(&reader, tasks, part, &output).await {
        output.fail(error).await;
    }
}

async fn try_drive(
    reader: &Arc<TaskReader>,
    tasks: BoxStream<'static, Result<FileScanTask>>,
    part: Option<Part>,
    output: &Output,
) -> Result<()> {
    let preparing = reader.clone();
    let mut prepared = tasks
        .map_ok(move |task| {
            let reader = preparing.clone();
            async move { reader.prepare(task).await }
        })
        .try_buffered(reader.parallelism);
    let mut pieces = Pieces {
        reader: reader.clone(),
        places: Arc::new(Semaphore::new(reader.parallelism)),
        running: JoinSet::new(),
        tasks: 0,
        part,
    };
    let mut oversized: Vec<Prepared> = Vec::new();
    while let Some(task) = prepared.try_next().await? {
        let is_oversized = !task.equality.oversized.is_empty();
        if oversized.len() >= OVERSIZED_TASKS || (reader.ordered && !is_oversized) {
            pieces.start_oversized(&mut oversized, output).await?;
        }
        if is_oversized {
            oversized.push(task);
        } else {
            pieces.start(task, output).await?;
        }
        pieces.reap()?;
    }
    pieces.start_oversized(&mut oversized, output).await?;
    pieces.finish().await
}

/// The pieces that run now.
struct Pieces {
    reader: Arc<TaskReader>,
    places: Arc<Semaphore>,
    running: JoinSet<()>,
    /// Tasks started so far.
    tasks: usize,
    /// The part to read of each; `None` for the whole, in as many pieces as it is worth.
    part: Option<Part>,
}

/// A part of a task.
struct Piece {
    task: Arc<Prepared>,
    part: Part,
}

impl Pieces {
    async fn start_oversized(&mut self, tasks: &mut Vec<Prepared>, output: &Output) -> Result<()> {
        oversized::resolve(&self.reader, tasks).await?;
        for task in tasks.drain(..) {
            self.start(task, output).await?;
        }
        Ok(())
    }

    async fn start(&mut self, task: Prepared, output: &Output) -> Result<()> {
        let number = self.tasks;
        self.tasks += 1;
        for piece in self.pieces_of(task).await? {
            let Some(sender) = output.sender(number).await else { return Ok(()) };
            let broken = |e| Error::internal("a semaphore was closed").with_source(e);
            let place = self.places.clone().acquire_owned().await.map_err(broken)?;
            let kib = piece.part.kib.clamp(1, self.reader.decoding_kib);
            let memory =
                self.reader.decoding.clone().acquire_many_owned(kib).await.map_err(broken)?;
            let waiting = match output {
                Output::AsReady(_) => Some(self.reader.clone()),
                Output::Ordered(_) => None,
            };
            let reader = self.reader.clone();
            self.running.spawn(async move {
                if let Err(error) = decode(&reader, &piece, &sender, waiting).await {
                    let _ = sender.send(Err(in_task(error, &piece.task.task))).await;
                }
                drop((place, memory));
            });
        }
        Ok(())
    }

    async fn pieces_of(&self, task: Prepared) -> Result<Vec<Piece>> {
        if let Some(part) = &self.part {
            return Ok(vec![Piece { task: Arc::new(task), part: part.clone() }]);
        }
        let file = task.task.file.clone();
        if file.file_size_in_bytes <= pieces::SPLIT_FILES_OVER {
            let part = Part::whole(file.file_size_in_bytes);
            return Ok(vec![Piece { task: Arc::new(task), part }]);
        }
        let storage = self.reader.context.table.storage();
        let size = Some(file.file_size_in_bytes);
        let footer = footer(storage, &file.file_path, size).await;
        let footer = footer.map_err(|e| in_task(e, &task.task))?;
        let task = Arc::new(task);
        let parts = pieces::cut(&footer, self.reader.parallelism).into_iter();
        Ok(parts.map(|part| Piece { task: task.clone(), part }).collect())
    }

    /// Notices pieces that panicked while others run.
    fn reap(&mut self) -> Result<()> {
        while let Some(done) = self.running.try_join_next() {
            done.map_err(broke_off)?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        while let Some(done) = self.running.join_next().await {
            done.map_err(broke_off)?;
        }
        Ok(())
    }
}

fn broke_off(error: tokio::task::JoinError) -> Error {
    Error::internal("a piece of the scan broke off").with_source(error)
}

impl Output {
    /// Where the next piece puts its batches; `None` when nobody wants them any more.
    async fn sender(&self, task: usize) -> Option<mpsc::Sender<Item>> {
        match self {
            Self::AsReady(sender) => Some(sender.clone()),
            Self::Ordered(pieces) => {
                let (sender, receiver) = mpsc::channel(ORDERED_AHEAD);
                pieces.send((task, receiver)).await.ok().map(|()| sender)
            }
        }
    }

    async fn fail(&self, error: Error) {
        if let Some(sender) = self.sender(0).await {
            let _ = sender.send(Err(error)).await;
        }
    }
}

/// Decodes a piece and sends its rows. With `waiting`, batches are charged to the memory of
/// that reader until the consumer takes them.
async fn decode(
    reader: &TaskReader,
    piece: &Piece,
    sender: &mpsc::Sender<Item>,
    waiting: Option<Arc<TaskReader>>,
) -> Result<()> {
    let task = &piece.task;
    let mut open = reader.open(task, &piece.part).await?;
    let positions = open.positions.as_deref();
    while let Some(batch) = open.batches.try_next().await? {
        let (mut ready, mut bytes) = (Vec::new(), 0);
        let mut next = Some(batch);
        while let Some(batch) = next.take() {
            if let Some(rows) = task.merge(batch, positions)? {
                measure::SCAN_ROWS.add(&[], rows.num_rows() as u64);
                bytes += rows.get_array_memory_size() as u64;
                ready.push(rows);
            }
            if bytes < reader.together {
                // Whatever has to wait for storage is asked again above.
                next = open.batches.try_next().now_or_never().transpose()?.flatten();
            }
        }
        if ready.is_empty() {
            continue;
        }
        let memory = match &waiting {
            None => None,
            Some(reader) => {
                let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
                let kib = kib.clamp(1, reader.waiting_kib);
                reader.waiting.clone().acquire_many_owned(kib).await.ok()
            }
        };
        if sender.send(Ok((ready, memory))).await.is_err() {
            return Ok(()); // nobody reads on
        }
    }
    Ok(())
}
