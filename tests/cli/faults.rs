//! Wrong words, missing and damaged things, interruptions and sudden death.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Desk, assert_fails, said, signal};

#[test]
fn wrong_usage_exits_with_2() {
    let desk = Desk::with_orders();
    for words in [
        &["frobnicate"][..],
        &["scan"],
        &["scan", "t.t", "--limit", "many"],
        &["scan", "t.t", "--snapshot", "1", "--tag", "x"],
        &["scan", "t.t", "--as-of", "whenever"],
        &["scan", "no-table-name"],
        &["create", "t.u"],
        &["create", "t.u", "--schema", "s.json", "--property", "novalue"],
        &["alter", "t.t", "schema"],
        &["alter", "t.t", "schema", "--rename", "x"],
        &["scan", "t.t", "--map-prefix", "nonsense"],
        &["append", "t.t", "-", "--epoch", "1"],
    ] {
        let said = desk.run(words);
        assert_eq!(said.code, 2, "{words:?}: {}", said.err);
        assert!(said.err.contains("error:"), "{words:?}: {}", said.err);
    }
    assert_eq!(desk.run(&["--help"]).code, 0);
    assert_eq!(desk.run(&["--version"]).code, 0);
}

#[test]
fn what_is_missing_is_named_with_a_next_step() {
    let desk = Desk::with_orders();
    for (words, part) in [
        (&["scan", "t.nope"][..], "nope"),
        (&["append", "nope.t", "s.json"], "nope"),
        (&["scan", "t.t", "--snapshot", "77"], "77"),
        (&["scan", "t.t", "--tag", "nope"], "`nope`"),
        (&["append", "t.t", "-", "--branch", "nope"], "nope"),
        (&["rollback", "t.t", "--to-snapshot", "77"], "77"),
        (&["scan", "./nowhere"], "nowhere"),
        (&["ls", "--catalog", "sqlite:absent/catalog.db?warehouse=absent"], "absent/catalog.db"),
    ] {
        let said = desk.run_with(words, b"{\"id\":9}\n");
        assert_fails(&said, 1, &[part, "hint:"]);
    }
    assert!(!desk.path("absent").exists(), "looking must not make a catalog");
    assert_eq!(desk.ids(), [1, 2, 3]);
}

#[test]
fn what_cannot_be_done_is_refused_with_a_reason() {
    let desk = Desk::with_orders();
    for (words, parts) in [
        (&["create", "t.t", "--schema", "s.json"][..], &["already", "hint:"][..]),
        (&["create", "t.u", "--schema", "s.json", "--key", "nope"], &["`nope`"]),
        (&["create", "t.u", "--schema", "s.json", "--partition", "week(id)"], &["week(id)"]),
        (&["create", "t.u", "--schema", "s.json", "--partition", "day(name)"], &["day"]),
        (&["scan", "t.t", "--where", "naem = 'a'"], &["naem", "name"]),
        (&["scan", "t.t", "--where", "id = 'x'"], &["'x'"]),
        (&["scan", "t.t", "--where", "id ="], &["error:"]),
        (&["scan", "t.t", "--select", "nope"], &["nope"]),
        (&["delete", "t.t", "--where", "nope = 1"], &["nope"]),
        (&["alter", "t.t", "schema", "--drop", "id"], &["id"]),
        (&["alter", "t.t", "schema", "--add", "x=lnog"], &["lnog", "hint:"]),
        (&["branch", "t.t", "main", "--drop"], &["main"]),
    ] {
        assert_fails(&desk.run(words), 1, parts);
    }
    assert_eq!(desk.ids(), [1, 2, 3]);
}

#[test]
fn a_damaged_table_file_is_named() {
    let desk = Desk::with_orders();
    let data = desk.files(".parquet").remove(0);
    let bytes = std::fs::read(&data).unwrap();
    let name = data.file_name().unwrap().to_str().unwrap();
    std::fs::write(&data, &bytes[..bytes.len() / 2]).unwrap();
    assert_fails(&desk.run(&["scan", "t.t", "--format", "csv"]), 1, &[name]);
    std::fs::remove_file(&data).unwrap();
    assert_fails(&desk.run(&["scan", "t.t", "--format", "csv"]), 1, &[name]);
    std::fs::write(&data, &bytes).unwrap();

    let list =
        desk.files(".avro").into_iter().find(|p| p.to_string_lossy().contains("snap-")).unwrap();
    std::fs::write(&list, b"Obj\x01 no").unwrap();
    let name = list.file_name().unwrap().to_str().unwrap();
    assert_fails(&desk.run(&["scan", "t.t", "--format", "csv"]), 1, &[name]);
}

