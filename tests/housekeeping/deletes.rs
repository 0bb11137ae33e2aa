//! Position deletes as other engines write them: one file about many data files.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use meltwater::maintenance::{RewriteDeletesOptions, RewriteDeletesReport};
use meltwater::spec::{DataContentType, DataFile, PrimitiveType, SequenceNumber};
use meltwater::table::{RemovedFile, Table};

use crate::kit;

async fn data(table: &Table, name: &str, ids: &[i64]) -> DataFile {
    let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    kit::file(table, name, &kit::batch(vec![("id", 1, ids)])).await
}

/// One file with deleted positions of several data files.
async fn about(table: &Table, name: &str, dead: &[(&str, i64)]) -> DataFile {
    let paths: ArrayRef = Arc::new(StringArray::from_iter_values(dead.iter().map(|d| d.0)));
    let positions: ArrayRef = Arc::new(Int64Array::from_iter_values(dead.iter().map(|d| d.1)));
    let columns = vec![("file_path", 2_147_483_546, paths), ("pos", 2_147_483_545, positions)];
    kit::positions(table, name, &kit::batch(columns)).await
}

async fn ids(table: &Table) -> Vec<i64> {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    let rows = kit::rows(&table.refresh().await.unwrap().scan()).await.unwrap();
    let mut ids = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
    ids.sort_unstable();
    ids
}

async fn live(table: &Table, content: DataContentType) -> Vec<(Arc<DataFile>, SequenceNumber)> {
    let mut found = Vec::new();
    for manifest in table.manifests(table.current_snapshot().unwrap()).await.unwrap().iter() {
        for entry in table.entries(manifest).await.unwrap().iter().filter(|e| e.is_live()) {
            if entry.file.content == content {
                found.push((entry.file.clone(), entry.sequence_number));
            }
        }
    }
    found
}

async fn rewrite(table: &Table, memory: u64) -> (Table, RewriteDeletesReport) {
    let options =
        RewriteDeletesOptions { memory_budget_bytes: memory, ..RewriteDeletesOptions::default() };
    let report = table.rewrite_position_deletes(options).run().await.unwrap();
    (table.refresh().await.unwrap(), report)
}

/// `a` and `b` of sequence 1 share a delete of sequence 2; `c` came at 3; `b` and `c` share one of 4,
/// which also names a file that is not there and rows that never were.
async fn shared() -> (Table, DataFile) {
    let table = kit::table(vec![kit::required(1, "id", PrimitiveType::Long)]);
    let (a, b) = (data(&table, "a", &[0, 1, 2]).await, data(&table, "b", &[3, 4, 5]).await);
    let table = kit::append(&table, vec![a.clone(), b.clone()]).await;
    let c = data(&table, "c", &[6, 7, 8]).await;
    let (a, b_path) = (a.file_path.as_str(), b.file_path.as_str());
    let c_path = c.file_path.as_str();
    // Names a row of `c`, which is younger: that one does not count.
    let first = about(&table, "first", &[(a, 0), (b_path, 0), (c_path, 1)]).await;
    let table = kit::delete_like_others(&table, vec![first]).await;
    let table = kit::append(&table, vec![c.clone()]).await;
    let dead = [(b_path, 2), (b_path, 900), (c_path, 0), ("memory:///t/data/gone", 1)];
    let second = about(&table, "second", &dead).await;
    (kit::delete_like_others(&table, vec![second]).await, c)
}

#[tokio::test]
async fn a_delete_file_about_several_data_files_is_split() {
    for memory in [64 << 20, 1] {
        let (table, _) = shared().await;
        let before = ids(&table).await;
        assert_eq!(before, [1, 2, 4, 7, 8]);
        let (table, report) = rewrite(&table, memory).await;
        assert_eq!(ids(&table).await, before);
        let deletes = live(&table, DataContentType::PositionDeletes).await;
        // Without bounds of paths, either file may name any data file.
        let mut of: Vec<_> = deletes
            .iter()
            .map(|(file, age)| {
                let path = file.referenced_path().unwrap().to_string();
                (path.replace("memory:///t/data/", ""), file.record_count, age.0)
            })
            .collect();
        of.sort();
        let expected = [("a.parquet", 1, 4), ("b.parquet", 2, 4), ("c.parquet", 1, 4)];
        assert_eq!(of, expected.map(|(name, rows, age)| (name.to_string(), rows, age)));
        assert_eq!((report.report.before.rows, report.report.after.rows), (7, 4));
        assert_eq!(report.report.groups, 1, "what shares deletes is replaced together");
    }
}

#[tokio::test]
async fn a_delete_file_about_several_data_files_that_are_all_gone_goes() {
    let (table, c) = shared().await;
    let all = live(&table, DataContentType::Data).await;
    let gone = all.iter().filter(|(file, _)| file.file_path != c.file_path);
    let gone = gone.map(|(file, _)| RemovedFile::new(file, None)).collect();
    let table = table.delete_files(gone).commit().await.unwrap().table;
    let (table, report) = rewrite(&table, 64 << 20).await;
    assert_eq!(ids(&table).await, [7, 8]);
    assert_eq!((report.report.before.files, report.report.after.files), (1, 1));
    // The age floor took the older one with the data that it was about (CMT-1).
    assert_eq!(report.dangling_position_deletes.files, 0);
    assert_eq!(live(&table, DataContentType::PositionDeletes).await.len(), 1);
}
