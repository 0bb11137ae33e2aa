//! Which snapshots expire, and which of their files go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::TryStreamExt;
use meltwater::ErrorKind;
use meltwater::maintenance::{ExpireOptions, FileKind, OrphanOptions, Progress, Unit, UnusedFile};
use meltwater::object_store::memory::InMemory;
use meltwater::spec::{DataContentType, SnapshotId, SnapshotRetention};
use meltwater::table::{Place, PositionStore, RefUpdate, Token, WriteResult};
use meltwater::testing::{FaultPlan, FaultyStore};

use crate::yard::{FOLDER, Yard, all, days, needs, open};

fn last(n: usize) -> ExpireOptions {
    ExpireOptions {
        older_than: Some(std::time::Duration::ZERO),
        retain_last: Some(n),
        ..ExpireOptions::default()
    }
}

fn ids(snapshots: &[SnapshotId]) -> ExpireOptions {
    ExpireOptions { snapshots: snapshots.to_vec(), ..ExpireOptions::default() }
}

#[tokio::test]
async fn age_count_and_properties_decide_what_expires() {
    let yard = Yard::long_ago(&[]).await;
    let mut made = Vec::new();
    for _ in 0..6 {
        made.push(yard.append().await.0);
        yard.later(days(1) - std::time::Duration::from_secs(1));
    }
    // The newest is one day old.
    let planned = async |options: ExpireOptions| {
        let plan = yard.table.expire(options).plan().await.unwrap();
        plan.snapshots.iter().map(|s| SnapshotId(s.snapshot_id)).collect::<Vec<_>>()
    };
    let older = |n| ExpireOptions { older_than: Some(days(n)), ..ExpireOptions::default() };
    assert_eq!(planned(ExpireOptions::default()).await, made[..1], "five days");
    assert_eq!(planned(older(3)).await, made[..3]);
    assert_eq!(planned(older(0)).await, made[..5], "the head stays");
    assert_eq!(planned(last(4)).await, made[..2]);
    let both = ExpireOptions { retain_last: Some(5), ..older(0) };
    assert_eq!(planned(both).await, made[..1]);

    let table = &yard.table;
    let set = table.update_properties();
    let set = set.set("history.expire.max-snapshot-age-ms", days(2).as_millis().to_string());
    set.set("history.expire.min-snapshots-to-keep", "3").commit().await.unwrap();
    assert_eq!(planned(ExpireOptions::default()).await, made[..3]);
    let error = table.expire(ExpireOptions { retain_last: Some(0), ..older(0) }).plan().await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn branches_keep_by_their_own_rules_and_old_refs_go() {
    let yard = Yard::long_ago(&[]).await;
    let mut made = Vec::new();
    for _ in 0..4 {
        made.push(yard.append().await.0);
        yard.later(days(1));
    }
    let table = &yard.table;
    for update in [
        RefUpdate::CreateTag { name: "keep".into(), snapshot: made[0], max_ref_age_ms: None },
        RefUpdate::CreateTag { name: "brief".into(), snapshot: made[1], max_ref_age_ms: Some(1) },
        RefUpdate::CreateBranch { name: "b".into(), snapshot: made[3] },
        RefUpdate::SetRetention {
            name: "b".into(),
            retention: SnapshotRetention::branch(Some(3), None, None),
        },
    ] {
        table.update_ref(update).await.unwrap();
    }
    let report = table.expire(last(1)).run().await.unwrap();
    assert_eq!(report.refs, ["brief"]);
    assert_eq!(report.snapshots, [], "the branch keeps three, the tag the first");

    table.update_ref(RefUpdate::Drop { name: "b".into() }).await.unwrap();
    let report = table.expire(last(1)).run().await.unwrap();
    assert_eq!(report.snapshots, made[1..3]);
    assert_eq!(yard.snapshots().await, BTreeSet::from([made[0].0, made[3].0]));
}

#[tokio::test]
async fn snapshots_named_by_id_go_alone_unless_something_holds_them() {
    let yard = Yard::long_ago(&[]).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(yard.append().await.0);
    }
    let tag = RefUpdate::CreateTag { name: "x".into(), snapshot: made[1], max_ref_age_ms: None };
    yard.table.update_ref(tag).await.unwrap();
    for (held, name) in [(made[4], "`main`"), (made[1], "`x`")] {
        let error = yard.table.expire(ids(&[held])).run().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(name), "{error}");
    }
    let unknown = yard.table.expire(ids(&[SnapshotId(77)])).run().await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);

    yard.later(days(100));
    let report = yard.table.expire(ids(&[made[2]])).run().await.unwrap();
    assert_eq!(report.snapshots, [made[2]], "age is not asked for");
    assert_eq!(report.data_files, 0, "its file is in the next snapshot, too");
    assert_eq!(report.manifest_lists, 1);
}

