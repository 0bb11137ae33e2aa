//! The planner: one task that fills the queues of all lanes.
//!
//! It plans for the lane that is furthest behind and wants more, a manifest at a time, and stops
//! anywhere. When no lane wants more it waits for a bell; when a lane has all that is known, it
//! watches the table for the next commit.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument;

use super::columns::Columns;
use super::guard::TaskGuard;
use super::hub::Hub;
use super::plan::{KnownFiles, PlanOptions, StepPlan};
use super::queue::PlanCursor;
use super::retry::Patience;
use super::split::Split;
use super::state::Plannable;
use super::timeline::Step;
use crate::error::{Error, ErrorKind, Result};
use crate::measure;
use crate::read::Emit;
use crate::spec::SnapshotId;
use crate::table::{Table, Watch};

/// Plans of steps that are kept for lanes that come later.
const PLANS_KEPT: usize = 8;

pub(super) struct Planner {
    hub: Arc<Hub>,
    options: PlanOptions,
    columns: Columns,
    plans: VecDeque<(u64, StepPlan)>,
    files: KnownFiles,
    watch: Watch,
    patience: Patience,
}

/// What is next.
enum Turn {
    Plan(Box<Plannable>, Table),
    /// Every lane has enough; true if a commit would give some lane more.
    Wait(bool),
    Done,
}

impl Planner {
    pub fn new(hub: Arc<Hub>, options: PlanOptions, columns: Columns, patience: Patience) -> Self {
        let watch = hub.state().table.watch();
        let (plans, files) = (VecDeque::new(), KnownFiles::default());
        Self { hub, options, columns, plans, files, watch, patience }
    }

    /// Runs until everything that was asked for is planned, or until something fails for good.
    pub async fn run(mut self) {
        let guard = TaskGuard::new(self.hub.clone(), None);
        loop {
            match self.turn().await {
                Ok(false) => self.patience.reset(),
                Ok(true) => break,
                Err(error) => {
                    let Err(error) = self.patience.wait(error).await else { continue };
                    let is_over = error.kind() != ErrorKind::Unavailable;
                    self.hub.stop_planning(error);
                    if is_over {
                        break;
                    }
                    self.interrupted().await;
                }
            }
        }
        guard.disarm();
    }

    /// Waits until a consumer saw the failure and asked again.
    async fn interrupted(&self) {
        while self.hub.state().stopped.is_some() {
            self.hub.planner_bell().await;
        }
    }

    /// One step forward; true when there is nothing more to do.
    async fn turn(&mut self) -> Result<bool> {
        match self.next() {
            Turn::Done => return Ok(true),
            Turn::Plan(wanted, table) => self.plan(&wanted, &table).await?,
            Turn::Wait(false) => self.hub.planner_bell().await,
            Turn::Wait(true) => tokio::select! {
                biased;
                () = self.hub.planner_bell() => {}
                changed = self.watch.changed() => self.take_in(changed?)?,
            },
        }
        Ok(false)
    }

    fn next(&self) -> Turn {
        let mut state = self.hub.state();
        if let Some(wanted) = state.plannable() {
            return Turn::Plan(Box::new(wanted), state.table.clone());
        }
        if state.is_planned_to_the_end() {
            return Turn::Done;
        }
        Turn::Wait(state.waits_for_a_commit())
    }

    fn take_in(&self, table: Table) -> Result<()> {
        let mut state = self.hub.state();
        let known = state.timeline.extend(&table);
        state.table = table;
        self.hub.meters.lag(&state);
        known.map(|_| ())
    }

    async fn plan(&mut self, wanted: &Plannable, table: &Table) -> Result<()> {
        let began = Instant::now();
        let span = tracing::debug_span!("stream.plan", table = %table.ident(),
            snapshot = %wanted.step.id(), lane = wanted.lane, splits = tracing::field::Empty);
        let planned = self.splits(wanted, table).instrument(span.clone()).await;
        measure::STREAM_PLANNING.took(&[&table.ident().to_string()], began.elapsed());
        let (splits, cursor) = match planned {
            Ok(Some(planned)) => planned,
            Ok(None) => return Ok(()),
            Err(error) => return self.plan_anew(wanted, table, error).await,
        };
        span.record("splits", splits.len());
        self.hub.state().planned(wanted, splits, cursor);
        self.hub.ring_lanes();
        Ok(())
    }

