//! One snapshot: its list, its manifests, its files.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream;

use super::codes::Code;
use super::files::{FileCheck, reason};
use super::live::{LiveFiles, Reach};
use super::manifest::{self, Problem};
use super::report::{Findings, VerifyReport};
use super::rows;
use super::{Verify, VerifyOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::paths::{fingerprint, normal};
use crate::maintenance::{Progress, Totals};
use crate::spec::{
    DataContentType, DataFile, ManifestEntry, ManifestFile, SnapshotId, SnapshotRef,
};
use crate::table::Table;

/// Manifests that are read at the same time.
const MANIFESTS: usize = 8;

/// What a check has seen so far.
pub(super) struct Walk {
    pub table: Table,
    pub options: VerifyOptions,
    pub progress: Arc<dyn Progress>,
    pub findings: Findings,
    pub report: VerifyReport,
    files: FileCheck,
    /// Folders that the table's files belong in.
    homes: Vec<String>,
    seen_manifests: HashSet<u128>,
    seen_files: HashSet<u128>,
}

/// Totals as a snapshot's summary counts them.
#[derive(Debug, Default)]
struct SummaryTotals {
    data: Totals,
    positions: Totals,
    equality: Totals,
}

/// One manifest as far as it could be read.
struct ReadManifest {
    manifest: ManifestFile,
    size: Result<u64>,
    entries: Result<Arc<Vec<ManifestEntry>>>,
}

impl Walk {
    pub fn new(verify: Verify, table: Table) -> Self {
        let ident = table.ident().to_string();
        let folder = |location: &str| format!("{}/", normal(location.trim_end_matches('/')));
        let homes =
            [table.metadata().location(), &table.data_location(), &table.manifest_location()];
        Self {
            findings: Findings::new(&ident),
            report: VerifyReport {
                table: ident,
                metadata_location: table.metadata_location().to_string(),
                ..VerifyReport::default()
            },
            files: FileCheck::new(&table, verify.options.deep),
            homes: homes.into_iter().map(folder).collect(),
            options: verify.options,
            progress: verify.progress,
            seen_manifests: HashSet::new(),
            seen_files: HashSet::new(),
            table,
        }
    }

    /// Checks all that a snapshot needs.
    pub async fn snapshot(&mut self, snapshot: &SnapshotRef) {
        let id = SnapshotId(snapshot.snapshot_id());
        self.report.snapshots.push(id);
        let Some(manifests) = self.list(snapshot).await else { return };
        let mut live = LiveFiles::default();
        let mut totals = SummaryTotals::default();
        let table = self.table.clone();
        let read = |manifest: ManifestFile| {
            let table = table.clone();
            async move {
                let size = table.storage().size(&manifest.manifest_path).await;
                let entries = table.entries(&manifest).await;
                ReadManifest { manifest, size, entries }
            }
        };
        let mut complete = true;
        let mut read = stream::iter(manifests.iter().cloned()).map(read).buffered(MANIFESTS);
        while let Some(read) = read.next().await {
            if self.is_stopped() {
                return;
            }
            let Some(entries) = self.manifest(snapshot, &read) else {
                complete = false;
                continue;
            };
            self.entries(snapshot, &entries, &mut live, &mut totals);
            self.look(id, &entries).await;
        }
        if complete {
            self.totals(snapshot, &totals);
            self.deletes(id, &live).await;
        }
    }

    pub fn is_stopped(&mut self) -> bool {
        self.report.stopped |= self.progress.should_stop();
        self.report.stopped
    }

    async fn list(&mut self, snapshot: &SnapshotRef) -> Option<Arc<Vec<ManifestFile>>> {
        let (id, path) = (SnapshotId(snapshot.snapshot_id()), snapshot.manifest_list());
        self.is_at_home(id, path);
        // The size first: a cache may still know a list that is gone.
        let read = match self.table.storage().size(path).await {
            Ok(_) => self.table.manifests(snapshot).await,
            Err(error) => Err(error),
        };
        let codes = [Code::ManifestListMissing, Code::ManifestListUnreadable];
        read.map_err(|error| self.unread(codes, id, path, &error)).ok()
    }

    fn unread(&mut self, [gone, broken]: [Code; 2], id: SnapshotId, path: &str, error: &Error) {
        let code = match error.kind() {
            ErrorKind::NotFound => gone,
            ErrorKind::Unavailable => Code::Unavailable,
            _ => broken,
        };
        self.findings.add(code, path, Some(id), reason(error));
    }

    /// The entries of a manifest, if it can be read; what is wrong with it is said once.
    fn manifest(
        &mut self,
        snapshot: &SnapshotRef,
        read: &ReadManifest,
    ) -> Option<Arc<Vec<ManifestEntry>>> {
        let (id, manifest) = (SnapshotId(snapshot.snapshot_id()), &read.manifest);
        let path = manifest.manifest_path.as_str();
        if self.seen_manifests.insert(fingerprint(path)) {
            self.report.manifests += 1;
            self.is_at_home(id, path);
        }
        if self.table.spec(manifest.partition_spec_id).is_err() {
            let cause = format!("it is of partition spec {}", manifest.partition_spec_id);
            self.findings.add(Code::SpecUnknown, path, Some(id), cause);
            return None;
        }
        if manifest.sequence_number > snapshot.sequence_number() {
            let cause = format!(
                "its sequence number is {}, that of the snapshot is {}",
                manifest.sequence_number,
                snapshot.sequence_number()
            );
            self.findings.add(Code::SequenceBeyondSnapshot, path, Some(id), cause);
        }
        let codes = [Code::ManifestMissing, Code::ManifestUnreadable];
        match &read.size {
            Err(error) => {
                self.unread(codes, id, path, error);
                return None;
            }
            Ok(size) if i64::try_from(*size) != Ok(manifest.manifest_length) => {
                let cause = format!("it has {size} bytes, not {}", manifest.manifest_length);
                self.findings.add(Code::ManifestLength, path, Some(id), cause);
            }
            Ok(_) => {}
        }
        match &read.entries {
            Ok(entries) => {
                let types = self.table.partition_types(manifest.partition_spec_id);
                let problems = manifest::check(manifest, entries, &types.unwrap_or_default());
                self.add(problems, path, id);
                Some(entries.clone())
            }
            Err(error) => {
                self.unread(codes, id, path, error);
                None
            }
        }
    }

    fn add(&mut self, problems: Vec<Problem>, place: &str, id: SnapshotId) {
        for (code, cause) in problems {
            self.findings.add(code, place, Some(id), cause);
        }
    }

    /// Ages, duplicates and totals of a manifest's live entries.
    fn entries(
        &mut self,
        snapshot: &SnapshotRef,
        entries: &[ManifestEntry],
        live: &mut LiveFiles,
        totals: &mut SummaryTotals,
    ) {
        let id = SnapshotId(snapshot.snapshot_id());
        for entry in entries.iter().filter(|e| e.is_live()) {
            let path = entry.file.file_path.as_str();
            self.add(manifest::check_age(entry, snapshot.sequence_number()), path, id);
            if !live.add(entry) {
                let cause = "it is live twice in one snapshot";
                self.findings.add(Code::DuplicateFile, path, Some(id), cause);
            }
            *match entry.file.content {
                DataContentType::Data => &mut totals.data,
                DataContentType::PositionDeletes => &mut totals.positions,
                DataContentType::EqualityDeletes => &mut totals.equality,
            } += [&*entry.file].into_iter().collect();
        }
    }

    /// Looks at every file that no snapshot before had.
    async fn look(&mut self, id: SnapshotId, entries: &[ManifestEntry]) {
        let fresh: Vec<Arc<DataFile>> = entries
            .iter()
            .filter(|e| e.is_live() && self.seen_files.insert(fingerprint(&e.file.file_path)))
            .map(|e| e.file.clone())
            .collect();
        for file in &fresh {
            let count = match file.is_delete() {
                true => &mut self.report.delete_files,
                false => &mut self.report.data_files,
            };
            *count += 1;
            self.is_at_home(id, &file.file_path);
        }
        let files = self.files.clone();
        let look = |file: Arc<DataFile>| {
            let files = files.clone();
            async move { (files.look(&file).await, file) }
        };
        let mut looks =
            stream::iter(fresh).map(look).buffer_unordered(self.options.concurrency.max(1));
        while let Some((looked, file)) = looks.next().await {
            self.progress.advance(1);
            self.report.rows += looked.rows;
            self.add(looked.problems, &file.file_path, id);
            if self.is_stopped() {
                return;
            }
        }
    }

    fn is_at_home(&mut self, id: SnapshotId, path: &str) {
        let full = normal(path);
        if self.homes.iter().any(|home| full.starts_with(home.as_str())) {
            return;
        }
        let folder = path.rsplit_once('/').map_or(path, |(folder, _)| folder);
        let cause = format!("the table's location is {}", self.table.metadata().location());
        self.findings.add(Code::OutsideLocation, folder, Some(id), cause);
    }

    fn totals(&mut self, snapshot: &SnapshotRef, totals: &SummaryTotals) {
        let SummaryTotals { data, positions, equality } = totals;
        let said = &snapshot.summary().additional_properties;
        let wrong: Vec<String> = [
            ("total-data-files", data.files),
            ("total-delete-files", positions.files + equality.files),
            ("total-records", data.rows),
            ("total-files-size", data.bytes + positions.bytes + equality.bytes),
            ("total-position-deletes", positions.rows),
            ("total-equality-deletes", equality.rows),
        ]
        .into_iter()
        .filter_map(|(key, is)| {
            let said = said.get(key)?;
            (said.parse() != Ok(is)).then(|| format!("{key} is {is}, not {said}"))
        })
        .collect();
        if !wrong.is_empty() {
            let id = SnapshotId(snapshot.snapshot_id());
            let place = format!("snapshot {id}");
            self.findings.add(Code::SummaryTotals, place, Some(id), wrong.join(", "));
        }
    }

    /// Deletes against the data of the whole snapshot.
    async fn deletes(&mut self, id: SnapshotId, live: &LiveFiles) {
        for delete in &live.deletes {
            let file = &delete.file;
            match live.reach(delete, &self.table) {
                Ok(Reach::Dangles) => {
                    let cause = format!(
                        "no live file in its scope is as old as its sequence number {}",
                        delete.sequence_number
                    );
                    self.findings.add(Code::DeleteDangling, &file.file_path, Some(id), cause);
                }
                Ok(Reach::OtherPartition) => {
                    let about = file.referenced_path().unwrap_or_default();
                    let cause = format!("it deletes rows of {about}, of another partition");
                    self.findings.add(Code::PositionPartition, &file.file_path, Some(id), cause);
                }
                // An unknown spec was said with its manifest.
                Ok(Reach::Reaches) | Err(_) => {}
            }
            let positions = file.content == DataContentType::PositionDeletes;
            if self.options.deep && positions && !self.is_stopped() {
                let looked = rows::check_positions(&self.files, file, live).await;
                self.report.rows += looked.rows;
                self.add(looked.problems, &file.file_path, id);
            }
        }
    }
}
