//! The shared state of a stream: what is planned, read and taken, and what may happen next.
//!
//! Plain and synchronous: the planner, the lanes and the consumers change it under one lock
//! ([`super::hub`]), and every decision is made here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ahead::{Allowance, Held};
use super::assigner::{Assigner, Standing};
use super::columns::Turn;
use super::groups::lane_of;
use super::lane_state::LaneState;
use super::plan::StepPlan;
use super::progress::Progress;
use super::queue::{PlanCursor, QueueMarks};
use super::resume::Resume;
use super::split::{Out, Queued, Split};
use super::timeline::{Step, Timeline};
use crate::error::Error;
use crate::read::ChangeReader;
use crate::table::{Cursor, LegStart, Place, Table, Token};

#[derive(Debug)]
pub(super) struct State {
    /// The newest version of the table that was noticed.
    pub table: Table,
    pub timeline: Timeline,
    pub lanes: Vec<LaneState>,
    pub assigner: Assigner,
    /// By group.
    pub resumes: Vec<Resume>,
    /// The first step that is not wanted.
    pub until: Option<u64>,
    /// Why planning stopped before its end.
    pub stopped: Option<Error>,
    /// The lane that failed for good, and why: nothing more is read.
    pub failed: Option<(usize, Error)>,
    /// What was delivered.
    pub delivered: Token,
    /// How many read in the full phase, unless there are more lanes.
    full_parallelism: usize,
    /// Memory for the rows of splits that helpers read in it.
    beside: Arc<Allowance>,
    /// How far the full phase was delivered.
    progress: Progress,
    /// The specs of the last step that added files, to find barriers.
    specs: Option<BTreeSet<i32>>,
    /// Steps that were looked at by the lane that is furthest ahead.
    inspected: u64,
    pub skipped_snapshots: u64,
    /// Turns that some lane may still have to pass, by step.
    turns: BTreeMap<u64, Arc<Turn>>,
    /// Why the stream ends before `until`, which is the step that is to blame.
    pub refused: Option<Error>,
}

/// What a lane's planner gets to do.
#[derive(Debug, Clone)]
pub(super) struct Plannable {
    pub lane: usize,
    pub cursor: PlanCursor,
    pub step: Arc<Step>,
    pub room: usize,
    pub room_bytes: u64,
}

impl State {
    pub fn new(
        table: Table,
        (timeline, resumes): (Timeline, Vec<Resume>),
        token: Token,
        lanes: Vec<LaneState>,
        assigner: Assigner,
        until: Option<u64>,
        (full_parallelism, beside_budget): (usize, u64),
    ) -> Self {
        let progress = match timeline.begins_full() {
            true => Progress::new(0, &resumes),
            false => Progress::default(),
        };
        Self {
            full_parallelism,
            beside: Allowance::new(beside_budget),
            progress,
            table,
            timeline,
            lanes,
            assigner,
            resumes,
            until,
            stopped: None,
            failed: None,
            delivered: token,
            specs: None,
            inspected: 0,
            skipped_snapshots: 0,
            turns: BTreeMap::new(),
            refused: None,
        }
    }

    pub fn lanes_with(
        readers: Vec<Arc<ChangeReader>>,
        marks: QueueMarks,
        out_budget: u64,
    ) -> Vec<LaneState> {
        let each = out_budget / readers.len().max(1) as u64;
        let lane = |(number, reader)| LaneState::new(number, reader, marks, each);
        readers.into_iter().enumerate().map(lane).collect()
    }

    pub fn owns(&self, lane: usize, group: u8) -> bool {
        lane_of(group, self.lanes.len()) == lane
    }

    /// True once the lane's owner is gone.
    pub fn is_dropped(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_none_or(|lane| lane.is_dropped)
    }

    /// The first step that will not be planned for now.
    fn limit(&self) -> u64 {
        self.until.unwrap_or(u64::MAX).min(self.timeline.end())
    }

