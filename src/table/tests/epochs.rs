use super::kit::*;
use crate::error::ErrorKind;
use crate::spec::{SnapshotId, TableUpdate};
use crate::table::{Committed, RefUpdate, Table};

async fn epoch(table: &Table, epoch: u64, name: &str) -> Committed {
    table.append(rows([data(name, whole())])).commit_with("w.1", epoch).await.unwrap()
}

async fn expire(table: &Table, id: SnapshotId) {
    let updates = vec![TableUpdate::RemoveSnapshots { snapshot_ids: vec![id.0] }];
    table.catalog().commit(table.ident(), Vec::new(), updates).await.unwrap();
}

#[tokio::test]
async fn a_repeated_epoch_returns_the_first_snapshot() {
    let (_, table) = table().await;
    let first = epoch(&table, 1, "a").await;
    let again = epoch(&table, 1, "b").await;
    assert!(again.already_done && !first.already_done);
    assert_eq!(again.snapshot_id, first.snapshot_id);
    assert_eq!(live(&table).await, [("a".into(), 1)]);

    let other = table.append(rows([data("c", whole())])).commit_with("w", 1).await.unwrap();
    assert!(!other.already_done);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_epoch_after_an_unknown_outcome_is_not_committed_twice() {
    let (catalog, table) = table().await;
    catalog.fail_next([Fault::NoAnswer]);
    let written = rows([data("a", whole())]);
    let lost = table.append(written.clone()).commit_with("w", 5).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::CommitStateUnknown);
    table.append(written.clone()).commit_with("w", 5).await.unwrap();
    let third = table.append(written).commit_with("w", 5).await.unwrap();
    assert!(third.already_done);
    assert_eq!(live(&table).await, [("a".into(), 1)]);
}

#[tokio::test]
async fn an_epoch_that_was_rolled_back_is_committed_again() {
    let (_, table) = table().await;
    let one = epoch(&table, 1, "a").await;
    let two = epoch(&one.table, 2, "b").await;
    two.table.rollback_to(one.snapshot_id).await.unwrap();
    let again = epoch(&two.table, 2, "b2").await;
    assert!(!again.already_done);
    assert_eq!(live(&table).await, [("a".into(), 1), ("b2".into(), 3)]);
}

#[tokio::test]
async fn an_expired_epoch_is_done_unless_the_branch_was_rolled_back() {
    let (_, table) = table().await;
    let one = epoch(&table, 1, "a").await;
    let plain = one.table.append(rows([data("b", whole())])).commit().await.unwrap();
    expire(&table, one.snapshot_id).await;
    let again = epoch(&plain.table, 1, "c").await;
    assert!(again.already_done && again.snapshot.is_none());
    assert_eq!(again.snapshot_id, one.snapshot_id);

    let more = plain.table.append(rows([data("d", whole())])).commit().await.unwrap();
    more.table.rollback_to(plain.snapshot_id).await.unwrap();
    let asked = table.append(rows([data("e", whole())])).commit_with("w.1", 1).await.unwrap_err();
    assert_eq!(asked.kind(), ErrorKind::ValidationFailed);
    assert!(!epoch(&table, 2, "f").await.already_done);
}

#[tokio::test]
async fn a_branch_made_anew_does_not_vouch_for_the_epochs_of_the_old_one() {
    let (_, table) = table().await;
    let main = table.append(rows([data("m", whole())])).commit().await.unwrap();
    let make = RefUpdate::CreateBranch { name: "b".into(), snapshot: main.snapshot_id };
    let table = main.table.update_ref(make.clone()).await.unwrap();
    let on_b = |name| table.append(rows([data(name, whole())])).branch("b").commit_with("w", 1);
    let one = on_b("a").await.unwrap();
    table.update_ref(RefUpdate::Drop { name: "b".into() }).await.unwrap();
    table.update_ref(make).await.unwrap();
    expire(&table, one.snapshot_id).await;

    let asked = on_b("a").await.map(|done| done.already_done);
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::ValidationFailed, "`a` is not in branch `b`");
}
