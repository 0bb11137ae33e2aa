//! Planning: manifest list to manifests to entries to tasks.
//!
//! Delete manifests are read first, for a data file must know its deletes; data manifests then
//! stream through all cores, in the order of the manifest list.

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use tracing::debug;

use super::{FileScanTask, ScanContext, TableScan};
use crate::deletes::{DeleteFile, DeleteFileIndex};
use crate::error::{Error, Result};
use crate::expr::{ColumnStats, FileStats, Filter, PartitionFilter};
use crate::measure;
use crate::spec::{
    BoundPredicate, DataContentType, DataFile, DataFileFormat, Datum, ManifestContentType,
    ManifestEntry, ManifestFile, SnapshotId, Struct,
};

/// Manifests that are read and planned at once.
fn planners() -> usize {
    2 * std::thread::available_parallelism().map_or(2, |n| n.get())
}

/// The tasks of a scan, and the delete files they share.
pub struct PlannedScan {
    /// One task per data file, in the order of the manifest list.
    pub tasks: BoxStream<'static, Result<FileScanTask>>,
    /// All delete files that may concern the scan.
    pub deletes: Arc<DeleteFileIndex>,
}

impl TableScan {
    /// Plans the scan: one task per data file that may hold matching rows.
    ///
    /// Memory: the delete files' entries, and the tasks of a few manifests.
    ///
    /// # Errors
    /// As [`TableScan::context`]; what reading manifests gives; `Unsupported` naming the file for
    /// Avro, ORC and encrypted files and deletion vectors; `CorruptData` for contradictions.
    pub async fn plan(&self) -> Result<BoxStream<'static, Result<FileScanTask>>> {
        Ok(self.context()?.plan().await?.tasks)
    }
}

impl ScanContext {
    /// Plans the scan; see [`TableScan::plan`].
    ///
    /// # Errors
    /// As [`TableScan::plan`].
    #[tracing::instrument(name = "scan.plan", level = "debug", skip_all, err(level = "debug"),
        fields(table = %self.table.ident()))]
    pub async fn plan(&self) -> Result<PlannedScan> {
        let nothing = || PlannedScan { tasks: stream::empty().boxed(), deletes: Arc::default() };
        let Some(snapshot) = &self.snapshot else { return Ok(nothing()) };
        let filter = match self.filter.clone() {
            Some(filter) if matches!(*filter, BoundPredicate::AlwaysFalse) => return Ok(nothing()),
            filter => filter.map(|f| FileFilter::new(self, f)).transpose()?,
        };
        let planner = Arc::new(Planner {
            context: self.clone(),
            filter,
            snapshot_id: SnapshotId(snapshot.snapshot_id()),
        });
        let manifests = self.table.manifests(snapshot).await?;
        let wanted = |content: ManifestContentType| -> Vec<ManifestFile> {
            let is_wanted = |m: &&ManifestFile| m.content == content && planner.may_hold_files(m);
            manifests.iter().filter(is_wanted).cloned().collect()
        };
        let deletes = planner.clone().load_deletes(wanted(ManifestContentType::Deletes)).await?;
        let data = wanted(ManifestContentType::Data);
        let all = manifests.iter().filter(|m| m.content == ManifestContentType::Data).count();
        measure::SCAN_MANIFESTS_PRUNED.add(&[], (all - data.len()) as u64);
        debug!(
            manifests = manifests.len(),
            data_manifests = data.len(),
            delete_files = deletes.len(),
            "planned manifests"
        );
        let index = deletes.clone();
        let per_manifest = stream::iter(data).map(move |manifest| {
            let (planner, index) = (planner.clone(), index.clone());
            on_any_core(async move { planner.tasks_of(&manifest, &index).await })
        });
        let tasks = per_manifest
            .buffered(planners())
            .map_ok(|tasks| stream::iter(tasks.into_iter().map(Ok)))
            .try_flatten();
        Ok(PlannedScan { tasks: tasks.boxed(), deletes })
    }
}

struct Planner {
    context: ScanContext,
    filter: Option<FileFilter>,
    snapshot_id: SnapshotId,
}

