//! Facts of a real table, and the truth table of the verdicts.

use std::time::Duration;

use super::*;
use crate::dml::tests::fixture::{delete_ids, file, row};
use crate::maintenance::{HeldByStream, Totals};
use crate::spec::PartitionKey;
use crate::table::tests::kit;

const MIB: u64 = 1024 * 1024;

fn totals(files: u64, rows: u64, bytes: u64) -> Totals {
    Totals { files, rows, bytes }
}

/// A table that needs nothing.
fn sound() -> HealthReport {
    let mut report = HealthReport { branch: "main".into(), ..HealthReport::default() };
    report.files.all = totals(100, 1_000_000, 100 * 512 * MIB);
    report.files.target_bytes = 512 * MIB;
    report.compaction = Some(CompactionFacts::default());
    report.conversion = Some(ConversionFacts::default());
    report.merge = Some(MergeFacts::default());
    report.manifests = ManifestFacts {
        data: 4,
        deletes: 0,
        bytes: 20 * MIB,
        target_bytes: 8 * MIB,
        per_partition: 1.0,
        to_rewrite: Some(ManifestsToRewrite::default()),
    };
    report.history.expirable = Some(0);
    report.history.metadata_bytes = Some(10_000);
    report.commits.usual_interval_ms = Some(60_000);
    report
}

type Change = fn(&mut HealthReport);

#[test]
fn verdicts_follow_the_facts() {
    use TopicKind as T;
    use Verdict::{Act, Good, Watch};
    let cases: &[(T, Verdict, Change)] = &[
        (T::FileSizes, Good, |_| {}),
        (T::FileSizes, Good, |r| r.compaction = None),
        (T::FileSizes, Watch, |r| plan(r, 20, 11)),
        (T::FileSizes, Act, |r| plan(r, 40, 20)),
        (T::FileSizes, Watch, |r| {
            r.files.all.files = 1000;
            plan(r, 40, 20);
        }),
        (T::DeletedRows, Good, |r| r.deletes.positions.rows = 49_999),
        (T::DeletedRows, Watch, |r| r.deletes.positions.rows = 50_000),
        (T::DeletedRows, Act, |r| {
            (r.deletes.positions.rows, r.deletes.equality.rows) = (100_000, 100_000);
        }),
        (T::DeletedRows, Watch, |r| r.compaction.as_mut().unwrap().for_deletes = 1),
        (T::EqualityDeletes, Good, |_| {}),
        (T::EqualityDeletes, Watch, |r| keys(r, 10, 4.9)),
        (T::EqualityDeletes, Act, |r| keys(r, 10, 5.0)),
        (T::EqualityDeletes, Act, |r| keys(r, 1_000_000, 0.1)),
        (T::PositionDeletes, Good, |r| r.deletes.positions.files = 900),
        (T::PositionDeletes, Watch, |r| merge(r, 10, 5, 0)),
        (T::PositionDeletes, Watch, |r| merge(r, 0, 0, 1)),
        (T::PositionDeletes, Act, |r| merge(r, 60, 10, 50)),
        (T::Manifests, Good, |r| r.manifests.to_rewrite = None),
        (T::Manifests, Good, |r| rewrite(r, 19)),
        (T::Manifests, Watch, |r| rewrite(r, 20)),
        (T::Manifests, Act, |r| rewrite(r, 200)),
        (T::Snapshots, Good, |r| r.history.expirable = None),
        (T::Snapshots, Watch, |r| r.history.expirable = Some(99)),
        (T::Snapshots, Act, |r| r.history.expirable = Some(100)),
        (T::Metadata, Good, |r| r.history.metadata_bytes = None),
        (T::Metadata, Watch, |r| r.history.metadata_bytes = Some(2 * MIB)),
        (T::Metadata, Act, |r| r.history.metadata_bytes = Some(16 * MIB)),
        (T::Streams, Good, |_| {}),
        (T::Streams, Watch, |r| held(r, 99)),
        (T::Streams, Act, |r| held(r, 100)),
        (T::Commits, Good, |r| r.commits.usual_interval_ms = None),
        (T::Commits, Watch, |r| r.commits.usual_interval_ms = Some(9_999)),
    ];
    for (number, (kind, wanted, change)) in cases.iter().enumerate() {
        let mut report = sound();
        report.table = "ns.t".into();
        change(&mut report);
        let topics = verdicts(&report);
        let topic = topics.iter().find(|t| t.topic == *kind).unwrap();
        assert_eq!(topic.verdict, *wanted, "case {number}: {topic:?}");
        for command in topics.iter().filter_map(|t| t.command.as_deref()) {
            assert!(command.starts_with("meltwater ") && command.contains(" ns.t"), "{command}");
        }
        for other in topics.iter().filter(|t| t.verdict == Good) {
            assert_eq!((&other.command, &other.gain), (&None, &None), "{other:?}");
        }
    }
}

