//! What is an orphan, and what only looks like one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use meltwater::ErrorKind;
use meltwater::catalog::{Catalog, NewTable, SqlCatalog};
use meltwater::maintenance::{Maintainer, OrphanOptions, PrefixMismatch};
use meltwater::object_store::memory::InMemory;
use meltwater::object_store::path::Path;
use meltwater::object_store::{ObjectMeta, ObjectStore, Result as StoreResult};
use meltwater::spec::{
    DataContentType, DataFile, NamespaceIdent, NestedField, PartitionKey, PrimitiveType, Schema,
    StatisticsFile, TableIdent, TableUpdate, Type,
};
use meltwater::storage::Storage;
use meltwater::table::{Table, WriteResult};
use tokio::sync::Notify;

use crate::kit::layer::{Layer, Layered};
use crate::yard::{FOLDER, Yard, all, days, needs};

#[tokio::test]
async fn what_nothing_names_goes_and_the_rest_stays() {
    let yard = Yard::new(&[]).await;
    yard.append().await;
    let (_, gone) = yard.append().await;
    yard.delete(&gone).await;
    let statistics = yard.litter("metadata/a.stats").await;
    let now = yard.now().await;
    let statistics = StatisticsFile {
        snapshot_id: now.current_snapshot().unwrap().snapshot_id(),
        statistics_path: statistics,
        file_size_in_bytes: 6,
        file_footer_size_in_bytes: 2,
        key_metadata: None,
        blob_metadata: vec![],
    };
    let update = vec![TableUpdate::SetStatistics { statistics }];
    now.catalog().commit(now.ident(), vec![], update).await.unwrap();
    let before = yard.stored().await;
    let litter = BTreeSet::from([
        yard.litter("data/orphan.parquet").await,
        yard.litter("metadata/orphan-m0.avro").await,
        yard.litter("stray.txt").await,
        yard.litter("data/.meltwater-tmp-7").await,
    ]);
    for hidden in ["_temporary/x", ".hidden", "data/_SUCCESS", "a/meltwater-positions/s/1"] {
        yard.litter(hidden).await;
    }
    let with_litter = yard.stored().await;

    let orphans = yard.table.remove_orphans(OrphanOptions::default());
    assert_eq!(orphans.plan().await.unwrap().orphans, 0, "all is young");
    yard.later(days(4));
    let plan = orphans.plan().await.unwrap();
    let files: Vec<_> = orphans.files(&plan).unwrap().try_collect().await.unwrap();
    let planned: BTreeSet<String> = files.iter().map(|f| f.location.clone()).collect();
    assert_eq!(planned, litter);
    assert_eq!((plan.orphans, plan.hidden), (4, 4), "{plan}");
    assert_eq!(yard.stored().await, with_litter, "a plan removes nothing");

    let report = orphans.run_plan(&plan).await.unwrap();
    assert_eq!(report.report.before.files, 4);
    let after = yard.stored().await;
    assert_eq!(with_litter.difference(&after).cloned().collect::<BTreeSet<_>>(), litter);
    assert!(before.is_subset(&after));
}

#[tokio::test]
async fn leases_positions_and_key_filters_stay() {
    let yard = Yard::new(&[]).await;
    yard.append().await;
    // A maintainer's run leaves its lease, with what the next one must know.
    let maintainer = Maintainer::new(yard.table.catalog().clone(), ["ns.t"]);
    let environment = yard.table.environment().clone();
    maintainer.environment(environment).once().await.unwrap();
    let leases: Vec<String> =
        yard.stored().await.into_iter().filter(|f| f.contains("/_meltwater-maintain/")).collect();
    assert!(!leases.is_empty());
    let ours = [
        yard.litter("meltwater-positions/t/s/00000000000000000001").await,
        yard.litter("data/meltwater-key-filters/t/a.filter").await,
    ];
    let orphan = yard.litter("data/orphan.parquet").await;
    yard.later(days(400));
    let report = yard.table.remove_orphans(OrphanOptions::default()).run().await.unwrap();
    let stored = yard.stored().await;
    assert!(ours.iter().chain(&leases).all(|file| stored.contains(file)), "{stored:?}");
    assert!(!stored.contains(&orphan), "{report}");
}

