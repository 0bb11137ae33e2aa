//! A file of JSON lines that followed changes are appended to, each exactly once.
//!
//! The last row of each batch carries its token, so the file says itself how far it got: whatever
//! a follower that was killed left behind the last token is cut off, and the stream goes on there.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;

use super::rows::TOKEN_COLUMN;
use crate::cli::failure::Outcome;
use crate::error::{Error, ErrorKind};

/// How much of the file's end is read at first.
const WINDOW: u64 = 256 * 1024;

/// Opens the file for more rows; gives the token behind its last whole batch, none if the file is
/// new or its first batch was cut short.
///
/// # Errors
/// `InvalidInput` if the file holds something else; `Unavailable` if it cannot be written.
pub(super) fn open(path: &Path) -> Outcome<(File, Option<String>)> {
    open_with(path, WINDOW)
}

fn open_with(path: &Path, window: u64) -> Outcome<(File, Option<String>)> {
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(
            |error| {
                let message = format!("`{}` cannot be written", path.display());
                Error::new(ErrorKind::Unavailable, message).with_source(error)
            },
        )?;
    let length = file.metadata()?.len();
    let mut window = window;
    loop {
        let from = length.saturating_sub(window);
        let tail = read_from(&mut file, from)?;
        if let Some((end, token)) = last_token(&tail) {
            keep(&mut file, from + end)?;
            return Ok((file, Some(token)));
        }
        if from == 0 {
            if !is_ours(&tail) {
                let message = format!("`{}` was not written by a follower", path.display());
                return Err(Error::invalid(message)
                    .with_hint("name a new file, or remove this one")
                    .into());
            }
            keep(&mut file, 0)?;
            return Ok((file, None));
        }
        window = window.saturating_mul(4);
    }
}

fn read_from(file: &mut File, from: u64) -> Outcome<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Cuts off what is behind `length`, and stands there.
fn keep(file: &mut File, length: u64) -> Outcome {
    file.set_len(length)?;
    file.seek(SeekFrom::Start(length))?;
    Ok(())
}

/// Where the last line with a token ends, and the token. A line without its end is not there yet.
fn last_token(tail: &[u8]) -> Option<(u64, String)> {
    let mut end = tail.iter().rposition(|b| *b == b'\n')? + 1;
    while end > 0 {
        let start = tail[..end - 1].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if let Some(Value::String(token)) = token_of(&tail[start..end]) {
            return Some((u64::try_from(end).unwrap_or(u64::MAX), token));
        }
        end = start;
    }
    None
}

fn token_of(line: &[u8]) -> Option<Value> {
    let mut row: Value = serde_json::from_slice(line).ok()?;
    row.get_mut(TOKEN_COLUMN).map(Value::take)
}

/// Whether a file without a token is the beginning of a first batch, or empty.
fn is_ours(bytes: &[u8]) -> bool {
    match bytes.iter().position(|b| *b == b'\n') {
        Some(end) => token_of(&bytes[..end]).is_some(),
        None => bytes.is_empty() || bytes.starts_with(b"{"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const ROW: &str = "{\"id\":1,\"_token\":null}\n";

    fn reopened(contents: &str, window: u64) -> Outcome<(String, Option<String>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, contents).unwrap();
        let (mut file, token) = open_with(&path, window)?;
        file.write_all(b"more").unwrap();
        Ok((std::fs::read_to_string(&path).unwrap(), token))
    }

    #[test]
    fn what_lies_behind_the_last_token_is_cut_off() {
        let whole =
            format!("{ROW}{{\"id\":2,\"_token\":\"t1\"}}\n{ROW}{{\"id\":3,\"_token\":\"t2\"}}\n");
        for rest in ["", ROW, "{\"id\":9,\"_to", "{\"id\":9,\"_token\":\"t3\"}"] {
            for window in [1, 30, 1 << 20] {
                let (text, token) = reopened(&format!("{whole}{rest}"), window).unwrap();
                assert_eq!(text, format!("{whole}more"), "{rest}");
                assert_eq!(token.as_deref(), Some("t2"));
            }
        }
    }

    #[test]
    fn a_first_batch_cut_short_begins_anew() {
        for contents in ["", "{\"id\":", ROW, "{\"id\":1,\"_token\":null}\n{\"id\""] {
            assert_eq!(reopened(contents, 8).unwrap(), ("more".to_string(), None), "{contents}");
        }
    }

    #[test]
    fn a_file_of_something_else_is_left_alone() {
        for contents in ["id,name\n1,a\n", "{\"id\":1}\n", "letter"] {
            assert!(reopened(contents, 8).is_err(), "{contents}");
        }
    }
}
