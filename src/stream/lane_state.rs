//! What is known of one lane: what waits for it, what it read, what its consumer took.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::ahead::Allowance;
use super::queue::{LaneQueue, QueueMarks};
use super::split::{Out, Queued, Split, Work};
use super::timeline::Step;
use super::width::RowWidth;
use crate::error::Error;
use crate::read::ChangeReader;

/// Things of any size that may wait for a consumer.
const MOST_OUT: usize = 1024;
/// Splits, and boundaries between them, that a lane's reader holds at once.
pub(super) const MOST_TAKEN: usize = 16;

#[derive(Debug)]
pub(super) struct LaneState {
    number: usize,
    pub queue: LaneQueue,
    pub reader: Arc<ChangeReader>,
    /// What the lane's reader holds, oldest first: the split whose rows it hands on, and behind
    /// it what it reads ahead.
    taken: VecDeque<Queued>,
    /// Splits of a whole snapshot that are read side by side.
    pub beside: usize,
    /// Steps of the splits that were planned and whose end the consumer has not taken, in order.
    unfinished: VecDeque<u64>,
    out: VecDeque<Out>,
    out_bytes: u64,
    out_budget: u64,
    /// Rows that were read ahead and wait for their turn.
    pub ahead: Arc<Allowance>,
    /// How wide its rows are.
    pub width: RowWidth,
    /// A failure waits to be seen; nothing is read until then.
    halted: bool,
    /// Its owner is gone: nobody will take anything from it.
    pub is_dropped: bool,
    /// Steps before this one were delivered, as far as this lane goes.
    pub finished: u64,
    /// The time of the last of them.
    pub finished_time_ms: Option<i64>,
    waker: Option<Waker>,
}

impl LaneState {
    /// Half of the budget is for rows that wait for the consumer, half for rows read ahead.
    pub fn new(number: usize, reader: Arc<ChangeReader>, marks: QueueMarks, budget: u64) -> Self {
        Self {
            number,
            queue: LaneQueue::new(marks),
            reader,
            taken: VecDeque::new(),
            beside: 0,
            unfinished: VecDeque::new(),
            out: VecDeque::new(),
            out_bytes: 0,
            out_budget: budget / 2,
            ahead: Allowance::new(budget / 2),
            width: RowWidth::default(),
            halted: false,
            is_dropped: false,
            finished: 0,
            finished_time_ms: None,
            waker: None,
        }
    }

    pub fn plan(&mut self, split: Split) {
        self.unfinished.push_back(split.step.number);
        self.queue.push(split);
    }

    /// The step the lane stands at: that of its oldest unfinished split, else the planner's.
    pub fn standing(&self) -> u64 {
        self.unfinished.front().copied().unwrap_or(self.queue.cursor.step)
    }

    /// True while what waits for the consumer leaves room for more (STR-3). One thing always
    /// fits, so that a batch larger than the budget gets through.
    pub fn has_room(&self) -> bool {
        self.out.is_empty() || (self.out_bytes < self.out_budget && self.out.len() < MOST_OUT)
    }

    /// Delivers what was read, and learns from it; true if it is the first to learn from.
    pub fn take_in(&mut self, out: Out) -> bool {
        let is_first = match &out {
            Out::Rows(rows) => self.width.learn(rows.bytes, rows.read),
            _ => false,
        };
        self.deliver(out);
        is_first
    }

    pub fn deliver(&mut self, out: Out) {
        if self.is_dropped {
            return;
        }
        match (self.out.back_mut(), out) {
            (Some(Out::Boundary(last)), Out::Boundary(step)) => *last = step,
            (_, out) => {
                self.out_bytes += bytes_of(&out);
                self.out.push_back(out);
            }
        }
        self.wake();
    }

    /// Moves boundaries at the front of the queue on to the consumer, behind the rows.
    pub fn forward_boundaries(&mut self) {
        while let Some(Queued::Boundary(_)) = self.queue.front() {
            if let Some(Queued::Boundary(step)) = self.queue.pop() {
                self.deliver(Out::Boundary(step));
            }
        }
    }

    /// Passes a turn at the front of the queue; false if there is none.
    pub fn pass_turn(&mut self) -> bool {
        if !matches!(self.queue.front(), Some(Queued::Turn(_))) {
            return false;
        }
        let Some(Queued::Turn(turn)) = self.queue.pop() else { return false };
        if let Some(reader) = turn.readers.get(self.number) {
            self.reader = reader.clone();
        }
        if let Some(change) = &turn.announced {
            self.deliver(Out::Schema(change.clone()));
        }
        true
    }

    /// Learns that a file was read to its end, and gave no row from `next` on. Rows of a change unit
    /// may be held though they are no change.
    pub fn learn_rest(&mut self, split: &Split, next: u64) {
        if matches!(split.work, Work::File(_)) {
            self.width.learn(0, split.rows_from(next));
        }
    }

    pub fn is_reading(&self) -> bool {
        !self.taken.is_empty() || self.beside > 0
    }

    /// The step that is next, if the lane is free to go on to it: a split or a turn waits.
    pub fn next_step(&self) -> Option<&Arc<Step>> {
        match self.queue.front()? {
            _ if self.halted => None,
            Queued::Split(split) if split.is_full() => Some(&split.step),
            _ if self.is_reading() => None,
            Queued::Split(split) => Some(&split.step),
            Queued::Turn(turn) => Some(&turn.step),
            Queued::Boundary(_) => None,
        }
    }

