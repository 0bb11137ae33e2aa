//! A plain model of filters: values, rows and predicates judged one by one, to compare with.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Fields, Schema as ArrowSchema};
use proptest::prelude::*;

use crate::expr::bind;
use crate::spec::{
    BoundPredicate, Datum, NestedField, Predicate, PredicateOperator, PrimitiveLiteral,
    PrimitiveType, Reference, Schema, SchemaRef, Type, datum_from_bound,
};

pub(super) const ID: i32 = 7;

/// The v2 types that filters read, each with values around its edges.
pub(super) fn kinds() -> Vec<(PrimitiveType, Vec<Datum>)> {
    use PrimitiveType as P;
    let decimal = P::Decimal { precision: 9, scale: 2 };
    let day = 86_400_000_000i64;
    let micros = [
        -700_000 * day,
        -366 * day,
        -day - 1,
        -day,
        -3_600_000_001,
        -1,
        0,
        1,
        3_600_000_000,
        day - 1,
        day,
        19_000 * day,
    ];
    vec![
        (P::Boolean, [false, true].map(Datum::bool).into()),
        (
            P::Int,
            [i32::MIN, i32::MIN + 1, -11, -10, -1, 0, 1, 9, 10, 15, i32::MAX - 3, i32::MAX]
                .map(Datum::int)
                .into(),
        ),
        (
            P::Long,
            [i64::MIN, -11, -10, -1, 0, 1, 9, 10, 15, i64::MAX - 3, i64::MAX]
                .map(Datum::long)
                .into(),
        ),
        (
            P::Float,
            [f32::NAN, f32::NEG_INFINITY, -1.5, -0.0, 0.0, 1.5, f32::INFINITY]
                .map(Datum::float)
                .into(),
        ),
        (
            P::Double,
            [f64::NAN, f64::NEG_INFINITY, -1.5, -0.0, 0.0, 1.5, f64::INFINITY]
                .map(Datum::double)
                .into(),
        ),
        (
            decimal.clone(),
            [-999_999_999i128, -1001, -100, -1, 0, 1, 99, 100, 999_999_999]
                .map(|v| datum_from_bound(&v.to_be_bytes(), &decimal).unwrap())
                .into(),
        ),
        (
            P::Date,
            [-800, -366, -365, -32, -31, -1, 0, 1, 30, 31, 365, 19_000].map(Datum::date).into(),
        ),
        (
            P::Time,
            [0, 1, 3_600_000_000, 86_399_999_999].map(|v| Datum::time_micros(v).unwrap()).into(),
        ),
        (P::Timestamp, micros.map(Datum::timestamp_micros).into()),
        (P::Timestamptz, micros.map(Datum::timestamptz_micros).into()),
        (
            P::String,
            [
                "",
                "a",
                "ab",
                "abc",
                "abcd",
                "abd",
                "b",
                "é",
                "éa日本",
                "abcdefghijklmnopqrstuvwxyz",
                "abcdefghijklmnop",
                "\u{10FFFF}",
            ]
            .map(Datum::string)
            .into(),
        ),
        (
            P::Binary,
            [&[][..], &[0], &[0, 1], &[0, 1, 2, 3], &[1], &[255, 255, 255, 255], &[7; 20]]
                .map(|b| Datum::binary(b.to_vec()))
                .into(),
        ),
        (P::Fixed(2), [[0, 0], [0, 1], [1, 0], [255, 255]].map(Datum::fixed).into()),
        (
            P::Uuid,
            [0, 1, 1 << 127, u128::MAX].map(|v| Datum::uuid(uuid::Uuid::from_u128(v))).into(),
        ),
    ]
}

/// A predicate whose literals are still indices into a pool.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Test(u8, u8, Vec<u8>),
    Not(Box<Shape>),
    And(Box<Shape>, Box<Shape>),
    Or(Box<Shape>, Box<Shape>),
}

pub(super) fn shape() -> impl Strategy<Value = Shape> {
    let set = prop::collection::vec(any::<u8>(), 1..14);
    let leaf = (0u8..14, any::<u8>(), set).prop_map(|(op, a, set)| Shape::Test(op, a, set));
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|s| Shape::Not(s.into())),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Shape::And(a.into(), b.into())),
            (inner.clone(), inner).prop_map(|(a, b)| Shape::Or(a.into(), b.into())),
        ]
    })
}

