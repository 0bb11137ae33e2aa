//! A stream, asked for step by step; nothing is read before it is opened.

use std::collections::BTreeSet;
use std::time::Duration;

use super::breaks::{Breaks, OnGap, OnRollback, VerifyReplace};
use super::columns::OnSchemaChange;
use super::groups::Order;
use super::named::key_fields;
use super::queue::QueueMarks;
use super::start::{Start, Until};
use crate::error::{Error, Result};
use crate::read::{ChangeKind, Emit, KeyFilterStore};
use crate::spec::{MAIN_BRANCH, Predicate, StableHasher};
use crate::table::{MAX_GROUPS, PositionStore, Table};

/// Bytes that one stream may hold unless told otherwise.
const DEFAULT_MEMORY_BYTES: u64 = 256 * 1024 * 1024;
/// How long a store or catalog may be silent before the stream says so.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);

/// More would not be faster on any machine of today.
const MAX_DECODERS: usize = 256;
/// By default, for a decoder waits for the store much of the time.
const LEAST_DECODERS: usize = 8;

fn decoders() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    cores.clamp(LEAST_DECODERS, MAX_DECODERS)
}

/// A stream to be opened; see [`Table::stream`].
#[derive(Debug, Clone)]
pub struct StreamBuilder {
    pub(super) table: Table,
    pub(super) positions: Option<PositionStore>,
    pub(super) options: StreamOptions,
}

/// The values of a [`StreamBuilder`].
#[derive(Debug, Clone)]
pub(super) struct StreamOptions {
    pub name: Option<String>,
    pub branch: String,
    pub start: Start,
    pub until: Until,
    pub emit: Emit,
    pub select: Option<Vec<String>>,
    pub filter: Option<Predicate>,
    pub key: Option<Vec<String>>,
    pub dropped: Vec<ChangeKind>,
    pub skip_deletes: bool,
    pub on_schema_change: OnSchemaChange,
    pub breaks: Breaks,
    pub verify_replace: VerifyReplace,
    pub order: Order,
    pub lanes: usize,
    pub full_parallelism: usize,
    pub max_drift: Option<Duration>,
    pub memory_budget: u64,
    pub marks: QueueMarks,
    pub patience: Duration,
    pub key_filters: Option<KeyFilterStore>,
}

impl Table {
    /// Starts a stream of the changes of `main`: exact changes in order per partition, on one
    /// lane, from now on, for ever.
    ///
    /// ```no_run
    /// # async fn run(table: meltwater::table::Table) -> meltwater::Result<()> {
    /// use futures::TryStreamExt;
    /// use meltwater::stream::{Start, StreamEvent};
    /// let mut changes = table.stream().start(Start::LatestFull).open().await?;
    /// while let Some(event) = changes.try_next().await? {
    ///     match event {
    ///         StreamEvent::Batch(batch) => {
    ///             println!("{} changes of {}", batch.kinds.len(), batch.commit.snapshot_id);
    ///             changes.commit(batch.end()).await?;
    ///         }
    ///         StreamEvent::Watermark(time) => println!("complete up to {time}"),
    ///         StreamEvent::Schema(change) => println!("now with {}", change.arrow_schema),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn stream(&self) -> StreamBuilder {
        StreamBuilder {
            table: self.clone(),
            positions: None,
            options: StreamOptions {
                name: None,
                branch: MAIN_BRANCH.to_string(),
                start: Start::default(),
                until: Until::default(),
                emit: Emit::default(),
                select: None,
                filter: None,
                key: None,
                dropped: Vec::new(),
                skip_deletes: false,
                on_schema_change: OnSchemaChange::default(),
                breaks: Breaks::default(),
                verify_replace: VerifyReplace::default(),
                order: Order::default(),
                lanes: 1,
                full_parallelism: decoders(),
                max_drift: None,
                memory_budget: DEFAULT_MEMORY_BYTES,
                marks: QueueMarks::default(),
                patience: DEFAULT_PATIENCE,
                key_filters: None,
            },
        }
    }
}

