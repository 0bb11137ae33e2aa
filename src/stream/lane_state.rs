//! What is known of one lane: what waits for it, what it read, what its consumer took.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::queue::{LaneQueue, QueueMarks};
use super::split::{Out, Queued, Split};
use super::timeline::Step;

/// Things of any size that may wait for a consumer.
const MOST_OUT: usize = 1024;

#[derive(Debug)]
pub(super) struct LaneState {
    pub queue: LaneQueue,
    /// Steps of the splits that were planned and whose end the consumer has not taken, in order.
    unfinished: VecDeque<u64>,
    out: VecDeque<Out>,
    out_bytes: u64,
    out_budget: u64,
    /// A split is being read.
    pub reading: bool,
    /// A failure waits to be seen; nothing is read until then.
    pub halted: bool,
    /// Steps before this one were delivered, as far as this lane goes.
    pub finished: u64,
    /// The time of the last of them.
    pub finished_time_ms: Option<i64>,
    waker: Option<Waker>,
}

impl LaneState {
    pub fn new(marks: QueueMarks, out_budget: u64) -> Self {
        Self {
            queue: LaneQueue::new(marks),
            unfinished: VecDeque::new(),
            out: VecDeque::new(),
            out_bytes: 0,
            out_budget,
            reading: false,
            halted: false,
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

    pub fn deliver(&mut self, out: Out) {
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

    /// The split that is next, if the lane is free to read it.
    pub fn next_split(&self) -> Option<&Arc<Split>> {
        match self.queue.front() {
            Some(Queued::Split(split)) if !self.reading && !self.halted => Some(split),
            _ => None,
        }
    }

    pub fn take(&mut self) -> Option<Arc<Split>> {
        match self.queue.pop() {
            Some(Queued::Split(split)) => {
                self.reading = true;
                Some(split)
            }
            _ => None,
        }
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
            Out::Rows(_) => {}
        }
        Some(out)
    }

    fn finish(&mut self, step: &Step) {
        self.finished = self.finished.max(step.number + 1);
        self.finished_time_ms = Some(step.time_ms());
    }

    /// True when nothing waits for the consumer and nothing is being read.
    pub fn is_quiet(&self) -> bool {
        self.out.is_empty() && !self.reading
    }

    #[cfg(test)]
    pub fn out_bytes(&self) -> u64 {
        self.out_bytes
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
