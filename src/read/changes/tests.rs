//! Changes of single snapshots, one behaviour a test.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;

use super::hold::hold;
use super::sources::{Source, SourceKind, SourceReader};
use super::*;
use crate::error::ErrorKind;
use crate::kit;
use crate::scan::{ChangeClass, Grouping};
use crate::spec::*;
use crate::table::WriteResult;

pub(in crate::read) type Seen = (ChangeKind, i64, Option<String>);

/// `id long, name string`; the key is named by the readers.
pub(in crate::read) fn table() -> Table {
    kit::table(vec![
        kit::optional(1, "id", PrimitiveType::Long),
        kit::optional(2, "name", PrimitiveType::String),
    ])
}

fn rows(rows: &[(i64, &str)]) -> arrow::record_batch::RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1)));
    kit::batch(vec![("id", 1, ids), ("name", 2, names)])
}

pub(in crate::read) async fn keys(table: &Table, name: &str, ids: Vec<i64>) -> DataFile {
    let ids: ArrayRef = Arc::new(Int64Array::from(ids));
    kit::equality(table, name, &kit::batch(vec![("id", 1, ids)]), &[1]).await
}

fn by_id(emit: Emit) -> ChangeReadOptions {
    ChangeReadOptions { emit, key: Some(vec!["id".into()]), ..ChangeReadOptions::default() }
}

fn reader(table: &Table, options: ChangeReadOptions) -> Arc<ChangeReader> {
    Arc::new(ChangeReader::new(table, options).unwrap())
}

/// The changes that the head makes.
async fn head(reader: &Arc<ChangeReader>, table: &Table) -> Result<Vec<Seen>> {
    let snapshot = table.current_snapshot().unwrap();
    let changes = table.plan_changes(snapshot, Grouping::Partition).await?;
    assert_eq!(changes.class(), ChangeClass::Mixed);
    let mut seen = Vec::new();
    for unit in 0..changes.units().len() {
        let parts: Vec<ChangeRows> =
            reader.read_unit(changes.clone(), unit, 0).try_collect().await?;
        seen.extend(seen_in(&parts));
    }
    Ok(seen)
}

/// The changes of rows `id, name`.
pub(in crate::read) fn seen_in(parts: &[ChangeRows]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for part in parts {
        let ids = part.records.column(0).as_primitive::<Int64Type>();
        let names = part.records.column(1).as_string::<i32>();
        for (row, kind) in part.kinds.iter().enumerate() {
            let name = names.is_valid(row).then(|| names.value(row).to_string());
            seen.push((*kind, ids.value(row), name));
        }
    }
    seen
}

pub(in crate::read) fn change(kind: ChangeKind, id: i64, name: &str) -> Seen {
    (kind, id, Some(name.to_string()))
}

async fn commit(table: &Table, data: Vec<DataFile>, deletes: Vec<DataFile>) -> Table {
    let written = WriteResult { data_files: data, delete_files: deletes, ..WriteResult::default() };
    table.row_delta(written).commit().await.unwrap().table
}

use ChangeKind::{Delete, Insert, UpdateAfter, UpdateBefore};

