//! What every catalog promises: one suite, run by each implementation.
//!
//! In: a factory; called twice with one name it gives two handles on one catalog. Out: a panic
//! that names the broken promise, or nothing. What a catalog refuses as `Unsupported` is skipped.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use crate::catalog::{Catalog, LoadedTable, NewTable};
use crate::error::{ErrorKind, Result};
use crate::spec::{
    MAIN_BRANCH, NamespaceIdent, NestedField, Operation, PrimitiveType, Schema, Snapshot,
    SnapshotReference, SnapshotRetention, Summary, TableIdent, TableRequirement, TableUpdate, Type,
};

/// How many tasks race, and how many commits each of them gets through.
const RACERS: usize = 8;
const COMMITS: usize = 6;

/// Runs the whole suite.
///
/// # Errors
/// Any error that the catalog should not have returned.
pub async fn run<F, Made>(make: F) -> Result<()>
where
    F: Fn(&'static str) -> Made,
    Made: Future<Output = Result<Arc<dyn Catalog>>>,
{
    namespaces(&*make("namespaces").await?).await?;
    tables(&*make("tables").await?).await?;
    commits(&*make("commits").await?).await?;
    refusals(&*make("refusals").await?).await?;
    names_change(&*make("names").await?).await?;
    drops(&*make("drops").await?).await?;
    create_race([make("create-race").await?, make("create-race").await?]).await?;
    commit_race([make("commit-race").await?, make("commit-race").await?]).await
}

fn namespace(text: &str) -> Result<NamespaceIdent> {
    crate::catalog::parse_namespace(text)
}

fn ident(text: &str) -> Result<TableIdent> {
    crate::catalog::parse_ident(text)
}

/// A table of two columns.
///
/// # Errors
/// `Internal` only.
pub fn new_table() -> Result<NewTable> {
    let fields = [
        NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long)),
        NestedField::optional(2, "name", Type::Primitive(PrimitiveType::String)),
    ];
    let schema = Schema::builder().with_fields(fields.map(Arc::new)).build()?;
    Ok(NewTable::new(schema))
}

/// The update that sets one property.
pub fn set(name: &str, value: &str) -> Vec<TableUpdate> {
    vec![TableUpdate::SetProperties { updates: [(name.into(), value.into())].into() }]
}

fn kind_of<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|e| e.kind())
}

async fn in_namespace(catalog: &dyn Catalog) -> Result<TableIdent> {
    let ident = ident("ns.t")?;
    match catalog.create_namespace(ident.namespace(), HashMap::new()).await {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        other => other?,
    }
    Ok(ident)
}

async fn namespaces(catalog: &dyn Catalog) -> Result<()> {
    let (a, b, deep) = (namespace("a")?, namespace("b c")?, namespace("a.x.y")?);
    let properties: HashMap<String, String> = [("owner".into(), "ünïcode %20".into())].into();
    assert_eq!(kind_of(catalog.namespace_properties(&a).await), Some(ErrorKind::NotFound));
    catalog.create_namespace(&a, properties.clone()).await?;
    catalog.create_namespace(&b, HashMap::new()).await?;
    catalog.create_namespace(&deep, HashMap::new()).await?;
    assert_eq!(
        kind_of(catalog.create_namespace(&a, HashMap::new()).await),
        Some(ErrorKind::AlreadyExists)
    );
    assert_eq!(catalog.namespace_properties(&a).await?, properties);
    assert_eq!(catalog.list_namespaces(None).await?, [a.clone(), b.clone()]);
    assert_eq!(catalog.list_namespaces(Some(&a)).await?, [namespace("a.x")?]);
    assert_eq!(catalog.list_namespaces(Some(&namespace("a.x")?)).await?, [deep]);
    let nobody = namespace("nobody")?;
    assert_eq!(kind_of(catalog.list_namespaces(Some(&nobody)).await), Some(ErrorKind::NotFound));
    assert_eq!(kind_of(catalog.list_tables(&nobody).await), Some(ErrorKind::NotFound));
    assert_eq!(kind_of(catalog.drop_namespace(&nobody).await), Some(ErrorKind::NotFound));
    assert_eq!(
        kind_of(catalog.drop_namespace(&a).await),
        Some(ErrorKind::InvalidInput),
        "a namespace with another one in it stays"
    );
    catalog.drop_namespace(&b).await?;
    assert_eq!(catalog.list_namespaces(None).await?, [a]);
    Ok(())
}

