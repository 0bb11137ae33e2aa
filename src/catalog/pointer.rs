//! Tables whose pointer is a file name: the highest `metadata/vN.metadata.json` is the head.
//!
//! In: a table's folder on any store whose create-if-absent refuses an existing name. Out: the
//! head, and commits that claim the next name. `version-hint.text` only says where to start
//! looking (CAT-7).
//!
//! A claim is safe when no higher version existed just before it and whatever follows it just
//! after was built on it: somebody who cleans up old versions could free a name in between
//! (CAT-8). A claim whose answer was lost is repeated: the name then holds our bytes,
//! and we won, or other bytes, and we lost (CAT-9).

use std::time::Duration;

use bytes::Bytes;

use super::LoadedTable;
use super::cache::MetadataCache;
use super::change::{self, NextVersion};
use super::metadata::read_metadata;
use super::naming::{
    FileVersion, file_name, pointer_version_of, same_folder, version_of, wants_gzip,
};
use super::render::{Refs, write_metadata};
use crate::clock::Environment;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{TableMetadata, TableProperties, TableRequirement, TableUpdate, property};
use crate::storage::{Created, FolderListing, Storage};

const HINT: &str = "version-hint.text";

/// What a dropped table's last name holds until its files are gone: it stops racing commits.
const TOMBSTONE: &[u8] = br#"{"meltwater-dropped":true}"#;

/// How often a claim without an answer is repeated.
const CLAIM_RETRIES: u32 = 4;

/// How often a lost race is run again while the requirements still hold.
const SWAP_RETRIES: u32 = 4;

/// Metadata younger than this is never deleted: a slow writer may still build on it.
pub(crate) const POINTER_MIN_AGE_MS: i64 = 24 * 60 * 60 * 1000;

/// One table's folder.
#[derive(Debug, Clone)]
pub(super) struct PointerTable {
    storage: Storage,
    folder: String,
    cache: MetadataCache,
    environment: Environment,
}

#[derive(Debug, PartialEq, Eq)]
enum Claim {
    Won,
    Lost,
}

impl PointerTable {
    pub(super) fn new(
        storage: Storage,
        folder: String,
        cache: MetadataCache,
        environment: Environment,
    ) -> Self {
        Self { storage, folder, cache, environment }
    }

    fn metadata_folder(&self) -> String {
        format!("{}/metadata", self.folder)
    }

    /// The metadata file of a version.
    pub(super) fn file(&self, version: u64) -> String {
        format!("{}/metadata/v{version}.metadata.json", self.folder)
    }

    fn hint(&self) -> String {
        format!("{}/metadata/{HINT}", self.folder)
    }

    /// The head's version: the hint, and what follows it. `None` if there is no table.
    pub(super) async fn head(&self) -> Result<Option<u64>> {
        match self.hinted().await? {
            Some(version) => self.last_from(version).await.map(Some),
            None => self.sure_head().await,
        }
    }

    /// The head's version by all that can be known: listings may be stale and hints may be old,
    /// but a name that exists can be read.
    pub(super) async fn sure_head(&self) -> Result<Option<u64>> {
        let listing = self.storage.list_folder(&self.metadata_folder()).await?;
        let listed = highest(&listing)?;
        match listed.max(self.hinted().await?) {
            Some(version) => self.last_from(version).await.map(Some),
            None => Ok(None),
        }
    }

