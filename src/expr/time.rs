//! Dates, times and timestamps as text, and the calendar that partition transforms use.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

const MICROS_PER_DAY: i64 = 86_400_000_000;
const MICROS_PER_HOUR: i64 = 3_600_000_000;

/// Days since 1970-01-01 of `YYYY-MM-DD`.
pub(super) fn parse_date(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d").ok()?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

/// Microseconds since midnight of `HH:MM[:SS[.ffffff]]`. More digits than six are refused.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let text = text.trim();
    let time = NaiveTime::parse_from_str(text, "%H:%M:%S%.f")
        .or_else(|_| NaiveTime::parse_from_str(text, "%H:%M"))
        .ok()?;
    let nanos = time.nanosecond();
    // chrono writes a leap second as a nanosecond past one billion; Iceberg has no such time.
    if nanos % 1000 != 0 || nanos >= 1_000_000_000 {
        return None;
    }
    Some(i64::from(time.num_seconds_from_midnight()) * 1_000_000 + i64::from(nanos / 1000))
}

/// A timestamp in text: its microseconds, and whether it named a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ParsedTimestamp {
    /// Microseconds since the epoch; in UTC if a zone was named.
    pub(super) micros: i64,
    pub(super) zoned: bool,
}

/// Reads `YYYY-MM-DD[(T| )HH:MM[:SS[.ffffff]][Z|±HH:MM]]`; a date alone is its midnight.
pub(super) fn parse_timestamp(text: &str) -> Option<ParsedTimestamp> {
    let text = text.trim();
    if let Some(days) = parse_date(text) {
        let micros = i64::from(days).checked_mul(MICROS_PER_DAY)?;
        return Some(ParsedTimestamp { micros, zoned: false });
    }
    let at = text.find(['T', 't', ' '])?;
    let days = parse_date(text.get(..at)?)?;
    let rest = text.get(at + 1..)?.trim();
    let (clock, offset_micros, zoned) = split_zone(rest)?;
    let micros = i64::from(days).checked_mul(MICROS_PER_DAY)?.checked_add(parse_time(clock)?)?;
    Some(ParsedTimestamp { micros: micros.checked_sub(offset_micros)?, zoned })
}

fn split_zone(text: &str) -> Option<(&str, i64, bool)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock.trim_end(), 0, true));
    }
    let Some(at) = text.rfind(['+', '-']) else { return Some((text, 0, false)) };
    let (clock, zone) = text.split_at(at);
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits: String = zone.get(1..)?.chars().filter(|c| *c != ':').collect();
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = match digits.len() {
        2 => (digits.parse::<i64>().ok()?, 0),
        4 => (digits.get(..2)?.parse::<i64>().ok()?, digits.get(2..)?.parse::<i64>().ok()?),
        _ => return None,
    };
    if hours > 18 || minutes > 59 {
        return None;
    }
    Some((clock.trim_end(), sign * (hours * 60 + minutes) * 60_000_000, true))
}

/// `1970-01-31` for a number of days, as messages show it.
pub(super) fn day_of_micros(micros: i64) -> i64 {
    micros.div_euclid(MICROS_PER_DAY)
}

/// Hours since the epoch, rounded down (also before 1970).
pub(super) fn hour_of_micros(micros: i64) -> i64 {
    micros.div_euclid(MICROS_PER_HOUR)
}

/// Months since 1970-01 of a day, rounded down; years are `div_euclid(12)` of it.
///
/// Proleptic Gregorian calendar in plain arithmetic: correct for every day an `i64` of
/// microseconds or an `i32` of days can name, where library dates give up.
pub(super) fn month_of_day(day: i64) -> i64 {
    // Count from 0000-03-01, so that the leap day is the last day of a year; 400 years repeat.
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let months_since_0000 = (era * 400 + year_of_era) * 12 + month_from_march + 2;
    months_since_0000 - 1970 * 12
}

/// True if text names a point in time that neither form above reads, such as nanoseconds.
pub(super) fn looks_like_timestamp(text: &str) -> bool {
    DateTime::parse_from_rfc3339(text.trim()).is_ok()
        || NaiveDateTime::parse_from_str(text.trim(), "%Y-%m-%d %H:%M:%S%.f").is_ok()
}

#[cfg(test)]
mod tests {
    use chrono::Datelike;

    use super::*;

    #[test]
    fn months_agree_with_a_library_calendar() {
        for day in (-800_000..800_000).step_by(13) {
            let date = NaiveDate::default() + chrono::Duration::days(day);
            let expected = (i64::from(date.year()) - 1970) * 12 + i64::from(date.month0());
            assert_eq!(month_of_day(day), expected, "{date}");
        }
    }

    #[test]
    fn timestamps_are_read_in_every_usual_form() {
        let read = |text: &str| parse_timestamp(text).map(|t| (t.micros, t.zoned));
        assert_eq!(read("1970-01-02"), Some((MICROS_PER_DAY, false)));
        assert_eq!(read("1970-01-01T00:00:01.5"), Some((1_500_000, false)));
        assert_eq!(read("1970-01-01 01:00"), Some((MICROS_PER_HOUR, false)));
        assert_eq!(read("1970-01-01 01:00:00Z"), Some((MICROS_PER_HOUR, true)));
        assert_eq!(read("1970-01-01T01:00:00+01:00"), Some((0, true)));
        assert_eq!(read("1969-12-31T23:00:00-0100"), Some((0, true)));
        assert_eq!(read("1970-01-01T00:00:00.0000001"), None);
        assert_eq!(read("1970-13-01"), None);
        assert_eq!(read("yesterday"), None);
        assert_eq!(read("1970-01-01T00:00:60"), None);
    }
}
