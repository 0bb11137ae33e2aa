//! A disk that fills up in every stage of a write, by the system's own limit on file sizes.
//!
//! A write past `ulimit -f` fails in the middle with an error of the operating system, as on a
//! full disk, and needs no rights that a build machine lacks.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

use meltwater::catalog::{Catalog, SqlCatalog, parse_namespace};
use meltwater::storage::Storage;

use crate::follow::CAUGHT_UP;
use crate::support::{Desk, Said, assert_fails, binary, said};

/// No file of the writer may grow beyond this.
const LIMIT_KIB: usize = 64;

/// Runs the binary where files cannot grow beyond the limit.
fn limited(desk: &Desk, words: &[&str], input: &str) -> Said {
    limited_to(LIMIT_KIB, desk, words, input)
}

fn limited_to(kib: usize, desk: &Desk, words: &[&str], input: &str) -> Said {
    let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"");
    let mut command: Command = desk.command(&[]);
    let folder = command.get_current_dir().unwrap().to_owned();
    command = Command::new("bash");
    command.args(["-c", &script, &binary()]).args(words).current_dir(folder);
    command.env_remove("MELTWATER_CATALOG").env_remove("MELTWATER_LOG");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || {
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    said(output)
}

/// The failure says why and what to do; the table and the folder are as before.
fn fails_without_a_trace(desk: &Desk, words: &[&str], input: &str, why: &str) {
    let files = desk.files("");
    let said = limited(desk, words, input);
    assert_fails(&said, 1, &[why, "hint:"]);
    assert_eq!(desk.ids(), [1, 2, 3]);
    assert_eq!(desk.files(""), files);
}

#[test]
fn a_disk_that_fills_up_under_a_data_file_leaves_no_trace() {
    let desk = Desk::with_orders();
    let mut seed = 1u64;
    let mut rows = String::new();
    for id in 0..40_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        rows.push_str(&format!("{{\"id\":{id},\"name\":\"{seed:x}\"}}\n"));
    }
    for command in ["append", "upsert"] {
        let why = "larger than the system allows";
        fails_without_a_trace(&desk, &[command, "t.t", "-"], &rows, why);
    }
    // The limit was the reason, and nothing else.
    assert_eq!(limited(&desk, &["append", "t.t", "-"], "{\"id\":4}\n").code, 0);
    assert_eq!(desk.ids(), [1, 2, 3, 4]);
}

#[test]
fn a_disk_that_fills_up_under_the_metadata_leaves_no_trace() {
    for catalog in [None, Some("file:warehouse")] {
        let desk = Desk::new();
        let flags = catalog.map_or(vec![], |c| vec!["--catalog", c]);
        let long = format!("note={}", "x".repeat(2 * LIMIT_KIB * 1024 - 4096));
        desk.file("s.json", r#"{"id": "long not null"}"#);
        let words = ["create", "t.t", "--schema", "s.json", "--key", "id"];
        desk.ok(&[&words[..], &flags, &["--property", &long]].concat());
        let append = [&["append", "t.t", "-"][..], &flags].concat();
        desk.ok_with(&append, "{\"id\":1}\n");

        let files = desk.files("");
        let said = limited(&desk, &append, "{\"id\":2}\n");
        assert_fails(&said, 1, &["larger than the system allows", "hint:"]);
        assert_eq!(desk.files(""), files, "{catalog:?}");
        let ids = desk.ok(&[&["scan", "t.t", "--format", "csv"][..], &flags].concat());
        assert_eq!(ids, "id\n1\n", "{catalog:?}");
    }
}

#[test]
fn a_disk_that_fills_up_under_the_pointer_swap_leaves_no_trace() {
    let desk = Desk::with_orders();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // A connection that stays open keeps SQLite's log, and this one is longer than the limit.
    let held = runtime.block_on(async {
        let file = desk.path("warehouse/catalog.db");
        let warehouse = format!("file://{}", desk.path("warehouse").display());
        let catalog = SqlCatalog::open(file, None, &warehouse, Storage::default()).await.unwrap();
        for n in 0..30 {
            let properties = HashMap::from([("note".to_string(), "x".repeat(16 << 10))]);
            let namespace = parse_namespace(&format!("n{n}")).unwrap();
            catalog.create_namespace(&namespace, properties).await.unwrap();
        }
        catalog
    });
    let log = std::fs::metadata(desk.path("warehouse/catalog.db-wal")).unwrap();
    assert!(log.len() > 2 * 1024 * LIMIT_KIB as u64, "the log has {} bytes", log.len());

    for command in ["append", "upsert"] {
        fails_without_a_trace(&desk, &[command, "t.t", "-"], "{\"id\":9}\n", "SQL catalog failed");
    }
    drop(held);
    desk.ok_with(&["append", "t.t", "-"], "{\"id\":9}\n");
    assert_eq!(desk.ids(), [1, 2, 3, 9]);
}

#[test]
fn a_disk_that_is_full_when_a_position_is_stored_repeats_and_skips_nothing() {
    let desk = Desk::with_orders();
    let table = desk.path("warehouse/t/t");
    let named = ["--name", "n", "--positions", "positions", "--format", "csv", "--select", "id"];
    let follow = [&["follow", table.to_str().unwrap()], &named[..], &CAUGHT_UP].concat();
    let ids = |out: &str| out.lines().skip(1).map(str::to_string).collect::<Vec<_>>();
    let first = desk.ok(&follow);
    assert_eq!(ids(&first).len(), 3, "{first}");
    desk.ok_with(&["append", "t.t", "-"], "{\"id\":4}\n");

    let refused = limited_to(0, &desk, &follow, "");
    let why = ["larger than the system allows", "hint:", "the position stored before is kept"];
    assert_fails(&refused, 1, &why);
    let again = desk.ok(&follow);
    assert_eq!(ids(&again).len(), 1, "{again}");
    assert!(ids(&desk.ok(&follow)).is_empty());
}
