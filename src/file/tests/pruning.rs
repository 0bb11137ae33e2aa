//! Filters leave out row groups and pages, and never a row that matches.

use std::sync::Arc;

use arrow::array::*;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::*;
use crate::expr::{bind, evaluate, parse};
use crate::spec::BoundPredicate;

use PrimitiveType::*;

fn schema() -> SchemaRef {
    schema_of([
        optional(1, "n", primitive(Long)),
        optional(2, "t", primitive(String)),
        optional(3, "f", primitive(Double)),
        optional(4, "at", primitive(Timestamp)),
        optional(5, "d", primitive(Decimal { precision: 20, scale: 2 })),
        optional(6, "later", primitive(Int)),
    ])
}

fn file_schema() -> SchemaRef {
    schema_of(schema().as_struct().fields()[..5].to_vec())
}

/// Values that rise with the row, with nulls and NaNs strewn in.
fn rows(count: i64, nulls: i64) -> RecordBatch {
    let null = |i: i64| nulls > 0 && i % nulls == 0;
    let at = |i: i64, step: i64| (!null(i + step)).then_some(i * step);
    let n: Int64Array = (0..count).map(|i| at(i, 1)).collect();
    let t: StringArray =
        (0..count).map(|i| at(i, 2).map(|_| format!("{i:06}-{}", "x".repeat(80)))).collect();
    let f: Float64Array = (0..count)
        .map(|i| at(i, 3).map(|v| if v % 100 == 99 { f64::NAN } else { v as f64 }))
        .collect();
    let times: TimestampMicrosecondArray = (0..count).map(|i| at(i, 4)).collect();
    let d: Decimal128Array = (0..count).map(|i| at(i, 5).map(i128::from)).collect();
    let d = d.with_precision_and_scale(20, 2).unwrap();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(n), Arc::new(t), Arc::new(f), Arc::new(times), Arc::new(d)];
    RecordBatch::try_new(arrow_schema(&file_schema()).unwrap(), columns).unwrap()
}

fn filter(text: &str) -> BoundPredicate {
    bind(&parse(text, &schema()).unwrap(), &schema(), true).unwrap()
}

async fn small_pages(storage: &Storage, batch: &RecordBatch) -> DataFile {
    let options = WriterOptions {
        page_rows: 100,
        row_group_bytes: 20_000,
        bloom_columns: [1, 2, 4, 5].into(),
        ..Default::default()
    };
    write_file(storage, "memory://t/p", &file_schema(), std::slice::from_ref(batch), &options)
        .await
        .unwrap()
}

async fn read_with(storage: &Storage, filter: Option<BoundPredicate>) -> RecordBatch {
    let request = FileRead { filter, ..FileRead::new("memory://t/p", schema()) };
    read_all(storage, request).await.unwrap()
}

#[tokio::test]
async fn a_narrow_filter_decodes_few_rows() {
    let storage = memory();
    let batch = rows(20_000, 0);
    let file = small_pages(&storage, &batch).await;
    assert!(file.split_offsets.as_ref().unwrap().len() > 2);
    for (text, at_most) in [
        ("n = 7777", 300),
        ("t = '007777'", 300),
        ("n > 19990 AND t >= '019995'", 300),
        (
            "at BETWEEN TIMESTAMP '1970-01-01T00:00:00.040000' AND TIMESTAMP '1970-01-01T00:00:00.040100'",
            400,
        ),
        ("n < 10 OR n > 19990", 600),
        ("later = 1", 0),
        ("n IS NULL", 0),
    ] {
        let decoded = read_with(&storage, Some(filter(text))).await.num_rows();
        assert!(decoded <= at_most, "{text}: {decoded} rows");
    }
    assert_eq!(read_with(&storage, Some(filter("later IS NULL"))).await.num_rows(), 20_000);
}

