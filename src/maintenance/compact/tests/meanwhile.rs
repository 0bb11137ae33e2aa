//! What others commit while a compaction is under way: between its plan and its commit.

use std::collections::HashSet;

use super::commits::by_day;
use crate::error::ErrorKind;
use crate::maintenance::fixture::*;
use crate::maintenance::{CompactOptions, SortBy, SortColumn};
use crate::spec::*;
use crate::table::tests::kit::{partitioned, table};
use crate::table::{AddedDelete, RemovedFile, Table};

/// Three files of three rows.
async fn three_files() -> Table {
    let (_, mut table) = table().await;
    for n in 0..3 {
        table = append(&table, &[3 * n, 3 * n + 1, 3 * n + 2], 1).await;
    }
    table
}

#[tokio::test]
async fn position_deletes_committed_meanwhile_are_translated_to_the_new_file() {
    let mut table = three_files().await;
    table = delete_where(&table, "id IN (1, 3)").await;
    let compact = table.compact(options());
    let plan = compact.plan().await.unwrap();
    delete_where(&table, "id IN (0, 5)").await;
    delete_where(&table, "id = 7").await;

    let report = compact.run_plan(plan).await.unwrap();

    let table = table.refresh().await.unwrap();
    assert_eq!(ids(&table).await, [2, 4, 6, 8]);
    assert_eq!((report.carried_deletes, report.report.conflicts), (3, 0));
    assert_eq!(mark(&table), (Operation::Overwrite, Some("none".to_string())));
    let deletes = delete_files(&table).await;
    let files = data_files(&table).await;
    assert_eq!((files.len(), deletes.len()), (1, 1), "old deletes went with their files");
    assert_eq!(deletes[0].referenced_path(), Some(files[0].file_path.as_str()));
    assert_eq!(orphans(&table).await, 0);
}

#[tokio::test]
async fn equality_deletes_committed_meanwhile_still_kill() {
    let table = three_files().await;
    let compact = table.compact(options());
    let plan = compact.plan().await.unwrap();
    delete_keys(&table, &[0, 4], 1).await;
    let report = compact.run_plan(plan).await.unwrap();
    assert_eq!(ids(&table).await, [1, 2, 3, 5, 6, 7, 8]);
    assert_eq!((report.report.conflicts, report.carried_deletes), (0, 0));
    assert_eq!(mark(&table.refresh().await.unwrap()).0, Operation::Replace);
}

#[tokio::test]
async fn rows_do_not_come_back_when_an_append_follows_the_equality_delete() {
    // Upstream #10312: the reference drops the delete of sequence 4 because the oldest live data
    // seems to be the append of sequence 5, and forgets that its own output has sequence 3.
    let table = three_files().await;
    let compact = table.compact(options());
    let plan = compact.plan().await.unwrap();
    let later = delete_keys(&table, &[4], 1).await;
    append(&later, &[100], 1).await;
    compact.run_plan(plan).await.unwrap();
    assert_eq!(ids(&table).await, [0, 1, 2, 3, 5, 6, 7, 8, 100]);
}

#[tokio::test]
async fn rows_do_not_come_back_after_two_deletes_without_data() {
    let table = three_files().await;
    let compact = table.compact(options());
    let plan = compact.plan().await.unwrap();
    let later = delete_keys(&table, &[4], 1).await;
    delete_keys(&later, &[5], 1).await;
    compact.run_plan(plan).await.unwrap();
    assert_eq!(ids(&table).await, [0, 1, 2, 3, 6, 7, 8]);
}

#[tokio::test]
async fn an_equality_delete_converted_meanwhile_is_carried_over() {
    // The reference looks at neither: not at the equality delete, which is effective by sequence,
    // and not at the position delete that a `replace` snapshot puts in its place.
    let table = three_files().await;
    let compact = table.compact(options());
    let plan = compact.plan().await.unwrap();
    let deleted = delete_keys(&table, &[4], 1).await;
    let equality = delete_files(&deleted).await.pop().unwrap();
    let files = data_files(&deleted).await;
    let about =
        files.iter().find(|f| f.lower_bound(1, &PrimitiveType::Long) == Some(Datum::long(3)));
    let about = about.unwrap();
    let path = table.new_data_path(&about.partition_key(), "pos-deletes").unwrap();
    let positions = crate::file::write_position_deletes(
        table.storage(),
        &path,
        about,
        &[1u64].into_iter().collect(),
        &crate::file::WriterOptions::default(),
    )
    .await;
    let added = AddedDelete { file: positions.unwrap(), sequence_number: None };
    let removed = RemovedFile::new(&equality, Some(SequenceNumber(4)));
    let planned: HashSet<String> = files.iter().map(|f| f.file_path.clone()).collect();
    let seen = SnapshotId(deleted.current_snapshot().unwrap().snapshot_id());
    let convert = deleted.convert_deletes(vec![removed], vec![added], planned, seen);
    convert.commit().await.unwrap();

    let report = compact.run_plan(plan).await.unwrap();

    assert_eq!(ids(&table).await, [0, 1, 2, 3, 5, 6, 7, 8]);
    assert_eq!(report.carried_deletes, 1);
}

