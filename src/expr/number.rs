//! Exact decimal numbers as text, and where they fall among the values of a column.
//!
//! `id < 99999999999` on an `int` column and `id > 1.5` are fine questions. A number is split
//! into digits and an exponent, so that it is never rounded before it is compared.

use crate::error::{Error, Result};

/// Where a number falls among the multiples of `10^-scale` between two limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The number is this multiple.
    At(i128),
    /// Strictly between this multiple and the next.
    JustAbove(i128),
    /// Below the lowest value.
    BelowAll,
    /// Above the highest value.
    AboveAll,
}

/// A decimal number: `digits × 10^exponent`, negated or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Number {
    negative: bool,
    /// Significant digits without leading zeros; empty is zero.
    digits: String,
    exponent: i64,
}

impl Number {
    /// Reads `-12.50e3` and the like; `None` if the text is not a number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            None => (text, 0),
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let fraction_len = i64::try_from(fraction.len()).ok()?;
        let digits = format!("{whole}{fraction}").trim_start_matches('0').to_string();
        Some(Self { negative, digits, exponent: exponent.saturating_sub(fraction_len) })
    }

    /// The number `unscaled × 10^-scale`.
    pub(super) fn from_unscaled(unscaled: i128, scale: u32) -> Self {
        let digits = unscaled.unsigned_abs().to_string();
        let digits = digits.trim_start_matches('0').to_string();
        Self { negative: unscaled < 0, digits, exponent: -i64::from(scale) }
    }

    /// Finds the number among the multiples of `10^-scale` in `[min, max]` (given unscaled).
    pub(super) fn place(&self, scale: u32, min: i128, max: i128) -> Place {
        let beyond = if self.negative { Place::BelowAll } else { Place::AboveAll };
        if self.digits.is_empty() {
            return within(0, true, min, max);
        }
        let shift = self.exponent.saturating_add(i64::from(scale));
        let length = i64::try_from(self.digits.len()).unwrap_or(i64::MAX);
        if length.saturating_add(shift) > 39 {
            return beyond;
        }
        let (kept, exact) = if shift >= 0 {
            let zeros = usize::try_from(shift).unwrap_or(0);
            (format!("{}{}", self.digits, "0".repeat(zeros)), true)
        } else {
            let cut = usize::try_from(length.saturating_add(shift)).unwrap_or(0);
            let (kept, rest) = self.digits.split_at(cut.min(self.digits.len()));
            (kept.to_string(), rest.bytes().all(|b| b == b'0'))
        };
        let Ok(magnitude) = (if kept.is_empty() { Ok(0) } else { kept.parse::<i128>() }) else {
            return beyond;
        };
        let floor = match (self.negative, exact) {
            (false, _) => magnitude,
            (true, true) => -magnitude,
            (true, false) => (-magnitude).saturating_sub(1),
        };
        within(floor, exact, min, max)
    }
}

fn within(floor: i128, exact: bool, min: i128, max: i128) -> Place {
    match (floor, exact) {
        (f, _) if f < min => Place::BelowAll,
        (f, true) if f > max => Place::AboveAll,
        (f, false) if f >= max => Place::AboveAll,
        (f, true) => Place::At(f),
        (f, false) => Place::JustAbove(f),
    }
}

/// The number `text` as a multiple of `10^-scale` within `[min, max]`; `None` if it is none of
/// them exactly.
pub(crate) fn exact_number(text: &str, scale: u32, min: i128, max: i128) -> Option<i128> {
    match Number::parse(text)?.place(scale, min, max) {
        Place::At(value) => Some(value),
        _ => None,
    }
}

fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let magnitude = digits.parse::<i64>().unwrap_or(i64::MAX / 4);
    Some(if text.starts_with('-') { -magnitude } else { magnitude })
}

/// The largest unscaled value of a decimal of `precision` digits.
pub(super) fn decimal_limit(precision: u32) -> Result<i128> {
    10i128
        .checked_pow(precision)
        .map(|p| p - 1)
        .ok_or_else(|| Error::invalid(format!("decimal precision {precision} is above 38")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, scale: u32, limit: i128) -> Place {
        Number::parse(text).unwrap().place(scale, -limit - 1, limit)
    }

    #[test]
    fn a_number_falls_on_between_or_beyond_the_values_of_a_column() {
        assert_eq!(place("5", 0, 100), Place::At(5));
        assert_eq!(place("-5", 0, 100), Place::At(-5));
        assert_eq!(place("5.0", 0, 100), Place::At(5));
        assert_eq!(place("5.5", 0, 100), Place::JustAbove(5));
        assert_eq!(place("-5.5", 0, 100), Place::JustAbove(-6));
        assert_eq!(place("0.1", 0, 100), Place::JustAbove(0));
        assert_eq!(place("-0.1", 0, 100), Place::JustAbove(-1));
        assert_eq!(place("101", 0, 100), Place::AboveAll);
        assert_eq!(place("100.5", 0, 100), Place::AboveAll);
        assert_eq!(place("-101", 0, 100), Place::At(-101));
        assert_eq!(place("-101.5", 0, 100), Place::BelowAll);
        assert_eq!(place("1.5e1", 0, 100), Place::At(15));
        assert_eq!(place("15e-1", 1, 100), Place::At(15));
        assert_eq!(place("1e-400", 0, 100), Place::JustAbove(0));
        assert_eq!(place("-1e400", 0, 100), Place::BelowAll);
        assert_eq!(place("1e99999999999999999999", 0, 100), Place::AboveAll);
        assert_eq!(place("12.345", 2, 100_000), Place::JustAbove(1234));
        assert_eq!(place("0", 38, 100), Place::At(0));
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        for text in ["", ".", "-", "1.2.3", "1e", "e5", "0x10", "NaN", "1 2", "١"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }
}
