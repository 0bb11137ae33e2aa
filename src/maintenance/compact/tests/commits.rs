//! What a compaction leaves behind when nobody is in the way.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::ErrorKind;
use crate::maintenance::CompactOptions;
use crate::maintenance::fixture::*;
use crate::spec::*;
use crate::table::tests::kit::{Fault, partitioned, table};

#[tokio::test]
async fn small_files_become_one_with_the_same_rows_and_no_logical_change() {
    let (_, mut table) = table().await;
    for n in 0..6 {
        table = append(&table, &[2 * n, 2 * n + 1], 1).await;
    }
    let (table, report) = compact(&table, options()).await;

    assert_eq!(ids(&table).await, (0..12).collect::<Vec<_>>());
    assert_eq!(data_files(&table).await.len(), 1);
    assert_eq!(mark(&table), (Operation::Replace, None));
    let shared = &report.report;
    assert_eq!((shared.before.files, shared.after.files, shared.groups), (6, 1, 1));
    assert_eq!((shared.before.rows, shared.after.rows), (12, 12));
    assert_eq!(orphans(&table).await, 0);
}

#[tokio::test]
async fn a_compacted_table_has_nothing_left_to_compact() {
    let (_, mut table) = table().await;
    for n in 0..6 {
        table = append(&table, &[n], 1).await;
    }
    let (table, _) = compact(&table, options()).await;
    let (_, report) = compact(&table, options()).await;
    assert_eq!((report.report.groups, report.snapshots.len()), (0, 0));
}

#[tokio::test]
async fn a_dead_row_goes_and_its_position_deletes_with_it() {
    let (_, mut table) = table().await;
    table = append(&table, &[1, 2, 3], 1).await;
    table = append(&table, &[4, 5, 6], 1).await;
    table = delete_where(&table, "id IN (2, 6)").await;
    assert_eq!(delete_files(&table).await.len(), 2);

    let (table, report) = compact(&table, options()).await;

    assert_eq!(ids(&table).await, [1, 3, 4, 5]);
    assert_eq!(delete_files(&table).await, []);
    assert_eq!(report.removed_delete_files, 2);
    assert_eq!((report.report.before.rows, report.report.after.rows), (6, 4));
}

#[tokio::test]
async fn a_file_of_which_every_row_is_dead_goes_without_a_successor() {
    let (_, mut table) = table().await;
    table = append(&table, &[1, 2], 1).await;
    table = delete_keys(&table, &[1, 2], 1).await;
    table = append(&table, &[3], 1).await;
    let (table, _) = compact(&table, options()).await;
    assert_eq!(ids(&table).await, [3]);
    assert_eq!(data_files(&table).await.len(), 1, "the file of row 3 had no reason to go");
}

#[tokio::test]
async fn groups_are_of_one_partition_and_commit_one_by_one() {
    let (_, mut table) = partitioned().await;
    for n in 0..6i64 {
        table = append(&table, &[n], (n % 2) as i32).await;
    }
    let (table, report) = compact(&table, options()).await;
    assert_eq!(ids(&table).await, (0..6).collect::<Vec<_>>());
    assert_eq!((report.report.groups, report.snapshots.len()), (2, 2));
    assert_eq!(data_files(&table).await.len(), 2);
}

#[tokio::test]
async fn a_thousand_small_partitions_take_a_few_commits() {
    let (_, mut table) = partitioned().await;
    for n in 0..50i64 {
        table = append(&table, &[n], (n % 25) as i32).await;
    }
    let options = CompactOptions { max_commits: 4, ..options() };
    let (table, report) = compact(&table, options).await;
    assert_eq!(ids(&table).await, (0..50).collect::<Vec<_>>());
    assert_eq!((report.report.groups, report.snapshots.len()), (25, 4));
    assert_eq!((data_files(&table).await.len(), orphans(&table).await), (25, 0));
}

#[tokio::test]
async fn finished_groups_with_the_bytes_of_a_large_one_are_committed() {
    let (_, mut table) = partitioned().await;
    for n in 0..12i64 {
        table = append(&table, &[n], (n % 6) as i32).await;
    }
    let bytes = data_files(&table).await.iter().map(|f| f.file_size_in_bytes).max().unwrap();
    let options = CompactOptions { max_commits: 1, max_group_bytes: 3 * bytes, ..options() };
    let (_, report) = compact(&table, options).await;
    assert_eq!((report.report.groups, report.snapshots.len()), (6, 3), "two files a group");
}

#[tokio::test(start_paused = true)]
async fn what_is_finished_is_committed_after_a_while() {
    let (_, mut table) = partitioned().await;
    for n in 0..6i64 {
        table = append(&table, &[n], (n % 3) as i32).await;
    }
    let options = CompactOptions { max_commits: 1, commit_interval: Duration::ZERO, ..options() };
    let (_, report) = compact(&table, options).await;
    assert_eq!((report.report.groups, report.snapshots.len()), (3, 3));
}

