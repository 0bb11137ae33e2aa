//! Schema changes in flight: pinned, announced, refused.

use super::*;
use crate::error::{Error, ErrorKind};

/// What a consumer sees: the columns of a batch with its rows, or the columns that are announced.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Rows(Vec<String>, Vec<i64>),
    Columns(Vec<String>),
}

fn names(schema: &arrow::datatypes::Schema) -> Vec<String> {
    schema.fields().iter().map(|f| f.name().clone()).collect()
}

fn told(event: &StreamEvent) -> Option<Told> {
    match event {
        StreamEvent::Watermark(_) => None,
        StreamEvent::Schema(change) => Some(Told::Columns(names(&change.arrow_schema))),
        StreamEvent::Batch(batch) => {
            let ids = batch.records.column_by_name("id").unwrap().as_primitive::<Int64Type>();
            Some(Told::Rows(names(&batch.records.schema()), ids.values().to_vec()))
        }
    }
}

/// Everything, with the token behind each event.
async fn all_told(builder: StreamBuilder) -> (Vec<(Told, Token)>, Option<Error>) {
    let mut stream = builder.open().await.unwrap();
    let mut seen = Vec::new();
    loop {
        match stream.try_next().await {
            Ok(None) => return (seen, None),
            Err(error) => return (seen, Some(error)),
            Ok(Some(event)) => {
                if let Some(told) = told(&event) {
                    seen.push((told, stream.token()));
                }
            }
        }
    }
}

impl Feed {
    /// One commit of one file in partition 1, with all columns of the table; gives the ids.
    async fn append_whole(&mut self) -> Vec<i64> {
        self.commits += 1;
        self.clock.advance_ms(1_000);
        let ids: Vec<i64> = (0..3).map(|n| self.commits * 10 + n).collect();
        let columns = self.table.schema().as_struct().fields().iter().map(|field| {
            let values: ArrayRef = match field.name.as_str() {
                "part" => longs([1, 1, 1]),
                _ => longs(ids.iter().copied()),
            };
            (field.name.clone(), field.id, values)
        });
        let columns: Vec<_> = columns.collect();
        let columns = columns.iter().map(|(name, id, values)| (name.as_str(), *id, values.clone()));
        let batch = kit::batch(columns.collect());
        let mut file = kit::file(&self.table, &format!("w{}", self.commits), &batch).await;
        file.partition = Struct::from_iter([Some(Literal::long(1))]);
        self.table = kit::append(&self.table, vec![file]).await;
        ids
    }

    async fn add_column(&mut self, name: &str) {
        let long = Type::Primitive(PrimitiveType::Long);
        let update = self.table.update_schema().add_column(name, long, None);
        self.table = update.commit().await.unwrap();
    }

    async fn rename_column(&mut self, from: &str, to: &str) {
        self.table = self.table.update_schema().rename_column(from, to).commit().await.unwrap();
    }

    async fn drop_column(&mut self, name: &str) {
        self.table = self.table.update_schema().drop_column(name).commit().await.unwrap();
    }

    fn announced(&self) -> StreamBuilder {
        self.appends().on_schema_change(OnSchemaChange::Announce)
    }
}

fn words(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| n.to_string()).collect()
}

/// `id, part`; with `note`; with `note` called `remark`: a commit or two each.
async fn changing_feed() -> (Feed, Vec<Told>) {
    let mut feed = Feed::new();
    let rows = |columns: &[&str], ids: Vec<i64>| Told::Rows(words(columns), ids);
    let mut expected = Vec::new();
    for _ in 0..2 {
        expected.push(rows(&["id", "part"], feed.append_whole().await));
    }
    feed.add_column("note").await;
    expected.push(Told::Columns(words(&["id", "part", "note"])));
    for _ in 0..2 {
        expected.push(rows(&["id", "part", "note"], feed.append_whole().await));
    }
    feed.rename_column("note", "remark").await;
    expected.push(Told::Columns(words(&["id", "part", "remark"])));
    expected.push(rows(&["id", "part", "remark"], feed.append_whole().await));
    (feed, expected)
}

