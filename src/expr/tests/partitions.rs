//! Filters against partitions and manifests: sound through every transform.

use proptest::prelude::*;

use super::model::*;
use crate::expr::{PartitionFilter, bind, describe, evaluate};
use crate::spec::*;

/// The transforms that a type allows, with widths that split the pools of values.
fn transforms(kind: &PrimitiveType) -> Vec<Transform> {
    let source = Type::Primitive(kind.clone());
    let all = [
        Transform::Identity,
        Transform::Bucket(4),
        Transform::Truncate(if bytes(kind) { 2 } else { 10 }),
        Transform::Year,
        Transform::Month,
        Transform::Day,
        Transform::Hour,
        Transform::Void,
    ];
    all.into_iter().filter(|t| t.result_type(&source).is_ok()).collect()
}

fn bytes(kind: &PrimitiveType) -> bool {
    matches!(kind, PrimitiveType::String | PrimitiveType::Binary)
}

/// The partition value of a row, by the crate's own transform.
fn value_of(transform: Transform, value: Option<&Datum>) -> Option<Literal> {
    let value = value?;
    // The crate's truncation overflows next to the minimum; other writers wrap around.
    if let (Transform::Truncate(w), PrimitiveLiteral::Int(v)) = (transform, value.literal()) {
        return Some(Literal::int(v.wrapping_sub(v.rem_euclid(w as i32))));
    }
    if let (Transform::Truncate(w), PrimitiveLiteral::Long(v)) = (transform, value.literal()) {
        return Some(Literal::long(v.wrapping_sub(v.rem_euclid(w.into()))));
    }
    if let (Transform::Truncate(w), PrimitiveLiteral::Binary(b)) = (transform, value.literal()) {
        return Some(Literal::binary(b.iter().copied().take(w as usize).collect::<Vec<_>>()));
    }
    let function = create_transform_function(&transform).unwrap();
    function.transform_literal(value).unwrap().map(Literal::from)
}

/// The same for a writer that rounded moments before 1970 up.
fn old_value_of(transform: Transform, value: Option<&Datum>) -> Option<Literal> {
    let right = value_of(transform, value);
    let calendar =
        matches!(transform, Transform::Year | Transform::Month | Transform::Day | Transform::Hour);
    let dates = value.is_some_and(|d| *d.data_type() == PrimitiveType::Date);
    match right {
        Some(Literal::Primitive(PrimitiveLiteral::Int(v)))
            if calendar && v < 0 && !(dates && transform == Transform::Day) =>
        {
            Some(Literal::int(v + 1))
        }
        other => other,
    }
}

fn spec(kind: &PrimitiveType, transforms: &[Transform]) -> (PartitionSpec, Vec<Type>) {
    let fields = transforms.iter().enumerate().map(|(i, t)| UnboundPartitionField {
        source_id: ID,
        field_id: Some(1000 + i as i32),
        name: format!("p{i}"),
        transform: *t,
    });
    let source = Type::Primitive(kind.clone());
    let types = transforms.iter().map(|t| t.result_type(&source).unwrap()).collect();
    // Built from JSON, because the builder refuses several transforms of one kind on one column.
    let fields: Vec<_> = fields.collect();
    let json = serde_json::json!({ "spec-id": 3, "fields": fields });
    (serde_json::from_value(json).unwrap(), types)
}

fn manifest(spec_id: i32, partitions: Option<Vec<FieldSummary>>) -> ManifestFile {
    ManifestFile {
        manifest_path: "m.avro".into(),
        manifest_length: 1,
        partition_spec_id: spec_id,
        content: ManifestContentType::Data,
        sequence_number: 1,
        min_sequence_number: 1,
        added_snapshot_id: 1,
        added_files_count: Some(1),
        existing_files_count: Some(0),
        deleted_files_count: Some(0),
        added_rows_count: Some(1),
        existing_rows_count: Some(0),
        deleted_rows_count: Some(0),
        partitions,
        key_metadata: None,
        first_row_id: None,
    }
}

