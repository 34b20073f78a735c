//! Which of a replica's two ends counts. Knows nothing of flushing itself; [`crate::leader`] and topic configs share the word.

use core::fmt;

/// What a replica must have done with a record before it counts for the high watermark.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// It is on disk: an acknowledged record survives power loss of every replica at once.
    #[default]
    Flushed,
    /// It is in the page cache: an acknowledged record survives the death of processes, not of every machine at once.
    Written,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flushed => "flushed",
            Self::Written => "written",
        })
    }
}
