//! Merged deletes: same rows at any interleaving, fewer files, and no file that deletes nothing.

use super::*;
use crate::dml::tests::fixture::{delete_files, delete_ids, file, row};
use crate::error::ErrorKind;
use crate::maintenance::CompactOptions;
use crate::maintenance::fixture::{
    StopAfter, ages, append, compact, data_files, delete_keys, delete_where, ids, mark, options,
    orphans, partition,
};
use crate::scan::{ChangeClass, Grouping};
use crate::spec::DataContentType::{EqualityDeletes, PositionDeletes};
use crate::spec::*;
use crate::table::RemovedFile;
use crate::table::tests::kit::{self, Fault};

fn rewrite(table: &Table) -> RewriteDeletes {
    table.rewrite_position_deletes(RewriteDeletesOptions {
        max_concurrent_files: 1,
        ..RewriteDeletesOptions::default()
    })
}

async fn run(table: &Table) -> (Table, RewriteDeletesReport) {
    let report = rewrite(&table.refresh().await.unwrap()).run().await.unwrap();
    (table.refresh().await.unwrap(), report)
}

async fn deletes(table: &Table) -> Vec<DataFile> {
    delete_files(&table.refresh().await.unwrap()).await
}

/// Files of five and four rows: the first lost rows in three commits (3, 4, 5), the second in one (5).
async fn deleted_often() -> Table {
    let (_, mut table) = kit::table().await;
    table = append(&table, &[0, 1, 2, 3, 9], 1).await;
    table = append(&table, &[4, 5, 6, 7], 1).await;
    for filter in ["id = 0", "id = 2", "id IN (3, 7)"] {
        table = delete_where(&table, filter).await;
    }
    table
}

#[tokio::test]
async fn many_position_delete_files_of_a_data_file_become_one() {
    let table = deleted_often().await;
    let (table, report) = run(&table).await;
    assert_eq!(ids(&table).await, [1, 4, 5, 6, 9]);
    let shared = &report.report;
    assert_eq!((shared.before.files, shared.after.files, shared.groups), (3, 1, 1));
    assert_eq!((shared.before.rows, shared.after.rows), (3, 3));
    let left = deletes(&table).await;
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|file| file.referenced_path().is_some()));
    assert_eq!(orphans(&table).await, 0);
    assert!(rewrite(&table).plan().await.unwrap().is_empty(), "once is enough");
}

#[tokio::test]
async fn followers_see_nothing_of_it() {
    let (table, _) = run(&deleted_often().await).await;
    assert_eq!(mark(&table), (Operation::Replace, None));
    let head = table.current_snapshot().unwrap();
    let changes = table.plan_changes(head, Grouping::Partition).await.unwrap();
    assert_eq!(changes.class(), ChangeClass::Nothing);
}

#[tokio::test]
async fn a_merged_delete_has_the_age_of_its_youngest_part() {
    let table = deleted_often().await;
    assert_eq!(ages(&table, PositionDeletes).await, [3, 4, 5, 5]);
    let (table, _) = run(&table).await;
    assert_eq!(ages(&table, PositionDeletes).await, [5, 5]);
}

#[tokio::test]
async fn deletes_committed_after_the_plan_stay_beside_the_merged_ones() {
    let table = deleted_often().await;
    let rewrite = rewrite(&table);
    let plan = rewrite.plan().await.unwrap();
    delete_where(&table, "id = 1").await;
    let report = rewrite.run_plan(plan).await.unwrap();
    assert_eq!(ids(&table).await, [4, 5, 6, 9]);
    assert_eq!((report.report.groups, report.report.conflicts), (1, 0));
    assert_eq!(deletes(&table).await.len(), 3);
}

#[tokio::test]
async fn a_data_file_compacted_away_meanwhile_leaves_the_others_of_the_batch_alone() {
    let (_, mut table) = kit::partitioned().await;
    for day in [1, 2] {
        table = append(&table, &[0, 1, 2, 3], day).await;
    }
    for filter in ["id = 0", "id = 2"] {
        table = delete_where(&table, filter).await;
    }
    let rewrite = rewrite(&table);
    let plan = rewrite.plan().await.unwrap();
    assert_eq!(plan.groups.len(), 2, "{plan}");
    let day = crate::expr::parse("day = 1", table.schema()).unwrap();
    let options = CompactOptions { filter: Some(day), rewrite_all: true, ..options() };
    compact(&table, options).await;

    let report = rewrite.run_plan(plan).await.unwrap();

    assert_eq!(ids(&table).await, [1, 1, 3, 3]);
    assert_eq!((report.report.groups, report.report.conflicts), (1, 1), "{report}");
    assert_eq!((deletes(&table).await.len(), orphans(&table).await), (1, 0));
}

