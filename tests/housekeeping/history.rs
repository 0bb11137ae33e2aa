//! Random histories with branches, tags, rollbacks and deletes: whatever expires, no file that a
//! surviving snapshot needs goes, every file that nobody needs does, and the orphans are exactly
//! what was listed less what is named.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::TryStreamExt;
use meltwater::clock::SeededIds;
use meltwater::maintenance::{ExpireOptions, OrphanOptions};
use meltwater::spec::{DataContentType, DataFile, SnapshotId};
use meltwater::table::{RefUpdate, RemovedFile, WriteResult};

use crate::yard::{Yard, all, days, needs};

struct Dice(SeededIds);

impl Dice {
    fn below(&self, n: usize) -> usize {
        (self.0.next_u64() % n as u64) as usize
    }

    fn one_of<'a, T>(&self, list: &'a [T]) -> Option<&'a T> {
        (!list.is_empty()).then(|| &list[self.below(list.len())])
    }
}

/// One random step; what the table refuses is no step.
async fn step(yard: &Yard, dice: &Dice, live: &mut Vec<DataFile>, n: usize) {
    let table = yard.now().await;
    let snapshots: Vec<SnapshotId> =
        table.metadata().snapshots().map(|s| SnapshotId(s.snapshot_id())).collect();
    let name = format!("r{}", dice.below(4));
    let on_ref = |update| async { table.update_ref(update).await.is_ok() };
    match dice.below(12) {
        0..=3 => live.push(yard.append().await.1),
        4 => {
            let Some(file) = dice.one_of(live).cloned() else { return };
            let gone = vec![RemovedFile::new(&file, None)];
            // A rollback may have taken the file away.
            let _ = table.delete_files(gone).commit().await;
        }
        5 => {
            let mut deletes = vec![yard.file(DataContentType::EqualityDeletes).await];
            if let Some(file) = dice.one_of(live) {
                let mut position = yard.file(DataContentType::PositionDeletes).await;
                position.referenced_data_file = Some(file.file_path.clone());
                deletes.push(position);
            }
            let written = WriteResult { delete_files: deletes, ..WriteResult::default() };
            table.row_delta(written).commit().await.unwrap();
        }
        6 => {
            let Some(file) = dice.one_of(live).cloned() else { return };
            let new = yard.file(DataContentType::Data).await;
            let gone = vec![RemovedFile::new(&file, None)];
            let written = WriteResult { data_files: vec![new.clone()], ..WriteResult::default() };
            if table.overwrite_files(gone, written).commit().await.is_ok() {
                live.push(new);
            }
        }
        7 => {
            let Some(at) = dice.one_of(&snapshots) else { return };
            let max_ref_age_ms = [None, Some(days(3).as_millis() as i64)][dice.below(2)];
            on_ref(RefUpdate::CreateTag { name, snapshot: *at, max_ref_age_ms }).await;
        }
        8 => {
            let Some(at) = dice.one_of(&snapshots) else { return };
            if on_ref(RefUpdate::CreateBranch { name: name.clone(), snapshot: *at }).await {
                yard.append_to(&name).await;
            }
        }
        9 => {
            on_ref(RefUpdate::Drop { name }).await;
        }
        10 => {
            let Some(to) = dice.one_of(&snapshots) else { return };
            on_ref(RefUpdate::Rollback { name: "main".into(), to: *to }).await;
        }
        _ => yard.later(Duration::from_secs(3600 * dice.below(80) as u64)),
    }
    yard.later(Duration::from_secs(1));
    if n.is_multiple_of(5) {
        // A writer that died: its file is an orphan.
        yard.file(DataContentType::Data).await;
    }
}

/// Expires by random rules and checks every file against the oracle.
async fn expire(yard: &Yard, dice: &Dice, seed: u64) {
    let before = yard.now().await;
    let (needed, stored) = (needs(&before).await, yard.stored().await);
    let options = ExpireOptions {
        older_than: [None, Some(Duration::ZERO), Some(days(1))][dice.below(3)],
        retain_last: [None, Some(1), Some(3)][dice.below(3)],
        memory_budget_bytes: [1, 1 << 20][dice.below(2)],
        ..ExpireOptions::default()
    };
    let expire = yard.table.expire(options.clone());
    let plan = expire.plan().await.unwrap();
    let planned: BTreeSet<String> =
        expire.files(&plan).map_ok(|f| f.location).try_collect().await.unwrap();
    let report = expire.run().await.unwrap_or_else(|e| panic!("seed {seed}: {e:?}"));

    let now = yard.now().await;
    let kept = all(&needs(&now).await);
    let gone: BTreeSet<String> = stored.difference(&yard.stored().await).cloned().collect();
    assert!(gone.is_disjoint(&kept), "seed {seed}: {options:?}: a needed file went");
    let expected: BTreeSet<String> = needed
        .iter()
        .filter(|(id, _)| now.metadata().snapshot_by_id(**id).is_none())
        .flat_map(|(_, files)| files.iter().filter(|f| !kept.contains(*f)).cloned())
        .filter(|f| stored.contains(f))
        .collect();
    assert_eq!(gone, expected, "seed {seed}: {options:?}: {report}");
    assert!(expected.is_subset(&planned), "seed {seed}: the plan said less");
    assert!(report.report.failed.is_empty(), "seed {seed}: {report}");
    for name in ["main", "r0", "r1", "r2", "r3"] {
        let was = before.metadata().snapshot_for_ref(name).map(|s| s.snapshot_id());
        let is = now.metadata().snapshot_for_ref(name).map(|s| s.snapshot_id());
        assert!(was == is || report.refs.contains(&name.to_string()), "seed {seed}: `{name}`");
    }
}

/// The orphans are what is stored less what any version in the log names.
async fn remove_orphans(yard: &Yard, seed: u64) {
    yard.later(days(404));
    let now = yard.now().await;
    let mut named = all(&needs(&now).await);
    named.insert(now.metadata_location().to_string());
    named.insert(format!("{}/version-hint.text", now.manifest_location()));
    named.extend(now.metadata().metadata_log().iter().map(|l| l.metadata_file.clone()));
    let stored = yard.stored().await;
    let expected: BTreeSet<String> = stored.difference(&named).cloned().collect();
    let orphans = yard.table.remove_orphans(OrphanOptions::default());
    let plan = orphans.plan().await.unwrap();
    let planned: BTreeSet<String> =
        orphans.files(&plan).unwrap().map_ok(|f| f.location).try_collect().await.unwrap();
    assert_eq!(planned, expected, "seed {seed}");
    orphans.run().await.unwrap();
    assert_eq!(yard.stored().await, &stored - &expected, "seed {seed}");
}

#[tokio::test]
async fn no_needed_file_goes_and_no_other_stays_in_random_histories() {
    let seeds = match std::env::var("MELTWATER_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..60).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        let dice = Dice(SeededIds::new(seed));
        // The log names one version only: what expires is named by nobody after two commits.
        let yard = Yard::long_ago(&[
            ("write.metadata.previous-versions-max", "1"),
            ("commit.manifest.min-count-to-merge", "3"),
        ])
        .await;
        let mut live = Vec::new();
        for _ in 0..4 {
            for n in 0..12 {
                step(&yard, &dice, &mut live, n).await;
            }
            expire(&yard, &dice, seed).await;
        }
        yard.append().await;
        yard.append().await;
        remove_orphans(&yard, seed).await;
    }
}
