//! Rewritten manifests: same entries with the same numbers, in fewer files.

use std::collections::BTreeSet;

use super::*;
use crate::error::ErrorKind;
use crate::maintenance::fixture::{
    StopAfter, append, delete_keys, delete_where, ids, mark, orphans,
};
use crate::scan::{ChangeClass, Grouping};
use crate::spec::*;
use crate::table::tests::kit::{self, Fault};

/// One commit a row, over ten partitions, each in a manifest of its own.
async fn many_commits(rows: i64) -> Table {
    let (_, table) = kit::table_with(by_day(), &[("commit.manifest-merge.enabled", "false")]).await;
    grown(table, 0..rows).await
}

fn by_day() -> UnboundPartitionSpec {
    let field = UnboundPartitionField {
        source_id: 3,
        field_id: None,
        name: "day".into(),
        transform: Transform::Identity,
    };
    UnboundPartitionSpec::builder().add_partition_fields([field]).unwrap().build()
}

async fn grown(mut table: Table, rows: std::ops::Range<i64>) -> Table {
    for id in rows {
        table = append(&table, &[id], (id % 10) as i32).await;
    }
    table
}

async fn head(table: &Table) -> Vec<ManifestFile> {
    let table = table.refresh().await.unwrap();
    table.manifests(table.current_snapshot().unwrap()).await.unwrap().as_ref().clone()
}

/// Path, snapshot, data and file sequence number of every live entry.
async fn entries(table: &Table) -> BTreeSet<(String, i64, i64, i64)> {
    let table = table.refresh().await.unwrap();
    let mut found = BTreeSet::new();
    for manifest in head(&table).await {
        for entry in table.entries(&manifest).await.unwrap().iter().filter(|e| e.is_live()) {
            let (data, file) = (entry.sequence_number.0, entry.file_sequence_number.0);
            let new = (entry.file.file_path.clone(), entry.snapshot_id.0, data, file);
            assert!(found.insert(new), "an entry is listed twice");
        }
    }
    found
}

async fn run(table: &Table, options: ManifestOptions) -> (Table, ManifestReport) {
    let report = table.refresh().await.unwrap().rewrite_manifests(options).run().await.unwrap();
    (table.refresh().await.unwrap(), report)
}

fn summary<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    let summary = table.current_snapshot().unwrap().summary();
    summary.additional_properties.get(key).map(String::as_str)
}

#[tokio::test]
async fn many_manifests_become_one_with_the_same_entries_and_numbers() {
    let table = many_commits(30).await;
    let (rows, before) = (ids(&table).await, entries(&table).await);
    let (table, report) = run(&table, ManifestOptions::default()).await;
    assert_eq!((entries(&table).await, ids(&table).await), (before, rows));
    let manifests = head(&table).await;
    assert_eq!(manifests.len(), 1);
    assert_eq!(manifests[0].existing_files_count, Some(30));
    assert_eq!((manifests[0].added_files_count, manifests[0].min_sequence_number), (Some(0), 1));
    assert_eq!((report.report.before.files, report.report.after.files), (30, 1));
    let (_, again) = run(&table, ManifestOptions::default()).await;
    assert_eq!(again.snapshots, [], "once is enough");
}

#[tokio::test]
async fn the_summary_counts_manifests_as_other_engines_do_and_followers_see_nothing() {
    let (table, _) = run(&many_commits(12).await, ManifestOptions::default()).await;
    assert_eq!(mark(&table), (Operation::Replace, None));
    let counts = ["created", "replaced", "kept"].map(|what| format!("manifests-{what}"));
    assert_eq!(counts.map(|key| summary(&table, &key)), [Some("1"), Some("12"), Some("0")]);
    assert_eq!(summary(&table, "entries-processed"), Some("12"));
    assert_eq!(summary(&table, "total-data-files"), Some("12"));
    assert_eq!(summary(&table, "added-data-files"), None);
    let head = table.current_snapshot().unwrap();
    let changes = table.plan_changes(head, Grouping::Partition).await.unwrap();
    assert_eq!(changes.class(), ChangeClass::Nothing);
}

#[tokio::test]
async fn entries_of_a_partition_lie_side_by_side() {
    // Twenty full manifests, each about all ten partitions.
    let (_, mut table) = kit::table_with(by_day(), &[]).await;
    for _ in 0..20 {
        let files = (0..10).map(|day| {
            let name = table.environment().ids.uuid().to_string();
            kit::data(&name, kit::day(0, day))
        });
        let written = kit::rows(files.collect::<Vec<_>>());
        table = table.fast_append(written).commit().await.unwrap().table;
    }
    let before = entries(&table).await;
    let target = 2 * u64::try_from(head(&table).await[0].manifest_length).unwrap();
    let options = ManifestOptions { target_size_bytes: Some(target), ..ManifestOptions::default() };
    let (table, report) = run(&table, options.clone()).await;
    assert_eq!(entries(&table).await, before);
    let done = &report.rewritten[0];
    assert_eq!(done.before.opened_per_partition, 20.0);
    assert!(done.after.opened_per_partition <= 3.0, "{report}");
    assert!(done.after.manifests > 1, "{report}");
    let (_, again) = run(&table, options).await;
    assert_eq!(again.snapshots, [], "{again}");
}

#[tokio::test]
async fn little_memory_takes_more_passes_and_gives_the_same_manifests() {
    let table = many_commits(30).await;
    let before = entries(&table).await;
    let little = ManifestOptions { memory_budget_bytes: 1, ..ManifestOptions::default() };
    let (table, _) = run(&table, little).await;
    assert_eq!(entries(&table).await, before);
    let manifest = head(&table).await.remove(0);
    let listed = table.entries(&manifest).await.unwrap();
    let days: Vec<_> = listed.iter().map(|e| e.file.partition.fields()[0].clone()).collect();
    let sorted = (0..10).flat_map(|day| vec![Some(Literal::int(day)); 3]);
    assert_eq!(days, sorted.collect::<Vec<_>>());
}