async fn tables(catalog: &dyn Catalog) -> Result<()> {
    let t = ident("ns.t")?;
    assert_eq!(
        kind_of(catalog.create_table(&t, new_table()?).await),
        Some(ErrorKind::NotFound),
        "a table needs its namespace"
    );
    in_namespace(catalog).await?;
    assert_eq!(catalog.list_tables(t.namespace()).await?, []);
    assert_eq!(kind_of(catalog.load_table(&t).await), Some(ErrorKind::NotFound));
    let made = catalog.create_table(&t, new_table()?.with_property("k", "v")).await?;
    assert_eq!(made.metadata.properties().get("k").map(String::as_str), Some("v"));
    assert!(made.metadata.current_snapshot().is_none() && made.metadata.metadata_log().is_empty());
    let uuid = made.metadata.uuid();
    let again = catalog.create_table(&t, new_table()?).await;
    assert_eq!(kind_of(again), Some(ErrorKind::AlreadyExists));
    let loaded = catalog.load_table(&t).await?;
    assert_eq!(
        (loaded.metadata.uuid(), &loaded.metadata_location),
        (uuid, &made.metadata_location)
    );
    assert_eq!(loaded.metadata, made.metadata);

    let bytes = catalog.storage().read(&loaded.metadata_location).await?;
    let file: serde_json::Value = serde_json::from_slice(&bytes)?;
    assert_eq!(file["current-snapshot-id"], -1, "strict readers need the field");
    assert_eq!(file["format-version"], 2);

    let other = ident("ns.a b%20ü")?;
    catalog.create_table(&other, new_table()?).await?;
    assert_eq!(catalog.list_tables(t.namespace()).await?, [other.clone(), t.clone()]);
    assert_eq!(
        kind_of(catalog.drop_namespace(t.namespace()).await),
        Some(ErrorKind::InvalidInput),
        "a namespace with tables in it stays"
    );
    assert!(ident("ns./etc").is_err());
    let escape = TableIdent::new(namespace("ns")?, "../t".to_string());
    assert_eq!(
        kind_of(catalog.create_table(&escape, new_table()?).await),
        Some(ErrorKind::InvalidInput)
    );
    Ok(())
}

async fn commits(catalog: &dyn Catalog) -> Result<()> {
    let t = in_namespace(catalog).await?;
    let first = catalog.create_table(&t, new_table()?).await?;
    assert!(!catalog.changed_since(&t, &first.metadata_location).await?);
    let second = catalog.commit(&t, vec![], set("a", "1")).await?;
    assert_ne!(second.metadata_location, first.metadata_location);
    assert!(catalog.changed_since(&t, &first.metadata_location).await?);
    assert!(!catalog.changed_since(&t, &second.metadata_location).await?);
    let loaded = catalog.load_table(&t).await?;
    assert_eq!(loaded.metadata, second.metadata);
    assert_eq!(loaded.metadata.properties().get("a").map(String::as_str), Some("1"));
    let log = loaded.metadata.metadata_log();
    assert_eq!(log.len(), 1);
    assert!(log.iter().all(|entry| entry.metadata_file == first.metadata_location));

    let nothing = catalog.commit(&t, vec![], vec![]).await?;
    assert_eq!(nothing.metadata_location, second.metadata_location, "no change, no version");

    let third = commit_snapshot(catalog, &second, &t, 11).await?;
    let fourth = commit_snapshot(catalog, &third, &t, 12).await?;
    let current = fourth.metadata.current_snapshot().map(|s| s.snapshot_id());
    assert_eq!((current, fourth.metadata.snapshots().len()), (Some(12), 2));
    let behind = commit_snapshot(catalog, &third, &t, 13).await;
    assert_eq!(kind_of(behind), Some(ErrorKind::CommitConflict), "the branch moved");

    let limit = set("write.metadata.previous-versions-max", "2");
    catalog.commit(&t, vec![], limit).await?;
    for i in 0..3 {
        let table = catalog.commit(&t, vec![], set("n", &i.to_string())).await?;
        assert_eq!(table.metadata.metadata_log().len(), 2);
    }
    Ok(())
}

