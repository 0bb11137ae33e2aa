use super::kit::*;
use crate::error::ErrorKind;
use crate::spec::{SnapshotRetention, refs_of};
use crate::table::{At, RefUpdate};

#[tokio::test]
async fn commits_go_to_branches_and_never_to_tags() {
    let (_, table) = table().await;
    let one = table.append(rows([data("a", whole())])).commit().await.unwrap();
    let at = one.snapshot_id;
    let branch = RefUpdate::CreateBranch { name: "audit".into(), snapshot: at };
    let tag = RefUpdate::CreateTag { name: "v1".into(), snapshot: at, max_ref_age_ms: None };
    let keep = SnapshotRetention::branch(Some(7), None, None);
    let table = one.table.update_ref(branch.clone()).await.unwrap();
    let table = table.update_ref(tag).await.unwrap();
    let retention = RefUpdate::SetRetention { name: "audit".into(), retention: keep.clone() };
    let table = table.update_ref(retention).await.unwrap();

    let done = table.append(rows([data("b", whole())])).branch("audit").commit().await.unwrap();
    assert_eq!(live(&table).await, [("a".into(), 1)]);
    let refs = refs_of(done.table.metadata()).unwrap();
    assert_eq!(refs["audit"].snapshot_id, done.snapshot_id.0);
    assert_eq!(refs["audit"].retention, keep);

    let on = |name: &str| table.append(rows([data("c", whole())])).branch(name).commit();
    assert_eq!(on("v1").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(on("nope").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(table.update_ref(branch).await.unwrap_err().kind(), ErrorKind::AlreadyExists);

    let forward = RefUpdate::FastForward { name: "main".into(), to: done.snapshot_id };
    let table = done.table.update_ref(forward).await.unwrap();
    assert_eq!(live(&table).await.len(), 2);
    let tagged = table.snapshot_at(&At::Ref("v1".into())).unwrap().unwrap();
    assert_eq!(tagged.snapshot_id(), at.0);
}

#[tokio::test]
async fn a_commit_to_another_branch_does_not_fail_this_one() {
    let (_, table) = table().await;
    let one = table.append(rows([data("a", whole())])).commit().await.unwrap();
    let branch = RefUpdate::CreateBranch { name: "b".into(), snapshot: one.snapshot_id };
    let table = one.table.update_ref(branch).await.unwrap();
    let on_main = table.append(rows([data("m", whole())])).commit();
    let on_branch = table.append(rows([data("n", whole())])).branch("b").commit();
    let (on_main, on_branch) = tokio::join!(on_main, on_branch);
    let numbers = [on_main, on_branch].map(|c| c.unwrap().snapshot.unwrap().sequence_number());
    assert_eq!(numbers.iter().sum::<i64>(), 5);
}

#[tokio::test]
async fn rollback_goes_to_ancestors_only() {
    let (_, table) = table().await;
    let one = table.append(rows([data("a", whole())])).commit().await.unwrap();
    let two = one.table.append(rows([data("b", whole())])).commit().await.unwrap();
    let back = two.table.rollback_to(one.snapshot_id).await.unwrap();
    assert_eq!(live(&back).await, [("a".into(), 1)]);
    let error = back.rollback_to(two.snapshot_id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(back.metadata().properties()["meltwater.rollbacks.main"], "1");
    // The rows of the future are gone, their sequence numbers are not used again.
    let three = back.append(rows([data("c", whole())])).commit().await.unwrap();
    assert_eq!(three.snapshot.unwrap().sequence_number(), 3);
}

#[tokio::test]
async fn time_travel_follows_the_snapshot_log() {
    let (_, table) = table().await;
    let one = table.append(rows([data("a", whole())])).commit().await.unwrap();
    let time = one.snapshot.as_ref().unwrap().timestamp_ms();
    let found = one.table.snapshot_at(&At::TimeMs(time)).unwrap().unwrap();
    assert_eq!(found.snapshot_id(), one.snapshot_id.0);
    let early = one.table.snapshot_at(&At::TimeMs(time - 1)).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::NotFound);
}
