//! One behaviour each: what goes, what stays, who conflicts.

use super::fixture::*;
use crate::error::ErrorKind;
use crate::expr::parse;
use crate::spec::*;
use crate::table::tests::kit::{Fault, day, partitioned, table, whole};
use crate::table::{At, Isolation, RefUpdate, RemovedFile, Table, WriteResult};

fn filter(table: &Table, text: &str) -> Predicate {
    parse(text, table.schema()).unwrap()
}

/// Days 1 and 2 with ids 1, 2, 3 and 4, 5, 6.
async fn two_days() -> Table {
    let (_, table) = partitioned().await;
    let spec = table.metadata().default_partition_spec_id();
    let one = [row(1, "a", 1), row(2, "b", 1), row(3, "c", 1)];
    let two = [row(4, "a", 2), row(5, "b", 2), row(6, "c", 2)];
    let files = file(&table, &one, day(spec, 1)).await;
    let files = files.merge(file(&table, &two, day(spec, 2)).await);
    table.append(files).commit().await.unwrap().table
}

#[tokio::test]
async fn a_partition_that_matches_goes_as_a_whole_without_being_read() {
    let table = two_days().await;
    let report = table.delete_where(filter(&table, "day = 1")).commit().await.unwrap();
    assert_eq!((report.removed_files, report.removed_rows), (1, 3));
    assert_eq!((report.searched_files, report.position_delete_files), (0, 0));
    assert_eq!(ids(&report.table).await, [4, 5, 6]);
    let head = report.table.current_snapshot().unwrap();
    assert_eq!(head.summary().operation, Operation::Delete);
}

#[tokio::test]
async fn a_file_whose_bounds_match_goes_as_a_whole() {
    let table = two_days().await;
    let report = table.delete_where(filter(&table, "id >= 4")).commit().await.unwrap();
    assert_eq!((report.removed_files, report.searched_files), (1, 0));
    assert_eq!(ids(&report.table).await, [1, 2, 3]);
}

#[tokio::test]
async fn rows_of_other_files_are_deleted_by_position_in_the_files_own_partition() {
    let table = two_days().await;
    // The table's spec moves on; deletes still carry the spec of their data file.
    let table =
        table.update_spec().add_field("id", Transform::Bucket(2), None).commit().await.unwrap();
    let report = table.delete_where(filter(&table, "name = 'b'")).commit().await.unwrap();
    assert_eq!((report.removed_files, report.deleted_rows), (0, 2));
    assert_eq!(report.position_delete_files, 2);
    assert_eq!(ids(&report.table).await, [1, 3, 4, 6]);
    let deletes = delete_files(&report.table).await;
    let spec = deletes[0].spec_id;
    assert_ne!(spec, table.metadata().default_partition_spec_id());
    for delete in deletes {
        let path = delete.referenced_data_file.clone().unwrap();
        let day = if path.contains("day=1") { 1 } else { 2 };
        assert_eq!(delete.partition, Struct::from_iter([Some(Literal::int(day))]));
        assert_eq!(delete.record_count, 1);
    }
}

#[tokio::test]
async fn rows_that_are_dead_already_are_not_deleted_again() {
    let table = two_days().await;
    let spec = table.metadata().default_partition_spec_id();
    let table = table.delete_where(filter(&table, "id = 1")).commit().await.unwrap().table;
    let deletes = delete_ids(&table, &[2], day(spec, 1)).await;
    let table = table.row_delta(deletes).commit().await.unwrap().table;

    let again = table.delete_where(filter(&table, "id IN (1, 2)")).commit().await.unwrap();
    assert_eq!((again.snapshot_id, again.deleted_rows), (None, 0));
    assert_eq!(again.table.current_snapshot(), table.current_snapshot());
}

#[tokio::test]
async fn a_file_of_which_the_last_rows_go_is_removed() {
    let table = two_days().await;
    let table = table.delete_where(filter(&table, "name = 'a'")).commit().await.unwrap().table;
    // Nothing but looking tells that every row that is left matches.
    let both = filter(&table, "name = 'b' OR name = 'c'");
    let report = table.delete_where(both).commit().await.unwrap();
    assert_eq!((report.searched_files, report.removed_files), (2, 2));
    assert_eq!(report.position_delete_files, 0);
    assert!(ids(&report.table).await.is_empty());
}

