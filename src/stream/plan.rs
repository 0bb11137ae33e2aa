//! One step's plan: which files or units it consists of, and which of them a lane gets.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::breaks::VerifyReplace;
use super::groups::{Order, lane_of};
use super::queue::PlanCursor;
use super::resume::{ALL_ROWS, Resume};
use super::split::{Split, Work};
use super::state::Plannable;
use super::timeline::Step;
use crate::error::{Error, Result};
use crate::read::Emit;
use crate::scan::{AddedFile, Base, ChangeClass, Grouping, SnapshotChanges};
use crate::spec::{SchemaRef, StableHasher};
use crate::table::{Cursor, Table};

/// What planning must know of the stream.
#[derive(Debug, Clone)]
pub(super) struct PlanOptions {
    pub emit: Emit,
    pub order: Order,
    /// Whether `Appends` passes over snapshots that delete, instead of refusing them.
    pub skip_deletes: bool,
    pub lanes: usize,
    pub verify_replace: VerifyReplace,
    /// The field ids of the key, where it is known.
    pub key: Vec<i32>,
    /// The schema of all rows; `None` if they come in that of their snapshot.
    pub pinned: Option<SchemaRef>,
    /// By group, where it goes on.
    pub resumes: Vec<Resume>,
}

/// What a step consists of. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum StepPlan {
    /// No change of any row.
    Nothing(Arc<SnapshotChanges>),
    /// Passed over by option.
    Skipped,
    /// Not what the stream can give: it ends before.
    Refused,
    /// Added files, or all live files of a whole snapshot.
    Files(Arc<SnapshotChanges>),
    /// Units of changes.
    Units(Arc<SnapshotChanges>),
}

impl StepPlan {
    /// Plans a step.
    ///
    /// # Errors
    /// What reading manifests gives.
    pub async fn load(table: &Table, step: &Step, options: &PlanOptions) -> Result<Self> {
        if step.commit.is_full {
            return Ok(Self::Files(table.plan_all_rows(&step.snapshot).await?));
        }
        let grouping = match options.order {
            Order::PerPartition | Order::Unordered => Grouping::Partition,
            Order::PerSnapshot => Grouping::Snapshot,
        };
        let net = |base| table.plan_net(base, &step.snapshot, grouping, &options.key);
        let changes = match step.base() {
            Base::Parent => table.plan_changes(&step.snapshot, grouping).await?,
            base => net(base).await?,
        };
        let is_claim = changes.class() == ChangeClass::Nothing && !changes.is_net();
        let changes = match is_claim && options.verify_replace != VerifyReplace::Trust {
            true => net(Base::Unclaimed).await?,
            false => changes,
        };
        Ok(match changes.class() {
            ChangeClass::Nothing => Self::Nothing(changes),
            ChangeClass::Inserts => Self::Files(changes),
            ChangeClass::Mixed if options.emit != Emit::Appends => Self::Units(changes),
            ChangeClass::Mixed if options.skip_deletes => Self::Skipped,
            ChangeClass::Mixed => Self::Refused,
        })
    }

    /// # Errors
    /// `InvalidInput` if the snapshot deletes and the stream emits only appends.
    pub fn check(&self, table: &Table, step: &Step) -> Result<()> {
        match self {
            Self::Refused => Err(refuse_deletes(table, step)),
            _ => Ok(()),
        }
    }

    /// True when the step is one unit over partitions that several groups have.
    pub fn joins_groups(&self) -> bool {
        let Self::Units(changes) = self else { return false };
        changes.units().iter().any(|unit| unit.partition().is_none())
    }

    /// The specs of the files that the step adds.
    pub fn specs(&self) -> Option<&BTreeSet<i32>> {
        match self {
            Self::Files(changes) | Self::Units(changes) => Some(changes.spec_ids()),
            Self::Nothing(_) | Self::Skipped | Self::Refused => None,
        }
    }

    /// The next splits for a lane, as many as it has room for, and where to go on.
    ///
    /// # Errors
    /// What reading a manifest gives; `InvalidInput` for a token that points at another file.
    pub async fn splits(
        &self,
        (wanted, table): (&Plannable, &Table),
        options: &PlanOptions,
        known: &mut KnownFiles,
    ) -> Result<(Vec<Split>, PlanCursor)> {
        let mut picked = Picked { wanted, table, options, splits: Vec::new(), bytes: 0 };
        let end = match self {
            Self::Nothing(_) | Self::Skipped | Self::Refused => None,
            Self::Files(changes) => picked.files(changes, known).await?,
            Self::Units(changes) => picked.units(changes)?,
        };
        let cursor = end.unwrap_or(PlanCursor::at_step(wanted.step.number + 1));
        Ok((picked.splits, cursor))
    }
}

/// The files of the manifests that were looked at last: a large manifest is planned in many
/// pieces, and for many lanes.
#[derive(Debug, Default)]
pub(super) struct KnownFiles(VecDeque<(ManifestPlace, Arc<Vec<AddedFile>>)>);

/// A step, and a manifest of its snapshot.
type ManifestPlace = (u64, usize);

/// Manifests that are held as lists of files.
const MANIFESTS_KNOWN: usize = 2;

