//! Points in time as a person writes them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};

use super::failure::{Failure, Outcome};
use crate::clock::{Clock, SystemClock};

/// Milliseconds since the epoch for `2026-01-31T12:00:00Z`, `2026-01-31 12:00` (UTC),
/// `2026-01-31` (its beginning, UTC), `1h ago`, or a number of milliseconds.
pub(super) fn time_ms(text: &str) -> Outcome<i64> {
    let text = text.trim();
    if let Some(ago) = text.strip_suffix("ago") {
        let back = humantime::parse_duration(ago.trim())
            .map_err(|e| Failure::Usage(format!("`{text}`: {e}; write such as `90min ago`")))?;
        let back = i64::try_from(back.as_millis()).unwrap_or(i64::MAX);
        return Ok(SystemClock.now_ms().saturating_sub(back));
    }
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(millis);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    for form in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
    {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, form) {
            return Ok(time.and_utc().timestamp_millis());
        }
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(date.and_time(NaiveTime::MIN).and_utc().timestamp_millis());
    }
    Err(Failure::Usage(format!(
        "`{text}` is no time; write such as 2026-01-31T12:00:00Z, 2026-01-31 or `90min ago`"
    )))
}

/// `2026-01-31T12:00:00.123Z`.
pub(super) fn show_ms(millis: i64) -> String {
    match DateTime::from_timestamp_millis(millis) {
        Some(time) => time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        None => millis.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_forms_people_write() {
        for text in [
            "2013-01-01T10:00:00Z",
            "2013-01-01 10:00",
            "2013-01-01T05:00:00-05:00",
            "1357034400000",
        ] {
            assert_eq!(time_ms(text).unwrap(), 1_357_034_400_000, "{text}");
        }
        assert_eq!(time_ms("2013-01-01").unwrap(), 1_356_998_400_000);
        assert!(time_ms("2 days ago").unwrap() < SystemClock.now_ms());
        assert!(time_ms("yesterday").is_err());
    }
}
