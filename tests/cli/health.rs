//! `inspect health`: what it says, and that its commands are commands.

use crate::support::Desk;

#[test]
fn the_commands_that_health_names_can_be_run_as_they_stand() {
    let desk = Desk::with_orders();
    for id in 0..25 {
        desk.ok_with(&["upsert", "t.t", "-"], &format!("{{\"id\":{id}}}\n"));
    }
    let before = desk.ids();
    let report = desk.json(&["inspect", "health", "t.t"]);
    let topics = report["topics"].as_array().unwrap();
    let commands: Vec<&str> = topics.iter().filter_map(|t| t["command"].as_str()).collect();
    assert!(commands.contains(&"meltwater compact t.t"), "{report}");
    assert!(commands.contains(&"meltwater convert-deletes t.t"), "{report}");
    let text = desk.ok(&["inspect", "health", "t.t"]);
    assert!(text.is_ascii(), "plain when it is no terminal:\n{text}");
    for command in &commands {
        assert!(text.contains(command), "{command} is missing in\n{text}");
    }
    for command in commands {
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        desk.ok(&words);
    }
    assert_eq!(desk.ids(), before);
    let after = desk.json(&["inspect", "health", "t.t"]);
    let of = |kind: &str| {
        let topics = after["topics"].as_array().unwrap();
        topics.iter().find(|t| t["topic"] == kind).unwrap()["verdict"].clone()
    };
    assert_eq!([of("file-sizes"), of("equality-deletes")], ["good", "good"], "{after}");
    assert_eq!(desk.run(&["inspect", "health", "t.t", "--tag", "x"]).code, 2);
}