#[test]
fn a_place_that_cannot_be_written_leaves_the_table_unchanged() {
    let desk = Desk::with_orders();
    // A file where the folder should be refuses even the superuser, unlike permissions.
    let data = desk.files(".parquet").remove(0).parent().unwrap().to_owned();
    let aside = data.with_extension("aside");
    std::fs::rename(&data, &aside).unwrap();
    std::fs::write(&data, "not a folder").unwrap();
    assert_fails(&desk.run_with(&["append", "t.t", "-"], b"{\"id\":9}\n"), 1, &["caused by:"]);
    std::fs::remove_file(&data).unwrap();
    std::fs::rename(&aside, &data).unwrap();
    assert_eq!(desk.ids(), [1, 2, 3]);

    desk.file("blocked", "");
    let said = desk.run(&[
        "create",
        "t.u",
        "--schema",
        "s.json",
        "--catalog",
        "sqlite:blocked/c.db?warehouse=blocked",
    ]);
    assert_fails(&said, 1, &["blocked"]);
}

fn wait(child: &mut Child, patience: Duration) -> Option<std::process::ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < patience {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

#[test]
fn ctrl_c_in_the_middle_of_a_write_leaves_no_trace() {
    for command in ["append", "upsert"] {
        let desk = Desk::with_orders();
        let files = desk.files("").len();
        let mut writer = desk
            .command(&[command, "t.t", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Enough for several batches, and the input stays open: the write is in its middle.
        let mut stdin = writer.stdin.take().unwrap();
        for id in 0..50_000 {
            writeln!(stdin, "{{\"id\":{id},\"name\":\"interrupted\"}}").unwrap();
        }
        stdin.flush().unwrap();
        std::thread::sleep(Duration::from_millis(500));

        signal(&writer, "-INT");

        let status = wait(&mut writer, Duration::from_secs(20));
        if status.is_none() {
            writer.kill().unwrap();
        }
        drop(stdin);
        let said = said(writer.wait_with_output().unwrap());
        assert_eq!(said.code, 130, "{}", said.err);
        assert!(said.err.contains("nothing was committed"), "{}", said.err);
        assert_eq!(desk.ids(), [1, 2, 3]);
        assert_eq!(desk.files("").len(), files, "{:?}", desk.files(""));
    }
}

#[test]
fn a_writer_killed_at_any_moment_loses_no_acknowledged_commit() {
    let desk = Desk::with_orders();
    let mut acknowledged = vec![1, 2, 3];
    let mut survived = 0;
    for round in 0..30u64 {
        let id = 1000 + i64::try_from(round).unwrap();
        let command = if round % 2 == 0 { "append" } else { "upsert" };
        let mut child = desk
            .command(&[command, "t.t", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(format!("{{\"id\":{id}}}\n").as_bytes()).unwrap();
        // From before the first file to after the commit.
        let deadline = Duration::from_millis(4 * round);
        let status = wait(&mut child, deadline);
        if status.is_none() {
            let _ = child.kill();
        }
        let mut words = String::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            words.push_str(&line.unwrap());
        }
        let status = child.wait().unwrap();
        if status.success() || words.contains("committed snapshot") {
            acknowledged.push(id);
            survived += 1;
        }
        let ids = desk.ids();
        assert!(acknowledged.iter().all(|id| ids.contains(id)), "round {round}: {ids:?}");
    }
    // The last word: an undisturbed writer finds everything in order.
    desk.ok_with(&["upsert", "t.t", "-"], "{\"id\":5000}\n");
    assert!(desk.ids().contains(&5000));
    println!("{survived} of 30 writers finished before they were killed");
}