/// The summary of one partition field over several partitions, as writers make it.
fn summary(kind: &Type, values: &[Option<Literal>]) -> FieldSummary {
    let kind = kind.as_primitive_type().unwrap();
    let mut known: Vec<Datum> = values
        .iter()
        .flatten()
        .map(|l| l.as_primitive_literal().unwrap())
        .filter(|l| !l.is_nan())
        .map(|l| datum(l, kind))
        .collect();
    known.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let nan = values.iter().flatten().any(|l| l.as_primitive_literal().unwrap().is_nan());
    let bound = |d: Option<&Datum>| d.map(|d| d.to_bytes().unwrap());
    FieldSummary {
        contains_null: values.iter().any(Option::is_none),
        contains_nan: Some(nan),
        lower_bound: bound(known.first()),
        upper_bound: bound(known.last()),
    }
}

fn datum(literal: PrimitiveLiteral, kind: &PrimitiveType) -> Datum {
    use PrimitiveLiteral as L;
    let bytes = match literal {
        L::Boolean(v) => vec![u8::from(v)],
        L::Int(v) => v.to_le_bytes().into(),
        L::Long(v) => v.to_le_bytes().into(),
        L::Float(v) => v.0.to_le_bytes().into(),
        L::Double(v) => v.0.to_le_bytes().into(),
        L::String(v) => v.into_bytes(),
        L::Binary(v) => v,
        L::Int128(v) => v.to_be_bytes().into(),
        L::UInt128(v) => v.to_be_bytes().into(),
        other => panic!("{other:?}"),
    };
    datum_from_bound(&bytes, kind).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn partitions_never_lose_a_row_and_never_claim_one(
        kind in 0usize..14, shape in shape(), pick in prop::collection::vec(any::<u8>(), 1..5),
        several in any::<bool>(), old_writer in any::<bool>(),
    ) {
        let (kind, pool) = kinds().swap_remove(kind);
        let predicate = predicate(&shape, &kind, &pool);
        let filter = bound(&shape, &kind, &pool);
        let mut transforms = transforms(&kind);
        if !several {
            transforms = vec![transforms[usize::from(pick[0]) % transforms.len()]];
        }
        let (spec, types) = spec(&kind, &transforms);
        let prepared = PartitionFilter::new(&filter, &spec, &types, &schema(&kind)).unwrap();
        let value_of = if old_writer { old_value_of } else { value_of };

        let rows: Vec<Option<Datum>> =
            pick.iter().map(|i| pool.get(usize::from(*i) % (pool.len() + 1)).cloned()).collect();
        let mut partitions: Vec<Struct> = Vec::new();
        let mut any = false;
        for row in &rows {
            let passes = passes(&predicate, row.as_ref(), false);
            let values = Struct::from_iter(transforms.iter().map(|t| value_of(*t, row.as_ref())));
            let named = format!("{} on {row:?} in {values:?} by {transforms:?}", describe(&filter));
            if prepared.partition_must_match(&values) {
                prop_assert!(passes, "must match: {}", named);
            }
            if passes {
                prop_assert!(prepared.partition_might_match(&values), "might match: {}", named);
            }
            let rest = prepared.residual(&values);
            let answer = evaluate(&rest, &batch(array(&kind, std::slice::from_ref(row)))).unwrap();
            prop_assert_eq!(answer.value(0), passes, "residual {}: {}", describe(&rest), named);
            any |= passes;
            partitions.push(values);
        }
        let summaries = types.iter().enumerate().map(|(i, kind)| {
            summary(kind, &partitions.iter().map(|p| p[i].clone()).collect::<Vec<_>>())
        });
        let manifest = manifest(3, Some(summaries.collect()));
        if any {
            prop_assert!(prepared.manifest_might_match(&manifest), "{} in {:?}", describe(&filter), manifest);
        }
    }
}

