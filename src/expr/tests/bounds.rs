//! Filters against statistics: sound for whatever subset of them is known.

use proptest::prelude::*;

use super::model::*;
use crate::expr::{ColumnStats, FileStats, bind, describe, might_match, must_match};
use crate::spec::*;

/// Statistics of one column; `None` is unknown.
#[derive(Debug, Clone, Default)]
struct Known {
    lower: Option<Datum>,
    upper: Option<Datum>,
    nulls: Option<u64>,
    nans: Option<u64>,
    values: Option<u64>,
}

impl ColumnStats for Known {
    fn lower(&self, _: i32) -> Option<Datum> {
        self.lower.clone()
    }
    fn upper(&self, _: i32) -> Option<Datum> {
        self.upper.clone()
    }
    fn null_count(&self, _: i32) -> Option<u64> {
        self.nulls
    }
    fn nan_count(&self, _: i32) -> Option<u64> {
        self.nans
    }
    fn value_count(&self, _: i32) -> Option<u64> {
        self.values
    }
}

/// What a writer would record, all of it: text bounds cut to 2 characters when `cut`.
fn stats(rows: &[Option<Datum>], cut: bool) -> Known {
    let count =
        |f: &dyn Fn(&Option<Datum>) -> bool| Some(rows.iter().filter(|r| f(r)).count() as u64);
    // The crate orders floats by the rule that bounds follow: -0.0 before 0.0.
    let ordered = |a: &Datum, b: &Datum| a.partial_cmp(b).unwrap();
    let values: Vec<Datum> = rows.iter().flatten().filter(|d| !d.is_nan()).cloned().collect();
    let mut known = Known {
        lower: values.iter().min_by(|a, b| ordered(a, b)).cloned(),
        upper: values.iter().max_by(|a, b| ordered(a, b)).cloned(),
        nulls: count(&|r| r.is_none()),
        nans: count(&|r| r.as_ref().is_some_and(Datum::is_nan)),
        values: Some(rows.len() as u64),
    };
    if cut {
        known.lower = known.lower.map(|d| match d.literal() {
            PrimitiveLiteral::String(s) => Datum::string(s.chars().take(2).collect::<String>()),
            PrimitiveLiteral::Binary(b) if *d.data_type() == PrimitiveType::Binary => {
                Datum::binary(b.iter().copied().take(2))
            }
            _ => d,
        });
        known.upper = known.upper.and_then(|d| match d.literal() {
            PrimitiveLiteral::String(s) if s.chars().count() > 2 => {
                let mut kept: Vec<char> = s.chars().take(2).collect();
                let last = kept.pop()?;
                kept.push(char::from_u32(last as u32 + 1)?);
                Some(Datum::string(kept.into_iter().collect::<String>()))
            }
            PrimitiveLiteral::Binary(b)
                if *d.data_type() == PrimitiveType::Binary && b.len() > 2 =>
            {
                let raised = b[1].checked_add(1)?;
                Some(Datum::binary([b[0], raised]))
            }
            _ => Some(d),
        });
    }
    known
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn statistics_never_lose_a_row_and_never_claim_one(
        kind in 0usize..14, shape in shape(), picks in prop::collection::vec(any::<u8>(), 1..6),
        // Mostly few distinct values, so that bounds are tight and nulls fill whole files.
        spread in 1usize..15, known in any::<[bool; 5]>(), cut in any::<bool>(),
    ) {
        let (kind, pool) = kinds().swap_remove(kind);
        let rows: Vec<Option<Datum>> = picks.iter()
            .map(|i| pool.get((usize::from(*i) % spread + usize::from(picks[0])) % (pool.len() + 1)).cloned())
            .collect();
        let predicate = predicate(&shape, &kind, &pool);
        let filter = bound(&shape, &kind, &pool);
        let all = stats(&rows, cut);
        let some = Known {
            lower: all.lower.clone().filter(|_| known[0]),
            upper: all.upper.clone().filter(|_| known[1]),
            nulls: all.nulls.filter(|_| known[2]),
            nans: all.nans.filter(|_| known[3]),
            values: all.values.filter(|_| known[4]),
        };

        for stats in [all, some] {
            let passing = rows.iter().filter(|v| passes(&predicate, v.as_ref(), false)).count();
            if must_match(&filter, &stats) {
                prop_assert_eq!(passing, rows.len(), "{} must match {:?} by {:?}", describe(&filter), rows, stats);
            }
            if !might_match(&filter, &stats) {
                prop_assert_eq!(passing, 0, "{} cannot match {:?} by {:?}", describe(&filter), rows, stats);
            }
        }
    }
}

