//! Events as they are given and as they are read, and the versions of aggregates. Knows nothing of how they are stored.

use std::fmt;

use bytes::Bytes;
use tidelog_protocol::{Offset, PartitionId, Timestamp};

use super::envelope::RETIRED_KIND;

/// How many events an aggregate has; the number of its latest event, counted from 1. 0: it does not exist yet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Version(pub u64);

impl Version {
    /// Of an aggregate without events.
    pub const NONE: Self = Self(0);

    /// After so many more events.
    #[must_use]
    pub const fn plus(self, events: u64) -> Self {
        Self(self.0.saturating_add(events))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What must hold of an aggregate for an append to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// It is at this version; [`Version::NONE`]: it does not exist yet.
    Version(Version),
    /// Nothing: whatever was decided before does not depend on its state. Two such appends never conflict, and neither knows of the other.
    Any,
}

impl From<Version> for Expected {
    fn from(version: Version) -> Self {
        Self::Version(version)
    }
}

/// An event to be appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewEvent {
    /// What kind of event it is, such as `deposited`. Never renamed, since stored events bear it.
    pub kind: String,
    /// The version of its kind's schema that the payload is written in; see [`Upcasters`](super::Upcasters).
    pub schema: u16,
    /// What happened, as the application writes it.
    pub payload: Bytes,
}

impl NewEvent {
    /// An event whose kind has its first schema.
    #[must_use]
    pub fn new(kind: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self { kind: kind.into(), schema: 1, payload: payload.into() }
    }

    /// In this version of the schema.
    #[must_use]
    pub const fn schema(mut self, schema: u16) -> Self {
        self.schema = schema;
        self
    }
}

/// An event that is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredEvent {
    /// The aggregate.
    pub id: Bytes,
    /// The version that it has with this event.
    pub version: Version,
    /// The partition that holds it.
    pub partition: PartitionId,
    /// Its offset there.
    pub offset: Offset,
    /// When it was appended, by the clock of the writer.
    pub timestamp: Timestamp,
    /// Its kind.
    pub kind: String,
    /// The version of the schema that the payload is in, after upcasting.
    pub schema: u16,
    /// The command that it came of, where there was one.
    pub command: Option<Bytes>,
    /// What happened.
    pub payload: Bytes,
}

impl StoredEvent {
    /// The aggregate is forgotten with it: the next event under its id is the first of another.
    pub(crate) fn is_retirement(&self) -> bool {
        self.kind == RETIRED_KIND
    }
}

/// Where an append stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// The version of the aggregate with the last of the events.
    pub version: Version,
    /// The partition.
    pub partition: PartitionId,
    /// The offset of the last of the events there.
    pub offset: Offset,
    /// True where the command had been carried out before, and nothing was appended now.
    pub repeated: bool,
}
