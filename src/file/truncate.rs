//! Bounds cut to a length: a lower bound that is not above the value, an upper bound that is
//! not below it, or none.
//!
//! Pure. Text is counted in code points, bytes in bytes.
//!
//! # Source
//! Iceberg spec v2, "Manifests", notes on `lower_bounds` and `upper_bounds`; lengths as the
//! reference implementation's `truncate(16)` metrics mode.

/// The longest prefix of `length` code points: never above `text` (FIL-2).
pub(crate) fn text_lower(text: &str, length: usize) -> &str {
    match text.char_indices().nth(length) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// The smallest text of at most `length` code points that we can name and that is not below
/// `text` or anything that starts like it (FIL-2). `None` when every code point is the last one.
pub(crate) fn text_upper(text: &str, length: usize) -> Option<String> {
    let prefix = text_lower(text, length);
    if prefix.len() == text.len() {
        return Some(text.to_string());
    }
    let mut points: Vec<char> = prefix.chars().collect();
    while let Some(last) = points.pop() {
        if let Some(next) = next_code_point(last) {
            points.push(next);
            return Some(points.into_iter().collect());
        }
    }
    None
}

/// The code point after `point`, over the surrogates; `None` after the last one.
fn next_code_point(point: char) -> Option<char> {
    match point {
        '\u{D7FF}' => Some('\u{E000}'),
        char::MAX => None,
        point => char::from_u32(point as u32 + 1),
    }
}

/// The first `length` bytes: never above `bytes` (FIL-2).
pub(crate) fn bytes_lower(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(..length).unwrap_or(bytes)
}

/// At most `length` bytes that are not below `bytes` or anything that starts like it (FIL-2).
/// `None` when every byte is 255.
pub(crate) fn bytes_upper(bytes: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut prefix = bytes_lower(bytes, length).to_vec();
    if prefix.len() == bytes.len() {
        return Some(prefix);
    }
    while let Some(last) = prefix.pop() {
        if let Some(next) = last.checked_add(1) {
            prefix.push(next);
            return Some(prefix);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_bounds_follow_the_truth_table() {
        // text, length, lower, upper
        let table: &[(&str, usize, &str, Option<&str>)] = &[
            ("", 2, "", Some("")),
            ("ab", 2, "ab", Some("ab")),
            ("abc", 2, "ab", Some("ac")),
            ("a\u{10FFFF}c", 2, "a\u{10FFFF}", Some("b")),
            ("\u{10FFFF}\u{10FFFF}c", 2, "\u{10FFFF}\u{10FFFF}", None),
            ("a\u{D7FF}c", 2, "a\u{D7FF}", Some("a\u{E000}")),
            ("\u{1F600}\u{1F600}x", 2, "\u{1F600}\u{1F600}", Some("\u{1F600}\u{1F601}")),
            ("\u{1F600}\u{1F600}", 2, "\u{1F600}\u{1F600}", Some("\u{1F600}\u{1F600}")),
            ("a\u{7F}c", 2, "a\u{7F}", Some("a\u{80}")),
        ];
        for (text, length, lower, upper) in table {
            assert_eq!(text_lower(text, *length), *lower, "{text:?}");
            assert_eq!(text_upper(text, *length).as_deref(), *upper, "{text:?}");
        }
    }

    #[test]
    fn byte_bounds_follow_the_truth_table() {
        type Row<'a> = (&'a [u8], usize, &'a [u8], Option<&'a [u8]>);
        let table: &[Row<'_>] = &[
            (&[], 2, &[], Some(&[])),
            (&[1, 2], 2, &[1, 2], Some(&[1, 2])),
            (&[1, 2, 3], 2, &[1, 2], Some(&[1, 3])),
            (&[1, 255, 3], 2, &[1, 255], Some(&[2])),
            (&[255, 255, 3], 2, &[255, 255], None),
            (&[255, 255], 2, &[255, 255], Some(&[255, 255])),
        ];
        for (bytes, length, lower, upper) in table {
            assert_eq!(bytes_lower(bytes, *length), *lower);
            assert_eq!(bytes_upper(bytes, *length).as_deref(), *upper);
        }
    }

    proptest! {
        #[test]
        fn a_cut_bound_still_bounds(text in "\\PC{0,8}", length in 1usize..6) {
            prop_assert!(text_lower(&text, length) <= text.as_str());
            if let Some(upper) = text_upper(&text, length) {
                prop_assert!(upper.as_str() >= text.as_str());
                prop_assert!(upper.chars().count() <= length.max(text.chars().count()));
            }
        }
    }
}
