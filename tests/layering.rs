//! Keeps the house in order: floors, file and function length, module docs, and the few doors
//! to the outside (the `iceberg` crate, the wall clock, randomness).
//!
//! It reads source text, not the compiler's view: comments and strings are blanked first, and
//! code under `cfg(test)` is exempt. A finding names file and line.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Floors of DESIGN §2; imports go strictly downwards.
const FLOORS: &[(&str, u8)] = &[
    ("spec", 0),
    ("error", 0),
    ("clock", 0),
    ("measure", 0),
    ("storage", 1),
    ("expr", 1),
    ("manifest", 2),
    ("file", 2),
    ("catalog", 3),
    ("deletes", 3),
    ("table", 4),
    ("scan", 5),
    ("write", 5),
    ("read", 6),
    ("stream", 7),
    ("maintenance", 7),
    ("ingest", 7),
    ("dml", 7),
    ("pipeline", 8),
    ("testing", 8),
    ("cli", 9),
];

const MAX_FILE_LINES: usize = 600;
const MAX_FUNCTION_LINES: usize = 70;

/// One source file with everything blanked that a check must not see.
struct Source {
    path: PathBuf,
    raw: String,
    /// Comments, string contents and `cfg(test)` items are blanks; line breaks stay.
    code: String,
}

impl Source {
    /// `spec` for `src/spec/ids.rs`, `error` for `src/error.rs`.
    fn module(&self) -> String {
        let parts: Vec<_> = self.path.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        parts[1].trim_end_matches(".rs").to_owned()
    }

    fn line_of(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }

    fn at(&self, offset: usize) -> String {
        format!("{}:{}", self.path.display(), self.line_of(offset))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under `src/` that is compiled outside tests.
fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    walk(&root().join("src"), &mut files);
    let all: Vec<Source> = files
        .into_iter()
        .map(|path| {
            let raw = std::fs::read_to_string(&path).unwrap();
            let (code, _) = without_tests(&blank(&raw));
            Source { path: path.strip_prefix(root()).unwrap().to_owned(), raw, code }
        })
        .collect();
    let test_only = test_modules(&all);
    all.into_iter().filter(|s| !test_only.iter().any(|t| s.path.starts_with(t))).collect()
}

fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Files and folders that a `#[cfg(test)] mod name;` brings in.
fn test_modules(all: &[Source]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for source in all {
        let folder = match source.path.file_stem().unwrap().to_str().unwrap() {
            "mod" | "lib" | "main" => source.path.parent().unwrap().to_owned(),
            _ => source.path.with_extension(""),
        };
        let (_, removed) = without_tests(&blank(&source.raw));
        for name in removed.iter().filter_map(|item| module_declared(item)) {
            found.insert(folder.join(format!("{name}.rs")));
            found.insert(folder.join(name));
        }
    }
    found
}

/// `tests` for `mod tests;`.
fn module_declared(item: &str) -> Option<String> {
    let rest = item.trim().strip_suffix(';')?;
    let name = rest.rsplit_once("mod ")?.1.trim();
    name.chars().all(|c| c.is_alphanumeric() || c == '_').then(|| name.to_owned())
}

/// Same length, same lines; comments and the insides of strings and chars become blanks.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if raw_string_hashes(bytes, at).is_some() => raw_string_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => at + 1,
        };
        if end > at + 1 {
            let quoted = bytes[at] != b'/';
            for (i, byte) in out.iter_mut().enumerate().take(end).skip(at) {
                let is_edge = quoted && (i == at || i == end - 1);
                if *byte != b'\n' && !is_edge {
                    *byte = b' ';
                }
            }
        }
        at = end;
    }
    String::from_utf8(out).unwrap()
}

fn find(bytes: &[u8], from: usize, needle: &[u8]) -> usize {
    bytes[from..].windows(needle.len()).position(|w| w == needle).map_or(bytes.len(), |p| from + p)
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// How many hashes the raw string at `at` has, if there is one.
fn raw_string_hashes(bytes: &[u8], at: usize) -> Option<usize> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if at > 0 && is_name(bytes[at - 1]) && bytes[at - 1] != b'b' {
        return None;
    }
    let hashes = bytes[at + 1..].iter().take_while(|b| **b == b'#').count();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn raw_string_end(bytes: &[u8], at: usize) -> usize {
    let hashes = raw_string_hashes(bytes, at).unwrap();
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    (find(bytes, at + hashes + 2, &close) + close.len()).min(bytes.len())
}

/// A char literal ends at its quote; a lifetime is one step.
fn char_end(bytes: &[u8], at: usize) -> usize {
    if bytes.get(at + 1) == Some(&b'\\') {
        return find(bytes, at + 3, b"'") + 1;
    }
    let width = match bytes.get(at + 1) {
        Some(b) if *b >= 0xF0 => 4,
        Some(b) if *b >= 0xE0 => 3,
        Some(b) if *b >= 0xC0 => 2,
        _ => 1,
    };
    if bytes.get(at + 1 + width) == Some(&b'\'') { at + width + 2 } else { at + 1 }
}

/// The text with every item under `#[cfg(test)]` blanked, and those items.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let mut out = code.to_owned();
    let mut removed = Vec::new();
    let mut from = 0;
    while let Some(found) = out[from..].find("#[cfg(test)]") {
        let start = from + found;
        let body = start + "#[cfg(test)]".len();
        let end = item_end(&out, body);
        removed.push(out[body..end].to_owned());
        let blanked: String =
            out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blanked);
        from = start;
    }
    (out, removed)
}