/// The predicate over column `c` with literals from the pool.
pub(super) fn predicate(shape: &Shape, kind: &PrimitiveType, pool: &[Datum]) -> Predicate {
    let literals: Vec<&Datum> = pool.iter().filter(|d| !d.is_nan()).collect();
    let literal = |i: u8| literals[usize::from(i) % literals.len()].clone();
    let column = Reference::new("c");
    let float = matches!(kind, PrimitiveType::Float | PrimitiveType::Double);
    let text = matches!(kind, PrimitiveType::String | PrimitiveType::Binary);
    match shape {
        Shape::Not(inner) => !predicate(inner, kind, pool),
        Shape::And(a, b) => predicate(a, kind, pool).and(predicate(b, kind, pool)),
        Shape::Or(a, b) => predicate(a, kind, pool).or(predicate(b, kind, pool)),
        Shape::Test(op, a, set) => match op {
            0 => column.is_null(),
            1 => column.is_not_null(),
            2 if float => column.is_nan(),
            3 if float => column.is_not_nan(),
            4 => column.less_than(literal(*a)),
            5 => column.less_than_or_equal_to(literal(*a)),
            6 => column.greater_than(literal(*a)),
            7 => column.greater_than_or_equal_to(literal(*a)),
            8 => column.not_equal_to(literal(*a)),
            9 => column.is_in(set.iter().map(|i| literal(*i))),
            10 => column.is_not_in(set.iter().map(|i| literal(*i))),
            11 if text => column.starts_with(literal(*a)),
            12 if text => column.not_starts_with(literal(*a)),
            _ => column.equal_to(literal(*a)),
        },
    }
}

pub(super) fn schema(kind: &PrimitiveType) -> SchemaRef {
    let column = NestedField::optional(ID, "c", Type::Primitive(kind.clone()));
    Arc::new(Schema::builder().with_fields([Arc::new(column)]).build().unwrap())
}

pub(super) fn bound(shape: &Shape, kind: &PrimitiveType, pool: &[Datum]) -> BoundPredicate {
    bind(&predicate(shape, kind, pool), &schema(kind), true).unwrap()
}

/// The model: does the value pass? Unknown is false on both sides of NOT.
pub(super) fn passes(predicate: &Predicate, value: Option<&Datum>, negated: bool) -> bool {
    match predicate {
        Predicate::AlwaysTrue => !negated,
        Predicate::AlwaysFalse => negated,
        Predicate::Not(inner) => passes(inner.inputs()[0], value, !negated),
        Predicate::And(pair) => {
            let [a, b] = pair.inputs().map(|p| passes(p, value, negated));
            if negated { a || b } else { a && b }
        }
        Predicate::Or(pair) => {
            let [a, b] = pair.inputs().map(|p| passes(p, value, negated));
            if negated { a && b } else { a || b }
        }
        Predicate::Unary(e) => {
            let nan = value.is_some_and(Datum::is_nan);
            let answer = match e.op() {
                PredicateOperator::IsNull => value.is_none(),
                PredicateOperator::NotNull => value.is_some(),
                PredicateOperator::IsNan => nan,
                _ => !nan,
            };
            answer != negated
        }
        Predicate::Binary(e) => {
            let op = if negated { e.op().negate() } else { e.op() };
            value.is_some_and(|v| binary(op, v, e.literal()))
        }
        Predicate::Set(e) => {
            let wanted = (e.op() == PredicateOperator::In) != negated;
            value.is_some_and(|v| {
                e.literals().iter().any(|l| binary(PredicateOperator::Eq, v, l)) == wanted
            })
        }
    }
}

fn binary(op: PredicateOperator, value: &Datum, literal: &Datum) -> bool {
    use PredicateOperator as Op;
    let order = match (value.literal(), literal.literal()) {
        (PrimitiveLiteral::Float(a), PrimitiveLiteral::Float(b)) => a.0.partial_cmp(&b.0),
        (PrimitiveLiteral::Double(a), PrimitiveLiteral::Double(b)) => a.0.partial_cmp(&b.0),
        (a, b) => a.partial_cmp(b),
    };
    let starts = match (value.literal(), literal.literal()) {
        (PrimitiveLiteral::String(a), PrimitiveLiteral::String(b)) => a.starts_with(b.as_str()),
        (PrimitiveLiteral::Binary(a), PrimitiveLiteral::Binary(b)) => a.starts_with(b),
        _ => false,
    };
    match op {
        Op::LessThan => order.is_some_and(|o| o.is_lt()),
        Op::LessThanOrEq => order.is_some_and(|o| o.is_le()),
        Op::GreaterThan => order.is_some_and(|o| o.is_gt()),
        Op::GreaterThanOrEq => order.is_some_and(|o| o.is_ge()),
        Op::Eq => order.is_some_and(|o| o.is_eq()),
        Op::NotEq => !order.is_some_and(|o| o.is_eq()),
        Op::StartsWith => starts,
        Op::NotStartsWith => !starts,
        other => panic!("{other} is not binary"),
    }
}