#[tokio::test]
async fn a_stopped_compaction_keeps_finished_groups_and_leaves_no_file_behind() {
    // Wherever it is stopped: while rows are read, before the commit, between groups.
    for questions in 0..12 {
        let (_, mut table) = partitioned().await;
        for n in 0..6i64 {
            table = append(&table, &[n], (n % 3) as i32).await;
        }
        let compact = table.compact(options()).progress(StopAfter::questions(questions));
        let report = compact.run().await.unwrap();

        let groups = report.report.groups;
        assert!(report.report.stopped && groups < 3, "{report}");
        assert_eq!(data_files(&table).await.len() as u64, 6 - groups, "{questions} questions");
        assert_eq!(ids(&table).await, (0..6).collect::<Vec<_>>());
        assert_eq!(orphans(&table).await, 0, "{questions} questions");
        let (table, report) = crate::maintenance::fixture::compact(&table, options()).await;
        assert_eq!(report.report.groups, 3 - groups, "the next run goes on");
        assert_eq!(data_files(&table).await.len(), 3);
    }
}

#[tokio::test]
async fn a_group_that_cannot_be_read_fails_alone() {
    let (_, mut table) = partitioned().await;
    for n in 0..6i64 {
        table = append(&table, &[n], (n % 3) as i32).await;
    }
    let broken = data_files(&table).await.into_iter().find(|f| f.file_path.contains("day=1"));
    table.storage().delete(&broken.unwrap().file_path).await.unwrap();

    let report = table.compact(options()).run().await.unwrap();

    assert_eq!(report.report.groups, 2);
    assert_eq!(report.report.failed.len(), 1);
    assert_eq!(report.report.failed[0].what, "day=1");
    assert_eq!(report.report.failed[0].kind, ErrorKind::NotFound);
    assert_eq!(orphans(&table).await, 0);
}

#[tokio::test]
async fn an_unknown_outcome_keeps_the_new_files() {
    let (catalog, mut table) = table().await;
    for n in 0..3 {
        table = append(&table, &[n], 1).await;
    }
    let swaps = catalog.swaps.load(Ordering::Relaxed);
    catalog.fail_next([Fault::NoAnswer; 5]);
    let error = table.compact(options()).run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitStateUnknown);
    assert!(catalog.swaps.load(Ordering::Relaxed) > swaps);
    assert_eq!(orphans(&table).await, 1, "the new file may be part of the table");
    assert_eq!(ids(&table).await, [0, 1, 2]);
}

#[tokio::test]
async fn a_lost_answer_to_a_swap_that_landed_is_found_again() {
    let (catalog, mut table) = table().await;
    for n in 0..3 {
        table = append(&table, &[n], 1).await;
    }
    catalog.fail_next([Fault::AppliedAnswerLost]);
    let report = table.compact(options()).run().await.unwrap();
    assert_eq!(report.report.groups, 1);
    assert_eq!(data_files(&table).await.len(), 1);
    assert_eq!((ids(&table).await, orphans(&table).await), (vec![0, 1, 2], 0));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_loses_every_attempt_of_a_commit_commits_again_without_writing_again() {
    let (catalog, mut table) = table().await;
    for n in 0..3 {
        table = append(&table, &[n], 1).await;
    }
    catalog.fail_next([Fault::Conflict; 7]);
    let report = table.compact(options()).run().await.unwrap();
    assert_eq!((report.report.groups, report.report.conflicts), (1, 1));
    assert_eq!((ids(&table).await, orphans(&table).await), (vec![0, 1, 2], 0));
}

#[tokio::test]
async fn files_of_an_old_spec_move_to_the_current_one_unless_they_are_to_stay() {
    for keep_specs in [false, true] {
        let (_, mut table) = table().await;
        table = append(&table, &[1, 2], 1).await;
        let mixed = file(&table, &[row(3, "c", 1), row(4, "d", 2)], partition(&table, 0)).await;
        table = table.append(mixed).commit().await.unwrap().table;
        table = by_day(&table).await;
        let options = CompactOptions { keep_specs, ..options() };
        let (table, _) = compact(&table, options).await;

        let specs: Vec<i32> = data_files(&table).await.iter().map(|f| f.spec_id).collect();
        assert_eq!(specs, if keep_specs { vec![0] } else { vec![1, 1] });
        assert_eq!(ids(&table).await, [1, 2, 3, 4]);
    }
}

#[tokio::test]
async fn new_files_keep_bloom_filters_and_bounds_of_the_key() {
    let (_, mut table) = table().await;
    table = append(&table, &[5, 6], 1).await;
    table = append(&table, &[1, 2], 1).await;
    let (table, _) = compact(&table, options()).await;
    let file = data_files(&table).await.pop().unwrap();
    assert_eq!(file.lower_bound(1, &PrimitiveType::Long), Some(Datum::long(1)));
    assert_eq!(file.upper_bound(1, &PrimitiveType::Long), Some(Datum::long(6)));
    let footer = crate::file::footer(table.storage(), &file.file_path, None).await.unwrap();
    assert!(footer.row_group(0).column(0).bloom_filter_offset().is_some());
}

/// Partitions the table by `day` from now on.
pub(super) async fn by_day(table: &crate::table::Table) -> crate::table::Table {
    table.update_spec().add_field("day", Transform::Identity, None).commit().await.unwrap()
}
