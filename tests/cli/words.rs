//! The commands on their good days.

use crate::support::{Desk, assert_fails};

#[test]
fn rows_are_appended_upserted_deleted_and_scanned() {
    let desk = Desk::with_orders();
    assert_eq!(desk.ids(), [1, 2, 3]);

    desk.ok_with(&["upsert", "t.t", "-"], "{\"id\":2,\"name\":\"new\"}\n{\"id\":4}\n");
    desk.ok(&["delete", "t.t", "--where", "id = 1"]);

    assert_eq!(desk.ids(), [2, 3, 4]);
    assert_eq!(desk.ids_where(&["--where", "name = 'new'"]), [2]);
    assert_eq!(desk.ok(&["scan", "t.t", "--count"]).trim(), "3");
    assert_eq!(desk.ids_where(&["--limit", "2"]).len(), 2);
}

#[test]
fn data_goes_to_stdout_and_words_to_stderr() {
    let desk = Desk::with_orders();
    let said = desk.run(&["scan", "t.t"]);
    assert!(said.out.starts_with("id"), "{}", said.out);
    assert_eq!(said.err.trim(), "3 rows");
    let appended = desk.run_with(&["append", "t.t", "-"], b"{\"id\":9}\n");
    assert_eq!(appended.out, "");
    assert!(appended.err.contains("committed snapshot"), "{}", appended.err);
}

#[test]
fn json_answers_are_json() {
    let desk = Desk::with_orders();
    for view in ["snapshots", "history", "refs", "schema", "files", "manifests", "partitions"] {
        let rows = desk.json(&["inspect", view, "t.t"]);
        assert_eq!(rows.as_array().unwrap().len(), 1, "{view}: {rows}");
    }
    let snapshots = desk.json(&["inspect", "snapshots", "t.t"]);
    assert_eq!(snapshots[0]["added_rows"], 3);
    assert_eq!(desk.json(&["ls"])[0]["table"], "t");
}

#[test]
fn what_is_misspelt_is_answered_by_the_nearest_name() {
    let desk = Desk::with_orders();
    desk.ok(&["rename", "t.t", "t.orders"]);
    for (words, hint) in [
        (["scan", "t.order", "--limit", "1"], "did you mean `t.orders`?"),
        (["scan", "t.orders", "--select", "nmae"], "did you mean `name`?"),
        (["scan", "t.orders", "--where", "name = a"], "write text in single quotes: 'a'"),
        (["scan", "t.orders", "--where", "name = \"a\""], "write text in single quotes: 'a'"),
        (["scan", "t.orders", "--as-of", "1999-01-01"], "its history begins at 20"),
    ] {
        assert_fails(&desk.run(&words), 1, &[&format!("hint: {hint}")]);
    }
}

#[test]
fn inspect_says_the_same_in_words() {
    let desk = Desk::with_orders();
    assert!(desk.ok(&["inspect", "snapshots", "t.t"]).contains("append"));
    assert!(desk.ok(&["inspect", "schema", "t.t"]).contains("long"));
    assert!(desk.ok(&["inspect", "files", "t.t"]).contains(".parquet"));
    assert!(desk.ok(&["ls"]).contains("t"));
}

