//! The task of one lane: takes its splits one by one and has them read, some before their turn.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::TryStreamExt;
use tracing::Instrument;

use super::ahead::{Allowance, Held, ReadAhead};
use super::guard::TaskGuard;
use super::reader::{Read, SplitReader};
use super::split::Split;
use crate::error::{ErrorKind, Result};
use crate::read::UnitAhead;

/// Change units whose files are decoded before their turn.
const UNITS_DECODED: usize = 2;

pub(super) struct LaneTask {
    lane: usize,
    reader: SplitReader,
    allowance: Arc<Allowance>,
    /// Splits that are read before their turn, in order.
    ahead: VecDeque<(Arc<Split>, ReadAhead)>,
    /// The change units behind them, whose files are decoded meanwhile.
    decoding: Vec<Decoding>,
}

struct Decoding {
    split: Arc<Split>,
    unit: UnitAhead,
    /// Memory for what is decoded.
    held: Held,
}

impl LaneTask {
    pub fn new(lane: usize, reader: SplitReader) -> Self {
        let allowance = reader.hub.allowance(lane);
        Self { lane, reader, allowance, ahead: VecDeque::new(), decoding: Vec::new() }
    }

    /// Runs until a split fails for good, or until the lane's owner is gone.
    pub async fn run(mut self) {
        let guard = TaskGuard::new(self.reader.hub.clone(), Some(self.lane));
        while let Some((split, ahead)) = self.next().await {
            let span = split.span(self.lane);
            let goes_on = match split.is_full() {
                true => self.reader.read_beside(self.lane, split).instrument(span).await,
                false => self.read_with_patience(&split, ahead).instrument(span).await,
            };
            if !goes_on {
                break;
            }
        }
        guard.disarm();
    }

    async fn next(&mut self) -> Option<(Arc<Split>, Option<ReadAhead>)> {
        if let Some((split, ahead)) = self.ahead.pop_front() {
            return Some((split, Some(ahead)));
        }
        Some((self.reader.hub.take(self.lane).await?, None))
    }

    /// Reads a split to its end, or puts back what is left of it; false when that is for good.
    async fn read_with_patience(
        &mut self,
        split: &Arc<Split>,
        mut ahead: Option<ReadAhead>,
    ) -> bool {
        let mut next = split.cursor.next_row();
        loop {
            let error = match self.read(split, &mut ahead, &mut next).await {
                Err(error) => error,
                Ok(Read::Unwanted) => return false,
                Ok(Read::Whole) => {
                    self.reader.patience.reset();
                    self.reader.hub.finished(self.lane, next);
                    return true;
                }
            };
            if let Err(error) = self.reader.patience.wait(error).await {
                let error = self.reader.explained(split, error).await;
                let comes_back = error.kind() == ErrorKind::Unavailable;
                self.ahead.clear();
                self.decoding.clear();
                self.reader.hub.failed(self.lane, Some(split.from(next)), error);
                return comes_back;
            }
        }
    }

    async fn read(
        &mut self,
        split: &Arc<Split>,
        ahead: &mut Option<ReadAhead>,
        next: &mut u64,
    ) -> Result<Read> {
        let decoded = self.decoded(split);
        self.read_ahead();
        let lane = self.lane;
        let (mut is_whole, mut rest) = (false, None);
        if let Some(ahead) = ahead {
            while let Some(rows) = ahead.next().await {
                if self.reader.hand_on(lane, split, rows, next).await? == Read::Unwanted {
                    return Ok(Read::Unwanted);
                }
            }
            (is_whole, rest) = (ahead.is_whole(), ahead.take_rest());
        }
        if !is_whole {
            let (unit, _held) = decoded.map(|d| (d.unit, d.held)).unzip();
            self.decode_ahead();
            let mut batches = rest.unwrap_or_else(|| self.reader.open(lane, split, *next, unit));
            while let Some(rows) = batches.try_next().await? {
                if self.reader.hand_on(lane, split, rows, next).await? == Read::Unwanted {
                    return Ok(Read::Unwanted);
                }
                self.read_ahead();
                self.decode_ahead();
            }
        }
        let is_wanted = self.reader.hub.room(lane).await;
        Ok(if is_wanted { Read::Whole } else { Read::Unwanted })
    }

    /// What is decoded of a split, once.
    fn decoded(&mut self, split: &Arc<Split>) -> Option<Decoding> {
        let at = self.decoding.iter().position(|decoding| Arc::ptr_eq(&decoding.split, split))?;
        Some(self.decoding.remove(at))
    }

    /// Begins to decode the files of the next change units, whatever snapshots they are of.
    fn decode_ahead(&mut self) {
        let next = self.reader.hub.next_units(self.lane, UNITS_DECODED);
        let is_next = |split: &Arc<Split>| next.iter().any(|(other, _)| Arc::ptr_eq(other, split));
        self.decoding.retain(|decoding| is_next(&decoding.split));
        for (split, bytes) in next.into_iter().skip(self.decoding.len()) {
            let Some(held) = self.allowance.hold(bytes) else { return };
            let unit = self.reader.decode_ahead(self.lane, &split, bytes);
            self.decoding.extend(unit.map(|unit| Decoding { split, unit, held }));
        }
    }

    /// Begins to read splits before their turn, as many as may be.
    fn read_ahead(&mut self) {
        while let Some(split) = self.reader.hub.take_ahead(self.lane) {
            drop(self.decoded(&split));
            let rows = self.reader.open_ahead(self.lane, &split);
            let ahead = ReadAhead::begin(rows, self.allowance.clone());
            self.ahead.push_back((split, ahead));
        }
    }
}