/// The filter in the forms that planning asks.
struct FileFilter {
    bound: Arc<BoundPredicate>,
    compiled: Filter,
    by_spec: HashMap<i32, PartitionFilter>,
}

impl FileFilter {
    fn new(context: &ScanContext, bound: Arc<BoundPredicate>) -> Result<Self> {
        let mut by_spec = HashMap::new();
        for spec in context.table.metadata().partition_specs_iter() {
            let types = context.table.partition_types(spec.spec_id())?;
            let filter = PartitionFilter::new(&bound, spec, &types, &context.schema)?;
            by_spec.insert(spec.spec_id(), filter);
        }
        Ok(Self { compiled: Filter::new(&bound), bound, by_spec })
    }
}

impl Planner {
    /// False for manifests without live files and those whose partitions cannot match. Pruning
    /// deletes by partition is safe: what it leaves out concerns only data of the same spec and
    /// partition, which is left out as well; global deletes have no partition to prune by (RD-3).
    fn may_hold_files(&self, manifest: &ManifestFile) -> bool {
        let live = |count: Option<u32>| count != Some(0);
        if !live(manifest.added_files_count) && !live(manifest.existing_files_count) {
            return false;
        }
        let filter = self.filter.as_ref().and_then(|f| f.by_spec.get(&manifest.partition_spec_id));
        filter.is_none_or(|f| f.manifest_might_match(manifest))
    }

    async fn load_deletes(
        self: Arc<Self>,
        manifests: Vec<ManifestFile>,
    ) -> Result<Arc<DeleteFileIndex>> {
        let per_manifest = stream::iter(manifests).map(|manifest| {
            let planner = self.clone();
            on_any_core(async move { planner.deletes_of(&manifest).await })
        });
        let deletes: Vec<Vec<DeleteFile>> = per_manifest.buffered(planners()).try_collect().await?;
        let metadata = self.context.table.metadata();
        let index = DeleteFileIndex::new(deletes.into_iter().flatten(), metadata);
        Ok(Arc::new(index.map_err(|e| e.with_context("snapshot", self.snapshot_id))?))
    }

    async fn deletes_of(&self, manifest: &ManifestFile) -> Result<Vec<DeleteFile>> {
        let entries = self.entries(manifest).await?;
        let of_entry = |entry: &ManifestEntry| DeleteFile {
            file: entry.file.clone(),
            sequence_number: entry.sequence_number,
        };
        let live = entries.iter().filter(|e| e.is_live() && self.delete_may_matter(&e.file));
        Ok(live.map(of_entry).collect())
    }

    /// A delete file is left out when its partition cannot match, or when its keys prove that
    /// no row it names passes the filter (RD-3).
    fn delete_may_matter(&self, file: &DataFile) -> bool {
        let Some(filter) = &self.filter else { return true };
        let by_partition = filter.by_spec.get(&file.spec_id);
        if by_partition.is_some_and(|f| !f.partition_might_match(&file.partition)) {
            return false;
        }
        file.content != DataContentType::EqualityDeletes
            || filter.compiled.might_match(&KeyStats(FileStats(file, &self.context.schema)))
    }

    async fn tasks_of(
        &self,
        manifest: &ManifestFile,
        index: &DeleteFileIndex,
    ) -> Result<Vec<FileScanTask>> {
        let entries = self.entries(manifest).await?;
        let mut residuals = Residuals::default();
        let (mut tasks, mut pruned) = (Vec::new(), 0);
        for entry in entries.iter().filter(|e| e.is_live()) {
            let file = &entry.file;
            let residual = match &self.filter {
                None => None,
                Some(filter) => match self.residual(filter, file, &mut residuals) {
                    Some(residual) => residual,
                    None => {
                        pruned += 1;
                        continue;
                    }
                },
            };
            check_readable(file)?;
            tasks.push(FileScanTask {
                file: file.clone(),
                sequence_number: entry.sequence_number,
                deletes: index.for_data_file(file, entry.sequence_number)?,
                residual,
                snapshot_id: self.snapshot_id,
            });
        }
        measure::SCAN_FILES_PLANNED.add(&[], tasks.len() as u64);
        measure::SCAN_FILES_PRUNED.add(&[], pruned);
        Ok(tasks)
    }

