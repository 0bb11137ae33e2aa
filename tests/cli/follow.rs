//! The change stream as a process among others: in pipes, on demand, stopped and killed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Desk, assert_fails, await_that, said, signal};

pub const CAUGHT_UP: [&str; 4] = ["--from", "earliest", "--until", "caught-up"];

impl Desk {
    /// Followed rows as JSON.
    pub fn followed(&self, flags: &[&str]) -> Vec<Value> {
        rows(&self.ok(&[&["follow", "t.t"], flags].concat()))
    }

    /// The rows of `t.t` by id.
    pub fn table(&self) -> BTreeMap<i64, Value> {
        let rows = rows(&self.ok(&["scan", "t.t", "--format", "jsonl"]));
        rows.into_iter().map(|row| (row["id"].as_i64().unwrap(), row)).collect()
    }

    pub fn follower(&self, flags: &[&str]) -> Child {
        self.command(&[&["follow", "t.t"], flags].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

pub fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn kinds_and_ids(rows: &[Value]) -> Vec<(&str, i64)> {
    let one = |row: &'static str, from: &serde_json::Value| from[row].as_i64().unwrap();
    rows.iter().map(|r| (r["_change_type"].as_str().unwrap(), one("id", r))).collect()
}

/// The table that strictly replayed changes lead to: nothing comes twice, nothing goes that is
/// not there as it was.
pub fn replayed(rows: &[Value]) -> BTreeMap<i64, Value> {
    let mut table = BTreeMap::new();
    for row in rows {
        let mut bare = row.clone();
        bare.as_object_mut().unwrap().retain(|name, _| !name.starts_with('_'));
        let id = row["id"].as_i64().unwrap();
        match row["_change_type"].as_str().unwrap() {
            "insert" | "update_after" => {
                assert_eq!(table.insert(id, bare), None, "{row} came twice");
            }
            _ => assert_eq!(table.remove(&id), Some(bare), "{row} went, and was not there so"),
        }
    }
    table
}

fn change(desk: &Desk) {
    desk.ok_with(&["upsert", "t.t", "-"], "{\"id\":2,\"name\":\"new\"}\n{\"id\":4}\n");
    desk.ok(&["delete", "t.t", "--where", "id = 1"]);
}

#[test]
fn changes_come_in_order_with_old_and_new_values() {
    let desk = Desk::with_orders();
    change(&desk);
    let rows = desk.followed(&CAUGHT_UP);
    assert_eq!(replayed(&rows), desk.table());
    let mut of_upsert = kinds_and_ids(&rows[3..6]);
    of_upsert.sort_unstable();
    assert_eq!(of_upsert, [("insert", 4), ("update_after", 2), ("update_before", 2)]);
    assert_eq!(kinds_and_ids(&rows[6..]), [("delete", 1)]);
    let before = rows.iter().find(|r| r["_change_type"] == "update_before").unwrap();
    assert_eq!(before["name"], "b");
    assert_eq!(before["price"], Value::Null);
    let snapshots = desk.json(&["inspect", "snapshots", "t.t"]);
    assert_eq!(rows[6]["_commit_snapshot_id"], snapshots[2]["snapshot_id"]);
    assert_eq!(rows[6]["_commit_timestamp"], snapshots[2]["committed_at"]);
}

#[test]
fn every_format_holds_the_same_changes() {
    let desk = Desk::with_orders();
    change(&desk);
    let rows = desk.followed(&CAUGHT_UP);
    let csv = desk.ok(&[&["follow", "t.t", "--format", "csv"][..], &CAUGHT_UP].concat());
    assert_eq!(
        csv.lines().next().unwrap(),
        "id,name,price,_change_type,_change_ordinal,_commit_snapshot_id,_commit_timestamp"
    );
    assert_eq!(csv.lines().count(), rows.len() + 1);
    let arrow = [&["follow", "t.t", "--format", "arrow"][..], &CAUGHT_UP].concat();
    let bytes = desk.command(&arrow).output().unwrap().stdout;
    std::fs::write(desk.path("changes.arrow"), bytes).unwrap();
    desk.ok(&["create", "t.changes", "--like", "changes.arrow"]);
    desk.ok(&["append", "t.changes", "changes.arrow"]);
    let scanned = desk.ok(&["scan", "t.changes", "--format", "jsonl"]);
    assert_eq!(scanned.lines().count(), rows.len());
    let lines = desk.ok(&[&["follow", "t.t", "--format", "lines"][..], &CAUGHT_UP].concat());
    assert!(lines.contains("~ id=2  name=b → new  price=null"), "{lines}");
    assert!(lines.contains("- id=1  name=a  price=1.5"), "{lines}");
}

#[test]
fn emission_projection_filter_and_kinds_shape_what_is_told() {
    let desk = Desk::with_orders();
    let appended = desk.followed(&[&["--emit", "appends"][..], &CAUGHT_UP].concat());
    assert_eq!(kinds_and_ids(&appended), [("insert", 1), ("insert", 2), ("insert", 3)]);
    change(&desk);
    let refused = desk.run(&[&["follow", "t.t", "--emit", "appends"][..], &CAUGHT_UP].concat());
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("upserts") && refused.err.contains("changes"), "{}", refused.err);

    let upserts = desk.followed(&[&["--emit", "upserts"][..], &CAUGHT_UP].concat());
    let mut table = BTreeMap::new();
    for row in &upserts {
        let id = row["id"].as_i64().unwrap();
        match row["_change_type"].as_str().unwrap() {
            "delete" => table.remove(&id),
            _ => table.insert(id, row["name"].clone()),
        };
    }
    let names: BTreeMap<i64, Value> =
        desk.table().into_iter().map(|(id, row)| (id, row["name"].clone())).collect();
    assert_eq!(table, names);

    let flags = ["--select", "id", "--where", "name = 'b'", "--drop", "insert"];
    let left = desk.followed(&[&flags[..], &CAUGHT_UP].concat());
    assert_eq!(kinds_and_ids(&left), [("delete", 2)], "an update out of the filter is a delete");
    assert!(left[0].get("name").is_none());
}

#[test]
fn a_named_stream_goes_on_where_it_stopped() {
    let desk = Desk::with_orders();
    let named = [&["--name", "n"][..], &CAUGHT_UP].concat();
    assert_eq!(desk.followed(&named).len(), 3);
    assert_eq!(desk.followed(&named).len(), 0);
    change(&desk);
    let listed = desk.json(&["streams", "t.t"]);
    assert_eq!(listed[0]["name"], "n");
    assert_eq!(listed[0]["snapshots_behind"], 2);
    assert_eq!(desk.followed(&[&["--lanes", "3"], &named[..]].concat()).len(), 4);
    assert_eq!(desk.json(&["streams", "t.t"])[0]["snapshots_behind"], 0);
    assert!(desk.path("warehouse/meltwater-positions").is_dir());

    desk.ok(&["streams", "reset", "t.t", "n", "--to", "earliest"]);
    assert_eq!(replayed(&desk.followed(&named)), desk.table());
    desk.ok(&["streams", "remove", "t.t", "n"]);
    assert_eq!(desk.json(&["streams", "t.t"]), Value::Array(Vec::new()));
    let unknown = desk.run(&["streams", "remove", "t.t", "n"]);
    assert_fails(&unknown, 1, &["`n`", "hint:"]);
}

#[test]
fn the_last_words_tell_how_to_go_on() {
    let desk = Desk::with_orders();
    let said = desk.run(&[&["follow", "t.t"][..], &CAUGHT_UP].concat());
    let line = said.err.lines().find(|l| l.contains("--from 'at:")).unwrap_or_else(|| {
        panic!("no word about going on:\n{}", said.err);
    });
    let token = line.split('\'').nth(1).unwrap();
    change(&desk);
    assert_eq!(desk.followed(&["--from", token, "--until", "caught-up"]).len(), 4);
}

#[test]
fn a_live_follower_tells_a_commit_at_once() {
    let desk = Desk::with_orders();
    let mut follower = desk.follower(&["--name", "live", "--from", "latest", "--tokens"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    // Wait for the hold, so that `latest` is before the commit.
    await_that(|| desk.json(&["streams", "t.t"]).as_array().is_some_and(|rows| rows.len() == 1));
    desk.ok_with(&["append", "t.t", "-"], "{\"id\":9}\n");
    let committed = Instant::now();
    let row: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let waited = committed.elapsed();
    assert_eq!(row["id"], 9);
    assert!(row["_token"].is_string(), "{row}");
    assert!(waited < Duration::from_secs(2), "{waited:?}");

    for name in ["-INT", "-TERM"] {
        signal(&follower, name);
        let said = said(follower.wait_with_output().unwrap());
        assert_eq!(said.code, 0, "{name}: {}", said.err);
        assert!(said.err.contains("stored as `live`"), "{name}: {}", said.err);
        // Whether the snapshot's end was noticed before the signal is open; its row is behind us.
        let again = desk.followed(&["--name", "live", "--until", "caught-up"]);
        assert!(again.is_empty(), "{name}: {again:?}");
        follower = desk.follower(&["--name", "live"]);
        std::thread::sleep(Duration::from_millis(300));
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn a_table_of_another_engine_is_followed_by_its_folder() {
    let desk = Desk::new();
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/fixtures/pos_duckdb/table");
    let followed = rows(&desk.ok(&[&["follow", place, "--lanes", "2"][..], &CAUGHT_UP].concat()));
    let went = followed
        .iter()
        .filter(|r| matches!(r["_change_type"].as_str().unwrap(), "delete" | "update_before"));
    let went = went.count();
    assert!(went > 0, "the history holds deletes");
    assert_eq!(followed.len() - 2 * went, 901);
}

#[test]
fn a_reader_that_leaves_a_follower_early_is_no_error() {
    let desk = Desk::with_many_orders();
    for format in ["lines", "jsonl", "csv"] {
        // Without an end: the reader's leaving is what ends it.
        desk.read_one_line_of(&["follow", "t.t", "--from", "earliest", "--format", format]);
    }
}

#[test]
fn a_follower_stops_though_nobody_reads() {
    let desk = Desk::with_many_orders();
    let mut follower = desk.follower(&["--name", "stuck", "--from", "earliest"]);
    await_that(|| desk.json(&["streams", "t.t"]).as_array().is_some_and(|rows| rows.len() == 1));
    std::thread::sleep(Duration::from_millis(500));
    signal(&follower, "-TERM");
    let began = Instant::now();
    while follower.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(20), "it waits for a reader for ever");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Nothing that was not taken counts as told.
    assert_eq!(desk.json(&["streams", "t.t"])[0]["held"], false);
    drop(follower.stdout.take());
}

/// Writes while `work` runs.
fn beside_a_writer<T>(desk: &Desk, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                round += 1;
                let row = |n: i64| {
                    let id = (round * 37 + n * 11) % 2500;
                    format!("{{\"id\":{id},\"name\":\"round {round}\",\"price\":{n}}}\n")
                };
                let rows: String = (0..60).map(row).collect();
                desk.ok_with(&["upsert", "t.t", "-"], &rows);
                if round % 4 == 0 {
                    let id = (round * 91) % 2500;
                    desk.ok(&["delete", "t.t", "--where", &format!("id = {id}")]);
                }
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })
}

/// Runs a follower again and again and kills it hard, a little later each time.
fn kill_often(desk: &Desk, times: u64, flags: &[&str]) {
    for round in 0..times {
        let mut follower = desk.follower(flags);
        // From before the first row to long after it; coprime steps, so that rounds differ.
        std::thread::sleep(Duration::from_millis(20 + (round * 67) % 331));
        follower.kill().unwrap();
        let output = follower.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!err.contains("error"), "round {round}: {err}");
    }
}

#[test]
fn a_follower_killed_fifty_times_loses_nothing_and_repeats_nothing() {
    let desk = Desk::with_orders();
    let rows: String =
        (10..2_000).map(|id| format!("{{\"id\":{id},\"name\":\"at first\"}}\n")).collect();
    desk.ok_with(&["append", "t.t", "-"], &rows);
    let file = desk.path("changes.jsonl");
    beside_a_writer(&desk, || {
        kill_often(&desk, 50, &["--from", "earliest", "--to", "changes.jsonl"]);
    });
    let before = std::fs::metadata(&file).unwrap().len();
    assert!(before > 100_000, "the followers got somewhere: {before} bytes");
    desk.ok(&["follow", "t.t", "--to", "changes.jsonl", "--until", "caught-up"]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(replayed(&self::rows(&text)), desk.table());
}

#[test]
fn a_named_follower_killed_often_loses_nothing() {
    let desk = Desk::with_orders();
    let mut seen: Vec<Value> = Vec::new();
    let flags = ["--name", "k", "--from", "earliest"];
    beside_a_writer(&desk, || {
        for round in 0..10 {
            let mut follower = desk.follower(&flags);
            let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
            let reader = std::thread::spawn(move || {
                let whole = lines.map_while(Result::ok);
                whole.filter_map(|l| serde_json::from_str::<Value>(&l).ok()).collect::<Vec<_>>()
            });
            std::thread::sleep(Duration::from_millis(300 + (round * 413) % 1500));
            follower.kill().unwrap();
            follower.wait().unwrap();
            seen.extend(reader.join().unwrap());
        }
    });
    seen.extend(desk.followed(&[&flags[..], &["--until", "caught-up"]].concat()));
    // What is told again is told in the same words.
    let mut once: Vec<Value> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for row in seen {
        if known.insert(row.to_string()) {
            once.push(row);
        }
    }
    once.sort_by_key(|row| row["_change_ordinal"].as_i64().unwrap());
    assert_eq!(replayed(&once), desk.table());
}

#[test]
fn without_order_the_same_changes_come_on_many_lanes() {
    let desk = Desk::with_orders();
    change(&desk);
    let mut rows = desk.followed(&[&CAUGHT_UP[..], &["--order", "none", "--lanes", "4"]].concat());
    rows.sort_by_key(|row| row["_change_ordinal"].as_i64().unwrap());
    assert_eq!(replayed(&rows), desk.table());
}

#[test]
fn the_rows_that_are_there_come_once_whatever_the_number_of_decoders() {
    let desk = Desk::with_orders();
    change(&desk);
    for decoders in ["1", "5"] {
        let from = ["--from", "full", "--until", "caught-up", "--full-parallelism", decoders];
        assert_eq!(replayed(&desk.followed(&from)), desk.table());
    }
}

#[test]
fn a_schema_change_is_a_line_among_the_rows_or_the_end() {
    let desk = Desk::with_orders();
    let to = ["--to", "changes.jsonl", "--on-schema-change", "announce"];
    let to_file = || {
        desk.ok(&[&["follow", "t.t"][..], &to, &CAUGHT_UP].concat());
        rows(&std::fs::read_to_string(desk.path("changes.jsonl")).unwrap())
    };
    let before = to_file().len();
    desk.ok(&["alter", "t.t", "schema", "--rename", "name=title", "--add", "note=string"]);
    desk.ok_with(&["upsert", "t.t", "-"], "{\"id\":7,\"title\":\"x\",\"note\":\"y\"}\n");
    let all = to_file();
    let line = &all[before];
    assert_eq!(line["_change_type"], "schema");
    let columns = line["_columns"].as_array().unwrap();
    assert!(columns.contains(&"title".into()) && columns.contains(&"note".into()), "{line}");
    assert_eq!(line["_schema"]["fields"].as_array().unwrap().len(), columns.len());
    let row = &all[before + 1];
    assert_eq!((&row["note"], &row["title"]), (&"y".into(), &"x".into()));
    assert_eq!(line["_commit_snapshot_id"], row["_commit_snapshot_id"]);
    assert!(all[..before].iter().all(|row| row.get("name").is_some() && row.get("note").is_none()));
    assert_eq!(to_file(), all, "told once");

    let refuse = [&["follow", "t.t", "--on-schema-change", "refuse"], &CAUGHT_UP[..]].concat();
    let said = desk.run(&refuse);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("schema changed") && said.err.contains("hint:"), "{}", said.err);
    assert_eq!(rows(&said.out).len(), before, "everything before it is printed");
    for format in ["csv", "arrow"] {
        let flags = ["follow", "t.t", "--on-schema-change", "announce", "--format", format];
        assert_fails(&desk.run(&flags), 2, &["jsonl"]);
    }
    let pinned = desk.followed(&CAUGHT_UP);
    assert!(pinned.iter().all(|row| row.get("title").is_some() && row.get("name").is_none()));
    let shown = [&["follow", "t.t", "--on-schema-change", "announce"], &CAUGHT_UP[..]].concat();
    let lines = desk.ok(&[&shown[..], &["--format", "lines"]].concat());
    assert!(lines.lines().any(|l| l.starts_with("schema ") && l.contains("note")), "{lines}");
}

#[test]
fn what_cannot_be_followed_is_refused_with_a_reason() {
    let desk = Desk::with_orders();
    desk.ok(&["create", "t.other", "--schema", "s.json", "--key", "id"]);
    desk.ok_with(&["append", "t.other", "-"], "{\"id\":1}\n");
    let foreign =
        desk.run(&["follow", "t.other", "--from", "earliest", "--until", "caught-up"]).err;
    let foreign = foreign.split('\'').nth(1).unwrap().to_string();
    for (flags, parts) in [
        (&["--from", "after:77"][..], &["77"][..]),
        (&["--from", "at:mw1.garbage"], &["token"]),
        (&["--from", foreign.as_str()], &["another table"]),
        (&["--until", "snapshot:77"], &["77"]),
        (&["--branch", "nope"], &["nope"]),
        (&["--select", "nope"], &["nope"]),
        (&["--where", "nope = 1"], &["nope"]),
        (&["--key", "nope"], &["nope"]),
        (&["--drop", "nope"], &["nope", "update_before"]),
    ] {
        assert_fails(&desk.run(&[&["follow", "t.t"], flags].concat()), 1, parts);
    }
    for flags in [
        &["--from", "yesterday"][..],
        &["--until", "tomorrow"],
        &["--emit", "everything"],
        &["--order", "any"],
        &["--lanes", "0"],
        &["--lanes", "65"],
        &["--full-parallelism", "0"],
        &["--full-parallelism", "257"],
        &["--memory", "512"],
        &["--memory", "lots"],
        &["--max-drift", "far"],
        &["--to", "x.jsonl", "--name", "n"],
        &["--tokens", "--format", "lines"],
    ] {
        let said = desk.run(&[&["follow", "t.t"], flags].concat());
        assert_eq!(said.code, 2, "{flags:?}: {}", said.err);
    }
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/fixtures/eq_flink/table");
    let homeless = desk.run(&["follow", place, "--name", "n"]);
    assert_fails(&homeless, 2, &["--positions"]);
    desk.file("notes.txt", "not a follower's\n");
    let said = desk.run(&["follow", "t.t", "--to", "notes.txt"]);
    assert_fails(&said, 1, &["notes.txt", "hint:"]);
}

#[test]
fn a_rollback_is_refused_with_advice_or_undone_as_asked() {
    let desk = Desk::with_orders();
    let first = desk.json(&["inspect", "snapshots", "t.t"])[0]["snapshot_id"].to_string();
    change(&desk);
    let mut rows = desk.followed(&[&CAUGHT_UP[..], &["--tokens"]].concat());
    let token = rows.last().unwrap()["_token"].as_str().unwrap().to_string();
    desk.ok(&["rollback", "t.t", "--to-snapshot", &first]);
    desk.ok_with(&["append", "t.t", "-"], "{\"id\":9}\n");
    let go_on = ["follow", "t.t", "--from", &format!("at:{token}"), "--until", "caught-up"];
    assert_fails(&desk.run(&go_on), 1, &["history rewritten", "on_rollback `net`"]);
    rows.extend(desk.followed(&[&go_on[2..], &["--on-rollback", "net"]].concat()));
    assert_eq!(replayed(&rows), desk.table());
    let lines = [&go_on[..], &["--on-rollback", "net", "--format", "lines"]].concat();
    let text = desk.ok(&lines);
    assert!(text.contains("net difference from snapshot"), "{text}");
    let bad = [&go_on[..], &["--on-gap", "net", "--emit", "appends"]].concat();
    assert_fails(&desk.run(&bad), 1, &["on_gap"]);
}

#[test]
fn more_readers_than_files_and_any_memory_give_the_same_rows() {
    let desk = Desk::with_orders();
    desk.ok_with(&["upsert", "t.t", "-"], "{\"id\":2,\"name\":\"new\"}\n");
    let follow = |from: &str, options: &[&str]| {
        let words = ["follow", "t.t", "--from", from, "--until", "caught-up", "--format", "csv"];
        let mut rows: Vec<String> =
            desk.ok(&[&words[..], options].concat()).lines().map(Into::into).collect();
        rows.sort();
        rows
    };
    for from in ["full", "earliest"] {
        let rows = follow(from, &[]);
        assert!(rows.len() > 3, "{rows:?}");
        for options in [
            &["--full-parallelism", "256", "--memory", "1MiB"][..],
            &["--full-parallelism", "1", "--lanes", "64"],
            &["--lanes", "64", "--full-parallelism", "256", "--memory", "16EiB"],
            &["--memory", "99999999999999TB"],
        ] {
            assert_eq!(follow(from, options), rows, "{options:?}");
        }
    }
}