#[tokio::test]
async fn younger_files_need_an_explicit_word() {
    let yard = Yard::new(&[]).await;
    yard.append().await;
    let orphan = yard.litter("data/orphan.parquet").await;
    yard.later(Duration::from_secs(3600));
    let hour = OrphanOptions { older_than: Duration::from_secs(60), ..OrphanOptions::default() };
    let error = yard.table.remove_orphans(hour.clone()).run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.hint().unwrap().contains("--allow-younger"));
    assert!(yard.stored().await.contains(&orphan));

    let allowed = OrphanOptions { allow_younger: true, ..hour };
    let pointers: Vec<String> =
        yard.stored().await.into_iter().filter(|f| f.ends_with(".metadata.json")).collect();
    yard.table.remove_orphans(allowed).run().await.unwrap();
    let stored = yard.stored().await;
    assert!(!stored.contains(&orphan));
    assert!(pointers.iter().all(|f| stored.contains(f)), "young pointer files stay");
}

#[tokio::test]
async fn what_is_committed_while_the_folder_is_listed_stays() {
    // A file that waits for its commit, too old for its own good.
    let store = Arc::new(Layered(ListedStore::default()));
    let yard = Yard::on(store.clone(), &[], None).await;
    yard.append().await;
    let late = yard.file(DataContentType::Data).await;
    let orphan = yard.litter("data/orphan.parquet").await;
    yard.later(days(4));
    let orphans = yard.table.remove_orphans(OrphanOptions::default());
    store.hold.store(true, Ordering::SeqCst);
    let commit = async {
        store.listed.notified().await;
        let written = WriteResult { data_files: vec![late.clone()], ..WriteResult::default() };
        let committed = yard.other(7).await.append(written).commit().await;
        store.go_on.notify_one();
        committed.unwrap();
    };
    let (plan, ()) = tokio::join!(orphans.plan(), commit);
    let plan = plan.unwrap();
    assert_eq!(plan.orphans, 1, "{plan}");
    orphans.run_plan(&plan).await.unwrap();
    let stored = yard.stored().await;
    assert!(stored.contains(&late.file_path) && !stored.contains(&orphan), "{stored:?}");
}

/// A store whose next listing of everything is held back once it is made.
#[derive(Debug, Default)]
struct ListedStore {
    inner: InMemory,
    hold: AtomicBool,
    listed: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl Layer for ListedStore {
    fn inner(&self) -> &dyn ObjectStore {
        &self.inner
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let listing = self.inner.list(prefix);
        if !self.hold.swap(false, Ordering::SeqCst) {
            return listing;
        }
        let (listed, go_on) = (self.listed.clone(), self.go_on.clone());
        let held = async move {
            let all: Vec<_> = listing.collect().await;
            listed.notify_one();
            go_on.notified().await;
            stream::iter(all)
        };
        stream::once(held).flatten().boxed()
    }
}

#[tokio::test]
async fn partition_folders_that_look_hidden_are_looked_into() {
    let yard = Yard::on(Arc::new(InMemory::new()), &[], Some("_bucket")).await;
    let (_, live) = yard.append().await;
    assert!(live.file_path.contains("/_bucket=1/"), "{}", live.file_path);
    let orphan = yard.litter("data/_bucket=2/orphan.parquet").await;
    let hidden = yard.litter("data/_other=2/file.parquet").await;
    yard.later(days(4));
    yard.table.remove_orphans(OrphanOptions::default()).run().await.unwrap();
    let stored = yard.stored().await;
    assert!(stored.contains(&live.file_path) && stored.contains(&hidden));
    assert!(!stored.contains(&orphan));
}

/// A table on a local disk in the SQLite catalog, in a folder of choice.
async fn local(folder: &std::path::Path, name: &str, location: &str) -> meltwater::Result<Table> {
    let storage = Storage::new(HashMap::from([("local.sync".into(), "false".into())]));
    let file = folder.join("catalog.db");
    let warehouse = format!("file://{}/w", folder.display());
    let catalog = Arc::new(SqlCatalog::open(file, None, &warehouse, storage).await?);
    let namespace = NamespaceIdent::new("ns".into());
    let _ = catalog.create_namespace(&namespace, HashMap::new()).await;
    let field = NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long));
    let schema = Schema::builder().with_fields([field.into()]).build()?;
    let ident = TableIdent::new(namespace, name.into());
    let new = NewTable::new(schema).with_location(location);
    let loaded = catalog.create_table(&ident, new).await?;
    Ok(Table::from_loaded(catalog, ident, loaded))
}

