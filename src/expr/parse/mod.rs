//! The `--where` grammar: text to [`Predicate`], with errors that point at the place.
//!
//! ```text
//! or        := and ("OR" and)*
//! and       := not ("AND" not)*
//! not       := "NOT" not | predicate
//! predicate := operand [ op operand | "IS" ["NOT"] (NULL | NAN | TRUE | FALSE)
//!                      | ["NOT"] ("IN" "(" literal,… ")" | "BETWEEN" literal "AND" literal | "LIKE" text) ]
//! operand   := column | literal | "(" or ")"
//! ```
//!
//! Tokens come from `sqlparser`; the grammar is our own because it is small, and so that every
//! error knows its place. Columns are resolved and literals read as the column's type while
//! parsing, NOT is pushed down to the tests (EXP-1), and long chains become balanced trees.

mod cursor;
mod lower;

use cursor::{Cursor, Place, is_word};
use lower::{Ast, Item};
use sqlparser::tokenizer::Token;

use super::bind::{primitive_column, unknown_column};
use super::coerce::{Coerced, Raw, coerce};
use super::filter::{Cmp, is_float};
use crate::error::{Error, Result};
use crate::spec::{Predicate, PrimitiveType, Schema};

/// Parentheses and NOTs nest this deep at most.
const MAX_DEPTH: usize = 64;

/// Reads a filter such as `status = 'open' AND (day BETWEEN '2024-01-01' AND '2024-01-31' OR n IS NULL)`.
///
/// Comparisons `= == != <> < <= > >=` (column on either side), `AND`, `OR`, `NOT`, `IN`,
/// `BETWEEN`, `IS [NOT] NULL`, `IS [NOT] NAN`, `IS [NOT] TRUE`, `LIKE 'prefix%'`, boolean columns
/// on their own. Names may be `"quoted"` and nested (`s.a`); unquoted names that match no column
/// exactly are looked up in any case. Literals: numbers, `'text'`, `TRUE`, `FALSE`,
/// `DATE '2024-01-31'`, `TIME '12:30:00'`, `TIMESTAMP '2024-01-31 12:30:00'`, `X'0A1B'`; text is
/// read as the type of the column, and a timestamp without a zone is UTC.
///
/// # Errors
/// `InvalidInput` with the line, a mark under the place and, for a misspelt column, the nearest
/// name.
pub fn parse(text: &str, schema: &Schema) -> Result<Predicate> {
    let mut parser = Parser { cursor: Cursor::new(text)?, schema, depth: 0 };
    if *parser.cursor.peek() == Token::EOF {
        return Err(
            Error::invalid("the filter is empty").with_hint("write a condition such as `id = 5`")
        );
    }
    let ast = parser.condition()?;
    if *parser.cursor.peek() != Token::EOF {
        return Err(parser.cursor.unexpected("AND, OR or the end"));
    }
    Ok(lower::lower(ast, false))
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    schema: &'a Schema,
    depth: usize,
}

/// What stands at one place: a condition, or half of one.
enum Parsed<'a> {
    Condition(Ast),
    Operand(Operand<'a>, Place),
}

enum Operand<'a> {
    Column { name: &'a str, kind: &'a PrimitiveType },
    Literal(Raw),
    Null,
}

impl<'a> Parser<'a> {
    fn condition(&mut self) -> Result<Ast> {
        let parsed = self.or()?;
        self.as_condition(parsed)
    }

