//! `verify`: what it says of sound and of damaged tables.

use crate::support::{Desk, assert_fails};

#[test]
fn a_sound_table_has_no_findings_and_exit_code_0() {
    let desk = Desk::with_orders();
    desk.ok_with(&["upsert", "t.t", "-"], "{\"id\":3,\"name\":\"c\"}\n");
    for words in [&["verify", "t.t"][..], &["verify", "t.t", "--deep", "--all-snapshots"]] {
        let said = desk.run(words);
        assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
        assert!(said.err.contains("0 errors, 0 warnings, 0 notices"), "{}", said.err);
    }
    let report = desk.json(&["verify", "t.t", "--deep"]);
    assert_eq!(report["findings"], serde_json::json!([]));
    assert!(report["rows"].as_u64().unwrap() >= 4, "{report}");
}

#[test]
fn a_missing_file_is_named_with_a_next_step_and_exit_code_1() {
    let desk = Desk::with_orders();
    let file = desk.files(".parquet").remove(0);
    std::fs::remove_file(&file).unwrap();
    let said = desk.run(&["verify", "t.t"]);
    assert_eq!(said.code, 1, "{}", said.err);
    let name = file.file_name().unwrap().to_str().unwrap();
    for part in ["error", "data-file-missing", name, "next: ", "meltwater rollback t.t"] {
        assert!(said.out.contains(part), "no `{part}` in {}", said.out);
    }
    assert!(said.err.contains("1 error,") && said.err.contains("hint:"), "{}", said.err);
    let json = desk.run(&["verify", "t.t", "--output", "json"]);
    let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(report["findings"][0]["code"], "data-file-missing");
    assert_eq!((json.code, &report["findings"][0]["severity"]), (1, &"error".into()));
}

#[test]
fn metadata_that_cannot_be_read_is_a_finding_and_a_wrong_name_is_none() {
    let desk = Desk::with_orders();
    assert_fails(&desk.run(&["verify", "t.nobody"]), 1, &["t.nobody", "meltwater ls"]);
    assert_eq!(desk.run(&["verify", "t.t", "--snapshot", "7", "--all-snapshots"]).code, 2);
    assert_fails(&desk.run(&["verify", "t.t", "--snapshot", "7"]), 1, &["snapshot 7"]);
    let mut versions = desk.files(".metadata.json");
    versions.sort();
    let head = versions.iter().max_by_key(|p| std::fs::read_to_string(p).unwrap().len()).unwrap();
    let text = std::fs::read_to_string(head).unwrap();
    let id = desk.json(&["inspect", "snapshots", "t.t"])[0]["snapshot_id"].to_string();
    std::fs::write(
        head,
        text.replace(&format!("\"current-snapshot-id\":{id}"), "\"current-snapshot-id\":9"),
    )
    .unwrap();
    let said = desk.run(&["verify", "t.t"]);
    assert!(said.code == 1 && said.out.contains("metadata-unreadable"), "{}{}", said.out, said.err);
    std::fs::remove_file(head).unwrap();
    let said = desk.run(&["verify", "t.t"]);
    assert!(said.code == 1 && said.out.contains("metadata-missing"), "{}{}", said.out, said.err);
}
