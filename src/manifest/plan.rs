//! Compiles a writer schema into steps that decode records straight into our types.
//!
//! Fields are found by field id, or by name where a writer left ids out (MAN-2). What we do
//! not know is skipped. A plan is made once per file and run once per record.

use super::avro::Cursor;
use super::avro::schema::{Field, Node, Schema};
use crate::error::{Error, Result};

/// Where the null of an optional value sits in its union.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nullness {
    Required,
    /// The union's branch that means null; the other of the two is the value.
    NullIs(i64),
    /// The type is null itself: there is never a value.
    Always,
}

impl Nullness {
    /// Reads the branch, if there is one; true when a value follows.
    #[inline]
    pub(super) fn has_value(self, cursor: &mut Cursor<'_>) -> Result<bool> {
        match self {
            Self::Required => Ok(true),
            Self::Always => Ok(false),
            Self::NullIs(null) => match cursor.long()? {
                branch if branch == null => Ok(false),
                0 | 1 => Ok(true),
                _ => Err(Error::corrupt("Avro union names a branch it does not have")),
            },
        }
    }
}

/// Splits a node into its nullness and the node of its values.
///
/// # Errors
/// `CorruptData` for unions of several kinds of value: no field of ours is one.
pub(super) fn split_null(node: &Node) -> Result<(Nullness, &Node)> {
    match node {
        Node::Null => Ok((Nullness::Always, node)),
        Node::Union(branches) => match branches.as_slice() {
            [Node::Null, Node::Null] => Err(Error::corrupt("Avro union holds null twice")),
            [Node::Null, value] => Ok((Nullness::NullIs(0), value)),
            [value, Node::Null] => Ok((Nullness::NullIs(1), value)),
            _ => Err(Error::corrupt("Avro union is not `null or a value`")),
        },
        other => Ok((Nullness::Required, other)),
    }
}

/// A number in 32 or 64 bits, possibly absent.
#[derive(Debug, Clone, Copy)]
pub(super) struct LongShape(Nullness);

impl LongShape {
    pub(super) fn new(field: &Field) -> Result<Self> {
        match split_null(&field.node)? {
            (null, Node::Int | Node::Long | Node::Null) => Ok(Self(null)),
            _ => Err(unexpected(field)),
        }
    }

    #[inline]
    pub(super) fn read(self, cursor: &mut Cursor<'_>) -> Result<Option<i64>> {
        if self.0.has_value(cursor)? { cursor.long().map(Some) } else { Ok(None) }
    }
}

/// A boolean, possibly absent.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoolShape(Nullness);

impl BoolShape {
    pub(super) fn new(field: &Field) -> Result<Self> {
        match split_null(&field.node)? {
            (null, Node::Boolean | Node::Null) => Ok(Self(null)),
            _ => Err(unexpected(field)),
        }
    }

    pub(super) fn read(self, cursor: &mut Cursor<'_>) -> Result<Option<bool>> {
        if self.0.has_value(cursor)? { cursor.boolean().map(Some) } else { Ok(None) }
    }
}

/// Bytes or text, possibly absent.
#[derive(Debug, Clone, Copy)]
pub(super) struct BytesShape {
    null: Nullness,
    fixed: Option<usize>,
}

impl BytesShape {
    pub(super) fn new(field: &Field) -> Result<Self> {
        match split_null(&field.node)? {
            (null, Node::Bytes(_) | Node::String(_) | Node::Null) => Ok(Self { null, fixed: None }),
            (null, Node::Fixed(size, _)) => Ok(Self { null, fixed: Some(*size) }),
            _ => Err(unexpected(field)),
        }
    }

    #[inline]
    pub(super) fn read<'a>(self, cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>> {
        if !self.null.has_value(cursor)? {
            return Ok(None);
        }
        match self.fixed {
            None => cursor.bytes().map(Some),
            Some(size) => cursor.take(size).map(Some),
        }
    }

    pub(super) fn read_text<'a>(self, cursor: &mut Cursor<'a>) -> Result<Option<&'a str>> {
        self.read(cursor)?
            .map(|bytes| {
                std::str::from_utf8(bytes)
                    .map_err(|e| Error::corrupt("Avro string is not UTF-8").with_source(e))
            })
            .transpose()
    }
}