    /// The lane to plan for: of those that want more, the one furthest behind.
    pub fn plannable(&mut self) -> Option<Plannable> {
        let limit = self.limit();
        let lanes = self.lanes.iter_mut().enumerate();
        let hungry = lanes.filter(|(_, l)| l.queue.cursor.step < limit && !l.is_dropped);
        let (lane, state) = hungry
            .filter_map(|(n, l)| l.queue.wants_more().then_some((n, l)))
            .min_by_key(|(_, l)| l.queue.cursor)?;
        let queue = &state.queue;
        let (cursor, room, room_bytes) = (queue.cursor, queue.room(), queue.room_bytes());
        let step = self.timeline.get(cursor.step)?.clone();
        Some(Plannable { lane, cursor, step, room, room_bytes })
    }

    /// True when some lane has everything that is known, and a commit would give it more.
    pub fn waits_for_a_commit(&self) -> bool {
        let end = self.timeline.end();
        self.until.is_none_or(|until| until > end)
            && self.lanes.iter().any(|l| l.queue.cursor.step >= end && !l.is_dropped)
    }

    /// True when the end that was asked for is planned for every lane.
    pub fn is_planned_to_the_end(&self) -> bool {
        let mut lanes = self.lanes.iter().filter(|lane| !lane.is_dropped);
        self.until.is_some_and(|until| lanes.all(|l| l.queue.cursor.step >= until))
    }

    /// True until the first lane has looked at a step.
    pub fn is_new(&self, step: &Step) -> bool {
        step.number >= self.inspected
    }

    /// Ends the stream before a step, when everything before it was delivered.
    pub fn refuse(&mut self, step: &Step, why: Error) {
        self.until = Some(self.until.map_or(step.number, |until| until.min(step.number)));
        self.refused = Some(why);
        self.wake_all();
    }

    /// Notes the specs of a step's added files when the first lane looks at it: another set than
    /// before is a barrier, for keys may have moved to another group; so is the end of the full
    /// phase (STR-6), and a schema that is announced (STR-14).
    pub fn inspect(&mut self, step: &Step, plan: &StepPlan, turn: Option<Turn>) {
        self.inspected = step.number + 1;
        if matches!(plan, StepPlan::Skipped) {
            self.skipped_snapshots += 1;
            tracing::warn!(snapshot = %step.id(), "skipped a snapshot that deletes, as asked");
        }
        let before = step.number.checked_sub(1).and_then(|n| self.timeline.get(n));
        let mut is_barrier = before.is_some_and(|before| before.commit.is_full);
        if let Some(turn) = turn {
            is_barrier |= turn.announced.is_some();
            self.turns.insert(step.number, Arc::new(turn));
        }
        // All groups come to one point before a net difference, and none runs ahead of it
        // (STR-21).
        if step.commit.net.is_some() || plan.joins_groups() {
            is_barrier = true;
            self.assigner.add_barrier(step.number + 1);
        }
        if let Some(specs) = plan.specs().filter(|specs| !specs.is_empty()) {
            is_barrier |= self.specs.as_ref().is_some_and(|known| known != specs);
            self.specs = Some(specs.clone());
        }
        if is_barrier {
            self.assigner.add_barrier(step.number);
        }
    }

    /// Takes in what was planned for a lane.
    pub fn planned(&mut self, plan: &Plannable, splits: Vec<Split>, cursor: PlanCursor) {
        let Some(lane) = self.lanes.get_mut(plan.lane) else { return };
        let begins = plan.cursor == PlanCursor::at_step(plan.step.number);
        if let Some(turn) = self.turns.get(&plan.step.number).filter(|_| begins) {
            lane.queue.push_turn(turn.clone());
        }
        for split in splits {
            if split.is_full() {
                self.progress.plan(split.group, split.planned);
            }
            lane.plan(split);
        }
        lane.queue.cursor = cursor;
        if cursor.step > plan.step.number {
            lane.queue.push_boundary(plan.step.clone());
        }
        // Only now may it turn out that a lane waits for one that is gone.
        if self.lanes.iter().any(|lane| lane.is_dropped) {
            self.wake_all();
        }
    }

