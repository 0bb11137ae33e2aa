//! Reads Avro's binary encoding from a slice.
//!
//! Every method checks against what is left and returns `CorruptData` otherwise.

use super::schema::{Node, Schema};
use crate::error::{Error, Result};

/// Nesting beyond this is taken for an attack; manifests need 5 levels.
const MAX_DEPTH: usize = 32;

/// A place in a decompressed block.
#[derive(Debug, Clone)]
pub(in crate::manifest) struct Cursor<'a> {
    rest: &'a [u8],
    /// Steps that skipping may still take: a schema can nest types that take no bytes at all
    /// so often that walking them never ends.
    fuel: usize,
}

#[cold]
fn truncated() -> Error {
    Error::corrupt("Avro data ends too early")
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte.
    pub(in crate::manifest) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, fuel: 4096 + bytes.len().saturating_mul(16) }
    }

    /// Bytes that are left.
    pub(in crate::manifest) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// A zig-zag number of up to 10 bytes.
    #[inline]
    pub(in crate::manifest) fn long(&mut self) -> Result<i64> {
        let mut value = 0u64;
        let mut shift = 0u32;
        loop {
            let Some((&byte, rest)) = self.rest.split_first() else {
                return Err(truncated());
            };
            self.rest = rest;
            // The tenth byte may carry the top bit only.
            if shift == 63 && byte > 1 {
                return Err(Error::corrupt("Avro number is longer than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
            shift += 7;
        }
    }

    /// A number that must fit 32 bits.
    #[inline]
    pub(in crate::manifest) fn int(&mut self) -> Result<i32> {
        let value = self.long()?;
        i32::try_from(value).map_err(|_| Error::corrupt("Avro int is wider than 32 bits"))
    }

    /// One byte, 0 or 1.
    pub(in crate::manifest) fn boolean(&mut self) -> Result<bool> {
        match self.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Error::corrupt("Avro boolean is neither 0 nor 1")),
        }
    }

    /// The next `n` bytes.
    #[inline]
    pub(in crate::manifest) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(n) else {
            return Err(truncated());
        };
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    pub(in crate::manifest) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(truncated());
        };
        self.rest = rest;
        Ok(*head)
    }

    /// Bytes with their length in front.
    #[inline]
    pub(in crate::manifest) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(n) => self.take(n),
            Err(_) => Err(Error::corrupt("Avro bytes have a negative length")),
        }
    }

    /// UTF-8 with its length in front.
    #[inline]
    pub(in crate::manifest) fn string(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?)
            .map_err(|e| Error::corrupt("Avro string is not UTF-8").with_source(e))
    }

    /// How many items the next part of an array or map holds; 0 at its end. Every item that
    /// manifests hold takes at least a byte, so a count beyond what is left is a lie.
    #[inline]
    pub(in crate::manifest) fn item_count(&mut self) -> Result<usize> {
        let count = self.long()?;
        let count = if count < 0 {
            self.long()?; // the part's size in bytes, which only skipping needs
            count.checked_neg().unwrap_or(i64::MAX)
        } else {
            count
        };
        match usize::try_from(count) {
            Ok(n) if n <= self.rest.len() => Ok(n),
            _ => Err(Error::corrupt("Avro array claims more items than there are bytes")),
        }
    }

    /// Passes over one value of `node`.
    pub(in crate::manifest) fn skip(&mut self, schema: &Schema, node: &Node) -> Result<()> {
        self.skip_nested(schema, node, 0)
    }

    fn skip_nested(&mut self, schema: &Schema, node: &Node, depth: usize) -> Result<()> {
        self.fuel = self.fuel.saturating_sub(1);
        if depth > MAX_DEPTH || self.fuel == 0 {
            return Err(Error::corrupt("Avro value is nested too deeply"));
        }
        match node {
            Node::Null => {}
            Node::Boolean => drop(self.take(1)?),
            Node::Int | Node::Long | Node::Enum => drop(self.long()?),
            Node::Float => drop(self.take(4)?),
            Node::Double => drop(self.take(8)?),
            Node::Bytes(_) | Node::String(_) => drop(self.bytes()?),
            Node::Fixed(size, _) => drop(self.take(*size)?),
            Node::Array(item) => {
                self.skip_items(|c| c.skip_nested(schema, item, depth + 1))?;
            }
            Node::Map(value) => self.skip_items(|c| {
                c.bytes()?;
                c.skip_nested(schema, value, depth + 1)
            })?,
            Node::Union(branches) => {
                let branch = usize::try_from(self.long()?).ok().and_then(|at| branches.get(at));
                let Some(branch) = branch else {
                    return Err(Error::corrupt("Avro union names a branch it does not have"));
                };
                self.skip_nested(schema, branch, depth + 1)?;
            }
            Node::Record(id) => {
                for field in schema.fields(*id) {
                    self.skip_nested(schema, &field.node, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn skip_items(&mut self, mut skip_one: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        loop {
            let count = self.item_count()?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                skip_one(self)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_at_both_ends_of_the_range() {
        for value in [0, -1, 1, 63, -64, 64, i64::from(i32::MIN), i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            super::super::put_long(&mut bytes, value);
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(cursor.long().unwrap(), value);
            assert_eq!(cursor.remaining(), 0);
        }
    }

    #[test]
    fn numbers_that_never_end_or_overflow_are_corrupt() {
        assert!(Cursor::new(&[0x80; 4]).long().is_err());
        assert!(Cursor::new(&[0xff; 20]).long().is_err());
    }

    #[test]
    fn a_count_beyond_the_bytes_left_is_corrupt() {
        let mut bytes = Vec::new();
        super::super::put_long(&mut bytes, 1 << 40);
        assert!(Cursor::new(&bytes).item_count().is_err());
        let mut negative = Vec::new();
        super::super::put_long(&mut negative, i64::MIN);
        super::super::put_long(&mut negative, 1);
        assert!(Cursor::new(&negative).item_count().is_err());
    }
}