#[tokio::test]
async fn a_removed_input_plans_only_its_group_again() {
    let (_, mut table) = partitioned().await;
    for n in 0..6i64 {
        table = append(&table, &[n], (n % 2) as i32).await;
    }
    let compact = table.compact(options());
    let plan = compact.plan().await.unwrap();
    delete_where(&table, "id = 2").await; // all of a file of day 0

    let report = compact.run_plan(plan).await.unwrap();

    assert_eq!(ids(&table).await, [0, 1, 3, 4, 5]);
    assert_eq!((report.report.groups, report.report.conflicts), (2, 1));
    assert_eq!(data_files(&table).await.len(), 2);
    assert_eq!(orphans(&table).await, 0);
}

/// Six partitions of two files, compacted in one commit; sorted by id from the largest or in order.
fn in_one_commit(sorted: bool) -> CompactOptions {
    let by_id = SortColumn { name: "id".into(), descending: true };
    let sort = sorted.then(|| SortBy::Columns(vec![by_id]));
    CompactOptions { max_commits: 1, sort, ..options() }
}

#[tokio::test]
async fn of_a_batch_only_the_group_in_conflict_is_planned_again() {
    for sorted in [false, true] {
        let (_, mut table) = partitioned().await;
        for n in 0..24i64 {
            table = append(&table, &[n, n + 100], (n % 6) as i32).await;
        }
        let compact = table.compact(in_one_commit(sorted));
        let plan = compact.plan().await.unwrap();
        delete_where(&table, "id IN (2, 102)").await; // all of a file of day 2
        delete_where(&table, "id = 3").await; // a row of day 3

        let report = compact.run_plan(plan).await.unwrap();

        let expected = (0..24).chain(100..124).filter(|id| ![2, 3, 102].contains(id));
        assert_eq!(ids(&table).await, expected.collect::<Vec<_>>());
        assert_eq!(report.report.groups, 6);
        // In order, the deleted row is carried over; sorted rows have to be read again.
        let (carried, most) = if sorted { (0, 5) } else { (1, 2) };
        assert_eq!(report.carried_deletes, carried);
        assert!(report.snapshots.len() <= most, "{report}: {:?}", report.snapshots);
        assert_eq!((data_files(&table).await.len(), orphans(&table).await), (6, 0));
    }
}

#[tokio::test]
async fn groups_that_lost_together_are_planned_again_and_committed_together() {
    let (_, mut table) = partitioned().await;
    for n in 0..24i64 {
        table = append(&table, &[n, n + 100], (n % 6) as i32).await;
    }
    let compact = table.compact(in_one_commit(false));
    let plan = compact.plan().await.unwrap();
    delete_where(&table, "id IN (1, 101, 2, 102, 3, 103)").await; // a file of each of three days

    let report = compact.run_plan(plan).await.unwrap();

    let expected = (0..24).chain(100..124).filter(|id| ![1, 2, 3].contains(&(id % 100)));
    assert_eq!(ids(&table).await, expected.collect::<Vec<_>>());
    assert_eq!((report.report.groups, report.report.conflicts), (6, 3));
    assert_eq!(report.snapshots.len(), 2, "those that were left alone, and those that were not");
    assert_eq!((data_files(&table).await.len(), orphans(&table).await), (6, 0));
}

#[tokio::test]
async fn groups_that_move_to_another_spec_are_not_mixed_with_those_that_stay() {
    // Rows of an old spec enter a partition in which others are compacted as well: a delete of that
    // partition must not reach the rows that enter it.
    let (_, mut table) = table().await;
    table = append(&table, &[1, 2], 1).await;
    table = append(&table, &[3, 4], 1).await;
    let mut table = by_day(&table).await;
    for ids in [[5, 6], [7, 8]] {
        table = append(&table, &ids, 1).await;
    }
    let compact = table.compact(in_one_commit(true));
    let plan = compact.plan().await.unwrap();
    assert_eq!(plan.groups.len(), 2);
    delete_keys(&table, &[2, 6], 1).await;

    let report = compact.run_plan(plan).await.unwrap();

    assert_eq!(ids(&table).await, [1, 2, 3, 4, 5, 7, 8]);
    assert_eq!((report.report.groups, report.report.conflicts), (2, 1));
}

#[tokio::test]
async fn the_second_of_two_compactions_finds_its_inputs_gone_and_does_nothing() {
    let table = three_files().await;
    let (first, second) = (table.compact(options()), table.compact(options()));
    let plan = second.plan().await.unwrap();
    first.run().await.unwrap();
    let report = second.run_plan(plan).await.unwrap();
    assert_eq!((report.report.groups, report.report.conflicts), (0, 1));
    assert_eq!(ids(&table).await, (0..9).collect::<Vec<_>>());
    assert_eq!((data_files(&table).await.len(), orphans(&table).await), (1, 0));
}