#[tokio::test]
async fn nothing_to_delete_commits_nothing() {
    let table = two_days().await;
    for text in ["id = 99", "FALSE", "name = 'bb'"] {
        let report = table.delete_where(filter(&table, text)).commit().await.unwrap();
        assert_eq!(report.snapshot_id, None, "{text}");
    }
    let (_, empty) = partitioned().await;
    let report = empty.delete_where(Predicate::AlwaysTrue).commit().await.unwrap();
    assert_eq!(report.snapshot_id, None);
    assert_eq!(stored(&table).await, 2);
}

#[tokio::test]
async fn a_delete_of_everything_removes_every_file() {
    let table = two_days().await;
    let report = table.delete_where(filter(&table, "TRUE")).commit().await.unwrap();
    assert_eq!((report.removed_files, report.searched_files), (2, 0));
    assert!(ids(&report.table).await.is_empty());
}

#[tokio::test]
async fn a_plan_is_printed_and_then_done() {
    let table = two_days().await;
    let delete = table.delete_where(filter(&table, "day = 1 OR name = 'b'"));
    let plan = delete.plan().await.unwrap();
    let shown = plan.to_string();
    let first = "delete where day = 1 OR name = 'b' on branch main: \
                 1 files with 3 rows go, 1 files with 3 rows are searched";
    assert_eq!(shown.lines().next(), Some(first));
    assert_eq!(shown.lines().count(), 3);
    assert_eq!(
        plan.files().map(|f| (f.partition, f.whole)).collect::<Vec<_>>(),
        [("day=1", true), ("day=2", false)]
    );
    assert_eq!(ids(&table).await.len(), 6);

    let other = table.delete_where(filter(&table, "id = 1"));
    let error = other.commit_plan(plan.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);

    let report = delete.commit_plan(plan).await.unwrap();
    assert_eq!((report.removed_files, report.deleted_rows, report.plans), (1, 1, 1));
    assert_eq!(ids(&report.table).await, [4, 6]);
}

#[tokio::test]
async fn rows_added_meanwhile_that_may_match_are_deleted_by_planning_again() {
    let table = two_days().await;
    let spec = table.metadata().default_partition_spec_id();
    let delete = table.delete_where(filter(&table, "name = 'b'"));
    let plan = delete.plan().await.unwrap();
    let late = file(&table, &[row(7, "a", 1), row(8, "b", 1)], day(spec, 1)).await;
    table.append(late).commit().await.unwrap();

    let refused = delete.clone().replans(0).commit_plan(plan.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ValidationFailed);
    assert_eq!(stored(&table).await, 3, "position deletes of the failed attempt are gone");

    let snapshot = delete.clone().isolation(Isolation::Snapshot);
    let report = delete.commit_plan(plan).await.unwrap();
    assert_eq!((report.plans, report.deleted_rows), (2, 3));
    assert_eq!(ids(&report.table).await, [1, 3, 4, 6, 7]);
    assert_eq!(snapshot.commit().await.unwrap().plans, 1);
}

#[tokio::test]
async fn rows_added_meanwhile_stay_under_snapshot_isolation() {
    let table = two_days().await;
    let spec = table.metadata().default_partition_spec_id();
    let table =
        table.update_properties().set("write.delete.isolation-level", "snapshot").commit().await;
    let table = table.unwrap();
    let delete = table.delete_where(filter(&table, "name = 'b'"));
    let plan = delete.plan().await.unwrap();
    let late = file(&table, &[row(8, "b", 1)], day(spec, 1)).await;
    table.append(late).commit().await.unwrap();

    let report = delete.commit_plan(plan).await.unwrap();
    assert_eq!((report.plans, report.deleted_rows), (1, 2));
    assert_eq!(ids(&report.table).await, [1, 3, 4, 6, 8]);
}

