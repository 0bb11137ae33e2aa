//! The columns of a stream's rows, and what happens when the table's schema changes under it.
//!
//! The planner asks here once a step, in order: does the step begin with other columns, and with
//! which readers? A [`Turn`] then goes through the queue of every lane, in front of the step.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::SchemaRef as ArrowSchemaRef;

use super::builder::StreamOptions;
use super::groups::Order;
use super::named::Named;
use super::resume::Resume;
use super::timeline::{CommitInfo, Step, Timeline};
use crate::error::{Error, Result};
use crate::read::{ChangeReadOptions, ChangeReader, Emit};
use crate::spec::SchemaRef;
use crate::table::Table;

/// What a stream does when the table's schema changes under it (STR-14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnSchemaChange {
    /// All rows come in the schema that the table has when the stream opens.
    #[default]
    Pin,
    /// Rows come in the schema of their snapshot, and [`super::StreamEvent::Schema`] comes before
    /// the first that have other columns than those before.
    Announce,
    /// The stream ends before the first snapshot whose rows have other columns.
    Refuse,
}

impl FromStr for OnSchemaChange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "pin" => Self::Pin,
            "announce" => Self::Announce,
            "refuse" => Self::Refuse,
            _ => {
                return Err(Error::invalid(format!("`{text}` is no way to meet a schema change"))
                    .with_hint("write pin, announce or refuse"));
            }
        })
    }
}

impl fmt::Display for OnSchemaChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pin => "pin",
            Self::Announce => "announce",
            Self::Refuse => "refuse",
        })
    }
}

/// From here on rows have other columns.
#[derive(Debug, Clone)]
pub struct SchemaChange {
    /// The commit whose rows are the first with these columns.
    pub commit: Arc<CommitInfo>,
    /// The table's schema at that commit.
    pub schema: SchemaRef,
    /// The columns of all batches from here on.
    pub arrow_schema: ArrowSchemaRef,
}

/// What every lane passes before it begins a step.
#[derive(Debug)]
pub(super) struct Turn {
    pub step: Arc<Step>,
    /// By lane.
    pub readers: Vec<Arc<ChangeReader>>,
    pub announced: Option<SchemaChange>,
}

/// The columns as of the last step that was looked at.
#[derive(Debug)]
pub(super) struct Columns {
    options: StreamOptions,
    named: Named,
    /// What the readers know.
    table: Table,
    schema: SchemaRef,
    arrow: ArrowSchemaRef,
    key: BTreeSet<i32>,
    /// Whether the key was there at the last step: a pinned stream may begin before it came.
    has_key: bool,
    /// Nobody knows the columns of the rows before: the first step's are announced.
    is_unsure: bool,
}

impl Columns {
    /// The columns of a stream that goes on at `resumes`, and the readers of its lanes.
    ///
    /// # Errors
    /// As [`ChangeReader::new`].
    pub fn new(
        table: &Table,
        options: &StreamOptions,
        timeline: &Timeline,
        resumes: &[Resume],
    ) -> Result<(Self, Vec<Arc<ChangeReader>>)> {
        let (before, is_sure) = schema_at(table, timeline, resumes);
        let (schema, is_sure) = match options.on_schema_change {
            OnSchemaChange::Pin => (table.schema().clone(), true),
            _ => (before.clone(), is_sure),
        };
        let named = Named::new(table, options)?;
        let readers = readers(table, options, &named, &schema)?;
        let arrow = arrow_of(&readers)?;
        let key = match &options.key {
            Some(_) => options.key_ids(table)?,
            None => schema.identifier_field_ids().collect(),
        };
        let has_key = has_all(&before, &key);
        let (options, table) = (options.clone(), table.clone());
        let is_unsure = !is_sure;
        let columns = Self { options, named, table, schema, arrow, key, has_key, is_unsure };
        Ok((columns, readers))
    }

    /// Refuses options that fit no schema that the table has or had, before anything is touched.
    pub fn check(table: &Table, options: &StreamOptions) -> Result<()> {
        let named = Named::new(table, options)?;
        let check = |schema| readers(table, options, &named, schema).map(|_| ());
        check(table.schema()).or_else(|error| {
            let mut others = table.metadata().schemas_iter();
            if others.any(|schema| check(schema).is_ok()) { Ok(()) } else { Err(error) }
        })
    }

    pub fn arrow(&self) -> &ArrowSchemaRef {
        &self.arrow
    }

    /// The schema of all rows, where it does not follow that of the table.
    pub fn pinned(&self) -> Option<&SchemaRef> {
        (self.options.on_schema_change == OnSchemaChange::Pin).then_some(&self.schema)
    }

