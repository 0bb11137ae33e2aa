use super::kit::*;
use crate::error::ErrorKind;
use crate::spec::TableUpdate;

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_was_lost_is_found_in_the_head() {
    let (catalog, table) = table().await;
    catalog.fail_next([Fault::AppliedAnswerLost]);
    let done = table.append(rows([data("a", whole())])).commit().await.unwrap();
    assert_eq!(done.snapshot.unwrap().snapshot_id(), done.snapshot_id.0);
    assert_eq!(live(&table).await, [("a".into(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_that_is_our_own_success_is_success() {
    let (catalog, table) = table().await;
    catalog.fail_next([Fault::AppliedSaysConflict]);
    let done = table.append(rows([data("a", whole())])).commit().await.unwrap();
    assert_eq!(live(&done.table).await, [("a".into(), 1)]);
    // Clean-up spared what the landed snapshot refers to.
    assert_eq!(stored(&table).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_deletes_nothing() {
    let (catalog, table) = table().await;
    catalog.fail_next([Fault::NoAnswer]);
    let commit = table.append(rows([data("a", whole())])).discard_on_failure();
    let error = commit.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitStateUnknown);
    assert!(error.hint().is_some_and(|h| h.contains("inspect snapshots")));
    assert_eq!(stored(&table).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_after_another_commit_is_a_conflict_and_retried() {
    let (catalog, table) = table().await;
    // The answer of ours is lost and it did not land; before we look, somebody else commits.
    catalog.fail_next([Fault::NoAnswer]);
    let ours = table.append(rows([data("ours", whole())])).commit();
    let theirs = async {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        table.append(rows([data("theirs", whole())])).commit().await
    };
    let (ours, theirs) = tokio::join!(ours, theirs);
    theirs.unwrap();
    assert_eq!(ours.unwrap().attempts, 2);
    assert_eq!(live(&table).await, [("ours".into(), 2), ("theirs".into(), 1)]);
}

#[tokio::test]
async fn a_definite_failure_discards_the_files_it_was_asked_to() {
    let (_, table) = table().await;
    let file = data("a", whole());
    table.storage().write(&file.file_path, "x".into()).await.unwrap();
    let error =
        table.append(rows([file.clone(), file.clone()])).discard_on_failure().commit().await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(!table.storage().exists(&file.file_path).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_landed_commit_that_expired_before_we_looked_is_not_made_twice() {
    let (catalog, table) = table().await;
    // It lands and says that it did not; before we look again somebody builds on it, and it expires.
    catalog.fail_next([Fault::AppliedSaysConflict]);
    let ours = table.append(rows([data("ours", whole())])).commit();
    let theirs = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let landed = table.refresh().await.unwrap().current_snapshot().unwrap().snapshot_id();
        table.append(rows([data("theirs", whole())])).commit().await.unwrap();
        let updates = vec![TableUpdate::RemoveSnapshots { snapshot_ids: vec![landed] }];
        table.catalog().commit(table.ident(), vec![], updates).await.unwrap();
        landed
    };
    let (ours, landed) = tokio::join!(ours, theirs);
    let ours = ours.unwrap();
    assert_eq!((ours.snapshot_id.0, ours.snapshot.is_none()), (landed, true));
    assert_eq!(live(&table).await, [("ours".into(), 1), ("theirs".into(), 2)]);
}
