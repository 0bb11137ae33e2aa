use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{Field, Schema as ArrowSchema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;

use super::*;
use crate::deletes::columns::FIELD_ID_KEY;
use crate::deletes::index::tests::{UNPARTITIONED, metadata};
use crate::error::ErrorKind;

const MIB: u64 = 1024 * 1024;

fn batch(columns: Vec<(&str, i32, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, id, array)| {
            let id = [(FIELD_ID_KEY.to_string(), id.to_string())];
            Field::new(*name, array.data_type().clone(), true).with_metadata(id.into())
        })
        .collect();
    let arrays = columns.into_iter().map(|(_, _, a)| a).collect();
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), arrays).unwrap()
}

async fn put(storage: &Storage, path: &str, batch: &RecordBatch) -> u64 {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let size = bytes.len() as u64;
    storage.write(path, Bytes::from(bytes)).await.unwrap();
    size
}

async fn ids_delete(storage: &Storage, name: &str, ids: &[i64], sequence: i64) -> DeleteFile {
    let rows = batch(vec![("id", 1, Arc::new(Int64Array::from(ids.to_vec())))]);
    equality_file(storage, name, &rows, &[1], sequence).await
}

async fn equality_file(
    storage: &Storage,
    name: &str,
    rows: &RecordBatch,
    equality_ids: &[i32],
    sequence: i64,
) -> DeleteFile {
    let path = format!("memory:///t/data/{name}.parquet");
    let size = put(storage, &path, rows).await;
    let partition = PartitionKey::unpartitioned(UNPARTITIONED);
    let content = DataContentType::EqualityDeletes;
    let mut file = DataFile::new(content, path, partition, rows.num_rows() as u64, size);
    file.equality_ids = Some(equality_ids.to_vec());
    DeleteFile { file: Arc::new(file), sequence_number: sequence.into() }
}

async fn position_file(storage: &Storage, name: &str, rows: &[(&str, i64)]) -> DeleteFile {
    let paths: Vec<&str> = rows.iter().map(|r| r.0).collect();
    let positions: Vec<i64> = rows.iter().map(|r| r.1).collect();
    let rows = batch(vec![
        ("file_path", 2_147_483_546, Arc::new(StringArray::from(paths))),
        ("pos", 2_147_483_545, Arc::new(Int64Array::from(positions))),
    ]);
    let path = format!("memory:///t/data/{name}.parquet");
    let size = put(storage, &path, &rows).await;
    let partition = PartitionKey::unpartitioned(UNPARTITIONED);
    let content = DataContentType::PositionDeletes;
    let file = DataFile::new(content, path, partition, rows.num_rows() as u64, size);
    DeleteFile { file: Arc::new(file), sequence_number: 1.into() }
}

fn data_file(path: &str) -> DataFile {
    let partition = PartitionKey::unpartitioned(UNPARTITIONED);
    DataFile::new(DataContentType::Data, path, partition, 10, 100)
}

fn loader(storage: &Storage, budget: u64) -> DeleteLoader {
    DeleteLoader::new(storage.clone(), Arc::new(metadata()), None, budget)
}

