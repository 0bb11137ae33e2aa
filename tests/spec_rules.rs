//! Keeps `format-spec/` and the code together: every rule is cited by the code that follows it
//! and proved by a test that exists, and the code cites no rule that is not written down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// One `### DEL-3 Title` section.
struct Rule {
    file: String,
    proofs: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                out.push(path);
            }
        }
    }
    out.sort();
    out
}

/// `DEL-3` if the text begins with such an id.
fn rule_id(text: &str) -> Option<&str> {
    let letters = text.bytes().take_while(u8::is_ascii_uppercase).count();
    let digits = text.get(letters + 1..)?.bytes().take_while(u8::is_ascii_digit).count();
    let is_id = letters >= 2 && digits > 0 && text.as_bytes().get(letters) == Some(&b'-');
    is_id.then(|| &text[..letters + 1 + digits])
}

fn rules() -> BTreeMap<String, Rule> {
    let mut rules = BTreeMap::new();
    for path in files("format-spec", "md") {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        if file == "README.md" {
            continue;
        }
        let mut current: Option<String> = None;
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            if let Some(title) = line.strip_prefix("### ") {
                let id = rule_id(title).unwrap_or_else(|| panic!("{file}: no id in `{line}`"));
                let rule = Rule { file: file.clone(), proofs: Vec::new() };
                assert!(rules.insert(id.to_owned(), rule).is_none(), "{file}: {id} is there twice");
                current = Some(id.to_owned());
            }
            if let (Some(id), Some(proofs)) = (&current, line.strip_prefix("Proved by:")) {
                let named = proofs.split('`').skip(1).step_by(2);
                let names = named.map(|path| path.rsplit("::").next().unwrap().to_owned());
                rules.get_mut(id).unwrap().proofs.extend(names);
            }
        }
    }
    rules
}

/// Every id-shaped word of the sources, with one file that has it.
fn cited() -> BTreeMap<String, String> {
    let mut cited = BTreeMap::new();
    for path in files("src", "rs") {
        let text = std::fs::read_to_string(&path).unwrap();
        let file = path.strip_prefix(root()).unwrap().display().to_string();
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
            if let Some(id) = rule_id(word).filter(|id| id.len() == word.len()) {
                cited.insert(id.to_owned(), file.clone());
            }
        }
    }
    cited
}

fn test_functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in files("src", "rs").into_iter().chain(files("tests", "rs")) {
        let text = std::fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices("fn ") {
            let name =
                text[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            names.insert(name);
        }
    }
    names
}

#[test]
fn every_rule_is_cited_by_code() {
    let cited = cited();
    let missing: Vec<_> = rules()
        .iter()
        .filter(|(id, _)| !cited.contains_key(*id))
        .map(|(id, rule)| format!("{id} ({})", rule.file))
        .collect();
    assert!(missing.is_empty(), "rules that no file under src/ cites: {missing:?}");
}

#[test]
fn every_rule_is_proved_by_a_test_that_exists() {
    let tests = test_functions();
    let mut findings = Vec::new();
    for (id, rule) in rules() {
        if rule.proofs.is_empty() {
            findings.push(format!("{id} ({}) has no `Proved by:` line", rule.file));
        }
        for proof in rule.proofs.iter().filter(|proof| !tests.contains(*proof)) {
            findings.push(format!("{id} ({}) names no test: `{proof}`", rule.file));
        }
    }
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn code_cites_no_rule_that_is_not_written_down() {
    let rules = rules();
    let prefixes: BTreeSet<_> = rules.keys().filter_map(|id| id.split_once('-')).collect();
    let known: BTreeSet<_> = prefixes.iter().map(|(letters, _)| *letters).collect();
    let unknown: Vec<_> = cited()
        .into_iter()
        .filter(|(id, _)| id.split_once('-').is_some_and(|(letters, _)| known.contains(letters)))
        .filter(|(id, _)| !rules.contains_key(id))
        .collect();
    assert!(unknown.is_empty(), "cited but not written in format-spec/: {unknown:?}");
}
