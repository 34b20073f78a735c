//! How the partitions that a group reads are spread over its members. Knows nothing of epochs: each assignor is a function of who
//! reads what, and of what each had.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use tidelog_protocol::{ErrorCode, TopicId};

use super::membership::Membership;
use super::partition_set::PartitionSet;
use super::{range, uniform};
use crate::command::Refusal;

/// How partitions are spread.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Assignor {
    /// Evenly over all topics, moving as little as can be, near the replicas among equals.
    #[default]
    Uniform,
    /// For each topic contiguous ranges in the order of the members, so that topics of as many partitions are spread alike.
    Range,
}

impl Assignor {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// The one that most members ask for; among equals, and where nobody asks, the first.
    pub(super) fn preferred(membership: &Membership) -> Self {
        let mut votes: BTreeMap<Self, usize> = BTreeMap::new();
        for wanted in membership.members().filter_map(|member| Self::named(member.said.assignor.as_deref()?)) {
            *votes.entry(wanted).or_default() += 1;
        }
        let most = votes.into_iter().max_by_key(|(assignor, votes)| (*votes, core::cmp::Reverse(*assignor)));
        most.map(|(assignor, _)| assignor).unwrap_or_default()
    }

    /// What each reader is to own, in their order.
    #[must_use]
    pub fn spread(self, spread: &Spread<'_>) -> Vec<PartitionSet> {
        match self {
            Self::Uniform => uniform::spread(spread),
            Self::Range => range::spread(spread),
        }
    }
}

/// Is there an assignor of this name?
pub(super) fn check(name: Option<&str>) -> Result<(), Refusal> {
    match name {
        Some(name) if Assignor::named(name).is_none() => {
            let [first, second] = Assignor::ALL.map(Assignor::name);
            let message = format!("there is no assignor '{}': there are '{first}' and '{second}'", name.escape_debug());
            Err(Refusal::new(ErrorCode::InvalidGroup, message))
        }
        _ => Ok(()),
    }
}

/// What is to be spread over whom.
#[derive(Clone, Debug)]
pub struct Spread<'a> {
    /// What there is to read.
    pub topics: Vec<ReadTopic<'a>>,
    /// The members, by id.
    pub readers: Vec<Reader<'a>>,
}

/// A topic that somebody reads.
#[derive(Clone, Debug)]
pub struct ReadTopic<'a> {
    /// The topic.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
    /// For each partition the racks that have a replica; empty where no reader says where it stands.
    pub racks: Vec<Vec<&'a str>>,
}

impl ReadTopic<'_> {
    /// Has a rack a replica of this partition?
    #[must_use]
    pub fn is_near(&self, partition: u32, rack: Option<&str>) -> bool {
        rack.is_some_and(|rack| self.racks.get(partition as usize).is_some_and(|racks| racks.contains(&rack)))
    }
}

/// A member.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    /// What it is ordered by: its instance id, which outlives it, or its own.
    pub name: &'a str,
    /// Where it stands.
    pub rack: Option<&'a str>,
    /// What it reads, as indexes into the topics, ascending.
    pub topics: Vec<usize>,
    /// What it was to own until now.
    pub had: &'a PartitionSet,
}
