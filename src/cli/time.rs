//! A time as it is typed.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// A time in milliseconds since 1970: itself by RFC 3339, or how long ago it is.
pub(super) fn time(text: &str) -> Result<i64, String> {
    let time = match text.parse::<Span>() {
        Ok(ago) => {
            let now = Timestamp::now().to_zoned(TimeZone::UTC);
            now.checked_sub(ago.abs()).map(|time| time.timestamp())
        }
        Err(_) => text.parse(),
    };
    let time = time
        .map_err(|_| "a time such as 2026-01-31T12:00:00Z, nor how long ago, such as 90m or 7d");
    Ok(time?.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_itself_or_how_long_ago_it_is() {
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(1_000));
        for (text, ms) in [
            ("90m", 5_400_000),
            ("-2h", 7_200_000),
            ("1h 30m", 5_400_000),
            ("7d", 604_800_000),
            ("-1w", 604_800_000),
        ] {
            let now = Timestamp::now().as_millisecond();
            let found = time(text).unwrap();
            assert!((now - ms..now - ms + 60_000).contains(&found), "{text}");
        }
        for bad in ["", "d", "yesterday", "90", "2026-01-31", "99999999d"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