#[tokio::test]
async fn a_table_without_garbage_collection_is_refused() {
    let yard = Yard::long_ago(&[("gc.enabled", "false")]).await;
    yard.append().await;
    yard.append().await;
    for error in [
        yard.table.expire(last(1)).plan().await.map(|_| ()).unwrap_err(),
        yard.table.expire(last(1)).run().await.map(|_| ()).unwrap_err(),
        yard.table.remove_orphans(OrphanOptions::default()).plan().await.map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("gc.enabled"), "{error}");
    }
    assert_eq!(yard.snapshots().await.len(), 2);
}

#[tokio::test]
async fn a_named_stream_keeps_its_backlog_unless_told_otherwise() {
    let yard = Yard::long_ago(&[]).await;
    let mut made = Vec::new();
    for _ in 0..6 {
        made.push(yard.append().await.0);
        yard.later(days(1));
    }
    let store =
        PositionStore::location(yard.table.storage().clone(), "memory:///positions").unwrap();
    let now = yard.now().await;
    let at = |place| Token::new(now.metadata().uuid(), 7, 4, place);
    for (name, place) in [("slow", Place::After(made[2])), ("fast", Place::After(made[4]))] {
        store.reset(&now, name, &at(place)).await.unwrap();
    }
    let expire = |options| yard.table.expire(options).positions(store.clone());

    let plan = expire(last(1)).plan().await.unwrap();
    let gone: Vec<_> = plan.snapshots.iter().map(|s| SnapshotId(s.snapshot_id)).collect();
    assert!(!gone.contains(&made[3]), "the slow stream has yet to read it: {gone:?}");
    assert!(gone.contains(&made[0]) && gone.contains(&made[1]), "{gone:?}");
    assert!(plan.held.iter().any(|h| h.stream == "slow" && h.snapshots >= 2), "{:?}", plan.held);

    let error = expire(ids(&[made[3]])).run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("`slow`"), "{error}");

    let report = expire(last(1)).run().await.unwrap();
    assert_eq!(report.snapshots, gone);
    let position = store.load(&yard.now().await, "slow").await.unwrap().unwrap();
    assert!(position.oldest_needed(&yard.now().await).is_some());

    let report = expire(ExpireOptions { pass_streams: true, ..last(1) }).run().await.unwrap();
    assert_eq!(yard.snapshots().await.len(), 1);
    assert!(report.held.is_empty());
}

