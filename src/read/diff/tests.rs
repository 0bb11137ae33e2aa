//! Differences between any two snapshots, one behaviour a test.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};

use super::*;
use crate::expr;
use crate::kit;
use crate::read::ChangeKind::{Delete, Insert, UpdateAfter, UpdateBefore};
use crate::read::changes::tests::{Seen, change, keys, seen_in, table};
use crate::scan::ChangeClass;
use crate::spec::*;
use crate::table::{RemovedFile, WriteResult};

async fn file(table: &Table, name: &str, rows: &[(i64, &str)]) -> DataFile {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1)));
    kit::file(table, name, &kit::batch(vec![("id", 1, ids), ("name", 2, names)])).await
}

fn head(table: &Table) -> At {
    At::Snapshot(SnapshotId(table.current_snapshot().unwrap().snapshot_id()))
}

async fn replaced(table: &Table, old: &[&DataFile], new: Vec<DataFile>) -> Table {
    let at = SnapshotId(table.current_snapshot().unwrap().snapshot_id());
    let removed = old.iter().map(|file| RemovedFile::new(file, None)).collect();
    table.rewrite_files(removed, new, at).unwrap().commit().await.unwrap().table
}

async fn rows(diff: &TableDiff) -> Result<Vec<Seen>> {
    Ok(seen_in(&diff.rows().await?.try_collect::<Vec<_>>().await?))
}

#[tokio::test]
async fn what_both_sides_hold_is_neither_opened_nor_read() {
    let table = table();
    let old = file(&table, "old", &[(1, "a"), (2, "b")]).await;
    let table = kit::append(&table, vec![old.clone()]).await;
    let from = head(&table);
    let table = kit::append(&table, vec![file(&table, "new", &[(3, "c")]).await]).await;
    table.storage().delete(&old.file_path).await.unwrap();
    let manifests = table.manifests(table.current_snapshot().unwrap()).await.unwrap();
    let shared = manifests.iter().min_by_key(|m| m.sequence_number).unwrap();
    table.storage().delete(&shared.manifest_path).await.unwrap();
    let cold = kit::moved(&table, table.storage().clone());
    let diff = cold.diff(from, At::Current);
    assert_eq!(rows(&diff).await.unwrap(), [change(Insert, 3, "c")]);
    let stat = diff.stat().await.unwrap();
    assert_eq!((stat.inserted, stat.updated, stat.deleted), (1, 0, 0));
    assert_eq!((stat.files.added_files, stat.files.untouched_files), (1, 1));
    assert_eq!((stat.files.manifests, stat.files.manifests_skipped), (2, 1));
}

#[tokio::test]
async fn rows_that_were_only_moved_are_no_difference() {
    let table = table();
    let a = file(&table, "a", &[(1, "a"), (2, "b"), (3, "c")]).await;
    let table = kit::append(&table, vec![a.clone()]).await;
    let from = head(&table);
    // Row 2 is written again as it was, row 3 as another; then everything is compacted.
    let b = file(&table, "b", &[(2, "b"), (3, "C")]).await;
    let dead = keys(&table, "d", vec![2, 3]).await;
    let written = WriteResult {
        data_files: vec![b.clone()],
        delete_files: vec![dead],
        ..WriteResult::default()
    };
    let table = table.row_delta(written).commit().await.unwrap().table;
    let middle = head(&table);
    let c = file(&table, "c", &[(3, "C"), (1, "a"), (2, "b")]).await;
    let table = replaced(&table, &[&a, &b], vec![c]).await;
    let expected = [change(UpdateBefore, 3, "c"), change(UpdateAfter, 3, "C")];
    for to in [middle.clone(), At::Current] {
        let found = rows(&table.diff(from.clone(), to)).await.unwrap();
        assert_eq!(found, expected, "the key is that of the equality deletes");
    }
    let stat = table.diff(middle, At::Current).stat().await.unwrap();
    assert!(stat.is_empty() && stat.files.removed_files == 2, "{stat:?}");
    let back = rows(&table.diff(At::Current, from)).await.unwrap();
    assert_eq!(back, [change(UpdateBefore, 3, "C"), change(UpdateAfter, 3, "c")]);
}

#[tokio::test]
async fn branches_and_rolled_back_snapshots_compare_as_well() {
    let table = table();
    let table = kit::append(&table, vec![file(&table, "a", &[(1, "a")]).await]).await;
    let root = SnapshotId(table.current_snapshot().unwrap().snapshot_id());
    let table = kit::append(&table, vec![file(&table, "b", &[(2, "b")]).await]).await;
    let undone = head(&table);
    let table = table.rollback_to(root).await.unwrap();
    let table = kit::append(&table, vec![file(&table, "c", &[(3, "c")]).await]).await;
    let found = rows(&table.diff(undone, At::Current)).await.unwrap();
    assert_eq!(found, [change(Delete, 2, "b"), change(Insert, 3, "c")]);
    let error = table.diff(At::Ref("gone".into()), At::Current).rows().await.err().unwrap();
    assert!(error.message().contains("`gone`"), "{error}");
}

