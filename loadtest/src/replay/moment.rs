//! Reads the ways in which logs and tables write a moment; always UTC unless an offset is written.

use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// Unix microseconds of: a number (seconds, or by its size milli-, micro- or nanoseconds), RFC 3339 with `T` or a
/// blank, with or without an offset, or the access log's `10/Oct/2000:13:55:36 -0700`.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return of_number(number);
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp.as_microsecond());
    }
    if let Ok(zoned) = text.parse::<Zoned>() {
        return Some(zoned.timestamp().as_microsecond());
    }
    if let Ok(civil) = text.parse::<DateTime>() {
        return civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp().as_microsecond());
    }
    let logged = strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).ok()?;
    logged.to_timestamp().ok().map(Timestamp::as_microsecond)
}

/// Numbers up to 10^11 are seconds (to the year 5138), up to 10^14 milliseconds, to 10^17 microseconds, then
/// nanoseconds.
pub fn of_number(number: f64) -> Option<i64> {
    let us = match number {
        n if !(0.0..1e20).contains(&n) => return None,
        n if n < 1e11 => n * 1e6,
        n if n < 1e14 => n * 1e3,
        n if n < 1e17 => n,
        n => n / 1e3,
    };
    Some(us.round() as i64)
}

/// Unix microseconds for people: `2000-10-10 20:55:36 UTC`; `None` beyond the year 9999.
pub fn written(us: i64) -> Option<String> {
    let moment = Timestamp::from_microsecond(us).ok()?;
    Some(moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let text = written(971_211_336_000_000).unwrap();
        assert_eq!(text, "2000-10-10 20:55:36 UTC");
        assert_eq!(parse(text.trim_end_matches(" UTC")), Some(971_211_336_000_000));
        assert_eq!(written(i64::MAX), None);
    }

    #[test]
    fn one_moment_written_in_many_ways() {
        for text in [
            "971211336",
            "971211336.0",
            "971211336000",
            "971211336000000",
            "971211336000000000",
            "2000-10-10T20:55:36Z",
            "2000-10-10T13:55:36-07:00",
            "2000-10-10 20:55:36",
            "2000-10-10T20:55:36.000",
            "10/Oct/2000:13:55:36 -0700",
        ] {
            assert_eq!(parse(text), Some(971_211_336_000_000), "{text}");
        }
        for text in
            ["", "-", "tomorrow", "-5", "NaN", "inf", "10/Okt/2000:13:55:36 -0700", "2000-13-01 00:00:00"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
