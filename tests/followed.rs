//! Tables of other engines followed from their beginning: replaying the changes gives exactly the
//! rows those engines agree on. And a history in the exact shape of Flink's upsert writer.

mod kit;

#[path = "../src/testing/canonical.rs"]
#[allow(dead_code)]
mod canonical;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use meltwater::clock::{IdGenerator, SeededIds};
use meltwater::read::{ChangeKind, Emit};
use meltwater::spec::{PrimitiveType, SnapshotId, UnboundPartitionSpec};
use meltwater::stream::{ChangeBatch, Start, StreamEvent, Until};
use meltwater::table::{At, Table, WriteResult};
use serde_json::Value;

async fn followed(table: &Table, emit: Emit, lanes: usize) -> Vec<ChangeBatch> {
    let stream = table.stream().start(Start::Earliest).until(Until::CaughtUp);
    let mut changes = stream.emit(emit).lanes(lanes).open().await.unwrap();
    let mut batches = Vec::new();
    while let Some(event) = changes.try_next().await.unwrap() {
        if let StreamEvent::Batch(batch) = event {
            batches.push(batch);
        }
    }
    batches
}

/// What strictly replayed changes lead to, sorted.
fn replayed(table: &Table, batches: &[ChangeBatch]) -> Vec<String> {
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    for batch in batches {
        let lines = canonical::canonical_lines(&batch.records, table.schema());
        for (line, kind) in lines.into_iter().zip(&batch.kinds) {
            match kind {
                ChangeKind::Insert | ChangeKind::UpdateAfter => *rows.entry(line).or_default() += 1,
                _ => {
                    let left =
                        rows.get_mut(&line).unwrap_or_else(|| panic!("{line} was not there"));
                    *left -= 1;
                    if *left == 0 {
                        rows.remove(&line);
                    }
                }
            }
        }
    }
    rows.into_iter().flat_map(|(line, count)| vec![line; count]).collect()
}

async fn scanned(table: &Table) -> Vec<String> {
    let batches = kit::batches(&table.scan()).await.unwrap();
    let lines = batches.iter().flat_map(|b| canonical::canonical_lines(b, table.schema()));
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

async fn check(name: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/fixtures").join(name);
    let expected: Value =
        serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let (from, metadata) = (text(&expected["map_prefix"]["from"]), text(&expected["metadata"]));
    let copy = tempfile::tempdir().unwrap();
    let table = kit::foreign(&folder.join("table"), &folder.join(&metadata), &from);
    let table = match name {
        "eq_java" => kit::foreign(whole(&table, &folder, &copy), &folder.join(metadata), &from),
        _ => table,
    };
    assert!(table.metadata().snapshots().len() > 1, "{name} keeps a history");
    let scanned = scanned(&table).await;
    assert_eq!(scanned.len() as u64, expected["rows"].as_u64().unwrap());
    for lanes in [1, 3] {
        let batches = followed(&table, Emit::Changes, lanes).await;
        assert_eq!(replayed(&table, &batches), scanned, "{name} on {lanes} lanes");
    }
}

/// A copy of a table in which every manifest list has the name that the metadata says: one of
/// `eq_java`, of a snapshot in the middle, kept the name of a later attempt to commit it.
fn whole<'a>(table: &Table, folder: &Path, copy: &'a tempfile::TempDir) -> &'a Path {
    for part in ["data", "metadata"] {
        std::fs::create_dir(copy.path().join(part)).unwrap();
        for file in std::fs::read_dir(folder.join("table").join(part)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(part).join(file.file_name())).unwrap();
        }
    }
    for snapshot in table.metadata().snapshots() {
        let name = snapshot.manifest_list().rsplit('/').next().unwrap();
        let wanted = copy.path().join("metadata").join(name);
        if !wanted.exists() {
            let start = format!("snap-{}-", snapshot.snapshot_id());
            let mut files = std::fs::read_dir(copy.path().join("metadata")).unwrap();
            let is_it = |e: &std::fs::DirEntry| e.file_name().to_str().unwrap().starts_with(&start);
            let found = files.find_map(|e| e.ok().filter(is_it)).unwrap();
            std::fs::copy(found.path(), wanted).unwrap();
        }
    }
    copy.path()
}

macro_rules! followed {
    ($($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            check(stringify!($name)).await;
        })*
    };
}

followed! { eq_and_pos_java eq_java eq_scope_java pos_duckdb types_pyiceberg }

/// The rows of one parallel writer in one checkpoint: `(id, name)`, later ones replace earlier
/// ones of the same id; a row without a name is a delete.
type Written = Vec<(i64, Option<String>)>;

