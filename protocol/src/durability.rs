//! Durability: which of a replica's two ends counts. A word that topic configs, the replication rules and clients share. Knows
//! nothing of flushing itself.

use core::fmt;
use core::str::FromStr;

/// What a replica must have done with a record before it counts for the high watermark.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
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

/// The text is neither `flushed` nor `written`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a durability: expected 'flushed' or 'written'")]
pub struct UnknownDurability;

impl FromStr for Durability {
    type Err = UnknownDurability;

    fn from_str(text: &str) -> Result<Self, UnknownDurability> {
        match text {
            "flushed" => Ok(Self::Flushed),
            "written" => Ok(Self::Written),
            _ => Err(UnknownDurability),
        }
    }
}
