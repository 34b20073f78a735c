//! Identifiers, each its own type, so that an offset cannot be passed where an epoch is meant.
//! Knows nothing of what they identify.

use core::fmt;
use core::str::FromStr;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        #[repr(transparent)]
        pub struct $name(pub $raw);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Position of a record in its partition, from 0, without gaps at append. Never above [`Offset::MAX`], because
    /// record batches carry it as a signed 64-bit number.
    Offset(u64)
}

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Self = Self(0);
    /// The largest offset a batch can carry (2⁶³ − 1).
    pub const MAX: Self = Self(i64::MAX as u64);

    /// The offset `records` later; saturates at [`Offset::MAX`].
    #[must_use]
    pub const fn plus(self, records: u64) -> Self {
        let sum = self.0.saturating_add(records);
        if sum > Self::MAX.0 { Self::MAX } else { Self(sum) }
    }

    /// How many offsets lie from `earlier` (inclusive) up to here (exclusive); 0 where `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// From the signed form that batches carry; `None` for a negative number.
    #[must_use]
    pub const fn from_signed(raw: i64) -> Option<Self> {
        if raw < 0 { None } else { Some(Self(raw as u64)) }
    }

    /// The signed form that batches carry.
    #[must_use]
    pub const fn signed(self) -> i64 {
        self.0 as i64
    }
}

number! {
    /// Which leadership of a partition wrote a batch; grows by one at every change of leader (KIP-101).
    LeaderEpoch(u32)
}

impl LeaderEpoch {
    /// The signed form that batches carry.
    #[must_use]
    pub const fn signed(self) -> i32 {
        self.0 as i32
    }

    /// From the signed form that batches carry; `None` for a negative number ("no epoch").
    #[must_use]
    pub const fn from_signed(raw: i32) -> Option<Self> {
        if raw < 0 { None } else { Some(Self(raw as u32)) }
    }
}

number! {
    /// Version of a partition's in-sync set, for compare-and-set at the controller (KIP-497).
    PartitionEpoch(u32)
}
number! {
    /// Index of a partition within its topic, from 0.
    PartitionId(u32)
}
number! {
    /// A broker of the cluster.
    BrokerId(u32)
}
number! {
    /// One registration of a broker; a restarted broker gets a new one.
    BrokerEpoch(u64)
}
number! {
    /// A number that a broker draws, notes in its data folder and then tells the cluster: a folder that does not know the last one of its broker is
    /// an older copy.
    FolderStamp(u64)
}
number! {
    /// One controller's time in office; grows by one each time a broker begins to lead the metadata quorum.
    ControllerEpoch(u64)
}
number! {
    /// Position of a record in the metadata log; an image is the metadata as of one index.
    MetadataIndex(u64)
}
number! {
    /// A producer as the log knows it; −1 in a batch means "not idempotent".
    ProducerId(i64)
}
number! {
    /// Which incarnation of a producer id wrote; older ones are fenced. −1 means "none".
    ProducerEpoch(i16)
}
number! {
    /// Number of a record within one producer's writes to one partition; wraps at 2³¹. −1 means "none".
    Sequence(i32)
}
number! {
    /// Milliseconds since 1970-01-01 UTC; −1 means "none".
    Timestamp(i64)
}
number! {
    /// Milliseconds of a clock that never jumps, from an arbitrary start. Compare only readings of the same process.
    Monotonic(u64)
}
number! {
    /// Matches an answer, or the items of a stream, to the request that asked. Chosen by the client, per connection.
    CorrelationId(u64)
}

