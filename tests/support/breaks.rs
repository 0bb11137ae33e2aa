//! Histories that break: snapshots expire, and `main` is moved back or elsewhere.

use meltwater::Result;
use meltwater::maintenance::ExpireOptions;
use meltwater::spec::{
    MAIN_BRANCH, SnapshotId, SnapshotReference, SnapshotRetention, TableUpdate, refs_of,
};
use meltwater::table::RefUpdate;

use super::history::Pair;
use super::replay::{history, projected};

impl Pair {
    /// Tags snapshots, so that they stay.
    pub async fn hold(&mut self, ids: impl IntoIterator<Item = SnapshotId>) -> Result<()> {
        for id in ids {
            let name = format!("held-{id}");
            let is_known = refs_of(self.table.metadata())?.contains_key(&name);
            if !is_known && self.table.snapshot(id).is_ok() {
                let tag = RefUpdate::CreateTag { name, snapshot: id, max_ref_age_ms: None };
                self.table = self.table.update_ref(tag).await?;
            }
        }
        Ok(())
    }

    /// Expires some of the snapshots that no ref names, with their files.
    pub async fn expire(&mut self, pick: u64) -> Result<()> {
        let held: Vec<i64> =
            refs_of(self.table.metadata())?.values().map(|r| r.snapshot_id).collect();
        let mut free: Vec<(i64, i64)> = self
            .table
            .metadata()
            .snapshots()
            .map(|s| (s.sequence_number(), s.snapshot_id()))
            .filter(|(_, id)| !held.contains(id))
            .collect();
        free.sort_unstable();
        let chosen = free.into_iter().enumerate().filter(|(n, _)| pick >> (n % 64) & 1 == 1);
        let snapshots: Vec<SnapshotId> = chosen.map(|(_, (_, id))| SnapshotId(id)).collect();
        if snapshots.is_empty() {
            return Ok(());
        }
        let options = ExpireOptions { snapshots, pass_streams: true, ..ExpireOptions::default() };
        self.table.expire(options).run().await?;
        self.check("an expiry").await
    }

    /// Rolls `main` back to any of its snapshots, whatever schema the table had then.
    pub async fn rewind(&mut self, pick: u64) -> Result<()> {
        let line = history(&self.table);
        if line.is_empty() {
            return Ok(());
        }
        let to = line[(pick % line.len() as u64) as usize].snapshot_id();
        self.table.rollback_to(SnapshotId(to)).await?;
        self.is_now(to).await
    }

    /// Puts `main` on any snapshot there is, as `replace_branch` of other engines does.
    pub async fn replace_main(&mut self, pick: u64) -> Result<()> {
        let mut all: Vec<i64> =
            self.table.metadata().snapshots().map(|s| s.snapshot_id()).collect();
        all.sort_unstable();
        if all.is_empty() {
            return Ok(());
        }
        let to = all[(pick % all.len() as u64) as usize];
        let retention = SnapshotRetention::branch(None, None, None);
        let reference = SnapshotReference::new(to, retention);
        let update = TableUpdate::SetSnapshotRef { ref_name: MAIN_BRANCH.into(), reference };
        self.table.catalog().commit(self.table.ident(), vec![], vec![update]).await?;
        self.is_now(to).await
    }

    async fn is_now(&mut self, snapshot: i64) -> Result<()> {
        self.rows = projected(&self.past[&snapshot], self.table.schema());
        self.check("a moved branch").await
    }
}
