//! What the facts mean. Pure: the limits are here and nowhere else (MNT-64).
//!
//! `Watch` is what readers hardly notice, `Act` what they do. Gains are those of the actions' own
//! plans; where there is no plan, none is promised.

use super::report::{HealthReport, Topic, TopicKind, Verdict};
use crate::maintenance::report::Bytes;

/// Files saved by a compaction that make it worth doing now, and their share of all.
const FILES_SAVED: u64 = 10;
const SHARE_SAVED: f64 = 0.2;
/// Deletes per row.
const RATIO_WATCH: f64 = 0.05;
const RATIO_ACT: f64 = 0.2;
/// Equality delete files that a data file is compared with, on average.
const EQUALITY_ACT: f64 = 5.0;
/// Keys that every scan has to load.
const KEYS_ACT: u64 = 1_000_000;
/// Position delete files that could go.
const POSITIONS_ACT: u64 = 100;
/// Manifests that a rewrite would take.
const MANIFESTS_WATCH: u64 = 20;
const MANIFESTS_ACT: u64 = 200;
/// Snapshots that may expire.
const EXPIRABLE_ACT: u64 = 100;
/// Bytes of a metadata file, which every commit writes anew.
const METADATA_WATCH: u64 = 2 * 1024 * 1024;
const METADATA_ACT: u64 = 16 * 1024 * 1024;
/// Commits that follow each other sooner than this leave files of seconds.
const INTERVAL_WATCH_MS: i64 = 10_000;

/// A verdict on every topic, in a fixed order.
pub fn verdicts(report: &HealthReport) -> Vec<Topic> {
    vec![
        file_sizes(report),
        deleted_rows(report),
        equality_deletes(report),
        position_deletes(report),
        manifests(report),
        snapshots(report),
        metadata(report),
        streams(report),
        commits(report),
    ]
}

fn good(topic: TopicKind, finding: String) -> Topic {
    Topic { topic, verdict: Verdict::Good, finding, command: None, gain: None }
}

fn graded(act: bool, watch: bool) -> Verdict {
    match (act, watch) {
        (true, _) => Verdict::Act,
        (false, true) => Verdict::Watch,
        (false, false) => Verdict::Good,
    }
}

impl HealthReport {
    /// The command on this table and branch.
    fn command(&self, name: &str) -> String {
        let branch = match self.branch.as_str() {
            crate::spec::MAIN_BRANCH => String::new(),
            branch => format!(" --branch {branch}"),
        };
        format!("meltwater {name} {}{branch}", self.table)
    }

    /// A topic with a command, unless all is well.
    fn topic(&self, topic: TopicKind, verdict: Verdict, finding: String, command: &str) -> Topic {
        let command = (verdict > Verdict::Good).then(|| self.command(command));
        Topic { topic, verdict, finding, command, gain: None }
    }
}

fn file_sizes(report: &HealthReport) -> Topic {
    let (all, small) = (report.files.all, report.files.small);
    let finding = format!(
        "{} of {} data files are smaller than three quarters of {}",
        small.files,
        all.files,
        Bytes(report.files.target_bytes)
    );
    let Some(plan) = &report.compaction else { return good(TopicKind::FileSizes, finding) };
    let saved = plan.input.files.saturating_sub(plan.output_files);
    let share = super::report::ratio(saved, all.files);
    let verdict = graded(saved >= FILES_SAVED && share >= SHARE_SAVED, plan.input.files > 0);
    let mut topic = report.topic(TopicKind::FileSizes, verdict, finding, "compact");
    let gain = || {
        format!(
            "{} files become {}; {} are rewritten",
            plan.input.files,
            plan.output_files,
            Bytes(plan.input.bytes)
        )
    };
    topic.gain = (verdict > Verdict::Good).then(gain);
    topic
}

fn deleted_rows(report: &HealthReport) -> Topic {
    let ratio = report.delete_ratio();
    let finding = format!("{:.1} deletes per 100 rows", ratio * 100.0);
    let files = report.compaction.as_ref().map_or(0, |plan| plan.for_deletes);
    let verdict = graded(ratio >= RATIO_ACT, ratio >= RATIO_WATCH || files > 0);
    // Compact takes files by their own share; below it, there is nothing to run.
    let mut topic = report.topic(TopicKind::DeletedRows, verdict, finding, "compact");
    match files {
        0 => topic.command = None,
        files => topic.gain = Some(format!("{files} files are rewritten without their dead rows")),
    }
    topic
}

