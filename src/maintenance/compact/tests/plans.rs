//! What is chosen, and what is refused.

use crate::error::{ErrorKind, Result};
use crate::expr::parse;
use crate::maintenance::fixture::*;
use crate::maintenance::{CompactOptions, CompactPlan, Reason, SortBy, SortColumn};
use crate::spec::{Datum, Reference};
use crate::table::Table;
use crate::table::tests::kit::{partitioned, table};

async fn days() -> Table {
    let (_, mut table) = partitioned().await;
    for n in 0..6i64 {
        table = append(&table, &[n, n + 10], (n % 3) as i32).await;
    }
    table
}

async fn plan(table: &Table, options: CompactOptions) -> Result<CompactPlan> {
    table.compact(options).plan().await
}

fn names(plan: &CompactPlan) -> Vec<&str> {
    plan.groups.iter().map(|g| g.partition.as_str()).collect()
}

#[tokio::test]
async fn a_filter_chooses_whole_partitions() {
    let table = days().await;
    let filter = Some(parse("day IN (0, 2)", table.schema()).unwrap());
    let plan = plan(&table, CompactOptions { filter, ..options() }).await.unwrap();
    assert_eq!(names(&plan), ["day=0", "day=2"]);
    assert_eq!(plan.input().files, 4);
    let said = plan.to_string();
    assert!(said.contains("day=2: 2 files, 4 rows"), "{said}");
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["groups"][0]["files"][0]["reason"], "too_small");
}

#[tokio::test]
async fn a_filter_that_does_not_choose_partitions_is_refused() {
    let table = days().await;
    for filter in ["id = 1", "day = 1 AND name = 'a'"] {
        let filter = Some(parse(filter, table.schema()).unwrap());
        let error = plan(&table, CompactOptions { filter, ..options() }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.hint().unwrap().contains("identity(day)"), "{error:?}");
    }
    let unknown = Some(crate::spec::Reference::new("nope").is_null());
    let error = plan(&table, CompactOptions { filter: unknown, ..options() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_filter_that_a_partition_does_not_decide_is_refused() {
    // Old files know no day.
    let (_, table) = table().await;
    let table = append(&table, &[1, 2], 1).await;
    let table = super::commits::by_day(&table).await;
    let filter = Some(parse("day = 1", table.schema()).unwrap());
    let error = plan(&table, CompactOptions { filter, ..options() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("part of a partition"), "{error}");
}

#[tokio::test]
async fn sizes_that_contradict_each_other_are_refused() {
    let (_, table) = table().await;
    let sizes = |target, min, max| CompactOptions {
        target_file_size_bytes: target,
        min_file_size_bytes: min,
        max_file_size_bytes: max,
        ..options()
    };
    for bad in [
        sizes(Some(100), Some(100), None),
        sizes(Some(100), None, Some(100)),
        sizes(None, Some(1 << 40), None),
        sizes(Some(0), None, None),
    ] {
        let error = plan(&table, bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("contradict"), "{error}");
    }
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let (_, table) = table().await;
    let column = |name: &str| SortColumn { name: name.into(), descending: false };
    for (bad, word) in [
        (CompactOptions { delete_ratio: 0.0, ..options() }, "delete ratio"),
        (CompactOptions { delete_ratio: f64::NAN, ..options() }, "delete ratio"),
        (CompactOptions { min_input_files: 0, ..options() }, "min_input_files"),
        (
            CompactOptions { sort: Some(SortBy::Columns(vec![column("nope")])), ..options() },
            "unknown sort column `nope`",
        ),
        (CompactOptions { sort: Some(SortBy::TableOrder), ..options() }, "no sort order"),
    ] {
        let error = plan(&table, bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(word), "{error}");
    }
    let unbound = Some(Reference::new("nope").equal_to(Datum::long(1)));
    let unbound = CompactOptions { filter: unbound, ..options() };
    let error = plan(&table, unbound).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("nope"));
    let branch = CompactOptions { branch: "nope".into(), ..options() };
    assert_eq!(plan(&table, branch).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn files_with_many_deletes_are_chosen_even_alone() {
    let (_, table) = table().await;
    let table = append(&table, &(0..100).collect::<Vec<_>>(), 1).await;
    // Every file fits, so that only deletes are a reason.
    let fits = CompactOptions {
        min_file_size_bytes: Some(1),
        target_file_size_bytes: Some(1 << 20),
        ..options()
    };
    let table = delete_where(&table, "id < 29").await;
    assert!(plan(&table, fits.clone()).await.unwrap().is_empty());
    let by_count = CompactOptions { delete_files: Some(1), ..fits.clone() };
    assert_eq!(
        plan(&table, by_count).await.unwrap().groups[0].files[0].reason,
        Reason::DeleteFiles
    );
    let table = delete_keys(&table, &[50], 1).await;
    let chosen = plan(&table, fits).await.unwrap();
    let file = &chosen.groups[0].files[0];
    assert_eq!((file.reason, file.deleted_rows, file.delete_files), (Reason::DeletedRows, 30, 2));
}

#[tokio::test]
async fn equality_deletes_are_spread_over_the_files_that_they_may_hit() {
    let (_, mut table) = table().await;
    for n in 0..10 {
        table = append(&table, &(n..200).step_by(10).collect::<Vec<_>>(), 1).await;
    }
    let fits = CompactOptions {
        min_file_size_bytes: Some(1),
        target_file_size_bytes: Some(1 << 20),
        ..options()
    };
    // 50 keys against 10 files of 20 rows: a quarter of each.
    let table = delete_keys(&table, &(0..50).collect::<Vec<_>>(), 1).await;
    assert!(plan(&table, fits.clone()).await.unwrap().is_empty());
    let table = delete_keys(&table, &(50..60).collect::<Vec<_>>(), 1).await;
    assert_eq!(plan(&table, fits).await.unwrap().input().files, 10);
}

#[tokio::test]
async fn too_few_small_files_wait_and_a_group_has_at_most_its_bytes() {
    let (_, mut table) = table().await;
    for n in 0..6 {
        table = append(&table, &[n], 1).await;
    }
    let many = CompactOptions { min_input_files: 7, ..options() };
    assert!(plan(&table, many).await.unwrap().is_empty());
    let bytes = data_files(&table).await[0].file_size_in_bytes;
    let small = CompactOptions { max_group_bytes: 2 * bytes + bytes / 2, ..options() };
    let cut = plan(&table, small).await.unwrap();
    let files: Vec<usize> = cut.groups.iter().map(|g| g.files.len()).collect();
    assert_eq!(files, [2, 2, 2]);
}

#[tokio::test]
async fn a_table_without_commits_has_nothing_to_do() {
    let (_, table) = table().await;
    let empty = plan(&table, options()).await.unwrap();
    assert!(empty.is_empty() && empty.snapshot_id.is_none());
    assert_eq!(empty.to_string(), "compact ns.t on branch main: nothing to do");
    assert_eq!(table.compact(options()).run_plan(empty).await.unwrap().snapshots, []);
}