/// (might match, must match) for one partition value.
fn ask(
    predicate: Predicate,
    kind: PrimitiveType,
    transform: Transform,
    value: Option<Literal>,
) -> (bool, bool) {
    let filter = bind(&predicate, &schema(&kind), true).unwrap();
    let (spec, types) = spec(&kind, &[transform]);
    let prepared = PartitionFilter::new(&filter, &spec, &types, &schema(&kind)).unwrap();
    let values = Struct::from_iter([value]);
    (prepared.partition_might_match(&values), prepared.partition_must_match(&values))
}

const NO: (bool, bool) = (false, false);
const MAYBE: (bool, bool) = (true, false);
const YES: (bool, bool) = (true, true);

#[test]
fn a_day_decides_ranges_that_end_on_its_midnight() {
    let c = || Reference::new("c");
    let at = |text: &str| Datum::timestamp_from_str(text).unwrap();
    let day = |days| Some(Literal::date(days)); // 19_723 is 2024-01-01
    let table = [
        (c().less_than(at("2024-01-01T00:00:00")), 19_722, YES),
        (c().less_than(at("2024-01-01T00:00:00")), 19_723, NO),
        (c().less_than_or_equal_to(at("2024-01-01T00:00:00")), 19_723, MAYBE),
        (c().less_than(at("2024-01-01T00:00:00.000001")), 19_723, MAYBE),
        (c().greater_than_or_equal_to(at("2024-01-01T00:00:00")), 19_723, YES),
        (c().greater_than_or_equal_to(at("2024-01-01T00:00:00")), 19_722, NO),
        (c().greater_than(at("2024-01-01T00:00:00")), 19_723, MAYBE),
        (c().greater_than(at("2023-12-31T23:59:59.999999")), 19_723, YES),
        (c().equal_to(at("2024-01-01T12:00:00")), 19_723, MAYBE),
        (c().equal_to(at("2024-01-01T12:00:00")), 19_724, NO),
        (c().not_equal_to(at("2024-01-01T12:00:00")), 19_724, YES),
        (c().is_null(), 19_723, NO),
    ];
    for (predicate, value, expected) in table {
        let named = format!("{predicate:?} in {value}");
        let answer = ask(predicate, PrimitiveType::Timestamp, Transform::Day, day(value));
        assert_eq!(answer, expected, "{named}");
    }
    let null = ask(c().is_null(), PrimitiveType::Timestamp, Transform::Day, None);
    assert_eq!(null, YES);
    let null = ask(
        c().less_than(at("2024-01-01T00:00:00")),
        PrimitiveType::Timestamp,
        Transform::Day,
        None,
    );
    assert_eq!(null, NO);
}

#[test]
fn moments_before_1970_are_found_where_old_writers_put_them() {
    let c = || Reference::new("c");
    let minute_before = || Datum::timestamp_micros(-60_000_000);
    let hour = |h| Some(Literal::int(h));
    let ask = |p, h| ask(p, PrimitiveType::Timestamp, Transform::Hour, hour(h));
    assert_eq!(ask(c().equal_to(minute_before()), -1), MAYBE);
    assert_eq!(ask(c().equal_to(minute_before()), 0), MAYBE, "rounded up by an old writer");
    assert_eq!(ask(c().equal_to(minute_before()), 1), NO);
    assert_eq!(ask(c().less_than(minute_before()), 0), MAYBE);
    assert_eq!(ask(c().less_than(minute_before()), -2), YES);
    assert_eq!(ask(c().greater_than_or_equal_to(Datum::timestamp_micros(0)), 0), MAYBE);
    assert_eq!(ask(c().greater_than_or_equal_to(Datum::timestamp_micros(0)), 1), YES);
}