#[tokio::test]
async fn the_plan_lists_exactly_the_files_that_a_run_removes() {
    let yard = Yard::long_ago(&[]).await;
    let (_, first) = yard.append().await;
    let (_, second) = yard.append().await;
    let deletes = [yard.file(DataContentType::EqualityDeletes).await, {
        let mut file = yard.file(DataContentType::PositionDeletes).await;
        file.referenced_data_file = Some(second.file_path.clone());
        file
    }];
    let written = WriteResult { delete_files: deletes.to_vec(), ..WriteResult::default() };
    yard.table.row_delta(written).commit().await.unwrap();
    yard.delete(&first).await;
    yard.append().await;
    let before = yard.stored().await;

    // A budget of nothing: one pass per file.
    for budget in [1, 1 << 20] {
        let options = ExpireOptions { memory_budget_bytes: budget, ..last(1) };
        let expire = yard.table.expire(options);
        let plan = expire.plan().await.unwrap();
        let files: Vec<UnusedFile> = expire.files(&plan).try_collect().await.unwrap();
        assert_eq!(yard.stored().await, before, "a plan removes nothing");
        if budget == 1 {
            continue;
        }
        let report = expire.run().await.unwrap();
        let gone: BTreeSet<String> = before.difference(&yard.stored().await).cloned().collect();
        assert_eq!(files.iter().map(|f| f.location.clone()).collect::<BTreeSet<_>>(), gone);
        assert_eq!(files.len(), gone.len(), "each file once");
        let count = |kind| files.iter().filter(|f| f.kind == kind).count() as u64;
        assert_eq!(report.data_files, count(FileKind::Data));
        assert_eq!(report.manifests, count(FileKind::Manifest));
        assert_eq!(report.manifest_lists, 4);
        assert_eq!(report.report.before.files, gone.len() as u64);
        assert!(gone.contains(&first.file_path) && !gone.contains(&second.file_path));
    }
}

/// Does something in the middle of a run.
#[derive(Debug)]
struct Stop(AtomicBool);