impl KnownFiles {
    async fn of(
        &mut self,
        changes: &SnapshotChanges,
        cursor: PlanCursor,
    ) -> Result<Arc<Vec<AddedFile>>> {
        let manifest = (cursor.step, cursor.at);
        if let Some((_, files)) = self.0.iter().find(|(known, _)| *known == manifest) {
            return Ok(files.clone());
        }
        let files = Arc::new(changes.added_files(cursor.at).await?);
        self.0.push_back((manifest, files.clone()));
        if self.0.len() > MANIFESTS_KNOWN {
            self.0.pop_front();
        }
        Ok(files)
    }
}

/// Splits that were picked for a lane.
struct Picked<'a> {
    wanted: &'a Plannable,
    table: &'a Table,
    options: &'a PlanOptions,
    splits: Vec<Split>,
    bytes: u64,
}

impl Picked<'_> {
    fn is_enough(&self) -> bool {
        let Plannable { room, room_bytes, .. } = self.wanted;
        self.splits.len() >= *room || (self.bytes >= *room_bytes && !self.splits.is_empty())
    }

    /// Picks files of one manifest; `None` when it was the last one's end. One manifest a call
    /// keeps the planner free for other lanes.
    async fn files(
        &mut self,
        changes: &SnapshotChanges,
        known: &mut KnownFiles,
    ) -> Result<Option<PlanCursor>> {
        let cursor = self.wanted.cursor;
        let files = known.of(changes, cursor).await?;
        for (offset, file) in files.iter().enumerate().skip(cursor.offset) {
            if self.is_enough() {
                return Ok(Some(PlanCursor { offset, ..cursor }));
            }
            self.file(file)?;
        }
        let next = PlanCursor { step: cursor.step, at: cursor.at + 1, offset: 0 };
        Ok((next.at < changes.added_manifests().len()).then_some(next))
    }

    fn file(&mut self, file: &AddedFile) -> Result<()> {
        let AddedFile { manifest, entry, task } = file;
        let (manifest, entry) = (*manifest, *entry);
        let digest = StableHasher::default().bytes(task.file.file_path.as_bytes()).finish();
        let group = self.options.order.group_of(Some(&task.file.partition_key()), digest);
        let bytes = task.file.file_size_in_bytes;
        let cursor = Cursor::File { manifest, entry, row: 0 };
        self.add(group, cursor, digest, bytes, false, || Work::File(task.clone()))
    }

    fn units(&mut self, changes: &Arc<SnapshotChanges>) -> Result<Option<PlanCursor>> {
        let cursor = self.wanted.cursor;
        for (at, unit) in changes.units().iter().enumerate().skip(cursor.at) {
            if self.is_enough() {
                return Ok(Some(PlanCursor { at, ..cursor }));
            }
            let group = self.options.order.group_of(unit.partition(), unit.digest());
            let place = u32::try_from(at)
                .map_err(|e| Error::internal("too many change units").with_source(e))?;
            let start = Cursor::Unit { unit: place, ordinal: 0 };
            let (schema, digest) = self.told_apart_by(group, start, unit.digest());
            let work = || Work::Unit(changes.clone(), at, schema.clone());
            let refuses_rows = changes.base() == Base::Unclaimed
                && self.options.verify_replace == VerifyReplace::Refuse;
            self.add(group, start, digest, unit.bytes(), refuses_rows, work)?;
        }
        Ok(None)
    }

    /// The schema by which the rows of a unit are told apart, and the digest of both. What was
    /// begun goes on with the schema that it was begun with (TOK-11).
    fn told_apart_by(&self, group: u8, start: Cursor, unit: u64) -> (SchemaRef, u64) {
        let step = &self.wanted.step;
        let digest = |schema: &SchemaRef| {
            let id = schema.schema_id();
            StableHasher::default().number(unit).number(u64::from(id.unsigned_abs())).finish()
        };
        let resume = self.options.resumes.get(usize::from(group));
        let begun = resume.and_then(|resume| resume.digest_of(step.number, start));
        let with = begun.and_then(|begun| {
            self.table.metadata().schemas_iter().find(|schema| digest(schema) == begun)
        });
        let now = || self.options.pinned.as_ref().unwrap_or(self.table.schema_of(&step.snapshot));
        let schema = with.unwrap_or_else(now);
        (schema.clone(), digest(schema))
    }

    fn add(
        &mut self,
        group: u8,
        cursor: Cursor,
        digest: u64,
        bytes: u64,
        refuses_rows: bool,
        work: impl Fn() -> Work,
    ) -> Result<()> {
        if lane_of(group, self.options.lanes) != self.wanted.lane {
            return Ok(());
        }
        let step = &self.wanted.step;
        let wanted = match self.options.resumes.get(usize::from(group)) {
            None => vec![ALL_ROWS],
            Some(resume) => resume.wanted(step.number, cursor, digest)?,
        };
        for rows in wanted {
            let (cursor, end) = (cursor.at_row(rows.start), rows.end);
            let (step, work, is_cut) = (step.clone(), work(), !step.commit.is_full);
            self.bytes += bytes;
            self.splits.push(Split {
                step,
                group,
                cursor,
                planned: cursor,
                end,
                digest,
                bytes,
                is_cut,
                refuses_rows,
                work,
            });
        }
        Ok(())
    }
}

fn refuse_deletes(table: &Table, step: &Step) -> Error {
    Error::invalid("the snapshot deletes rows, and the stream emits appends only")
        .with_context("table", table.ident())
        .with_context("snapshot", step.id())
        .with_context("operation", format!("{:?}", step.commit.operation).to_lowercase())
        .with_hint("emit `changes` or `upserts`, or skip the snapshots that delete")
}