#[test]
fn the_past_is_read_by_snapshot_tag_branch_and_time() {
    let desk = Desk::with_orders();
    desk.ok(&["tag", "t.t", "first"]);
    desk.ok(&["branch", "t.t", "side"]);
    desk.ok_with(&["append", "t.t", "-"], "{\"id\":4}\n");
    desk.ok_with(&["append", "t.t", "-", "--branch", "side"], "{\"id\":5}\n");

    let first = desk.json(&["inspect", "snapshots", "t.t"])[0]["snapshot_id"].to_string();
    assert_eq!(desk.ids(), [1, 2, 3, 4]);
    assert_eq!(desk.ids_where(&["--tag", "first"]), [1, 2, 3]);
    assert_eq!(desk.ids_where(&["--snapshot", &first]), [1, 2, 3]);
    assert_eq!(desk.ids_where(&["--branch", "side"]), [1, 2, 3, 5]);
    assert_eq!(desk.ids_where(&["--as-of", "2999-01-01"]), [1, 2, 3, 4]);

    desk.ok(&["rollback", "t.t", "--to-snapshot", &first]);
    assert_eq!(desk.ids(), [1, 2, 3]);
    desk.ok(&["branch", "t.t", "main", "--forward-to", "side"]);
    assert_eq!(desk.ids(), [1, 2, 3, 5]);
    desk.ok(&["branch", "t.t", "side", "--drop"]);
    desk.ok(&["tag", "t.t", "first", "--drop"]);
    assert_eq!(desk.json(&["inspect", "refs", "t.t"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_table_is_altered_without_losing_rows() {
    let desk = Desk::with_orders();
    desk.ok(&["alter", "t.t", "schema", "--rename", "name=title", "--add", "tags=list<string>"]);
    desk.ok(&["alter", "t.t", "spec", "--add", "bucket(4, id)"]);
    desk.ok(&["alter", "t.t", "properties", "--set", "owner=me"]);
    desk.ok_with(&["append", "t.t", "-"], "{\"id\":4,\"title\":\"x\",\"tags\":[\"a\"]}\n");
    assert_eq!(desk.ids(), [1, 2, 3, 4]);
    assert_eq!(desk.ids_where(&["--where", "title = 'a'"]), [1]);
    assert_eq!(desk.json(&["inspect", "schema", "t.t"])[0]["properties"]["owner"], "me");
    desk.ok(&["alter", "t.t", "properties", "--remove", "owner"]);
}

#[test]
fn a_table_is_renamed_dropped_and_registered_again() {
    let desk = Desk::with_orders();
    desk.ok(&["rename", "t.t", "a.b.moved"]);
    assert!(desk.ok(&["ls"]).contains("a.b"));
    let dropped = desk.run(&["drop", "a.b.moved"]);
    assert!(dropped.err.contains("meltwater register"), "{}", dropped.err);
    let mut words = dropped.err.split_whitespace().map(|word| word.trim_matches('`'));
    let metadata = words.find(|word| word.ends_with(".metadata.json")).unwrap();
    desk.ok(&["register", "t.t", metadata]);
    assert_eq!(desk.ids(), [1, 2, 3]);
    assert!(!desk.files(".parquet").is_empty());
    desk.ok(&["drop", "t.t", "--purge", "--dry-run"]);
    assert_eq!(desk.ids(), [1, 2, 3]);
    desk.ok(&["drop", "t.t", "--purge"]);
    assert_eq!(desk.files(".parquet").len() + desk.files(".avro").len(), 0);
}

#[test]
fn a_purge_leaves_no_file_of_ours_behind() {
    let desk = Desk::with_orders();
    for id in 4..8 {
        desk.ok_with(&["upsert", "t.t", "-"], &format!("{{\"id\":{id}}}\n"));
    }
    desk.ok(&["maintain", "t.t", "--once", "--set", "compact.files=2"]);
    let metadata = desk.files(".metadata.json").remove(0);
    let table = metadata.parent().unwrap().parent().unwrap().to_owned();
    let of_table =
        || desk.files("").into_iter().filter(|f| f.starts_with(&table)).collect::<Vec<_>>();
    assert!(of_table().iter().any(|f| f.to_string_lossy().contains("_meltwater-maintain")));
    // What a killed process had under construction.
    std::fs::write(table.join("data/.meltwater-tmp-1-1"), "half").unwrap();
    std::fs::write(table.join("not-ours.txt"), "kept").unwrap();
    desk.ok(&["drop", "t.t", "--purge"]);
    let left = of_table();
    assert!(left.len() == 1 && left[0].ends_with("not-ours.txt"), "{left:?}");
}

#[test]
fn a_dry_run_of_delete_only_counts() {
    let desk = Desk::with_orders();
    let said = desk.run(&["delete", "t.t", "--where", "id > 1", "--dry-run"]);
    assert!(said.err.contains("would delete 2 rows"), "{}", said.err);
    assert_eq!(desk.ids(), [1, 2, 3]);
}

#[test]
fn the_catalog_comes_from_flag_then_environment_then_file_then_default() {
    let desk = Desk::with_orders();
    let uri = |name: &str| format!("sqlite:{name}/catalog.db?warehouse={name}");
    for name in ["flag", "env", "toml"] {
        desk.ok(&["create", &format!("n.{name}"), "--schema", "s.json", "--catalog", &uri(name)]);
    }
    assert!(desk.ok(&["ls"]).contains("t"));
    desk.file("meltwater.toml", &format!("catalog = \"{}\"\noutput = \"json\"\n", uri("toml")));
    assert!(desk.ok(&["ls"]).contains("\"toml\""));
    let with_env = |words: &[&str]| {
        let mut command = desk.command(words);
        let output = command.env("MELTWATER_CATALOG", uri("env")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(with_env(&["ls"]).contains("\"env\""));
    assert!(with_env(&["ls", "--catalog", &uri("flag")]).contains("\"flag\""));
}

#[test]
fn a_repeated_epoch_changes_nothing() {
    let desk = Desk::with_orders();
    let words = ["append", "t.t", "-", "--writer", "w", "--epoch", "7"];
    desk.ok_with(&words, "{\"id\":4}\n");
    let again = desk.run_with(&words, b"{\"id\":4}\n");
    assert_eq!(again.code, 0, "{}", again.err);
    assert!(again.err.contains("committed before"), "{}", again.err);
    assert_eq!(desk.ids(), [1, 2, 3, 4]);
}

#[test]
fn completions_and_manual_are_printed() {
    let desk = Desk::new();
    assert!(desk.ok(&["completions", "bash"]).contains("meltwater"));
    assert!(desk.ok(&["man"]).contains(".TH meltwater"));
}

#[test]
fn the_demo_leaves_a_table_and_its_last_lines_work() {
    let desk = Desk::new();
    let said = desk.run(&["demo", "--days", "1"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("2013-01-01"), "{}", said.err);
    assert!(said.err.contains("give exactly the table's"), "{}", said.err);
    let line = |start: &str| {
        said.err.lines().map(str::trim).find(|l| l.contains(start)).unwrap().to_string()
    };
    let script = format!(
        "set -e\n{}\n{}\n{}\n{}\n{}",
        line("export MELTWATER_CATALOG"),
        line("--where \"dest = 'SFO'"),
        line("--tag"),
        line("--until caught-up"),
        line("inspect snapshots"),
    );
    let shell = std::process::Command::new("bash")
        .args(["-c", &script])
        .current_dir(desk.path(""))
        .output()
        .unwrap();
    assert!(shell.status.success(), "{script}\n{}", String::from_utf8_lossy(&shell.stderr));
}

#[test]
fn a_row_moves_between_partitions_when_old_rows_are_looked_up() {
    let desk = Desk::new();
    desk.file("s.json", r#"{"id": "long not null", "name": "string"}"#);
    desk.ok(&["create", "t.t", "--schema", "s.json", "--partition", "name"]);
    let refused =
        desk.run_with(&["upsert", "t.t", "--key", "id", "-"], b"{\"id\":1,\"name\":\"a\"}\n");
    assert_fails(&refused, 1, &["--on-partition-move lookup"]);
    let upsert = ["upsert", "t.t", "--key", "id", "--on-partition-move", "lookup", "-"];
    desk.ok_with(&upsert, "{\"id\":1,\"name\":\"a\"}\n{\"id\":2,\"name\":\"a\"}\n");
    desk.ok_with(&upsert, "{\"id\":1,\"name\":\"b\"}\n");
    assert_eq!(desk.ids(), [1, 2]);
    assert_eq!(desk.ids_where(&["--where", "name = 'b'"]), [1]);
}