impl Progress for Stop {
    fn begin(&self, _: &'static str, _: Unit, _: Option<u64>) {
        self.0.store(true, Ordering::Relaxed);
    }
    fn should_stop(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_kill_between_metadata_and_files_leaves_orphans_that_are_found() {
    let yard = Yard::long_ago(&[("write.metadata.previous-versions-max", "1")]).await;
    let (_, first) = yard.append().await;
    yard.append().await;
    yard.delete(&first).await;
    let report = yard
        .table
        .expire(last(1))
        .progress(Arc::new(Stop(AtomicBool::new(false))))
        .run()
        .await
        .unwrap();
    assert!(report.report.stopped);
    assert_eq!((report.snapshots.len(), report.report.before.files), (2, 0));
    assert!(yard.stored().await.contains(&first.file_path));

    // As long as the log names the version before, its files are not orphans.
    yard.later(days(404));
    let orphans = yard.table.remove_orphans(OrphanOptions::default());
    let plan = orphans.plan().await.unwrap();
    let found: Vec<_> = orphans.files(&plan).unwrap().try_collect().await.unwrap();
    assert!(found.iter().all(|f| f.location.ends_with(".metadata.json")), "{found:?}");
    yard.append().await;
    yard.append().await;
    orphans.run().await.unwrap();
    let kept = all(&needs(&yard.now().await).await);
    let stored = yard.stored().await;
    assert!(!stored.contains(&first.file_path));
    assert!(kept.is_subset(&stored));
}

#[tokio::test]
async fn a_tag_made_meanwhile_keeps_its_snapshot() {
    let yard = Yard::long_ago(&[]).await;
    let (first, _) = yard.append().await;
    yard.append().await;
    // Another process tags the snapshot after the plan; the run decides anew.
    let expire = yard.table.expire(last(1));
    assert_eq!(expire.plan().await.unwrap().snapshots.len(), 1);
    let tag = RefUpdate::CreateTag { name: "x".into(), snapshot: first, max_ref_age_ms: None };
    yard.other(9).await.update_ref(tag).await.unwrap();
    let report = expire.run().await.unwrap();
    assert_eq!(report.snapshots, []);
    assert!(yard.snapshots().await.contains(&first.0));
}

#[tokio::test(start_paused = true)]
async fn commits_and_tags_race_with_an_expiry_and_nothing_needed_goes() {
    for seed in 0..30u64 {
        let slow = FaultPlan {
            slow: 500,
            slow_by: std::time::Duration::from_millis(200),
            ..FaultPlan::none()
        };
        let store = Arc::new(FaultyStore::new(Arc::new(InMemory::new()), seed, slow));
        let yard = Yard::on(store, &[], None).await;
        let mut made = Vec::new();
        for _ in 0..4 {
            made.push(yard.append().await.0);
        }
        let other = yard.other(100 + seed).await;
        let file = yard.file(DataContentType::Data).await;
        let tagging = async {
            let pause = std::time::Duration::from_millis(37 * seed % 900);
            tokio::time::sleep(pause).await;
            let name = "x".to_string();
            let tag = RefUpdate::CreateTag { name, snapshot: made[1], max_ref_age_ms: None };
            let tagged = other.update_ref(tag).await.is_ok();
            let written = WriteResult { data_files: vec![file], ..WriteResult::default() };
            other.append(written).commit().await.unwrap();
            tagged
        };
        let (report, tagged) = tokio::join!(yard.table.expire(last(1)).run(), tagging);
        let report = report.unwrap_or_else(|e| panic!("seed {seed}: {e:?}"));
        assert_eq!(tagged, !report.snapshots.contains(&made[1]), "seed {seed}");
        let now = yard.now().await;
        let stored = yard.stored().await;
        assert!(all(&needs(&now).await).is_subset(&stored), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_unknown_outcome_no_file_is_deleted() {
    let mut unknown = 0;
    for seed in 0..60u64 {
        let inner = Arc::new(InMemory::new());
        let calm = Yard::on(inner.clone(), &[], None).await;
        let (_, first) = calm.append().await;
        calm.append().await;
        calm.delete(&first).await;
        let before = needs(&calm.now().await).await;
        // The store breaks down after so many operations, in the end for good.
        let bad =
            FaultPlan { refused: 600, answer_lost: 300, spared: 4 + seed, ..FaultPlan::none() };
        let faulty: Arc<dyn meltwater::object_store::ObjectStore> =
            Arc::new(FaultyStore::new(inner.clone(), seed, bad));
        let Ok(table) = open(&faulty, &calm.clock, 7 + seed).await else { continue };
        let outcome = table.expire(last(1)).run().await;
        let stored = calm.stored().await;
        let now = calm.now().await;
        let kept = all(&needs(&now).await);
        assert!(kept.is_subset(&stored), "seed {seed}: a needed file went");
        match outcome {
            Err(e) if e.kind() == ErrorKind::CommitStateUnknown => {
                unknown += 1;
                assert!(all(&before).is_subset(&stored), "seed {seed}: {e}");
            }
            Err(_) => assert!(all(&before).is_subset(&stored), "seed {seed}"),
            // What was not deleted is in the report.
            Ok(report) => assert!(
                all(&before).difference(&kept).all(|file| !stored.contains(file)
                    || report.report.failed.iter().any(|f| f.what == *file)
                    || report.report.failed.iter().any(|f| f.what.starts_with("the rest"))),
                "seed {seed}: {report}"
            ),
        }
    }
    assert!(unknown > 0, "no seed lost the answer for good");
}

#[tokio::test]
async fn snapshots_that_share_a_manifest_list_keep_it() {
    let yard = Yard::long_ago(&[]).await;
    let (first, _) = yard.append().await;
    // As other engines do when a commit changes nothing but the summary.
    let now = yard.now().await;
    let head = now.current_snapshot().unwrap();
    let twin = meltwater::spec::Snapshot::builder()
        .with_snapshot_id(42)
        .with_parent_snapshot_id(Some(first.0))
        .with_sequence_number(head.sequence_number() + 1)
        .with_timestamp_ms(head.timestamp_ms() + 1)
        .with_manifest_list(head.manifest_list())
        .with_summary(head.summary().clone())
        .with_schema_id(0)
        .build();
    let reference =
        meltwater::spec::SnapshotReference::new(42, SnapshotRetention::branch(None, None, None));
    let updates = vec![
        meltwater::spec::TableUpdate::AddSnapshot { snapshot: twin },
        meltwater::spec::TableUpdate::SetSnapshotRef { ref_name: "main".into(), reference },
    ];
    now.catalog().commit(now.ident(), vec![], updates).await.unwrap();
    let report = yard.table.expire(last(1)).run().await.unwrap();
    assert_eq!(report.snapshots, [first]);
    assert_eq!(report.report.before.files, 0, "{report}");
    assert!(yard.stored().await.iter().any(|f| f.starts_with(FOLDER)));
    assert!(all(&needs(&yard.now().await).await).is_subset(&yard.stored().await));
}
