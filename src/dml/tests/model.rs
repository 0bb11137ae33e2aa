//! Random histories of appends, upserts, deletes and overwrites, against a vector of rows.

use proptest::prelude::*;

use super::fixture::*;
use crate::expr::parse;
use crate::spec::*;
use crate::table::tests::kit::{day, partitioned, table, whole};
use crate::table::{At, Table};

type Matches = fn(&Row, i64) -> bool;

/// Filters as text and as what they mean on a row.
const FILTERS: &[(&str, Matches)] = &[
    ("id = $", |r, n| r.0 == n),
    ("id < $", |r, n| r.0 < n),
    ("NOT id BETWEEN 3 AND $", |r, n| !(3..=n).contains(&r.0)),
    ("name LIKE 'a%' AND id > $", |r, n| {
        r.1.as_ref().is_some_and(|s| s.starts_with('a')) && r.0 > n
    }),
    ("name IS NULL", |r, _| r.1.is_none()),
    ("name != 'b'", |r, _| r.1.as_ref().is_some_and(|s| s != "b")),
    ("day = 1", |r, _| r.2 == Some(1)),
    ("day IS NULL OR id = $", |r, n| r.2.is_none() || r.0 == n),
    ("day < 2 AND id >= $", |r, n| r.2.is_some_and(|d| d < 2) && r.0 >= n),
    ("day IN (0, 2) AND NOT name IN ('a', 'c')", |r, _| {
        matches!(r.2, Some(0 | 2)) && r.1.as_ref().is_some_and(|s| s != "a" && s != "c")
    }),
    ("TRUE", |_, _| true),
];

#[derive(Debug, Clone)]
enum Op {
    Append(Vec<(u8, u8)>, u8),
    /// Equality deletes of these ids in the whole partition.
    DeleteIds(Vec<u8>, u8),
    DeleteWhere(usize, u8),
    OverwriteWhere(usize, u8, u8),
}

fn op() -> impl Strategy<Value = Op> {
    let rows = prop::collection::vec((0u8..12, 0u8..5), 1..6);
    prop_oneof![
        4 => (rows, 0u8..4).prop_map(|(rows, day)| Op::Append(rows, day)),
        1 => (prop::collection::vec(0u8..12, 1..4), 0u8..4).prop_map(|(ids, d)| Op::DeleteIds(ids, d)),
        4 => (0..FILTERS.len(), 0u8..12).prop_map(|(f, n)| Op::DeleteWhere(f, n)),
        1 => (0..FILTERS.len(), 0u8..12, 0u8..4).prop_map(|(f, n, d)| Op::OverwriteWhere(f, n, d)),
    ]
}

/// Day 3 stands for null.
fn day_of(n: u8) -> Option<i32> {
    (n < 3).then(|| i32::from(n))
}

fn rows_from(rows: &[(u8, u8)], day: u8) -> Vec<Row> {
    let names = [None, Some("a"), Some("ab"), Some("b"), Some("c")];
    let row = |(id, name): &(u8, u8)| {
        (i64::from(*id), names[usize::from(*name)].map(str::to_string), day_of(day))
    };
    rows.iter().map(row).collect()
}

fn partition(table: &Table, is_partitioned: bool, n: u8) -> PartitionKey {
    if !is_partitioned {
        return whole();
    }
    let spec = table.metadata().default_partition_spec_id();
    match day_of(n) {
        Some(d) => day(spec, d),
        None => PartitionKey { spec_id: spec, values: Struct::from_iter([None]) },
    }
}

async fn apply(table: Table, model: &mut Vec<Row>, op: &Op, is_partitioned: bool) -> Table {
    match op {
        Op::Append(rows, day) => {
            let rows = rows_from(rows, *day);
            let files = file(&table, &rows, partition(&table, is_partitioned, *day)).await;
            model.extend(rows);
            table.append(files).commit().await.unwrap().table
        }
        Op::DeleteIds(ids, day) => {
            let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
            let key = partition(&table, is_partitioned, *day);
            let deletes = delete_ids(&table, &ids, key).await;
            model.retain(|r| !ids.contains(&r.0) || (is_partitioned && r.2 != day_of(*day)));
            table.row_delta(deletes).commit().await.unwrap().table
        }
        Op::DeleteWhere(f, n) => {
            let (text, matches) = FILTERS[*f];
            let filter = parse(&text.replace('$', &n.to_string()), table.schema()).unwrap();
            let report = table.delete_where(filter).commit().await.unwrap();
            let before = model.len() as u64;
            model.retain(|r| !matches(r, i64::from(*n)));
            let gone = before - model.len() as u64;
            // Rows that went by position were alive; of removed files some rows may have been dead.
            assert!(
                report.deleted_rows <= gone && gone <= report.deleted_rows + report.removed_rows
            );
            report.table
        }
        Op::OverwriteWhere(f, n, day) => {
            let (text, matches) = FILTERS[*f];
            let filter = parse(&text.replace('$', &n.to_string()), table.schema()).unwrap();
            let rows = rows_from(&[(*n, 1)], *day);
            let files = file(&table, &rows, partition(&table, is_partitioned, *day)).await;
            let report = table.overwrite_where(filter, files).commit().await.unwrap();
            model.retain(|r| !matches(r, i64::from(*n)));
            model.extend(rows);
            report.table
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_table_holds_the_rows_of_its_model_after_any_history(
        ops in prop::collection::vec(op(), 1..14), is_partitioned in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_, mut table) = if is_partitioned { partitioned().await } else { table().await };
            let mut model = Vec::new();
            for op in &ops {
                table = apply(table, &mut model, op, is_partitioned).await;
                let mut expected = model.clone();
                expected.sort();
                prop_assert_eq!(rows_of(&table, At::Current).await, expected, "after {:?}", op);
            }
            Ok(())
        })?;
    }
}
