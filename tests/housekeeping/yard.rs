//! A table of the file-system catalog in memory whose files are real and tiny, and an oracle that
//! says which files each snapshot needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use meltwater::Result;
use meltwater::catalog::{Catalog, FileSystemCatalog, NewTable};
use meltwater::clock::{Clock, Environment, ManualClock, SeededIds, SystemClock};
use meltwater::manifest::ManifestCache;
use meltwater::object_store::ObjectStore;
use meltwater::object_store::memory::InMemory;
use meltwater::spec::{
    DataContentType, DataFile, NamespaceIdent, NestedField, PartitionKey, PrimitiveType, Schema,
    SnapshotId, Struct, TableIdent, Transform, Type, UnboundPartitionField, UnboundPartitionSpec,
};
use meltwater::storage::Storage;
use meltwater::table::{RemovedFile, Table, WriteResult};

pub const WAREHOUSE: &str = "memory:///warehouse";
pub const FOLDER: &str = "memory:///warehouse/ns/t";

pub fn days(n: u64) -> Duration {
    Duration::from_secs(n * 24 * 60 * 60)
}

/// One store, one clock, any number of handles.
pub struct Yard {
    pub store: Arc<dyn ObjectStore>,
    pub clock: Arc<ManualClock>,
    pub table: Table,
    files: std::cell::Cell<u64>,
}

impl Yard {
    pub async fn new(properties: &[(&str, &str)]) -> Self {
        Self::on(Arc::new(InMemory::new()), properties, None).await
    }

    /// A table whose clock is more than a year behind, so that there is room for a history.
    pub async fn long_ago(properties: &[(&str, &str)]) -> Self {
        Self::begun(days(400), Arc::new(InMemory::new()), properties, None).await
    }

    /// On a store of the caller's, with a partition field of this name.
    pub async fn on(
        store: Arc<dyn ObjectStore>,
        properties: &[(&str, &str)],
        partition: Option<&str>,
    ) -> Self {
        Self::begun(Duration::ZERO, store, properties, partition).await
    }

