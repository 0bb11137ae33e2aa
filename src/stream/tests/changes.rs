//! Changes with deletes: units through the engine, kinds, flat batches.

use arrow::array::StringArray;

use super::*;
use crate::table::RemovedFile;

type Change = (i64, ChangeKind, i64);

fn changes_of(batch: &ChangeBatch) -> Vec<Change> {
    let rows = rows_of(batch);
    rows.into_iter().zip(&batch.kinds).map(|((part, id), kind)| (part, *kind, id)).collect()
}

/// Two commits of rows, then one that deletes two rows of each partition and adds a row to one.
pub(super) async fn feed_with_deletes(parts: &[i64]) -> (Feed, SnapshotId) {
    let mut feed = Feed::new();
    feed.append(parts, 5).await;
    let second = feed.append(parts, 5).await;
    let head = feed.table.current_snapshot().unwrap().clone();
    let mut deletes = Vec::new();
    for manifest in feed.table.manifests(&head).await.unwrap().iter() {
        for entry in feed.table.entries(manifest).await.unwrap().iter() {
            let name = format!("p{}", deletes.len());
            deletes.push(kit::positions_of(&feed.table, &name, &entry.file, &[0, 3]).await);
        }
    }
    feed.table = kit::delete(&feed.table, deletes).await;
    feed.append(&[2], 1).await;
    (feed, second)
}

async fn drain_changes(builder: StreamBuilder) -> Vec<Change> {
    let mut stream = builder.open().await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = stream.try_next().await.unwrap() {
        if let StreamEvent::Batch(batch) = event {
            seen.extend(changes_of(&batch));
        }
    }
    seen
}

fn sorted(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort();
    changes
}

#[tokio::test]
async fn deletes_flow_and_appends_refuse_them_or_skip_them() {
    let (feed, second) = feed_with_deletes(&[1, 2, 3]).await;
    let start = Start::AfterSnapshot(second);
    let exact = feed.appends().emit(Emit::Changes).start(start.clone());
    let seen = drain_changes(exact.clone()).await;
    assert_eq!(seen.len(), 13);
    let mut expected: Vec<Change> = Vec::new();
    for (part, id) in feed.rows.iter().filter(|(_, id)| matches!(id % 10, 0 | 3)) {
        if *id < 3_000_000 {
            expected.push((*part, ChangeKind::Delete, *id));
        }
    }
    expected.push((2, ChangeKind::Insert, 3_000_000));
    assert_eq!(sorted(seen), sorted(expected.clone()));

    let inserts = exact.clone().drop_kinds([ChangeKind::Delete]);
    assert_eq!(drain_changes(inserts).await, [(2, ChangeKind::Insert, 3_000_000)]);

    let appends = feed.appends().start(start);
    let error = all(appends.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.hint().is_some_and(|hint| hint.contains("changes")), "{error}");
    let mut skipping = appends.skip_deletes(true).open().await.unwrap();
    assert_eq!(drain(&mut skipping).await.unwrap(), [(2, 3_000_000)]);
    assert_eq!(skipping.skipped_snapshots(), 1);
}

#[tokio::test]
async fn what_was_learned_of_files_that_a_rewrite_took_out_is_let_go() {
    let mut feed = Feed::new();
    for _ in 0..3 {
        feed.append(&[1], 5).await;
    }
    let stream = feed.appends().emit(Emit::Changes).start(Start::Latest).until(Until::Forever);
    let mut stream = stream.open().await.unwrap();
    let known = |stream: &ChangeStream| stream.hub().reader(0).unwrap().files_known();
    let dead = kit::batch(vec![("id", 1, longs([2_000_001]))]);
    let mut deletes = kit::equality(&feed.table, "dead", &dead, &[1]).await;
    deletes.partition = Struct::from_iter([Some(Literal::long(1))]);
    feed.table = kit::delete(&feed.table, vec![deletes]).await;
    assert_eq!(next_ids(&mut stream).await, [2_000_001]);
    // It remembers when it is asked for more: one more file, whose rows are handed out.
    feed.append(&[2], 1).await;
    assert_eq!(next_ids(&mut stream).await, [4_000_000]);
    assert_eq!(known(&stream), 3);

    let tasks: Vec<_> = feed.table.scan().plan().await.unwrap().try_collect().await.unwrap();
    let (gone, kept): (Vec<_>, Vec<_>) =
        tasks.into_iter().partition(|task| !task.file.file_path.contains("c4"));
    assert_eq!((gone.len(), kept.len()), (3, 1));
    let rows = (1..4).flat_map(|commit| (0..5).map(move |row| commit * 1_000_000 + row));
    let live: Vec<i64> = rows.filter(|id| *id != 2_000_001).collect();
    let new = feed.file("whole", 1, &live).await;
    let removed = gone.iter().map(|task| RemovedFile::new(&task.file, None)).collect();
    let rewrite = feed.table.rewrite_files(removed, vec![new], feed.head()).unwrap();
    feed.table = rewrite.commit().await.unwrap().table;
    feed.append(&[2], 1).await;
    assert_eq!(next_ids(&mut stream).await, [5_000_000]);
    assert_eq!(known(&stream), 0);
}

