//! Breaks in history that are bridged by net differences, and rewrites that are held to their word.

use super::*;
use crate::table::{At, RemovedFile, WriteResult};

/// How often each row is there.
pub(super) type Bag = BTreeMap<(i64, i64), i64>;

pub(super) fn bag(rows: &Seen) -> Bag {
    let mut bag = Bag::new();
    rows.iter().for_each(|row| *bag.entry(*row).or_default() += 1);
    bag
}

/// Applies changes; a row that goes must be there.
pub(super) fn apply(bag: &mut Bag, batch: &ChangeBatch, rows: usize) {
    for (row, kind) in rows_of(batch).into_iter().zip(&batch.kinds).take(rows) {
        let count = bag.entry(row).or_default();
        match kind {
            ChangeKind::Insert | ChangeKind::UpdateAfter => *count += 1,
            ChangeKind::Delete | ChangeKind::UpdateBefore => *count -= 1,
        }
        assert!(*count >= 0, "{row:?} goes and was not there");
        if *count == 0 {
            bag.remove(&row);
        }
    }
}

pub(super) async fn held(table: &Table) -> Bag {
    let rows = kit::rows(&table.scan()).await.unwrap();
    let longs = |n: usize| rows.column(n).as_primitive::<Int64Type>().values().to_vec();
    bag(&longs(1).into_iter().zip(longs(0)).collect())
}

pub(super) fn exact(feed: &Feed) -> StreamBuilder {
    feed.appends().emit(Emit::Changes).on_gap(OnGap::Net).on_rollback(OnRollback::Net)
}

/// Takes the rows of `events` batches and half of the next one: where it stands then.
async fn part(builder: StreamBuilder, bag: &mut Bag, batches: usize) -> Option<Token> {
    let mut stream = builder.open().await.unwrap();
    let mut left = batches;
    while let Some(event) = stream.try_next().await.unwrap() {
        let StreamEvent::Batch(batch) = event else { continue };
        if left == 0 {
            let row = (batch.kinds.len() - 1) / 2;
            if let Ok(token) = batch.token_after(row) {
                apply(bag, &batch, row + 1);
                return Some(token);
            }
        }
        apply(bag, &batch, batch.kinds.len());
        left = left.saturating_sub(1);
    }
    None
}

/// Follows from a token to the end on changing numbers of lanes, stopped in the middle of every
/// batch or two.
pub(super) async fn follow_in_parts(feed: &Feed, mut token: Token, bag: &mut Bag) {
    let mut lanes = 1;
    loop {
        let builder = exact(feed).lanes(lanes).start(Start::At(token.clone()));
        match part(builder, bag, lanes % 2).await {
            Some(next) => token = next,
            None => return,
        }
        lanes = lanes % 5 + 1;
        // What is stored is text.
        token = token.to_string().parse().unwrap();
    }
}

async fn delete_first_row(feed: &mut Feed, name: &str) {
    let head = feed.table.current_snapshot().unwrap().clone();
    let manifests = feed.table.manifests(&head).await.unwrap();
    let data = manifests.iter().find(|m| m.content == ManifestContentType::Data).unwrap();
    let entries = feed.table.entries(data).await.unwrap();
    let dead = kit::positions_of(&feed.table, name, &entries[0].file, &[0]).await;
    feed.table = kit::delete(&feed.table, vec![dead]).await;
}

async fn busy() -> (Feed, Vec<SnapshotId>) {
    let mut feed = Feed::new();
    for n in 0..3 {
        feed.append(&[1, 2, 3, 4], 4).await;
        delete_first_row(&mut feed, &format!("p{n}")).await;
    }
    let mut ids: Vec<_> =
        feed.table.ancestors(feed.head()).map(|s| SnapshotId(s.snapshot_id())).collect();
    ids.reverse();
    (feed, ids)
}

