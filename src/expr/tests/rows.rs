//! Filters over batches, against the model.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int32Array, NullArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use proptest::prelude::*;

use super::model::*;
use crate::expr::{bind, describe, evaluate, field_ids, parse};
use crate::spec::*;

fn rows(pool: &[Datum], picks: &[u8]) -> Vec<Option<Datum>> {
    picks.iter().map(|i| pool.get(usize::from(*i) % (pool.len() + 2)).cloned()).collect()
}

/// Other Arrow types in which readers may hand over a column.
fn variants(kind: &PrimitiveType, array: &ArrayRef) -> Vec<ArrayRef> {
    let dictionary = |value: DataType| DataType::Dictionary(DataType::Int32.into(), value.into());
    let types = match kind {
        PrimitiveType::String => {
            vec![DataType::LargeUtf8, DataType::Utf8View, dictionary(DataType::Utf8)]
        }
        PrimitiveType::Binary => vec![DataType::LargeBinary, DataType::BinaryView],
        PrimitiveType::Int => vec![DataType::Int64, dictionary(DataType::Int32)],
        PrimitiveType::Double => vec![dictionary(DataType::Float64)],
        _ => vec![],
    };
    types.iter().map(|t| cast(array, t).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_row_passes_exactly_when_the_model_says_so(
        kind in 0usize..14, shape in shape(), picks in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        let (kind, pool) = kinds().swap_remove(kind);
        let rows = rows(&pool, &picks);
        let expected: Vec<bool> = {
            let predicate = predicate(&shape, &kind, &pool);
            rows.iter().map(|v| passes(&predicate, v.as_ref(), false)).collect()
        };
        let filter = bound(&shape, &kind, &pool);

        let plain = array(&kind, &rows);
        for array in variants(&kind, &plain).into_iter().chain([plain]) {
            let named = format!("{} on {rows:?} as {}", describe(&filter), array.data_type());
            let answer = evaluate(&filter, &batch(array)).unwrap();
            prop_assert_eq!(answer.null_count(), 0);
            prop_assert_eq!(answer.values().iter().collect::<Vec<_>>(), expected.clone(), "{}", named);
        }
    }

    #[test]
    fn a_filter_is_printed_as_the_text_that_means_it(kind in 0usize..14, shape in shape()) {
        let (kind, pool) = kinds().swap_remove(kind);
        // Bytes have no LIKE.
        prop_assume!(kind != PrimitiveType::Binary);
        let filter = bound(&shape, &kind, &pool);
        let text = describe(&filter).to_string();
        let again = parse(&text, &schema(&kind)).and_then(|p| bind(&p, &schema(&kind), true));
        match again {
            Ok(again) => prop_assert_eq!(describe(&again).to_string(), text),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn a_column_is_null_where_the_struct_around_it_is(
        shape in shape(), picks in prop::collection::vec((any::<u8>(), any::<bool>()), 1..12),
    ) {
        let (kind, pool) = kinds().swap_remove(1);
        let (picks, parent): (Vec<u8>, Vec<bool>) = picks.into_iter().unzip();
        let rows = rows(&pool, &picks);
        let predicate = predicate(&shape, &kind, &pool);
        let expected: Vec<bool> = rows.iter().zip(&parent)
            .map(|(v, there)| passes(&predicate, v.as_ref().filter(|_| *there), false))
            .collect();

        let batch = nested_batch(array(&kind, &rows), parent);
        let answer = evaluate(&bound(&shape, &kind, &pool), &batch).unwrap();

        prop_assert_eq!(answer.values().iter().collect::<Vec<_>>(), expected);
    }
}

fn ask(predicate: Predicate, kind: PrimitiveType, array: ArrayRef) -> Vec<bool> {
    let filter = bind(&predicate, &schema(&kind), true).unwrap();
    evaluate(&filter, &batch(array)).unwrap().iter().map(|b| b.unwrap()).collect()
}

#[test]
fn null_is_neither_equal_nor_unequal_and_not_keeps_it_unknown() {
    let column: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(2), None]));
    let c = || Reference::new("c");
    let one = || Datum::int(1);
    let table = [
        (c().equal_to(one()), [true, false, false]),
        (!c().equal_to(one()), [false, true, false]),
        (c().not_equal_to(one()), [false, true, false]),
        (c().is_in([one()]), [true, false, false]),
        (!c().is_in([one(), Datum::int(5)]), [false, true, false]),
        (c().less_than(one()).or(c().greater_than_or_equal_to(one())), [true, true, false]),
        (c().is_null(), [false, false, true]),
        (!c().is_null(), [true, true, false]),
    ];
    for (predicate, expected) in table {
        let named = predicate.to_string();
        assert_eq!(ask(predicate, PrimitiveType::Int, column.clone()), expected, "{named}");
    }
}

