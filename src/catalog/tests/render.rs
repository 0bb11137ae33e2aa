//! The same metadata gives the same bytes, however it came about.

use std::sync::Arc;

use crate::catalog::cache::MetadataCache;
use crate::catalog::change;
use crate::catalog::render::refs_after;
use crate::catalog::{LoadedTable, NewTable, read_metadata, write_metadata};
use crate::clock::{Environment, ManualClock, SeededIds};
use crate::spec::{
    NestedField, PrimitiveType, Schema, SnapshotReference, SnapshotRetention, TableUpdate, Type,
    refs_of,
};
use crate::storage::Storage;
use crate::testing::catalog_contract::set;

fn environment(now_ms: u64) -> Environment {
    Environment { clock: Arc::new(ManualClock::new(now_ms)), ids: Arc::new(SeededIds::new(7)) }
}

fn fresh() -> LoadedTable {
    let field = |id: i32| {
        NestedField::required(id, format!("c{id}"), Type::Primitive(PrimitiveType::Long)).into()
    };
    let schema = Schema::builder()
        .with_fields((1..=9).map(field))
        .with_identifier_field_ids(1..=9)
        .build()
        .unwrap();
    let mut new = NewTable::new(schema);
    for n in 0..20 {
        new = new.with_property(format!("p{n}"), "v");
    }
    let metadata = change::create(new, "memory:///t".into(), &environment(1_000)).unwrap();
    loaded(metadata, 0)
}

fn loaded(metadata: crate::spec::TableMetadata, version: usize) -> LoadedTable {
    LoadedTable {
        metadata: Arc::new(metadata),
        metadata_location: format!("memory:///t/metadata/v{version}.metadata.json"),
        config: Default::default(),
        storage: Storage::default(),
    }
}

fn branch(id: i64) -> SnapshotReference {
    SnapshotReference::new(id, SnapshotRetention::branch(None, None, None))
}

fn tag(id: i64) -> SnapshotReference {
    SnapshotReference::new(id, SnapshotRetention::Tag { max_ref_age_ms: Some(5) })
}

fn added(base: &LoadedTable, id: i64) -> TableUpdate {
    let summary = (0..15).map(|n| (format!("total-{n}"), format!("{id}"))).collect();
    let parent = base.metadata.current_snapshot_id();
    let snapshot = crate::spec::Snapshot::builder()
        .with_snapshot_id(id)
        .with_parent_snapshot_id(parent)
        .with_sequence_number(base.metadata.last_sequence_number() + 1)
        .with_timestamp_ms(base.metadata.last_updated_ms() + 1)
        .with_manifest_list(format!("memory:///t/metadata/snap-{id}.avro"))
        .with_summary(crate::spec::Summary {
            operation: crate::spec::Operation::Append,
            additional_properties: summary,
        })
        .with_schema_id(0)
        .build();
    TableUpdate::AddSnapshot { snapshot }
}

fn moved(name: &str, reference: SnapshotReference) -> TableUpdate {
    TableUpdate::SetSnapshotRef { ref_name: name.into(), reference }
}

/// Twelve versions of a table: snapshots, branches, tags, and their removal.
async fn history(cache: &MetadataCache) -> Vec<(LoadedTable, bytes::Bytes)> {
    let mut table = fresh();
    let mut versions = Vec::new();
    for version in 1..=12usize {
        let id = version as i64;
        let updates = match version {
            5 => vec![moved("t", tag(2)), moved("b", branch(3))],
            7 => set("n", "1"),
            9 => vec![TableUpdate::RemoveSnapshotRef { ref_name: "b".into() }],
            11 => vec![
                TableUpdate::RemoveSnapshotRef { ref_name: "t".into() },
                TableUpdate::RemoveSnapshots { snapshot_ids: vec![1, 2] },
            ],
            _ => vec![added(&table, id), moved("main", branch(id))],
        };
        let refs = cache.refs(&table).await.unwrap();
        let at = environment(1_000 + 10 * version as u64);
        let next = change::apply(&table, &refs, &[], updates, &at).unwrap().unwrap();
        let bytes = cache.render(&next.metadata, &next.refs).unwrap();
        assert_eq!(next.refs, refs_of(&next.metadata).unwrap(), "version {version}");
        table = loaded(next.metadata, version);
        let (location, metadata) = (table.metadata_location.clone(), table.metadata.clone());
        cache.put(&location, metadata, next.refs, bytes.len(), None).await;
        versions.push((table.clone(), bytes));
    }
    versions
}