/// A list of numbers, possibly absent.
#[derive(Debug, Clone, Copy)]
pub(super) struct LongsShape {
    null: Nullness,
    item: Nullness,
}

impl LongsShape {
    pub(super) fn new(field: &Field) -> Result<Self> {
        match split_null(&field.node)? {
            (null, Node::Array(item)) => match split_null(item)? {
                (item, Node::Int | Node::Long) => Ok(Self { null, item }),
                _ => Err(unexpected(field)),
            },
            (null, Node::Null) => Ok(Self { null, item: Nullness::Required }),
            _ => Err(unexpected(field)),
        }
    }

    pub(super) fn read(self, cursor: &mut Cursor<'_>) -> Result<Option<Vec<i64>>> {
        if !self.null.has_value(cursor)? {
            return Ok(None);
        }
        let mut values = Vec::new();
        loop {
            let count = cursor.item_count()?;
            if count == 0 {
                return Ok(Some(values));
            }
            values.reserve(count.min(1024)); // the count is only claimed
            for _ in 0..count {
                if self.item.has_value(cursor)? {
                    values.push(cursor.long()?);
                }
            }
        }
    }
}

/// A map from field id to a value, written as an array of key-value records.
#[derive(Debug, Clone, Copy)]
pub(super) struct PairsShape {
    null: Nullness,
    value: Nullness,
    value_first: bool,
}

impl PairsShape {
    /// `is_value` says which shapes the values may have.
    pub(super) fn new(
        schema: &Schema,
        field: &Field,
        is_value: impl Fn(&Node) -> bool,
    ) -> Result<Self> {
        let (null, node) = split_null(&field.node)?;
        let Node::Array(item) = node else {
            return match node {
                Node::Null => Ok(Self { null, value: Nullness::Required, value_first: false }),
                _ => Err(unexpected(field)),
            };
        };
        let Node::Record(id) = **item else { return Err(unexpected(field)) };
        let [first, second] = schema.fields(id) else { return Err(unexpected(field)) };
        let value_first = second.name == "key";
        let (key, value) = if value_first { (second, first) } else { (first, second) };
        let (optional, value) = split_null(&value.node)?;
        if !matches!(key.node, Node::Int | Node::Long) || !is_value(value) {
            return Err(unexpected(field));
        }
        Ok(Self { null, value: optional, value_first })
    }

    /// Calls `read_value` with the key of every pair that has a value.
    #[inline]
    pub(super) fn read<'a, V>(
        self,
        cursor: &mut Cursor<'a>,
        read_value: impl Fn(&mut Cursor<'a>) -> Result<V>,
        mut each: impl FnMut(i32, V),
    ) -> Result<()> {
        if !self.null.has_value(cursor)? {
            return Ok(());
        }
        let value = |cursor: &mut Cursor<'a>| -> Result<Option<V>> {
            if self.value.has_value(cursor)? { read_value(cursor).map(Some) } else { Ok(None) }
        };
        loop {
            let count = cursor.item_count()?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                let (key, value) = if self.value_first {
                    let value = value(cursor)?;
                    (cursor.int()?, value)
                } else {
                    (cursor.int()?, value(cursor)?)
                };
                if let Some(value) = value {
                    each(key, value);
                }
            }
        }
    }
}

/// The error of a field whose type is not what the format says.
pub(super) fn unexpected(field: &Field) -> Error {
    Error::corrupt("Avro field has an unexpected type").with_context("field", &field.name)
}

/// Finds what a field is for: by id, else by one of the names it may carry.
pub(super) fn identify<T: Copy>(field: &Field, known: &[(i32, &[&str], T)]) -> Option<T> {
    match field.id {
        Some(id) => known.iter().find(|(known, _, _)| *known == id),
        None => known.iter().find(|(_, names, _)| names.contains(&field.name.as_str())),
    }
    .map(|(_, _, target)| *target)
}

/// The fields of a node that must be a record.
pub(super) fn record_fields<'a>(schema: &'a Schema, node: &Node) -> Result<&'a [Field]> {
    match node {
        Node::Record(id) => Ok(schema.fields(*id)),
        _ => Err(Error::corrupt("Avro schema has something else where a record belongs")),
    }
}