fn dead(deletes: &EqualityDeletes, ids: &[i64], sequence: i64) -> Vec<i64> {
    let data = batch(vec![("id", 1, Arc::new(Int64Array::from(ids.to_vec())))]);
    let alive = deletes.alive(&data, sequence.into()).unwrap();
    let is_dead = |row: &usize| alive.as_ref().is_some_and(|a| !a.value(*row));
    (0..ids.len()).filter(is_dead).map(|row| ids[row]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_tasks_sharing_delete_files_all_end_with_the_same_answer() {
    let storage = Storage::default();
    let equality = ids_delete(&storage, "e", &[1, 3], 5).await;
    let position = position_file(&storage, "p", &[("d", 2), ("d", 7)]).await;
    let deletes = vec![equality, position];
    for _ in 0..200 {
        let loader = loader(&storage, MIB);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (loader, deletes) = (loader.clone(), deletes.clone());
            tasks.spawn(async move {
                let file = data_file("d");
                let (positions, equality) =
                    tokio::join!(loader.positions(&file, &deletes), loader.equality(&deletes));
                let positions: Vec<u64> = positions.unwrap().unwrap().iter().collect();
                (positions, dead(&equality.unwrap(), &[1, 2, 3], 4))
            });
        }
        let wait = std::time::Duration::from_secs(20);
        let all = tokio::time::timeout(wait, tasks.join_all()).await.expect("the loader hangs");
        assert!(all.iter().all(|found| *found == (vec![2, 7], vec![1, 3])));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_task_that_loads_does_not_block_the_others() {
    let storage = Storage::default();
    let deletes = vec![ids_delete(&storage, "e", &[1], 5).await];
    for spins in 0..50 {
        let loader = loader(&storage, MIB);
        let (first, files) = (loader.clone(), deletes.clone());
        let task = tokio::spawn(async move { first.equality(&files).await.map(|_| ()) });
        for _ in 0..spins {
            tokio::task::yield_now().await;
        }
        task.abort();
        assert_eq!(dead(&loader.equality(&deletes).await.unwrap(), &[1, 2], 1), [1]);
    }
}

#[tokio::test]
async fn thousands_of_delete_files_end_up_in_a_handful_of_maps() {
    let storage = Storage::default();
    let mut deletes = Vec::new();
    for n in 0..600i64 {
        deletes.push(ids_delete(&storage, &format!("e{n}"), &[n], n + 2).await);
    }
    let loader = loader(&storage, MIB);
    // Data files of falling age ask for one more delete file each.
    for first in (0..600).rev().step_by(7) {
        let found = loader.equality(&deletes[first..]).await.unwrap();
        assert!(found.maps.len() <= 10, "{} maps", found.maps.len());
        let ids: Vec<i64> = (0..600).collect();
        let expected: Vec<i64> = (first as i64..600).collect();
        assert_eq!(dead(&found, &ids, first as i64 + 1), expected);
    }
}

#[tokio::test]
async fn keys_beyond_the_budget_are_served_in_parts_that_find_each_dead_row_once() {
    let storage = Storage::default();
    let mut deletes = Vec::new();
    for n in 0..4i64 {
        let ids: Vec<i64> = (0..20_000).map(|k| (k * 4 + n) * 1_000_003).collect();
        deletes.push(ids_delete(&storage, &format!("e{n}"), &ids, 5).await);
    }
    let loader = loader(&storage, MIB);
    let found = loader.equality(&deletes).await.unwrap();
    assert!(found.maps.is_empty() && found.oversized.len() == 1);
    let oversized = &found.oversized[0];
    let (mut total, mut named) = (0, 0);
    for index in 0..oversized.parts {
        let part = HashPartition { index, of: oversized.parts };
        let map = loader.part(oversized, part).await.unwrap();
        assert!(map.heap_bytes() < MIB as usize);
        total += map.len();
        let one = EqualityDeletes { maps: vec![Arc::new(map)], oversized: vec![] };
        named += dead(&one, &[7 * 1_000_003, 5], 1).len();
    }
    assert_eq!((total, named), (80_000, 1));
    assert_eq!(loader.equality(&deletes[..1]).await.unwrap().oversized.len(), 1, "it remembers");
}

#[tokio::test]
async fn groups_not_used_lately_are_let_go_when_the_budget_is_full() {
    let storage = Storage::default();
    let mut deletes = Vec::new();
    for (n, column) in [1, 2, 6].into_iter().enumerate() {
        let keys: ArrayRef = match column {
            1 => Arc::new(Int64Array::from_iter_values(0..10_000)),
            _ => Arc::new(Int32Array::from_iter_values(0..10_000)),
        };
        let rows = batch(vec![("k", column, keys)]);
        deletes.push(equality_file(&storage, &format!("g{n}"), &rows, &[column], 5).await);
    }
    let loader = loader(&storage, MIB);
    for _ in 0..3 {
        for delete in &deletes {
            let found = loader.equality(std::slice::from_ref(delete)).await.unwrap();
            assert_eq!(found.maps.len(), 1);
        }
        let groups = loader.inner.groups.lock().unwrap();
        let held: usize = groups.values().map(|g| g.bytes.load(Ordering::Relaxed)).sum();
        assert!(held <= MIB as usize, "{held} bytes in {} groups", groups.len());
    }
}

#[tokio::test]
async fn positions_of_several_files_unite_and_large_shared_files_are_read_for_one_path() {
    let storage = Storage::default();
    let deletes = vec![
        position_file(&storage, "p1", &[("a", 1), ("a", 5), ("b", 9)]).await,
        position_file(&storage, "p2", &[("a", 2), ("c", 3)]).await,
    ];
    for budget in [MIB, 0] {
        let loader = loader(&storage, budget);
        for (path, expected) in [("a", Some(vec![1, 2, 5])), ("b", Some(vec![9])), ("z", None)] {
            let found = loader.positions(&data_file(path), &deletes).await.unwrap();
            assert_eq!(found.map(|f| f.iter().collect::<Vec<_>>()), expected, "budget {budget}");
        }
    }
}

#[tokio::test]
async fn a_delete_file_without_its_key_column_is_corrupt_and_a_missing_one_is_not_found() {
    let storage = Storage::default();
    let other = batch(vec![("name", 3, Arc::new(StringArray::from(vec!["a"])))]);
    let lacking = equality_file(&storage, "lacking", &other, &[1], 5).await;
    let error = loader(&storage, MIB).equality(&[lacking]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptData);
    assert!(error.to_string().contains("lacking.parquet"), "{error}");

    let mut gone = ids_delete(&storage, "gone", &[1], 5).await;
    storage.delete(&gone.file.file_path).await.unwrap();
    let error = loader(&storage, MIB).equality(&[gone.clone()]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("gone.parquet"), "{error}");

    Arc::make_mut(&mut gone.file).content = DataContentType::PositionDeletes;
    let error = loader(&storage, MIB).positions(&data_file("d"), &[gone]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn keys_of_dropped_columns_are_read_and_extra_columns_are_left_alone() {
    let storage = Storage::default();
    let rows = batch(vec![
        ("name", 3, Arc::new(StringArray::from(vec!["x", "y"]))),
        ("gone", 6, Arc::new(Int32Array::from(vec![Some(4), None]))),
    ]);
    let delete = equality_file(&storage, "e", &rows, &[6], 5).await;
    let found = loader(&storage, MIB).equality(&[delete]).await.unwrap();
    let data = batch(vec![("gone", 6, Arc::new(Int32Array::from(vec![Some(4), None, Some(5)])))]);
    let alive = found.alive(&data, 1.into()).unwrap().unwrap();
    assert_eq!(alive.iter().collect::<Vec<_>>(), [false, false, true]);
}