fn plan(report: &mut HealthReport, input: u64, output_files: u64) {
    let input = totals(input, 0, MIB);
    report.compaction = Some(CompactionFacts { input, output_files, for_deletes: 0 });
}

fn keys(report: &mut HealthReport, rows: u64, files_per_data_file: f64) {
    let deletes = totals(5, rows, MIB);
    report.conversion =
        Some(ConversionFacts { deletes, files_per_data_file, ..ConversionFacts::default() });
}

fn merge(report: &mut HealthReport, files: u64, data_files: u64, dangling: u64) {
    let (input, dangling) = (totals(files, 0, 0), totals(dangling, 0, 0));
    report.merge = Some(MergeFacts { input, data_files, dangling });
}

fn rewrite(report: &mut HealthReport, manifests: u64) {
    let plan = ManifestsToRewrite { manifests, output_manifests: 2 };
    report.manifests.to_rewrite = Some(plan);
}

fn held(report: &mut HealthReport, snapshots: usize) {
    report.history.held = vec![HeldByStream { stream: "s".into(), snapshots }];
}

#[test]
fn commands_name_the_branch_where_it_matters() {
    let mut report = sound();
    (report.table, report.branch) = ("ns.t".into(), "audit".into());
    plan(&mut report, 40, 20);
    report.history.expirable = Some(1);
    let commands: Vec<String> = verdicts(&report).into_iter().filter_map(|t| t.command).collect();
    assert_eq!(commands, ["meltwater compact ns.t --branch audit", "meltwater expire ns.t"]);
}

#[tokio::test]
async fn facts_are_those_of_the_table_and_of_the_plans() {
    let (_catalog, mut table) = kit::partitioned().await;
    for day in [1, 1, 1, 1, 1, 2] {
        let rows: Vec<_> = (0..10).map(|id| row(id, "n", day)).collect();
        let written = file(&table, &rows, kit::day(0, day)).await;
        table = table.append(written).commit().await.unwrap().table;
    }
    let deletes = delete_ids(&table, &[1, 2], kit::day(0, 1)).await;
    table = table.row_delta(deletes).commit().await.unwrap().table;
    let filter = crate::expr::parse("day = 2 and id < 5", table.schema()).unwrap();
    table = table.delete_where(filter).commit().await.unwrap().table;
    let gone = delete_ids(&table, &[1], kit::day(0, 9)).await;
    table = table.row_delta(gone).commit().await.unwrap().table;

    let report = table.health().run().await.unwrap();
    assert_eq!(
        (report.files.all.files, report.files.all.rows, report.files.partitions),
        (6, 60, 2)
    );
    assert_eq!(report.files.small, report.files.all);
    assert_eq!(report.files.histogram.iter().map(|c| c.files).sum::<u64>(), 6);
    assert_eq!(report.files.histogram[0].files, 6, "all are below 1 MiB");
    assert_eq!((report.deletes.positions.rows, report.deletes.equality.rows), (5, 3));
    let worst: Vec<_> = report.deletes.worst.iter().map(|p| p.partition.as_str()).collect();
    assert_eq!(worst, ["day=2", "day=1", "day=9"]);
    assert_eq!(report.deletes.worst[0].ratio(), 0.5);
    assert_eq!((report.manifests.data, report.manifests.deletes), (6, 3));
    assert_eq!(report.manifests.per_partition, 3.0);
    assert_eq!(report.commits.timeline.iter().sum::<u64>(), 9);

    let compaction = table.compact(Default::default()).plan().await.unwrap();
    assert_eq!(report.compaction.as_ref().unwrap().input, compaction.input());
    assert!(compaction.input().files >= 5);
    let conversion = report.conversion.as_ref().unwrap();
    assert_eq!((conversion.deletes.files, conversion.data.files), (2, 5));
    assert_eq!(report.merge.as_ref().unwrap().dangling.files, 1);
    assert_eq!(report.history.expirable, Some(0));
}

#[tokio::test]
async fn a_new_table_and_an_unknown_branch_are_answered() {
    let (_catalog, table) = kit::table().await;
    let report = table.health().run().await.unwrap();
    assert_eq!((report.snapshot_id, report.verdict()), (None, Verdict::Good));
    let error = table.health().branch("nobody").run().await.unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_hundred_thousand_files_are_looked_at_in_seconds() {
    let (_catalog, table) = kit::table().await;
    let partition = PartitionKey::unpartitioned(0);
    let files = (0..100_000).map(|n| kit::data(&format!("{n}.parquet"), partition.clone()));
    let table = table.append(kit::rows(files)).commit().await.unwrap().table;
    let began = tokio::time::Instant::now();
    let report = table.health().run().await.unwrap();
    assert_eq!(report.files.all.files, 100_000);
    // A test build takes a few seconds; an hour would be a plan per file.
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}
