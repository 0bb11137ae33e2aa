//! A follower at a terminal: coloured changes above a line that says how it stands.

use std::io::Read;

use crate::follow::CAUGHT_UP;
use crate::pty::{Screen, Terminal};
use crate::support::{Desk, await_that, said, signal};

const CTRL_C: u8 = 3;
const PLAIN: u8 = 0;
const BOLD: u8 = 1;
const DIM: u8 = 2;
const RED: u8 = 31;
const GREEN: u8 = 32;
const NAMED: [&str; 6] = ["follow", "t.t", "--name", "n", "--from", "earliest"];
const STOPPING: &str = "stopping cleanly; press Ctrl-C again to stop at once";
const STORED: &str = "the position is stored as `n`; the same command goes on from it";

impl Desk {
    /// What is said of the first snapshot, and of one that changes, adds and removes a row.
    fn told(&self) -> Vec<String> {
        let snapshots = self.json(&["inspect", "snapshots", "t.t"]);
        let text = |value: &serde_json::Value| value.to_string().replace('"', "");
        let head = |at: usize| {
            let of = &snapshots[at];
            format!("snapshot {}  {}", text(&of["snapshot_id"]), text(&of["committed_at"]))
        };
        let mut told = vec![
            head(0),
            "+ id=1  name=a  price=1.5".into(),
            "+ id=2  name=b  price=null".into(),
            "+ id=3  name=null  price=null".into(),
        ];
        if snapshots.as_array().unwrap().len() > 1 {
            told.extend([
                head(1),
                "~ id=2  name=b → new  price=null".into(),
                "+ id=4  name=null  price=null".into(),
                head(2),
                "- id=1  name=a  price=1.5".into(),
            ]);
        }
        told
    }
}

/// Without blanks and without rows: a long line goes on in the next row.
fn squeezed(lines: &[String]) -> String {
    lines.concat().replace(' ', "")
}

fn is_up_to_date(screen: &Screen) -> bool {
    squeezed(&screen.lines()).contains("t.tuptodate")
}

#[test]
fn changes_are_coloured_and_stand_above_a_line_of_lag_watermark_and_speed() {
    let desk = Desk::with_orders();
    let mut terminal = Terminal::run(desk.command(&NAMED), 120, None);
    terminal.until(is_up_to_date);
    desk.ok_with(&["upsert", "t.t", "-"], "{\"id\":2,\"name\":\"new\"}\n{\"id\":4}\n");
    desk.ok(&["delete", "t.t", "--where", "id = 1"]);
    let screen = terminal.until(|screen| {
        let last = screen.lines().pop().unwrap_or_default();
        last.contains("t.t  up to date · complete through 20") && last.contains(" · 7 rows, ")
    });
    let mut lines = screen.lines();
    let status = lines.pop().unwrap();
    assert!(status.ends_with("/s"), "{status}");
    assert_eq!(lines, desk.told());
    let colours = screen.colours();
    let pieces = [
        ("+ id=4  name=null  price=null", GREEN),
        ("- id=1  name=a  price=1.5", RED),
        ("id=2", DIM),
        ("b", RED),
        ("new", GREEN),
        (lines[0].as_str(), BOLD),
    ];
    for (text, colour) in pieces {
        assert!(colours.contains(&(text.to_string(), colour)), "{text} in {colours:?}");
    }
    assert_eq!(colours.last().unwrap().1, PLAIN, "{colours:?}");

    terminal.press(CTRL_C);
    let (status, screen) = terminal.end();
    assert!(status.success(), "{status}");
    let words = [STOPPING, "stopped after 7 changes", STORED].map(str::to_string);
    assert_eq!(screen.lines(), [desk.told(), words.to_vec()].concat());
    assert_eq!(desk.json(&["streams", "t.t"])[0]["snapshots_behind"], 0);
    assert_eq!(desk.followed(&["--name", "n", "--until", "caught-up"]).len(), 0);
}

#[test]
fn a_narrow_terminal_shows_the_beginning_of_the_line_and_keeps_nothing_of_it() {
    let desk = Desk::with_orders();
    for columns in [17, 40, 61] {
        let name = format!("n{columns}");
        let words = ["follow", "t.t", "--name", &name, "--from", "earliest"];
        let mut terminal = Terminal::run(desk.command(&words), columns, None);
        terminal.until(is_up_to_date);
        terminal.press(CTRL_C);
        let (status, screen) = terminal.end();
        assert!(status.success(), "{status}");
        let words =
            [STOPPING, "stopped after 3 changes", &STORED.replace("`n`", &format!("`{name}`"))];
        let expected = [desk.told(), words.map(str::to_string).to_vec()].concat();
        assert_eq!(squeezed(&screen.lines()), squeezed(&expected), "{columns} columns:\n{screen}");
    }
}

#[test]
fn rows_in_a_pipe_are_plain_while_the_line_is_on_the_terminal() {
    let desk = Desk::with_orders();
    let (mut rows, into) = std::io::pipe().unwrap();
    let mut terminal = Terminal::run(desk.command(&NAMED), 100, Some(into.into()));
    terminal.until(is_up_to_date);
    terminal.press(CTRL_C);
    let (status, screen) = terminal.end();
    assert!(status.success(), "{status}");
    assert_eq!(screen.lines(), [STOPPING, "stopped after 3 changes", STORED]);
    let mut text = String::new();
    rows.read_to_string(&mut text).unwrap();
    assert_eq!(crate::follow::rows(&text).len(), 3);
}

#[test]
fn who_wants_no_colours_gets_none() {
    let desk = Desk::with_orders();
    let mut command = desk.command(&[&["follow", "t.t"][..], &CAUGHT_UP].concat());
    command.env("NO_COLOR", "1");
    let (_, screen) = Terminal::run(command, 120, None).end();
    assert_eq!(screen.lines()[..4], desk.told());
    assert!(screen.colours().iter().all(|piece| piece.1 == PLAIN), "{screen}");
}

#[test]
fn without_a_terminal_there_is_neither_colour_nor_line() {
    let desk = Desk::with_orders();
    let follower = desk.follower(&[&NAMED[2..], &["--format", "lines"]].concat());
    // The line would be drawn as often as the position is stored.
    await_that(|| desk.json(&["streams", "t.t"])[0]["snapshots_behind"] == 0);
    signal(&follower, "-INT");
    let said = said(follower.wait_with_output().unwrap());
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(said.out.lines().collect::<Vec<_>>(), desk.told());
    assert_eq!(said.err.lines().collect::<Vec<_>>(), [STOPPING, "stopped after 3 changes", STORED]);
}
