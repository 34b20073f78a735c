//! A place in a partition: by offset, by time, or at an end.

use crate::ids::{Offset, Timestamp};
use crate::{message, wire_enum};

wire_enum! {
    /// How a position is meant.
    pub enum PositionKind {
        /// The first offset that can be read.
        0 Earliest,
        /// The high watermark: the next record that becomes readable.
        1 Latest,
        /// The first record whose timestamp is at or after `value` (milliseconds).
        2 Timestamp,
        /// The first record that carries the largest timestamp.
        3 MaxTimestamp,
        /// The offset `value`.
        4 Offset,
    }
}

message! {
    /// A place in a partition.
    pub struct Position {
        /// How it is meant.
        1 kind: PositionKind,
        /// A timestamp or an offset, where the kind needs one; else 0.
        1 value: i64,
    }
}

impl Position {
    /// The first offset that can be read.
    pub const EARLIEST: Self = Self { kind: PositionKind::Earliest, value: 0 };
    /// The next record that becomes readable.
    pub const LATEST: Self = Self { kind: PositionKind::Latest, value: 0 };
    /// The first record with the largest timestamp.
    pub const MAX_TIMESTAMP: Self = Self { kind: PositionKind::MaxTimestamp, value: 0 };

    /// This offset.
    #[must_use]
    pub const fn offset(offset: Offset) -> Self {
        Self { kind: PositionKind::Offset, value: offset.signed() }
    }

    /// The first record at or after this time.
    #[must_use]
    pub const fn timestamp(timestamp: Timestamp) -> Self {
        Self { kind: PositionKind::Timestamp, value: timestamp.0 }
    }
}