fn young() -> OrphanOptions {
    OrphanOptions { older_than: Duration::ZERO, allow_younger: true, ..OrphanOptions::default() }
}

#[tokio::test]
async fn a_folder_shared_by_two_tables_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| format!("file://{}/{path}", folder.path().display());
    let outer = local(folder.path(), "outer", &at("data")).await.unwrap();
    outer.remove_orphans(young()).plan().await.unwrap();
    // Another spelling, and inside.
    let plain = format!("{}/data/inner/", folder.path().display());
    let inner = local(folder.path(), "inner", &plain).await.unwrap();
    let beside = local(folder.path(), "beside", &at("data2")).await.unwrap();
    for (table, other) in [(&outer, "ns.inner"), (&inner, "ns.outer")] {
        let error = table.remove_orphans(young()).plan().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(other), "{error}");
    }
    beside.remove_orphans(young()).plan().await.unwrap();
    // Beside, but with its data inside.
    let spreads = beside.update_properties().set("write.data.path", at("data3/lent"));
    spreads.commit().await.unwrap();
    let lends = local(folder.path(), "lends", &at("data3")).await.unwrap();
    let error = lends.remove_orphans(young()).plan().await.unwrap_err();
    assert!(error.to_string().contains("ns.beside"), "{error}");
}

#[tokio::test]
async fn spellings_of_one_store_are_equal_and_other_stores_ask_what_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display().to_string();
    let table = local(folder.path(), "t", &format!("file://{place}/t")).await.unwrap();
    let file = async |spelling: String| {
        let path = format!("{place}/t/data/{}", spelling.rsplit('/').next().unwrap());
        table.storage().write(&path, "rows".into()).await.unwrap();
        DataFile::new(DataContentType::Data, spelling, PartitionKey::unpartitioned(0), 1, 4)
    };
    let spelled = vec![
        file(format!("file:{place}/t/data/a")).await,
        file(format!("{place}/t/data/b")).await,
        file(format!("file://localhost{place}/t//data/c")).await,
    ];
    let written = WriteResult { data_files: spelled, ..WriteResult::default() };
    table.append(written).commit().await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(table.remove_orphans(young()).plan().await.unwrap().orphans, 0);

    let elsewhere = file(format!("s3a://bucket{place}/t/data/d")).await;
    let written = WriteResult { data_files: vec![elsewhere], ..WriteResult::default() };
    table.append(written).commit().await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let error = table.remove_orphans(young()).plan().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("s3a://bucket"), "{error}");
    let mode = |prefix_mismatch| OrphanOptions { prefix_mismatch, ..young() };
    let ignored = table.remove_orphans(mode(PrefixMismatch::Ignore)).plan().await.unwrap();
    assert_eq!(ignored.orphans, 0);
    let deleted = table.remove_orphans(mode(PrefixMismatch::Delete)).plan().await.unwrap();
    assert_eq!(deleted.orphans, 1);
    let equal_prefixes = vec![("s3://bucket".to_string(), "file://".to_string())];
    let equal = OrphanOptions { equal_prefixes, ..young() };
    assert_eq!(table.remove_orphans(equal).plan().await.unwrap().orphans, 0);
}

#[tokio::test]
async fn what_older_versions_in_the_log_name_stays() {
    let yard = Yard::long_ago(&[]).await;
    let (_, first) = yard.append().await;
    yard.append().await;
    yard.delete(&first).await;
    let expire = meltwater::maintenance::ExpireOptions {
        older_than: Some(Duration::ZERO),
        keep_files: true,
        ..Default::default()
    };
    yard.table.expire(expire).run().await.unwrap();
    assert_eq!(yard.snapshots().await.len(), 1);
    yard.later(days(404));
    let report = yard.table.remove_orphans(OrphanOptions::default()).run().await.unwrap();
    assert_eq!(report.report.before.files, 0, "{report}");
    assert!(yard.stored().await.contains(&first.file_path));
    assert!(all(&needs(&yard.now().await).await).is_subset(&yard.stored().await));
    assert!(yard.stored().await.iter().all(|f| f.starts_with(FOLDER)));
}