#[tokio::test]
async fn equal_metadata_gives_equal_bytes_with_and_without_kept_texts() {
    for (table, bytes) in history(&MetadataCache::default()).await {
        let read = read_metadata(&bytes, "x").unwrap();
        assert_eq!(read, *table.metadata, "nothing is lost");
        assert_eq!(bytes, write_metadata(&read, false).unwrap(), "another process writes the same");
    }
}

#[tokio::test]
async fn snapshots_of_another_allocation_are_written_anew() {
    let cache = MetadataCache::default();
    let versions = history(&cache).await;
    let (table, bytes) = versions.last().unwrap();
    // The table was dropped and its name, uuid and ids came back with other contents.
    let other = String::from_utf8(bytes.to_vec()).unwrap().replace("snap-", "other-");
    let other = read_metadata(other.as_bytes(), "x").unwrap();
    let refs = refs_of(&other).unwrap();
    assert_eq!(cache.render(&other, &refs).unwrap(), write_metadata(&other, false).unwrap());
    let refs = refs_of(&table.metadata).unwrap();
    assert_eq!(cache.render(&table.metadata, &refs).unwrap(), *bytes);
}

#[tokio::test]
async fn refs_without_changes_stay_as_they_are() {
    let versions = history(&MetadataCache::default()).await;
    let (table, _) = &versions[5];
    let refs = refs_of(&table.metadata).unwrap();
    assert_eq!(refs.len(), 3);
    assert_eq!(refs_after(&refs, &[], &table.metadata), refs);
}

#[tokio::test]
async fn a_snapshot_that_a_ref_names_is_not_removed() {
    let versions = history(&MetadataCache::default()).await;
    let (table, _) = &versions[5];
    let refs = refs_of(&table.metadata).unwrap();
    let remove = |id| TableUpdate::RemoveSnapshots { snapshot_ids: vec![id] };
    let at = environment(2_000);
    let error = change::apply(table, &refs, &[], vec![remove(2)], &at).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::CommitConflict);
    assert!(error.to_string().contains("`t`"), "{error}");
    change::apply(table, &refs, &[], vec![remove(1)], &at).unwrap().unwrap();
}

#[tokio::test]
async fn a_table_dated_by_a_clock_far_ahead_takes_rows_and_explains_why_nothing_else() {
    let now = Environment::default();
    let ahead = environment(now.clock.now_ms() as u64 + 600_000);
    let base = fresh();
    let refs = refs_of(&base.metadata).unwrap();
    let later = change::apply(&base, &refs, &[], set("n", "0"), &ahead).unwrap().unwrap();
    let mut table = loaded(later.metadata, 1);
    for id in [1, 2] {
        let refs = refs_of(&table.metadata).unwrap();
        let rows = vec![added(&table, id), moved("main", branch(id))];
        table = loaded(change::apply(&table, &refs, &[], rows, &now).unwrap().unwrap().metadata, 2);
    }
    let refs = refs_of(&table.metadata).unwrap();
    let error = change::apply(&table, &refs, &[], set("n", "1"), &now).unwrap_err();
    assert_eq!(error.kind(), crate::error::ErrorKind::InvalidInput);
    let text = format!("{error}");
    assert!(text.contains("s ahead of this machine's"), "{text}");
}