#[tokio::test]
async fn a_page_of_nothing_but_nan_neither_fails_nor_hides_rows() {
    let storage = memory();
    let batch = rows(1_000, 0);
    let mut columns = batch.columns().to_vec();
    let floats = (0..1_000).map(|i| if i < 500 { f64::NAN } else { f64::from(i) });
    columns[2] = Arc::new(Float64Array::from_iter_values(floats));
    small_pages(&storage, &RecordBatch::try_new(batch.schema(), columns).unwrap()).await;
    for (text, expected) in [("f = 700", 1), ("f IS NAN", 500), ("f > 0 AND n < 600", 100)] {
        let filter = filter(text);
        let found = read_with(&storage, Some(filter.clone())).await;
        assert_eq!(evaluate(&filter, &found).unwrap().true_count(), expected, "{text}");
    }
}

#[tokio::test]
async fn positions_stay_physical_under_a_filter() {
    let storage = memory();
    small_pages(&storage, &rows(5_000, 0)).await;
    let mut fields = schema().as_struct().fields().to_vec();
    fields.push(required(reserved::POS, "_pos", primitive(Long)));
    let request = FileRead {
        filter: Some(filter("n > 3210 AND n < 3220")),
        ..FileRead::new("memory://t/p", schema_of(fields))
    };
    let out = read_all(&storage, request).await.unwrap();
    assert!(out.num_rows() > 0 && out.num_rows() < 1_000);
    let n = out.column(0).as_primitive::<Int64Type>();
    assert_eq!(n.values(), out.column(6).as_primitive::<Int64Type>().values());
}

#[tokio::test]
async fn nanosecond_statistics_are_compared_in_microseconds() {
    let storage = memory();
    let times = TimestampNanosecondArray::from(vec![5_000, 6_500]);
    let batch = RecordBatch::try_from_iter([("at", Arc::new(times) as ArrayRef)]).unwrap();
    super::foreign::write_plain(&storage, "memory://t/ns", &batch).await.unwrap();
    let table = schema_of([optional(1, "at", primitive(Timestamp))]);
    let text = "at = TIMESTAMP '1970-01-01T00:00:00.000006'";
    let filter = bind(&parse(text, &table).unwrap(), &table, true).unwrap();
    let request = FileRead { filter: Some(filter), ..FileRead::new("memory://t/ns", table) };
    let out = read_all(&storage, request).await.unwrap();
    assert_eq!(out.column(0).as_primitive::<TimestampMicrosecondType>().values(), &[5, 6]);
}

fn any_filter() -> impl Strategy<Value = std::string::String> {
    let number = 0i64..3_000;
    let leaf = prop_oneof![
        (number.clone(), prop_oneof![Just("="), Just("<"), Just(">="), Just("!=")])
            .prop_map(|(v, op)| format!("n {op} {v}")),
        number.clone().prop_map(|v| format!("t > '{v:06}'")),
        number.clone().prop_map(|v| format!("t LIKE '{:04}%'", v / 10)),
        number.clone().prop_map(|v| format!("f <= {}.0", v * 3)),
        number.clone().prop_map(|v| format!("d > {}.{:02}", v / 20, v % 100)),
        number.clone().prop_map(|v| format!("t = '{v:06}-{}'", "x".repeat(80))),
        number.clone().prop_map(|v| format!("d = {}.{:02}", v / 20, v % 100)),
        (number.clone(), number).prop_map(|(a, b)| format!("n IN ({a}, {b})")),
        Just("f IS NULL".to_string()),
        Just("t IS NOT NULL".to_string()),
        Just("later IS NULL".to_string()),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} AND {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} OR {b})")),
            inner.prop_map(|a| format!("NOT ({a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn pruning_loses_no_matching_row(text in any_filter(), nulls in 0i64..40) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let storage = memory();
            small_pages(&storage, &rows(3_000, nulls)).await;
            let filter = filter(&text);
            let all = read_with(&storage, None).await;
            let pruned = read_with(&storage, Some(filter.clone())).await;
            let keep = |b: &RecordBatch| filter_record_batch(b, &evaluate(&filter, b).unwrap()).unwrap();
            // As text, because NaN is not equal to itself.
            assert_eq!(format!("{:?}", keep(&pruned)), format!("{:?}", keep(&all)), "{text}");
        });
    }
}