impl StreamBuilder {
    /// Gives the stream a name under which its position is stored; needs
    /// [`StreamBuilder::positions`]. A stored position wins over the start.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// Where named streams store their positions.
    pub fn positions(mut self, positions: PositionStore) -> Self {
        self.positions = Some(positions);
        self
    }

    /// Where to begin if no position is stored (default: [`Start::Latest`]).
    pub fn start(mut self, start: Start) -> Self {
        self.options.start = start;
        self
    }

    /// Where to end (default: nowhere).
    pub fn until(mut self, until: Until) -> Self {
        self.options.until = until;
        self
    }

    /// Which changes to give (default: exact changes).
    pub fn emit(mut self, emit: Emit) -> Self {
        self.options.emit = emit;
        self
    }

    /// Gives these columns only, in this order.
    pub fn select<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.options.select = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Gives only changes of rows that pass. An update that enters or leaves the filter becomes
    /// an insert or a delete. Given twice, both must be true.
    pub fn filter(mut self, filter: Predicate) -> Self {
        self.options.filter = Some(match self.options.filter.take() {
            Some(before) => before.and(filter),
            None => filter,
        });
        self
    }

    /// The columns that tell rows apart (default: the table's identifier fields).
    pub fn key<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.options.key = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Leaves out changes of these kinds. Positions do not depend on it.
    pub fn drop_kinds(mut self, kinds: impl IntoIterator<Item = ChangeKind>) -> Self {
        self.options.dropped = kinds.into_iter().collect();
        self
    }

    /// Whether a stream of appends passes over snapshots that delete, with all they hold, instead
    /// of refusing them (default: it refuses).
    pub fn skip_deletes(mut self, skip: bool) -> Self {
        self.options.skip_deletes = skip;
        self
    }

    /// What happens when the table's schema changes under the stream (default: rows keep the
    /// schema that the table has when it opens). May change between two runs.
    ///
    /// Columns that options name are followed by their field ids: a renamed column comes under
    /// its new name, one that was dropped is left out, one that comes later comes with the
    /// announcement. A key or filter whose column is dropped ends the stream before that.
    pub fn on_schema_change(mut self, way: OnSchemaChange) -> Self {
        self.options.on_schema_change = way;
        self
    }

    /// What to do when snapshots between the position and the head have expired (default: end
    /// with `PositionExpired`).
    pub fn on_gap(mut self, on_gap: OnGap) -> Self {
        self.options.breaks.on_gap = on_gap;
        self
    }

    /// What to do when the branch was rolled back behind what was delivered, or replaced
    /// (default: end with `HistoryRewritten`).
    pub fn on_rollback(mut self, on_rollback: OnRollback) -> Self {
        self.options.breaks.on_rollback = on_rollback;
        self
    }

    /// Whether snapshots that claim to change no row are held to it (default: trusted).
    pub fn verify_replace(mut self, verify: VerifyReplace) -> Self {
        self.options.verify_replace = verify;
        self
    }

    /// The order of changes (default: per partition).
    pub fn order(mut self, order: Order) -> Self {
        self.options.order = order;
        self
    }

