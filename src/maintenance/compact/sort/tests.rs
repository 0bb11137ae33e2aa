//! Sorting against `Vec::sort_by`, with and without spilling.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::{SortKeys, Sorter};
use crate::clock::SeededIds;
use crate::file::arrow_schema;
use crate::spec::*;

type Row = (Option<i64>, Option<String>, i64);

fn schema() -> Schema {
    Schema::builder()
        .with_fields([
            NestedField::optional(1, "a", Type::Primitive(PrimitiveType::Long)).into(),
            NestedField::optional(2, "b", Type::Primitive(PrimitiveType::String)).into(),
            NestedField::required(3, "n", Type::Primitive(PrimitiveType::Long)).into(),
        ])
        .build()
        .unwrap()
}

fn batch(rows: &[Row]) -> RecordBatch {
    RecordBatch::try_new(
        arrow_schema(&schema()).unwrap(),
        vec![
            Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|r| r.1.as_deref()).collect::<StringArray>()),
            Arc::new(rows.iter().map(|r| Some(r.2)).collect::<Int64Array>()),
        ],
    )
    .unwrap()
}

fn order() -> Vec<SortField> {
    let field = |source_id, direction, null_order| SortField {
        source_id,
        transform: Transform::Identity,
        direction,
        null_order,
    };
    vec![
        field(1, SortDirection::Ascending, NullOrder::Last),
        field(2, SortDirection::Descending, NullOrder::First),
    ]
}

async fn sorted(batches: &[Vec<Row>], budget: usize, folder: &Path) -> Vec<i64> {
    let keys = SortKeys::new(&schema(), &order()).unwrap();
    let mut sorter = Sorter::new(keys, budget, folder.to_owned(), Arc::new(SeededIds::new(1)));
    for rows in batches {
        sorter.push(batch(rows)).await.unwrap();
    }
    let mut sorted = sorter.finish().await.unwrap();
    let mut numbers = Vec::new();
    while let Some(batch) = sorted.next_batch().unwrap() {
        numbers.extend_from_slice(batch.column(2).as_primitive::<Int64Type>().values());
    }
    numbers
}

fn rows() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let row = (prop::option::of(0..6i64), prop::option::of("[ab]{0,2}"));
    let batch = prop::collection::vec(row, 1..40);
    prop::collection::vec(batch, 0..30).prop_map(|batches| {
        let mut n = 0;
        let mut number = |(a, b)| {
            n += 1;
            (a, b, n)
        };
        batches.into_iter().map(|b| b.into_iter().map(&mut number).collect()).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn rows_come_in_order_whether_or_not_they_fit_into_memory(
        batches in rows(), budget in prop_oneof![Just(1usize), Just(20_000), Just(1 << 30)],
    ) {
        let mut expected: Vec<Row> = batches.iter().flatten().cloned().collect();
        // Nulls last, then descending with nulls first; equal rows as they came.
        expected.sort_by(|x, y| {
            (x.0.is_none(), x.0).cmp(&(y.0.is_none(), y.0)).then_with(|| {
                (y.1.is_none(), &y.1).cmp(&(x.1.is_none(), &x.1))
            })
        });
        let expected: Vec<i64> = expected.into_iter().map(|r| r.2).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let got = runtime.block_on(sorted(&batches, budget, folder.path()));
        prop_assert_eq!(got, expected);
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        prop_assert_eq!(left, 0, "runs stay behind");
    }
}

#[tokio::test]
async fn a_spill_folder_that_is_not_there_is_named() {
    let keys = SortKeys::new(&schema(), &order()).unwrap();
    let folder = std::env::temp_dir().join("meltwater-is-not-here");
    let mut sorter = Sorter::new(keys, 1, folder, Arc::new(SeededIds::new(1)));
    let error = sorter.push(batch(&[(Some(1), None, 1)])).await.unwrap_err();
    assert_eq!(error.kind(), crate::error::ErrorKind::Unavailable);
    assert!(error.to_string().contains("meltwater-is-not-here"), "{error}");
}
