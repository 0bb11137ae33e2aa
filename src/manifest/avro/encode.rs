//! Avro's binary encoding, the writing side.

/// A zig-zag number.
#[inline]
pub(in crate::manifest) fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes with their length in front.
#[inline]
pub(in crate::manifest) fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_long(out, value.len() as i64);
    out.extend_from_slice(value);
}

/// UTF-8 with its length in front.
#[inline]
pub(in crate::manifest) fn put_string(out: &mut Vec<u8>, value: &str) {
    put_bytes(out, value.as_bytes());
}

/// One byte.
pub(in crate::manifest) fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(u8::from(value));
}