pub(super) async fn point(feed: &mut Feed, name: &str, to: SnapshotId) {
    let retention = match name {
        "main" => SnapshotRetention::branch(None, None, None),
        _ => SnapshotRetention::Tag { max_ref_age_ms: None },
    };
    let reference = SnapshotReference::new(to.0, retention);
    feed.table = kit::changed(&feed.table, |b| b.set_ref(name, reference)).await;
}

async fn expire(feed: &mut Feed, ids: &[SnapshotId]) {
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    feed.table = kit::changed(&feed.table, |b| Ok(b.remove_snapshots(&ids))).await;
}

/// Every place that a follower on some lanes may have stopped at before `until`.
async fn stops(feed: &Feed, until: SnapshotId) -> Vec<(Token, Bag)> {
    let mut stops = Vec::new();
    for (batches, lanes) in (0..12).zip([1, 2, 3, 4].into_iter().cycle()) {
        let mut bag = Bag::new();
        let builder = exact(feed).start(Start::Earliest).until(Until::Snapshot(until));
        if let Some(token) = part(builder.lanes(lanes), &mut bag, batches).await {
            stops.push((token, bag));
        }
    }
    let mut bag = Bag::new();
    let builder = exact(feed).start(Start::Earliest).until(Until::Snapshot(until));
    let mut stream = builder.open().await.unwrap();
    while let Some(event) = stream.try_next().await.unwrap() {
        if let StreamEvent::Batch(batch) = event {
            apply(&mut bag, &batch, batch.kinds.len());
        }
    }
    stops.push((stream.token(), bag));
    stops
}

#[tokio::test]
async fn a_gap_is_bridged_from_a_position_that_is_still_there() {
    let (mut feed, ids) = busy().await;
    let (token, bag) = stops(&feed, ids[2]).await.pop().unwrap();
    point(&mut feed, "kept", ids[2]).await;
    expire(&mut feed, &[ids[0], ids[1], ids[3], ids[4]]).await;
    let refusing = feed.appends().emit(Emit::Changes).start(Start::At(token.clone()));
    let error = refusing.open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PositionExpired);
    assert!(error.hint().is_some_and(|hint| hint.contains("on_gap")), "{error:?}");

    let mut replica = bag.clone();
    follow_in_parts(&feed, token.clone(), &mut replica).await;
    assert_eq!(replica, held(&feed.table).await);

    let mut stream = exact(&feed).start(Start::At(token.clone())).open().await.unwrap();
    assert_eq!(stream.lag().await.unwrap().snapshots, 1, "the difference is one unit");
    let net = loop {
        if let StreamEvent::Batch(batch) = stream.try_next().await.unwrap().unwrap() {
            break batch.commit.net.unwrap();
        }
    };
    assert_eq!((net.from, net.to), (Some(ids[2]), ids[5]));

    // The position itself is gone: nobody can tell the difference.
    feed.table = kit::changed(&feed.table, |b| Ok(b.remove_ref("kept"))).await;
    expire(&mut feed, &[ids[2]]).await;
    let error = exact(&feed).start(Start::At(token)).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PositionExpired);
    assert!(error.to_string().contains(&format!("after:{}", ids[4])), "{error}");
}

#[tokio::test]
async fn after_a_rollback_the_difference_undoes_what_was_undone() {
    let (mut feed, ids) = busy().await;
    let stops = stops(&feed, ids[5]).await;
    point(&mut feed, "main", ids[1]).await;
    feed.append(&[1, 5], 2).await;
    let expected = held(&feed.table).await;
    assert!(stops.len() > 8);
    for (token, mut replica) in stops {
        follow_in_parts(&feed, token, &mut replica).await;
        assert_eq!(replica, expected);
    }
    let token = exact(&feed).start(Start::AfterSnapshot(ids[5])).open().await.unwrap().token();
    let refusing = feed.appends().emit(Emit::Changes).start(Start::At(token));
    let error = refusing.open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HistoryRewritten);
    assert!(error.hint().is_some_and(|hint| hint.contains("on_rollback")), "{error:?}");
}

