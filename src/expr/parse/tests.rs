//! The grammar as a table: what is written, what it means, and where errors point.

use std::sync::Arc;

use super::*;
use crate::spec::{NestedField, StructType, Type};

fn schema() -> Schema {
    use PrimitiveType as P;
    let field =
        |id, name: &str, kind| Arc::new(NestedField::optional(id, name, Type::Primitive(kind)));
    let nested = StructType::new(vec![field(21, "a", P::Int), field(22, "Deep Name", P::String)]);
    Schema::builder()
        .with_fields([
            field(1, "id", P::Int),
            field(2, "n", P::Long),
            field(3, "name", P::String),
            field(4, "Breed Name", P::String),
            field(5, "ok", P::Boolean),
            field(6, "price", P::Decimal { precision: 9, scale: 2 }),
            field(7, "d", P::Date),
            field(8, "ts", P::Timestamp),
            field(9, "tz", P::Timestamptz),
            field(10, "t", P::Time),
            field(11, "u", P::Uuid),
            field(12, "b", P::Binary),
            field(13, "f", P::Float),
            field(14, "g", P::Double),
            field(15, "fx", P::Fixed(2)),
            field(16, "date", P::Date),
            Arc::new(NestedField::optional(20, "s", Type::Struct(nested))),
        ])
        .build()
        .unwrap()
}

fn means(text: &str) -> String {
    match parse(text, &schema()) {
        Ok(predicate) => predicate.to_string(),
        Err(error) => panic!("{text}: {error}"),
    }
}

fn fails(text: &str) -> String {
    let error = parse(text, &schema()).expect_err(text);
    assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
    let hint = error.hint().map(|h| format!("\nhint: {h}")).unwrap_or_default();
    format!("{}{hint}", error.message())
}

#[test]
fn every_form_means_what_sql_says() {
    let table = [
        ("id = 5", "id = 5"),
        ("id == 5", "id = 5"),
        ("id <> 5", "id != 5"),
        ("5 < id", "id > 5"),
        ("-5 >= id", "id <= -5"),
        ("(id) = (5)", "id = 5"),
        ("ID = 5", "id = 5"),
        ("id = '7'", "id = 7"),
        ("not id = 5", "id != 5"),
        ("NOT (id < 5 AND n >= 1)", "(id >= 5) OR (n < 1)"),
        ("id = 1 OR id = 2 AND n = 3", "(id = 1) OR ((id = 2) AND (n = 3))"),
        ("id BETWEEN 1 AND 3 AND n = 2", "((id >= 1) AND (id <= 3)) AND (n = 2)"),
        ("id NOT BETWEEN 1 AND 3", "(id < 1) OR (id > 3)"),
        ("id IN (4)", "id IN (4)"),
        ("name NOT IN ('x')", "name NOT IN (\"x\")"),
        ("name IS NULL", "name IS NULL"),
        ("name IS NOT NULL", "name IS NOT NULL"),
        ("f IS NAN", "f IS NAN"),
        ("NOT f IS NAN", "f IS NOT NAN"),
        ("name LIKE 'ab%'", "name STARTS WITH \"ab\""),
        ("name NOT LIKE 'ab%%'", "name NOT STARTS WITH \"ab\""),
        ("name LIKE 'ab'", "name = \"ab\""),
        ("name LIKE '50\\%'", "name = \"50%\""),
        ("name LIKE '%'", "name IS NOT NULL"),
        ("ok", "ok = true"),
        ("NOT ok AND id = 1", "(ok = false) AND (id = 1)"),
        ("ok IS NOT TRUE", "(ok = false) OR (ok IS NULL)"),
        ("ok = FALSE", "ok = false"),
        ("TRUE", "TRUE"),
        ("NOT TRUE OR id = 1", "id = 1"),
        ("\"Breed Name\" = 'Pug'", "Breed Name = \"Pug\""),
        ("s.a = 1", "s.a = 1"),
        ("S.A = 1", "s.a = 1"),
        ("s.\"Deep Name\" = 'it''s'", "s.Deep Name = \"it's\""),
        ("name = '' -- a remark", "name = \"\""),
    ];
    for (text, meaning) in table {
        assert_eq!(means(text), meaning, "{text}");
    }
}

#[test]
fn literals_take_the_type_of_their_column() {
    let table = [
        ("d = '2024-01-31'", "d = 2024-01-31"),
        ("d > DATE '2024-01-31'", "d > 2024-01-31"),
        ("date = '2024-01-31'", "date = 2024-01-31"),
        ("ts = '2024-01-31'", "ts = 2024-01-31 00:00:00"),
        ("ts = DATE '2024-01-31'", "ts = 2024-01-31 00:00:00"),
        ("ts >= TIMESTAMP '2024-01-31 12:30:00.25'", "ts >= 2024-01-31 12:30:00.250"),
        ("tz = '2024-01-31T01:00:00+01:00'", "tz = 2024-01-31 00:00:00 UTC"),
        ("tz = TIMESTAMP '2024-01-31 01:00'", "tz = 2024-01-31 01:00:00 UTC"),
        ("t < TIME '12:30:00'", "t < 12:30:00"),
        ("u = 'F79C3E09-677C-4BBD-A479-3F349CB785E7'", "u = f79c3e09-677c-4bbd-a479-3f349cb785e7"),
        ("b = X'0a1B'", "b = 0A1B"),
        ("fx = X'0a1B'", "fx = 0A1B"),
        ("price = 5", "price = 5.00"),
        ("price = 5.250", "price = 5.25"),
        ("g = 1e3", "g = 1000"),
        ("f > -0.5", "f > -0.5"),
        ("g = 'Infinity'", "g = inf"),
    ];
    for (text, meaning) in table {
        assert_eq!(means(text), meaning, "{text}");
    }
}