/// Where the item that begins at `from` ends: at its `;`, or at the brace that closes its first.
fn item_end(code: &str, from: usize) -> usize {
    for (i, c) in code[from..].char_indices() {
        match c {
            ';' => return from + i + 1,
            '{' => return closing_brace(code, from + i),
            _ => {}
        }
    }
    code.len()
}

fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (i, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return open + i + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Every `crate::name`, also inside `crate::{a, b::c}`, with its offset.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (offset, text) in code.match_indices("crate::") {
        let rest = &code[offset + text.len()..];
        if rest.starts_with('{') {
            let group = &rest[1..closing_brace(rest, 0).saturating_sub(1)];
            let mut depth = 0;
            let top: String = group
                .chars()
                .filter(|c| {
                    depth += i32::from(*c == '{') - i32::from(*c == '}');
                    depth == 0
                })
                .collect();
            found.extend(top.split(',').map(|p| (offset, first_name(p.trim()))));
        } else {
            found.push((offset, first_name(rest)));
        }
    }
    found
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn floor_of(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

fn report(findings: &[String]) {
    let mut text = String::new();
    for finding in findings {
        writeln!(text, "  {finding}").unwrap();
    }
    assert!(findings.is_empty(), "\n{text}");
}

#[test]
fn imports_go_strictly_downwards() {
    let mut findings = Vec::new();
    for source in sources() {
        let module = source.module();
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let Some(own) = floor_of(&module) else {
            findings.push(format!("{}: module without a floor", source.path.display()));
            continue;
        };
        for (offset, name) in crate_paths(&source.code) {
            let Some(floor) = floor_of(&name) else { continue };
            // Errors lie below everything, their own floor included.
            if name != module && name != "error" && floor >= own {
                findings.push(format!(
                    "{}: {module} (floor {own}) imports {name} (floor {floor})",
                    source.at(offset)
                ));
            }
        }
    }
    report(&findings);
}

#[test]
fn files_stay_short() {
    let mut findings = Vec::new();
    for source in sources() {
        // Blanked test code and trailing blank lines do not count, comments do.
        let lines = source
            .code
            .lines()
            .zip(source.raw.lines())
            .filter(|(code, raw)| !code.trim().is_empty() || raw.trim_start().starts_with("//"))
            .count();
        if lines > MAX_FILE_LINES {
            findings.push(format!("{}: {lines} lines", source.path.display()));
        }
    }
    report(&findings);
}

#[test]
fn functions_fit_on_a_screen() {
    let mut findings = Vec::new();
    for source in sources() {
        for (offset, _) in source.code.match_indices("fn ") {
            let before = source.code[..offset].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let end = item_end(&source.code, offset);
            let lines = source.code[offset..end].matches('\n').count() + 1;
            if lines > MAX_FUNCTION_LINES {
                let name = first_name(&source.code[offset + 3..]);
                findings.push(format!("{}: fn {name} has {lines} lines", source.at(offset)));
            }
        }
    }
    report(&findings);
}

#[test]
fn every_file_begins_with_a_module_doc() {
    let findings: Vec<String> = sources()
        .iter()
        .filter(|s| !s.raw.starts_with("//! "))
        .map(|s| format!("{}: no `//!` module doc", s.path.display()))
        .collect();
    report(&findings);
}

#[test]
fn library_code_does_not_panic_on_purpose() {
    let forbidden = [".unwrap()", ".expect(\"", "panic!(", "todo!(", "unimplemented!(", "dbg!("];
    report(&occurrences(&forbidden, |_| false));
}

#[test]
fn only_spec_error_and_storage_name_the_iceberg_crate() {
    let allowed = ["src/spec", "src/error.rs", "src/storage", "src/lib.rs"];
    report(&occurrences(&["iceberg::"], |path| allowed.iter().any(|a| path.starts_with(a))));
}

#[test]
fn wall_clock_and_randomness_have_one_door() {
    let forbidden = ["SystemTime::now", "Utc::now", "Local::now", "Uuid::new_v4", "rand::"];
    // A terminal is allowed to look at the clock; no plan depends on it.
    let allowed = ["src/clock.rs", "src/cli"];
    report(&occurrences(&forbidden, |path| allowed.iter().any(|a| path.starts_with(a))));
}

fn occurrences(needles: &[&str], exempt: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|s| !exempt(&s.path)) {
        for needle in needles {
            for (offset, _) in source.code.match_indices(needle) {
                let before = source.code[..offset].chars().next_back().unwrap_or(' ');
                let is_part_of_a_name = needle.starts_with(char::is_alphabetic)
                    && (before.is_alphanumeric() || before == '_');
                if !is_part_of_a_name {
                    findings.push(format!("{}: {needle}", source.at(offset)));
                }
            }
        }
    }
    findings
}

#[test]
fn the_checks_see_through_comments_strings_and_test_code() {
    let text = "fn a() { b(\"crate::cli\"); } // crate::read\n\
                #[cfg(test)]\nmod tests { use crate::cli; }\nuse crate::{scan, table::Table};\n\
                const C: char = '\"'; const R: &str = r#\"crate::dml\"#;";
    let (code, _) = without_tests(&blank(text));
    let names: Vec<_> = crate_paths(&code).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["scan", "table"]);
}