#[tokio::test]
async fn an_announced_schema_stands_between_old_rows_and_new_ones() {
    let (feed, expected) = changing_feed().await;
    for lanes in [1, 4] {
        let (seen, error) = all_told(feed.announced().start(Start::Earliest).lanes(lanes)).await;
        assert!(error.is_none(), "{error:?}");
        let told: Vec<_> = seen.iter().map(|(told, _)| told.clone()).collect();
        assert_eq!(told, expected, "{lanes} lanes");
    }
    // Each lane is told by itself, and never has new rows before.
    let builder = feed.announced().start(Start::Earliest).lanes(3);
    let lanes = builder.open().await.unwrap().into_lanes().unwrap();
    let follow = lanes.into_iter().map(async |mut lane| {
        let mut now = names(lane.arrow_schema());
        let mut changes = 0;
        while let Some(event) = lane.try_next().await.unwrap() {
            match told(&event) {
                Some(Told::Columns(names)) => {
                    changes += 1;
                    now = names;
                }
                Some(Told::Rows(names, _)) => assert_eq!(names, now),
                None => {}
            }
            assert_eq!(names(lane.arrow_schema()), now);
        }
        changes
    });
    assert_eq!(futures::future::join_all(follow).await, [2, 2, 2]);
}

#[tokio::test]
async fn a_token_implies_the_schema_that_a_stream_goes_on_with() {
    let (feed, expected) = changing_feed().await;
    let (seen, _) = all_told(feed.announced().start(Start::Earliest)).await;
    for (n, (last, token)) in seen.iter().enumerate() {
        let builder = feed.announced().start(Start::At(token.clone())).lanes(1 + n % 3);
        let columns = names(builder.clone().open().await.unwrap().arrow_schema());
        let (rest, error) = all_told(builder).await;
        assert!(error.is_none(), "{error:?}");
        let rest: Vec<_> = rest.into_iter().map(|(told, _)| told).collect();
        match last {
            // An announcement moves no position: it is made again.
            Told::Columns(_) => assert_eq!(rest, expected[n..]),
            Told::Rows(names, _) => {
                assert_eq!(&columns, names, "the columns before are those of the position");
                assert_eq!(rest, expected[n + 1..]);
            }
        }
    }
}

#[tokio::test]
async fn a_refused_schema_ends_the_stream_exactly_before_it() {
    let (feed, expected) = changing_feed().await;
    for lanes in [1, 3] {
        let refuse = feed.appends().on_schema_change(OnSchemaChange::Refuse).lanes(lanes);
        let (seen, error) = all_told(refuse.clone().start(Start::Earliest)).await;
        let error = error.expect("the schema changes");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.hint().is_some_and(|h| h.contains("go on")), "{error}");
        let told: Vec<_> = seen.iter().map(|(told, _)| told.clone()).collect();
        assert_eq!(told, expected[..2]);
        let token = seen.last().unwrap().1.clone();
        let again = all_told(refuse.start(Start::At(token.clone()))).await;
        assert!(again.0.is_empty() && again.1.is_some());
        let (rest, error) = all_told(feed.announced().start(Start::At(token.clone()))).await;
        assert!(error.is_none());
        let rest: Vec<_> = rest.into_iter().map(|(told, _)| told).collect();
        assert_eq!(rest, expected[2..]);
        let (pinned, _) = all_told(feed.appends().start(Start::At(token))).await;
        let newest = words(&["id", "part", "remark"]);
        assert!(pinned.iter().all(|(t, _)| matches!(t, Told::Rows(names, _) if *names == newest)));
    }
    // A change of columns that nobody selected is none.
    let refuse = feed.appends().on_schema_change(OnSchemaChange::Refuse).select(["id"]);
    let (seen, error) = all_told(refuse.start(Start::Earliest)).await;
    assert!(error.is_none() && seen.len() == 5, "{error:?}");
}

#[tokio::test]
async fn a_pinned_stream_keeps_its_columns_while_schema_and_specs_change_under_it() {
    for lanes in [1, 3] {
        let mut feed = Feed::new();
        feed.append_whole().await;
        let builder = feed.appends().until(Until::Forever).start(Start::Earliest).lanes(lanes);
        let mut stream = builder.open().await.unwrap();
        let mut ids = 1;
        feed.add_column("note").await;
        feed.append_whole().await;
        feed.drop_column("note").await;
        feed.append_whole().await;
        feed.table = feed.table.update_spec().remove_field("part").commit().await.unwrap();
        let update = feed.table.update_spec();
        let update = update.add_field("id", Transform::Identity, Some("id_part"));
        feed.table = update.commit().await.unwrap();
        let batch = kit::batch(vec![("id", 1, longs([77])), ("part", 2, longs([1]))]);
        let mut file = kit::file(&feed.table, "respecced", &batch).await;
        file.partition = Struct::from_iter([Some(Literal::long(77))]);
        feed.table = kit::append(&feed.table, vec![file]).await;
        let mut seen = Vec::new();
        while seen.last() != Some(&77) {
            let event = soon(&mut stream).await.expect("more rows").unwrap();
            if let Some(Told::Rows(names, rows)) = told(&event) {
                assert_eq!(names, words(&["id", "part"]));
                ids += 1;
                seen.extend(rows);
            }
        }
        assert_eq!((seen.len(), ids), (10, 5));
    }
}