#[tokio::test]
async fn a_file_compacted_meanwhile_is_looked_up_again() {
    let table = two_days().await;
    let spec = table.metadata().default_partition_spec_id();
    let head = table.current_snapshot().unwrap();
    let delete = table.delete_where(filter(&table, "name = 'b'"));
    let plan = delete.plan().await.unwrap();
    let old = plan.files().next().unwrap().path.to_string();
    let old_day = if old.contains("day=1") { 1 } else { 2 };
    let first = i64::from(old_day - 1) * 3;
    let rows =
        [row(first + 1, "a", old_day), row(first + 2, "b", old_day), row(first + 3, "c", old_day)];
    let new = file(&table, &rows, day(spec, old_day)).await;
    let gone = RemovedFile {
        path: old,
        partition: day(spec, old_day),
        content: DataContentType::Data,
        sequence_number: None,
        equality_ids: Vec::new(),
    };
    let at = SnapshotId(head.snapshot_id());
    table.rewrite_files(vec![gone], new.data_files, at).unwrap().commit().await.unwrap();

    let report = delete.commit_plan(plan).await.unwrap();
    assert_eq!((report.plans, report.deleted_rows), (2, 2));
    assert_eq!(ids(&report.table).await, [1, 3, 4, 6]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_keeps_the_position_deletes() {
    let (catalog, table) = table().await;
    let rows = file(&table, &[row(1, "a", 1), row(2, "b", 1)], whole()).await;
    let table = table.append(rows).commit().await.unwrap().table;
    catalog.fail_next([Fault::NoAnswer]);
    let error = table.delete_where(filter(&table, "name = 'b'")).commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitStateUnknown);
    assert_eq!(stored(&table).await, 2);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_fails_the_delete_and_leaves_nothing_behind() {
    let table = two_days().await;
    let plan = table.delete_where(filter(&table, "name = 'b'")).plan().await.unwrap();
    let lost = plan.files().next().unwrap().path.to_string();
    table.storage().delete(&lost).await.unwrap();
    let delete = table.delete_where(filter(&table, "name = 'b'")).parallelism(1);
    let error = delete.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(stored(&table).await, 1);
}

#[tokio::test]
async fn a_branch_is_deleted_from_without_touching_main() {
    let table = two_days().await;
    let snapshot = SnapshotId(table.current_snapshot().unwrap().snapshot_id());
    let branch = RefUpdate::CreateBranch { name: "audit".into(), snapshot };
    let table = table.update_ref(branch).await.unwrap();
    let delete = table.delete_where(filter(&table, "id <= 4")).branch("audit");
    let report = delete.commit().await.unwrap();
    assert_eq!((report.removed_files, report.deleted_rows), (1, 1));
    let audit = rows_of(&report.table, At::Ref("audit".into())).await;
    assert_eq!(audit.iter().map(|r| r.0).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(ids(&report.table).await.len(), 6);
    let nowhere = table.delete_where(filter(&table, "id = 1")).branch("nope").commit().await;
    assert_eq!(nowhere.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn an_overwrite_replaces_matching_rows_in_one_snapshot() {
    let table = two_days().await;
    let spec = table.metadata().default_partition_spec_id();
    let new = file(&table, &[row(10, "z", 1)], day(spec, 1)).await;
    let overwrite = table.overwrite_where(filter(&table, "day = 1 OR id = 4"), new);
    let report = overwrite.commit().await.unwrap();
    assert_eq!((report.removed_files, report.deleted_rows), (1, 1));
    assert_eq!(ids(&report.table).await, [5, 6, 10]);
    let head = report.table.current_snapshot().unwrap();
    assert_eq!(head.summary().operation, Operation::Overwrite);
    assert_eq!(head.parent_snapshot_id(), table.current_snapshot().map(|s| s.snapshot_id()));
}

#[tokio::test]
async fn a_strict_overwrite_refuses_partial_files_and_rows_outside_the_filter() {
    let table = two_days().await;
    let spec = table.metadata().default_partition_spec_id();
    let new = file(&table, &[row(10, "z", 1)], day(spec, 1)).await;
    let overwrite = |text: &str| table.overwrite_where(filter(&table, text), new.clone());

    let partial = overwrite("day = 1 OR id = 4").whole_files_only().commit().await.unwrap_err();
    assert_eq!(partial.kind(), ErrorKind::ValidationFailed);
    let outside = overwrite("day = 2").rows_must_match().commit().await.unwrap_err();
    assert_eq!(outside.kind(), ErrorKind::InvalidInput);
    assert!(table.storage().exists(&new.data_files[0].file_path).await.unwrap());

    let done = overwrite("day = 1").whole_files_only().rows_must_match().commit().await.unwrap();
    assert_eq!(ids(&done.table).await, [4, 5, 6, 10]);
}

#[tokio::test]
async fn an_overwrite_of_an_empty_table_is_an_append() {
    let (_, table) = table().await;
    let new = file(&table, &[row(1, "a", 1)], whole()).await;
    let report = table.overwrite_where(Predicate::AlwaysTrue, new).commit().await.unwrap();
    assert_eq!(ids(&report.table).await, [1]);
    let nothing = table.overwrite_where(Predicate::AlwaysFalse, WriteResult::default());
    assert_eq!(nothing.commit().await.unwrap().snapshot_id, None);
}
