//! Conversions: same rows, no equality deletes, and nothing lost when others commit meanwhile.

use std::sync::Arc;

use futures::TryStreamExt;

use super::*;
use crate::dml::tests::fixture::{Row, delete_files, delete_ids, file, row, rows_of};
use crate::error::ErrorKind;
use crate::maintenance::fixture::{StopAfter, orphans};
use crate::scan::{ChangeClass, Grouping};
use crate::spec::*;
use crate::table::At;
use crate::table::tests::kit::{self, Fault};

async fn append(table: &Table, ids: &[i64], partition: PartitionKey, day: i32) -> Table {
    let rows: Vec<Row> = ids.iter().map(|id| row(*id, &format!("n{id}"), day)).collect();
    let files = file(table, &rows, partition).await;
    table.append(files).commit().await.unwrap().table
}

async fn delete_keys(table: &Table, ids: &[i64], partition: PartitionKey) -> Table {
    let deletes = delete_ids(table, ids, partition).await;
    table.refresh().await.unwrap().row_delta(deletes).commit().await.unwrap().table
}

async fn ids(table: &Table) -> Vec<i64> {
    let table = table.refresh().await.unwrap();
    rows_of(&table, At::Current).await.into_iter().map(|row| row.0).collect()
}

async fn contents(table: &Table) -> Vec<DataContentType> {
    let table = table.refresh().await.unwrap();
    delete_files(&table).await.iter().map(|file| file.content).collect()
}

#[tokio::test]
async fn equality_deletes_become_one_position_delete_file_per_data_file() {
    let (_catalog, table) = kit::table().await;
    let table = append(&table, &[1, 2, 3, 4], kit::whole(), 1).await;
    let table = append(&table, &[5, 6], kit::whole(), 1).await;
    let table = delete_keys(&table, &[2, 6], kit::whole()).await;
    let table = delete_keys(&table, &[2, 3, 99], kit::whole()).await;
    let table = append(&table, &[2], kit::whole(), 1).await;
    let before = ids(&table).await;
    let report = table.convert_equality_deletes(ConvertOptions::default()).run().await.unwrap();
    assert_eq!(report.report.before.files, 2);
    assert_eq!((report.report.after.files, report.report.after.rows), (2, 3));
    assert_eq!(ids(&table).await, before);
    assert_eq!(contents(&table).await, [DataContentType::PositionDeletes; 2]);
    let table = table.refresh().await.unwrap();
    let head = table.current_snapshot().unwrap();
    let changes = table.plan_changes(head, Grouping::Partition).await.unwrap();
    assert_eq!(changes.class(), ChangeClass::Nothing, "followers see nothing of it");
    let again = table.convert_equality_deletes(ConvertOptions::default());
    assert!(again.plan().await.unwrap().is_empty());
}

#[tokio::test]
async fn rows_that_a_position_delete_names_already_are_not_named_again() {
    let (_catalog, table) = kit::table().await;
    let table = append(&table, &[1, 2, 3], kit::whole(), 1).await;
    let filter = crate::expr::parse("id = 2", table.schema()).unwrap();
    let table = table.delete_where(filter).commit().await.unwrap().table;
    let table = delete_keys(&table, &[2], kit::whole()).await;
    let report = table.convert_equality_deletes(ConvertOptions::default()).run().await.unwrap();
    assert_eq!(report.report.after.files, 0);
    assert_eq!(ids(&table).await, [1, 3]);
    assert_eq!(contents(&table).await, [DataContentType::PositionDeletes]);
}

#[tokio::test]
async fn each_partition_is_converted_by_a_commit_of_its_own() {
    let (_catalog, table) = kit::partitioned().await;
    let table = append(&table, &[1, 2], kit::day(0, 1), 1).await;
    let table = append(&table, &[1, 2], kit::day(0, 2), 2).await;
    let table = delete_keys(&table, &[1], kit::day(0, 1)).await;
    let table = delete_keys(&table, &[2], kit::day(0, 2)).await;
    let convert = table.convert_equality_deletes(ConvertOptions::default());
    let plan = convert.plan().await.unwrap();
    let partitions: Vec<_> = plan.groups.iter().map(|g| g.partition.as_str()).collect();
    assert_eq!(partitions, ["day=1", "day=2"]);
    let report = convert.run_plan(plan).await.unwrap();
    assert_eq!(report.snapshots.len(), 2);
    assert_eq!(ids(&table).await, [1, 2]);
    assert_eq!(contents(&table).await, [DataContentType::PositionDeletes; 2]);
}

#[tokio::test]
async fn deletes_and_data_committed_after_the_plan_are_safe() {
    let (_catalog, table) = kit::table().await;
    let table = append(&table, &[1, 2, 3], kit::whole(), 1).await;
    let table = delete_keys(&table, &[1], kit::whole()).await;
    let convert = table.convert_equality_deletes(ConvertOptions::default());
    let plan = convert.plan().await.unwrap();
    let meanwhile = delete_keys(&table, &[2], kit::whole()).await;
    append(&meanwhile, &[1, 2], kit::whole(), 1).await;
    convert.run_plan(plan).await.unwrap();
    assert_eq!(ids(&table).await, [1, 2, 3]);
    let mut left = contents(&table).await;
    left.sort_by_key(|content| *content as i32);
    assert_eq!(left, [DataContentType::PositionDeletes, DataContentType::EqualityDeletes]);
}