#[tokio::test]
async fn named_columns_are_followed_whatever_they_are_called() {
    let (mut feed, _) = changing_feed().await;
    let filter = crate::expr::parse("remark >= 31 or part = 7", feed.table.schema()).unwrap();
    let columns = async |builder: StreamBuilder| {
        let (seen, error) = all_told(builder.start(Start::Earliest)).await;
        let mut columns: Vec<String> = seen
            .iter()
            .filter_map(|(told, _)| match told {
                Told::Columns(names) => Some(names.join(" ")),
                Told::Rows(..) => None,
            })
            .collect();
        columns.push(error.map_or("end".into(), |e| e.to_string()));
        columns
    };
    // A column that comes later, under a name that it has later still.
    let late = feed.announced().select(["remark", "id"]);
    assert_eq!(columns(late).await, ["note id", "remark id", "end"]);
    let early = feed.announced().filter(filter.clone()).start(Start::Earliest);
    let error = early.open().await.unwrap_err().to_string();
    assert!(error.contains("filtered"), "it is not there at first: {error}");
    // Old names still mean the columns that had them.
    let after = SnapshotId(feed.table.ancestors(feed.head()).nth(1).unwrap().snapshot_id());
    let builder = feed.announced().select(["id", "note"]).start(Start::AfterSnapshot(after));
    let (seen, _) = all_told(builder).await;
    assert_eq!(seen[0].0, Told::Columns(words(&["id", "remark"])));
    let unknown = feed.announced().select(["nothing"]).open().await.unwrap_err();
    assert!(unknown.to_string().contains("nothing"), "{unknown}");

    feed.drop_column("remark").await;
    feed.append_whole().await;
    let dropped = feed.announced().select(["id", "note"]);
    assert_eq!(columns(dropped).await, ["id note", "id remark", "id", "end"]);
    let lost = feed.announced().start(Start::AfterSnapshot(after)).filter(filter);
    let (seen, error) = all_told(lost).await;
    assert_eq!(seen.len(), 2, "a new name, and the rows before the drop: {seen:?}");
    assert!(error.unwrap().to_string().contains("filtered"));
}

#[tokio::test]
async fn a_key_whose_column_is_dropped_ends_the_stream_before() {
    let (mut feed, expected) = changing_feed().await;
    feed.drop_column("remark").await;
    feed.append_whole().await;
    let first = feed.table.ancestors(feed.head()).nth(2).unwrap().snapshot_id();
    for way in [OnSchemaChange::Announce, OnSchemaChange::Refuse] {
        let keyed = feed.announced().on_schema_change(way).emit(Emit::Changes).key(["note"]);
        let keyed = keyed.start(Start::AfterSnapshot(SnapshotId(first)));
        let (seen, error) = all_told(keyed).await;
        let error = error.expect("the key is dropped").to_string();
        match way {
            OnSchemaChange::Announce => {
                assert!(error.contains("key") && error.contains("remark"), "{error}");
                let told: Vec<_> = seen.into_iter().map(|(told, _)| told).collect();
                assert_eq!(told, expected[5..]);
            }
            _ => assert!(seen.is_empty(), "{seen:?}"),
        }
    }
    // Pinned to a schema with the key, a stream notices as well.
    let mut feed = changing_feed().await.0;
    let builder = feed.appends().emit(Emit::Changes).key(["remark"]).until(Until::Forever);
    let mut stream = builder.open().await.unwrap();
    feed.drop_column("remark").await;
    feed.append_whole().await;
    let error = soon(&mut stream).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("key"), "{error}");
}