#[tokio::test]
async fn a_compaction_that_read_before_the_merge_brings_no_row_back() {
    let table = deleted_often().await;
    let compact = table.compact(options());
    let plan = compact.plan().await.unwrap();
    delete_where(&table, "id = 5").await;
    delete_where(&table, "id = 6").await;
    run(&table).await;
    let report = compact.run_plan(plan).await.unwrap();
    assert_eq!(ids(&table).await, [1, 4, 9]);
    assert_eq!(report.carried_deletes, 2);
    assert_eq!(orphans(&table).await, 0);
}

#[tokio::test]
async fn what_was_read_and_then_rolled_back_is_planned_again() {
    let table = deleted_often().await;
    let before = table.current_snapshot().unwrap().parent_snapshot_id().unwrap();
    let rewrite = rewrite(&table);
    let plan = rewrite.plan().await.unwrap();
    table.rollback_to(SnapshotId(before)).await.unwrap();
    let report = rewrite.run_plan(plan).await.unwrap();
    assert_eq!(ids(&table).await, [1, 3, 4, 5, 6, 7, 9]);
    assert_eq!((report.report.before.files, report.report.conflicts), (2, 1));
    assert_eq!(orphans(&table).await, 0);
}

#[tokio::test]
async fn two_rewrites_at_once_do_the_work_once() {
    let table = deleted_often().await;
    let runs = tokio::join!(rewrite(&table).run(), rewrite(&table).run());
    assert_eq!(runs.0.unwrap().report.groups + runs.1.unwrap().report.groups, 1);
    assert_eq!((ids(&table).await, orphans(&table).await), (vec![1, 4, 5, 6, 9], 0));
}

#[tokio::test]
async fn position_deletes_of_a_file_that_is_gone_go_too() {
    let table = deleted_often().await;
    let files = data_files(&table).await;
    let gone =
        files.iter().find(|f| f.upper_bound(1, &PrimitiveType::Long) == Some(Datum::long(9)));
    let removed = vec![RemovedFile::new(gone.unwrap(), None)];
    // As the reference does it: the data file goes, its position deletes stay.
    table.refresh().await.unwrap().delete_files(removed).commit().await.unwrap();
    assert_eq!(deletes(&table).await.len(), 4);

    let plan = rewrite(&table.refresh().await.unwrap()).plan().await.unwrap();
    assert_eq!((plan.dangling.len(), plan.groups.len()), (3, 0), "{plan}");
    let (table, report) = run(&table).await;

    assert_eq!(ids(&table).await, [4, 5, 6]);
    assert_eq!(deletes(&table).await.len(), 1);
    assert_eq!(report.dangling_position_deletes.files, 3);
    assert_eq!(mark(&table).0, Operation::Replace);
}

#[tokio::test]
async fn an_equality_delete_goes_when_its_partition_has_no_older_row() {
    let (_, mut table) = kit::partitioned().await;
    table = delete_keys(&table, &[1], 1).await;
    table = append(&table, &[1, 2], 1).await;
    table = append(&table, &[1, 2], 2).await;
    table = delete_keys(&table, &[1], 2).await;
    let (table, report) = run(&table).await;
    assert_eq!(ids(&table).await, [1, 2, 2]);
    assert_eq!(report.dangling_equality_deletes.files, 1);
    assert_eq!(ages(&table, EqualityDeletes).await, [4], "day 2 needs its delete");
}

#[tokio::test]
async fn an_equality_delete_of_the_age_of_its_rows_deletes_nothing() {
    let (_, mut table) = kit::table().await;
    let mut written = file(&table, &[row(1, "a", 1)], kit::whole()).await;
    written.delete_files = delete_ids(&table, &[1], kit::whole()).await.delete_files;
    table = table.row_delta(written).commit().await.unwrap().table;
    let (table, report) = run(&table).await;
    assert_eq!((ids(&table).await, report.dangling_equality_deletes.files), (vec![1], 1));
}

#[tokio::test]
async fn a_global_equality_delete_stays_while_any_spec_has_older_rows() {
    // The reference looks for data of the delete's own spec, finds none, and the row is back.
    let (_, mut table) = kit::partitioned().await;
    table = append(&table, &[1, 2], 1).await;
    let old = partition(&table, 1);
    table = table.update_spec().remove_field("day").commit().await.unwrap();
    table = delete_keys(&table, &[1], 1).await;
    let (table, report) = run(&table).await;
    assert_eq!(ids(&table).await, [2]);
    assert_eq!(report.dangling_equality_deletes.files, 0);

    let files = data_files(&table).await;
    assert_eq!(files[0].partition_key(), old);
    let removed = vec![RemovedFile::new(&files[0], None)];
    let table = table.delete_files(removed).commit().await.unwrap().table;
    let table = append(&table, &[1], 1).await;
    // With no older row left in any spec it may go; the age floor has left it to us.
    let (table, _) = run(&table).await;
    assert_eq!((ids(&table).await, deletes(&table).await.len()), (vec![1], 0));
}