    /// After a failure: a file that is gone may be needed no more by what the table is now, such as
    /// a manifest of the snapshot before.
    async fn plan_anew(&self, wanted: &Plannable, table: &Table, error: Error) -> Result<()> {
        if error.kind() == ErrorKind::NotFound {
            let fresh = table.refresh().await?;
            if fresh.metadata_location() != table.metadata_location() {
                return self.take_in(fresh);
            }
        }
        let from = wanted.step.commit.net.and_then(|net| net.from);
        Err(expired_meanwhile(table, (&wanted.step, from), error).await)
    }

    /// The next splits of a step; `None` if the stream ends before it.
    async fn splits(
        &mut self,
        wanted: &Plannable,
        table: &Table,
    ) -> Result<Option<(Vec<Split>, PlanCursor)>> {
        let number = wanted.step.number;
        let plan = match self.plans.iter().find(|(known, _)| *known == number) {
            Some((_, plan)) => plan.clone(),
            None => {
                let plan = StepPlan::load(table, &wanted.step, &self.options).await?;
                if let Err(why) = self.inspect(wanted, table, &plan) {
                    self.hub.state().refuse(&wanted.step, why);
                    return Ok(None);
                }
                self.let_go(&plan).await;
                self.plans.push_back((number, plan.clone()));
                if self.plans.len() > PLANS_KEPT {
                    self.plans.pop_front();
                }
                plan
            }
        };
        plan.splits((wanted, table), &self.options, &mut self.files).await.map(Some)
    }

    /// What the lanes learned of files that a rewrite took out is of no more use: a follower of a
    /// table that is compacted for ever would fill its budget with it.
    async fn let_go(&self, plan: &StepPlan) {
        let StepPlan::Nothing(changes) = plan else { return };
        if self.options.emit == Emit::Appends {
            return;
        }
        match changes.replaced_files().await {
            Ok(gone) => {
                let lanes = 0..self.options.lanes;
                for reader in lanes.filter_map(|lane| self.hub.reader(lane)) {
                    reader.forget(&gone).await;
                }
            }
            Err(error) => tracing::debug!(%error, "what replaced files taught was kept"),
        }
    }

    /// Looks at a step for all lanes, when the first one comes to it.
    fn inspect(&mut self, wanted: &Plannable, table: &Table, plan: &StepPlan) -> Result<()> {
        let step = &wanted.step;
        if !self.hub.state().is_new(step) {
            return Ok(());
        }
        plan.check(table, step)?;
        let turn = self.columns.turn(table, step)?;
        self.hub.state().inspect(step, plan, turn);
        Ok(())
    }
}

/// What a file that is gone means for the stream: the step's snapshot may have expired, or what its
/// changes are read `from`, while the stream was behind.
pub(super) async fn expired_meanwhile(
    table: &Table,
    (step, from): (&Step, Option<SnapshotId>),
    error: Error,
) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    let Ok(fresh) = table.refresh().await else { return error };
    let mut needed = [Some(step.id()), from].into_iter().flatten();
    let Some(gone) = needed.find(|id| fresh.snapshot(*id).is_err()) else {
        return error.with_context("snapshot", step.id()).with_hint(format!(
            "the table still names this file: something else removed it; `meltwater verify {}` \
             lists all that is missing, and once it is back the stream goes on from its position",
            table.ident()
        ));
    };
    let expired =
        Error::new(ErrorKind::PositionExpired, "the snapshot expired before it was delivered")
            .with_context("table", table.ident())
            .with_context("snapshot", step.id());
    let expired = match gone == step.id() {
        true => expired,
        false => expired
            .with_context("expired, and needed to read its changes", gone)
            .with_context("earliest usable", format!("after:{}", step.id())),
    };
    expired.with_source(error).with_hint(
        "start with a full read; `expire` with the positions folder keeps what named streams \
         still need",
    )
}
