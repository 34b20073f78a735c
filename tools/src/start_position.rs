//! Where reading starts, as the command line says it: `beginning`, `end`, `offset:N` or `time:RFC3339`. Knows nothing of partitions.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;
use tidelog_protocol::{Offset, Timestamp};

/// Where reading starts, in every partition alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartPosition {
    /// At the first record that is still there.
    Beginning,
    /// Behind the last record: only what arrives from now on.
    End,
    /// At this offset.
    Offset(Offset),
    /// At the first record whose timestamp is this or later.
    Time(Timestamp),
}

impl FromStr for StartPosition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "beginning" => Ok(Self::Beginning),
            None if text == "end" => Ok(Self::End),
            Some(("offset", number)) => parse_offset(number).map(Self::Offset),
            Some(("time", time)) => parse_time(time).map(Self::Time),
            _ => Err("write beginning, end, offset:N or time:RFC3339 (such as time:2026-01-31T12:00:00Z)".into()),
        }
    }
}

impl fmt::Display for StartPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => f.write_str("beginning"),
            Self::End => f.write_str("end"),
            Self::Offset(offset) => write!(f, "offset:{offset}"),
            Self::Time(time) => write!(f, "time:{}", display_time(*time)),
        }
    }
}

/// Reads an offset.
///
/// # Errors
/// A sentence for the command line.
pub fn parse_offset(text: &str) -> Result<Offset, String> {
    match text.parse::<u64>() {
        Ok(number) if Offset(number) <= Offset::MAX => Ok(Offset(number)),
        _ => Err(format!("'{text}' is no offset; offsets are whole numbers from 0 to {}", Offset::MAX)),
    }
}

/// Reads a point in time: RFC 3339 with its time zone.
///
/// # Errors
/// A sentence for the command line, with an example.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    // By its pieces: records may be of times up to the end of the year 9999 in UTC, and jiff's own timestamps end a day before.
    let millis = || {
        let pieces = Pieces::parse(text).ok()?;
        let offset = pieces.to_numeric_offset()?;
        let since = pieces.date().to_datetime(pieces.time()?).duration_since(EPOCH).as_millis();
        i64::try_from(since - i128::from(offset.seconds()) * 1_000).ok()
    };
    let millis = millis().ok_or_else(|| {
        format!("'{text}' is no RFC 3339 time; write 2026-01-31T12:00:00Z or 2026-01-31T12:00:00+01:00")
    })?;
    Ok(Timestamp(millis))
}

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// A timestamp for people: RFC 3339 in UTC with milliseconds; `-` where there is none.
#[must_use]
pub fn display_time(timestamp: Timestamp) -> String {
    match EPOCH.checked_add(SignedDuration::from_millis(timestamp.0)) {
        Ok(time) if timestamp != Timestamp::NONE => format!("{time:.3}Z"),
        _ => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood() {
        assert_eq!("beginning".parse(), Ok(StartPosition::Beginning));
        assert_eq!("end".parse(), Ok(StartPosition::End));
        assert_eq!("offset:42".parse(), Ok(StartPosition::Offset(Offset(42))));
        assert_eq!("time:1970-01-01T00:00:01Z".parse(), Ok(StartPosition::Time(Timestamp(1000))));
        assert_eq!("time:1969-12-31T18:29:59.5-05:30".parse(), Ok(StartPosition::Time(Timestamp(-500))));
        assert_eq!("time:1970-01-01T01:00:01.5+01:00".parse(), Ok(StartPosition::Time(Timestamp(1500))));
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        for text in [
            "beginning",
            "end",
            "offset:7",
            "time:2026-01-31T12:00:00.250Z",
            "time:0001-01-01T00:00:00.000Z",
            "time:9999-12-31T23:59:59.999Z",
        ] {
            assert_eq!(text.parse::<StartPosition>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_forms_are_refused_with_the_forms_there_are() {
        for text in ["", "earliest", "42", "begin"] {
            assert!(text.parse::<StartPosition>().unwrap_err().contains("beginning, end, offset:N"), "{text}");
        }
        assert!("offset:-1".parse::<StartPosition>().unwrap_err().contains("whole numbers from 0"));
        let refused = "offset:18446744073709551615".parse::<StartPosition>().unwrap_err();
        assert!(refused.ends_with("from 0 to 9223372036854775807"), "{refused}");
        assert!("time:yesterday".parse::<StartPosition>().unwrap_err().contains("2026-01-31T12:00:00Z"));
        assert!("time:2026-01-31".parse::<StartPosition>().is_err());
    }
}
