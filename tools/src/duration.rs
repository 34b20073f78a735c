//! Durations on the command line: a number and its unit, such as `10s`, `250ms` or `1m 30s`. Knows nothing of clocks.

use std::time::Duration;

/// Timeouts travel as milliseconds in 32 bits.
const TIMEOUT_MAX: Duration = Duration::from_secs(49 * 86_400);

/// Reads a duration: a number with its unit (`us`, `ms`, `s`, `m`, `h`), or several such added up.
///
/// # Errors
/// A sentence for the command line, naming the text and an example.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("a duration needs its unit: {text}ms or {text}s?"));
    }
    let refused = || format!("'{text}' is no duration; write a number and its unit, such as 250ms, 10s or '1m 30s'");
    let signed: jiff::SignedDuration = text.parse().map_err(|_| refused())?;
    Duration::try_from(signed).map_err(|_| refused())
}

/// Reads how long something may take: a duration that is neither nothing nor beyond what the protocol can say.
///
/// # Errors
/// As [`parse_duration`], and beyond these bounds.
pub fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        duration if duration < Duration::from_millis(1) => Err("nothing is done in no time; the least is 1ms".into()),
        duration if duration > TIMEOUT_MAX => Err(format!("'{text}' is too long; the limit is 1176h")),
        duration => Ok(duration),
    }
}

/// A duration for people: `850 ms`, `12.3 s`, `4m 05s`, `3h 12m`, `2d 4h`.
#[must_use]
pub fn display_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// For how long something has been so: by the millisecond where that tells something, else in whole seconds.
#[must_use]
pub fn display_millis(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { format!("{} s", ms / 1_000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_durations() {
        for (text, expected) in [
            ("10s", Duration::from_secs(10)),
            ("250ms", Duration::from_millis(250)),
            ("500us", Duration::from_micros(500)),
            ("1m 30s", Duration::from_secs(90)),
            ("1m30s", Duration::from_secs(90)),
            ("2h", Duration::from_secs(7200)),
            ("0", Duration::ZERO),
            ("0ms", Duration::ZERO),
        ] {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        assert_eq!(parse_duration("10"), Err("a duration needs its unit: 10ms or 10s?".into()));
        for text in ["", "s", "-5s", "ten seconds", "5 parsecs"] {
            assert!(parse_duration(text).unwrap_err().contains("such as 250ms"), "{text}");
        }
    }

    #[test]
    fn a_timeout_leaves_time_for_something() {
        assert_eq!(parse_timeout("250ms"), Ok(Duration::from_millis(250)));
        for text in ["0", "0s", "500us"] {
            assert!(parse_timeout(text).unwrap_err().contains("the least is 1ms"), "{text}");
        }
        assert!(parse_timeout("1177h").unwrap_err().contains("1176h"));
        assert!(parse_timeout("5").unwrap_err().contains("5ms or 5s"));
    }

    #[test]
    fn durations_read_well() {
        for (millis, expected) in
            [(850, "850 ms"), (12_340, "12.3 s"), (245_000, "4m 05s"), (11_520_000, "3h 12m"), (187_200_000, "2d 4h")]
        {
            assert_eq!(display_duration(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn what_has_lasted_is_told_in_one_unit() {
        let told = [0, 9_999, 10_000, 61_999].map(display_millis);
        assert_eq!(told, ["0 ms", "9999 ms", "10 s", "61 s"]);
    }
}
