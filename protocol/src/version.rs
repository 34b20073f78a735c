//! The one version number of a connection. Knows nothing of what each version added; fields say that themselves.

use core::fmt;

/// Version of the native protocol. A connection speaks one, chosen in the preface; every body on it is written at that version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProtocolVersion(pub u16);

impl ProtocolVersion {
    /// The oldest version that this code still speaks.
    pub const OLDEST: Self = Self(1);
    /// The version that this code prefers.
    pub const CURRENT: Self = Self(11);

    /// The version to speak with a peer whose newest is `theirs`; `None` where there is none in common.
    #[must_use]
    pub const fn agree(theirs: Self) -> Option<Self> {
        let version = if theirs.0 < Self::CURRENT.0 { theirs } else { Self::CURRENT };
        if version.0 < Self::OLDEST.0 { None } else { Some(version) }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
