use std::collections::HashSet;

use super::kit::*;
use crate::error::ErrorKind;
use crate::spec::*;
use crate::table::{AddedDelete, RemovedFile, WriteResult};

#[tokio::test]
async fn compaction_keeps_deletes_that_its_own_outputs_need() {
    let (_, table) = table().await;
    let old = data("old", whole());
    let planned = table.append(rows([old.clone()])).commit().await.unwrap();
    let two = planned.table.row_delta(deletes([equality("e2", whole())])).commit().await.unwrap();
    two.table.append(rows([data("new", whole())])).commit().await.unwrap();

    let compacted = data("compacted", whole());
    planned
        .table
        .rewrite_files(vec![gone(&old)], vec![compacted], planned.snapshot_id)
        .unwrap()
        .commit()
        .await
        .unwrap();

    // The delete at 2 is younger than the compacted rows of age 1 and must stay.
    assert_eq!(live(&table).await, [("compacted".into(), 1), ("e2".into(), 2), ("new".into(), 3)]);
}

#[tokio::test]
async fn deletes_older_than_all_data_go_when_data_is_removed() {
    let (_, table) = table().await;
    let (a, b) = (data("a", whole()), data("b", whole()));
    let one = table.append(rows([a.clone()])).commit().await.unwrap();
    let two = one.table.row_delta(deletes([equality("e2", whole())])).commit().await.unwrap();
    let three = two.table.append(rows([b])).commit().await.unwrap();
    let four = three.table.delete_files(vec![gone(&a)]).commit().await.unwrap();

    assert_eq!(live(&table).await, [("b".into(), 3)]);
    let summary = &four.snapshot.unwrap().summary().additional_properties.clone();
    assert_eq!(summary["removed-equality-deletes"], "1");
    assert_eq!(summary["total-equality-deletes"], "0");
}

#[tokio::test]
async fn a_position_delete_for_several_files_is_refused() {
    let (_, table) = table().await;
    let mut wide = position("p", &data("a", whole()));
    wide.referenced_data_file = None;
    let error = table.row_delta(deletes([wide.clone()])).commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);

    // Equal bounds on `file_path` name the file as well as field 143 does.
    let path = b"memory:///t/data/a".as_slice();
    wide.lower_bounds = [(2_147_483_546, path)].into_iter().collect();
    wide.upper_bounds = [(2_147_483_546, path)].into_iter().collect();
    table.row_delta(deletes([wide])).commit().await.unwrap();
}

#[tokio::test]
async fn a_conversion_is_marked_and_refused_when_an_unplanned_file_is_in_reach() {
    let (_, table) = table().await;
    let (a, e) = (data("a", whole()), equality("e", whole()));
    let one = table.append(rows([a.clone()])).commit().await.unwrap();
    let two = one.table.row_delta(deletes([e.clone()])).commit().await.unwrap();
    let removed = RemovedFile::new(&e, Some(SequenceNumber(2)));
    let added = AddedDelete { file: position("p", &a), sequence_number: Some(SequenceNumber(2)) };

    let unplanned = HashSet::new();
    let error = two
        .table
        .convert_deletes(vec![removed.clone()], vec![added.clone()], unplanned, two.snapshot_id)
        .commit()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValidationFailed);

    let planned = HashSet::from([a.file_path.clone()]);
    let done = two
        .table
        .convert_deletes(vec![removed], vec![added], planned, two.snapshot_id)
        .commit()
        .await
        .unwrap();
    let snapshot = done.snapshot.unwrap();
    assert_eq!(snapshot.summary().operation, Operation::Overwrite);
    assert_eq!(snapshot.summary().additional_properties["meltwater.logical-change"], "none");
    assert_eq!(live(&table).await, [("a".into(), 1), ("p".into(), 2)]);
}