#[tokio::test]
async fn an_upsert_gives_pre_images_and_a_delete_the_old_row() {
    let table = table();
    let a = kit::file(&table, "a", &rows(&[(1, "a"), (2, "b"), (3, "c")])).await;
    let table = kit::append(&table, vec![a]).await;
    let b = kit::file(&table, "b", &rows(&[(2, "B"), (9, "n")])).await;
    let dead = keys(&table, "d", vec![2, 3, 7]).await;
    let table = commit(&table, vec![b], vec![dead]).await;
    let seen = head(&reader(&table, by_id(Emit::Changes)), &table).await.unwrap();
    let expected = [
        change(Delete, 3, "c"),
        change(UpdateBefore, 2, "b"),
        change(UpdateAfter, 2, "B"),
        change(Insert, 9, "n"),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn what_was_decoded_ahead_of_a_units_turn_is_not_read_again() {
    let table = table();
    let a = kit::file(&table, "a", &rows(&[(1, "a"), (2, "b"), (3, "c")])).await;
    let table = kit::append(&table, vec![a]).await;
    let b = kit::file(&table, "b", &rows(&[(2, "B"), (9, "n")])).await;
    let dead = keys(&table, "d", vec![2, 3]).await;
    let files = [b.file_path.clone(), dead.file_path.clone()];
    let table = commit(&table, vec![b], vec![dead]).await;
    let snapshot = table.current_snapshot().unwrap();
    let changes = table.plan_changes(snapshot, Grouping::Partition).await.unwrap();
    let reader = reader(&table, by_id(Emit::Upserts));
    let kinds = |ahead: Option<UnitAhead>| {
        let schema = table.schema().clone();
        let parts = reader.read_unit_by(schema, changes.clone(), 0, (0, 1), ahead);
        async move {
            let parts: Result<Vec<ChangeRows>> = parts.try_collect().await;
            parts.map(|parts| parts.into_iter().flat_map(|part| part.kinds).collect::<Vec<_>>())
        }
    };
    let expected = kinds(None).await.unwrap();
    assert_eq!(expected, [Delete, UpdateAfter, UpdateAfter]);

    let ahead = || reader.unit_ahead(table.schema().clone(), changes.clone(), 0, 1 << 20);
    let (whole, none) = (ahead(), reader.unit_ahead(table.schema().clone(), changes.clone(), 0, 0));
    for _ in 0..1000 {
        tokio::task::yield_now().await; // one thread: now it is decoded
    }
    for file in files {
        table.storage().delete(&file).await.unwrap();
    }
    assert_eq!(kinds(Some(whole)).await.unwrap(), expected);
    for nothing in [None, Some(none), Some(ahead())] {
        assert_eq!(kinds(nothing).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn files_whose_rows_cannot_fit_are_not_begun() {
    let table = table();
    let repeating: Vec<(i64, &str)> = vec![(1, "so much text of so few bytes"); 4_000];
    let mut files = Vec::new();
    for name in ["a", "b", "c"] {
        files.push(kit::file(&table, name, &rows(&repeating)).await);
    }
    let table = kit::append(&table, files.clone()).await;
    for gone in &files[1..] {
        table.storage().delete(&gone.file_path).await.unwrap();
    }
    let options = ChangeReadOptions { parallelism: 1, ..by_id(Emit::Changes) };
    let changes = reader(&table, options);
    let snapshot = SnapshotId(table.current_snapshot().unwrap().snapshot_id());
    let reader = SourceReader::new(changes, table.schema().clone(), None, snapshot).unwrap();
    let source = |file: &DataFile| Source {
        file: Arc::new(file.clone()),
        rows: (0..file.record_count).collect(),
        kind: SourceKind::Moved,
        sequence_number: SequenceNumber(1),
        held: None,
    };
    let mut sources: Vec<Source> = files.iter().map(source).collect();
    // All three seem to fit, as they are compressed; not one does.
    let budget = files.iter().map(|file| file.file_size_in_bytes).sum::<u64>() * 4;
    assert!(budget < 4_000 * 28, "{budget}");
    hold(&reader, sources.iter_mut(), budget).await.unwrap();
    assert!(sources.iter().all(|source| source.held.is_none()));
}

#[tokio::test]
async fn a_commits_equality_columns_are_the_key_when_nothing_else_says_one() {
    let table = table();
    let a = kit::file(&table, "a", &rows(&[(1, "a")])).await;
    let table = kit::append(&table, vec![a]).await;
    let b = kit::file(&table, "b", &rows(&[(1, "A")])).await;
    let dead = keys(&table, "d", vec![1]).await;
    let table = commit(&table, vec![b], vec![dead]).await;
    let seen = head(&reader(&table, ChangeReadOptions::default()), &table).await.unwrap();
    assert_eq!(seen, [change(UpdateBefore, 1, "a"), change(UpdateAfter, 1, "A")]);
}

#[tokio::test]
async fn a_row_dies_once_and_may_come_back() {
    let table = table();
    let a = kit::file(&table, "a", &rows(&[(1, "a"), (2, "b")])).await;
    let table = kit::append(&table, vec![a.clone()]).await;
    let warm = reader(&table, by_id(Emit::Changes));
    let dead = kit::positions_of(&table, "p", &a, &[1]).await;
    let table = kit::delete(&table, vec![dead.clone()]).await;
    assert_eq!(head(&warm, &table).await.unwrap(), [change(Delete, 2, "b")]);
    let again = keys(&table, "d", vec![2]).await;
    let table = kit::delete(&table, vec![again.clone()]).await;
    assert_eq!(head(&warm, &table).await.unwrap(), [], "row 2 was dead");
    let cold = reader(&table, by_id(Emit::Changes));
    assert_eq!(head(&cold, &table).await.unwrap(), [], "row 2 was dead");
    // By age the deletes reach nothing: so the commit lets them go, as another engine's would.
    let ageless = Some(SequenceNumber(0));
    let removed =
        [dead, again].iter().map(|d| crate::table::RemovedFile::new(d, ageless)).collect();
    let table =
        table.overwrite_files(removed, WriteResult::default()).commit().await.unwrap().table;
    assert_eq!(head(&warm, &table).await.unwrap(), [change(Insert, 2, "b")]);
}

#[tokio::test]
async fn appends_refuse_a_unit_that_may_remove_rows() {
    let table = table();
    let a = kit::file(&table, "a", &rows(&[(1, "a")])).await;
    let table = kit::append(&table, vec![a]).await;
    let dead = keys(&table, "d", vec![1]).await;
    let table = kit::delete(&table, vec![dead]).await;
    let error = head(&reader(&table, by_id(Emit::Appends)), &table).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.hint().unwrap().contains("upserts"));
}

#[tokio::test]
async fn upserts_do_not_read_the_files_that_equality_deletes_touch() {
    let table = table();
    let a = kit::file(&table, "a", &rows(&[(1, "a"), (2, "b")])).await;
    let table = kit::append(&table, vec![a.clone()]).await;
    let b = kit::file(&table, "b", &rows(&[(2, "B")])).await;
    let dead = keys(&table, "d", vec![5, 2, 1, 1]).await;
    let table = commit(&table, vec![b], vec![dead]).await;
    table.storage().delete(&a.file_path).await.unwrap();
    let seen = head(&reader(&table, by_id(Emit::Upserts)), &table).await.unwrap();
    assert_eq!(seen, [(Delete, 5, None), (Delete, 1, None), change(UpdateAfter, 2, "B")]);
    let error = head(&reader(&table, by_id(Emit::Changes)), &table).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "exact changes need the old rows");
    assert!(error.to_string().contains("a.parquet") || format!("{error:?}").contains("a.parquet"));
}

#[tokio::test]
async fn keys_of_deletes_come_in_the_columns_that_were_asked_for() {
    let table = table();
    let a = kit::file(&table, "a", &rows(&[(1, "a")])).await;
    let table = kit::append(&table, vec![a]).await;
    let dead = keys(&table, "d", vec![5, 1]).await;
    let table = commit(&table, Vec::new(), vec![dead]).await;
    let snapshot = table.current_snapshot().unwrap();
    let changes = table.plan_changes(snapshot, Grouping::Partition).await.unwrap();
    let select = Some(["name", "_pos", "id"].map(String::from).to_vec());
    let reader = reader(&table, ChangeReadOptions { select, ..by_id(Emit::Upserts) });
    let parts: Vec<ChangeRows> = reader.read_unit(changes, 0, 0).try_collect().await.unwrap();
    let [part] = parts.as_slice() else { panic!("one batch") };
    let names: Vec<&str> =
        part.records.schema_ref().fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(
        (names.as_slice(), part.kinds.as_slice()),
        (&["name", "_pos", "id"][..], &[Delete; 2][..])
    );
    assert_eq!((part.records.column(0).null_count(), part.records.column(1).null_count()), (2, 2));
    assert_eq!(part.records.column(2).as_primitive::<Int64Type>().values(), &[5, 1]);
}

#[tokio::test]
async fn upserts_look_at_rows_that_position_deletes_name() {
    let table = table();
    let a = kit::file(&table, "a", &rows(&[(1, "a"), (2, "b"), (3, "c")])).await;
    let table = kit::append(&table, vec![a.clone()]).await;
    let b = kit::file(&table, "b", &rows(&[(2, "B")])).await;
    let dead = kit::positions_of(&table, "p", &a, &[1, 2]).await;
    let table = commit(&table, vec![b], vec![dead]).await;
    let seen = head(&reader(&table, by_id(Emit::Upserts)), &table).await.unwrap();
    assert_eq!(seen, [(Delete, 3, None), change(UpdateAfter, 2, "B")]);
}

#[tokio::test]
async fn upserts_without_a_key_or_without_its_columns_are_refused() {
    let table = table();
    let options = ChangeReadOptions { emit: Emit::Upserts, ..ChangeReadOptions::default() };
    let error = ChangeReader::new(&table, options).unwrap_err();
    assert!(error.message().contains("key"), "{error}");
    let select = Some(vec!["name".to_string()]);
    let options = ChangeReadOptions { select, ..by_id(Emit::Upserts) };
    let error = ChangeReader::new(&table, options).unwrap_err();
    assert!(error.message().contains("`id`"), "{error}");
    let options = ChangeReadOptions { key: Some(vec!["nobody".into()]), ..by_id(Emit::Changes) };
    let error = ChangeReader::new(&table, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn an_update_that_leaves_the_filter_is_a_delete() {
    let table = table();
    let before = [(1, "in"), (2, "in"), (3, "out"), (4, "out"), (5, "in"), (6, "out")];
    let a = kit::file(&table, "a", &rows(&before)).await;
    let table = kit::append(&table, vec![a]).await;
    let after = [(1, "in"), (2, "out"), (3, "in"), (4, "out"), (7, "in"), (8, "out")];
    let b = kit::file(&table, "b", &rows(&after)).await;
    let dead = keys(&table, "d", vec![1, 2, 3, 4, 5, 6]).await;
    let table = commit(&table, vec![b], vec![dead]).await;
    let filter = || Some(Reference::new("name").equal_to(Datum::string("in")));
    let options = ChangeReadOptions { filter: filter(), ..by_id(Emit::Changes) };
    let seen = head(&reader(&table, options), &table).await.unwrap();
    let expected = [
        change(Delete, 5, "in"),
        change(UpdateBefore, 1, "in"),
        change(UpdateAfter, 1, "in"),
        change(Delete, 2, "in"),
        change(Insert, 3, "in"),
        change(Insert, 7, "in"),
    ];
    assert_eq!(seen, expected);
    let options = ChangeReadOptions { filter: filter(), ..by_id(Emit::Upserts) };
    let seen: HashMap<i64, ChangeKind> = head(&reader(&table, options), &table)
        .await
        .unwrap()
        .into_iter()
        .map(|(kind, id, _)| (id, kind))
        .collect();
    for (id, kind) in [(1, UpdateAfter), (2, Delete), (3, UpdateAfter), (5, Delete), (8, Delete)] {
        assert_eq!(seen.get(&id), Some(&kind), "key {id}");
    }
}

#[tokio::test]
async fn copy_on_write_emits_only_what_differs() {
    let table = table();
    let old = kit::file(&table, "a", &rows(&[(1, "a"), (1, "a"), (2, "b"), (3, "c")])).await;
    let table = kit::append(&table, vec![old.clone()]).await;
    // One of the two equal rows goes, one row changes, one is carried over.
    let new = kit::file(&table, "b", &rows(&[(2, "B"), (3, "c"), (1, "a")])).await;
    let removed = vec![crate::table::RemovedFile::new(&old, None)];
    let written = WriteResult { data_files: vec![new], ..WriteResult::default() };
    let table = table.overwrite_files(removed, written).commit().await.unwrap().table;
    let seen = head(&reader(&table, by_id(Emit::Changes)), &table).await.unwrap();
    let expected =
        [change(Delete, 1, "a"), change(UpdateBefore, 2, "b"), change(UpdateAfter, 2, "B")];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn rows_of_a_file_start_at_the_row_that_is_asked_for() {
    let table = table();
    let a = kit::file(&table, "a", &rows(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")])).await;
    let table = kit::append(&table, vec![a.clone()]).await;
    let dead = kit::positions_of(&table, "p", &a, &[2]).await;
    let table = kit::delete(&table, vec![dead]).await;
    let all = table.plan_all_rows(table.current_snapshot().unwrap()).await.unwrap();
    let task = all.added_files(0).await.unwrap().remove(0).task;
    let options = ChangeReadOptions { select: Some(vec!["name".into()]), ..by_id(Emit::Appends) };
    let reader = reader(&table, options);
    let parts: Vec<ChangeRows> = reader.read_file(task, 1).try_collect().await.unwrap();
    let ordinals: Vec<u64> = parts.iter().flat_map(|p| p.ordinals.clone()).collect();
    assert_eq!(ordinals, [1, 3], "row 0 was delivered, row 2 is dead");
    assert_eq!(parts[0].records.num_columns(), 1);
    assert_eq!(parts[0].kinds[0], Insert);
}

/// Four files with keys that are spread over all of them, so that statistics cannot tell where one
/// is.
async fn spread() -> (Table, Vec<DataFile>) {
    let mut table = table();
    let mut files = Vec::new();
    for n in 0..4i64 {
        let some: Vec<(i64, &str)> = (0..50).map(|i| (n + 4 * i, "x")).collect();
        let file = kit::file(&table, &format!("f{n}"), &rows(&some)).await;
        files.push(file.clone());
        table = kit::append(&table, vec![file]).await;
    }
    (table, files)
}

async fn delete_keys(table: &Table, name: &str, ids: Vec<i64>) -> Table {
    let deletes = keys(table, name, ids).await;
    kit::delete(table, vec![deletes]).await
}

async fn lose(table: &Table, files: &[DataFile]) {
    for file in files {
        table.storage().delete(&file.file_path).await.unwrap();
    }
}

#[tokio::test]
async fn a_warm_reader_opens_only_files_that_hold_a_deleted_key() {
    let (mut table, files) = spread().await;
    let warm = reader(&table, by_id(Emit::Changes));
    table = delete_keys(&table, "d1", vec![1]).await;
    assert_eq!(head(&warm, &table).await.unwrap(), [change(Delete, 1, "x")]);
    for gone in [0, 1, 3] {
        lose(&table, &files[gone..=gone]).await;
    }
    table = delete_keys(&table, "d2", vec![2, 1000]).await;
    assert_eq!(head(&warm, &table).await.unwrap(), [change(Delete, 2, "x")]);
}

#[tokio::test]
async fn a_delete_file_without_keys_teaches_nothing_wrong() {
    let (mut table, _) = spread().await;
    let warm = reader(&table, by_id(Emit::Changes));
    table = delete_keys(&table, "d0", vec![]).await;
    assert_eq!(head(&warm, &table).await.unwrap(), []);
    table = delete_keys(&table, "d1", vec![1]).await;
    assert_eq!(head(&warm, &table).await.unwrap(), [change(Delete, 1, "x")]);
}

fn stored_in(folder: &std::path::Path) -> ChangeReadOptions {
    let store = crate::read::KeyFilterStore::directory(folder).unwrap();
    ChangeReadOptions { key_filters: Some(store), ..by_id(Emit::Changes) }
}

#[tokio::test]
async fn a_reader_started_again_is_warm_where_filters_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (mut table, files) = spread().await;
    table = delete_keys(&table, "d1", vec![1]).await;
    let first = reader(&table, stored_in(folder.path()));
    assert_eq!(head(&first, &table).await.unwrap(), [change(Delete, 1, "x")]);
    table = delete_keys(&table, "d2", vec![2, 1000]).await;
    for gone in [0, 1, 3] {
        lose(&table, &files[gone..=gone]).await;
    }
    let cold = reader(&table, by_id(Emit::Changes));
    assert_eq!(head(&cold, &table).await.unwrap_err().kind(), ErrorKind::NotFound);
    let again = reader(&table, stored_in(folder.path()));
    assert_eq!(head(&again, &table).await.unwrap(), [change(Delete, 2, "x")]);
}

fn stored_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let tables = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let files = tables.flat_map(|t| std::fs::read_dir(t).unwrap().map(|e| e.unwrap().path()));
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

#[tokio::test]
async fn stored_filters_that_were_damaged_are_built_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut table, _) = spread().await;
    table = delete_keys(&table, "d1", vec![1]).await;
    head(&reader(&table, stored_in(folder.path())), &table).await.unwrap();
    table = delete_keys(&table, "d2", vec![2, 7]).await;
    let expected = [change(Delete, 7, "x"), change(Delete, 2, "x")];
    let sound: Vec<_> = stored_files(folder.path())
        .iter()
        .map(|f| (f.clone(), std::fs::read(f).unwrap()))
        .collect();
    assert_eq!(sound.len(), 4);
    type Damage = fn(&mut Vec<u8>);
    let damages: [Damage; 6] = [
        |b| b.truncate(b.len() / 2),
        |b| b.clear(),
        |b| *b.last_mut().unwrap() ^= 1,
        |b| b[7] += 1,   // another version
        |b| b[60] ^= 64, // another start of a bucket
        |b| b.push(0),
    ];
    for damage in damages {
        for (path, bytes) in &sound {
            let mut bytes = bytes.clone();
            damage(&mut bytes);
            std::fs::write(path, bytes).unwrap();
        }
        let reader = reader(&table, stored_in(folder.path()));
        assert_eq!(head(&reader, &table).await.unwrap(), expected);
        for (path, bytes) in &sound {
            assert_eq!(&std::fs::read(path).unwrap(), bytes, "written anew");
        }
    }
    // Each file's filter under another file's name.
    for (n, (path, _)) in sound.iter().enumerate() {
        std::fs::write(path, &sound[(n + 1) % 4].1).unwrap();
    }
    let reader = reader(&table, stored_in(folder.path()));
    assert_eq!(head(&reader, &table).await.unwrap(), expected);
}

#[tokio::test]
async fn a_folder_that_takes_no_filters_costs_time_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "not a folder").unwrap();
    let (mut table, _) = spread().await;
    let warm = reader(&table, stored_in(&file));
    for (name, id) in [("d1", 1), ("d2", 2)] {
        table = delete_keys(&table, name, vec![id]).await;
        assert_eq!(head(&warm, &table).await.unwrap(), [change(Delete, id, "x")]);
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"not a folder");
}

#[tokio::test]
async fn stored_filters_stay_within_their_budget() {
    let folder = tempfile::tempdir().unwrap();
    let (mut table, _) = spread().await;
    table = delete_keys(&table, "d1", vec![1]).await;
    let one = {
        head(&reader(&table, stored_in(folder.path())), &table).await.unwrap();
        std::fs::metadata(&stored_files(folder.path())[0]).unwrap().len()
    };
    std::fs::remove_dir_all(folder.path()).unwrap();
    let store = crate::read::KeyFilterStore::directory(folder.path()).unwrap();
    let options = ChangeReadOptions {
        key_filters: Some(store.with_budget(one * 5 / 2)),
        ..by_id(Emit::Changes)
    };
    head(&reader(&table, options), &table).await.unwrap();
    let left = stored_files(folder.path()).len();
    assert!((1..=2).contains(&left), "{left} files of {one} bytes");
}

#[tokio::test]
async fn filters_of_files_that_left_the_table_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut table, files) = spread().await;
    table = delete_keys(&table, "d1", vec![1]).await;
    head(&reader(&table, stored_in(folder.path())), &table).await.unwrap();
    assert_eq!(stored_files(folder.path()).len(), 4);
    // One goes in a change that is followed.
    let removed = vec![crate::table::RemovedFile::new(&files[0], None)];
    let over = table.overwrite_files(removed, WriteResult::default());
    table = over.commit().await.unwrap().table;
    head(&reader(&table, stored_in(folder.path())), &table).await.unwrap();
    assert_eq!(stored_files(folder.path()).len(), 3);
    // Another one unseen; it is looked for when a day has passed.
    let removed = vec![crate::table::RemovedFile::new(&files[1], None)];
    let over = table.overwrite_files(removed, WriteResult::default());
    table = over.commit().await.unwrap().table;
    table = delete_keys(&table, "d2", vec![2]).await;
    for (later_ms, left) in [(0, 3), (25 * 3600 * 1000, 2)] {
        let now = table.environment().clock.now_ms() + later_ms;
        let clock = Arc::new(crate::clock::ManualClock::new(now as u64));
        let table = table
            .with_environment(crate::clock::Environment { clock, ..table.environment().clone() });
        let reader = reader(&table, stored_in(folder.path()));
        assert_eq!(head(&reader, &table).await.unwrap(), [change(Delete, 2, "x")]);
        let mut wait = 0;
        while stored_files(folder.path()).len() != left && wait < 100 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            wait += 1;
        }
        assert_eq!(stored_files(folder.path()).len(), left, "{later_ms} ms later");
    }
}