#[test]
fn buckets_decide_equality_only() {
    let c = || Reference::new("c");
    let bucket = |v: i32| value_of(Transform::Bucket(4), Some(&Datum::int(v)));
    let other = (0..).find(|v| bucket(*v) != bucket(7)).unwrap();
    let ask = |p, b| ask(p, PrimitiveType::Int, Transform::Bucket(4), b);
    assert_eq!(ask(c().equal_to(Datum::int(7)), bucket(7)), MAYBE);
    assert_eq!(ask(c().equal_to(Datum::int(7)), bucket(other)), NO);
    assert_eq!(ask(c().is_in([Datum::int(7), Datum::int(other)]), bucket(other)), MAYBE);
    assert_eq!(ask(c().not_equal_to(Datum::int(7)), bucket(other)), YES);
    assert_eq!(ask(c().not_equal_to(Datum::int(7)), bucket(7)), MAYBE);
    assert_eq!(ask(c().less_than(Datum::int(7)), bucket(other)), MAYBE);
    assert_eq!(ask(c().less_than(Datum::int(7)), None), NO);
}

#[test]
fn truncated_numbers_decide_ranges_that_end_on_a_step() {
    let c = || Reference::new("c");
    let ask =
        |p, v: i32| ask(p, PrimitiveType::Int, Transform::Truncate(10), Some(Literal::int(v)));
    assert_eq!(ask(c().less_than(Datum::int(20)), 10), YES);
    assert_eq!(ask(c().less_than(Datum::int(19)), 10), MAYBE);
    assert_eq!(ask(c().less_than_or_equal_to(Datum::int(19)), 10), YES);
    assert_eq!(ask(c().less_than(Datum::int(10)), 10), NO);
    assert_eq!(ask(c().greater_than_or_equal_to(Datum::int(-10)), -10), YES);
    assert_eq!(ask(c().greater_than(Datum::int(-10)), -10), MAYBE);
    assert_eq!(ask(c().equal_to(Datum::int(-1)), -10), MAYBE);
    assert_eq!(ask(c().equal_to(Datum::int(-1)), 0), NO);
    // The lowest numbers wrap around to the top when they are truncated.
    assert_eq!(ask(c().less_than(Datum::int(-5)), i32::MAX - 1), MAYBE);
    assert_eq!(ask(c().greater_than(Datum::int(5)), i32::MAX - 1), MAYBE);
}

#[test]
fn truncated_text_decides_prefixes() {
    let c = || Reference::new("c");
    let s = Datum::string;
    let ask = |p, v: &str| {
        ask(p, PrimitiveType::String, Transform::Truncate(2), Some(Literal::string(v)))
    };
    assert_eq!(ask(c().starts_with(s("a")), "ab"), YES);
    assert_eq!(ask(c().starts_with(s("ab")), "ab"), YES);
    assert_eq!(ask(c().starts_with(s("abc")), "ab"), MAYBE);
    assert_eq!(ask(c().starts_with(s("abc")), "ac"), NO);
    assert_eq!(ask(c().not_starts_with(s("abc")), "ac"), YES);
    assert_eq!(ask(c().equal_to(s("a")), "a"), YES);
    assert_eq!(ask(c().equal_to(s("ab")), "ab"), MAYBE);
    assert_eq!(ask(c().equal_to(s("é日x")), "é日"), MAYBE);
    assert_eq!(ask(c().less_than(s("ab")), "ab"), NO);
    assert_eq!(ask(c().less_than(s("abc")), "ab"), MAYBE);
    assert_eq!(ask(c().greater_than_or_equal_to(s("ab")), "ab"), YES);
    assert_eq!(ask(c().is_in([s("a"), s("xyz")]), "a"), YES);
}

#[test]
fn identity_void_and_unknown_prune_as_much_as_they_know() {
    let c = || Reference::new("c");
    let double = |t, v| ask(c().equal_to(Datum::double(0.0)), PrimitiveType::Double, t, v);
    assert_eq!(double(Transform::Identity, Some(Literal::double(-0.0))), YES);
    assert_eq!(double(Transform::Identity, Some(Literal::double(f64::NAN))), NO);
    assert_eq!(double(Transform::Void, None), MAYBE);
    assert_eq!(double(Transform::Unknown, Some(Literal::string("x"))), MAYBE);
    // A partition value written before a promotion is narrower than its type.
    let long = ask(
        c().greater_than(Datum::long(4)),
        PrimitiveType::Long,
        Transform::Identity,
        Some(Literal::int(5)),
    );
    assert_eq!(long, YES);
}

