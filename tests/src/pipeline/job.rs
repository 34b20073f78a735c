//! What a member does to a record: two records, so that half a transaction would show. Knows nothing of transactions.

use std::fmt;

/// One of the two records that come of an input record. They go to different partitions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Half {
    /// The first.
    Left,
    /// The second.
    Right,
}

impl Half {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Left, Self::Right];

    /// The partition of the output for what came from `partition` of the input.
    #[must_use]
    pub const fn partition(self, partition: u32, partitions: u32) -> u32 {
        let shift = match self {
            Self::Left => 0,
            Self::Right => partitions / 2,
        };
        (partition + shift) % partitions
    }
}

/// A record of the output.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Made {
    /// The value of the input record that it came from.
    pub input: String,
    /// Which half.
    pub half: Half,
    /// Which try made it: no two tries of any member have the same.
    pub attempt: String,
}

impl Made {
    /// As it stands in the topic.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let mut words = value.split(' ');
        let (input, half, attempt) = (words.next()?, words.next()?, words.next()?);
        let half = match half {
            "left" => Half::Left,
            "right" => Half::Right,
            _ => return None,
        };
        words.next().is_none().then(|| Self { input: input.into(), half, attempt: attempt.into() })
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let half = match self.half {
            Half::Left => "left",
            Half::Right => "right",
        };
        write!(f, "{} {half} {}", self.input, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_record_is_read_as_it_was_written() {
        for half in Half::BOTH {
            let made = Made { input: "p3-17".into(), half, attempt: "8.1".into() };
            assert_eq!(Made::parse(&made.to_string()), Some(made));
        }
        assert_eq!(Made::parse("p3-17 left"), None);
        assert_eq!(Made::parse("p3-17 left 8.1 more"), None);
    }

    #[test]
    fn the_halves_go_to_different_partitions() {
        for partition in 0..12 {
            assert_ne!(Half::Left.partition(partition, 12), Half::Right.partition(partition, 12));
        }
    }
}