#[tokio::test]
async fn a_running_stream_goes_over_rollbacks_on_any_number_of_lanes() {
    for lanes in [1, 3] {
        let (mut feed, ids) = busy().await;
        let builder = exact(&feed).until(Until::Forever).start(Start::Earliest).lanes(lanes);
        let mut stream = builder.open().await.unwrap();
        let mut replica = Bag::new();
        let back_and_forth = [ids[5], ids[2], ids[4], ids[0]];
        for (n, to) in back_and_forth.into_iter().enumerate() {
            point(&mut feed, "main", to).await;
            if n % 2 == 1 {
                feed.append(&[2, 6], 3).await;
            }
            let expected = held(&feed.table).await;
            while replica != expected {
                let event = soon(&mut stream).await.expect("the stream goes on").unwrap();
                if let StreamEvent::Batch(batch) = event {
                    apply(&mut replica, &batch, batch.kinds.len());
                }
            }
        }
    }
}

#[tokio::test]
async fn upserts_over_a_break_are_the_latest_rows_and_the_keys_that_went() {
    let (mut feed, ids) = busy().await;
    let upserts = |feed: &Feed| exact(feed).emit(Emit::Upserts).key(["id"]);
    let before = held(&feed.table).await;
    let token = upserts(&feed).start(Start::Latest).open().await.unwrap().token();
    point(&mut feed, "main", ids[1]).await;
    feed.append(&[1, 5], 2).await;
    let mut by_key: BTreeMap<i64, i64> = before.keys().map(|(part, id)| (*id, *part)).collect();
    let mut stream = upserts(&feed).start(Start::At(token)).open().await.unwrap();
    while let Some(event) = stream.try_next().await.unwrap() {
        let StreamEvent::Batch(batch) = event else { continue };
        let ids = batch.records.column(0).as_primitive::<Int64Type>();
        let parts = batch.records.column(1).as_primitive::<Int64Type>();
        for (row, kind) in batch.kinds.iter().enumerate() {
            match kind {
                ChangeKind::UpdateAfter => drop(by_key.insert(ids.value(row), parts.value(row))),
                ChangeKind::Delete => drop(by_key.remove(&ids.value(row))),
                other => panic!("{other} among upserts"),
            }
        }
    }
    let expected = held(&feed.table).await;
    assert_eq!(by_key, expected.keys().map(|(part, id)| (*id, *part)).collect());
}

#[tokio::test]
async fn appends_cannot_bridge_a_break_and_say_so() {
    let (feed, _) = busy().await;
    let builders = [
        ("on_gap", feed.appends().on_gap(OnGap::Net)),
        ("on_rollback", feed.appends().on_rollback(OnRollback::Net)),
        ("verify_replace", feed.appends().verify_replace(VerifyReplace::Refuse)),
    ];
    for (option, builder) in builders {
        let error = builder.open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(option), "{error}");
    }
}

#[tokio::test]
async fn a_rewrite_that_changes_rows_is_refused_emitted_or_trusted_as_asked() {
    for is_good in [true, false] {
        let mut feed = Feed::new();
        let start = feed.append(&[1], 3).await;
        let old = feed.file("again", 1, &[1_000_000]).await;
        let written = WriteResult { data_files: vec![old.clone()], ..WriteResult::default() };
        feed.table = feed.table.append(written).commit().await.unwrap().table;
        let ids = if is_good { [1_000_000] } else { [7] };
        let new = feed.file("rewritten", 1, &ids).await;
        let planned = feed.head();
        let rewrite =
            feed.table.rewrite_files(vec![RemovedFile::new(&old, None)], vec![new], planned);
        feed.table = rewrite.unwrap().commit().await.unwrap().table;
        let follow = |verify: VerifyReplace| {
            let builder = feed.appends().emit(Emit::Changes).start(Start::AfterSnapshot(start));
            all(builder.verify_replace(verify))
        };
        let honest = vec![(1, 1_000_000)];
        assert_eq!(follow(VerifyReplace::Trust).await.unwrap(), honest);
        if is_good {
            assert_eq!(follow(VerifyReplace::Refuse).await.unwrap(), honest);
            assert_eq!(follow(VerifyReplace::Emit).await.unwrap(), honest);
            continue;
        }
        let (gone, come) = ((1, 1_000_000), (1, 7));
        assert_eq!(follow(VerifyReplace::Emit).await.unwrap(), [honest[0], gone, come]);
        let error = follow(VerifyReplace::Refuse).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptData);
        let (text, head) = (error.to_string(), feed.head().to_string());
        assert!(text.contains(&head) && text.contains("delete id=1000000"), "{text}");
    }
}

