//! Tables of other engines, opened by their folder: exactly the rows expected.

use std::path::Path;

use serde_json::Value;

use crate::support::Desk;

fn fixtures() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fixtures");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn tables_of_other_engines_give_exactly_their_rows() {
    let desk = Desk::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fixtures");
    for name in fixtures() {
        let folder = root.join(&name);
        let expected: Value =
            serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
        let table = folder.join("table").display().to_string();
        let from = expected["map_prefix"]["from"].as_str().unwrap();
        let rows = desk.ok(&[
            "scan",
            &table,
            "--format",
            "canonical",
            "--map-prefix",
            &format!("{from}={table}"),
        ]);
        assert_eq!(rows.lines().count() as u64, expected["rows"].as_u64().unwrap(), "{name}");
        if let Ok(exact) = std::fs::read_to_string(folder.join("rows.jsonl")) {
            assert_eq!(rows, exact, "{name}");
        }
        // Where the folder differs from the location written, the mapping is found without help.
        assert_eq!(desk.ok(&["scan", &table, "--format", "canonical"]), rows, "{name}, no mapping");
    }
}

#[test]
fn a_table_opened_by_its_folder_is_read_only() {
    let desk = Desk::new();
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fixtures/eq_flink/table");
    let said = desk.run_with(&["append", &table.display().to_string(), "-"], b"{}\n");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("read-only") && said.err.contains("register"), "{}", said.err);
}