fn equality_deletes(report: &HealthReport) -> Topic {
    let kind = TopicKind::EqualityDeletes;
    let Some(plan) = &report.conversion else {
        return good(kind, format!("{} equality delete files", report.deletes.equality.files));
    };
    if plan.deletes.files == 0 {
        return good(kind, "none".to_string());
    }
    let finding = format!(
        "{} keys in {} files; a data file is compared with {:.1} of them on average",
        plan.deletes.rows, plan.deletes.files, plan.files_per_data_file
    );
    let act = plan.files_per_data_file >= EQUALITY_ACT || plan.deletes.rows >= KEYS_ACT;
    let mut topic = report.topic(kind, graded(act, true), finding, "convert-deletes");
    topic.gain = Some(format!(
        "scans no longer compare {} rows with keys; the keys of {} files are read once",
        plan.data.rows, plan.data.files
    ));
    topic
}

fn position_deletes(report: &HealthReport) -> Topic {
    let kind = TopicKind::PositionDeletes;
    let positions = report.deletes.positions;
    let finding = format!("{} positions in {} files", positions.rows, positions.files);
    let Some(plan) = &report.merge else { return good(kind, finding) };
    let merged = plan.input.files.saturating_sub(plan.data_files);
    let goes = merged + plan.dangling.files;
    let has_plan = plan.input.files + plan.dangling.files > 0;
    let verdict = graded(goes >= POSITIONS_ACT, has_plan);
    let mut topic = report.topic(kind, verdict, finding, "rewrite-position-deletes");
    let gain = || {
        format!(
            "{} files become at most {}; {} that reach nothing go",
            plan.input.files, plan.data_files, plan.dangling.files
        )
    };
    topic.gain = has_plan.then(gain);
    topic
}

fn manifests(report: &HealthReport) -> Topic {
    let (kind, facts) = (TopicKind::Manifests, &report.manifests);
    let count = facts.data + facts.deletes;
    let finding = format!(
        "{count} of {} on average; a partition is spread over {:.1}",
        Bytes(facts.bytes / count.max(1)),
        facts.per_partition
    );
    let Some(plan) = facts.to_rewrite else { return good(kind, finding) };
    let verdict = graded(plan.manifests >= MANIFESTS_ACT, plan.manifests >= MANIFESTS_WATCH);
    let mut topic = report.topic(kind, verdict, finding, "rewrite-manifests");
    let gain = || format!("{} manifests become {}", plan.manifests, plan.output_manifests);
    topic.gain = (verdict > Verdict::Good).then(gain);
    topic
}

fn snapshots(report: &HealthReport) -> Topic {
    let (kind, facts) = (TopicKind::Snapshots, &report.history);
    let Some(expirable) = facts.expirable else {
        return good(kind, format!("{} snapshots; none may expire here", facts.snapshots));
    };
    let finding = format!("{expirable} of {} snapshots may expire", facts.snapshots);
    let verdict = graded(expirable >= EXPIRABLE_ACT, expirable > 0);
    let mut topic = report.topic(kind, verdict, finding, "expire");
    // Expiry works on all branches.
    topic.command = topic.command.map(|_| format!("meltwater expire {}", report.table));
    let gain = || format!("{expirable} snapshots go, and the files that only they need");
    topic.gain = (verdict > Verdict::Good).then(gain);
    topic
}

fn metadata(report: &HealthReport) -> Topic {
    let (kind, facts) = (TopicKind::Metadata, &report.history);
    let Some(bytes) = facts.metadata_bytes else {
        return good(kind, "the size of the metadata file is not known".to_string());
    };
    let finding = format!(
        "{}, written anew by every commit; {} earlier versions are kept",
        Bytes(bytes),
        facts.metadata_versions
    );
    let verdict = graded(bytes >= METADATA_ACT, bytes >= METADATA_WATCH);
    let mut topic = report.topic(kind, verdict, finding, "expire");
    topic.command = topic.command.map(|_| format!("meltwater expire {}", report.table));
    topic
}

fn streams(report: &HealthReport) -> Topic {
    let (kind, facts) = (TopicKind::Streams, &report.history);
    let Some(slowest) = facts.held.iter().max_by_key(|held| held.snapshots) else {
        return good(
            kind,
            match facts.streams_known {
                true => "none holds history back".to_string(),
                false => "not looked at: --positions names their folder".to_string(),
            },
        );
    };
    let finding = format!(
        "`{}` holds {} snapshots that could expire, of {} such streams",
        slowest.stream,
        slowest.snapshots,
        facts.held.len()
    );
    let act = slowest.snapshots as u64 >= EXPIRABLE_ACT;
    let mut topic = report.topic(kind, graded(act, true), finding, "streams");
    topic.command = Some(format!("meltwater streams {}", report.table));
    topic
}

fn commits(report: &HealthReport) -> Topic {
    let kind = TopicKind::Commits;
    let Some(usual) = report.commits.usual_interval_ms else {
        return good(kind, "fewer than two commits".to_string());
    };
    let finding = format!("usually {}.{} s after one another", usual / 1000, usual % 1000 / 100);
    // No command: whoever writes decides how often to commit.
    Topic { verdict: graded(false, usual < INTERVAL_WATCH_MS), ..good(kind, finding) }
}