    /// The split that is next, if it is one of a whole snapshot: these are read side by side.
    pub fn next_beside(&self) -> Option<&Arc<Split>> {
        let next = self.queue.first_split().filter(|split| split.is_full());
        next.filter(|_| !self.halted && !self.is_dropped && self.has_room())
    }

    /// The split that is next, if it may be read before its turn. Changes are resolved one
    /// snapshot after the other, for what is dead before one is what the last one left behind;
    /// and so are files whose deletes are those of another snapshot. Of a file that is too large
    /// the first rows are read ahead, if nothing else is.
    pub fn next_ahead(&self) -> Option<&Arc<Split>> {
        let Some(Queued::Split(first)) = self.taken.front() else { return None };
        let has_place = !self.halted && self.taken.len() < MOST_TAKEN;
        let bytes = |split: &Arc<Split>| split.row_bytes(&self.width);
        let begun = || self.taken.iter().skip(1).filter_map(Queued::split);
        let ahead: u64 = begun().map(bytes).sum();
        let fits_in_part = |split: &Split| {
            let bytes = split.bytes_begun(&self.width, &self.reader);
            begun().next().is_none() && self.ahead.will_fit(bytes)
        };
        let may_be = |split: &&Arc<Split>| {
            let fits = self.ahead.will_fit(ahead + bytes(split)) || fits_in_part(split);
            has_place && split.goes_beside(first) && fits
        };
        self.queue.first_split().filter(may_be)
    }

    /// The splits that are next and not begun, as far as they are change units, each with the bytes
    /// of its rows.
    pub fn next_units(&self) -> impl Iterator<Item = (&Arc<Split>, u64)> {
        let is_read = !self.halted && !self.is_dropped;
        let next = self.queue.next_splits();
        let units = next.take_while(move |split| is_read && matches!(split.work, Work::Unit(..)));
        units.map(|split| (split, split.row_bytes(&self.width)))
    }

    /// Takes the next split, and a boundary before it.
    pub fn take(&mut self) -> Option<Arc<Split>> {
        while let Some(queued) = self.queue.pop() {
            let split = match &queued {
                Queued::Split(split) if split.is_full() => {
                    self.beside += 1;
                    return Some(split.clone());
                }
                Queued::Split(split) => Some(split.clone()),
                Queued::Boundary(_) | Queued::Turn(_) => None,
            };
            self.taken.push_back(queued);
            if split.is_some() {
                return split;
            }
        }
        None
    }

    /// Ends the reading of the oldest split, which gave no row from `next` on.
    pub fn finish_reading(&mut self, next: u64) {
        if let Some(Queued::Split(split)) = self.taken.pop_front() {
            self.learn_rest(&split, next);
            self.deliver(Out::Finished(split));
        }
        while let Some(Queued::Boundary(_)) = self.taken.front() {
            if let Some(Queued::Boundary(step)) = self.taken.pop_front() {
                self.deliver(Out::Boundary(step));
            }
        }
    }

    /// Queues the pieces of a split but for the first, which is being read.
    pub fn cut(&mut self, pieces: Vec<Split>) {
        for piece in pieces.into_iter().skip(1).rev() {
            self.unfinished.push_front(piece.step.number);
            self.queue.put_back(Queued::Split(Arc::new(piece)));
        }
    }

    /// Puts back everything that was not read (STR-2): of the oldest split what is `left`, if
    /// that is known.
    pub fn put_back(&mut self, left: Option<Split>) {
        let first = self.taken.pop_front();
        while let Some(later) = self.taken.pop_back() {
            self.queue.put_back(later);
        }
        let left = left.map(|split| Queued::Split(Arc::new(split)));
        if let Some(first) = left.or(first) {
            self.queue.put_back(first);
        }
    }

    /// Stops reading until the consumer saw why.
    pub fn halt(&mut self, why: Error) {
        self.halted = true;
        self.deliver(Out::Failure(why));
    }

    /// Lets go of everything. Where the lane stands does not change any more.
    pub fn drop_all(&mut self) {
        self.is_dropped = true;
        self.taken.clear();
        self.queue.clear();
        self.out.clear();
        self.out_bytes = 0;
    }

    pub fn has_something(&self) -> bool {
        !self.out.is_empty()
    }

    /// What the consumer gets next.
    pub fn pop(&mut self) -> Option<Out> {
        let out = self.out.pop_front()?;
        self.out_bytes = self.out_bytes.saturating_sub(bytes_of(&out));
        match &out {
            Out::Finished(_) => {
                self.unfinished.pop_front();
            }
            Out::Boundary(step) => self.finish(step),
            Out::Failure(_) => self.halted = false,
            Out::Rows(_) | Out::Schema(_) => {}
        }
        Some(out)
    }

    fn finish(&mut self, step: &Step) {
        self.finished = self.finished.max(step.number + 1);
        self.finished_time_ms = Some(step.time_ms());
    }

    /// True when nothing waits for the consumer and nothing is being read.
    pub fn is_quiet(&self) -> bool {
        self.out.is_empty() && !self.is_reading()
    }

    #[cfg(test)]
    pub fn held_bytes(&self) -> u64 {
        self.out_bytes + self.ahead.held()
    }

    pub fn wait(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }

    pub fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn bytes_of(out: &Out) -> u64 {
    match out {
        Out::Rows(rows) => rows.bytes,
        _ => 0,
    }
}