async fn refusals(catalog: &dyn Catalog) -> Result<()> {
    let t = in_namespace(catalog).await?;
    let nobody = ident("ns.nobody")?;
    assert_eq!(
        kind_of(catalog.commit(&nobody, vec![], set("a", "1")).await),
        Some(ErrorKind::NotFound)
    );
    assert_eq!(kind_of(catalog.drop_table(&nobody).await), Some(ErrorKind::NotFound));
    assert_eq!(kind_of(catalog.changed_since(&nobody, "x").await), Some(ErrorKind::NotFound));
    let before = catalog.create_table(&t, new_table()?).await?;
    let other = TableRequirement::UuidMatch { uuid: uuid::Uuid::nil() };
    assert_eq!(
        kind_of(catalog.commit(&t, vec![other], set("a", "1")).await),
        Some(ErrorKind::CommitConflict)
    );
    let reserved = set("current-snapshot-id", "7");
    assert_eq!(kind_of(catalog.commit(&t, vec![], reserved).await), Some(ErrorKind::InvalidInput));
    let v3 = TableUpdate::UpgradeFormatVersion { format_version: crate::spec::FormatVersion::V3 };
    assert_eq!(kind_of(catalog.commit(&t, vec![], vec![v3]).await), Some(ErrorKind::Unsupported));
    let tag = SnapshotReference::new(404, SnapshotRetention::Tag { max_ref_age_ms: None });
    let missing = TableUpdate::SetSnapshotRef { ref_name: "tag".into(), reference: tag };
    assert_eq!(
        kind_of(catalog.commit(&t, vec![], vec![missing]).await),
        Some(ErrorKind::InvalidInput)
    );
    let v1 = new_table()?.with_property("format-version", "3");
    assert_eq!(
        kind_of(catalog.create_table(&ident("ns.v3")?, v1).await),
        Some(ErrorKind::Unsupported)
    );
    let after = catalog.load_table(&t).await?;
    assert_eq!(after.metadata_location, before.metadata_location, "refusals change nothing");
    Ok(())
}

async fn names_change(catalog: &dyn Catalog) -> Result<()> {
    let t = in_namespace(catalog).await?;
    let (moved, taken) = (ident("ns.moved")?, ident("ns.taken")?);
    let made = catalog.create_table(&t, new_table()?).await?;
    catalog.create_table(&taken, new_table()?).await?;
    match catalog.rename_table(&t, &moved).await {
        Err(e) if e.kind() == ErrorKind::Unsupported => return Ok(()),
        other => other?,
    }
    assert_eq!(kind_of(catalog.load_table(&t).await), Some(ErrorKind::NotFound));
    assert_eq!(catalog.load_table(&moved).await?.metadata, made.metadata);
    let clash = catalog.rename_table(&moved, &taken).await;
    assert_eq!(kind_of(clash), Some(ErrorKind::AlreadyExists));
    assert_eq!(kind_of(catalog.rename_table(&t, &moved).await), Some(ErrorKind::NotFound));
    let nowhere = catalog.rename_table(&moved, &ident("nowhere.t")?).await;
    assert_eq!(kind_of(nowhere), Some(ErrorKind::NotFound));

    let dropped = catalog.drop_table(&moved).await?;
    let back = catalog.register_table(&t, &dropped.metadata_location).await?;
    assert_eq!(back.metadata.uuid(), made.metadata.uuid());
    let twice = catalog.register_table(&t, &dropped.metadata_location).await;
    assert_eq!(kind_of(twice), Some(ErrorKind::AlreadyExists));
    let gone = catalog.register_table(&moved, "memory:///no/file.metadata.json").await;
    assert_eq!(kind_of(gone), Some(ErrorKind::NotFound));
    catalog.commit(&t, vec![], set("a", "1")).await?;
    Ok(())
}

async fn drops(catalog: &dyn Catalog) -> Result<()> {
    let t = in_namespace(catalog).await?;
    let made = catalog.create_table(&t, new_table()?).await?;
    let data = format!("{}/data/f.parquet", made.metadata.location());
    catalog.storage().write(&data, bytes::Bytes::from_static(b"x")).await?;
    let last = catalog.commit(&t, vec![], set("a", "1")).await?;
    let dropped = catalog.drop_table(&t).await?;
    assert_eq!(dropped.metadata, last.metadata);
    assert!(catalog.storage().exists(&dropped.metadata_location).await?, "metadata is kept");
    assert!(catalog.storage().exists(&data).await?, "data is the caller's to remove");
    assert_eq!(kind_of(catalog.load_table(&t).await), Some(ErrorKind::NotFound));
    assert_eq!(kind_of(catalog.drop_table(&t).await), Some(ErrorKind::NotFound));
    assert_eq!(catalog.list_tables(t.namespace()).await?, []);
    let anew = catalog.create_table(&t, new_table()?).await?;
    assert_ne!(anew.metadata.uuid(), made.metadata.uuid());
    assert_eq!(catalog.load_table(&t).await?.metadata, anew.metadata);
    catalog.drop_table(&t).await?;
    catalog.drop_namespace(t.namespace()).await
}

