//! Bounds and counts against a plain model.

use std::sync::Arc;

use arrow::array::*;
use proptest::prelude::*;

use super::*;
use crate::spec::{Datum, ListType, PrimitiveLiteral, StructType};

use PrimitiveType::*;

async fn file_of(schema: &SchemaRef, batches: &[RecordBatch], options: &WriterOptions) -> DataFile {
    write_file(&memory(), "memory://t/m", schema, batches, options).await.unwrap()
}

fn one_column(array: ArrayRef, t: PrimitiveType) -> (SchemaRef, RecordBatch) {
    let schema = schema_of([optional(1, "c", primitive(t))]);
    let batch = RecordBatch::try_new(arrow_schema(&schema).unwrap(), vec![array]).unwrap();
    (schema, batch)
}

#[tokio::test]
async fn long_strings_in_a_later_row_group_do_not_narrow_the_bounds() {
    let short: ArrayRef = Arc::new(StringArray::from_iter_values((0..500).map(|_| "mmm")));
    let (schema, first) = one_column(short, String);
    let long = |c: &str| c.repeat(200);
    let values: Vec<_> = (0..500).map(|i| if i % 2 == 0 { long("a") } else { long("z") }).collect();
    let (_, second) = one_column(Arc::new(StringArray::from(values)), String);
    let options = WriterOptions { row_group_bytes: 200, ..Default::default() };
    let file = file_of(&schema, &[first, second], &options).await;
    assert!(file.split_offsets.as_ref().unwrap().len() > 1);
    assert_eq!(file.lower_bound(1, &String), Some(Datum::string("a".repeat(16))));
    let upper = format!("{}{}", "z".repeat(15), "{");
    assert_eq!(file.upper_bound(1, &String), Some(Datum::string(upper)));
}

#[tokio::test]
async fn nan_is_counted_and_zeros_bound_each_other() {
    let values = vec![Some(f64::NAN), Some(0.0), None, Some(-f64::NAN)];
    let (schema, batch) = one_column(Arc::new(Float64Array::from(values)), Double);
    let file = file_of(&schema, &[batch], &Default::default()).await;
    assert_eq!(file.nan_value_counts.get(1), Some(2));
    assert_eq!(file.null_value_counts.get(1), Some(1));
    assert_eq!(file.value_counts.get(1), Some(4));
    assert_eq!(file.lower_bounds.get(1), Some(&(-0.0f64).to_le_bytes()[..]));
    assert_eq!(file.upper_bounds.get(1), Some(&0.0f64.to_le_bytes()[..]));
    let (schema, batch) = one_column(Arc::new(Float32Array::from(vec![f32::NAN])), Float);
    let file = file_of(&schema, &[batch], &Default::default()).await;
    assert!(file.lower_bounds.is_empty() && file.upper_bounds.is_empty());
}

#[tokio::test]
async fn nested_leaves_are_counted_and_only_those_outside_lists_are_bounded() {
    let list = ListType::new(NestedField::list_element(5, primitive(Int), false).into());
    let schema = schema_of([
        optional(1, "s", Type::Struct(StructType::new(vec![optional(2, "x", primitive(Int))]))),
        optional(4, "l", Type::List(list)),
    ]);
    let arrow = arrow_schema(&schema).unwrap();
    let arrow::datatypes::DataType::Struct(fields) = arrow.field(0).data_type() else { panic!() };
    // The second struct is null; the value below it must not count.
    let x: ArrayRef = Arc::new(Int32Array::from(vec![Some(5), Some(-99), None]));
    let s = StructArray::new(fields.clone(), vec![x], Some(vec![true, false, true].into()));
    let mut lists = ListBuilder::new(Int32Builder::new());
    lists.append_value([Some(1), None, Some(3)]);
    lists.append_null();
    lists.append_value([]);
    let lists = lists.finish();
    let arrow::datatypes::DataType::List(element) = arrow.field(1).data_type() else { panic!() };
    let (_, offsets, values, nulls) = lists.into_parts();
    let lists = ListArray::new(element.clone(), offsets, values, nulls);
    let batch = RecordBatch::try_new(arrow, vec![Arc::new(s), Arc::new(lists)]).unwrap();
    let file = file_of(&schema, &[batch], &Default::default()).await;
    assert_eq!(file.value_counts.get(2), Some(3));
    assert_eq!(file.null_value_counts.get(2), Some(2));
    assert_eq!(file.lower_bound(2, &Int), Some(Datum::int(5)));
    assert_eq!(file.upper_bound(2, &Int), Some(Datum::int(5)));
    assert_eq!(file.value_counts.get(5), Some(5));
    assert_eq!(file.lower_bounds.get(5), None);
    assert_eq!(file.value_counts.get(1), None, "groups have no metrics of their own");
}