#[tokio::test]
async fn a_conversion_committed_as_replace_is_refused() {
    let (_, table) = table().await;
    let (a, e) = (data("a", whole()), equality("e", whole()));
    let one = table.append(rows([a.clone()])).commit().await.unwrap();
    let two = one.table.row_delta(deletes([e.clone()])).commit().await.unwrap();
    let mut commit = two.table.rewrite_files(vec![gone(&e)], Vec::new(), two.snapshot_id).unwrap();
    commit.delta.added_deletes =
        vec![AddedDelete { file: position("p", &a), sequence_number: None }];
    assert_eq!(commit.commit().await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn deletes_added_by_a_replace_snapshot_conflict_with_a_rewrite() {
    let (_, table) = table().await;
    let (a, small) = (data("a", whole()), position("p1", &data("a", whole())));
    let one = table.append(rows([a.clone()])).commit().await.unwrap();
    let two = one.table.row_delta(deletes([small.clone()])).commit().await.unwrap();

    // Another engine converts a later delete and records it as `replace`.
    let mut replace =
        two.table.rewrite_files(vec![gone(&small)], Vec::new(), two.snapshot_id).unwrap();
    replace.delta.added_deletes =
        vec![AddedDelete { file: position("p2", &a), sequence_number: None }];
    replace.commit().await.unwrap();

    let compacted = data("b", whole());
    let error = one
        .table
        .rewrite_files(vec![gone(&a)], vec![compacted], one.snapshot_id)
        .unwrap()
        .commit()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValidationFailed);
}

#[tokio::test]
async fn an_upsert_that_misses_a_live_spec_is_refused() {
    let (_, table) = table().await;
    let one = table.append(rows([data("a", whole())])).commit().await.unwrap();
    let evolved =
        one.table.update_spec().add_field("day", Transform::Identity, None).commit().await.unwrap();
    let spec = evolved.metadata().default_partition_spec_id();
    let upsert = |covered: &[i32]| WriteResult {
        covered_specs: Some(covered.iter().copied().collect()),
        ..deletes([equality("e", day(spec, 1))])
    };

    let error = evolved.row_delta(upsert(&[spec])).commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValidationFailed);
    evolved.row_delta(upsert(&[0, spec])).commit().await.unwrap();
}

#[tokio::test]
async fn a_rewrite_that_carries_deletes_over_is_marked_and_refuses_later_ones() {
    let (_, table) = table().await;
    let old = data("old", whole());
    let planned = table.append(rows([old.clone()])).commit().await.unwrap();
    let first = planned.table.row_delta(deletes([position("p2", &old)])).commit().await.unwrap();
    let new = data("new", whole());
    let carrying = |through| {
        let removed = vec![gone(&old)];
        let at = planned.snapshot_id;
        let rewrite = planned.table.rewrite_files(removed, vec![new.clone()], at).unwrap();
        rewrite.with_carried_deletes(vec![position("carried", &new)], through)
    };
    let error = carrying(planned.snapshot_id).commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValidationFailed, "p2 came after what was carried over");

    let done = carrying(first.snapshot_id).commit().await.unwrap();
    let summary = done.snapshot.unwrap().summary().clone();
    assert_eq!(summary.operation, Operation::Overwrite);
    assert_eq!(summary.additional_properties["meltwater.logical-change"], "none");
    assert_eq!(live(&table).await, [("carried".into(), 3), ("new".into(), 1), ("p2".into(), 2)]);
}

#[tokio::test]
async fn a_rewrite_to_another_partition_meets_the_deletes_of_both() {
    let (_, table) = partitioned().await;
    let spec = table.metadata().default_partition_spec_id();
    for (meanwhile, refused) in [(1, true), (2, true), (3, false)] {
        let (_, table) = partitioned().await;
        let old = data("old", day(spec, 1));
        let planned = table.append(rows([old.clone()])).commit().await.unwrap();
        let delete = deletes([equality("e", day(spec, meanwhile))]);
        planned.table.row_delta(delete).commit().await.unwrap();
        let moved = vec![data("new", day(spec, 2))];
        let rewrite =
            planned.table.rewrite_files(vec![gone(&old)], moved, planned.snapshot_id).unwrap();
        assert_eq!(rewrite.commit().await.is_err(), refused, "a delete of day {meanwhile}");
    }
}

