//! Random histories with compactions under way, against a vector of rows.

use proptest::prelude::*;

use super::commits::by_day;
use crate::expr::parse;
use crate::maintenance::fixture::*;
use crate::maintenance::{CompactOptions, CompactPlan, SortBy, SortColumn};
use crate::table::tests::kit::{partitioned, table};
use crate::table::{At, Table};

#[derive(Debug, Clone)]
enum Op {
    Append(Vec<i64>, i32),
    /// By equality, in the partition of the day; the whole table if it is not partitioned.
    DeleteKeys(Vec<i64>, i32),
    /// By position or whole files.
    DeleteWhere(i64),
    /// Plans a compaction, to be run later.
    Plan(Kind),
    /// Runs the compaction that was planned first.
    Run,
    Rollback,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Plain,
    Sorted,
    All,
}

fn op() -> impl Strategy<Value = Op> {
    let ids = || prop::collection::vec(0..20i64, 1..6);
    let kind = prop_oneof![Just(Kind::Plain), Just(Kind::Sorted), Just(Kind::All)];
    prop_oneof![
        5 => (ids(), 0..2i32).prop_map(|(ids, day)| Op::Append(ids, day)),
        3 => (ids(), 0..2i32).prop_map(|(ids, day)| Op::DeleteKeys(ids, day)),
        3 => (0..20i64).prop_map(Op::DeleteWhere),
        3 => kind.prop_map(Op::Plan),
        3 => Just(Op::Run),
        1 => Just(Op::Rollback),
    ]
}

fn kind_options(kind: Kind) -> CompactOptions {
    let by = SortColumn { name: "name".into(), descending: false };
    CompactOptions {
        rewrite_all: matches!(kind, Kind::All),
        sort: matches!(kind, Kind::Sorted).then(|| SortBy::Columns(vec![by])),
        ..options()
    }
}

struct World {
    table: Table,
    rows: Vec<Row>,
    /// The rows before the last change of rows, and the snapshot that had them.
    before: Option<(crate::spec::SnapshotId, Vec<Row>)>,
    planned: Vec<(Kind, Table, CompactPlan)>,
}

impl World {
    fn remember(&mut self) {
        let head = self.table.current_snapshot();
        self.before = head.map(|s| (crate::spec::SnapshotId(s.snapshot_id()), self.rows.clone()));
    }

    async fn step(&mut self, op: &Op) {
        match op {
            Op::Append(ids, day) => {
                self.remember();
                self.rows.extend(ids.iter().map(|id| row(*id, &format!("n{id}"), *day)));
                self.table = append(&self.table, ids, *day).await;
            }
            Op::DeleteKeys(ids, day) => {
                self.remember();
                let spec = self.table.metadata().default_partition_spec();
                let global = spec.is_unpartitioned();
                self.rows.retain(|r| !ids.contains(&r.0) || !(global || r.2 == Some(*day)));
                self.table = delete_keys(&self.table, ids, *day).await;
            }
            Op::DeleteWhere(id) => {
                self.remember();
                self.rows.retain(|r| r.0 != *id);
                self.table = delete_where(&self.table, &format!("id = {id}")).await;
            }
            Op::Plan(kind) => {
                let plan = self.table.compact(kind_options(*kind)).plan().await.unwrap();
                self.planned.push((*kind, self.table.clone(), plan));
            }
            Op::Run if !self.planned.is_empty() => {
                let (kind, table, plan) = self.planned.remove(0);
                table.compact(kind_options(kind)).run_plan(plan).await.unwrap();
            }
            Op::Run => {}
            Op::Rollback => {
                if let Some((id, rows)) = self.before.take() {
                    self.table.rollback_to(id).await.unwrap();
                    self.rows = rows;
                }
            }
        }
        self.table = self.table.refresh().await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_scan_is_the_same_before_and_after_compactions_at_any_interleaving(
        ops in prop::collection::vec(op(), 4..24), is_partitioned in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_, table) = if is_partitioned { partitioned().await } else { table().await };
            let mut world =
                World { table, rows: Vec::new(), before: None, planned: Vec::new() };
            for (at, op) in ops.iter().enumerate() {
                world.step(op).await;
                let mut expected = world.rows.clone();
                expected.sort();
                let got = rows_of(&world.table, At::Current).await;
                prop_assert_eq!(got, expected, "after step {} {:?}", at, op);
            }
            prop_assert_eq!(orphans(&world.table).await, 0);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn histories_that_change_the_spec_keep_their_rows() {
    let (_, mut table) = table().await;
    let mut expected = Vec::new();
    for n in 0..4i64 {
        table = append(&table, &[n, n + 10], (n % 2) as i32).await;
        expected.extend([n, n + 10]);
    }
    table = by_day(&table).await;
    table = append(&table, &[20, 21], 1).await;
    expected.extend([20, 21]);
    table = delete_where(&table, "id = 11").await;
    expected.retain(|id| *id != 11);
    let filter = parse("id >= 0", table.schema()).unwrap();
    assert_eq!(table.scan().filter(filter).count().await.unwrap(), 9);
    let (table, _) = compact(&table, options()).await;
    expected.sort();
    assert_eq!(ids(&table).await, expected);
    let (_, report) = compact(&table, options()).await;
    assert!(report.report.groups <= 1, "what moved may join what was there, then it is done");
}
