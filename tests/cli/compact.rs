//! `compact`: what it shows, what it does, how it exits.

use std::time::Duration;

use crate::support::{Desk, assert_fails};

/// `t.t` in `files` small files, partitioned by name.
fn in_small_files(files: u64) -> Desk {
    let desk = Desk::new();
    desk.file("s.json", r#"{"id": "long not null", "name": "string"}"#);
    desk.ok(&["create", "t.t", "--schema", "s.json", "--partition", "name"]);
    for n in 0..files {
        let name = ["a", "b"][(n % 2) as usize];
        desk.ok_with(&["append", "t.t", "-"], &format!("{{\"id\":{n},\"name\":\"{name}\"}}\n"));
    }
    desk
}

#[test]
fn a_dry_run_shows_what_a_run_then_does() {
    let desk = in_small_files(6);
    let words = ["compact", "t.t", "--min-input-files", "3"];
    let before = desk.files(".parquet").len();

    let shown = desk.ok(&[&words[..], &["--dry-run"]].concat());
    assert!(shown.contains("name=a") && shown.contains("too small"), "{shown}");
    let plan = desk.json(&[&words[..], &["--dry-run"]].concat());
    assert_eq!(plan["groups"].as_array().unwrap().len(), 2);
    assert_eq!(desk.files(".parquet").len(), before, "a dry run writes nothing");

    let report = desk.json(&words);
    assert_eq!((&report["before"]["files"], &report["after"]["files"]), (&6.into(), &2.into()));
    assert_eq!(report["groups"], plan["groups"].as_array().unwrap().len());
    assert_eq!(desk.ids(), [0, 1, 2, 3, 4, 5]);
    let again = desk.run(&words);
    assert!(again.err.contains("nothing was rewritten"), "{}", again.err);
}

#[test]
fn a_filter_takes_whole_partitions_and_contradictions_are_refused() {
    let desk = in_small_files(6);
    let words =
        |more: &[&'static str]| [&["compact", "t.t", "--min-input-files", "2"], more].concat();
    assert_eq!(desk.json(&words(&["--where", "name = 'a'"]))["groups"], 1);
    assert_fails(
        &desk.run(&words(&["--where", "id = 1"])),
        1,
        &["not partitioned by `id`", "hint:"],
    );
    assert_fails(&desk.run(&words(&["--where", "nope = 1"])), 1, &["nope"]);
    assert_fails(&desk.run(&words(&["--sort", "nope"])), 1, &["unknown sort column `nope`"]);
    assert_fails(&desk.run(&words(&["--sorted"])), 1, &["no sort order", "hint:"]);
    let sizes = desk.run(&words(&["--target-size", "1MB", "--min-size", "2MB"]));
    assert_fails(&sizes, 1, &["contradict", "hint:"]);
    assert_eq!(desk.run(&words(&["--target-size", "many"])).code, 2);
}

#[test]
#[cfg(unix)]
fn a_compaction_that_is_stopped_or_killed_leaves_a_whole_table_and_the_next_one_goes_on() {
    for signal in ["-INT", "-KILL"] {
        let desk = in_small_files(2);
        let rows = |n| format!("{{\"id\":{n},\"name\":\"a\"}}\n");
        desk.ok_with(&["append", "t.t", "-"], &(10..200_000).map(rows).collect::<String>());
        let before = desk.files(".parquet").len();
        let words = ["compact", "t.t", "--all", "--sort", "id", "--memory", "1KiB"];
        let quiet = std::process::Stdio::null;
        let mut child = desk.command(&words).stdout(quiet()).stderr(quiet()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let kill = [signal, &child.id().to_string()];
        assert!(std::process::Command::new("kill").args(kill).status().unwrap().success());
        let code = child.wait().unwrap().code();

        assert_eq!(desk.ids().len(), 199_992, "{signal}");
        if signal == "-INT" {
            assert!(matches!(code, Some(130 | 0)), "{code:?}");
            let snapshots = desk.json(&["inspect", "snapshots", "t.t"]);
            let commits = snapshots.as_array().unwrap().len() - 3;
            assert_eq!(desk.files(".parquet").len(), before + commits, "half-written files stay");
        }
        assert_eq!(desk.json(&["compact", "t.t", "--all"])["groups"], 2);
        assert_eq!(desk.ids().len(), 199_992, "{signal}");
    }
}

#[test]
#[cfg(unix)]
fn every_other_action_stopped_or_killed_at_any_moment_loses_nothing_and_the_next_one_goes_on() {
    let desk = Desk::with_orders();
    let row = |id: i64| format!("{{\"id\":{id},\"name\":\"a\",\"price\":1}}\n");
    desk.ok_with(&["append", "t.t", "-"], &(10..2_000).map(row).collect::<String>());
    let orphans = ["remove-orphans", "t.t", "--older-than", "0s", "--allow-younger"];
    let expire = ["expire", "t.t", "--older-than", "0s", "--retain-last", "2"];
    let actions: [&[&str]; 5] = [
        &["convert-deletes", "t.t"],
        &["rewrite-position-deletes", "t.t"],
        &["rewrite-manifests", "t.t", "--all"],
        &expire,
        &orphans,
    ];
    let mut expected = desk.ids();
    for (round, signal) in ["-INT", "-KILL", "-INT", "-KILL"].into_iter().enumerate() {
        for (n, action) in actions.into_iter().enumerate() {
            // Something to do for every action: keys deleted, and rows by position.
            let id = 20 + 10 * (5 * round + n) as i64;
            desk.ok_with(&["upsert", "t.t", "-"], &row(id));
            for gone in [id + 1, id + 2] {
                desk.ok(&["delete", "t.t", "--where", &format!("id = {gone}")]);
            }
            expected.retain(|kept| ![id + 1, id + 2].contains(kept));
            let quiet = std::process::Stdio::null;
            let mut child = desk.command(action).stdout(quiet()).stderr(quiet()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(3 + 11 * (round + n) as u64));
            let kill = [signal, &child.id().to_string()];
            let _ = std::process::Command::new("kill").args(kill).stderr(quiet()).status();
            child.wait().unwrap();
            assert_eq!(desk.ids(), expected, "{action:?} {signal}");
        }
        let verified = desk.run(&["verify", "t.t", "--deep"]);
        assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    }
    for action in actions {
        desk.json(action);
    }
    assert_eq!(desk.json(actions[0])["groups"], 0, "the last one did all that was left");
    assert_eq!(desk.ids(), expected);
    assert_eq!(desk.run(&["verify", "t.t", "--deep"]).code, 0);
}

#[test]
fn deletes_and_manifests_are_rewritten_as_their_plans_say() {
    let desk = Desk::with_orders();
    desk.ok_with(&["append", "t.t", "-"], "{\"id\":4}\n{\"id\":5}\n{\"id\":6}\n{\"id\":7}\n");
    for id in [4, 6] {
        desk.ok(&["delete", "t.t", "--where", &format!("id = {id}")]);
    }
    let dry = ["rewrite-position-deletes", "t.t", "--dry-run"];
    let plan = desk.json(&dry);
    assert_eq!(plan["groups"][0]["deletes"]["files"], 2, "{plan}");
    assert!(desk.ok(&dry).contains("data files"), "a table for people");
    let report = desk.json(&dry[..2]);
    assert_eq!((&report["before"]["files"], &report["after"]["files"]), (&2.into(), &1.into()));
    assert_eq!(desk.json(&dry)["groups"], serde_json::json!([]));

    let dry = ["rewrite-manifests", "t.t", "--dry-run"];
    let plan = desk.json(&dry);
    assert_eq!(plan["groups"][0]["content"], "data", "{plan}");
    let report = desk.json(&dry[..2]);
    assert_eq!(
        report["rewritten"][0]["before"]["manifests"],
        plan["groups"][0]["cost"]["manifests"]
    );
    assert_eq!(report["rewritten"][0]["after"]["manifests"], 1, "{report}");
    assert_eq!(desk.json(&dry)["groups"], serde_json::json!([]));
    assert_eq!(desk.ids(), [1, 2, 3, 5, 7]);
    assert_fails(&desk.run(&["rewrite-manifests", "t.t", "--spec", "7"]), 1, &["spec 7", "hint:"]);
    let part = desk.run(&["rewrite-position-deletes", "t.t", "--where", "id = 1"]);
    assert_fails(&part, 1, &["not partitioned by `id`", "hint:"]);
}