fn known(lower: Datum, upper: Datum) -> Known {
    Known { lower: Some(lower), upper: Some(upper), nulls: Some(0), nans: Some(0), values: Some(3) }
}

/// (might match, must match)
fn ask(predicate: Predicate, kind: PrimitiveType, stats: &Known) -> (bool, bool) {
    let filter = bind(&predicate, &schema(&kind), true).unwrap();
    (might_match(&filter, stats), must_match(&filter, stats))
}

#[test]
fn bounds_decide_comparisons() {
    let c = || Reference::new("c");
    let d = Datum::int;
    let (no, maybe, yes) = ((false, false), (true, false), (true, true));
    let table = [
        (c().less_than(d(5)), no),
        (c().less_than(d(6)), maybe),
        (c().less_than(d(9)), maybe),
        (c().less_than(d(10)), yes),
        (c().less_than_or_equal_to(d(9)), yes),
        (c().greater_than(d(9)), no),
        (c().greater_than(d(4)), yes),
        (c().greater_than_or_equal_to(d(5)), yes),
        (c().equal_to(d(4)), no),
        (c().equal_to(d(5)), maybe),
        (c().not_equal_to(d(4)), yes),
        (c().not_equal_to(d(5)), maybe),
        (c().is_in([d(1), d(4), d(10)]), no),
        (c().is_in([d(1), d(7)]), maybe),
        (c().is_not_in([d(1), d(4)]), yes),
        (c().is_not_in([d(1), d(7)]), maybe),
        (c().is_null(), no),
        (c().is_not_null(), yes),
        (c().less_than(d(7)).and(c().greater_than(d(20))), no),
        (c().less_than(d(7)).or(c().less_than(d(10))), yes),
    ];
    for (predicate, expected) in table {
        let named = predicate.to_string();
        assert_eq!(ask(predicate, PrimitiveType::Int, &known(d(5), d(9))), expected, "{named}");
    }
}

#[test]
fn what_is_not_known_proves_nothing() {
    let c = || Reference::new("c");
    for predicate in [
        c().equal_to(Datum::int(1)),
        c().not_equal_to(Datum::int(1)),
        c().is_null(),
        c().is_not_null(),
        c().is_in([Datum::int(1), Datum::int(2)]),
    ] {
        assert_eq!(ask(predicate, PrimitiveType::Int, &Known::default()), (true, false));
    }
    // Without a count of nulls no comparison holds for all rows.
    let nulls_unknown = Known { nulls: None, ..known(Datum::int(5), Datum::int(9)) };
    assert_eq!(
        ask(c().less_than(Datum::int(10)), PrimitiveType::Int, &nulls_unknown),
        (true, false)
    );
}

#[test]
fn a_column_of_nulls_only_matches_is_null_and_nothing_else() {
    let c = || Reference::new("c");
    let nulls = Known { nulls: Some(3), values: Some(3), ..Known::default() };
    assert_eq!(ask(c().is_null(), PrimitiveType::Int, &nulls), (true, true));
    assert_eq!(ask(c().not_equal_to(Datum::int(1)), PrimitiveType::Int, &nulls), (false, false));
    assert_eq!(ask(c().is_not_null(), PrimitiveType::Double, &nulls), (false, false));
    assert_eq!(ask(c().is_not_nan(), PrimitiveType::Double, &nulls), (true, true));
}

