use super::kit::*;
use crate::error::ErrorKind;
use crate::spec::*;
use crate::table::{Delta, OperationKind, Table, WriteResult};

#[tokio::test]
async fn appends_add_files_and_carry_totals_on() {
    let (_, table) = table().await;
    let one = table.append(rows([data("a", whole())])).commit().await.unwrap();
    let two = one.table.append(rows([data("b", whole())])).commit().await.unwrap();

    assert_eq!(live(&table).await, [("a".into(), 1), ("b".into(), 2)]);
    let snapshot = two.snapshot.unwrap();
    assert_eq!(snapshot.parent_snapshot_id(), Some(one.snapshot_id.0));
    let summary = &snapshot.summary().additional_properties;
    assert_eq!(summary["total-records"], "20");
    assert_eq!(summary["total-data-files"], "2");
    assert_eq!(snapshot.summary().operation, Operation::Append);
}

#[tokio::test(start_paused = true)]
async fn a_lost_race_is_retried_with_the_same_manifests() {
    let (catalog, table) = table().await;
    catalog.fail_next([Fault::Conflict, Fault::Conflict]);
    let done = table.append(rows([data("a", whole())])).commit().await.unwrap();
    assert_eq!(done.attempts, 3);
    assert_eq!(live(&table).await, [("a".into(), 1)]);
    // One manifest and one list are left of three attempts.
    assert_eq!(stored(&table).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn committers_on_stale_handles_all_land_in_some_order() {
    let (_, table) = table().await;
    let mut tasks = Vec::new();
    for i in 0..4 {
        let table = table.clone();
        tasks.push(tokio::spawn(async move {
            table.append(rows([data(&format!("f{i}"), whole())])).commit().await.map(|_| ())
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let files = live(&table).await;
    assert_eq!(files.len(), 4);
    let mut numbers: Vec<i64> = files.iter().map(|f| f.1).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn retries_that_run_out_leave_no_file_behind() {
    let (catalog, table) = table().await;
    catalog.fail_next([Fault::Conflict; 5]);
    let error = table.append(rows([data("a", whole())])).commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitConflict);
    assert_eq!(stored(&table).await, Vec::<String>::new());
}

#[tokio::test]
async fn small_manifests_merge_when_there_are_enough_of_them() {
    let properties = [("commit.manifest.min-count-to-merge", "3")];
    let (_, mut table) = table_with(UnboundPartitionSpec::default(), &properties).await;
    for i in 0..4 {
        let written = rows([data(&format!("f{i}"), whole())]);
        table = table.append(written).commit().await.unwrap().table;
    }
    let head = table.current_snapshot().unwrap().clone();
    assert_eq!(table.manifests(&head).await.unwrap().len(), 2);
    let files = live(&table).await;
    assert_eq!(files, (0..4).map(|i| (format!("f{i}"), i + 1)).collect::<Vec<_>>());
    // Merged entries keep the snapshots that added them.
    for manifest in table.manifests(&head).await.unwrap().iter() {
        for entry in table.entries(manifest).await.unwrap().iter() {
            let added = table.snapshot(entry.snapshot_id).unwrap();
            assert_eq!(added.sequence_number(), entry.sequence_number.0);
        }
    }
}

/// Name, status and age of the entries of each manifest of the head, in order.
async fn entries(table: &Table) -> Vec<Vec<(String, ManifestStatus, i64)>> {
    let mut found = Vec::new();
    for manifest in table.manifests(table.current_snapshot().unwrap()).await.unwrap().iter() {
        let entries = table.entries(manifest).await.unwrap();
        let name = |e: &ManifestEntry| e.file.file_path.rsplit('/').next().unwrap().to_string();
        let entries = entries.iter().map(|e| (name(e), e.status, e.sequence_number.0));
        found.push(entries.collect());
    }
    found
}

#[tokio::test]
async fn merging_forgets_old_removals_and_keeps_data_deletes_and_specs_apart() {
    use ManifestStatus::{Added, Deleted, Existing};
    let entry = |name: &str, status, age| (name.to_string(), status, age);
    let (_, mut table) = table_with(UnboundPartitionSpec::default(), &[]).await;
    let (a, b) = (data("a", whole()), data("b", whole()));
    for file in [&a, &b] {
        table = table.append(rows([file.clone()])).commit().await.unwrap().table;
    }
    let at_once = [("commit.manifest.min-count-to-merge", "2")];
    let properties = table.update_properties().set(at_once[0].0, at_once[0].1);
    table = properties.commit().await.unwrap();

    // The removal of this very commit stays, for those who ask what it did.
    table = table.delete_files(vec![gone(&b)]).commit().await.unwrap().table;
    assert_eq!(entries(&table).await, [[entry("b", Deleted, 2), entry("a", Existing, 1)]]);
    // That of an earlier one goes.
    table = table.append(rows([data("c", whole())])).commit().await.unwrap().table;
    assert_eq!(entries(&table).await, [[entry("c", Added, 4), entry("a", Existing, 1)]]);

    for name in ["x", "y"] {
        let deletes =
            WriteResult { delete_files: vec![equality(name, whole())], ..WriteResult::default() };
        table = table.row_delta(deletes).commit().await.unwrap().table;
    }
    let deletes = [entry("y", Added, 6), entry("x", Existing, 5)];
    assert_eq!(entries(&table).await[1..], [deletes]);

    let field = table.update_spec().add_field("day", Transform::Identity, None);
    table = field.commit().await.unwrap();
    let spec = table.metadata().default_partition_spec_id();
    for name in ["d", "e"] {
        let written = rows([data(name, day(spec, 1))]);
        table = table.append(written).commit().await.unwrap().table;
    }
    let names: Vec<Vec<String>> =
        entries(&table).await.into_iter().map(|m| m.into_iter().map(|e| e.0).collect()).collect();
    assert_eq!(names, [vec!["e", "d"], vec!["c", "a"], vec!["y", "x"]]);
}

#[tokio::test]
async fn manifests_of_the_target_size_are_left_as_they_are() {
    for properties in [
        [("commit.manifest.min-count-to-merge", "2"), ("commit.manifest.target-size-bytes", "1")],
        [("commit.manifest.min-count-to-merge", "2"), ("commit.manifest-merge.enabled", "false")],
    ] {
        let (_, mut table) = table_with(UnboundPartitionSpec::default(), &properties).await;
        for name in ["a", "b", "c"] {
            table = table.append(rows([data(name, whole())])).commit().await.unwrap().table;
        }
        let head = table.current_snapshot().unwrap();
        assert_eq!(table.manifests(head).await.unwrap().len(), 3, "{properties:?}");
    }
}

#[tokio::test]
async fn fast_appends_never_merge() {
    let properties = [("commit.manifest.min-count-to-merge", "2")];
    let (_, mut table) = table_with(UnboundPartitionSpec::default(), &properties).await;
    for i in 0..3 {
        let written = rows([data(&format!("f{i}"), whole())]);
        table = table.fast_append(written).commit().await.unwrap().table;
    }
    let head = table.current_snapshot().unwrap().clone();
    assert_eq!(table.manifests(&head).await.unwrap().len(), 3);
}

#[tokio::test]
async fn removed_files_stay_as_deleted_entries_of_the_removing_snapshot() {
    let (_, table) = table().await;
    let (a, b) = (data("a", whole()), data("b", whole()));
    let one = table.append(rows([a.clone(), b])).commit().await.unwrap();
    let two = one.table.delete_files(vec![gone(&a)]).commit().await.unwrap();

    assert_eq!(live(&table).await, [("b".into(), 1)]);
    let head = two.snapshot.unwrap();
    let manifests = two.table.manifests(&head).await.unwrap();
    assert_eq!(manifests.len(), 1);
    let entries = two.table.entries(&manifests[0]).await.unwrap();
    let deleted: Vec<_> = entries.iter().filter(|e| e.status == ManifestStatus::Deleted).collect();
    assert_eq!(deleted.len(), 1);
    assert_eq!(deleted[0].snapshot_id, two.snapshot_id);
    assert_eq!(deleted[0].sequence_number, SequenceNumber(1));
    assert_eq!(head.summary().additional_properties["deleted-records"], "10");

    // The next merging commit drops a manifest with nothing alive in it.
    let three = two.table.append(rows([data("c", whole())])).commit().await.unwrap();
    assert_eq!(live(&three.table).await, [("b".into(), 1), ("c".into(), 3)]);
}

#[tokio::test]
async fn removing_a_file_that_is_gone_is_a_conflict() {
    let (_, table) = table().await;
    let a = data("a", whole());
    let one = table.append(rows([a.clone()])).commit().await.unwrap();
    one.table.delete_files(vec![gone(&a)]).commit().await.unwrap();
    let error = one.table.delete_files(vec![gone(&a)]).commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValidationFailed);
    assert!(error.to_string().contains("data/a"), "{error}");
}

#[tokio::test]
async fn files_that_cannot_be_right_are_refused() {
    let (_, table) = table().await;
    let (a, unknown_spec) = (data("a", whole()), data("b", day(7, 1)));
    let wrong_arity = data("c", PartitionKey { spec_id: 0, ..day(0, 1) });
    let mut no_columns = equality("d", whole());
    no_columns.equality_ids = None;
    let mut avro = data("e", whole());
    avro.file_format = DataFileFormat::Avro;
    let cases = [
        (rows([a.clone(), a.clone()]), ErrorKind::InvalidInput, "twice"),
        (rows([unknown_spec]), ErrorKind::InvalidInput, "no partition spec 7"),
        (rows([wrong_arity]), ErrorKind::InvalidInput, "partition values"),
        (deletes([no_columns]), ErrorKind::InvalidInput, "equality columns"),
        (rows([equality("f", whole())]), ErrorKind::InvalidInput, "as a data file"),
        (rows([avro]), ErrorKind::Unsupported, "avro"),
    ];
    for (written, kind, part) in cases {
        let error = table.row_delta(written).commit().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().to_lowercase().contains(part), "{error} lacks {part}");
    }
    assert_eq!(stored(&table).await, Vec::<String>::new());
    assert!(table.refresh().await.unwrap().current_snapshot().is_none());
}

#[test]
fn the_operation_follows_from_what_is_added_and_removed() {
    use Operation::{Append, Delete, Overwrite, Replace};
    use OperationKind as Kind;
    // (kind, adds data, adds deletes, removes data) -> operation
    let table = [
        (Kind::Append, true, false, false, Append),
        (Kind::FastAppend, true, false, false, Append),
        (Kind::RowDelta, true, false, false, Append),
        (Kind::RowDelta, false, true, false, Delete),
        (Kind::RowDelta, true, true, false, Overwrite),
        (Kind::RowDelta, true, false, true, Overwrite),
        (Kind::Overwrite, true, false, false, Append),
        (Kind::Overwrite, false, false, true, Delete),
        (Kind::Overwrite, true, false, true, Overwrite),
        (Kind::ReplacePartitions, true, false, false, Overwrite),
        (Kind::Delete, false, false, true, Delete),
        (Kind::Rewrite, true, false, true, Replace),
    ];
    for (kind, adds, adds_deletes, removes, expected) in table {
        let mut delta = Delta::new(kind);
        let file = data("x", whole());
        if adds {
            delta.added_data.push(file.clone());
        }
        if adds_deletes {
            let file = equality("d", whole());
            delta.added_deletes.push(crate::table::AddedDelete { file, sequence_number: None });
        }
        if removes {
            delta.removed_data.push(gone(&file));
        }
        assert_eq!(delta.operation(), expected, "{kind:?} {adds} {adds_deletes} {removes}");
    }
}

#[tokio::test]
async fn replacing_partitions_removes_exactly_their_files() {
    let (_, table) = partitioned().await;
    let spec = table.metadata().default_partition_spec_id();
    let files = [data("a", day(spec, 1)), data("b", day(spec, 2)), data("c", day(spec, 1))];
    let one = table.append(rows(files)).commit().await.unwrap();
    let fresh = data("d", day(spec, 1));
    let two = one.table.replace_partitions(rows([fresh])).commit().await.unwrap();
    assert_eq!(live(&table).await, [("b".into(), 1), ("d".into(), 2)]);
    assert_eq!(two.snapshot.unwrap().summary().operation, Operation::Overwrite);
}

#[tokio::test]
async fn a_rewrite_may_not_add_rows() {
    let (_, table) = table().await;
    let a = data("a", whole());
    let one = table.append(rows([a.clone()])).commit().await.unwrap();
    let mut more = data("b", whole());
    more.record_count = 11;
    let commit = one.table.rewrite_files(vec![gone(&a)], vec![more], one.snapshot_id).unwrap();
    let error = commit.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(live(&table).await, [("a".into(), 1)]);
}

#[tokio::test]
async fn an_empty_commit_makes_an_empty_snapshot() {
    let (_, table) = table().await;
    let done = table.append(WriteResult::default()).commit().await.unwrap();
    assert_eq!(done.snapshot.unwrap().summary().additional_properties["total-records"], "0");
}

#[test]
fn commits_measure_their_attempts_and_how_they_ended() {
    use crate::measure::{self, recorder::TestRecorder};
    let recorder = TestRecorder::measure(async {
        tokio::time::pause();
        let (catalog, table) = table().await;
        catalog.fail_next([Fault::Conflict; 2]);
        table.append(rows([data("a", whole())])).commit().await.unwrap();
        catalog.fail_next([Fault::Conflict; 5]);
        table.append(rows([data("b", whole())])).commit().await.unwrap_err();
    });
    assert_eq!(recorder.sum(measure::COMMITS.name, "outcome=committed"), 1.0);
    assert_eq!(recorder.sum(measure::COMMITS.name, "outcome=conflict"), 1.0);
    assert_eq!(recorder.all(measure::COMMIT_ATTEMPTS.name, ""), [3.0, 5.0]);
    assert!(recorder.all(measure::COMMIT_SECONDS.name, "").iter().all(|s| *s >= 0.1));
}

#[tokio::test]
async fn no_summary_entry_of_a_caller_can_break_or_hide_the_snapshot() {
    let (_, table) = table().await;
    let commit = table.append(rows([data("a", whole())])).summary("note", "x");
    let commit = commit.summary("operation", "replace").summary("meltwater.logical-change", "none");
    let commit = commit.summary("meltwater.epoch", "7").summary("deleted-records", "5");
    let done = commit.commit().await.unwrap();
    let json = crate::catalog::write_metadata(done.table.metadata(), false).unwrap();
    let read = crate::catalog::read_metadata(&json, "written").unwrap();
    let summary = read.current_snapshot().unwrap().summary();
    assert_eq!(summary.operation, Operation::Append);
    assert_eq!(summary.additional_properties["note"], "x");
    for key in ["operation", "meltwater.logical-change", "meltwater.epoch", "deleted-records"] {
        assert_eq!(summary.additional_properties.get(key), None, "{key}");
    }
}
