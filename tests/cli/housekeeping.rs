//! `expire` and `remove-orphans`: what they print, plan and remove.

use crate::support::{Desk, assert_fails};

fn desk() -> Desk {
    let desk = Desk::with_orders();
    for id in 4..7 {
        desk.ok_with(&["upsert", "t.t", "-"], &format!("{{\"id\":{id}}}\n"));
    }
    desk
}

#[test]
fn expire_shows_its_plan_and_then_does_just_that() {
    let desk = desk();
    let words = ["expire", "t.t", "--older-than", "0s", "--retain-last", "2"];
    let before = desk.files("");
    let plan = desk.json(&[&words[..], &["--dry-run"]].concat());
    assert_eq!(plan["snapshots"].as_array().unwrap().len(), 2, "{plan}");
    assert_eq!(desk.files(""), before);
    let text = desk.ok(&[&words[..], &["--dry-run"]].concat());
    assert!(text.contains("manifest-list"), "{text}");

    let report = desk.json(&words);
    assert_eq!(report["snapshots"], serde_json::json!(ids(&plan["snapshots"])));
    assert_eq!(report["before"]["files"], plan["files"].as_array().unwrap().len());
    for file in plan["files"].as_array().unwrap() {
        let path = file["location"].as_str().unwrap().trim_start_matches("file://");
        assert!(!std::path::Path::new(path).exists(), "{path}");
    }
    assert_eq!(desk.ids(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(desk.json(&words)["snapshots"], serde_json::json!([]));
}

fn ids(snapshots: &serde_json::Value) -> Vec<i64> {
    snapshots.as_array().unwrap().iter().map(|s| s["snapshot_id"].as_i64().unwrap()).collect()
}

#[test]
fn what_may_not_expire_is_refused_with_a_reason() {
    let desk = desk();
    let head = desk.json(&["inspect", "snapshots", "t.t"]).as_array().unwrap().last().unwrap()
        ["snapshot_id"]
        .to_string();
    let head = head.trim_matches('"');
    assert_fails(&desk.run(&["expire", "t.t", "--snapshot", head]), 1, &["`main`", "hint:"]);
    assert_fails(&desk.run(&["expire", "t.t", "--snapshot", "77"]), 1, &["77"]);
    assert_eq!(desk.run(&["expire", "t.t", "--older-than", "soon"]).code, 2);
    desk.ok(&["alter", "t.t", "properties", "--set", "gc.enabled=false"]);
    for words in [["expire", "t.t"], ["remove-orphans", "t.t"]] {
        assert_fails(&desk.run(&words), 1, &["`gc.enabled` is false", "hint:"]);
    }
    let words = ["drop", "t.t", "--purge"];
    assert_fails(&desk.run(&words), 1, &["`gc.enabled` is false", "hint:"]);
    assert_eq!(desk.ids(), [1, 2, 3, 4, 5, 6], "it is still there");
}

#[test]
fn remove_orphans_finds_what_nothing_names() {
    let desk = desk();
    let before = desk.files("");
    let folder = desk.files(".parquet").remove(0).parent().unwrap().to_owned();
    let orphan = folder.join("orphan.parquet");
    std::fs::write(&orphan, "x").unwrap();
    assert_eq!(desk.json(&["remove-orphans", "t.t", "--dry-run"])["orphans"], 0, "it is young");
    let words = ["remove-orphans", "t.t", "--older-than", "0s"];
    assert_fails(&desk.run(&words), 1, &["--allow-younger"]);

    std::thread::sleep(std::time::Duration::from_millis(20));
    let words = [&words[..], &["--allow-younger"]].concat();
    let plan = desk.json(&[&words[..], &["--dry-run"]].concat());
    assert_eq!(plan["orphans"], 1, "{plan}");
    assert!(plan["files"][0]["location"].as_str().unwrap().ends_with("/orphan.parquet"));
    assert!(orphan.exists());
    let report = desk.json(&words);
    assert_eq!(report["before"]["files"], 1, "{report}");
    assert_eq!(desk.files(""), before);
    assert_eq!(desk.ids(), [1, 2, 3, 4, 5, 6]);
}

#[test]
#[cfg(unix)]
fn an_expiry_killed_between_metadata_and_files_leaves_orphans_for_the_next_hand() {
    let desk = Desk::with_orders();
    // Versions in the log would still name what went.
    let short = "write.metadata.previous-versions-max=1";
    desk.ok(&["alter", "t.t", "properties", "--set", short]);
    for id in 4..24 {
        desk.ok_with(&["upsert", "t.t", "-"], &format!("{{\"id\":{id}}}\n"));
    }
    desk.ok(&["compact", "t.t", "--all", "--min-input-files", "2"]);
    let words = ["expire", "t.t", "--older-than", "0s", "--retain-last", "1"];
    let plan = desk.json(&[&words[..], &["--dry-run"]].concat());
    let paths: Vec<_> = plan["files"].as_array().unwrap().iter().collect();
    let paths = paths.iter().map(|f| f["location"].as_str().unwrap().trim_start_matches("file://"));
    let paths: Vec<std::path::PathBuf> = paths.map(std::path::PathBuf::from).collect();
    let there = || paths.iter().filter(|path| path.exists()).count();
    assert!(there() == paths.len() && paths.len() > 60, "{}", paths.len());

    let quiet = std::process::Stdio::null;
    let mut child = desk.command(&words).stdout(quiet()).stderr(quiet()).spawn().unwrap();
    while paths.iter().all(|path| path.exists()) && child.try_wait().unwrap().is_none() {}
    let _ = child.kill();
    child.wait().unwrap();

    let left = there();
    assert!(left < paths.len(), "metadata went first, then a file");
    assert_eq!(desk.json(&["inspect", "snapshots", "t.t"]).as_array().unwrap().len(), 1);
    assert_eq!(desk.ids(), (1..24).collect::<Vec<_>>());
    assert_eq!(
        desk.json(&words)["snapshots"],
        serde_json::json!([]),
        "there is nothing left to expire"
    );
    for id in [24, 25] {
        desk.ok_with(&["upsert", "t.t", "-"], &format!("{{\"id\":{id}}}\n"));
    }
    std::thread::sleep(std::time::Duration::from_millis(20));
    let words = ["remove-orphans", "t.t", "--older-than", "0s", "--allow-younger"];
    let report = desk.json(&words);
    assert!(report["before"]["files"].as_u64().unwrap() >= left as u64, "{left} left: {report}");
    assert_eq!((there(), desk.ids().len()), (0, 25));
}
