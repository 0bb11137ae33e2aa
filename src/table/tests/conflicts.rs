use super::kit::*;
use crate::error::ErrorKind;
use crate::spec::*;
use crate::table::{Committed, Isolation, Table};

/// What another writer commits between planning and commit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Meanwhile {
    Nothing,
    Append,
    AppendElsewhere,
    EqualityDelete,
    PositionDelete,
    PositionDeleteElsewhere,
    RemovesFile,
    Rewrites,
}

/// What we commit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ours {
    Append,
    DeleteSnapshotIsolation,
    DeleteSerializable,
    UpdateSerializable,
    OverwriteSnapshotIsolation,
    OverwriteSerializable,
    Rewrite,
}

async fn set_up() -> (Table, i32, DataFile, Committed) {
    let (_, table) = partitioned().await;
    let spec = table.metadata().default_partition_spec_id();
    let a = data("a", day(spec, 1));
    let planned = table.append(rows([a.clone(), data("z", day(spec, 2))])).commit().await.unwrap();
    (planned.table.clone(), spec, a, planned)
}

async fn apply(meanwhile: Meanwhile, table: &Table, spec: i32, a: &DataFile, at: SnapshotId) {
    let z = data("z", day(spec, 2));
    match meanwhile {
        Meanwhile::Nothing => return,
        Meanwhile::Append => table.append(rows([data("n", day(spec, 1))])),
        Meanwhile::AppendElsewhere => table.append(rows([data("n", day(spec, 2))])),
        Meanwhile::EqualityDelete => table.row_delta(deletes([equality("e", day(spec, 1))])),
        Meanwhile::PositionDelete => table.row_delta(deletes([position("p", a)])),
        Meanwhile::PositionDeleteElsewhere => table.row_delta(deletes([position("p", &z)])),
        Meanwhile::RemovesFile => table.delete_files(vec![gone(a)]),
        Meanwhile::Rewrites => {
            table.rewrite_files(vec![gone(a)], vec![data("r", day(spec, 1))], at).unwrap()
        }
    }
    .commit()
    .await
    .unwrap();
}

async fn commit(ours: Ours, planned: &Committed, spec: i32, a: &DataFile) -> Result<(), ErrorKind> {
    let table = &planned.table;
    let mut delete = deletes([position("mine", a)]);
    delete.referenced_data_files = vec![a.file_path.clone()];
    let fresh = data("fresh", day(spec, 1));
    let filter = Reference::new("day").equal_to(Datum::int(1));
    let commit = match ours {
        Ours::Append => table.append(rows([fresh])),
        Ours::DeleteSnapshotIsolation => table.row_delta(delete).isolation(Isolation::Snapshot),
        Ours::DeleteSerializable => table.row_delta(delete).conflict_filter(filter),
        Ours::UpdateSerializable => {
            delete.data_files.push(fresh);
            table.row_delta(delete).conflict_filter(filter).check_new_deletes()
        }
        Ours::OverwriteSnapshotIsolation => {
            table.overwrite_files(vec![gone(a)], rows([fresh])).isolation(Isolation::Snapshot)
        }
        Ours::OverwriteSerializable => {
            table.overwrite_files(vec![gone(a)], rows([fresh])).conflict_filter(filter)
        }
        Ours::Rewrite => {
            table.rewrite_files(vec![gone(a)], vec![fresh], planned.snapshot_id).unwrap()
        }
    };
    let commit = match ours {
        Ours::Append | Ours::Rewrite => commit,
        _ => commit.validate_from(Some(planned.snapshot_id)),
    };
    commit.commit().await.map(|_| ()).map_err(|e| e.kind())
}

#[tokio::test]
async fn the_truth_table_of_concurrent_changes() {
    use Meanwhile as M;
    const ALL: [M; 8] = [
        M::Nothing,
        M::Append,
        M::AppendElsewhere,
        M::EqualityDelete,
        M::PositionDelete,
        M::PositionDeleteElsewhere,
        M::RemovesFile,
        M::Rewrites,
    ];
    // Whatever is not named here must go through.
    let conflicts: [(Ours, &[M]); 7] = [
        (Ours::Append, &[]),
        // A plain delete of the whole file makes our position deletes moot, not wrong.
        (Ours::DeleteSnapshotIsolation, &[M::Rewrites]),
        (Ours::DeleteSerializable, &[M::Append, M::Rewrites]),
        (
            Ours::UpdateSerializable,
            &[M::Append, M::EqualityDelete, M::PositionDelete, M::RemovesFile, M::Rewrites],
        ),
        (
            Ours::OverwriteSnapshotIsolation,
            &[M::EqualityDelete, M::PositionDelete, M::RemovesFile, M::Rewrites],
        ),
        (
            Ours::OverwriteSerializable,
            &[M::Append, M::EqualityDelete, M::PositionDelete, M::RemovesFile, M::Rewrites],
        ),
        // Equality deletes stay effective by sequence; position deletes would be lost.
        (Ours::Rewrite, &[M::PositionDelete, M::RemovesFile, M::Rewrites]),
    ];
    for (ours, refused) in conflicts {
        for meanwhile in ALL {
            let (table, spec, a, planned) = set_up().await;
            apply(meanwhile, &table, spec, &a, planned.snapshot_id).await;
            let got = commit(ours, &planned, spec, &a).await;
            let expected = if refused.contains(&meanwhile) {
                Err(ErrorKind::ValidationFailed)
            } else {
                Ok(())
            };
            assert_eq!(got, expected, "{ours:?} while {meanwhile:?}");
        }
    }
}

#[tokio::test]
async fn work_planned_on_an_expired_snapshot_is_refused() {
    let (table, spec, a, planned) = set_up().await;
    apply(Meanwhile::AppendElsewhere, &table, spec, &a, planned.snapshot_id).await;
    let two = table.append(rows([data("m", day(spec, 2))])).commit().await.unwrap();
    let ids = vec![planned.snapshot_id.0, two.snapshot.unwrap().parent_snapshot_id().unwrap()];
    let updates = vec![TableUpdate::RemoveSnapshots { snapshot_ids: ids }];
    table.catalog().commit(table.ident(), Vec::new(), updates).await.unwrap();
    let got = commit(Ours::DeleteSnapshotIsolation, &planned, spec, &a).await;
    assert_eq!(got, Err(ErrorKind::ValidationFailed));
}
