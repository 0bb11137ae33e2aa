//! What snapshots of all kinds change, judged from files.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};

use super::*;
use crate::kit;
use crate::spec::*;
use crate::table::tests::kit as commits;
use crate::table::{AddedDelete, SnapshotRange};

async fn planned(table: &Table) -> Arc<SnapshotChanges> {
    let head = table.current_snapshot().unwrap();
    table.plan_changes(head, Grouping::Partition).await.unwrap()
}

fn roles(changes: &SnapshotChanges) -> Vec<Vec<Role>> {
    changes.units().iter().map(|u| u.files.iter().map(|f| f.role).collect()).collect()
}

#[tokio::test]
async fn files_and_not_the_operation_say_what_a_snapshot_changes() {
    let (_catalog, table) = commits::partitioned().await;
    let (one, two) =
        (commits::data("1", commits::day(0, 1)), commits::data("2", commits::day(0, 2)));
    let written = commits::rows([one.clone(), two.clone()]);
    let table = table.overwrite_files(vec![], written).commit().await.unwrap().table;
    let changes = planned(&table).await;
    assert_eq!(changes.class(), ChangeClass::Inserts);
    let files = changes.added_files(0).await.unwrap();
    let paths: Vec<_> = files.iter().map(|f| (f.entry, f.task.file.file_path.clone())).collect();
    assert_eq!(paths, [(0, one.file_path.clone()), (1, two.file_path.clone())]);

    let key = commits::equality("d", commits::day(0, 1));
    let table = table.row_delta(commits::deletes([key])).commit().await.unwrap().table;
    let changes = planned(&table).await;
    assert_eq!(changes.class(), ChangeClass::Mixed);
    assert_eq!(roles(&changes), [[Role::Touched]], "day 2 is out of the delete's reach");
    assert_eq!(changes.units()[0].partition(), Some(&commits::day(0, 1)));

    let new = commits::rows([commits::data("3", commits::day(0, 2))]);
    let table = table.overwrite_files(vec![commits::gone(&two)], new).commit().await.unwrap().table;
    let changes = planned(&table).await;
    let mut found = roles(&changes);
    found.iter_mut().for_each(|roles| roles.sort());
    assert_eq!(found, [[Role::Added, Role::Removed]]);
}

#[tokio::test]
async fn rewrites_and_marked_conversions_change_nothing() {
    let (_catalog, table) = commits::table().await;
    let (old, new) = (commits::data("1", commits::whole()), commits::data("2", commits::whole()));
    let table = table.append(commits::rows([old.clone()])).commit().await.unwrap().table;
    let key = commits::equality("d", commits::whole());
    let table = table.row_delta(commits::deletes([key.clone()])).commit().await.unwrap().table;
    let planned_at = SnapshotId(table.current_snapshot().unwrap().snapshot_id());
    let position = commits::position("p", &old);
    let added = vec![AddedDelete { file: position, sequence_number: None }];
    let keys = vec![commits::gone(&key)];
    let seen = [old.file_path.clone()].into();
    let converted = table.convert_deletes(keys, added, seen, planned_at);
    let table = converted.commit().await.unwrap().table;
    assert_eq!(planned(&table).await.class(), ChangeClass::Nothing);
    let planned_at = SnapshotId(table.current_snapshot().unwrap().snapshot_id());
    let rewritten = table.rewrite_files(vec![commits::gone(&old)], vec![new], planned_at).unwrap();
    let table = rewritten.commit().await.unwrap().table;
    assert_eq!(planned(&table).await.class(), ChangeClass::Nothing);
}

fn one_column() -> Table {
    kit::table(vec![kit::optional(1, "id", PrimitiveType::Long)])
}

async fn file(table: &Table, name: &str, ids: Vec<i64>) -> DataFile {
    let ids: ArrayRef = Arc::new(Int64Array::from(ids));
    kit::file(table, name, &kit::batch(vec![("id", 1, ids)])).await
}

