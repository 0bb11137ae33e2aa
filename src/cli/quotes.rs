//! A watch over the quotes of a CSV: a value whose quote never ends would swallow every row behind
//! it, and the decoder would say nothing.

use std::io::{self, BufRead, Read};

/// Hands bytes through, and fails at the end of the input if a quoted value is still open.
#[derive(Debug)]
pub(super) struct Quotes<R> {
    inner: R,
    state: State,
    line: u64,
    /// Where the last quoted value began.
    opened: u64,
}

/// Where in a value the next byte is, as RFC 4180 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Plain,
    Quoted,
    /// Behind a quote inside a quoted value: its end, or the first of two.
    Closing,
}

impl<R: BufRead> Quotes<R> {
    /// Watches what follows the header, which is line 1.
    pub(super) fn behind_header(inner: R) -> Self {
        Self { inner, state: State::Start, line: 2, opened: 0 }
    }

    fn see(&mut self, count: usize) -> io::Result<()> {
        let bytes = self.inner.fill_buf()?;
        for byte in bytes.iter().take(count) {
            self.state = match (self.state, byte) {
                (State::Start, b'"') => {
                    self.opened = self.line;
                    State::Quoted
                }
                (State::Quoted, b'"') => State::Closing,
                (State::Quoted, _) | (State::Closing, b'"') => State::Quoted,
                (_, b',' | b'\n' | b'\r') => State::Start,
                _ => State::Plain,
            };
            self.line += u64::from(*byte == b'\n');
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Quotes<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Quotes<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.inner.fill_buf()?.is_empty() && self.state == State::Quoted {
            let message =
                format!("the quoted value that begins in line {} never ends", self.opened);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // What is consumed lies in the buffer: looking at it again reads nothing.
        if self.see(count).is_ok() {
            self.inner.consume(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<String> {
        let mut read = String::new();
        // A small buffer: quotes are torn apart.
        let inner = io::BufReader::with_capacity(2, text.as_bytes());
        Quotes::behind_header(inner).read_to_string(&mut read)?;
        Ok(read)
    }

    #[test]
    fn only_an_open_quote_at_the_end_is_refused_and_its_line_named() {
        for whole in ["", "1,a\n", "1,\"a\nb\"\n", "1,\"a\"\"b\"", "1,5\" pipe\n", "\"\",\"\"\r\n"]
        {
            assert_eq!(read(whole).unwrap(), whole);
        }
        for (open, line) in [("1,\"a", 2), ("1,a\n2,\"b\n3,c\n", 3), ("1,\"a\"\"", 2)] {
            let error = read(open).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line} ")), "{open:?}: {error}");
        }
    }
}