#[tokio::test]
async fn files_that_cannot_pass_the_filter_are_not_read() {
    let table = table();
    let table = kit::append(&table, vec![file(&table, "z", &[(0, "z")]).await]).await;
    let from = head(&table);
    let mut low = file(&table, "low", &[(1, "a"), (2, "b")]).await;
    low.lower_bounds = [(1, 1i64.to_le_bytes())].into_iter().collect();
    low.upper_bounds = [(1, 2i64.to_le_bytes())].into_iter().collect();
    let high = file(&table, "high", &[(7, "g")]).await;
    let table = kit::append(&table, vec![low.clone(), high]).await;
    table.storage().delete(&low.file_path).await.unwrap();
    let diff = table.diff(from, At::Current);
    let filter = expr::parse("id > 5", table.schema()).unwrap();
    assert_eq!(rows(&diff.clone().filter(filter)).await.unwrap(), [change(Insert, 7, "g")]);
    assert!(rows(&diff).await.is_err(), "without the filter the file is needed");
}

#[tokio::test]
async fn where_rows_can_move_between_partitions_there_is_one_unit() {
    let fields = || {
        vec![
            kit::optional(1, "id", PrimitiveType::Long),
            kit::optional(2, "name", PrimitiveType::String),
        ]
    };
    let by_name = UnboundPartitionSpec::builder()
        .with_spec_id(0)
        .add_partition_field(2, "name", Transform::Identity)
        .unwrap()
        .build();
    let table = kit::table_with(fields(), by_name, &[]);
    let part = |mut file: DataFile, name: &str| {
        file.partition = Struct::from_iter([Some(Literal::string(name))]);
        file
    };
    let a = part(file(&table, "a", &[(1, "a"), (2, "a")]).await, "a");
    let b = part(file(&table, "b", &[(3, "b")]).await, "b");
    let table = kit::append(&table, vec![a.clone(), b.clone()]).await;
    let from = head(&table);
    // Row 2 moves to partition b.
    let (a2, b2) = (file(&table, "a2", &[(1, "a")]).await, file(&table, "b2", &[(2, "b")]).await);
    let written =
        WriteResult { data_files: vec![part(a2, "a"), part(b2, "b")], ..Default::default() };
    let gone = vec![RemovedFile::new(&a, None)];
    let table = table.overwrite_files(gone, written).commit().await.unwrap().table;
    let units = |diff: TableDiff| async move { diff.plan().await.unwrap().unwrap().units().len() };
    let diff = table.diff(from, At::Current);
    assert_eq!(units(diff.clone()).await, 2, "without a key only equal rows go together");
    assert_eq!(units(diff.clone().key(["id", "name"])).await, 2);
    assert_eq!(units(diff.clone().key(["id"])).await, 1);
    let found = rows(&diff.key(["id"])).await.unwrap();
    assert_eq!(found, [change(UpdateBefore, 2, "a"), change(UpdateAfter, 2, "b")]);
}

#[tokio::test]
async fn a_rewrite_that_changes_rows_is_told_from_one_that_does_not() {
    for is_good in [true, false] {
        let table = table();
        let a = file(&table, "a", &[(1, "a"), (2, "b")]).await;
        let table = kit::append(&table, vec![a.clone()]).await;
        let dead = kit::positions_of(&table, "p", &a, &[1]).await;
        let table = kit::delete(&table, vec![dead]).await;
        let alive = [(1, "a"), (2, "b")];
        let new = file(&table, "new", if is_good { &alive[..1] } else { &alive }).await;
        let table = replaced(&table, &[&a], vec![new]).await;
        let snapshot = table.current_snapshot().unwrap();
        let trusted = table.plan_changes(snapshot, Grouping::Partition).await.unwrap();
        assert_eq!(trusted.class(), ChangeClass::Nothing);
        let plan = table.plan_net(Base::Unclaimed, snapshot, Grouping::Partition, &[]).await;
        let plan = plan.unwrap();
        let reader = ChangeReader::new(&table, ChangeReadOptions::default()).map(Arc::new).unwrap();
        let parts: Vec<ChangeRows> = reader.read_unit(plan, 0, 0).try_collect().await.unwrap();
        let expected = if is_good { vec![] } else { vec![change(Insert, 2, "b")] };
        assert_eq!(seen_in(&parts), expected);
    }
}