/// The ids of the next batch.
async fn next_ids(stream: &mut ChangeStream) -> Vec<i64> {
    loop {
        if let StreamEvent::Batch(batch) = stream.try_next().await.unwrap().unwrap() {
            return rows_of(&batch).into_iter().map(|(_, id)| id).collect();
        }
    }
}

#[tokio::test]
async fn a_stream_of_changes_restores_in_the_middle_of_a_unit() {
    let (feed, second) = feed_with_deletes(&[1, 2, 3]).await;
    let builder = feed.appends().emit(Emit::Changes);
    let whole = drain_changes(builder.clone().start(Start::AfterSnapshot(second))).await;
    for lanes in [1, 3] {
        let mut start = Start::AfterSnapshot(second);
        let mut seen = Vec::new();
        'restarts: loop {
            let mut stream = builder.clone().start(start).lanes(lanes).open().await.unwrap();
            while let Some(event) = stream.try_next().await.unwrap() {
                let StreamEvent::Batch(batch) = event else { continue };
                seen.push(changes_of(&batch)[0]);
                start = Start::At(batch.token_after(0).unwrap());
                continue 'restarts;
            }
            break;
        }
        assert_eq!(sorted(seen), sorted(whole.clone()), "{lanes} lanes, a row at a time");
    }
}

#[tokio::test]
async fn a_token_is_refused_between_the_images_of_an_update() {
    let mut feed = Feed::new();
    let first = feed.append(&[1], 3).await;
    let old = feed.rows[1].1;
    let batch = kit::batch(vec![("id", 1, longs([old])), ("part", 2, longs([1]))]);
    let mut keys = kit::equality(&feed.table, "e", &batch, &[1, 2]).await;
    let mut new = kit::file(&feed.table, "u", &batch).await;
    keys.partition = Struct::from_iter([Some(Literal::long(1))]);
    new.partition = keys.partition.clone();
    let written = crate::table::WriteResult {
        data_files: vec![new],
        delete_files: vec![keys],
        ..Default::default()
    };
    feed.table = feed.table.row_delta(written).commit().await.unwrap().table;
    let builder = feed.appends().emit(Emit::Changes).key(["id", "part"]).select(["part", "id"]);
    let mut stream = builder.start(Start::AfterSnapshot(first)).open().await.unwrap();
    let Some(StreamEvent::Batch(batch)) = stream.try_next().await.unwrap() else { panic!() };
    assert_eq!(batch.kinds, [ChangeKind::UpdateBefore, ChangeKind::UpdateAfter]);
    assert_eq!(batch.token_after(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(batch.token_after(1).unwrap(), batch.end());
    assert!(batch.token_after(9).is_err());
}

#[tokio::test]
async fn a_flat_batch_says_what_happened_in_columns() {
    let mut feed = Feed::new();
    let first = feed.append(&[1], 3).await;
    let mut stream = feed.appends().start(Start::Earliest).open().await.unwrap();
    let Some(StreamEvent::Batch(batch)) = stream.try_next().await.unwrap() else { panic!() };
    let flat = batch.to_flat(&Naming::default()).unwrap();
    let names: Vec<_> = flat.schema().fields().iter().map(|f| f.name().clone()).collect();
    let added = ["_change_type", "_change_ordinal", "_commit_snapshot_id", "_commit_timestamp"];
    assert_eq!(names[2..], added);
    let kinds = flat.column(2).as_any().downcast_ref::<StringArray>().unwrap();
    assert!(kinds.iter().all(|kind| kind == Some("insert")));
    assert_eq!(flat.column(4).as_primitive::<Int64Type>().value(0), first.0);
    let naming = Naming { ordinal: "id".into(), ..Naming::default() };
    assert_eq!(batch.to_flat(&naming).unwrap_err().kind(), ErrorKind::InvalidInput);
}