    /// How many lanes read side by side (default: 1, at most 64). Any number goes on from any
    /// token.
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.options.lanes = lanes;
        self
    }

    /// How many decoders read the rows of a whole snapshot, with which [`Start::LatestFull`] and
    /// [`Start::Earliest`] begin, side by side (default: one a core, and at least 8,
    /// for a decoder also waits for the store; at most 256).
    ///
    /// Whatever the number of lanes, but one each at least, and more than that only while a quarter
    /// of the stream's memory holds the rows on their way. Large files are read in pieces. These rows
    /// come in no order, on the lanes of their partitions, and all of them before the changes that
    /// follow. Any number goes on from any token (STR-16).
    pub fn full_parallelism(mut self, decoders: usize) -> Self {
        self.options.full_parallelism = decoders;
        self
    }

    /// How far a lane may run ahead of the slowest one, in commit time (default: any distance).
    pub fn max_drift(mut self, drift: Duration) -> Self {
        self.options.max_drift = Some(drift);
        self
    }

    /// The branch to follow (default: `main`).
    pub fn branch(mut self, branch: impl Into<String>) -> Self {
        self.options.branch = branch.into();
        self
    }

    /// Bytes that the stream may hold (default: 256 MiB): three quarters for reading, one for
    /// batches that wait. A few batches a lane, the row group that they come from, and a mebibyte to
    /// compare rows in are held whatever it says.
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.options.memory_budget = bytes;
        self
    }

    /// How many splits are planned ahead for each lane.
    pub fn queue_marks(mut self, marks: QueueMarks) -> Self {
        self.options.marks = marks;
        self
    }

    /// How long a store or catalog may give no answer before the stream returns `Unavailable`
    /// (default: a minute). The next call goes on in place.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.options.patience = patience;
        self
    }

    /// Where to keep the keys that were seen in data files (default: in memory only), so that a
    /// stream that is opened again is as fast as one that goes on.
    pub fn key_filters(mut self, store: KeyFilterStore) -> Self {
        self.options.key_filters = Some(store);
        self
    }

    /// Refuses options that break a promise, by name (STR-12).
    pub(super) fn check(&self) -> Result<()> {
        let options = &self.options;
        let refuse = |option: &'static str, why: &str, hint: &str| {
            Err(Error::invalid(why.to_string()).with_context("option", option).with_hint(hint))
        };
        if options.lanes == 0 || options.lanes > usize::from(MAX_GROUPS) {
            return refuse("lanes", "a stream has 1 to 64 lanes", "choose a number in between");
        }
        if options.full_parallelism == 0 || options.full_parallelism > MAX_DECODERS {
            let why = "the rows of a whole snapshot are read by 1 to 256 decoders";
            return refuse("full_parallelism", why, "choose a number in between");
        }
        if options.order == Order::PerSnapshot && options.lanes > 1 {
            return refuse(
                "lanes",
                "order per snapshot is one sequence: several lanes would break it",
                "use one lane, or order per partition",
            );
        }
        if options.emit == Emit::Appends {
            let hint = "emit `changes` or `upserts`, or leave the option out";
            if options.breaks != Breaks::default() {
                let option = match options.breaks.on_gap {
                    OnGap::Net => "on_gap",
                    OnGap::Refuse => "on_rollback",
                };
                let why = "a net difference takes rows back, which appends cannot show";
                return refuse(option, why, hint);
            }
            if options.verify_replace != VerifyReplace::Trust {
                let why = "appends cannot show what a rewrite took away";
                return refuse("verify_replace", why, hint);
            }
        }
        match (&options.name, &self.positions) {
            (Some(_), None) => refuse(
                "named",
                "a stream with a name needs a place to store its position",
                "give it a position store, or leave out the name",
            ),
            (None, Some(_)) => refuse(
                "positions",
                "a stream without a name stores no position",
                "give it a name, or leave out the position store",
            ),
            (_, Some(positions)) => positions.check_outside(&self.table),
            _ => Ok(()),
        }
    }
}

impl StreamOptions {
    /// The field ids of the key, ascending.
    pub fn key_ids(&self, table: &Table) -> Result<BTreeSet<i32>> {
        Ok(match &self.key {
            None => table.schema().identifier_field_ids().collect(),
            Some(names) => key_fields(table, names)?.into_iter().map(|(_, id)| id).collect(),
        })
    }

    /// A hash of what the stream promises and of what its ordinals depend on (TOK-2).
    pub fn fingerprint(&self, table: &Table) -> Result<u64> {
        let mut hash = StableHasher::default();
        hash.bytes(self.emit.to_string().as_bytes());
        hash.bytes(format!("{:?}", self.order).as_bytes());
        if self.emit != Emit::Appends {
            for id in self.key_ids(table)? {
                hash.number(u64::from(id.unsigned_abs()));
            }
        }
        let filter = self.filter.as_ref().map(ToString::to_string);
        hash.bytes(filter.unwrap_or_default().as_bytes());
        hash.number(u64::from(self.order.groups()));
        Ok(hash.finish())
    }
}
