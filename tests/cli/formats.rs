//! Files in and out.

use crate::support::{Desk, assert_fails};

const EVERY_TYPE: &str = r#"{"id": "long not null", "b": "boolean", "d": "double", "dec": "decimal(9,2)",
    "day": "date", "ts": "timestamp", "tz": "timestamptz", "s": "string", "u": "uuid", "bytes": "binary",
    "four": "fixed[4]", "sixteen": "fixed[16]", "t": "time", "f": "float"}"#;
const ROWS: &str = concat!(
    r#"{"id":1,"b":true,"d":0.1,"dec":"-1.05","day":"1969-12-31","ts":"2024-01-31T01:02:03.000004","#,
    r#""tz":"2024-01-31T01:02:03Z","s":"é, \"q\"","u":"f79c3e09-677c-4bbd-a479-3f349cb785e7","bytes":"00ff","four":"0a0b0c0d","#,
    r#""sixteen":"000102030405060708090a0b0c0d0e0f","t":"23:59:59.999999","f":0.1}"#,
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
        desk.ok(&["scan", "t.from", "--to", &file]); // its name says the format
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
fn json_lines_carry_every_value_that_a_table_can_hold() {
    let desk = Desk::new();
    let types = r#"{"id": "long not null", "f": "float", "d": "double", "m": "map<int,double>",
        "n": "struct<u:uuid,l:list<timestamptz>>"}"#;
    desk.file("types.json", types);
    desk.ok(&["create", "t.from", "--schema", "types.json"]);
    let rows = concat!(
        r#"{"id":1,"f":"NaN","d":"-Infinity","m":{"7":"Infinity","-8":0.1},"#,
        r#""n":{"u":"f79c3e09-677c-4bbd-a479-3f349cb785e7","l":["1969-12-31T23:59:59.5Z",null]}}"#,
        "\n{\"id\":9007199254740993.0,\"f\":0.1,\"d\":1e300}\n"
    );
    desk.ok_with(&["append", "t.from", "-"], rows);
    let before = desk.ok(&["scan", "t.from", "--format", "canonical"]);
    for told in ["\"f\":\"NaN\"", "\"d\":\"-inf\"", "[7,\"inf\"]", "9007199254740993,"] {
        assert!(before.contains(told), "{told} is missing: {before}");
    }
    let lines = desk.ok(&["scan", "t.from", "--format", "jsonl"]);
    assert!(lines.contains("\"u\":\"f79c3e09-677c"), "{lines}");
    desk.ok(&["create", "t.to", "--schema", "types.json"]);
    desk.ok_with(&["append", "t.to", "-"], &lines);
    assert_eq!(desk.ok(&["scan", "t.to", "--format", "canonical"]), before);
}

#[test]
fn a_value_that_a_column_cannot_hold_is_named_with_its_row_and_nothing_is_written() {
    let desk = desk();
    for (column, value) in [
        ("id", "1.5"),
        ("d", "1e400"),
        ("dec", "1.239"),
        ("dec", "12345678.9"),
        ("day", "\"2024-01-31T05:00:00\""),
        ("ts", "1700000000"),
    ] {
        let rest = if column == "id" { "" } else { "\"id\":4," };
        desk.file("x.jsonl", &format!("{{\"id\":3}}\n{{{rest}\"{column}\":{value}}}\n"));
        let (text, named) = (value.trim_matches('"'), format!("`{column}`"));
        let words = [named.as_str(), text, "row: 2", "x.jsonl", "hint:"];
        assert_fails(&desk.run(&["append", "t.from", "x.jsonl"]), 1, &words);
        if column != "id" {
            desk.file("x.csv", &format!("id,{column}\n3,\n4,{text}\n"));
            assert_fails(&desk.run(&["append", "t.from", "x.csv"]), 1, &words[..3]);
        }
    }
    assert_eq!(desk.ok(&["scan", "t.from", "--count"]).trim(), "2");
}

#[test]
fn an_input_without_rows_is_told_to_programs_too() {
    let desk = Desk::with_orders();
    desk.file("none.jsonl", "");
    let told = desk.json(&["append", "t.t", "none.jsonl"]);
    let told = if told.is_array() { &told[0] } else { &told };
    assert!(told["snapshot_id"].is_null() && told["rows"] == 0, "{told}");
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
fn no_table_is_made_like_a_file_that_says_too_little() {
    let desk = Desk::new();
    for (name, contents, word) in [
        ("none.jsonl", "", "no columns"),
        ("a.csv", "a,a\n1,2\n", "`a`"),
        ("b.csv", "a,,b\n1,2,3\n", "no name"),
    ] {
        desk.file(name, contents);
        assert_fails(&desk.run(&["create", "t.t", "--like", name]), 1, &[word, "hint:"]);
    }
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
        ("array.json", "\n [{\"id\": 4}]"),
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
