//! Files in and out.

use crate::support::{Desk, assert_fails};

const EVERY_TYPE: &str = r#"{"id": "long not null", "b": "boolean", "d": "double", "dec": "decimal(9,2)",
    "day": "date", "ts": "timestamp", "tz": "timestamptz", "s": "string", "u": "uuid"}"#;
const ROWS: &str = concat!(
    r#"{"id":1,"b":true,"d":0.1,"dec":"-1.05","day":"1969-12-31","ts":"2024-01-31T01:02:03.000004","#,
    r#""tz":"2024-01-31T01:02:03Z","s":"é, \"q\"","u":"f79c3e09-677c-4bbd-a479-3f349cb785e7"}"#,
    "\n{\"id\":2}\n"
);

fn desk() -> Desk {
    let desk = Desk::new();
    desk.file("types.json", EVERY_TYPE);
    desk.ok(&["create", "t.from", "--schema", "types.json"]);
    desk.ok_with(&["append", "t.from", "-"], ROWS);
    desk
}

#[test]
fn rows_survive_a_trip_through_every_format() {
    let desk = desk();
    let before = desk.ok(&["scan", "t.from", "--format", "canonical"]);
    assert_eq!(before.lines().count(), 2);
    for format in ["parquet", "csv", "jsonl", "arrow"] {
        let (table, file) = (format!("t.{format}"), format!("rows.{format}"));
        desk.ok(&["scan", "t.from", "--format", format, "--to", &file]);
        desk.ok(&["create", &table, "--schema", "types.json"]);
        desk.ok(&["append", &table, &file]);
        assert_eq!(desk.ok(&["scan", &table, "--format", "canonical"]), before, "{format}");
    }
}

#[test]
fn every_format_comes_through_a_pipe() {
    let desk = desk();
    let before = desk.ok(&["scan", "t.from", "--format", "canonical"]);
    for format in ["parquet", "csv", "jsonl", "arrow"] {
        let table = format!("t.{format}");
        desk.ok(&["create", &table, "--schema", "types.json"]);
        let scanned =
            desk.command(&["scan", "t.from", "--format", format]).output().unwrap().stdout;
        let said = desk.run_with(&["append", &table, "-", "--format", format], &scanned);
        assert_eq!(said.code, 0, "{format}: {}", said.err);
        assert_eq!(desk.ok(&["scan", &table, "--format", "canonical"]), before, "{format}");
    }
}

#[test]
fn a_table_is_made_like_a_file() {
    let desk = Desk::new();
    desk.file("rows.csv", "id,name,day\n1,x,2024-01-31\n2,,2024-02-01\n");
    desk.ok(&["create", "t.t", "--like", "rows.csv", "--key", "id", "--partition", "month(day)"]);
    desk.ok(&["append", "t.t", "rows.csv"]);
    assert_eq!(desk.ids(), [1, 2]);
    assert_eq!(desk.json(&["inspect", "partitions", "t.t"]).as_array().unwrap().len(), 2);
}

#[test]
fn a_damaged_input_is_named_and_nothing_is_left_behind() {
    let desk = Desk::with_orders();
    let before = desk.files("").len();
    for (name, contents) in [
        ("x.parquet", "PAR1 no PAR1"),
        ("x.arrow", "ARROW1\0\0 no"),
        ("x.jsonl", "{\"id\": 4}\n{\"id\": oops}\n"),
        ("x.csv", "id,name\n4,a\nfive,b\n"),
        ("y.csv", "id,price\n4,a,b,c\n"),
        ("z.jsonl", "{\"id\": 4, \"nope\": 1}\n"),
        ("n.csv", "name\nno id\n"),
    ] {
        desk.file(name, contents);
        assert_fails(
            &desk.run(&["append", "t.t", name]),
            1,
            &[name, "hint:"][..1 + usize::from(name != "n.csv")],
        );
    }
    assert_fails(&desk.run(&["append", "t.t", "absent.csv"]), 1, &["absent.csv"]);
    assert_fails(&desk.run(&["append", "t.t", "what.ever"]), 1, &["--format"]);
    assert_eq!(desk.ids(), [1, 2, 3]);
    assert_eq!(desk.files("").len(), before);
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let desk = Desk::with_many_orders();
    for format in ["table", "jsonl", "csv", "canonical"] {
        desk.read_one_line_of(&["scan", "t.t", "--format", format]);
    }
}