#[tokio::test]
async fn an_equality_delete_that_is_removed_without_its_number_is_looked_up() {
    let (_, table) = table().await;
    let (a, e) = (data("a", whole()), equality("e", whole()));
    let one = table.append(rows([a.clone()])).commit().await.unwrap();
    let two = one.table.row_delta(deletes([e.clone()])).commit().await.unwrap();
    let three = two.table.append(rows([data("b", whole())])).commit().await.unwrap();
    let remove = |at: &crate::table::Committed| {
        at.table.rewrite_deletes(vec![gone(&e)], Vec::new(), at.snapshot_id).commit()
    };
    let error = remove(&three).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValidationFailed, "rows of `a` would come back");
    let four = three.table.delete_files(vec![gone(&a)]).commit().await;
    assert_eq!(live(&four.unwrap().table).await, [("b".into(), 3)]);
}

#[tokio::test]
async fn an_equality_delete_without_a_number_goes_when_only_younger_rows_are_left() {
    let (_, table) = table().await;
    let e = equality("e", whole());
    let one = table.row_delta(deletes([e.clone()])).commit().await.unwrap();
    let two = one.table.append(rows([data("b", whole())])).commit().await.unwrap();
    two.table.rewrite_deletes(vec![gone(&e)], vec![], two.snapshot_id).commit().await.unwrap();
    assert_eq!(live(&table).await, [("b".into(), 2)]);
}

#[tokio::test]
async fn positions_of_a_file_that_is_gone_are_refused_without_a_start_too() {
    let (_, table) = table().await;
    let (a, b) = (data("a", whole()), data("b", whole()));
    let one = table.append(rows([a.clone(), b.clone()])).commit().await.unwrap();
    let at = one.snapshot_id;
    let compacted = vec![data("c", whole())];
    one.table.rewrite_files(vec![gone(&a)], compacted, at).unwrap().commit().await.unwrap();

    let about = |file: &DataFile| WriteResult {
        referenced_data_files: vec![file.file_path.clone()],
        ..deletes([position(&format!("p-{}", file.record_count), file)])
    };
    let error = one.table.row_delta(about(&a)).commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValidationFailed);
    assert!(error.to_string().contains("data/a"), "{error}");
    one.table.row_delta(about(&b)).commit().await.unwrap();
}

/// A table whose `day` became a long after `planned`, which has the file `a` of day 1.
async fn widened_since() -> (crate::table::Committed, DataFile, i32) {
    let (_, table) = partitioned().await;
    let spec = table.metadata().default_partition_spec_id();
    let a = data("a", day(spec, 1));
    let planned = table.append(rows([a.clone()])).commit().await.unwrap();
    let widen = planned.table.update_schema().widen_column("day", PrimitiveType::Long);
    widen.commit().await.unwrap();
    (planned, a, spec)
}

#[tokio::test]
async fn partitions_written_before_a_promotion_are_still_the_same_partitions() {
    let (planned, _, spec) = widened_since().await;
    let written = rows([data("b", day(spec, 1)), data("c", day(spec, 2))]);
    planned.table.replace_partitions(written).commit().await.unwrap();
    assert_eq!(live(&planned.table).await, [("b".into(), 2), ("c".into(), 2)]);

    let (planned, a, spec) = widened_since().await;
    let values = Struct::from_iter([Some(Literal::long(1))]);
    let day_1 = PartitionKey { spec_id: spec, values };
    planned.table.row_delta(deletes([equality("e", day_1)])).commit().await.unwrap();
    let swap = planned.table.overwrite_files(vec![gone(&a)], rows([data("b", day(spec, 1))]));
    let error = swap.validate_from(Some(planned.snapshot_id)).commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValidationFailed, "the delete hits rows of `a`");
}
