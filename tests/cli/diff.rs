//! What tells two snapshots apart, as a person or a script asks for it.

use serde_json::Value;

use crate::support::{Desk, assert_fails};

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn kinds_and_ids(rows: &[Value]) -> Vec<(&str, i64)> {
    rows.iter().map(|r| (r["_change_type"].as_str().unwrap(), r["id"].as_i64().unwrap())).collect()
}

/// `t.t` tagged `before`, then changed, compacted, and a row written again as it was.
fn changed() -> Desk {
    let desk = Desk::with_orders();
    desk.ok(&["tag", "t.t", "before"]);
    desk.ok_with(&["upsert", "t.t", "-"], "{\"id\":2,\"name\":\"new\"}\n{\"id\":4}\n");
    desk.ok(&["delete", "t.t", "--where", "id = 1"]);
    desk.ok_with(&["upsert", "t.t", "-"], "{\"id\":3}\n");
    desk.ok(&["compact", "t.t"]);
    desk
}

#[test]
fn only_what_differs_is_printed_whatever_happened_between() {
    let desk = changed();
    let found = rows(&desk.ok(&["diff", "t.t", "before.."]));
    let expected = [("delete", 1), ("update_before", 2), ("update_after", 2), ("insert", 4)];
    assert_eq!(kinds_and_ids(&found), expected);
    assert_eq!((&found[1]["name"], &found[2]["name"]), (&"b".into(), &"new".into()));
    let back = rows(&desk.ok(&["diff", "t.t", "current..before"]));
    let expected = [("delete", 4), ("insert", 1), ("update_before", 2), ("update_after", 2)];
    assert_eq!(kinds_and_ids(&back), expected);
    assert_eq!(desk.ok(&["diff", "t.t", "earliest..current"]), desk.ok(&["diff", "t.t", ".."]));
    assert_eq!(desk.ok(&["diff", "t.t", "current..current"]), "");
}

#[test]
fn lines_put_old_and_new_values_side_by_side() {
    let desk = changed();
    let words = ["diff", "t.t", "before..", "--format", "lines", "--select", "id,name"];
    let text = desk.ok(&words);
    assert_eq!(text, "- id=1  name=a\n~ id=2  name=b → new\n+ id=4  name=null\n");
    let text = desk.ok(&[&words[..], &["--limit", "2"]].concat());
    assert_eq!(text.lines().count(), 2);
    let text = desk.ok(&["diff", "t.t", "before..", "--format", "csv", "--select", "id"]);
    assert_eq!(text, "id,_change_type\n1,delete\n2,update_before\n2,update_after\n4,insert\n");
    let text = desk.ok(&["diff", "t.t", "before..", "--format", "table", "--where", "id > 3"]);
    assert!(text.contains("_change_type") && text.contains("insert"), "{text}");
}

#[test]
fn a_filter_keeps_the_meaning_of_updates() {
    let desk = changed();
    let found = rows(&desk.ok(&["diff", "t.t", "before..", "--where", "name = 'b'"]));
    assert_eq!(kinds_and_ids(&found), [("delete", 2)]);
}

#[test]
fn numbers_tell_what_differs_and_what_was_looked_at() {
    let desk = changed();
    let stat = desk.json(&["diff", "t.t", "before..", "--stat"]);
    assert_eq!(
        (&stat["inserted"], &stat["updated"], &stat["deleted"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(stat["removed_files"], 1);
    let text = desk.ok(&["diff", "t.t", "before..", "--stat"]);
    assert!(text.contains("1 inserted, 1 updated, 1 deleted"), "{text}");
}

#[test]
fn branches_compare_though_neither_is_an_ancestor_of_the_other() {
    let desk = Desk::with_orders();
    desk.ok(&["branch", "t.t", "audit"]);
    desk.ok_with(&["append", "t.t", "-", "--branch", "audit"], "{\"id\":7}\n");
    desk.ok_with(&["append", "t.t", "-"], "{\"id\":8}\n");
    let found = rows(&desk.ok(&["diff", "t.t", "audit..main"]));
    assert_eq!(kinds_and_ids(&found), [("delete", 7), ("insert", 8)]);
}

#[test]
fn what_cannot_be_compared_is_told_with_a_next_step() {
    let desk = Desk::with_orders();
    assert_fails(&desk.run(&["diff", "t.t", "before"]), 2, &["A..B"]);
    assert_fails(&desk.run(&["diff", "t.t", "a...b"]), 2, &["A..B"]);
    assert_fails(&desk.run(&["diff", "t.t", "nobody.."]), 1, &["`nobody`", "inspect refs"]);
    assert_fails(&desk.run(&["diff", "t.t", "77.."]), 1, &["no snapshot 77", "inspect snapshots"]);
    assert_fails(&desk.run(&["diff", "t.t", "..", "--key", "size"]), 1, &["`size`"]);
}