#[test]
fn partitions_of_another_column_or_with_missing_values_prune_nothing() {
    let filter = bind(&Reference::new("c").is_null(), &schema(&PrimitiveType::Int), true).unwrap();
    let json = serde_json::json!({ "spec-id": 3, "fields": [
        { "source-id": 99, "field-id": 1000, "name": "gone", "transform": "identity" },
        { "source-id": ID, "field-id": 1001, "name": "c", "transform": "identity" },
    ]});
    let spec: PartitionSpec = serde_json::from_value(json).unwrap();
    let int = || Type::Primitive(PrimitiveType::Int);
    let prepared =
        PartitionFilter::new(&filter, &spec, &[int(), int()], &schema(&PrimitiveType::Int))
            .unwrap();

    assert!(prepared.partition_might_match(&Struct::from_iter([Some(Literal::int(1)), None])));
    assert!(!prepared.partition_might_match(&Struct::from_iter([None, Some(Literal::int(1))])));
    assert!(prepared.partition_might_match(&Struct::empty()));
    assert!(!prepared.partition_must_match(&Struct::empty()));
    assert!(prepared.manifest_might_match(&manifest(3, None)));
    assert!(prepared.manifest_might_match(&manifest(3, Some(vec![]))));
    let no_nulls = summary(&int(), &[Some(Literal::int(1))]);
    let pair = Some(vec![no_nulls.clone(), no_nulls]);
    assert!(!prepared.manifest_might_match(&manifest(3, pair.clone())));
    assert!(prepared.manifest_might_match(&manifest(4, pair)), "a manifest of another spec");
}

#[test]
fn a_manifest_summary_without_bounds_means_nulls_only() {
    let c = || Reference::new("c");
    let ask = |p: Predicate, kind: PrimitiveType, summary: FieldSummary| {
        let filter = bind(&p, &schema(&kind), true).unwrap();
        let (spec, types) = spec(&kind, &[Transform::Identity]);
        let prepared = PartitionFilter::new(&filter, &spec, &types, &schema(&kind)).unwrap();
        prepared.manifest_might_match(&manifest(3, Some(vec![summary])))
    };
    let nulls = |nan| FieldSummary {
        contains_null: true,
        contains_nan: nan,
        lower_bound: None,
        upper_bound: None,
    };
    assert!(!ask(c().equal_to(Datum::int(1)), PrimitiveType::Int, nulls(None)));
    assert!(ask(c().equal_to(Datum::float(1.0)), PrimitiveType::Float, nulls(None)));
    assert!(!ask(c().is_nan(), PrimitiveType::Float, nulls(Some(false))));
    let nothing = FieldSummary { contains_null: false, ..nulls(None) };
    assert!(ask(c().equal_to(Datum::int(1)), PrimitiveType::Int, nothing));
}

#[test]
fn a_residual_leaves_out_what_the_partition_decides() {
    let c = || Reference::new("c");
    let filter = c().greater_than_or_equal_to(Datum::int(10)).and(c().less_than(Datum::int(25)));
    let schema = schema(&PrimitiveType::Int);
    let filter = bind(&filter, &schema, true).unwrap();
    let (spec, types) = spec(&PrimitiveType::Int, &[Transform::Truncate(10)]);
    let prepared = PartitionFilter::new(&filter, &spec, &types, &schema).unwrap();
    let rest = |v: i32| prepared.residual(&Struct::from_iter([Some(Literal::int(v))])).to_string();

    assert_eq!(rest(10), "True");
    assert_eq!(rest(20), "c < 25");
    assert_eq!(rest(30), "False");
    assert_eq!(rest(0), "False");
}
