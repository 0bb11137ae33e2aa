//! Names and their table agree.

use super::*;

/// The rows of a table in `METRICS.md`: name, kind, labels, meaning.
fn documented() -> Vec<[String; 4]> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/METRICS.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `meltwater_"));
    rows.map(|row| {
        let cells: Vec<String> =
            row.split('|').skip(1).take(4).map(|c| c.trim().replace('`', "")).collect();
        cells.try_into().unwrap()
    })
    .collect()
}

#[test]
fn every_metric_is_explained_and_every_explanation_is_of_a_metric() {
    let expected: Vec<[String; 4]> = ALL
        .iter()
        .map(|m| {
            let kind = format!("{:?}", m.kind).to_lowercase();
            [m.name.to_string(), kind, m.labels.join(", "), m.help.to_string()]
        })
        .collect();
    assert_eq!(documented(), expected);
}

#[test]
fn names_are_told_apart_and_end_in_their_unit() {
    let mut names: Vec<&str> = ALL.iter().map(|m| m.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ALL.len());
    for metric in ALL {
        let is_total = metric.name.ends_with("_total");
        assert_eq!(is_total, metric.kind == MetricKind::Counter, "{}", metric.name);
        let is_time = metric.name.ends_with("_seconds");
        assert!(is_time || metric.kind != MetricKind::Histogram, "{}", metric.name);
    }
}

#[test]
fn labels_come_in_the_order_of_their_names() {
    let recorder = recorder::TestRecorder::measure(async {
        CACHE_REQUESTS.add(&["footer"], 2);
        CACHE_REQUESTS.add(&["manifest"], 3);
        STREAM_RETRIES.add(&[], 1);
    });
    assert_eq!(recorder.sum(CACHE_REQUESTS.name, "cache=footer"), 2.0);
    assert_eq!(recorder.sum(CACHE_REQUESTS.name, ""), 5.0);
    assert_eq!(recorder.all(STREAM_RETRIES.name, ""), [1.0]);
}