/// What Flink's upsert writer makes of them: every row's key goes into an equality delete file,
/// and a key that comes again in the same checkpoint is deleted by its position.
async fn flink_files(table: &Table, name: &str, rows: &Written) -> WriteResult {
    let mut at: BTreeMap<i64, i64> = BTreeMap::new();
    let (mut keys, mut dead) = (Vec::new(), Vec::new());
    let (mut ids, mut names) = (Vec::new(), Vec::new());
    for (id, name) in rows {
        match at.remove(id) {
            Some(position) => dead.push(position),
            None => keys.push(*id),
        }
        if let Some(name) = name {
            at.insert(*id, ids.len() as i64);
            ids.push(*id);
            names.push(name.clone());
        }
    }
    dead.sort_unstable();
    let column = |ids: Vec<i64>| Arc::new(Int64Array::from(ids)) as ArrayRef;
    let mut written = WriteResult::default();
    let keys = kit::batch(vec![("id", 1, column(keys))]);
    written.delete_files.push(kit::equality(table, &format!("{name}-eq"), &keys, &[1]).await);
    if !ids.is_empty() {
        let names: ArrayRef = Arc::new(StringArray::from(names));
        let rows = kit::batch(vec![("id", 1, column(ids)), ("name", 2, names)]);
        let data = kit::file(table, &format!("{name}-data"), &rows).await;
        if !dead.is_empty() {
            let name = format!("{name}-pos");
            written.delete_files.push(kit::positions_of(table, &name, &data, &dead).await);
        }
        written.data_files.push(data);
    }
    written
}

/// Commits checkpoints of three writers; gives the rows after each.
async fn flink_history(seed: u64) -> (Table, Vec<(i64, BTreeMap<i64, String>)>) {
    let dice = SeededIds::new(seed);
    let fields = vec![
        kit::required(1, "id", PrimitiveType::Long),
        kit::optional(2, "name", PrimitiveType::String),
    ];
    let mut table = kit::table_with(fields, UnboundPartitionSpec::default(), &[]);
    let (mut model, mut past) = (BTreeMap::new(), Vec::new());
    for checkpoint in 0..12 {
        let mut all = WriteResult::default();
        for writer in 0..3 {
            let mut rows = Written::new();
            for n in 0..dice.below(30) {
                // Rows reach writers by key.
                let id = (dice.below(25) * 3 + writer) as i64;
                let name = (dice.below(5) > 0).then(|| format!("{checkpoint}-{n}"));
                match &name {
                    Some(name) => model.insert(id, name.clone()),
                    None => model.remove(&id),
                };
                rows.push((id, name));
            }
            if !rows.is_empty() {
                let name = format!("c{checkpoint}-w{writer}");
                all = all.merge(flink_files(&table, &name, &rows).await);
            }
        }
        if !all.is_empty() {
            table = table.row_delta(all).commit().await.unwrap().table;
            past.push((table.current_snapshot().unwrap().snapshot_id(), model.clone()));
        }
    }
    (table, past)
}

fn ids_and_names(batch: &ChangeBatch) -> Vec<(i64, Option<String>)> {
    let ids = batch.records.column(0).as_primitive::<Int64Type>();
    let names = batch.records.column(1).as_string::<i32>();
    let name = |row: usize| names.is_valid(row).then(|| names.value(row).to_string());
    (0..ids.len()).map(|row| (ids.value(row), name(row))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_flinks_upsert_writer_commits_is_followed_exactly() {
    for seed in 1..=10 {
        let (table, past) = flink_history(seed).await;
        for (id, model) in &past {
            let scan = table.scan().at(At::Snapshot(SnapshotId(*id)));
            assert_eq!(scan.count().await.unwrap(), model.len() as u64, "the scan, seed {seed}");
        }
        let batches = followed(&table, Emit::Changes, 2).await;
        let mut rows: BTreeMap<i64, String> = BTreeMap::new();
        for (snapshot, model) in &past {
            for batch in batches.iter().filter(|b| b.commit.snapshot_id.0 == *snapshot) {
                for ((id, name), kind) in ids_and_names(batch).into_iter().zip(&batch.kinds) {
                    match kind {
                        ChangeKind::Insert | ChangeKind::UpdateAfter => {
                            let was = rows.insert(id, name.unwrap());
                            assert_eq!(was, None, "{id} came twice, seed {seed}");
                        }
                        _ => assert_eq!(rows.remove(&id), name, "{id} was not so, seed {seed}"),
                    }
                }
            }
            assert_eq!(&rows, model, "seed {seed}, snapshot {snapshot}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upserts_of_flinks_history_lead_to_the_same_rows() {
    for seed in 1..=10 {
        let (table, past) = flink_history(seed).await;
        let stream = table.stream().start(Start::Earliest).until(Until::CaughtUp).key(["id"]);
        let mut changes = stream.emit(Emit::Upserts).open().await.unwrap();
        let mut rows: BTreeMap<i64, String> = BTreeMap::new();
        while let Some(event) = changes.try_next().await.unwrap() {
            let StreamEvent::Batch(batch) = event else { continue };
            for ((id, name), kind) in ids_and_names(&batch).into_iter().zip(&batch.kinds) {
                match kind {
                    ChangeKind::Delete => rows.remove(&id),
                    _ => rows.insert(id, name.unwrap()),
                };
            }
        }
        assert_eq!(&rows, &past.last().unwrap().1, "seed {seed}");
    }
}
