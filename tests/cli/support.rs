//! A folder to work in, and the binary run inside it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A fresh working folder, with the default catalog in it.
pub struct Desk {
    folder: tempfile::TempDir,
}

/// The binary under test; `MELTWATER_BIN` names another one.
pub fn binary() -> String {
    std::env::var("MELTWATER_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_meltwater").to_string())
}

/// What a run said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Desk {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and returns its name, relative to the folder.
    pub fn file<'a>(&self, name: &'a str, contents: &str) -> &'a str {
        std::fs::write(self.path(name), contents).unwrap();
        name
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(words).current_dir(self.folder.path());
        for name in ["MELTWATER_CATALOG", "MELTWATER_LOG", "NO_COLOR"] {
            command.env_remove(name);
        }
        command
    }

    pub fn run(&self, words: &[&str]) -> Said {
        said(self.command(words).stdin(Stdio::null()).output().unwrap())
    }

    pub fn run_with(&self, words: &[&str], input: &[u8]) -> Said {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        said(output)
    }

    /// Runs and insists on success.
    pub fn ok(&self, words: &[&str]) -> String {
        let said = self.run(words);
        assert_eq!(said.code, 0, "{words:?}: {}", said.err);
        said.out
    }

    pub fn ok_with(&self, words: &[&str], input: &str) -> String {
        let said = self.run_with(words, input.as_bytes());
        assert_eq!(said.code, 0, "{words:?}: {}", said.err);
        said.out
    }

    /// The `--output json` answer of a command.
    pub fn json(&self, words: &[&str]) -> Value {
        let text = self.ok(&[words, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{words:?}: {e}\n{text}"))
    }

    /// `t.t` with a key, holding ids 1 to 3.
    pub fn with_orders() -> Self {
        let desk = Self::new();
        desk.file("s.json", r#"{"id": "long not null", "name": "string", "price": "double"}"#);
        desk.ok(&["create", "t.t", "--schema", "s.json", "--key", "id"]);
        desk.ok_with(
            &["append", "t.t", "-"],
            "{\"id\":1,\"name\":\"a\",\"price\":1.5}\n{\"id\":2,\"name\":\"b\"}\n{\"id\":3}\n",
        );
        desk
    }

    /// As [`Desk::with_orders`], with more rows than fit into a pipe.
    pub fn with_many_orders() -> Self {
        let desk = Self::with_orders();
        let row = |id| format!("{{\"id\":{id},\"name\":\"some text\"}}\n");
        desk.ok_with(&["append", "t.t", "-"], &(10..60_000).map(row).collect::<String>());
        desk
    }

    /// Runs for a reader who leaves after a line, and insists on success without a word.
    pub fn read_one_line_of(&self, words: &[&str]) {
        let script = format!("{} {} | head -1", binary(), words.join(" "));
        let mut shell = Command::new("bash");
        shell.args(["-o", "pipefail", "-c", &script]).current_dir(self.path(""));
        let said = said(shell.output().unwrap());
        assert!(said.code == 0 && said.err.is_empty(), "{words:?}: {}", said.err);
    }

    /// The ids of `t.t`, sorted.
    pub fn ids(&self) -> Vec<i64> {
        self.ids_where(&[])
    }

    pub fn ids_where(&self, flags: &[&str]) -> Vec<i64> {
        let words = [&["scan", "t.t", "--select", "id", "--format", "csv"], flags].concat();
        let mut ids: Vec<i64> =
            self.ok(&words).lines().skip(1).map(|line| line.parse().unwrap()).collect();
        ids.sort_unstable();
        ids
    }

    /// Every file of tables below the warehouse whose name ends so.
    pub fn files(&self, suffix: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        files_below(&self.path("warehouse"), &mut found);
        // SQLite's own side files come and go.
        found.retain(|path| {
            let path = path.to_string_lossy();
            path.ends_with(suffix) && !path.contains("catalog.db")
        });
        found
    }
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files_below(&path, found),
            false => found.push(path),
        }
    }
}

pub fn said(output: Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Checks the shape of a failure: exit code, nothing on stdout, `error:` first, each part named.
pub fn assert_fails(said: &Said, code: i32, parts: &[&str]) {
    assert_eq!(said.code, code, "{}", said.err);
    assert_eq!(said.out, "", "a failure prints no data");
    assert!(said.err.contains("error:"), "{}", said.err);
    for part in parts {
        assert!(said.err.contains(part), "no `{part}` in:\n{}", said.err);
    }
    assert!(!said.err.contains("panicked"), "{}", said.err);
}

/// Sends a signal such as `-INT`.
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

pub fn await_that(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "it never came true");
        std::thread::sleep(Duration::from_millis(20));
    }
}
