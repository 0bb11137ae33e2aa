//! The picture as golden files: a change is to be seen in review.

use super::*;
use crate::maintenance::{
    CommitFacts, CompactionFacts, ConversionFacts, HeldByStream, ManifestsToRewrite, MergeFacts,
    Totals, verdicts,
};
use crate::spec::SnapshotId;

fn totals(files: u64, rows: u64, bytes: u64) -> Totals {
    Totals { files, rows, bytes }
}

fn report() -> HealthReport {
    const MIB: u64 = 1024 * 1024;
    let mut report = HealthReport {
        table: "sales.orders".into(),
        branch: "main".into(),
        snapshot_id: Some(SnapshotId(7163)),
        at_ms: 1_700_000_000_000,
        ..HealthReport::default()
    };
    report.files.all = totals(1204, 40_100_000, 3300 * MIB);
    report.files.small = totals(1190, 35_000_000, 2000 * MIB);
    report.files.target_bytes = 512 * MIB;
    report.files.partitions = 31;
    let class = |below: Option<u64>, files, mib| SizeClass {
        below_bytes: below.map(|b| b * MIB),
        files,
        bytes: mib * MIB,
    };
    report.files.histogram = vec![
        class(Some(1), 812, 312),
        class(Some(4), 201, 400),
        class(Some(16), 0, 0),
        class(Some(64), 177, 1288),
        class(Some(1024), 14, 1300),
        class(None, 0, 0),
    ];
    report.deletes.positions = totals(2110, 1_200_000, 40 * MIB);
    report.deletes.equality = totals(340, 90_000, 9 * MIB);
    let worst = |partition: &str, positions, keys| PartitionDeletes {
        partition: partition.into(),
        rows: 1_000_000,
        delete_files: 30,
        position_deletes: positions,
        equality_deletes: keys,
    };
    report.deletes.worst =
        vec![worst("day=2026-01-30", 400_000, 80_000), worst("day=\u{1b}[2J", 1000, 10)];
    report.manifests.data = 300;
    report.manifests.deletes = 90;
    report.manifests.bytes = 390 * 20_000;
    report.manifests.target_bytes = 8 * MIB;
    report.manifests.per_partition = 12.5;
    report.manifests.to_rewrite = Some(ManifestsToRewrite { manifests: 390, output_manifests: 3 });
    report.history.snapshots = 1300;
    report.history.expirable = Some(1100);
    report.history.held = vec![HeldByStream { stream: "to-search".into(), snapshots: 90 }];
    report.history.streams_known = true;
    report.history.metadata_bytes = Some(3 * MIB);
    report.history.metadata_versions = 100;
    report.commits = CommitFacts {
        first_ms: Some(1_699_000_000_000),
        last_ms: Some(1_699_999_000_000),
        timeline: vec![0, 10, 20, 40, 80, 160, 320, 640],
        usual_interval_ms: Some(4200),
    };
    report.compaction = Some(CompactionFacts {
        input: totals(1190, 35_000_000, 2000 * MIB),
        output_files: 35,
        for_deletes: 3,
    });
    report.conversion = Some(ConversionFacts {
        deletes: totals(340, 90_000, 9 * MIB),
        data: totals(1204, 40_100_000, 3300 * MIB),
        files_per_data_file: 17.25,
    });
    report.merge = Some(MergeFacts {
        input: totals(2000, 1_100_000, 39 * MIB),
        data_files: 400,
        dangling: totals(12, 60, MIB),
    });
    report.topics = verdicts(&report);
    report
}

fn golden(name: &str, found: &str) {
    let path = format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("MELTWATER_BLESS").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(wanted == found, "differs from {path}; run with MELTWATER_BLESS=1\n{found}");
}

#[test]
fn the_picture_is_as_the_golden_files_say() {
    golden("health.rich.txt", &picture(&report(), Style { rich: true }));
    golden("health.plain.txt", &picture(&report(), Style { rich: false }));
}

#[test]
fn a_plain_picture_is_ascii_and_nothing_in_it_steers_the_terminal() {
    let plain = picture(&report(), Style { rich: false });
    assert!(plain.chars().all(|c| c == '\n' || !c.is_control()), "{plain}");
    assert!(plain.is_ascii(), "{plain}");
    assert!(plain.lines().all(|line| line.trim_end() == line), "{plain}");
}

#[test]
fn a_table_without_commits_has_a_picture_too() {
    let mut empty =
        HealthReport { table: "a.b".into(), branch: "main".into(), ..Default::default() };
    empty.topics = verdicts(&empty);
    let text = picture(&empty, Style { rich: false });
    assert!(text.starts_with("a.b, branch main: no commits yet\n"), "{text}");
    assert!(!text.contains("ACT"), "{text}");
}