    fn standing(&self, lane: &LaneState) -> Standing {
        Standing {
            finished: lane.finished,
            time_ms: self.timeline.get(lane.standing()).map(|step| step.time_ms()),
        }
    }

    fn may_begin(&self, step: &Step) -> bool {
        let standings = self.lanes.iter().map(|lane| self.standing(lane));
        self.failed.is_none() && self.assigner.may_take(step, standings)
    }

    fn may_take(&self, lane: usize) -> bool {
        let next = self.lanes.get(lane).and_then(LaneState::next_step);
        next.is_some_and(|step| self.may_begin(step))
    }

    /// The split that a lane reads next, if it may.
    pub fn take(&mut self, lane: usize) -> Option<Arc<Split>> {
        loop {
            let state = self.lanes.get_mut(lane)?;
            if !state.is_reading() {
                state.forward_boundaries();
            }
            if !self.may_take(lane) {
                return None;
            }
            let state = self.lanes.get_mut(lane)?;
            if !state.pass_turn() {
                return state.take();
            }
        }
    }

    /// The split that a lane may read before its turn: one that it could take now, and whose rows
    /// will probably fit.
    pub fn take_ahead(&mut self, lane: usize) -> Option<Arc<Split>> {
        let next = self.lanes.get(lane)?.next_ahead()?;
        if !self.may_begin(&next.step) {
            return None;
        }
        self.lanes.get_mut(lane)?.take()
    }

    /// True while rows of a whole snapshot may still have to be read.
    pub fn is_full_phase(&self) -> bool {
        let in_it = |lane: &LaneState| !lane.is_dropped && lane.finished == 0;
        self.failed.is_none() && self.timeline.begins_full() && self.lanes.iter().any(in_it)
    }

    /// How many splits of a whole snapshot are read now.
    pub fn read_beside(&self) -> usize {
        self.lanes.iter().map(|lane| lane.beside).sum()
    }

    /// A split of a whole snapshot for a helper to read: of the lane with the fewest readers, if
    /// there is memory for its rows.
    pub fn take_beside(&mut self) -> Option<(usize, Arc<Split>, Held)> {
        if self.read_beside() >= self.full_parallelism {
            return None;
        }
        let waiting = self.lanes.iter().enumerate().filter_map(|(n, lane)| {
            let next = lane.next_beside().filter(|split| self.may_begin(&split.step))?;
            Some((lane.beside, n, next.bytes_on_the_way(&lane.width, &lane.reader)))
        });
        let (_, lane, bytes) = waiting.min()?;
        let held = self.beside.hold(bytes)?;
        let split = self.lanes.get_mut(lane)?.take()?;
        Some((lane, split, held))
    }

    /// Takes in that a split is read in pieces.
    pub fn cut(&mut self, lane: usize, pieces: Vec<Split>) {
        for piece in pieces.iter().skip(1) {
            self.progress.plan(piece.group, piece.planned);
        }
        if let Some(lane) = self.lanes.get_mut(lane).filter(|lane| !lane.is_dropped) {
            lane.cut(pieces);
        }
    }

    /// How far a split was taken (TOK-10).
    fn deliver(&mut self, split: &Split, next: u64) {
        if !split.is_full() {
            self.come_to(split.step.leg());
            self.delivered.set_on_leg(split.group, split.step.leg(), split.place(next));
            return;
        }
        let is_whole = next == Cursor::ALL;
        let to = split.inside(if is_whole { split.end } else { next });
        self.progress.deliver(split.group, split.planned, to, is_whole);
        let (low, ahead) = self.progress.of(split.group);
        let place = Place::Full(split.step.id(), low);
        self.delivered.set_with_ahead(split.group, place, ahead);
    }

    /// Some group comes to a leg: from now on tokens tell what led there (TOK-12).
    fn come_to(&mut self, leg: u32) {
        let known = self.delivered.legs().1;
        if leg <= known {
            return;
        }
        for step in self.timeline.steps().filter(|step| step.leg() > known && step.leg() <= leg) {
            if let Some(net) = step.commit.net {
                self.delivered.add_leg(step.leg(), LegStart { net, time_ms: step.time_ms() });
            }
        }
    }