#[test]
fn nan_passes_no_order_and_both_zeros_are_equal() {
    let column = array(
        &PrimitiveType::Double,
        &[Some(Datum::double(f64::NAN)), Some(Datum::double(-0.0)), Some(Datum::double(0.0)), None],
    );
    let c = || Reference::new("c");
    let zero = || Datum::double(0.0);
    let set = || (0..20).map(|v| Datum::double(f64::from(v)));
    let table = [
        (c().equal_to(zero()), [false, true, true, false]),
        (c().not_equal_to(zero()), [true, false, false, false]),
        (c().less_than(zero()), [false; 4]),
        (c().greater_than_or_equal_to(Datum::double(-0.0)), [false, true, true, false]),
        (!c().less_than(Datum::double(9.0)), [false; 4]),
        (c().is_in(set()), [false, true, true, false]),
        (c().is_not_in(set()), [true, false, false, false]),
        (c().is_nan(), [true, false, false, false]),
        (c().is_not_nan(), [false, true, true, true]),
    ];
    for (predicate, expected) in table {
        let named = predicate.to_string();
        assert_eq!(ask(predicate, PrimitiveType::Double, column.clone()), expected, "{named}");
    }
}

#[test]
fn a_column_of_nothing_but_nulls_matches_is_null_only() {
    let nulls: ArrayRef = Arc::new(NullArray::new(2));
    let c = || Reference::new("c");
    assert_eq!(ask(c().is_null(), PrimitiveType::Int, nulls.clone()), [true, true]);
    assert_eq!(ask(c().not_equal_to(Datum::int(1)), PrimitiveType::Int, nulls), [false, false]);
}

#[test]
fn literals_of_programs_are_converted_or_refused_by_name() {
    let c = || Reference::new("c");
    let int = schema(&PrimitiveType::Int);
    let shown = |p: Predicate, s: &SchemaRef| bind(&p, s, true).map(|b| b.to_string());

    assert_eq!(shown(c().less_than(Datum::long(1i64 << 40)), &int).unwrap(), "c IS NOT NULL");
    assert_eq!(shown(c().not_equal_to(Datum::long(1i64 << 40)), &int).unwrap(), "c IS NOT NULL");
    assert_eq!(shown(!c().less_than(Datum::long(1i64 << 40)), &int).unwrap(), "False");
    assert_eq!(shown(c().less_than(Datum::double(1.5)), &int).unwrap(), "c <= 1");
    let decimal = Datum::decimal_from_str("2.50").unwrap();
    assert_eq!(shown(c().greater_than(decimal), &int).unwrap(), "c > 2");
    let dates = schema(&PrimitiveType::Date);
    assert_eq!(shown(c().equal_to(Datum::string("1970-01-02")), &dates).unwrap(), "c = 1970-01-02");

    let nan = bind(
        &Reference::new("c").equal_to(Datum::double(f64::NAN)),
        &schema(&PrimitiveType::Double),
        true,
    );
    assert!(nan.unwrap_err().to_string().contains("NaN equals nothing"));
    let wrong = bind(&c().equal_to(Datum::string("x")), &int, true).unwrap_err();
    assert!(wrong.to_string().contains("(column: c)"), "{wrong}");
    let unknown = bind(&Reference::new("d").is_null(), &int, true).unwrap_err();
    assert_eq!(unknown.hint(), Some("did you mean `c`?"));
    assert!(bind(&Reference::new("C").is_null(), &int, true).is_err());
    assert!(bind(&Reference::new("C").is_null(), &int, false).is_ok());
}

#[test]
fn a_required_field_of_an_optional_struct_can_be_null() {
    let inner = NestedField::required(ID, "c", Type::Primitive(PrimitiveType::Int));
    let inner = StructType::new(vec![Arc::new(inner)]);
    let field = NestedField::optional(1, "s", Type::Struct(inner));
    let schema: SchemaRef =
        Arc::new(Schema::builder().with_fields([Arc::new(field)]).build().unwrap());
    let filter = bind(&Reference::new("s.c").is_null(), &schema, true).unwrap();
    assert_eq!(field_ids(&filter), [ID].into());

    let batch = nested_batch(Arc::new(Int32Array::from(vec![1, 2])), vec![true, false]);

    assert_eq!(evaluate(&filter, &batch).unwrap(), BooleanArray::from(vec![false, true]));
}

#[test]
fn a_batch_without_the_column_is_an_error_that_names_it() {
    let filter = bind(&Reference::new("c").is_null(), &schema(&PrimitiveType::Int), true).unwrap();
    let other = with_id(arrow::datatypes::Field::new("c", DataType::Int32, true), 99);
    let other =
        arrow::array::RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::new(vec![other])));
    let error = evaluate(&filter, &other).unwrap_err();
    assert!(error.to_string().contains("lacks column `c`"), "{error}");
}