#[tokio::test]
async fn a_file_compacted_away_meanwhile_plans_the_group_again() {
    let (_catalog, table) = kit::table().await;
    let table = append(&table, &[1, 2, 3], kit::whole(), 1).await;
    let table = append(&table, &[4, 5], kit::whole(), 1).await;
    let table = delete_keys(&table, &[1, 4], kit::whole()).await;
    let convert = table.convert_equality_deletes(ConvertOptions::default());
    let plan = convert.plan().await.unwrap();
    let options = crate::maintenance::CompactOptions { rewrite_all: true, ..Default::default() };
    table.compact(options).run().await.unwrap();
    let report = convert.run_plan(plan).await.unwrap();
    assert!(report.report.conflicts > 0, "{report}");
    assert_eq!(ids(&table).await, [2, 3, 5]);
    assert_eq!(contents(&table).await, []);
}

#[tokio::test]
async fn a_data_file_that_came_with_an_old_age_keeps_its_delete() {
    let (_catalog, table) = kit::table().await;
    let table = append(&table, &[1, 2], kit::whole(), 1).await;
    let planned_at = SnapshotId(table.current_snapshot().unwrap().snapshot_id());
    let old: Vec<_> = table.scan().plan().await.unwrap().try_collect().await.unwrap();
    let table = delete_keys(&table, &[1], kit::whole()).await;
    let convert = table.convert_equality_deletes(ConvertOptions::default());
    let plan = convert.plan().await.unwrap();
    // A rewrite that read before the delete: its rows are as old as the ones it replaces.
    let rows = file(&table, &[row(1, "n1", 1), row(2, "n2", 1)], kit::whole()).await;
    let removed = vec![crate::table::RemovedFile::new(&old[0].file, Some(old[0].sequence_number))];
    let rewrite = table.rewrite_files(removed, rows.data_files, planned_at).unwrap();
    rewrite.commit().await.unwrap();
    convert.run_plan(plan).await.unwrap();
    assert_eq!(ids(&table).await, [2], "row 1 does not come back");
}

#[tokio::test]
async fn a_plan_of_another_branch_is_refused() {
    let (_catalog, table) = kit::table().await;
    let table = append(&table, &[1], kit::whole(), 1).await;
    let plan = table.convert_equality_deletes(ConvertOptions::default()).plan().await.unwrap();
    let options = ConvertOptions { branch: "other".into(), ..ConvertOptions::default() };
    let error = table.convert_equality_deletes(options.clone()).run_plan(plan).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = table.convert_equality_deletes(options).plan().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// Says stop from the first question on.
#[derive(Debug)]
struct Stop;

impl Progress for Stop {
    fn should_stop(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_stopped_conversion_changes_nothing() {
    let (_catalog, table) = kit::table().await;
    let table = append(&table, &[1, 2], kit::whole(), 1).await;
    let table = delete_keys(&table, &[1], kit::whole()).await;
    let convert = table.convert_equality_deletes(ConvertOptions::default());
    let report = convert.progress(Arc::new(Stop)).run().await.unwrap();
    assert!(report.report.stopped);
    assert_eq!(report.snapshots, []);
    assert_eq!(contents(&table).await, [DataContentType::EqualityDeletes]);
}

#[tokio::test]
async fn a_conversion_stopped_anywhere_leaves_no_file_behind() {
    for questions in 0..8 {
        let (_catalog, table) = kit::partitioned().await;
        let mut table = table;
        for day in [1, 2] {
            let id = i64::from(10 * day);
            table = append(&table, &[id, id + 1], kit::day(0, day), day).await;
            table = delete_keys(&table, &[id], kit::day(0, day)).await;
        }
        let convert = table.convert_equality_deletes(ConvertOptions::default());
        let report = convert.progress(StopAfter::questions(questions)).run().await.unwrap();
        assert_eq!(report.snapshots.len() as u64, report.report.groups);
        assert_eq!((ids(&table).await, orphans(&table).await), (vec![11, 21], 0), "{questions}");
        let rest = table.refresh().await.unwrap();
        let rest = rest.convert_equality_deletes(ConvertOptions::default()).run().await.unwrap();
        assert_eq!(report.report.groups + rest.report.groups, 2, "the next run goes on");
        assert_eq!((ids(&table).await, orphans(&table).await), (vec![11, 21], 0));
    }
}

#[tokio::test]
async fn an_unknown_outcome_keeps_the_position_deletes() {
    let (catalog, table) = kit::table().await;
    let table = append(&table, &[1, 2], kit::whole(), 1).await;
    let table = delete_keys(&table, &[1], kit::whole()).await;
    catalog.fail_next([Fault::NoAnswer; 5]);
    let convert = table.convert_equality_deletes(ConvertOptions::default());
    let error = convert.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitStateUnknown);
    assert_eq!((ids(&table).await, orphans(&table).await), (vec![2], 1), "it may be the table's");
}