#[tokio::test]
async fn where_rows_can_change_partitions_a_break_is_one_unit_between_barriers() {
    let (mut feed, ids) = busy().await;
    // Everything is written anew without partitions.
    feed.table = feed.table.update_spec().remove_field("part").commit().await.unwrap();
    let tasks: Vec<_> = feed.table.scan().plan().await.unwrap().try_collect().await.unwrap();
    let rows: Vec<(i64, i64)> = held(&feed.table).await.into_keys().collect();
    let batch = kit::batch(vec![
        ("id", 1, longs(rows.iter().map(|row| row.1))),
        ("part", 2, longs(rows.iter().map(|row| row.0))),
    ]);
    let new = kit::file(&feed.table, "whole", &batch).await;
    let removed = tasks.iter().map(|t| RemovedFile::new(&t.file, None)).collect();
    let head = feed.head();
    let rewrite = feed.table.rewrite_files(removed, vec![new], head).unwrap();
    feed.table = rewrite.commit().await.unwrap().table;
    delete_first_row(&mut feed, "last").await;
    let plan = feed.table.diff(At::Snapshot(ids[5]), At::Snapshot(ids[3])).plan().await.unwrap();
    assert!(plan.unwrap().units().iter().all(|unit| unit.partition().is_some()));
    let stops = stops(&feed, feed.head()).await;
    point(&mut feed, "main", ids[2]).await;
    feed.append(&[1, 2, 9], 2).await;
    let expected = held(&feed.table).await;
    for (token, mut replica) in stops {
        follow_in_parts(&feed, token, &mut replica).await;
        assert_eq!(replica, expected);
    }
}

/// The difference is one unit on the first lane; what the second lane had learned of its files
/// before the rollback holds no more.
#[tokio::test]
async fn a_lane_forgets_what_was_dead_before_a_rollback_though_another_one_tells_the_difference() {
    let (mut feed, [_, second]) = (Feed::new(), super::assign::apart());
    let start = feed.append(&[second], 1).await;
    let kept = feed.append(&[second], 3).await;
    let builder = exact(&feed).start(Start::AfterSnapshot(start)).until(Until::Forever).lanes(2);
    let mut stream = builder.open().await.unwrap();
    delete_first_row(&mut feed, "dead").await;
    feed.table = feed.table.update_spec().remove_field("part").commit().await.unwrap();
    feed.append(&[7], 1).await;
    let first = held(&feed.table).await;
    let mut replica = bag(&vec![(second, 1_000_000)]);
    let mut catch_up = async |expected: Bag| {
        while replica != expected {
            let event = soon(&mut stream).await.expect("the stream goes on").unwrap();
            if let StreamEvent::Batch(batch) = event {
                apply(&mut replica, &batch, batch.kinds.len());
            }
        }
    };
    catch_up(first).await;
    point(&mut feed, "main", kept).await;
    catch_up(held(&feed.table).await).await;
    let everything = feed.table.delete_where(Predicate::AlwaysTrue);
    feed.table = everything.commit().await.unwrap().table;
    catch_up(Bag::new()).await;
}
