//! `maintain`: as a process beside writers, beside itself, and killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::follow::replayed;
use crate::support::{Desk, assert_fails, signal};

const EAGER: [&str; 8] = [
    "--set",
    "compact.files=3",
    "--set",
    "convert-deletes.files=2",
    "--set",
    "rewrite-position-deletes.files=2",
    "--set",
    "min-interval-ms=50",
];

impl Desk {
    fn maintainer(&self, flags: &[&str]) -> Child {
        self.command(&[&["maintain", "t.t", "--output", "json"], &EAGER[..], flags].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn upsert(&self, id: i64, price: i64) {
        let row = format!("{{\"id\":{id},\"name\":\"n{id}\",\"price\":{price}}}\n");
        self.ok_with(&["upsert", "t.t", "-"], &row);
    }
}

/// Stops a maintainer the clean way and returns its events.
fn stop(child: Child) -> Vec<Value> {
    signal(&child, "-TERM");
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{err}");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of<'a>(events: &'a [Value], event: &str) -> Vec<&'a str> {
    let of = events.iter().filter(|e| e["event"] == event);
    of.map(|e| e["action"].as_str().unwrap_or("")).collect()
}

#[test]
fn a_dry_run_prints_what_and_why_and_once_does_it() {
    let desk = Desk::with_orders();
    for id in 0..4 {
        desk.upsert(id, 1);
    }
    let before = desk.files("");
    let words = [&["maintain", "t"], &EAGER[..]].concat();
    let dry = desk.ok(&[&words[..], &["--dry-run"]].concat());
    assert!(dry.contains("t.t would convert-deletes ("), "{dry}");
    assert!(dry.contains("equality delete files, the limit is 2"), "{dry}");
    assert_eq!(desk.files(""), before, "a dry run writes nothing");
    let done = desk.ok(&[&words[..], &["--once"]].concat());
    assert!(done.contains("t.t convert-deletes (") && done.contains("t.t compact ("), "{done}");
    assert_eq!(desk.ids(), [0, 1, 2, 3]);
    assert_eq!(desk.ok(&[&words[..], &["--once", "--only", "compact"]].concat()), "");
    assert_eq!(desk.run(&["maintain", "t", "--only", "dance"]).code, 2);
    assert_eq!(desk.run(&["maintain", "t", "--set", "compact.files"]).code, 2);
    assert_eq!(desk.run(&["maintain", "t", "--set", "compact.fields=3", "--once"]).code, 1);
}

#[test]
fn settings_come_from_the_file_and_the_table_wins_over_it() {
    let desk = Desk::with_orders();
    for id in 0..4 {
        desk.upsert(id, 1);
    }
    let words = ["maintain", "t.t", "--dry-run", "--only", "convert-deletes"];
    desk.file(
        "meltwater.toml",
        "[maintain]\nconvert-deletes.files = 50\nconvert-deletes.interval-ms = \"off\"\n",
    );
    assert_eq!(desk.ok(&words), "");
    let property = "meltwater.maintain.convert-deletes.files=1";
    desk.ok(&["alter", "t.t", "properties", "--set", property]);
    assert!(desk.ok(&words).contains("the limit is 1"));
    desk.file("meltwater.toml", "[maintain]\ncompact.filez = 50\n");
    let said = desk.run(&words);
    assert!(said.code == 1 && said.err.contains("compact.filez"), "{}", said.err);
}

#[test]
fn another_branch_is_maintained_and_a_missing_one_is_told() {
    let desk = Desk::with_orders();
    desk.ok(&["branch", "t.t", "audit"]);
    for id in 4..8 {
        let row = format!("{{\"id\":{id}}}\n");
        desk.ok_with(&["append", "t.t", "--branch", "audit", "-"], &row);
    }
    let head = |branch: &str| {
        let refs = desk.json(&["inspect", "refs", "t.t"]);
        let found = refs.as_array().unwrap().iter().find(|r| r["name"] == branch).cloned();
        found.unwrap()["snapshot_id"].clone()
    };
    let main = head("main");
    let words = [&["maintain", "t.t", "--once", "--branch", "audit"], &EAGER[..]].concat();
    let done = desk.ok(&[&words[..], &["--only", "compact"]].concat());
    assert!(done.contains("t.t compact ("), "{done}");
    assert_eq!(head("main"), main);
    assert_eq!(desk.ok(&[&words[..], &["--only", "compact"]].concat()), "", "all is done");
    let said = desk.run(&["maintain", "t.t", "--once", "--branch", "nobody"]);
    assert!(said.code == 1 && said.out.contains("nobody"), "{}{}", said.out, said.err);
    assert!(said.err.contains("error: not found: maintenance failed once"), "{}", said.err);
    for nothing in ["nowhere", "nowhere.*"] {
        let said = desk.run(&["maintain", nothing, "--once"]);
        assert_fails(&said, 1, &["no table is meant", nothing, "meltwater ls"]);
    }
}

#[test]
fn two_processes_beside_an_upserting_writer_lose_no_row_and_a_follower_sees_only_the_writer() {
    let desk = Desk::with_orders();
    let maintainers = [desk.maintainer(&[]), desk.maintainer(&[])];
    let (mut inserts, mut updates) = (3, 0);
    let mut model: std::collections::BTreeMap<i64, i64> = Default::default();
    for n in 0..40 {
        let (id, price) = (10 + n % 13, n);
        match model.insert(id, price) {
            None => inserts += 1,
            Some(_) => updates += 1,
        }
        desk.upsert(id, price);
    }
    std::thread::sleep(Duration::from_millis(500));
    let events: Vec<Vec<Value>> = maintainers.into_iter().map(stop).collect();
    let all: Vec<Value> = events.concat();
    assert_eq!(of(&all, "failed"), [""; 0], "{all:?}");
    let ran = of(&all, "ran");
    assert!(ran.contains(&"compact") && ran.contains(&"convert-deletes"), "{ran:?}");

    let table = desk.table();
    assert_eq!(table.len(), 3 + model.len());
    for (id, price) in &model {
        assert_eq!(table[id]["price"], *price as f64, "{id}");
    }
    let changes = desk.followed(&["--from", "earliest", "--until", "caught-up"]);
    assert_eq!(replayed(&changes), table);
    let count = |kind: &str| changes.iter().filter(|c| c["_change_type"] == kind).count();
    assert_eq!((count("insert"), count("delete")), (inserts, 0));
    assert_eq!((count("update_before"), count("update_after")), (updates, updates));
    let verified = desk.run(&["verify", "t.t", "--deep"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}

/// Whether the newest record of a lease says that somebody holds it. A holder killed while it wrote
/// a record leaves a temporary file, which is none.
fn is_held(lease: &Path) -> bool {
    let Ok(files) = std::fs::read_dir(lease) else { return false };
    let records = files.filter_map(|f| Some(f.ok()?.path()));
    let newest = records.filter(|path| path.extension().is_some_and(|e| e == "json")).max();
    let text = newest.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let record: Value = serde_json::from_str(&text).unwrap_or_default();
    record["lapses_at_ms"].as_i64().is_some_and(|lapses_at_ms| lapses_at_ms > 0)
}

/// Kills a maintainer of a table with work to do while it holds the lease.
fn kill_a_holder(desk: &Desk, lease: &Path, length: Duration) {
    // A fast machine may finish before the kill: then once more.
    for round in 0..10 {
        for id in 0..5 {
            desk.upsert(id, round);
        }
        let _ = std::fs::remove_dir_all(lease);
        let mut child = desk.maintainer(&["--set", &format!("lease-ms={}", length.as_millis())]);
        let began = Instant::now();
        while !is_held(lease) && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if is_held(lease) {
            return;
        }
    }
    panic!("no maintainer was killed while it held the lease");
}

#[test]
fn the_lease_of_a_killed_maintainer_holds_until_it_lapses() {
    let desk = Desk::with_orders();
    let lease =
        desk.files(".metadata.json").remove(0).parent().unwrap().join("_meltwater-maintain");
    let once = || {
        let words = ["maintain", "t.t", "--once", "--output", "json"];
        let out = desk.ok(&[&words[..], &EAGER[..]].concat());
        out.lines().map(|l| serde_json::from_str(l).unwrap()).collect::<Vec<Value>>()
    };
    // Longer than any machine may stall, so that the next process finds it running.
    kill_a_holder(&desk, &lease, Duration::from_secs(3600));
    let events = once();
    assert_eq!(of(&events, "skipped").len(), 1, "{events:?}");
    assert_eq!(of(&events, "ran"), [""; 0], "{events:?}");

    let short = Duration::from_secs(1);
    kill_a_holder(&desk, &lease, short);
    for id in 0..5 {
        desk.upsert(id, 99);
    }
    std::thread::sleep(short);
    let events = once();
    assert_eq!(of(&events, "skipped"), [""; 0], "{events:?}");
    assert!(!of(&events, "ran").is_empty(), "{events:?}");
    assert!(desk.ids().contains(&4));
}

#[test]
fn ctrl_c_stops_cleanly() {
    let desk = Desk::with_orders();
    let mut child = desk.maintainer(&["--set", "min-interval-ms=20"]);
    for id in 0..6 {
        desk.upsert(id, 1);
    }
    let stdout = child.stdout.take().unwrap();
    let mut first = String::new();
    BufReader::new(stdout).read_line(&mut first).unwrap();
    assert!(first.contains("\"event\":\"ran\""), "{first}");
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(desk.ids(), [0, 1, 2, 3, 4, 5]);
}