async fn create_race(handles: [Arc<dyn Catalog>; 2]) -> Result<()> {
    let t = in_namespace(&*handles[0]).await?;
    let racers = (0..RACERS).map(|i| {
        let (catalog, t) = (handles[i % 2].clone(), t.clone());
        tokio::spawn(async move {
            let new = new_table()?.with_property("racer", i.to_string());
            catalog.create_table(&t, new).await
        })
    });
    let mut winners = Vec::new();
    for result in futures::future::join_all(racers).await {
        match result.map_err(|e| crate::Error::internal(e.to_string()))? {
            Ok(table) => winners.push(table),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    assert_eq!(winners.len(), 1, "one creator wins, the others are told");
    let loaded = handles[1].load_table(&t).await?;
    assert!(winners.iter().all(|winner| winner.metadata == loaded.metadata));
    Ok(())
}

/// Adds a snapshot on top of `base`, as an appending writer does. Its files do not exist.
///
/// # Errors
/// As [`Catalog::commit`].
pub async fn commit_snapshot(
    catalog: &dyn Catalog,
    base: &LoadedTable,
    ident: &TableIdent,
    id: i64,
) -> Result<LoadedTable> {
    let metadata = &base.metadata;
    let parent = metadata.current_snapshot().map(|s| s.snapshot_id());
    let snapshot = Snapshot::builder()
        .with_snapshot_id(id)
        .with_parent_snapshot_id(parent)
        .with_sequence_number(metadata.last_sequence_number() + 1)
        .with_timestamp_ms(metadata.last_updated_ms() + 1)
        .with_manifest_list(format!("{}/metadata/snap-{id}.avro", metadata.location()))
        .with_summary(Summary {
            operation: Operation::Append,
            additional_properties: HashMap::new(),
        })
        .with_schema_id(metadata.current_schema_id())
        .build();
    let reference = SnapshotReference::new(
        id,
        SnapshotRetention::Branch {
            min_snapshots_to_keep: None,
            max_snapshot_age_ms: None,
            max_ref_age_ms: None,
        },
    );
    let requirements = vec![
        TableRequirement::UuidMatch { uuid: metadata.uuid() },
        TableRequirement::RefSnapshotIdMatch { r#ref: MAIN_BRANCH.into(), snapshot_id: parent },
    ];
    let updates = vec![
        TableUpdate::AddSnapshot { snapshot },
        TableUpdate::SetSnapshotRef { ref_name: MAIN_BRANCH.into(), reference },
    ];
    catalog.commit(ident, requirements, updates).await
}

/// Lets tasks on both handles append snapshots until each got its share through, then counts.
async fn commit_race(handles: [Arc<dyn Catalog>; 2]) -> Result<()> {
    let t = in_namespace(&*handles[0]).await?;
    let unlimited = ("write.metadata.previous-versions-max", "100000");
    handles[0].create_table(&t, new_table()?.with_property(unlimited.0, unlimited.1)).await?;
    let racers = (0..RACERS).map(|racer| {
        let (catalog, t) = (handles[racer % 2].clone(), t.clone());
        tokio::spawn(append_until_done(catalog, t, racer))
    });
    for result in futures::future::join_all(racers).await {
        result.map_err(|e| crate::Error::internal(e.to_string()))??;
    }
    let table = handles[0].load_table(&t).await?;
    check_history(&table, RACERS * COMMITS);
    assert_eq!(handles[1].load_table(&t).await?.metadata, table.metadata);
    assert_eq!(table.metadata.metadata_log().len(), RACERS * COMMITS);
    Ok(())
}

async fn append_until_done(catalog: Arc<dyn Catalog>, t: TableIdent, racer: usize) -> Result<()> {
    for commit in 0..COMMITS {
        let id = (racer * 1000 + commit + 1) as i64;
        loop {
            let base = catalog.load_table(&t).await?;
            match commit_snapshot(&*catalog, &base, &t, id).await {
                Ok(_) => break,
                Err(e) if e.kind() == ErrorKind::CommitConflict => {
                    tokio::task::yield_now().await;
                }
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

/// The table's history is one unbroken chain of exactly `commits` snapshots.
pub fn check_history(table: &LoadedTable, commits: usize) {
    let metadata = &table.metadata;
    let mut chain = Vec::new();
    let mut next = metadata.current_snapshot().cloned();
    while let Some(snapshot) = next {
        chain.push(snapshot.sequence_number());
        next = snapshot.parent_snapshot_id().and_then(|id| metadata.snapshot_by_id(id).cloned());
    }
    let expected: Vec<i64> = (1..=commits as i64).rev().collect();
    assert_eq!(chain, expected, "acknowledged commits are in the history, once each");
    assert_eq!(metadata.snapshots().len(), commits);
}
