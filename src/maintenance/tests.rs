//! What all actions have in common: on a branch they change its files and leave `main` alone.

use super::fixture::*;
use super::{CompactOptions, ConvertOptions, ManifestOptions, RewriteDeletesOptions};
use crate::spec::{DataContentType, SnapshotId};
use crate::table::tests::kit;
use crate::table::{At, RefUpdate, Table};

const BRANCH: &str = "audit";

async fn on_branch(table: &Table) -> Vec<i64> {
    let table = table.refresh().await.unwrap();
    let rows = rows_of(&table, At::Ref(BRANCH.to_string())).await;
    rows.into_iter().map(|row| row.0).collect()
}

/// Deletes of a kind that live on the branch.
async fn deletes(table: &Table, content: DataContentType) -> usize {
    let table = table.refresh().await.unwrap();
    let head = table.snapshot_at(&At::Ref(BRANCH.to_string())).unwrap().unwrap();
    let mut found = 0;
    for manifest in table.manifests(&head).await.unwrap().iter() {
        let entries = table.entries(manifest).await.unwrap();
        found += entries.iter().filter(|e| e.is_live() && e.file.content == content).count();
    }
    found
}

/// The reference removes dangling deletes on `main` whatever branch was named (#15369), and
/// rewrites no manifests of a branch.
#[tokio::test]
async fn every_action_on_a_branch_changes_that_branch_and_leaves_main_alone() {
    let (_, mut table) = kit::table().await;
    table = delete_keys(&table, &[99], 1).await; // dangles, here and there
    table = append(&table, &[1, 2, 3], 1).await;
    table = append(&table, &[4, 5, 6], 1).await;
    let main = SnapshotId(table.current_snapshot().unwrap().snapshot_id());
    let branch = RefUpdate::CreateBranch { name: BRANCH.to_string(), snapshot: main };
    table = table.update_ref(branch).await.unwrap();
    let more = file(&table, &[row(7, "n7", 1), row(8, "n8", 1)], partition(&table, 1)).await;
    table = table.append(more).branch(BRANCH).commit().await.unwrap().table;
    for filter in ["id = 1", "id = 3", "id = 4"] {
        let filter = crate::expr::parse(filter, table.schema()).unwrap();
        table = table.delete_where(filter).branch(BRANCH).commit().await.unwrap().table;
    }
    let gone = delete_ids(&table, &[8], partition(&table, 1)).await;
    table = table.row_delta(gone).branch(BRANCH).commit().await.unwrap().table;
    let branch = || BRANCH.to_string();
    let refreshed = async || table.refresh().await.unwrap();

    let merge = RewriteDeletesOptions { branch: branch(), ..RewriteDeletesOptions::default() };
    let merged = refreshed().await.rewrite_position_deletes(merge).run().await.unwrap();
    assert_eq!((merged.report.before.files, merged.report.after.files), (2, 1));
    assert_eq!(merged.dangling_equality_deletes.files, 1);

    let convert = ConvertOptions { branch: branch(), ..ConvertOptions::default() };
    let converted = refreshed().await.convert_equality_deletes(convert).run().await.unwrap();
    assert_eq!((converted.report.before.files, converted.report.after.files), (1, 1));
    assert_eq!(deletes(&table, DataContentType::EqualityDeletes).await, 0);
    assert_eq!(deletes(&table, DataContentType::PositionDeletes).await, 3, "one a data file");

    let manifests = ManifestOptions { branch: branch(), ..ManifestOptions::default() };
    let rewritten = refreshed().await.rewrite_manifests(manifests).run().await.unwrap();
    assert!(!rewritten.snapshots.is_empty());

    let compact = CompactOptions { branch: branch(), ..options() };
    let compacted = refreshed().await.compact(compact).run().await.unwrap();
    assert_eq!(compacted.report.after.files, 1);
    assert_eq!(deletes(&table, DataContentType::PositionDeletes).await, 0);

    let table = table.refresh().await.unwrap();
    assert_eq!(on_branch(&table).await, [2, 5, 6, 7]);
    assert_eq!(SnapshotId(table.current_snapshot().unwrap().snapshot_id()), main);
    assert_eq!((ids(&table).await, data_files(&table).await.len()), (vec![1, 2, 3, 4, 5, 6], 2));
    assert_eq!(delete_files(&table).await.len(), 1, "what dangles on main stays there");
}
