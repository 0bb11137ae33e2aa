//! Which snapshots and refs go, and which stay and why. Pure: no storage, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::ExpireOptions;
use crate::error::{Error, Result};
use crate::spec::{
    MAIN_BRANCH, SnapshotId, SnapshotRef, SnapshotReference, SnapshotRetention, property, refs_of,
};
use crate::table::Table;

/// Five days, as other engines have it.
const DEFAULT_AGE_MS: u64 = 5 * 24 * 60 * 60 * 1000;

/// The oldest snapshot that a named stream needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needed {
    pub stream: String,
    /// `None`: it is gone already.
    pub snapshot: Option<SnapshotId>,
}

/// What goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// Refs that are too old, by name.
    pub refs: BTreeSet<String>,
    /// Snapshots, by id.
    pub snapshots: BTreeSet<i64>,
    /// Per stream, how many snapshots stay because of it.
    pub held: BTreeMap<String, usize>,
}

/// Decides for one version of a table, at `now_ms`.
///
/// # Errors
/// As [`super::Expire::plan`].
pub(super) fn decide(
    table: &Table,
    options: &ExpireOptions,
    streams: &[Needed],
    now_ms: i64,
) -> Result<Decision> {
    let refs = refs_of(table.metadata())?;
    let rules = Rules::new(table, options, now_ms)?;
    let named = named(table, options)?;
    let only_named = !named.is_empty() && rules.is_default;
    let mut decision = Decision::default();
    if !only_named {
        decision.refs = rules.too_old(table, &refs);
        let kept: BTreeMap<_, _> =
            refs.iter().filter(|(name, _)| !decision.refs.contains(*name)).collect();
        let stay = rules.staying(table, &kept);
        let all = table.metadata().snapshots().map(|s| s.snapshot_id());
        decision.snapshots = all.filter(|id| !stay.contains(id)).collect();
    }
    for (name, reference) in refs.iter().filter(|(name, _)| !decision.refs.contains(*name)) {
        if named.contains(&reference.snapshot_id) {
            return Err(held_by_ref(table, reference.snapshot_id, name));
        }
    }
    decision.snapshots.extend(&named);
    if !options.pass_streams {
        spare_streams(table, &mut decision, &named, streams)?;
    }
    Ok(decision)
}

fn named(table: &Table, options: &ExpireOptions) -> Result<BTreeSet<i64>> {
    options.snapshots.iter().map(|id| table.snapshot(*id).map(|s| s.snapshot_id())).collect()
}

fn held_by_ref(table: &Table, snapshot: i64, name: &str) -> Error {
    Error::invalid(format!("snapshot {snapshot} is held by `{name}`"))
        .with_context("table", table.ident())
        .with_hint(format!("drop or move `{name}` first: `meltwater inspect refs` shows them"))
}

/// Takes back what a stream still needs: the oldest snapshot it needs and all its descendants
/// (MNT-23).
fn spare_streams(
    table: &Table,
    decision: &mut Decision,
    named: &BTreeSet<i64>,
    streams: &[Needed],
) -> Result<()> {
    let mut children: HashMap<i64, Vec<i64>> = HashMap::new();
    for snapshot in table.metadata().snapshots() {
        if let Some(parent) = snapshot.parent_snapshot_id() {
            children.entry(parent).or_default().push(snapshot.snapshot_id());
        }
    }
    let mut spared = HashSet::new();
    for Needed { stream, snapshot } in streams {
        let mut next: Vec<i64> = snapshot.iter().map(|id| id.0).collect();
        let mut seen: HashSet<i64> = next.iter().copied().collect();
        while let Some(id) = next.pop() {
            let below = children.get(&id).into_iter().flatten();
            next.extend(below.copied().filter(|child| seen.insert(*child)));
        }
        if let Some(id) = named.iter().find(|id| seen.contains(id)) {
            return Err(Error::invalid(format!(
                "snapshot {id} is still to be read by stream `{stream}`"
            ))
            .with_context("table", table.ident())
            .with_hint("let the stream catch up, or remove its position"));
        }
        let held = seen.iter().filter(|id| decision.snapshots.contains(id)).count();
        if held > 0 {
            decision.held.insert(stream.clone(), held);
        }
        spared.extend(seen);
    }
    decision.snapshots.retain(|id| !spared.contains(id));
    Ok(())
}