#[tokio::test]
async fn two_compactions_at_once_do_the_work_once() {
    let table = three_files().await;
    let runs = tokio::join!(table.compact(options()).run(), table.compact(options()).run());
    let groups = runs.0.unwrap().report.groups + runs.1.unwrap().report.groups;
    assert_eq!(groups, 1);
    assert_eq!(ids(&table).await, (0..9).collect::<Vec<_>>());
    assert_eq!((data_files(&table).await.len(), orphans(&table).await), (1, 0));
}

#[tokio::test]
async fn a_sorted_group_that_meets_new_position_deletes_is_planned_again() {
    let table = three_files().await;
    let by_name = SortColumn { name: "id".into(), descending: true };
    let options = CompactOptions { sort: Some(SortBy::Columns(vec![by_name])), ..options() };
    let compact = table.compact(options);
    let plan = compact.plan().await.unwrap();
    delete_where(&table, "id = 4").await;
    let report = compact.run_plan(plan).await.unwrap();
    assert_eq!(ids(&table).await, [0, 1, 2, 3, 5, 6, 7, 8]);
    assert_eq!((report.report.conflicts, report.carried_deletes), (1, 0));
    assert_eq!(delete_files(&table.refresh().await.unwrap()).await, []);
    assert_eq!(orphans(&table).await, 0);
}

#[tokio::test]
async fn position_deletes_of_a_neighbour_are_in_nobodys_way() {
    // The reference takes a position delete file for one about every file of its partition, unless
    // the bounds of its paths say otherwise: ours always name one data file.
    let table = three_files().await;
    let by_id = SortColumn { name: "id".into(), descending: true };
    let options = CompactOptions { sort: Some(SortBy::Columns(vec![by_id])), ..options() };
    let compact = table.compact(options);
    let plan = compact.plan().await.unwrap();
    append(&table, &[100, 101], 1).await;
    delete_where(&table, "id = 100").await;
    let report = compact.run_plan(plan).await.unwrap();
    assert_eq!(ids(&table).await, (0..9).chain([101]).collect::<Vec<_>>());
    assert_eq!((report.report.groups, report.report.conflicts), (1, 0));
}

#[tokio::test]
async fn a_delete_of_the_old_partition_stops_rows_that_move_to_another_spec() {
    // Partitioned by day, then by nothing: moved rows are out of reach of deletes of a day.
    let (_, mut table) = partitioned().await;
    table = append(&table, &[1, 2], 1).await;
    table = append(&table, &[3, 4], 1).await;
    let old = partition(&table, 1);
    let table = table.update_spec().remove_field("day").commit().await.unwrap();
    let compact = table.compact(options());
    let plan = compact.plan().await.unwrap();
    assert_ne!(plan.groups[0].spec_id, plan.groups[0].output_spec_id);
    let deletes = delete_ids(&table, &[2], old).await;
    table.row_delta(deletes).commit().await.unwrap();

    let report = compact.run_plan(plan).await.unwrap();

    assert_eq!(ids(&table).await, [1, 3, 4]);
    assert_eq!((report.report.groups, report.report.conflicts), (1, 1));
}

#[tokio::test]
async fn a_delete_of_the_new_partition_does_not_reach_rows_that_move_into_it() {
    // Unpartitioned, then by day: a writer of other engines deletes in the new spec only, which
    // spares the old rows; moving them must not kill them.
    let (_, mut table) = table().await;
    table = append(&table, &[1, 2], 1).await;
    table = append(&table, &[3, 4], 1).await;
    let table = by_day(&table).await;
    let compact = table.compact(options());
    let plan = compact.plan().await.unwrap();
    delete_keys(&table, &[2], 1).await;

    let report = compact.run_plan(plan).await.unwrap();

    assert_eq!(ids(&table).await, [1, 2, 3, 4]);
    assert_eq!((report.report.groups, report.report.conflicts), (1, 1));
}

#[tokio::test]
async fn what_was_read_and_then_rolled_back_is_planned_again() {
    let table = three_files().await;
    let before = SnapshotId(table.current_snapshot().unwrap().snapshot_id());
    let deleted = delete_where(&table, "id = 4").await;
    let compact = deleted.compact(options());
    let plan = compact.plan().await.unwrap();
    deleted.rollback_to(before).await.unwrap();

    let report = compact.run_plan(plan).await.unwrap();

    assert_eq!(ids(&table).await, (0..9).collect::<Vec<_>>(), "row 4 is there again");
    assert_eq!((report.report.groups, report.report.conflicts), (1, 1));
}

#[tokio::test]
async fn a_group_that_loses_every_time_is_reported_and_leaves_nothing() {
    let table = three_files().await;
    let compact = table.compact(CompactOptions { replans: 0, ..options() });
    let plan = compact.plan().await.unwrap();
    delete_where(&table, "id < 3").await;
    let error = compact.run_plan(plan).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValidationFailed);
    assert_eq!(orphans(&table).await, 0);
}
