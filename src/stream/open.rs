//! Opening a stream: options to a position, a timeline, and running tasks.

use tokio::task::JoinSet;

use super::assigner::Assigner;
use super::builder::{StreamBuilder, StreamOptions};
use super::change_stream::ChangeStream;
use super::columns::Columns;
use super::commits::Commits;
use super::consumer::{Consumer, Tasks};
use super::describe::Description;
use super::full::Helper;
use super::hub::Hub;
use super::lane::LaneTask;
use super::meters::Meters;
use super::plan::PlanOptions;
use super::planner::Planner;
use super::reader::SplitReader;
use super::resume::{Resume, Resumed, resume};
use super::retry::Patience;
use super::start::{Start, Until};
use super::state::State;
use super::timeline::Timeline;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::SnapshotId;
use crate::table::{PositionHold, Table, Token};

impl StreamBuilder {
    /// Opens the stream: finds its position, takes its name, and starts to plan and read.
    ///
    /// # Errors
    /// * `InvalidInput` naming the option that cannot be, or why a token is refused.
    /// * `NotFound` for an unknown branch or snapshot.
    /// * `PositionExpired` naming the earliest usable position; `HistoryRewritten`.
    /// * `Unavailable`.
    #[tracing::instrument(name = "stream.open", skip_all, err(level = "debug"), fields(
        table = %self.table.ident(), stream = self.options.name.as_deref(),
        emit = %self.options.emit, lanes = self.options.lanes))]
    pub async fn open(self) -> Result<ChangeStream> {
        self.check()?;
        let Self { table, positions, options } = self;
        let table = table.refresh().await?;
        Columns::check(&table, &options)?;
        let start = || start_token(&table, &options);
        let hold = match (&options.name, &positions) {
            (Some(name), Some(store)) => Some(store.hold(&table, name, start).await?),
            _ => None,
        };
        let token = match &hold {
            Some(hold) => checked(hold.token().clone(), &table, &options)?,
            None => start()?,
        };
        let Resumed { timeline, resumes, token } =
            resume(&table, &options.branch, &token, options.breaks)?;
        let (columns, readers) = Columns::new(&table, &options, &timeline, &resumes)?;
        let until = until(&options, &table, &timeline, &resumes)?;
        let description = Description::new(&table, &options, token.clone());
        tracing::debug!(%description, "opened a stream");
        let key = readers.first().map(|reader| reader.key_ids()).unwrap_or_default();
        let lanes = State::lanes_with(readers, options.marks, options.memory_budget / 4);
        let assigner = Assigner::new(options.max_drift);
        let plan = PlanOptions {
            emit: options.emit,
            order: options.order,
            skip_deletes: options.skip_deletes,
            lanes: options.lanes,
            verify_replace: options.verify_replace,
            key,
            pinned: columns.pinned().cloned(),
            resumes: resumes.clone(),
        };
        let located = (timeline, resumes);
        // Memory that the resolver of changes does not need yet.
        let beside = (options.full_parallelism, options.memory_budget / 4);
        let state = State::new(table, located, token.clone(), lanes, assigner, until, beside);
        Ok(run(state, columns, plan, &options, hold, description, token))
    }
}

fn run(
    state: State,
    columns: Columns,
    plan: PlanOptions,
    options: &StreamOptions,
    hold: Option<PositionHold>,
    description: Description,
    token: Token,
) -> ChangeStream {
    let meters = Meters::new(&state.table, options.name.as_deref());
    meters.lag(&state);
    let hub = Hub::new(state, meters);
    let mut tasks = JoinSet::new();
    tasks.spawn(hub.clone().keep_telling_lag());
    let patience = || Patience::new(options.patience);
    let schema = columns.arrow().clone();
    tasks.spawn(Planner::new(hub.clone(), plan, columns, patience()).run());
    let (dropped, most) = (&options.dropped, options.full_parallelism);
    let reader = || SplitReader::new(hub.clone(), dropped.clone(), patience(), most);
    for lane in 0..options.lanes {
        tasks.spawn(LaneTask::new(lane, reader()).run());
    }
    if hub.state().is_full_phase() {
        // With one lane's task that reads, and all others idle, they make up the number.
        for _ in 1..most {
            tasks.spawn(Helper::new(reader()).run());
        }
    }
    let consumer = Consumer::new(hub, Tasks::new(tasks), options.lanes);
    ChangeStream::new(consumer, Commits::new(token, hold), description, schema)
}

fn start_token(table: &Table, options: &StreamOptions) -> Result<Token> {
    match (options.start.place(table, &options.branch, options.breaks)?, &options.start) {
        (None, Start::At(token)) => checked(token.clone(), table, options),
        (place, _) => {
            let place = place.ok_or_else(|| Error::internal("a start without a place"))?;
            let (uuid, fingerprint) = (table.metadata().uuid(), options.fingerprint(table)?);
            Ok(Token::new(uuid, fingerprint, options.order.groups(), place))
        }
    }
}

fn checked(token: Token, table: &Table, options: &StreamOptions) -> Result<Token> {
    token.check_table(table.metadata().uuid())?;
    token.check_promise(options.fingerprint(table)?, options.order.groups())?;
    if !token.is_complete() {
        return Err(Error::invalid("the token is a lane's: it does not cover the whole stream")
            .with_hint("merge the tokens of all lanes first"));
    }
    Ok(token)
}

/// The first step that is not wanted.
fn until(
    options: &StreamOptions,
    table: &Table,
    timeline: &Timeline,
    resumes: &[Resume],
) -> Result<Option<u64>> {
    let id = match options.until {
        Until::Forever => return Ok(None),
        Until::CaughtUp => return Ok(Some(timeline.end())),
        Until::Snapshot(id) => id,
    };
    if let Some(step) = timeline.steps().filter(|step| step.id() == id).last() {
        return Ok(Some(step.number + 1));
    }
    // Not ahead: nothing is left to do if it is behind.
    table.snapshot(id)?;
    let head = super::timeline::head_of(table, timeline.branch())?;
    let is_behind = head.is_some_and(|h| table.is_ancestor(id, SnapshotId(h.snapshot_id())));
    if is_behind && resumes.iter().all(|resume| resume.inside.is_none()) {
        return Ok(Some(0));
    }
    Err(Error::new(ErrorKind::NotFound, "the snapshot to end at is not ahead on the branch")
        .with_context("snapshot", id)
        .with_context("branch", timeline.branch())
        .with_hint(format!("`meltwater inspect snapshots {}` lists them", table.ident())))
}
