//! Bloom filters answer for values that statistics cannot rule out.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::Int32Type;

use super::*;
use crate::expr::bind;
use crate::spec::{BoundPredicate, Datum, Reference};

use PrimitiveType::*;

const ROWS: i64 = 4_000;

/// Even numbers below 8,000 in an order that leaves bounds useless.
fn number(row: i64) -> i64 {
    (row * 1_237 % ROWS) * 2
}

/// A type, its column of all numbers, and one number as a value.
struct Case {
    kind: PrimitiveType,
    column: ArrayRef,
    datum: fn(i64) -> Datum,
}

fn case(kind: PrimitiveType, column: impl Array + 'static, datum: fn(i64) -> Datum) -> Case {
    Case { kind, column: Arc::new(column), datum }
}

fn decimals(precision: u8) -> Decimal128Array {
    let values: Decimal128Array =
        (0..ROWS).map(|row| Some(i128::from(number(row)) - 4_000)).collect();
    values.with_precision_and_scale(precision, 2).unwrap()
}

fn decimal(n: i64, precision: u32) -> Datum {
    let kind = Decimal { precision, scale: 2 };
    crate::spec::datum_of(&kind, &crate::spec::PrimitiveLiteral::Int128(i128::from(n) - 4_000))
        .unwrap()
}

fn sixteen(n: i64) -> [u8; 16] {
    (n as u128 * 0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

fn cases() -> Vec<Case> {
    let numbers = || (0..ROWS).map(number);
    let bytes = |of: fn(i64) -> Vec<u8>| numbers().map(of).collect::<Vec<_>>();
    let fixed = |width: usize| {
        let values = numbers().map(|n| sixteen(n)[16 - width..].to_vec());
        FixedSizeBinaryArray::try_from_iter(values).unwrap()
    };
    vec![
        case(Int, numbers().map(|n| n as i32).collect::<Int32Array>(), |n| Datum::int(n as i32)),
        case(Long, numbers().collect::<Int64Array>(), Datum::long),
        case(Date, Date32Array::from_iter_values(numbers().map(|n| n as i32)), |n| {
            Datum::date(n as i32)
        }),
        case(Time, Time64MicrosecondArray::from_iter_values(numbers()), |n| {
            Datum::time_micros(n).unwrap()
        }),
        case(
            Timestamp,
            TimestampMicrosecondArray::from_iter_values(numbers()),
            Datum::timestamp_micros,
        ),
        case(
            Timestamptz,
            TimestampMicrosecondArray::from_iter_values(numbers()).with_timezone("+00:00"),
            Datum::timestamptz_micros,
        ),
        case(Decimal { precision: 7, scale: 2 }, decimals(7), |n| decimal(n, 7)),
        case(Decimal { precision: 17, scale: 2 }, decimals(17), |n| decimal(n, 17)),
        case(Decimal { precision: 38, scale: 2 }, decimals(38), |n| decimal(n, 38)),
        case(String, numbers().map(|n| Some(format!("k{n}"))).collect::<StringArray>(), |n| {
            Datum::string(format!("k{n}"))
        }),
        case(
            Binary,
            LargeBinaryArray::from_iter_values(bytes(|n| n.to_le_bytes().to_vec())),
            |n| Datum::binary(n.to_le_bytes()),
        ),
        case(Uuid, fixed(16), |n| Datum::uuid(uuid::Uuid::from_bytes(sixteen(n)))),
        case(Fixed(9), fixed(9), |n| Datum::fixed(sixteen(n)[7..].to_vec())),
    ]
}

fn equals(schema: &SchemaRef, values: impl IntoIterator<Item = Datum>) -> BoundPredicate {
    bind(&Reference::new("c").is_in(values), schema, true).unwrap()
}

async fn written(case: &Case) -> (Storage, SchemaRef) {
    let storage = memory();
    let schema = schema_of([
        required(1, "c", primitive(case.kind.clone())),
        required(2, "rest", primitive(Int)),
    ]);
    let rest: ArrayRef = Arc::new(
        (0..ROWS as i32).map(|row| row.wrapping_mul(-1_640_531_527)).collect::<Int32Array>(),
    );
    let batch = RecordBatch::try_from_iter([("c", case.column.clone()), ("rest", rest)]).unwrap();
    let batch = Normalizer::new(schema.clone()).unwrap().normalize(&batch).unwrap();
    let options = WriterOptions { bloom_columns: [1].into(), ..Default::default() };
    write_file(&storage, "memory://t/b", &schema, &[batch], &options).await.unwrap();
    (storage, schema)
}

#[tokio::test]
async fn an_absent_value_decodes_nothing_and_a_present_one_is_found() {
    for case in cases() {
        let (storage, schema) = written(&case).await;
        let read = |values: Vec<i64>| {
            let filter = equals(&schema, values.into_iter().map(case.datum));
            let request =
                FileRead { filter: Some(filter), ..FileRead::new("memory://t/b", schema.clone()) };
            read_all(&storage, request)
        };
        // One in a hundred absent values may pass for present.
        let mut wrong = 0;
        for absent in (1..200).step_by(2) {
            wrong += usize::from(read(vec![absent]).await.unwrap().num_rows() > 0);
        }
        assert!(wrong <= 6, "{:?}: {wrong} of 100 absent values were looked for", case.kind);
        for present in [0, 2, 4_000, 7_998] {
            let rows = read(vec![present]).await.unwrap().num_rows();
            assert!(rows > 0, "{:?}: {present} was not found", case.kind);
        }
        assert!(read(vec![1, 3, 2_468]).await.unwrap().num_rows() > 0, "{:?}", case.kind);
    }
}

#[tokio::test]
async fn a_value_too_large_for_a_narrower_column_of_old_is_absent() {
    let column = (0..ROWS).map(|row| number(row) as i32).collect::<Int32Array>();
    let (storage, _) = written(&case(Int, column, |n| Datum::int(n as i32))).await;
    let wide = schema_of([required(1, "c", primitive(Long)), required(2, "rest", primitive(Int))]);
    for (value, found) in [(Datum::long(4_002), true), (Datum::long(4_003), false)] {
        let request = FileRead {
            filter: Some(equals(&wide, [value.clone()])),
            ..FileRead::new("memory://t/b", wide.clone())
        };
        let rows = read_all(&storage, request).await.unwrap().num_rows();
        assert_eq!(rows > 0, found, "{value}");
    }
}

#[tokio::test]
async fn a_damaged_filter_loses_no_row() {
    let column = (0..ROWS).map(|row| number(row) as i32).collect::<Int32Array>();
    let (storage, schema) = written(&case(Int, column, |n| Datum::int(n as i32))).await;
    let metadata = footer(&storage, "memory://t/b", None).await.unwrap();
    let start = metadata.row_group(0).column(0).bloom_filter_offset().unwrap() as usize;
    let whole = storage.read("memory://t/b").await.unwrap();
    // Only the header: what the bits say is taken as it is, like any statistics.
    for at in start..start + 12 {
        for flip in [0x01u8, 0x80, 0xFF] {
            let mut broken = whole.to_vec();
            broken[at] ^= flip;
            let location = format!("memory://t/broken-{at}-{flip}");
            storage.write(&location, broken.into()).await.unwrap();
            let filter = equals(&schema, [Datum::int(4_002)]);
            let request =
                FileRead { filter: Some(filter), ..FileRead::new(location, schema.clone()) };
            let read = read_all(&storage, request).await.unwrap();
            let found = read.column(0).as_primitive::<Int32Type>();
            assert!(found.values().contains(&4_002), "byte {at} by {flip:#x}");
        }
    }
}