#[tokio::test]
async fn files_dropped_without_a_word_are_found_by_path() {
    let table = one_column();
    let (a, b) = (file(&table, "a", vec![1]).await, file(&table, "b", vec![2]).await);
    let table = kit::append(&table, vec![a]).await;
    let table = kit::append(&table, vec![b]).await;
    // A writer that lists only its own manifest, and says nothing of the two that were there.
    let c = file(&table, "c", vec![3]).await;
    let table = kit::replace_like_others(&table, vec![c]).await;
    let changes = planned(&table).await;
    assert_eq!(changes.class(), ChangeClass::Mixed);
    assert_eq!(roles(&changes), [[Role::Added, Role::Removed, Role::Removed]]);
    let files = changes.files_of(&changes.units()[0]).await.unwrap();
    let removed: Vec<_> = files[1..].iter().map(|f| f.file.file_path.as_str()).collect();
    assert!(removed.contains(&"memory:///t/data/a.parquet"));
    assert!(removed.contains(&"memory:///t/data/b.parquet"));
}

#[tokio::test]
async fn an_expired_parent_is_not_needed() {
    let (_catalog, table) = commits::table().await;
    let (one, two) = (commits::data("1", commits::whole()), commits::data("2", commits::whole()));
    let table =
        table.append(commits::rows([one.clone(), two.clone()])).commit().await.unwrap().table;
    let first = table.current_snapshot().unwrap().snapshot_id();
    let key = commits::equality("d", commits::whole());
    let table = table.row_delta(commits::deletes([key])).commit().await.unwrap().table;
    let second = table.current_snapshot().unwrap().snapshot_id();
    let new = commits::rows([commits::data("3", commits::whole())]);
    let table = table.overwrite_files(vec![commits::gone(&one)], new).commit().await.unwrap().table;
    let before = planned(&table).await;
    let removal = TableUpdate::RemoveSnapshots { snapshot_ids: vec![first, second] };
    table.catalog().commit(table.ident(), vec![], vec![removal]).await.unwrap();
    let table = table.refresh().await.unwrap();
    let head = SnapshotId(table.current_snapshot().unwrap().snapshot_id());
    let range = SnapshotRange { after: Some(SnapshotId(second)), through: head };
    assert_eq!(table.snapshots_between(range).unwrap().len(), 1, "the parent is gone");
    let after = planned(&table).await;
    assert_eq!(roles(&after), roles(&before));
    assert_eq!(after.units()[0].digest(), before.units()[0].digest());
    let files = after.files_of(&after.units()[0]).await.unwrap();
    let removed = files.iter().find(|f| f.role == Role::Removed).unwrap();
    assert_eq!(removed.before.len(), 1, "the delete before it counts for what was removed");
}

#[tokio::test]
async fn a_whole_snapshot_is_read_as_inserts_with_its_deletes() {
    let table = one_column();
    let a = file(&table, "a", vec![1, 2, 3]).await;
    let table = kit::append(&table, vec![a.clone()]).await;
    let dead = kit::positions_of(&table, "p", &a, &[1]).await;
    let table = kit::delete(&table, vec![dead]).await;
    let head = table.current_snapshot().unwrap();
    let all = table.plan_all_rows(head).await.unwrap();
    assert_eq!(all.class(), ChangeClass::Inserts);
    let files = all.added_files(0).await.unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].task.deletes.len(), 1);
}

#[tokio::test]
async fn one_unit_holds_everything_where_a_total_order_is_asked_for() {
    let (_catalog, table) = commits::partitioned().await;
    let files = [1, 2, 3].map(|d| commits::data(&d.to_string(), commits::day(0, d)));
    let table = table.append(commits::rows(files.clone())).commit().await.unwrap().table;
    let gone = files.iter().map(commits::gone).collect();
    let table = table.overwrite_files(gone, commits::rows([])).commit().await.unwrap().table;
    let head = table.current_snapshot().unwrap();
    let parts = table.plan_changes(head, Grouping::Partition).await.unwrap();
    assert_eq!(parts.units().len(), 3);
    let whole = table.plan_changes(head, Grouping::Snapshot).await.unwrap();
    assert_eq!(whole.units().len(), 1);
    assert_eq!(whole.units()[0].files(), 3);
    assert_eq!(whole.units()[0].partition(), None);
}
