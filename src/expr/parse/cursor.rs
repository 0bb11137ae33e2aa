//! Tokens of a filter text, and errors that point at their place in it.

use sqlparser::dialect::GenericDialect;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::error::{Error, Result};

/// Texts longer than this are refused before they are read.
const MAX_TEXT_BYTES: usize = 4 * 1024 * 1024;

/// The tokens of a text with a reading position.
pub(super) struct Cursor<'a> {
    text: &'a str,
    tokens: Vec<TokenWithSpan>,
    at: usize,
}

/// A stretch of the text, counted in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    first: usize,
    last: usize,
}

impl Place {
    /// From the start of one stretch to the end of another.
    pub(super) fn to(self, end: Place) -> Place {
        Place { first: self.first, last: end.last }
    }
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::invalid(format!(
                "the filter is {} bytes long, more than {MAX_TEXT_BYTES}",
                text.len()
            )));
        }
        let dialect = GenericDialect {};
        let tokens = Tokenizer::new(&dialect, text)
            .tokenize_with_location()
            .map_err(|e| Error::invalid(pointed(text, &e.message, e.location, None)))?;
        let tokens =
            tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect();
        Ok(Self { text, tokens, at: 0 })
    }

    /// The next token, `EOF` at the end.
    pub(super) fn peek(&self) -> &Token {
        self.peek_nth(0)
    }

    pub(super) fn peek_nth(&self, n: usize) -> &Token {
        self.tokens.get(self.at + n).map_or(&Token::EOF, |t| &t.token)
    }

    /// Moves past the next token and says where it was.
    pub(super) fn advance(&mut self) -> Place {
        let place = self.here();
        self.at += 1;
        place
    }

    pub(super) fn next(&mut self) -> (Token, Place) {
        let token = self.peek().clone();
        (token, self.advance())
    }

    pub(super) fn here(&self) -> Place {
        Place { first: self.at, last: self.at }
    }

    /// Moves past the token if it comes next.
    pub(super) fn eat(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        if found {
            self.at += 1;
        }
        found
    }

    /// True if the unquoted word comes next, in any case.
    pub(super) fn at_word(&self, word: &str) -> bool {
        is_word(self.peek(), word)
    }

    /// Moves past the word if it comes next.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        if found {
            self.at += 1;
        }
        found
    }

    pub(super) fn expect(&mut self, token: &Token, what: &str) -> Result<()> {
        if self.eat(token) {
            return Ok(());
        }
        Err(self.unexpected(what))
    }

    /// "expected …, found …" at the next token.
    pub(super) fn unexpected(&self, what: &str) -> Error {
        let found = match self.peek() {
            Token::EOF => "the end of the text".to_string(),
            token => format!("`{token}`"),
        };
        self.error(self.here(), format!("expected {what}, found {found}"))
    }

    /// An error that shows the line and points at the place.
    pub(super) fn error(&self, place: Place, message: impl AsRef<str>) -> Error {
        Error::invalid(self.pointed(place, message.as_ref()))
    }

    /// The message with the line and a mark under the place.
    pub(super) fn pointed(&self, place: Place, message: &str) -> String {
        let start = self.tokens.get(place.first).map(|t| t.span.start);
        let end = self.tokens.get(place.last).map(|t| t.span.end);
        let start = start.unwrap_or_else(|| self.end_of_text());
        pointed(self.text, message, start, end)
    }

    fn end_of_text(&self) -> Location {
        let line = self.text.split('\n').count();
        let column = self.text.split('\n').next_back().map_or(0, |l| l.trim_end().chars().count());
        Location { line: line as u64, column: column as u64 + 1 }
    }
}

pub(super) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

fn pointed(text: &str, message: &str, start: Location, end: Option<Location>) -> String {
    let line_at = usize::try_from(start.line.max(1)).unwrap_or(1) - 1;
    let Some(line) = text.split('\n').nth(line_at) else { return message.to_string() };
    let column = usize::try_from(start.column.max(1)).unwrap_or(1) - 1;
    let width = match end {
        Some(end) if end.line == start.line => end.column.saturating_sub(start.column),
        _ => 1,
    };
    let width = usize::try_from(width).unwrap_or(1).clamp(1, 200);
    // Long lines are shown around the place only.
    let from = column.saturating_sub(60);
    let shown: String = line.trim_end().chars().skip(from).take(160).collect();
    let mark = "^".repeat(width.min(160));
    format!("{message}\n  {shown}\n  {}{mark}", " ".repeat(column - from))
}
