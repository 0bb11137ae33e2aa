//! Histories that break: snapshots expire, and `main` is moved back or elsewhere.

use meltwater::Result;
use meltwater::maintenance::ExpireOptions;
use meltwater::spec::{
    MAIN_BRANCH, SnapshotId, SnapshotReference, SnapshotRetention, TableUpdate, refs_of,
};
use meltwater::table::{Place, RefUpdate, Token};

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
        self.move_main(all[(pick % all.len() as u64) as usize]).await
    }

    /// Puts `main` on one of the snapshots that lie before the beginning of a net difference which
    /// the token tells, or on that: the old line of history, whatever was branched off since.
    /// False if there is none.
    pub async fn move_back(&mut self, pick: u64, token: Option<&Token>) -> Result<bool> {
        let begun = token.iter().flat_map(|token| token.places()).filter_map(|(_, place)| {
            let Place::Net(net, _) = place else { return None };
            Some(net)
        });
        let passed = token.iter().flat_map(|token| (1..20).filter_map(|leg| token.net(leg)));
        let from = begun.chain(passed).filter_map(|net| net.from);
        let old: Vec<i64> = from
            .flat_map(|from| self.table.ancestors(from).take(4))
            .map(|snapshot| snapshot.snapshot_id())
            .collect();
        if old.is_empty() {
            return Ok(false);
        }
        self.move_main(old[(pick % old.len() as u64) as usize]).await?;
        Ok(true)
    }

    async fn move_main(&mut self, to: i64) -> Result<()> {
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