#[test]
fn an_unknown_count_of_nans_keeps_a_float_range_from_covering_all_rows() {
    let c = || Reference::new("c");
    let stats = known(Datum::double(1.0), Datum::double(2.0));
    let unknown = Known { nans: None, ..stats.clone() };
    let below = || c().less_than(Datum::double(3.0));
    assert_eq!(ask(below(), PrimitiveType::Double, &stats), (true, true));
    assert_eq!(ask(below(), PrimitiveType::Double, &unknown), (true, false));
    // NaN is unequal to everything, so it may not be pruned here.
    let flat = Known { nans: None, ..known(Datum::double(1.0), Datum::double(1.0)) };
    assert_eq!(
        ask(c().not_equal_to(Datum::double(1.0)), PrimitiveType::Double, &flat),
        (true, false)
    );
    // A bound that is NaN, as old writers left it, says nothing.
    let broken = known(Datum::double(f64::NAN), Datum::double(f64::NAN));
    assert_eq!(
        ask(c().equal_to(Datum::double(9.0)), PrimitiveType::Double, &broken),
        (true, false)
    );
}

#[test]
fn bounds_the_wrong_way_round_are_ignored() {
    let broken = known(Datum::int(9), Datum::int(5));
    let equal = Reference::new("c").equal_to(Datum::int(1));
    assert_eq!(ask(equal, PrimitiveType::Int, &broken), (true, false));
}

#[test]
fn a_text_bound_that_may_have_been_cut_does_not_cover_its_continuations() {
    let c = || Reference::new("c");
    let s = Datum::string;
    // A writer that cuts at 16 without raising the last character.
    let cut = known(s("abcdefghijklmnop"), s("abcdefghijklmnop"));
    assert_eq!(
        ask(c().equal_to(s("abcdefghijklmnop")), PrimitiveType::String, &cut),
        (true, false)
    );
    assert_eq!(
        ask(c().less_than(s("abcdefghijklmnopq")), PrimitiveType::String, &cut),
        (true, false)
    );
    assert_eq!(ask(c().less_than(s("abd")), PrimitiveType::String, &cut), (true, true));
    assert_eq!(ask(c().starts_with(s("abc")), PrimitiveType::String, &cut), (true, true));
    assert_eq!(ask(c().starts_with(s("abd")), PrimitiveType::String, &cut), (false, false));
    assert_eq!(ask(c().not_starts_with(s("abd")), PrimitiveType::String, &cut), (true, true));
    // Short text is never cut.
    let short = known(s("DE"), s("DE"));
    assert_eq!(ask(c().equal_to(s("DE")), PrimitiveType::String, &short), (true, true));
    assert_eq!(ask(c().is_in([s("DE"), s("FR")]), PrimitiveType::String, &short), (true, true));
}

#[test]
fn file_statistics_written_before_a_promotion_are_widened() {
    let mut file = DataFile::new(DataContentType::Data, "a", PartitionKey::unpartitioned(0), 3, 1);
    file.lower_bounds = [(ID, 5i32.to_le_bytes().to_vec())].into_iter().collect();
    file.upper_bounds = [(ID, 9i32.to_le_bytes().to_vec())].into_iter().collect();
    file.null_value_counts = [(ID, 0)].into_iter().collect();
    file.value_counts = [(ID, 3)].into_iter().collect();
    let schema = schema(&PrimitiveType::Long);
    let stats = FileStats(&file, &schema);
    let ask = |p: Predicate| {
        let filter = bind(&p, &schema, true).unwrap();
        (might_match(&filter, &stats), must_match(&filter, &stats))
    };
    assert_eq!(ask(Reference::new("c").greater_than(Datum::long(9))), (false, false));
    assert_eq!(ask(Reference::new("c").greater_than(Datum::long(4))), (true, true));
}