#[tokio::test]
async fn a_filter_leaves_other_partitions_and_deletes_of_the_whole_table_alone() {
    let (_, mut table) = kit::partitioned().await;
    table = delete_keys(&table, &[1], 1).await;
    table = delete_keys(&table, &[1], 2).await;
    table = table.update_spec().remove_field("day").commit().await.unwrap();
    table = delete_keys(&table, &[1], 1).await;
    table = table.update_spec().add_field("day", Transform::Identity, None).commit().await.unwrap();
    let filter = Some(crate::expr::parse("day = 1", table.schema()).unwrap());
    let options = RewriteDeletesOptions { filter, ..RewriteDeletesOptions::default() };
    let plan = table.rewrite_position_deletes(options).plan().await.unwrap();
    assert_eq!(plan.dangling.len(), 1, "{plan}");
    let all = rewrite(&table).plan().await.unwrap();
    assert_eq!(all.dangling.len(), 3, "{all}");
}

#[tokio::test]
async fn an_equality_delete_that_older_rows_need_again_stays() {
    // Planned when nothing was older; then a rewrite that read before the delete puts its rows there.
    let (_, mut table) = kit::table().await;
    table = append(&table, &[1, 2], 1).await;
    let planned_at = SnapshotId(table.current_snapshot().unwrap().snapshot_id());
    let old = data_files(&table).await;
    let table = delete_keys(&table, &[1], 1).await;
    let rewrite = rewrite(&table);
    let mut plan = rewrite.plan().await.unwrap();
    assert!(plan.dangling.is_empty());
    // A plan that is out of date, made by hand.
    let index = table.scan().context().unwrap().plan().await.unwrap().deletes;
    plan.dangling = dangling::Living::default().dangling(&table, &index, false).unwrap();
    assert_eq!(plan.dangling.len(), 1);
    let rows = file(&table, &[row(1, "n1", 1), row(2, "n2", 1)], kit::whole()).await;
    let removed = vec![RemovedFile::new(&old[0], None)];
    let commit = table.rewrite_files(removed, rows.data_files, planned_at).unwrap();
    commit.commit().await.unwrap();
    let report = rewrite.run_plan(plan).await.unwrap();
    assert_eq!((report.report.conflicts, report.dangling_equality_deletes.files), (1, 0));
    assert_eq!(ids(&table).await, [2]);
}

#[tokio::test]
async fn a_stopped_rewrite_leaves_no_file_behind_and_keeps_what_is_finished() {
    for questions in 0..12 {
        let table = deleted_often().await;
        let stop = StopAfter::questions(questions);
        let report = rewrite(&table).progress(stop).run().await.unwrap();
        assert_eq!(report.report.groups, report.report.after.files);
        assert_eq!((ids(&table).await, orphans(&table).await), (vec![1, 4, 5, 6, 9], 0));
    }
}

#[tokio::test]
async fn an_unknown_outcome_keeps_the_merged_files() {
    let (catalog, table) = kit::table().await;
    let mut table = append(&table, &[0, 1, 2], 1).await;
    for filter in ["id = 0", "id = 2"] {
        table = delete_where(&table, filter).await;
    }
    catalog.fail_next([Fault::NoAnswer; 5]);
    let error = rewrite(&table).run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitStateUnknown);
    assert_eq!((ids(&table).await, orphans(&table).await), (vec![1], 1));
}

#[tokio::test]
async fn options_and_plans_that_do_not_fit_are_refused() {
    let table = deleted_often().await;
    let plan = rewrite(&table).plan().await.unwrap();
    let other = RewriteDeletesOptions { branch: "other".into(), ..Default::default() };
    let error = table.rewrite_position_deletes(other.clone()).run_plan(plan).await.unwrap_err();
    assert!(error.to_string().contains("made for another table or branch"), "{error}");
    let filter = |text| Some(crate::expr::parse(text, table.schema()).unwrap());
    let unbound = Some(Reference::new("nope").equal_to(Datum::long(1)));
    for (bad, kind, words) in [
        (other, ErrorKind::NotFound, "no branch or tag `other`"),
        (
            RewriteDeletesOptions { min_input_files: 1, ..Default::default() },
            ErrorKind::InvalidInput,
            "one delete file cannot be merged",
        ),
        (
            RewriteDeletesOptions { filter: filter("id = 1"), ..Default::default() },
            ErrorKind::InvalidInput,
            "not partitioned by `id`",
        ),
        (
            RewriteDeletesOptions { filter: unbound, ..Default::default() },
            ErrorKind::InvalidInput,
            "nope",
        ),
    ] {
        let error = table.rewrite_position_deletes(bad).plan().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_table_without_commits_has_nothing_to_do() {
    let (_, table) = kit::table().await;
    let (_, report) = run(&table).await;
    assert_eq!(report.snapshots, []);
}