    /// `None` when no row of the file can pass, else what its rows still have to pass.
    fn residual(
        &self,
        filter: &FileFilter,
        file: &DataFile,
        known: &mut Residuals,
    ) -> Option<Option<Arc<BoundPredicate>>> {
        let left = match filter.by_spec.get(&file.spec_id) {
            None => filter.bound.clone(),
            Some(by_partition) if !by_partition.partition_might_match(&file.partition) => {
                return None;
            }
            Some(_) if file.partition.fields().is_empty() => filter.bound.clone(),
            Some(by_partition) => known.of(by_partition, &file.partition),
        };
        match &*left {
            BoundPredicate::AlwaysFalse => return None,
            BoundPredicate::AlwaysTrue => return Some(None),
            _ => {}
        }
        let stats = FileStats(file, &self.context.schema);
        if !filter.compiled.might_match(&stats) {
            return None;
        }
        if filter.compiled.must_match(&stats) {
            return Some(None);
        }
        Some(Some(left))
    }

    async fn entries(&self, manifest: &ManifestFile) -> Result<Arc<Vec<ManifestEntry>>> {
        let entries = self.context.table.entries(manifest).await;
        entries.map_err(|e| e.with_context("snapshot", self.snapshot_id))
    }
}

/// The residual of the partition seen last: files of one partition stand together.
#[derive(Default)]
struct Residuals {
    last: Option<(Struct, Arc<BoundPredicate>)>,
}

impl Residuals {
    fn of(&mut self, filter: &PartitionFilter, partition: &Struct) -> Arc<BoundPredicate> {
        if let Some((values, residual)) = &self.last
            && values == partition
        {
            return residual.clone();
        }
        let residual = Arc::new(filter.residual(partition));
        self.last = Some((partition.clone(), residual.clone()));
        residual
    }
}

/// Statistics of an equality delete file as far as they speak of the rows it names: those of
/// the columns it compares.
struct KeyStats<'a>(FileStats<'a>);

impl KeyStats<'_> {
    fn is_key(&self, id: i32) -> bool {
        self.0.0.equality_ids.as_ref().is_some_and(|ids| ids.contains(&id))
    }
}

impl ColumnStats for KeyStats<'_> {
    fn lower(&self, id: i32) -> Option<Datum> {
        self.is_key(id).then(|| self.0.lower(id))?
    }

    fn upper(&self, id: i32) -> Option<Datum> {
        self.is_key(id).then(|| self.0.upper(id))?
    }

    fn null_count(&self, id: i32) -> Option<u64> {
        self.is_key(id).then(|| self.0.null_count(id))?
    }

    fn nan_count(&self, id: i32) -> Option<u64> {
        self.is_key(id).then(|| self.0.nan_count(id))?
    }

    fn value_count(&self, id: i32) -> Option<u64> {
        self.is_key(id).then(|| self.0.value_count(id))?
    }
}

pub(super) fn check_readable(file: &DataFile) -> Result<()> {
    let problem = match (file.content, file.file_format) {
        (DataContentType::PositionDeletes | DataContentType::EqualityDeletes, _) => {
            return Err(Error::corrupt("a data manifest lists a delete file")
                .with_context("file", &file.file_path));
        }
        (_, DataFileFormat::Avro) => "data files in Avro are not supported yet",
        (_, DataFileFormat::Orc) => "data files in ORC are not supported yet",
        (_, DataFileFormat::Puffin) => "a data file in Puffin format makes no sense",
        _ if file.key_metadata.as_ref().is_some_and(|key| !key.is_empty()) => {
            "encrypted data files are not supported"
        }
        _ => return Ok(()),
    };
    Err(Error::unsupported(problem).with_context("data file", &file.file_path))
}

/// Runs on whichever core is free; ends when the caller no longer waits.
async fn on_any_core<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(work);
    match tasks.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(e)) => Err(Error::internal("planning broke off").with_source(e)),
        None => Err(Error::internal("planning did not start")),
    }
}