#[tokio::test]
async fn a_schema_nobody_remembers_is_announced_before_the_first_rows() {
    let mut feed = Feed::new();
    feed.append_whole().await;
    let token = feed.announced().open().await.unwrap().token();
    feed.add_column("note").await;
    feed.append_whole().await;
    let oldest = feed.table.ancestors(feed.head()).last().unwrap().snapshot_id();
    feed.table = kit::changed(&feed.table, |b| Ok(b.remove_snapshots(&[oldest]))).await;
    let (seen, error) = all_told(feed.announced().start(Start::At(token))).await;
    assert!(error.is_none());
    assert_eq!(seen[0].0, Told::Columns(words(&["id", "part", "note"])));
    assert_eq!(seen.len(), 2);
}

/// Rows `(id, note)` in partition 1, as one file of a table `id, part, note`.
async fn noted(feed: &Feed, name: &str, rows: &[(i64, i64)]) -> DataFile {
    let batch = kit::batch(vec![
        ("id", 1, longs(rows.iter().map(|row| row.0))),
        ("part", 2, longs(vec![1; rows.len()])),
        ("note", 3, longs(rows.iter().map(|row| row.1))),
    ]);
    let mut file = kit::file(&feed.table, name, &batch).await;
    file.partition = Struct::from_iter([Some(Literal::long(1))]);
    file
}

/// One commit that writes four notes anew, carries two rows over and adds two; given are the
/// snapshots before and after it, with another between them.
async fn rewritten_notes() -> (Feed, [SnapshotId; 3]) {
    let mut feed = Feed::new();
    feed.add_column("note").await;
    let rows: Vec<(i64, i64)> = (1..=6).map(|id| (id, id * 10)).collect();
    let old = noted(&feed, "old", &rows).await;
    feed.table = kit::append(&feed.table, vec![old.clone()]).await;
    let before = feed.head();
    let empty = feed.append(&[2], 1).await;
    let rows: Vec<_> = rows.into_iter().map(|(id, note)| (id, note + i64::from(id < 5))).collect();
    let new = noted(&feed, "new", &[&rows[..], &[(7, 70), (8, 80)]].concat()).await;
    let written = crate::table::WriteResult { data_files: vec![new], ..Default::default() };
    let removed = vec![crate::table::RemovedFile::new(&old, None)];
    feed.table = feed.table.overwrite_files(removed, written).commit().await.unwrap().table;
    let after = feed.head();
    (feed, [before, empty, after])
}

/// Ordinals count what tells rows apart, and rows that differ in a dropped column alone no longer
/// look different: what was begun has to go on as it began, or ids 7 and 8 are lost.
#[tokio::test]
async fn a_column_that_is_dropped_while_a_unit_is_half_delivered_shifts_nothing() {
    for is_net in [false, true] {
        let (mut feed, [before, between, after]) = rewritten_notes().await;
        let mut start = Start::AfterSnapshot(between);
        let keyed =
            |feed: &Feed| feed.appends().emit(Emit::Changes).key(["id", "part"]).on_gap(OnGap::Net);
        if is_net {
            let token = keyed(&feed).start(Start::AfterSnapshot(before)).open().await.unwrap();
            start = Start::At(token.token());
            let tag = SnapshotRetention::Tag { max_ref_age_ms: None };
            let kept = SnapshotReference::new(before.0, tag);
            feed.table = kit::changed(&feed.table, |b| b.set_ref("kept", kept)).await;
            feed.table = kit::changed(&feed.table, |b| Ok(b.remove_snapshots(&[between.0]))).await;
        }
        let mut stream = keyed(&feed).start(start).open().await.unwrap();
        let batch = loop {
            match stream.try_next().await.unwrap().unwrap() {
                StreamEvent::Batch(batch) if rows_of(&batch)[0].0 == 1 => break batch,
                _ => {}
            }
        };
        assert_eq!((batch.commit.snapshot_id, batch.commit.net.is_some()), (after, is_net));
        let ids: Vec<i64> = rows_of(&batch).iter().map(|row| row.1).collect();
        assert_eq!(ids, [1, 1, 2, 2, 3, 3, 4, 4, 7, 8]);
        let token = batch.token_after(3).unwrap();

        feed.drop_column("note").await;
        feed.append_whole().await;
        let mut stream = keyed(&feed).start(Start::At(token)).open().await.unwrap();
        let rest = drain(&mut stream).await.unwrap();
        let rest: Vec<i64> = rest.iter().filter(|row| row.1 < 10).map(|row| row.1).collect();
        assert_eq!(rest, [3, 3, 4, 4, 7, 8], "net: {is_net}");
    }
}
