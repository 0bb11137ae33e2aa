//! Walks a Thrift compact-protocol struct and checks that its lengths are possible.
//!
//! The Parquet crate allocates room for as many list elements as a footer announces. A list of
//! two thousand million row groups in a footer of a hundred bytes would end the process before
//! any error could be reported, so every announced length is held against the bytes that are
//! left before the crate sees the footer (FIL-6). Pure; one pass; no allocation.

use crate::error::{Error, Result};

/// Deeper nesting than any Parquet structure has.
const MAX_DEPTH: u32 = 64;

/// Checks the struct at the start of `bytes`.
///
/// # Errors
/// `CorruptData` when a string, list or map claims more than the bytes can hold.
pub(crate) fn check(bytes: &[u8]) -> Result<()> {
    Walker { bytes, at: 0 }.fields(0)
}

struct Walker<'a> {
    bytes: &'a [u8],
    at: usize,
}

fn broken() -> Error {
    Error::corrupt("the Parquet footer is cut off or holds impossible lengths")
}

impl Walker<'_> {
    fn byte(&mut self) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or_else(broken)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(broken())
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        if bytes > (self.bytes.len() - self.at) as u64 {
            return Err(broken());
        }
        self.at += bytes as usize;
        Ok(())
    }

    fn fields(&mut self, depth: u32) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(broken());
        }
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Ok(());
            }
            if header >> 4 == 0 {
                self.varint()?; // a field id in full
            }
            // Booleans live in the type of a field header and take no bytes there.
            if !matches!(header & 0x0F, 1 | 2) {
                self.value(header & 0x0F, depth)?;
            }
        }
    }

    fn value(&mut self, kind: u8, depth: u32) -> Result<()> {
        match kind {
            1..=3 => self.skip(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.skip(8),
            8 => {
                let length = self.varint()?;
                self.skip(length)
            }
            9 | 10 => self.list(depth),
            11 => self.map(depth),
            12 => self.fields(depth + 1),
            _ => Err(broken()),
        }
    }

    /// Each element takes at least one byte.
    fn elements(&self, count: u64) -> Result<u64> {
        if count > (self.bytes.len() - self.at) as u64 { Err(broken()) } else { Ok(count) }
    }

    fn list(&mut self, depth: u32) -> Result<()> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => self.varint()?,
            short => u64::from(short),
        };
        if depth > MAX_DEPTH {
            return Err(broken());
        }
        for _ in 0..self.elements(count)? {
            self.value(header & 0x0F, depth + 1)?;
        }
        Ok(())
    }

    fn map(&mut self, depth: u32) -> Result<()> {
        let count = self.varint()?;
        if count == 0 {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            return Err(broken());
        }
        let kinds = self.byte()?;
        for _ in 0..self.elements(count)? {
            self.value(kinds >> 4, depth + 1)?;
            self.value(kinds & 0x0F, depth + 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_longer_than_the_footer_is_refused() {
        // Field 1: a list of structs that announces 2^31 - 1 elements.
        let bytes = [0x19, 0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 0x07, 0x00];
        assert!(check(&bytes).is_err());
    }

    #[test]
    fn a_string_longer_than_the_footer_is_refused() {
        assert!(check(&[0x18, 0xFF, 0xFF, 0x03, b'a', 0x00]).is_err());
    }

    #[test]
    fn endless_nesting_is_refused() {
        assert!(check(&[0x1C; 10_000]).is_err());
    }

    #[test]
    fn a_small_sound_struct_passes() {
        // i32 field, string field, list of two i32, stop.
        assert!(check(&[0x15, 0x04, 0x18, 0x02, b'a', b'b', 0x19, 0x25, 2, 4, 0]).is_ok());
    }
}