#[tokio::test]
async fn data_deletes_and_specs_keep_manifests_of_their_own() {
    let mut table = many_commits(4).await;
    for id in [0, 1] {
        table = delete_keys(&table, &[id], id as i32).await;
    }
    table = table.update_spec().remove_field("day").commit().await.unwrap();
    table = append(&table, &[100], 1).await;
    table = append(&table, &[101], 1).await;
    let (rows, before) = (ids(&table).await, entries(&table).await);
    let plan = table.rewrite_manifests(ManifestOptions::default()).plan().await.unwrap();
    let groups: Vec<_> = plan.groups.iter().map(|g| (g.content.to_string(), g.spec_id)).collect();
    let expected = [("data", 0), ("data", 1), ("deletes", 0)];
    assert_eq!(groups, expected.map(|(content, spec)| (content.to_string(), spec)));
    let (table, report) = run(&table, ManifestOptions::default()).await;
    assert_eq!((ids(&table).await, entries(&table).await), (rows, before));
    assert_eq!((head(&table).await.len(), report.snapshots.len()), (3, 3));

    let only = ManifestOptions { spec_id: Some(1), rewrite_all: true, ..Default::default() };
    let (_, report) = run(&table, only).await;
    assert_eq!(report.rewritten.iter().map(|r| r.spec_id).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn manifests_that_others_add_meanwhile_are_kept() {
    let table = many_commits(10).await;
    let rewrite = table.rewrite_manifests(ManifestOptions::default());
    let plan = rewrite.plan().await.unwrap();
    let now = grown(table.clone(), 10..12).await;
    let (rows, before) = (ids(&now).await, entries(&now).await);
    let report = rewrite.run_plan(plan).await.unwrap();
    assert_eq!((ids(&now).await, entries(&now).await), (rows, before));
    assert_eq!((head(&now).await.len(), report.report.conflicts), (3, 0));
    let now = now.refresh().await.unwrap();
    assert_eq!(summary(&now, "manifests-kept"), Some("2"));
}

#[tokio::test]
async fn a_manifest_that_is_gone_plans_the_rewrite_again() {
    let table = many_commits(10).await;
    let rewrite = table.rewrite_manifests(ManifestOptions::default());
    let plan = rewrite.plan().await.unwrap();
    let now = delete_where(&table, "id = 3").await; // the whole file: its manifest is rewritten
    let before = entries(&now).await;
    let report = rewrite.run_plan(plan).await.unwrap();
    assert_eq!(report.report.conflicts, 1);
    assert_eq!(entries(&now).await, before);
    assert_eq!(ids(&now).await, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    let stored = kit::stored(&now).await;
    let lists = head(&now).await;
    assert!(lists.iter().all(|m| stored.contains(&m.manifest_path)));
}

#[tokio::test]
async fn a_rewrite_that_would_lose_an_entry_is_refused() {
    let table = many_commits(3).await;
    let all = head(&table).await;
    let removed: BTreeSet<String> = all.iter().map(|m| m.manifest_path.clone()).collect();
    let error = table.replace_manifests(removed, Vec::new()).commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let one = BTreeSet::from([all[0].manifest_path.clone()]);
    let error = table.replace_manifests(one, vec![all[0].clone()]).commit().await.unwrap_err();
    assert!(error.to_string().contains("marked as added"), "{error}");
}

#[tokio::test]
async fn what_did_not_land_leaves_no_manifest_unless_nobody_knows() {
    for questions in 0..4 {
        let table = many_commits(3).await;
        let stored = kit::stored(&table).await;
        let rewrite = table.rewrite_manifests(ManifestOptions::default());
        let report = rewrite.progress(StopAfter::questions(questions)).run().await.unwrap();
        assert!(report.report.stopped && report.snapshots.is_empty());
        assert_eq!(kit::stored(&table).await, stored);
    }
    let (catalog, table) = kit::table_with(by_day(), &[]).await;
    let table = grown(table, 0..3).await;
    let stored = kit::stored(&table).await.len();
    catalog.fail_next([Fault::NoAnswer; 5]);
    let rewrite = table.rewrite_manifests(ManifestOptions::default());
    let error = rewrite.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitStateUnknown);
    assert!(kit::stored(&table).await.len() > stored, "it may be part of the table");
    assert_eq!((ids(&table).await, orphans(&table).await), (vec![0, 1, 2], 0));
}

#[tokio::test(start_paused = true)]
async fn a_rewrite_that_is_given_up_while_it_commits_removes_nothing() {
    let (catalog, table) = kit::table_with(by_day(), &[]).await;
    let table = grown(table, 0..3).await;
    let stored = kit::stored(&table).await.len();
    catalog.fail_next([Fault::NoAnswer; 5]);
    let rewrite = table.rewrite_manifests(ManifestOptions::default());
    let patience = std::time::Duration::from_millis(50);
    tokio::time::timeout(patience, rewrite.run()).await.unwrap_err();
    tokio::time::sleep(patience).await;
    // A manifest and a list: the swap was sent, and may still land.
    assert_eq!(kit::stored(&table).await.len(), stored + 2);
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let table = many_commits(1).await;
    for (options, words) in [
        (ManifestOptions { spec_id: Some(7), ..Default::default() }, "no partition spec 7"),
        (
            ManifestOptions { target_size_bytes: Some(0), ..Default::default() },
            "`target_size_bytes` is zero",
        ),
    ] {
        let error = table.rewrite_manifests(options).plan().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(words) && error.hint().is_some(), "{error}");
    }
}
