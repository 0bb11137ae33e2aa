//! One stored position as bytes, and the names it is kept under.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::table::Token;
use crate::table::token::checksum;

/// One numbered file of a stream's name. The highest number counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// `None` once the stream was removed.
    pub token: Option<Token>,
    /// The one live stream that may go on from here.
    pub holder: Uuid,
    /// False once the holder has closed.
    pub is_held: bool,
    pub stored_at_ms: i64,
}

#[derive(Serialize, Deserialize)]
struct Written {
    token: Option<String>,
    holder: Uuid,
    is_held: bool,
    stored_at_ms: i64,
    /// A torn file must not pass for an empty position.
    checksum: String,
}

impl Record {
    pub fn to_bytes(&self) -> Result<Bytes> {
        let token = self.token.as_ref().map(ToString::to_string);
        let written = Written {
            checksum: self.checksum(token.as_deref()),
            token,
            holder: self.holder,
            is_held: self.is_held,
            stored_at_ms: self.stored_at_ms,
        };
        Ok(Bytes::from(serde_json::to_vec(&written)?))
    }

    /// `None` for bytes that were never written whole (TOK-7).
    pub fn parse(bytes: &[u8]) -> Option<Result<Self>> {
        let written: Written = serde_json::from_slice(bytes).ok()?;
        let Written { holder, is_held, stored_at_ms, .. } = written;
        let bare = Self { token: None, holder, is_held, stored_at_ms };
        if bare.checksum(written.token.as_deref()) != written.checksum {
            return None;
        }
        // A whole file with a token that cannot be read is another version's: an error.
        let token = written.token.map(|text| text.parse::<Token>()).transpose();
        Some(token.map(|token| Self { token, ..bare }))
    }

    fn checksum(&self, token: Option<&str>) -> String {
        let Self { holder, is_held, stored_at_ms, .. } = self;
        let token = token.unwrap_or("-");
        format!("{:08x}", checksum(&format!("{token} {holder} {is_held} {stored_at_ms}")))
    }
}

/// The folder of a table's positions.
pub(super) fn table_folder(table: Uuid) -> String {
    table.to_string()
}

/// The folder of a name. Everything but letters, digits, `-` and `_` is written as `~` and two hex digits, so that
/// every name is one folder on every store.
pub(super) fn folder(table: Uuid, name: &str) -> Result<String> {
    if name.is_empty() || name.len() > 80 {
        return Err(Error::invalid("a stream's name has 1 to 80 bytes").with_context("name", name));
    }
    let mut encoded = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => encoded.push(byte as char),
            other => encoded.push_str(&format!("~{other:02x}")),
        }
    }
    Ok(format!("{}/{encoded}", table_folder(table)))
}

/// The name of a folder that [`folder`] made.
pub(super) fn name_of(encoded: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = encoded.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'~' {
            let hex = rest.get(..2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}

pub(super) fn file(folder: &str, number: u64) -> String {
    format!("{folder}/{number:020}.json")
}

/// The number of a file's name, `None` for files that are none of ours.
pub(super) fn number_of(file: &str) -> Option<u64> {
    let digits = file.rsplit('/').next()?.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}
