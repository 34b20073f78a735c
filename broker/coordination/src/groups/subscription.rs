//! Which topics a member reads: those it names, and those its pattern matches. Knows nothing of partitions' owners.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::messages::Subscription;
use tidelog_protocol::{ErrorCode, TopicName};

use super::membership::Membership;
use super::pattern::Pattern;
use crate::command::Refusal;
use crate::controller::INTERNAL_PREFIX;
use crate::image::{ClusterImage, TopicImage};

/// So much is shown of a name that no topic can have.
const NAME_SHOWN_CHARS: usize = 80;

/// Is it one that can be?
pub(super) fn check(subscription: &Subscription, topics_max: usize) -> Result<(), Refusal> {
    if subscription.topics.len() > topics_max {
        let count = subscription.topics.len();
        let message = format!(
            "a subscription names {topics_max} topics at most, this one {count}: use a pattern, or more groups"
        );
        return Err(Refusal::new(ErrorCode::InvalidGroup, message));
    }
    for name in &subscription.topics {
        TopicName::new(name).map_err(|error| {
            let shown: String = name.chars().take(NAME_SHOWN_CHARS).collect();
            let rest = if shown.len() < name.len() { "…" } else { "" };
            let message = format!("no topic can have the name '{}{rest}': {error}", shown.escape_debug());
            Refusal::new(ErrorCode::InvalidGroup, message)
        })?;
    }
    match &subscription.pattern {
        Some(pattern) => Pattern::new(pattern).map(drop).map_err(|error| Refusal::new(ErrorCode::InvalidGroup, error)),
        None => Ok(()),
    }
}

/// Names in order, each once.
pub(super) fn sorted(names: &[String]) -> Vec<String> {
    names.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The topics that members of a group read.
pub(super) struct Readings<'a> {
    /// All that at least one reads, by name.
    pub topics: Vec<&'a TopicImage>,
    /// For each member, in the order of their ids: which of `topics` it reads, ascending.
    pub of: Vec<Vec<usize>>,
}

impl<'a> Readings<'a> {
    /// As of this image. Topics that do not exist are left out.
    pub fn of(membership: &Membership, image: &'a ClusterImage) -> Self {
        let mut matched: BTreeMap<&str, Vec<&'a TopicImage>> = BTreeMap::new();
        for pattern in membership.members().filter_map(|member| member.said.pattern.as_deref()) {
            matched.entry(pattern).or_insert_with(|| matching(pattern, image));
        }
        let read: Vec<BTreeMap<&str, &TopicImage>> = membership
            .members()
            .map(|member| {
                let named = member.said.topics.iter().filter_map(|name| image.topic_named(name)).map(|topic| &**topic);
                let pattern = member.said.pattern.as_deref().and_then(|pattern| matched.get(pattern));
                named.chain(pattern.into_iter().flatten().copied()).map(|topic| (topic.name.as_str(), topic)).collect()
            })
            .collect();
        let all: BTreeMap<&str, &TopicImage> =
            read.iter().flat_map(|topics| topics.iter().map(|(name, topic)| (*name, *topic))).collect();
        let index: BTreeMap<&str, usize> = all.keys().enumerate().map(|(index, name)| (*name, index)).collect();
        let of = read.iter().map(|topics| topics.keys().map(|name| index[name]).collect()).collect();
        Self { topics: all.into_values().collect(), of }
    }

    /// A number that changes with these topics and how many partitions each has. It stands in records: the function stays as it is.
    pub fn hash(&self) -> u64 {
        hash(self.topics.iter().copied())
    }
}

/// FNV-1a over identities and numbers of partitions.
pub(super) fn hash<'a>(topics: impl Iterator<Item = &'a TopicImage>) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    topics.fold(0xcbf2_9ce4_8422_2325, |hash, topic| {
        let partitions = (topic.partitions.len() as u64).to_le_bytes();
        topic.id.0.iter().chain(&partitions).fold(hash, |hash, byte| step(hash, *byte))
    })
}

/// What the pattern matches, but for the broker's own topics. A pattern that does not compile was stored by another release, and
/// matches nothing.
fn matching<'a>(pattern: &str, image: &'a ClusterImage) -> Vec<&'a TopicImage> {
    let Ok(mut pattern) = Pattern::new(pattern) else { return Vec::new() };
    let public = image.topics().filter(|topic| !topic.internal && !topic.name.as_str().starts_with(INTERNAL_PREFIX));
    public.filter(|topic| pattern.matches(topic.name.as_str())).map(|topic| &**topic).collect()
}