macro_rules! primitives {
    ($array:ident, $values:expr, $variant:ident, $get:expr) => {
        Arc::new($array::from_iter($values.iter().map(|v| {
            v.as_ref().map(|d| match d.literal() {
                PrimitiveLiteral::$variant(v) => $get(v),
                other => panic!("{other:?}"),
            })
        })))
    };
}

/// The values as the Arrow array that readers make of them.
pub(super) fn array(kind: &PrimitiveType, values: &[Option<Datum>]) -> ArrayRef {
    let bytes = |v: &Option<Datum>| {
        v.as_ref().map(|d| match d.literal() {
            PrimitiveLiteral::Binary(b) => b.clone(),
            PrimitiveLiteral::UInt128(u) => u.to_be_bytes().to_vec(),
            PrimitiveLiteral::String(s) => s.as_bytes().to_vec(),
            other => panic!("{other:?}"),
        })
    };
    let fixed = |width| -> ArrayRef {
        let slices = values.iter().map(bytes);
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(slices, width).unwrap())
    };
    match kind {
        PrimitiveType::Boolean => primitives!(BooleanArray, values, Boolean, |v: &bool| *v),
        PrimitiveType::Int => primitives!(Int32Array, values, Int, |v: &i32| *v),
        PrimitiveType::Long => primitives!(Int64Array, values, Long, |v: &i64| *v),
        PrimitiveType::Float => Arc::new(Float32Array::from_iter(values.iter().map(|v| {
            v.as_ref().map(|d| if let PrimitiveLiteral::Float(f) = d.literal() { f.0 } else { 9.0 })
        }))),
        PrimitiveType::Double => Arc::new(Float64Array::from_iter(values.iter().map(|v| {
            v.as_ref()
                .map(|d| if let PrimitiveLiteral::Double(f) = d.literal() { f.0 } else { 9.0 })
        }))),
        PrimitiveType::Date => primitives!(Date32Array, values, Int, |v: &i32| *v),
        PrimitiveType::Time => primitives!(Time64MicrosecondArray, values, Long, |v: &i64| *v),
        PrimitiveType::Timestamp => {
            primitives!(TimestampMicrosecondArray, values, Long, |v: &i64| *v)
        }
        PrimitiveType::Timestamptz => {
            let plain: Arc<TimestampMicrosecondArray> =
                primitives!(TimestampMicrosecondArray, values, Long, |v: &i64| *v);
            Arc::new((*plain).clone().with_timezone("+00:00"))
        }
        PrimitiveType::Decimal { .. } => {
            let plain: Arc<Decimal128Array> =
                primitives!(Decimal128Array, values, Int128, |v: &i128| *v);
            Arc::new((*plain).clone().with_precision_and_scale(9, 2).unwrap())
        }
        PrimitiveType::String => Arc::new(StringArray::from_iter(
            values.iter().map(|v| bytes(v).map(|b| String::from_utf8(b).unwrap())),
        )),
        PrimitiveType::Binary => Arc::new(BinaryArray::from_iter(values.iter().map(bytes))),
        PrimitiveType::Fixed(n) => fixed(i32::try_from(*n).unwrap()),
        PrimitiveType::Uuid => fixed(16),
        other => panic!("{other}"),
    }
}

/// A batch of one column with its field id.
pub(super) fn batch(array: ArrayRef) -> RecordBatch {
    let field = with_id(Field::new("c", array.data_type().clone(), true), ID);
    RecordBatch::try_new(Arc::new(ArrowSchema::new(vec![field])), vec![array]).unwrap()
}

pub(super) fn with_id(field: Field, id: i32) -> Field {
    field.with_metadata([("PARQUET:field_id".to_string(), id.to_string())].into())
}

/// A batch whose column lies in a struct that is null where `parent` says so.
pub(super) fn nested_batch(array: ArrayRef, parent: Vec<bool>) -> RecordBatch {
    let inner = Fields::from(vec![with_id(Field::new("c", array.data_type().clone(), true), ID)]);
    let nested = StructArray::new(inner.clone(), vec![array], Some(parent.into()));
    let field = with_id(Field::new("s", DataType::Struct(inner), true), 1);
    RecordBatch::try_new(Arc::new(ArrowSchema::new(vec![field])), vec![Arc::new(nested)]).unwrap()
}