#[test]
fn literals_beyond_or_between_the_values_of_a_column_are_rewritten() {
    let table = [
        ("id < 99999999999", "id IS NOT NULL"),
        ("id = 99999999999", "FALSE"),
        ("NOT id = 99999999999", "id IS NOT NULL"),
        ("id > -99999999999", "id IS NOT NULL"),
        ("n > 99999999999999999999999999999999999999999999", "FALSE"),
        ("id > 1.5", "id > 1"),
        ("id >= 1.5", "id > 1"),
        ("id < -1.5", "id <= -2"),
        ("id = 1.5", "FALSE"),
        ("id != 1.5", "id IS NOT NULL"),
        ("id BETWEEN 1.5 AND 2.5", "(id > 1) AND (id <= 2)"),
        ("id IN (1.5, 2)", "id IN (2)"),
        ("id NOT IN (1.5)", "id IS NOT NULL"),
        ("price < 1.234", "price <= 1.23"),
        ("price > 99999999", "FALSE"),
        ("f < 1e39", "f < inf"),
        ("f >= -1e39", "f > -inf"),
        ("g = 1e999", "FALSE"),
    ];
    for (text, meaning) in table {
        assert_eq!(means(text), meaning, "{text}");
    }
}

#[test]
fn errors_point_at_the_place() {
    assert_eq!(
        fails("n = 1 AND nmae = 'x'"),
        "there is no column `nmae`\n  n = 1 AND nmae = 'x'\n            ^^^^\nhint: did you mean `name`?"
    );
    assert_eq!(
        fails("id = 'five'"),
        "column `id`: 'five' is no value of type int: write a number\n  id = 'five'\n       ^^^^^^"
    );
    assert_eq!(
        fails("id = 1 AND"),
        "expected a condition, found the end\n  id = 1 AND\n            ^"
    );
    let table = [
        ("", "the filter is empty"),
        ("id", "expected a comparison after this"),
        ("id 5", "expected a comparison, found `5`"),
        ("id = ", "expected a condition, found the end"),
        ("id = 5 n = 6", "expected AND, OR or the end, found `n`"),
        ("id = n", "two columns cannot be compared"),
        ("1 = 1", "one side of a comparison must be a column"),
        ("id = NULL", "never true: write IS NULL"),
        ("id IN (1, NULL)", "never true: write IS NULL"),
        ("id IN ()", "expected a condition, found `)`"),
        ("id IS 5", "expected NULL, NAN, TRUE or FALSE, found `5`"),
        ("id IS NAN", "column `id` is of type int, which has no NaN"),
        ("id IS TRUE", "not boolean"),
        ("name LIKE '%x'", "only a prefix can be matched"),
        ("name LIKE 'a_c'", "only a prefix can be matched"),
        ("id LIKE '1%'", "LIKE compares text"),
        ("name ILIKE 'x%'", "ILIKE is not supported"),
        ("lower(name) = 'x'", "functions are not supported"),
        ("(id = 1", "expected `)`, found the end"),
        ("name = 5", "write text in single quotes"),
        ("d = '31.01.2024'", "write DATE '2024-01-31'"),
        ("ts = '2024-01-31T00:00:00Z'", "leave the zone out"),
        ("ts = '2024-01-31 00:00:00.123456789'", "finer than the microseconds"),
        ("b = 'abc'", "write bytes as X'0A1B'"),
        ("fx = X'00'", "the literal has 1 bytes, the column 2"),
        ("b = X'0'", "not pairs of hex digits"),
        ("g = 'NaN'", "write IS NAN"),
        ("s = 1", "column `s` is a struct"),
        ("\"ID\" = 1", "there is no column `ID`"),
        ("name = 'x", "Unterminated string literal"),
        ("id = 1; DROP", "found `;`"),
        ("id + 1 = 2", "expected a comparison, found `+`"),
    ];
    for (text, part) in table {
        let message = fails(text);
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn an_error_on_a_later_line_shows_that_line() {
    assert_eq!(
        fails("id = 1\n  AND bogus_column = 2"),
        "there is no column `bogus_column`\n    AND bogus_column = 2\n        ^^^^^^^^^^^^\nhint: the columns are \
         Breed Name, b, d, date, f, fx, g, id, n, name, ok, price, s, s.Deep Name, s.a, t, ts, tz, u"
    );
}

#[test]
fn chains_of_thousands_do_not_exhaust_the_stack_and_deep_nesting_is_refused() {
    let chain = vec!["id = 1"; 20_000].join(" OR ");
    let filter = parse(&chain, &schema()).unwrap();
    crate::expr::bind(&filter, &Arc::new(schema()), true).unwrap();

    let deep = format!("{}id = 1{}", "(".repeat(1000), ")".repeat(1000));
    assert!(fails(&deep).contains("nest deeper than 64"));
    assert!(fails(&"NOT ".repeat(1000)).contains("nest deeper than 64"));
}