    async fn begun(
        ago: Duration,
        store: Arc<dyn ObjectStore>,
        properties: &[(&str, &str)],
        partition: Option<&str>,
    ) -> Self {
        // Stores in memory stamp files by the wall clock.
        let now = u64::try_from(SystemClock.now_ms()).unwrap();
        let clock = Arc::new(ManualClock::new(now - u64::try_from(ago.as_millis()).unwrap()));
        let catalog = catalog(&store, &clock, 1);
        let namespace = NamespaceIdent::new("ns".into());
        catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
        let schema = Schema::builder()
            .with_fields([
                NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long)).into()
            ])
            .with_identifier_field_ids([1])
            .build()
            .unwrap();
        let mut new = NewTable::new(schema);
        if let Some(name) = partition {
            let field = UnboundPartitionField {
                source_id: 1,
                field_id: None,
                name: name.into(),
                transform: Transform::Bucket(4),
            };
            let spec = UnboundPartitionSpec::builder().add_partition_fields([field]).unwrap();
            new = new.with_spec(spec.build());
        }
        for (name, value) in properties {
            new = new.with_property(*name, *value);
        }
        let ident = TableIdent::new(namespace, "t".into());
        catalog.create_table(&ident, new).await.unwrap();
        let table = open(&store, &clock, 1).await.unwrap();
        Self { store, clock, table, files: Default::default() }
    }

    /// Another process on the same store.
    pub async fn other(&self, seed: u64) -> Table {
        open(&self.store, &self.clock, seed).await.unwrap()
    }

    pub fn later(&self, by: Duration) {
        self.clock.advance_ms(u64::try_from(by.as_millis()).unwrap());
    }

    /// A file that exists, in no snapshot yet.
    pub async fn file(&self, content: DataContentType) -> DataFile {
        self.files.set(self.files.get() + 1);
        let key = match self.table.metadata().default_partition_spec().is_unpartitioned() {
            true => PartitionKey::unpartitioned(0),
            false => PartitionKey {
                spec_id: 0,
                values: Struct::from_iter([Some(meltwater::spec::Literal::int(1))]),
            },
        };
        let path = match self.table.new_data_path(&key, "data") {
            Ok(path) => path.replace(".parquet", &format!("-{}.parquet", self.files.get())),
            Err(e) => panic!("{e}"),
        };
        self.table.storage().write(&path, "rows".into()).await.unwrap();
        let mut file = DataFile::new(content, path, key, 10, 4);
        if content == DataContentType::EqualityDeletes {
            file.equality_ids = Some(vec![1]);
        }
        file
    }

    /// Appends a file to a branch.
    pub async fn append_to(&self, branch: &str) -> (SnapshotId, DataFile) {
        let file = self.file(DataContentType::Data).await;
        let written = WriteResult { data_files: vec![file.clone()], ..WriteResult::default() };
        let done = self.table.append(written).branch(branch).commit().await.unwrap();
        self.later(Duration::from_secs(1));
        (done.snapshot_id, file)
    }

    pub async fn append(&self) -> (SnapshotId, DataFile) {
        self.append_to("main").await
    }

    /// Takes a file out of main.
    pub async fn delete(&self, file: &DataFile) -> SnapshotId {
        let gone = vec![RemovedFile::new(file, None)];
        let done = self.table.delete_files(gone).commit().await.unwrap();
        self.later(Duration::from_secs(1));
        done.snapshot_id
    }

    pub async fn now(&self) -> Table {
        self.table.refresh().await.unwrap()
    }

    pub async fn snapshots(&self) -> BTreeSet<i64> {
        self.now().await.metadata().snapshots().map(|s| s.snapshot_id()).collect()
    }

    /// Every file in the table's folder.
    pub async fn stored(&self) -> BTreeSet<String> {
        let files = self.table.storage().list(FOLDER).unwrap();
        files.map_ok(|f| f.location).try_collect().await.unwrap()
    }

    /// Writes a file that nothing names.
    pub async fn litter(&self, path: &str) -> String {
        let location = format!("{FOLDER}/{path}");
        self.table.storage().write(&location, "litter".into()).await.unwrap();
        location
    }
}

fn catalog(
    store: &Arc<dyn ObjectStore>,
    clock: &Arc<ManualClock>,
    seed: u64,
) -> Arc<FileSystemCatalog> {
    let storage = Storage::default().with_store("memory://", store.clone());
    let environment = Environment { clock: clock.clone(), ids: Arc::new(SeededIds::new(seed)) };
    Arc::new(FileSystemCatalog::new(WAREHOUSE, storage).with_environment(environment))
}

/// A handle with identifiers and caches of its own, as another process has.
pub async fn open(
    store: &Arc<dyn ObjectStore>,
    clock: &Arc<ManualClock>,
    seed: u64,
) -> Result<Table> {
    let ident = TableIdent::from_strs(["ns", "t"]).unwrap();
    let table = Table::load(catalog(store, clock, seed), &ident).await?;
    let ids = Arc::new(SeededIds::new(seed.wrapping_mul(0x9E37_79B9)));
    let environment = Environment { clock: clock.clone(), ids };
    Ok(table
        .with_environment(environment)
        .with_manifest_cache(Arc::new(ManifestCache::new(1 << 20))))
}

/// What each snapshot of a version needs, walked without a short cut.
pub async fn needs(table: &Table) -> BTreeMap<i64, BTreeSet<String>> {
    let mut needs = BTreeMap::new();
    for snapshot in table.metadata().snapshots() {
        let mut files = BTreeSet::from([snapshot.manifest_list().to_string()]);
        for manifest in table.manifests(snapshot).await.unwrap().iter() {
            files.insert(manifest.manifest_path.clone());
            let entries = table.entries(manifest).await.unwrap();
            files.extend(entries.iter().filter(|e| e.is_live()).map(|e| e.file.file_path.clone()));
        }
        needs.insert(snapshot.snapshot_id(), files);
    }
    needs
}

pub fn all(needs: &BTreeMap<i64, BTreeSet<String>>) -> BTreeSet<String> {
    needs.values().flatten().cloned().collect()
}