    /// Takes what waits for a lane's consumer, and moves the position on (STR-8).
    pub fn pop(&mut self, lane: usize) -> Option<Out> {
        let out = self.lanes.get_mut(lane)?.pop()?;
        match &out {
            Out::Rows(rows) => self.deliver(&rows.split, rows.next),
            Out::Finished(split) => self.deliver(split, Cursor::ALL),
            Out::Boundary(step) => self.pass(lane, step),
            Out::Schema(_) | Out::Failure(_) => {}
        }
        Some(out)
    }

    /// Every group of the lane is past this step, unless it began further ahead.
    fn pass(&mut self, lane: usize, step: &Step) {
        self.come_to(step.leg());
        for group in 0..self.delivered.groups() {
            let resume = self.resumes.get(usize::from(group));
            if self.owns(lane, group) && resume.is_some_and(|r| r.step <= step.number) {
                self.progress.forget(group);
                self.delivered.set_on_leg(group, step.leg(), Place::After(step.id()));
            }
        }
        let oldest = self.lanes.iter().map(|l| l.finished.min(l.standing())).min().unwrap_or(0);
        self.timeline.forget_before(oldest.saturating_sub(1));
        self.assigner.forget_before(oldest);
        self.turns = self.turns.split_off(&oldest);
    }

    /// The first step that was not delivered whole.
    pub fn first_undelivered(&self) -> u64 {
        let end = self.timeline.end();
        self.lanes.iter().map(|lane| lane.finished).min().unwrap_or(end)
    }

    /// The time that every one of these lanes has passed (STR-4).
    pub fn watermark(&self, lanes: &[usize]) -> Option<i64> {
        let times = lanes.iter().map(|lane| self.lanes.get(*lane)?.finished_time_ms);
        times.collect::<Option<Vec<i64>>>()?.into_iter().min()
    }

    fn those<'a>(&'a self, lanes: &'a [usize]) -> impl Iterator<Item = &'a LaneState> {
        lanes.iter().filter_map(|n| self.lanes.get(*n))
    }

    /// True when these lanes were planned to the end that was asked for, and everything of them
    /// was taken.
    pub fn is_done(&self, lanes: &[usize]) -> bool {
        let Some(until) = self.until else { return false };
        self.those(lanes).all(|lane| {
            lane.queue.cursor.step >= until && lane.is_quiet() && lane.queue.front().is_none()
        })
    }

    /// True when nothing that these lanes read waits for its consumer.
    pub fn is_taken(&self, lanes: &[usize]) -> bool {
        !self.those(lanes).any(LaneState::has_something)
    }

    /// A lane that was dropped and that these lanes would wait for in vain (STR-13).
    pub fn waits_for_dropped(&self, lanes: &[usize]) -> Option<usize> {
        let next = |lane: &LaneState| lane.is_quiet().then(|| lane.next_step().cloned()).flatten();
        let waiting: Option<Vec<_>> = self.those(lanes).map(next).collect();
        let waiting = waiting?;
        let holds_all = |lane: &LaneState| {
            let standing = [self.standing(lane)];
            waiting.iter().all(|step| !self.assigner.may_take(step, standing.iter().copied()))
        };
        self.lanes.iter().position(|lane| lane.is_dropped && holds_all(lane))
    }

    /// True when nothing more comes out of these lanes as things are: what waits for them has to
    /// wait for others.
    pub fn is_stuck(&self, lanes: &[usize]) -> bool {
        lanes.iter().all(|n| {
            let Some(lane) = self.lanes.get(*n) else { return true };
            let goes_on = match lane.queue.front() {
                Some(Queued::Boundary(_)) => true,
                Some(Queued::Split(_) | Queued::Turn(_)) => self.may_take(*n),
                None => false,
            };
            lane.is_quiet() && !goes_on
        })
    }

    pub fn wake_all(&mut self) {
        self.lanes.iter_mut().for_each(LaneState::wake);
    }
}
