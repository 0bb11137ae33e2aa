//! The key filters of one table in a [`KeyFilterStore`]: what a file is called and what it holds.

use std::collections::HashSet;

use twox_hash::XxHash64;
use uuid::Uuid;

use super::{KeyFilter, KeyFilterStore};
use crate::deletes::KeyColumns;
use crate::error::Result;
use crate::scan::ScanContext;
use crate::spec::{DataFile, ManifestContentType, NameMapping, StableHasher};
use crate::table::Table;

/// Begins every file; the last byte is the version of what follows.
const MAGIC: &[u8; 8] = b"mwkeys\0\x01";
/// Magic, table, data file, columns.
const HEAD: usize = 8 + 16 + 16 + 8;
const CHECKSUM: usize = 8;
/// Filters of files that left the table stay this long: streams that are behind may ask for them.
const GRACE_MS: i64 = 24 * 3600 * 1000;

/// The stored filters of one table.
#[derive(Debug, Clone)]
pub(in crate::read) struct StoredFilters {
    store: KeyFilterStore,
    table: Uuid,
    name_mapping: u64,
}

impl StoredFilters {
    /// The filters of the table that `context` reads.
    pub(in crate::read) fn new(store: KeyFilterStore, context: &ScanContext) -> Self {
        let mapping = context.name_mapping.as_deref().map(NameMapping::fields);
        let name_mapping = digest(0, format!("{mapping:?}").as_bytes());
        Self { store, table: context.table.metadata().uuid(), name_mapping }
    }

    /// The filter of a data file's keys, if a sound one is there.
    pub(in crate::read) async fn load(
        &self,
        file: &DataFile,
        keys: &KeyColumns,
    ) -> Option<KeyFilter> {
        let head = self.head(file, keys);
        let name = self.name(&head);
        let bytes = self.store.read(&name).await?;
        let filter = body(&bytes, &head).and_then(KeyFilter::from_bytes);
        if filter.is_none() {
            // A filter that is wrong would lose deletes: build it again (KEY-1).
            tracing::warn!(name, "a damaged key filter is not used");
            self.store.remove([name]).await;
        }
        filter
    }

    /// Removes the filters of a data file that left the table.
    pub(in crate::read) async fn remove(&self, file: &DataFile) {
        let prefix = format!("{}/{}-", self.table, hex(&path_digest(&file.file_path)));
        let names = self.store.names(&prefix).await;
        self.store.remove(names.into_iter().map(|(name, _)| name)).await;
    }

    /// Keeps the filter of a data file's keys.
    pub(in crate::read) async fn save(
        &self,
        file: &DataFile,
        keys: &KeyColumns,
        filter: &KeyFilter,
    ) {
        let mut bytes = self.head(file, keys);
        let name = self.name(&bytes);
        bytes.extend(filter.to_bytes());
        let checksum = XxHash64::oneshot(0, &bytes);
        bytes.extend(checksum.to_le_bytes());
        self.store.write(&name, bytes).await;
    }

    /// Removes the filters of files that are no longer in the table's current snapshot, and were
    /// written a day ago or earlier (KEY-2). Once for each table and store; then it does nothing.
    ///
    /// Cost: the manifests of the snapshot, if there is any such file to look for.
    ///
    /// # Errors
    /// What reading manifests gives.
    pub(in crate::read) async fn sweep(&self, table: &Table) -> Result<()> {
        if !self.store.is_first_sweep(self.table) {
            return Ok(());
        }
        let before = table.environment().clock.now_ms() - GRACE_MS;
        let mut old = self.store.names(&format!("{}/", self.table)).await;
        old.retain(|(_, known)| known.modified_ms <= before);
        if old.is_empty() {
            return Ok(());
        }
        let mut live = HashSet::new();
        let named: HashSet<&str> = old.iter().filter_map(|(name, _)| data_file(name)).collect();
        if let Some(snapshot) = table.current_snapshot() {
            for manifest in table.manifests(snapshot).await?.iter() {
                if manifest.content != ManifestContentType::Data {
                    continue;
                }
                for entry in table.entries(manifest).await?.iter().filter(|e| e.is_live()) {
                    let path = path_digest(&entry.file.file_path);
                    live.extend(named.get(hex(&path).as_str()).copied());
                }
            }
        }
        let is_gone = |name: &&String| data_file(name).is_none_or(|of| !live.contains(of));
        let gone: Vec<String> = old.iter().map(|(name, _)| name).filter(is_gone).cloned().collect();
        tracing::debug!(files = gone.len(), table = %table.ident(), "key filters of old files removed");
        self.store.remove(gone).await;
        Ok(())
    }

    /// What a filter depends on. Key types and the name mapping decide what is read of the file,
    /// and the versions how it is hashed.
    fn head(&self, file: &DataFile, keys: &KeyColumns) -> Vec<u8> {
        let mut of = StableHasher::default();
        of.bytes(env!("CARGO_PKG_VERSION").as_bytes()).bytes(arrow::ARROW_VERSION.as_bytes());
        of.number(self.name_mapping).number(file.partition_key().stable_hash());
        of.number(file.file_size_in_bytes).number(file.record_count);
        for column in keys.iter() {
            of.number(u64::from(column.field_id.unsigned_abs()));
            of.bytes(column.key_type.to_string().as_bytes());
        }
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(self.table.as_bytes());
        head.extend_from_slice(&path_digest(&file.file_path));
        head.extend_from_slice(&of.finish().to_le_bytes());
        head
    }

    fn name(&self, head: &[u8]) -> String {
        let path = hex(head.get(24..40).unwrap_or_default());
        let columns = hex(head.get(40..HEAD).unwrap_or_default());
        format!("{}/{path}-{columns}.keys", self.table)
    }
}

/// What is between head and checksum; `None` unless both are as they should be.
fn body<'a>(bytes: &'a [u8], head: &[u8]) -> Option<&'a [u8]> {
    let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
    let is_whole = XxHash64::oneshot(0, content).to_le_bytes() == checksum;
    content.strip_prefix(head).filter(|_| is_whole)
}

/// The part of a name that stands for the data file.
fn data_file(name: &str) -> Option<&str> {
    name.rsplit('/').next()?.split('-').next()
}

fn path_digest(path: &str) -> [u8; 16] {
    let (high, low) = (digest(1, path.as_bytes()), digest(2, path.as_bytes()));
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

fn digest(salt: u64, bytes: &[u8]) -> u64 {
    StableHasher::default().number(salt).bytes(bytes).finish()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