/// Options over table properties over defaults.
struct Rules {
    now_ms: i64,
    /// Snapshots from this time on stay.
    keep_from_ms: i64,
    keep_last: usize,
    max_ref_age_ms: Option<i64>,
    /// Neither age nor count was asked for.
    is_default: bool,
}

impl Rules {
    fn new(table: &Table, options: &ExpireOptions, now_ms: i64) -> Result<Self> {
        if options.retain_last == Some(0) {
            return Err(Error::invalid("at least one snapshot must stay")
                .with_hint("retain 1 or more; `meltwater drop --purge` removes a whole table"));
        }
        let properties = table.properties();
        let age = match options.older_than {
            Some(age) => age,
            None => properties.millis(property::MAX_SNAPSHOT_AGE_MS, DEFAULT_AGE_MS)?,
        };
        let keep_last = match options.retain_last {
            Some(last) => last,
            None => usize::try_from(properties.number(property::MIN_SNAPSHOTS_TO_KEEP, 1)?)
                .unwrap_or(usize::MAX)
                .max(1),
        };
        let max_ref_age_ms = properties.number(property::MAX_REF_AGE_MS, u64::MAX)?;
        Ok(Self {
            now_ms,
            keep_from_ms: now_ms.saturating_sub(millis(age)),
            keep_last,
            max_ref_age_ms: i64::try_from(max_ref_age_ms).ok(),
            is_default: options.older_than.is_none() && options.retain_last.is_none(),
        })
    }

    /// Branches and tags whose head is older than they may be; `main` always stays (MNT-22).
    fn too_old(
        &self,
        table: &Table,
        refs: &BTreeMap<String, SnapshotReference>,
    ) -> BTreeSet<String> {
        let is_old = |name: &str, reference: &SnapshotReference| {
            let own = match reference.retention {
                SnapshotRetention::Branch { max_ref_age_ms, .. }
                | SnapshotRetention::Tag { max_ref_age_ms } => max_ref_age_ms,
            };
            let head = table.metadata().snapshot_by_id(reference.snapshot_id);
            let Some((limit, head)) = own.or(self.max_ref_age_ms).zip(head) else { return false };
            name != MAIN_BRANCH && self.now_ms.saturating_sub(head.timestamp_ms()) > limit
        };
        refs.iter()
            .filter(|(name, reference)| is_old(name, reference))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The snapshots that refs and age keep.
    fn staying(&self, table: &Table, refs: &BTreeMap<&String, &SnapshotReference>) -> HashSet<i64> {
        let mut stay = HashSet::new();
        // Whatever a ref reaches goes by the rules of that ref only.
        let mut reached = HashSet::new();
        for reference in refs.values() {
            stay.insert(reference.snapshot_id);
            reached.insert(reference.snapshot_id);
            let SnapshotRetention::Branch { min_snapshots_to_keep, max_snapshot_age_ms, .. } =
                reference.retention
            else {
                continue;
            };
            let last = min_snapshots_to_keep.and_then(|n| usize::try_from(n).ok());
            let last = last.unwrap_or(self.keep_last).max(1);
            let from =
                max_snapshot_age_ms.map_or(self.keep_from_ms, |a| self.now_ms.saturating_sub(a));
            let mut open = true;
            for (n, snapshot) in table.ancestors(SnapshotId(reference.snapshot_id)).enumerate() {
                reached.insert(snapshot.snapshot_id());
                // The first one that goes ends it: a branch has no holes.
                open = open && (n < last || snapshot.timestamp_ms() >= from);
                if open {
                    stay.insert(snapshot.snapshot_id());
                }
            }
        }
        let young = |s: &&SnapshotRef| {
            !reached.contains(&s.snapshot_id()) && s.timestamp_ms() >= self.keep_from_ms
        };
        stay.extend(table.metadata().snapshots().filter(young).map(|s| s.snapshot_id()));
        stay
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