impl Monotonic {
    /// The reading `ms` milliseconds later; saturates.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here; 0 where `earlier` is not earlier.
    #[must_use]
    pub const fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl ProducerId {
    /// The producer is not idempotent.
    pub const NONE: Self = Self(-1);
}
impl ProducerEpoch {
    /// The producer is not idempotent.
    pub const NONE: Self = Self(-1);
}
impl Sequence {
    /// The producer is not idempotent.
    pub const NONE: Self = Self(-1);
}
impl Timestamp {
    /// No timestamp is known.
    pub const NONE: Self = Self(-1);
    /// The earliest that a producer may send: the beginning of year 1.
    pub const EARLIEST: Self = Self(-62_135_596_800_000);
    /// The latest that a producer may send: the last millisecond of year 9999. One beyond every clock would keep its segment, and all after
    /// it, from ever growing old.
    pub const LATEST: Self = Self(253_402_300_799_999);
}

macro_rules! sixteen_bytes {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            /// The usual 8-4-4-4-12 form of a UUID.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for (i, byte) in self.0.iter().enumerate() {
                    if matches!(i, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = MalformedId;

            fn from_str(text: &str) -> Result<Self, MalformedId> {
                let mut bytes = [0u8; 16];
                let mut digits = text.bytes().filter(|b| *b != b'-');
                for byte in &mut bytes {
                    let (Some(high), Some(low)) = (digits.next().and_then(hex), digits.next().and_then(hex)) else {
                        return Err(MalformedId);
                    };
                    *byte = high << 4 | low;
                }
                if digits.next().is_some() { Err(MalformedId) } else { Ok(Self(bytes)) }
            }
        }
    };
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

/// The text is not 32 hexadecimal digits, with or without hyphens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not an id: expected 32 hexadecimal digits, with or without hyphens")]
pub struct MalformedId;

sixteen_bytes! {
    /// Identity of a topic. A deleted and re-created topic of the same name has a new one.
    TopicId
}
sixteen_bytes! {
    /// Identity of a cluster, chosen when its first broker formats its data folder.
    ClusterId
}
sixteen_bytes! {
    /// Identity of one life of a data folder; a wiped disk is a new incarnation.
    IncarnationId
}

/// A topic's name: 1 to 249 bytes of `[A-Za-z0-9._-]`, neither `.` nor `..`. Safe as part of a file name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Box<str>);

impl TopicName {
    /// The longest legal name, in bytes.
    pub const MAX_BYTES: usize = 249;

    /// Checks `name` against the rules above.
    ///
    /// # Errors
    /// [`InvalidTopicName`] says which rule was broken.
    pub fn new(name: &str) -> Result<Self, InvalidTopicName> {
        if name.is_empty() {
            return Err(InvalidTopicName::Empty);
        }
        if name.len() > Self::MAX_BYTES {
            return Err(InvalidTopicName::TooLong { bytes: name.len() });
        }
        if name == "." || name == ".." {
            return Err(InvalidTopicName::Dots);
        }
        match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            Some(found) => Err(InvalidTopicName::Character { found }),
            None => Ok(Self(name.into())),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl FromStr for TopicName {
    type Err = InvalidTopicName;

    fn from_str(name: &str) -> Result<Self, InvalidTopicName> {
        Self::new(name)
    }
}

impl core::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Why a topic name was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidTopicName {
    /// No bytes at all.
    #[error("a topic name must not be empty")]
    Empty,
    /// Over [`TopicName::MAX_BYTES`].
    #[error("a topic name may have 249 bytes at most, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// `.` or `..`, which mean folders.
    #[error("a topic must not be named '.' or '..'")]
    Dots,
    /// A character outside the legal set.
    #[error("a topic name may hold letters, digits, '.', '_' and '-' only, not {found:?}")]
    Character {
        /// The first such character.
        found: char,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_data_folder_are_refused() {
        for name in ["", ".", "..", "../x", "a/b", "a\\b", "a\0b", "a b", "ä"] {
            assert!(TopicName::new(name).is_err(), "{name:?}");
        }
        assert!(TopicName::new(&"a".repeat(249)).is_ok());
        assert!(TopicName::new(&"a".repeat(250)).is_err());
        assert!(TopicName::new("__cluster_metadata.v1-x").is_ok());
    }

    #[test]
    fn ids_print_as_uuids_and_parse_back() {
        let id = TopicId(*b"0123456789abcdef");
        assert_eq!(id.to_string(), "30313233-3435-3637-3839-616263646566");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("30".parse::<TopicId>().is_err());
    }

    #[test]
    fn offsets_never_leave_the_signed_range() {
        assert_eq!(Offset::MAX.plus(1), Offset::MAX);
        assert_eq!(Offset::from_signed(-1), None);
        assert_eq!(Offset(3).since(Offset(5)), 0);
    }
}
