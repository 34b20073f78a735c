//! What many brokers were asked for together, and what of it is missing. Knows nothing of what is listed.

use std::collections::BTreeMap;

use tidelog_protocol::BrokerId;
use tidelog_protocol::messages::TopicDescription;

use crate::ClientError;

/// What the coordinators of a cluster hold, as far as they answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed<T> {
    /// By name.
    pub found: Vec<T>,
    /// Where nobody answered: what is kept there is not among those found. Empty where all did.
    pub missing: Vec<MissingShards>,
}

/// Topics, as far as the leaders of their partitions answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedTopics {
    /// Configuration and state. Of partitions that a silent broker leads stands here what another knows of them, which may be nothing.
    pub topics: Vec<TopicDescription>,
    /// Leaders that did not answer, and why.
    pub silent: BTreeMap<BrokerId, ClientError>,
}

/// Shards of what coordinators keep for which nobody answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MissingShards {
    /// The broker that leads them, and does not answer or cannot read them; `None` where nobody leads them at the moment.
    pub broker: Option<BrokerId>,
    /// How many there are.
    pub shards: u32,
    /// How many there are in all, of all brokers.
    pub of: u32,
    /// Why there is no answer.
    pub error: ClientError,
}