    /// What lanes pass before this step; `None` if everything stays. Steps are asked for once
    /// each, in order.
    ///
    /// # Errors
    /// `InvalidInput` if the stream is to end before the step.
    pub fn turn(&mut self, table: &Table, step: &Arc<Step>) -> Result<Option<Turn>> {
        let theirs = table.schema_of(&step.snapshot).clone();
        self.check_key(&theirs).map_err(|e| self.at(e, step))?;
        let follows = self.options.on_schema_change != OnSchemaChange::Pin;
        let schema = if follows { &theirs } else { &self.schema };
        let is_new = schema.schema_id() != self.schema.schema_id();
        let is_announced = follows && std::mem::take(&mut self.is_unsure);
        // Behind a net difference rows may live again, of whichever lane: readers learn anew.
        let learns_anew = step.commit.net.is_some();
        if !is_new && !is_announced && !learns_anew && knows(&self.table, table) {
            return Ok(None);
        }
        let readers = readers(table, &self.options, &self.named, schema);
        let readers = readers.map_err(|e| self.at(e, step))?;
        let arrow_schema = arrow_of(&readers)?;
        let differs = arrow_schema != self.arrow;
        if differs && self.options.on_schema_change == OnSchemaChange::Refuse {
            return Err(self.at(refused(), step));
        }
        (self.table, self.schema) = (table.clone(), schema.clone());
        self.arrow = arrow_schema.clone();
        let is_announced =
            self.options.on_schema_change == OnSchemaChange::Announce && (differs || is_announced);
        let (commit, schema) = (step.commit.clone(), self.schema.clone());
        let announced = is_announced.then_some(SchemaChange { commit, schema, arrow_schema });
        Ok(Some(Turn { step: step.clone(), readers, announced }))
    }

    /// Changes are told apart by one key from beginning to end.
    fn check_key(&mut self, theirs: &SchemaRef) -> Result<()> {
        if self.options.emit == Emit::Appends {
            return Ok(());
        }
        let had_key = self.has_key;
        self.has_key = has_all(theirs, &self.key);
        let dropped = self.key.iter().find(|id| theirs.field_by_id(**id).is_none());
        if let Some(id) = dropped.filter(|_| had_key) {
            let name = self.schema.name_by_field_id(*id).unwrap_or("?");
            return Err(Error::invalid("a column of the stream's key was dropped")
                .with_context("column", name)
                .with_hint(
                    "start a stream with another key at the position before this snapshot",
                ));
        }
        let follows = self.options.on_schema_change != OnSchemaChange::Pin;
        let now: BTreeSet<i32> = theirs.identifier_field_ids().collect();
        if follows && self.options.key.is_none() && now != self.key {
            return Err(Error::invalid("the table's key changed")
                .with_hint("name the key by option, or start anew at the position before"));
        }
        Ok(())
    }

    fn at(&self, error: Error, step: &Step) -> Error {
        error.with_context("table", self.table.ident()).with_context("snapshot", step.id())
    }
}

fn refused() -> Error {
    Error::invalid("the table's schema changed, and the stream is to end there").with_hint(
        "the position is before this snapshot: go on from it, pinned to the new schema or with \
         changes announced",
    )
}

fn has_all(schema: &SchemaRef, ids: &BTreeSet<i32>) -> bool {
    ids.iter().all(|id| schema.field_by_id(*id).is_some())
}

/// True if `before` has every schema and partition spec that `now` has.
fn knows(before: &Table, now: &Table) -> bool {
    let (before, now) = (before.metadata(), now.metadata());
    now.schemas_iter().all(|s| before.schema_by_id(s.schema_id()).is_some())
        && now.partition_specs_iter().all(|s| before.partition_spec_by_id(s.spec_id()).is_some())
}

/// The schema of the rows that were given last before the furthest back of these places, or are
/// given there; false if that is a guess, because their snapshot is gone.
fn schema_at(table: &Table, timeline: &Timeline, resumes: &[Resume]) -> (SchemaRef, bool) {
    let lowest = resumes.iter().map(|resume| resume.step).min().unwrap_or(0);
    let of = |step: &Arc<Step>| table.schema_of(&step.snapshot).clone();
    let next = timeline.get(lowest);
    let is_inside = resumes.iter().any(|r| r.step == lowest && r.inside.is_some());
    let begun = next.filter(|step| is_inside || step.commit.is_full);
    if let Some(step) = begun {
        return (of(step), true);
    }
    let Some(before) = timeline.before(lowest) else {
        return (next.map_or_else(|| table.schema().clone(), of), true);
    };
    match table.snapshot(before) {
        Ok(snapshot) => (table.schema_of(&snapshot).clone(), true),
        Err(_) => (next.map_or_else(|| table.schema().clone(), of), false),
    }
}

fn arrow_of(readers: &[Arc<ChangeReader>]) -> Result<ArrowSchemaRef> {
    let first = readers.first().ok_or_else(|| Error::internal("a stream without lanes"))?;
    Ok(first.arrow_schema().clone())
}

/// Memory of a reader at the least: with less it would compare the rows of a change unit in more
/// passes than they have batches.
const LEAST_MEMORY: u64 = 1024 * 1024;

/// One reader a lane, each with its share of the memory and of the cores.
fn readers(
    table: &Table,
    options: &StreamOptions,
    named: &Named,
    schema: &SchemaRef,
) -> Result<Vec<Arc<ChangeReader>>> {
    let defaults = ChangeReadOptions::default();
    let lanes = options.lanes;
    let mut read = ChangeReadOptions {
        emit: options.emit,
        schema: Some(schema.clone()),
        memory_budget: (options.memory_budget / 4 * 3 / lanes as u64).max(LEAST_MEMORY),
        parallelism: (defaults.parallelism / lanes).max(1),
        key_filters: options.key_filters.clone(),
        // Without order the units that touch a file are on all lanes.
        sees_all: options.order != Order::Unordered || lanes == 1,
        ..defaults
    };
    named.name_in(schema, &mut read)?;
    (0..lanes).map(|_| ChangeReader::new(table, read.clone()).map(Arc::new)).collect()
}