    fn or(&mut self) -> Result<Parsed<'a>> {
        let first = self.and()?;
        if !self.cursor.at_word("OR") {
            return Ok(first);
        }
        let mut parts = vec![self.as_condition(first)?];
        while self.cursor.eat_word("OR") {
            let part = self.and()?;
            parts.push(self.as_condition(part)?);
        }
        Ok(Parsed::Condition(Ast::Any(parts)))
    }

    fn and(&mut self) -> Result<Parsed<'a>> {
        let first = self.not()?;
        if !self.cursor.at_word("AND") {
            return Ok(first);
        }
        let mut parts = vec![self.as_condition(first)?];
        while self.cursor.eat_word("AND") {
            let part = self.not()?;
            parts.push(self.as_condition(part)?);
        }
        Ok(Parsed::Condition(Ast::All(parts)))
    }

    fn not(&mut self) -> Result<Parsed<'a>> {
        if !self.cursor.at_word("NOT") {
            return self.predicate();
        }
        self.nested(|parser| {
            parser.cursor.advance();
            let inner = parser.not()?;
            Ok(Parsed::Condition(Ast::Not(Box::new(parser.as_condition(inner)?))))
        })
    }

    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let message = format!("parentheses and NOTs nest deeper than {MAX_DEPTH}");
            return Err(self.cursor.error(self.cursor.here(), message));
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn predicate(&mut self) -> Result<Parsed<'a>> {
        let (left, place) = match self.operand()? {
            Parsed::Operand(operand, place) => (operand, place),
            condition => return Ok(condition),
        };
        if let Some(cmp) = comparison_sign(self.cursor.peek()) {
            self.cursor.advance();
            return self.comparison(left, place, cmp);
        }
        if self.cursor.eat_word("IS") {
            return self.is_test(left, place);
        }
        let negated = self.cursor.at_word("NOT")
            && ["IN", "BETWEEN", "LIKE", "ILIKE"]
                .iter()
                .any(|w| is_word(self.cursor.peek_nth(1), w));
        if negated {
            self.cursor.advance();
        }
        for (word, rest) in
            [("IN", Self::membership as Rest<'a>), ("BETWEEN", Self::between), ("LIKE", Self::like)]
        {
            if self.cursor.eat_word(word) {
                let (name, kind) = self.column_before(left, place, word)?;
                return rest(self, name, kind, negated).map(Parsed::Condition);
            }
        }
        if self.cursor.at_word("ILIKE") {
            let message = "ILIKE is not supported: LIKE compares with case";
            return Err(self.cursor.error(self.cursor.here(), message));
        }
        Ok(Parsed::Operand(left, place))
    }

    /// A condition on its own, a boolean column, or TRUE and FALSE.
    fn as_condition(&self, parsed: Parsed<'a>) -> Result<Ast> {
        match parsed {
            Parsed::Condition(ast) => Ok(ast),
            Parsed::Operand(Operand::Literal(Raw::Bool(value)), _) => Ok(Ast::Constant(value)),
            Parsed::Operand(Operand::Column { name, kind: PrimitiveType::Boolean }, _) => {
                Ok(Ast::test(name, Item::IsBool(true)))
            }
            Parsed::Operand(_, place) => {
                let next = self.cursor.here();
                let message = match self.cursor.peek() {
                    Token::EOF => "expected a comparison after this".to_string(),
                    token => format!("expected a comparison, found `{token}`"),
                };
                let at_end = *self.cursor.peek() == Token::EOF;
                Err(self.cursor.error(if at_end { place } else { next }, message))
            }
        }
    }

    fn operand(&mut self) -> Result<Parsed<'a>> {
        let (token, place) = self.cursor.next();
        let literal = |raw| Ok(Parsed::Operand(Operand::Literal(raw), place));
        match token {
            Token::LParen => self.nested(|parser| {
                let inner = parser.or()?;
                let end = parser.cursor.here();
                parser.cursor.expect(&Token::RParen, "`)`")?;
                Ok(match inner {
                    Parsed::Operand(operand, _) => Parsed::Operand(operand, place.to(end)),
                    condition => condition,
                })
            }),
            Token::SingleQuotedString(text) => literal(Raw::Text(text)),
            Token::HexStringLiteral(digits) => match unhex(&digits) {
                Some(bytes) => literal(Raw::Bytes(bytes)),
                None => Err(self.cursor.error(place, "these are not pairs of hex digits")),
            },
            Token::Number(digits, _) => literal(Raw::Number(digits)),
            Token::Minus | Token::Plus => match self.cursor.next() {
                (Token::Number(digits, _), end) => {
                    let sign = if token == Token::Minus { "-" } else { "" };
                    let raw = Raw::Number(format!("{sign}{digits}"));
                    Ok(Parsed::Operand(Operand::Literal(raw), place.to(end)))
                }
                (_, end) => Err(self.cursor.error(end, "expected a number after the sign")),
            },
            Token::Word(ref word) if word.quote_style.is_none() => self.word(&token, place),
            Token::Word(_) => self.column(token, place),
            Token::EOF => Err(self.cursor.error(place, "expected a condition, found the end")),
            other => {
                Err(self.cursor.error(place, format!("expected a condition, found `{other}`")))
            }
        }
    }

    /// An unquoted word: a constant, a typed literal, or the start of a column's name.
    fn word(&mut self, token: &Token, place: Place) -> Result<Parsed<'a>> {
        let is = |word| is_word(token, word);
        if is("TRUE") || is("FALSE") {
            return Ok(Parsed::Operand(Operand::Literal(Raw::Bool(is("TRUE"))), place));
        }
        if is("NULL") {
            return Ok(Parsed::Operand(Operand::Null, place));
        }
        if let Token::SingleQuotedString(text) = self.cursor.peek() {
            let text = text.clone();
            let raw = match () {
                () if is("DATE") => Some(Raw::Date(text)),
                () if is("TIME") => Some(Raw::Time(text)),
                () if is("TIMESTAMP") || is("TIMESTAMPTZ") => Some(Raw::Timestamp(text)),
                () => None,
            };
            if let Some(raw) = raw {
                let end = self.cursor.advance();
                return Ok(Parsed::Operand(Operand::Literal(raw), place.to(end)));
            }
        }
        if *self.cursor.peek() == Token::LParen {
            return Err(self.cursor.error(place, "functions are not supported in filters"));
        }
        if ["AND", "OR", "IN", "IS", "LIKE", "BETWEEN", "NOT"].iter().any(|w| is(w)) {
            return Err(self.cursor.error(place, format!("expected a condition, found `{token}`")));
        }
        self.column(token.clone(), place)
    }

    fn column(&mut self, first: Token, start: Place) -> Result<Parsed<'a>> {
        let mut name = String::new();
        let mut quoted = false;
        let mut token = first;
        let mut end = start;
        loop {
            match token {
                Token::Word(word) => {
                    quoted |= word.quote_style.is_some();
                    name.push_str(&word.value);
                }
                _ => return Err(self.cursor.error(end, "expected a name after the dot")),
            }
            if !self.cursor.eat(&Token::Period) {
                break;
            }
            name.push('.');
            (token, end) = self.cursor.next();
        }
        let place = start.to(end);
        let mut field = self.schema.field_by_name(&name);
        if field.is_none() && !quoted {
            field = self.schema.field_by_name_case_insensitive(&name);
        }
        let at_place = |error: Error| {
            let pointed = self.cursor.error(place, error.message()).with_kind(error.kind());
            match error.hint() {
                Some(hint) => pointed.with_hint(hint),
                None => pointed,
            }
        };
        let field = field.ok_or_else(|| at_place(unknown_column(&name, self.schema)))?;
        let (name, kind) = primitive_column(field, self.schema).map_err(at_place)?;
        Ok(Parsed::Operand(Operand::Column { name, kind }, place))
    }

    fn comparison(&mut self, left: Operand<'a>, left_at: Place, cmp: Cmp) -> Result<Parsed<'a>> {
        let here = self.cursor.here();
        let word = match self.cursor.peek() {
            Token::Word(word) if matches!(left, Operand::Column { .. }) => Some(word.value.clone()),
            _ => None,
        };
        // `dest = SFO` and `dest = "SFO"` mean text far more often than a misspelt column.
        let unquoted = |error: Error| match word {
            Some(word) if error.hint().is_some() => {
                error.with_hint(format!("write text in single quotes: '{word}'"))
            }
            _ => error,
        };
        let (right, right_at) = match self.operand().map_err(unquoted)? {
            Parsed::Operand(operand, place) => (operand, place),
            Parsed::Condition(_) => {
                return Err(self.cursor.error(here, "expected a value, found a condition"));
            }
        };
        let (name, kind, cmp, raw, at) = match (left, right) {
            (Operand::Column { name, kind }, Operand::Literal(raw)) => {
                (name, kind, cmp, raw, right_at)
            }
            (Operand::Literal(raw), Operand::Column { name, kind }) => {
                (name, kind, flipped(cmp), raw, left_at)
            }
            (Operand::Null, _) => return Err(self.null(left_at)),
            (_, Operand::Null) => return Err(self.null(right_at)),
            (Operand::Column { .. }, _) => {
                let message = "two columns cannot be compared: one side must be a literal";
                return Err(self.cursor.error(left_at.to(right_at), message));
            }
            _ => {
                let message = "one side of a comparison must be a column";
                return Err(self.cursor.error(left_at.to(right_at), message));
            }
        };
        let literal = self.value(&raw, name, kind, at)?;
        Ok(Parsed::Condition(Ast::test(name, Item::Compare(cmp, literal))))
    }

    fn null(&self, place: Place) -> Error {
        self.cursor.error(place, "a comparison with NULL is never true: write IS NULL")
    }

    fn value(&self, raw: &Raw, name: &str, kind: &PrimitiveType, at: Place) -> Result<Coerced> {
        coerce(raw, kind).map_err(|why| self.cursor.error(at, format!("column `{name}`: {why}")))
    }

    fn column_before(
        &self,
        operand: Operand<'a>,
        place: Place,
        word: &str,
    ) -> Result<(&'a str, &'a PrimitiveType)> {
        match operand {
            Operand::Column { name, kind } => Ok((name, kind)),
            _ => Err(self.cursor.error(place, format!("expected a column before {word}"))),
        }
    }

    fn is_test(&mut self, left: Operand<'a>, place: Place) -> Result<Parsed<'a>> {
        let (name, kind) = self.column_before(left, place, "IS")?;
        let negated = self.cursor.eat_word("NOT");
        let what = self.cursor.here();
        let item = if self.cursor.eat_word("NULL") {
            Item::Null
        } else if self.cursor.eat_word("NAN") {
            if !is_float(kind) {
                let message = format!("column `{name}` is of type {kind}, which has no NaN");
                return Err(self.cursor.error(what, message));
            }
            Item::Nan
        } else if self.cursor.at_word("TRUE") || self.cursor.at_word("FALSE") {
            let wanted = self.cursor.eat_word("TRUE") || !self.cursor.eat_word("FALSE");
            if *kind != PrimitiveType::Boolean {
                let message = format!("column `{name}` is of type {kind}, not boolean");
                return Err(self.cursor.error(what, message));
            }
            Item::IsTruth(wanted)
        } else {
            return Err(self.cursor.unexpected("NULL, NAN, TRUE or FALSE"));
        };
        let test = Ast::test(name, item);
        Ok(Parsed::Condition(if negated { Ast::Not(Box::new(test)) } else { test }))
    }

    /// A literal of a list or a range.
    fn literal(&mut self, name: &str, kind: &PrimitiveType) -> Result<Coerced> {
        match self.operand()? {
            Parsed::Operand(Operand::Literal(raw), at) => self.value(&raw, name, kind, at),
            Parsed::Operand(Operand::Null, at) => Err(self.null(at)),
            Parsed::Operand(Operand::Column { .. }, at) => {
                Err(self.cursor.error(at, "expected a literal, found a column"))
            }
            Parsed::Condition(_) => Err(self.cursor.unexpected("a literal before this")),
        }
    }

    fn membership(&mut self, name: &'a str, kind: &PrimitiveType, negated: bool) -> Result<Ast> {
        self.cursor.expect(&Token::LParen, "`(` and a list")?;
        let mut values = vec![self.literal(name, kind)?];
        while self.cursor.eat(&Token::Comma) {
            values.push(self.literal(name, kind)?);
        }
        self.cursor.expect(&Token::RParen, "`,` or `)`")?;
        Ok(Ast::test(name, Item::In(values)).negated_if(negated))
    }

    fn between(&mut self, name: &'a str, kind: &PrimitiveType, negated: bool) -> Result<Ast> {
        let low = self.literal(name, kind)?;
        if !self.cursor.eat_word("AND") {
            return Err(self.cursor.unexpected("AND and the upper end"));
        }
        let high = self.literal(name, kind)?;
        let range = Ast::All(vec![
            Ast::test(name, Item::Compare(Cmp::GreaterEq, low)),
            Ast::test(name, Item::Compare(Cmp::LessEq, high)),
        ]);
        Ok(range.negated_if(negated))
    }

    fn like(&mut self, name: &'a str, kind: &PrimitiveType, negated: bool) -> Result<Ast> {
        let (token, at) = self.cursor.next();
        let Token::SingleQuotedString(pattern) = token else {
            return Err(self.cursor.error(at, "expected a pattern in single quotes"));
        };
        if *kind != PrimitiveType::String {
            let message = format!("column `{name}` is of type {kind}: LIKE compares text");
            return Err(self.cursor.error(at, message));
        }
        let item = match like_pattern(&pattern) {
            Some((prefix, true)) => Item::StartsWith(prefix),
            Some((text, false)) => {
                let text = self.value(&Raw::Text(text), name, kind, at)?;
                Item::Compare(Cmp::Eq, text)
            }
            None => {
                let message =
                    "only a prefix can be matched: one % at the end, and no _ (escape with \\)";
                return Err(self.cursor.error(at, message));
            }
        };
        Ok(Ast::test(name, item).negated_if(negated))
    }
}

type Rest<'a> = fn(&mut Parser<'a>, &'a str, &PrimitiveType, bool) -> Result<Ast>;

fn comparison_sign(token: &Token) -> Option<Cmp> {
    match token {
        Token::Eq | Token::DoubleEq => Some(Cmp::Eq),
        Token::Neq => Some(Cmp::NotEq),
        Token::Lt => Some(Cmp::Less),
        Token::LtEq => Some(Cmp::LessEq),
        Token::Gt => Some(Cmp::Greater),
        Token::GtEq => Some(Cmp::GreaterEq),
        _ => None,
    }
}

/// `5 < a` is `a > 5`.
fn flipped(cmp: Cmp) -> Cmp {
    match cmp {
        Cmp::Less => Cmp::Greater,
        Cmp::LessEq => Cmp::GreaterEq,
        Cmp::Greater => Cmp::Less,
        Cmp::GreaterEq => Cmp::LessEq,
        same => same,
    }
}

/// The text before a final `%`, and whether there was one. `None` for any other wildcard.
fn like_pattern(pattern: &str) -> Option<(String, bool)> {
    let mut text = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(chars.next()?),
            '%' => {
                let rest_is_wild = chars.all(|c| c == '%');
                return rest_is_wild.then_some((text, true));
            }
            '_' => return None,
            other => text.push(other),
        }
    }
    Some((text, false))
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests;