    /// The version that the hint names, if its file exists.
    async fn hinted(&self) -> Result<Option<u64>> {
        let text = match self.storage.read(&self.hint()).await {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let text = String::from_utf8_lossy(&text);
        let Ok(version) = text.trim().parse::<u64>() else { return Ok(None) };
        Ok(self.storage.exists(&self.file(version)).await?.then_some(version))
    }

    async fn last_from(&self, mut version: u64) -> Result<u64> {
        while let Some(next) = version.checked_add(1)
            && self.storage.exists(&self.file(next)).await?
        {
            version = next;
        }
        Ok(version)
    }

    /// Reads one version; `None` if it is the mark of a dropped table or gone.
    pub(super) async fn load(&self, version: u64) -> Result<Option<LoadedTable>> {
        let location = self.file(version);
        let stamp = match self.storage.stamp(&location).await {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match self.cache.load_stamped(&self.storage, &location, Some(stamp)).await {
            Ok(metadata) => Ok(Some(self.loaded(metadata, location))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) if e.kind() == ErrorKind::CorruptData => {
                let bytes = self.storage.read(&location).await;
                if bytes.is_ok_and(|bytes| bytes == TOMBSTONE) { Ok(None) } else { Err(e) }
            }
            Err(e) => Err(e),
        }
    }

    fn loaded(&self, metadata: std::sync::Arc<TableMetadata>, location: String) -> LoadedTable {
        LoadedTable {
            metadata,
            metadata_location: location,
            config: Default::default(),
            storage: self.storage.clone(),
        }
    }

    /// Makes version 1. `AlreadyExists` if there is any version.
    pub(super) async fn create(&self, metadata: TableMetadata) -> Result<LoadedTable> {
        check_layout(&metadata, None)?;
        if let Some(version) = self.sure_head().await? {
            let exists = Error::new(ErrorKind::AlreadyExists, "there is a table in this folder")
                .with_context("folder", &self.folder);
            return Err(match self.load(version).await? {
                Some(_) => exists,
                None => exists.with_hint("its drop was interrupted; drop it again"),
            });
        }
        self.refuse_foreign().await?;
        let refs = Refs::new();
        let bytes = self.cache.render(&metadata, &refs)?;
        match self.claim(1, &bytes).await? {
            Claim::Won => self.published(1, metadata, refs, bytes.len()).await,
            Claim::Lost => Err(Error::new(
                ErrorKind::AlreadyExists,
                "another writer made a table in this folder just now",
            )
            .with_context("folder", &self.folder)),
        }
    }

    /// Commits updates on the current head. `None`: there is no table.
    pub(super) async fn commit(
        &self,
        requirements: &[TableRequirement],
        updates: &[TableUpdate],
    ) -> Result<Option<LoadedTable>> {
        for attempt in 0..=SWAP_RETRIES {
            let Some(head) = self.sure_head().await? else { return Ok(None) };
            let Some(base) = self.load(head).await? else { return Ok(None) };
            self.check_place(&base).await?;
            let (refs, updates) = (self.cache.refs(&base).await?, updates.to_vec());
            let next = change::apply(&base, &refs, requirements, updates, &self.environment)?;
            let Some(next) = next else { return Ok(Some(base)) };
            check_layout(&next.metadata, Some(&base.metadata))?;
            if let Some(table) = self.swap(head, next).await? {
                return Ok(Some(table));
            }
            tracing::debug!(folder = %self.folder, attempt, "another commit took the version");
            self.pause(attempt).await;
        }
        Err(Error::new(ErrorKind::CommitConflict, "other commits kept coming first")
            .with_context("folder", &self.folder)
            .with_hint("run it again, or let fewer writers commit at a time"))
    }

    /// One attempt. `None`: somebody else came first, and nothing of ours is visible.
    async fn swap(&self, head: u64, next: NextVersion) -> Result<Option<LoadedTable>> {
        let version = head.saturating_add(1);
        let bytes = self.cache.render(&next.metadata, &next.refs)?;
        if self.claim(version, &bytes).await? == Claim::Lost {
            return Ok(None);
        }
        let descends = self.head_descends_from(version, &next.metadata).await;
        match descends.map_err(unknown)? {
            true => {}
            false => return Ok(None),
        }
        let table = self.published(version, next.metadata, next.refs, bytes.len()).await?;
        self.clean_up(version, &table.metadata).await;
        Ok(Some(table))
    }

    /// Creates the file of a version with our bytes, once and provably.
    async fn claim(&self, version: u64, bytes: &Bytes) -> Result<Claim> {
        let location = self.file(version);
        let mut doubt: Option<Error> = None;
        for attempt in 0..=CLAIM_RETRIES {
            match self.storage.create(&location, bytes.clone()).await {
                Ok(Created::New) => return Ok(Claim::Won),
                // Only the reply to a first send can be trusted to be about somebody else.
                Ok(Created::AlreadyThere) if doubt.is_none() => return Ok(Claim::Lost),
                Ok(Created::AlreadyThere) => match self.storage.read(&location).await {
                    Ok(found) if found == *bytes => return Ok(Claim::Won),
                    Ok(_) => return Ok(Claim::Lost),
                    Err(e) => doubt = Some(e),
                },
                // A refusal by the operating system is an answer.
                Err(e) if doubt.is_none() && e.kind() != ErrorKind::Unavailable => return Err(e),
                Err(e) => doubt = Some(e),
            }
            self.pause(attempt).await;
        }
        let error = doubt.unwrap_or_else(|| Error::internal("a claim ended without an answer"));
        if self.storage.is_local(&location) {
            match self.storage.read(&location).await {
                Ok(found) if found == *bytes => return Ok(Claim::Won),
                Ok(_) => return Ok(Claim::Lost),
                // Nothing lands later on this machine: the commit failed, and the cause is known.
                Err(look) if look.kind() == ErrorKind::NotFound => return Err(error),
                Err(_) => {}
            }
        }
        Err(unknown(error))
    }

    /// Looks again after a claim: is our version the head, or the base of the next one?
    async fn head_descends_from(&self, version: u64, ours: &TableMetadata) -> Result<bool> {
        let mut tries = 0;
        loop {
            match self.look_at_head(version, ours).await {
                Err(e) if e.kind() == ErrorKind::Unavailable && tries < CLAIM_RETRIES => {
                    self.pause(tries).await;
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    async fn look_at_head(&self, version: u64, ours: &TableMetadata) -> Result<bool> {
        if let Some(answer) = self.successor_says(version, ours).await? {
            return Ok(answer);
        }
        let Some(base) = ours.metadata_log().last().filter(|_| version > 1) else {
            return Ok(true);
        };
        if self.is_still(version - 1, ours, base.timestamp_ms).await? {
            return Ok(true);
        }
        // The base is gone. A successor that came just now may have cleaned it up.
        if let Some(answer) = self.successor_says(version, ours).await? {
            return Ok(answer);
        }
        // The table was dropped between our look and our claim, and maybe made anew. Our file
        // would bring the old one back to life.
        self.storage.delete(&self.file(version)).await?;
        Ok(false)
    }

    /// Whether a version is there and of the same table and time: names are used again.
    async fn is_still(&self, version: u64, table: &TableMetadata, at_ms: i64) -> Result<bool> {
        let there = self.load(version).await?.map(|loaded| loaded.metadata);
        Ok(there.is_some_and(|m| m.uuid() == table.uuid() && m.last_updated_ms() == at_ms))
    }

    /// Refuses a table whose files are another's: a copy of a table's folder names the files of
    /// the original, which its commits and clean-ups would reach (CAT-19).
    pub(super) async fn check_place(&self, table: &LoadedTable) -> Result<()> {
        let written = table.metadata.location();
        if same_folder(written, &self.folder).await {
            return Ok(());
        }
        Err(Error::unsupported("the table says that it lies in another folder")
            .with_context("folder", &self.folder)
            .with_context("location in the metadata", written)
            .with_hint(
                "it was moved or copied, and works on the files there: open it by its folder \
                 to read what lies here, or move it back",
            ))
    }

    /// Refuses a folder that a table of another catalog lies in: files of one would look like
    /// orphans of the other (CAT-20). What a drop of ours left is in nobody's way.
    async fn refuse_foreign(&self) -> Result<()> {
        let listing = self.storage.list_folder(&self.metadata_folder()).await?;
        let versions = listing.files.iter().filter_map(|file| {
            let location = file.location.as_str();
            Some((version_of(location)?, location))
        });
        let Some((version, newest)) = versions.max() else { return Ok(()) };
        let metadata = read_metadata(&self.storage.read(newest).await?, newest)?;
        let is_dropped = match metadata.metadata_log().last() {
            Some(before) => pointer_version_of(&before.metadata_file).is_some(),
            None => matches!(version, FileVersion::Number(1..)),
        };
        if is_dropped {
            return Ok(());
        }
        Err(Error::new(ErrorKind::AlreadyExists, "a table of another catalog lies in this folder")
            .with_context("metadata file", newest)
            .with_hint("open it through the catalog that manages it, or choose another name"))
    }

    /// Whether the next version was built on ours; `None` if there is none.
    ///
    /// It names its base as the last entry of its log, whatever the log's limit; the head's log
    /// may have dropped us already.
    async fn successor_says(&self, version: u64, ours: &TableMetadata) -> Result<Option<bool>> {
        let next = version.saturating_add(1);
        if !self.storage.exists(&self.file(next)).await? {
            return Ok(None);
        }
        // The mark of a drop was set on us, too.
        let Some(successor) = self.load(next).await? else { return Ok(Some(true)) };
        let location = self.file(version);
        // Names are used again after a clean-up; name and time together are not.
        Ok(Some(successor.metadata.metadata_log().last().is_some_and(|entry| {
            file_name(&entry.metadata_file) == file_name(&location)
                && entry.timestamp_ms == ours.last_updated_ms()
        })))
    }

    async fn published(
        &self,
        version: u64,
        metadata: TableMetadata,
        refs: Refs,
        file_bytes: usize,
    ) -> Result<LoadedTable> {
        let location = self.file(version);
        let metadata = std::sync::Arc::new(metadata);
        if let Ok(stamp) = self.storage.stamp(&location).await {
            self.cache.put(&location, metadata.clone(), refs, file_bytes, Some(stamp)).await;
        }
        // The hint only saves look-ups: a commit does not fail for it.
        if let Err(error) = self.storage.write(&self.hint(), version.to_string().into()).await {
            tracing::warn!(%error, "the version hint was not written; readers will look further");
        }
        Ok(self.loaded(metadata, location))
    }

    /// Deletes versions that left the metadata log, if the table asks for it.
    async fn clean_up(&self, version: u64, metadata: &TableMetadata) {
        let properties = TableProperties::new(metadata.properties());
        if !properties.flag(property::METADATA_DELETE_AFTER_COMMIT, false).unwrap_or(false) {
            return;
        }
        let Ok(listing) = self.storage.list_folder(&self.metadata_folder()).await else { return };
        let newest_to_go = self.environment.clock.now_ms().saturating_sub(POINTER_MIN_AGE_MS);
        let mut old: Vec<(u64, &str)> = listing
            .files
            .iter()
            .filter(|file| file.last_modified_ms < newest_to_go)
            .filter_map(|file| Some((pointer_version_of(&file.location)?, &*file.location)))
            .filter(|(number, _)| *number < version)
            .filter(|(_, location)| {
                let name = file_name(location);
                !metadata.metadata_log().iter().any(|e| file_name(&e.metadata_file) == name)
            })
            .collect();
        // Oldest first: whoever walks forward from a version that exists then finds the head.
        old.sort_unstable();
        for (_, location) in old {
            if let Err(error) = self.storage.delete(location).await {
                tracing::warn!(%error, location, "an old metadata file was not deleted");
                return;
            }
        }
    }

    /// Takes the table out of the folder; its data files stay. `None`: there is no table.
    ///
    /// The last version is kept under a name that is no pointer, and returned.
    pub(super) async fn drop_table(&self) -> Result<Option<LoadedTable>> {
        for attempt in 0..=SWAP_RETRIES {
            let Some(head) = self.sure_head().await? else { return Ok(None) };
            let Some(mut last) = self.load(head).await? else {
                // A drop before ours was interrupted: finish it.
                self.remove_versions().await?;
                return Ok(None);
            };
            self.check_place(&last).await?;
            let uuid = self.environment.ids.uuid();
            let kept = format!("{}/{head:05}-{uuid}.metadata.json", self.metadata_folder());
            self.storage.write(&kept, write_metadata(&last.metadata, false)?).await?;
            let claim = self.claim(head.saturating_add(1), &Bytes::from_static(TOMBSTONE)).await;
            match claim {
                Ok(Claim::Won) => {
                    let (old, at_ms) = (last.metadata.clone(), last.metadata.last_updated_ms());
                    if self.is_still(head, &old, at_ms).await? {
                        self.remove_versions().await?;
                        last.metadata_location = kept;
                        return Ok(Some(last));
                    }
                    // Dropped and made anew since we looked: the mark is on the wrong table.
                    self.storage.delete(&self.file(head.saturating_add(1))).await?;
                    self.storage.delete(&kept).await?;
                }
                Ok(Claim::Lost) => {
                    self.storage.delete(&kept).await?;
                    self.pause(attempt).await;
                }
                Err(e) => return Err(e),
            }
        }
        Err(Error::new(
            ErrorKind::CommitConflict,
            "commits kept coming while the table was dropped",
        )
        .with_context("folder", &self.folder)
        .with_hint("stop the table's writers, then drop it again"))
    }

    /// Removes hint and versions, oldest first: the mark of the drop goes last.
    async fn remove_versions(&self) -> Result<()> {
        self.storage.delete(&self.hint()).await?;
        let listing = self.storage.list_folder(&self.metadata_folder()).await?;
        let mut versions: Vec<u64> =
            listing.files.iter().filter_map(|f| pointer_version_of(&f.location)).collect();
        versions.sort_unstable();
        if let Some(&newest) = versions.last() {
            // A stale listing may miss the newest names.
            let newest = self.last_from(newest).await?;
            versions.extend(versions.last().map_or(newest, |v| v + 1)..=newest);
        }
        for version in versions {
            self.storage.delete(&self.file(version)).await?;
        }
        Ok(())
    }

    async fn pause(&self, attempt: u32) {
        let longest = 10u64 << attempt.min(6);
        let wait = longest / 2 + self.environment.ids.below(longest);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
}

/// The highest `vN` of a listing.
fn highest(listing: &FolderListing) -> Result<Option<u64>> {
    let mut highest = None;
    for file in &listing.files {
        let name = file_name(&file.location);
        highest = highest.max(pointer_version_of(name));
        if name.starts_with('v') && name.contains(".gz") && version_of(name).is_some() {
            return Err(Error::unsupported("a table with compressed pointer files is read-only")
                .with_context("file", &file.location)
                .with_hint("open the table by its folder"));
        }
    }
    Ok(highest)
}

/// What would move or hide the pointer is refused.
fn check_layout(next: &TableMetadata, base: Option<&TableMetadata>) -> Result<()> {
    if wants_gzip(next) {
        return Err(Error::invalid(format!(
            "`{}` = gzip would rename the pointer files of a file-system table",
            property::METADATA_COMPRESSION
        ))
        .with_hint("leave the property out, or keep the table in a SQL catalog"));
    }
    if next.properties().contains_key(property::METADATA_PATH) {
        return Err(Error::invalid(format!(
            "`{}` would move the pointer files of a file-system table",
            property::METADATA_PATH
        ))
        .with_hint("leave the property out, or keep the table in a SQL catalog"));
    }
    if base.is_some_and(|base| base.location() != next.location()) {
        return Err(Error::invalid("a file-system table cannot move to another location")
            .with_hint("its name is its folder: copy the rows into a new table"));
    }
    Ok(())
}

fn unknown(cause: Error) -> Error {
    Error::new(ErrorKind::CommitStateUnknown, "nobody can say whether the commit landed")
        .with_hint("load the table and look for the change before writing again; keep every file")
        .with_source(cause)
}

/// Checks that a store refuses to create what exists, also under a small race (CAT-10).
///
/// # Errors
/// `Unsupported` if two creators won; else the store's own error.
pub(super) async fn probe(
    storage: &Storage,
    folder: &str,
    environment: &Environment,
) -> Result<()> {
    let mut last_error = None;
    for _ in 0..=CLAIM_RETRIES {
        let uuid = environment.ids.uuid();
        let location = format!("{}/.meltwater-probe-{uuid}", folder.trim_end_matches('/'));
        let racers = (0..4u8).map(|i| storage.create(&location, Bytes::from(vec![i])));
        let results = futures::future::join_all(racers).await;
        // Best effort: a leftover of a few bytes is an orphan.
        let _ = storage.delete(&location).await;
        let count = |c| results.iter().filter(|r| r.as_ref().is_ok_and(|r| *r == c)).count();
        if count(Created::New) > 1 {
            return Err(Error::unsupported(
                "this store lets two writers create one file, so commits could be lost",
            )
            .with_context("folder", folder)
            .with_hint(
                "use a store with conditional writes, or keep the tables in a SQL catalog",
            ));
        }
        if count(Created::AlreadyThere) > 0 {
            return Ok(());
        }
        last_error = results.into_iter().find_map(Result::err);
    }
    Err(last_error.unwrap_or_else(|| Error::internal("the probe got no answer")))
}