#[tokio::test]
async fn modes_leave_out_what_they_say() {
    let values: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(40)]));
    let (schema, batch) = one_column(values, String);
    let with = |mode| WriterOptions { default_metrics: mode, ..Default::default() };
    let none = file_of(&schema, std::slice::from_ref(&batch), &with(MetricsMode::None)).await;
    assert!(none.value_counts.is_empty() && none.lower_bounds.is_empty());
    assert!(none.column_sizes.get(1).is_some());
    let counts = file_of(&schema, std::slice::from_ref(&batch), &with(MetricsMode::Counts)).await;
    assert_eq!(counts.value_counts.get(1), Some(1));
    assert!(counts.lower_bounds.is_empty());
    let full = file_of(&schema, &[batch], &with(MetricsMode::Full)).await;
    assert_eq!(full.upper_bounds.get(1).map(<[u8]>::len), Some(40));
}

#[tokio::test]
async fn bloom_filters_fit_the_file_and_not_a_million_rows() -> Result<()> {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
    let (schema, batch) = one_column(ids, Long);
    let options = WriterOptions { bloom_columns: [1].into(), ..Default::default() };
    let storage = memory();
    let file = write_file(&storage, "memory://t/b", &schema, &[batch], &options).await?;
    assert!(file.file_size_in_bytes < 4_000, "{} bytes", file.file_size_in_bytes);
    let metadata = footer(&storage, "memory://t/b", None).await?;
    assert!(metadata.row_group(0).column(0).bloom_filter_offset().is_some());
    Ok(())
}

type Row = (Option<std::string::String>, Option<i64>, Option<f64>);

fn literal(datum: &Option<Datum>) -> Option<&PrimitiveLiteral> {
    datum.as_ref().map(Datum::literal)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn bounds_enclose_all_values_and_counts_add_up(
        batches in proptest::collection::vec(
            proptest::collection::vec(
                (proptest::option::of("\\PC{0,20}"), proptest::option::of(any::<i64>()),
                 proptest::option::of(any::<f64>())),
                0..20,
            ),
            1..4,
        ),
        cut in 1usize..20,
    ) {
        let schema = schema_of([
            optional(1, "t", primitive(String)),
            optional(2, "n", primitive(Long)),
            optional(3, "f", primitive(Double)),
        ]);
        let arrow = arrow_schema(&schema).unwrap();
        let record_batches: Vec<RecordBatch> = batches.iter().map(|rows| {
            let text: StringArray = rows.iter().map(|r| r.0.clone()).collect();
            let numbers: Int64Array = rows.iter().map(|r| r.1).collect();
            let floats: Float64Array = rows.iter().map(|r| r.2).collect();
            let columns: Vec<ArrayRef> = vec![Arc::new(text), Arc::new(numbers), Arc::new(floats)];
            RecordBatch::try_new(arrow.clone(), columns).unwrap()
        }).collect();
        let options =
            WriterOptions { default_metrics: MetricsMode::Truncate(cut), ..Default::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let file = runtime.block_on(file_of(&schema, &record_batches, &options));
        let rows: Vec<_> = batches.into_iter().flatten().collect();
        let nulls = |f: fn(&Row) -> bool| {
            Some(rows.iter().filter(|r| f(r)).count() as u64)
        };
        if !rows.is_empty() {
            prop_assert_eq!(file.null_value_counts.get(1), nulls(|r| r.0.is_none()));
            prop_assert_eq!(file.null_value_counts.get(3), nulls(|r| r.2.is_none()));
            prop_assert_eq!(file.nan_value_counts.get(3), nulls(|r| r.2.is_some_and(f64::is_nan)));
            prop_assert_eq!(file.value_counts.get(2), Some(rows.len() as u64));
        }
        let numbers: Vec<i64> = rows.iter().filter_map(|r| r.1).collect();
        let exact = |v: Option<&i64>| v.map(|v| PrimitiveLiteral::Long(*v));
        prop_assert_eq!(literal(&file.lower_bound(2, &Long)).cloned(), exact(numbers.iter().min()));
        prop_assert_eq!(literal(&file.upper_bound(2, &Long)).cloned(), exact(numbers.iter().max()));
        for text in rows.iter().filter_map(|r| r.0.as_deref()) {
            let lower = file.lower_bounds.get(1).unwrap();
            prop_assert!(lower <= text.as_bytes());
            if let Some(upper) = file.upper_bounds.get(1) {
                prop_assert!(upper >= text.as_bytes());
            }
        }
        for value in rows.iter().filter_map(|r| r.2).filter(|v| !v.is_nan()) {
            let bound = |bytes: Option<&[u8]>| f64::from_le_bytes(bytes.unwrap().try_into().unwrap());
            prop_assert!(bound(file.lower_bounds.get(3)).total_cmp(&value).is_le());
            prop_assert!(bound(file.upper_bounds.get(3)).total_cmp(&value).is_ge());
        }
    }
}
