//! What the APIs of groups share: how their coordinator is asked, and how Kafka says what it refuses. Knows nothing of what is asked.

use std::collections::HashMap;

use tidelog_coordination::ClusterImage;
use tidelog_coordination::groups::classic::{ClassicCommand, ClassicError, ClassicReply};
use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::messages::TopicPartitions;
use tidelog_protocol::{ErrorCode, PartitionId, TopicId, WireError};

use super::topics::code;
use crate::node::Node;

/// Why nothing was done.
#[derive(Debug)]
pub(super) enum Refused {
    /// By the rules of classic groups.
    Rules(ClassicError),
    /// By whoever coordinates, or is to.
    Coordinator(KafkaError),
}

impl Refused {
    /// How Kafka says it.
    pub(super) const fn error(&self) -> KafkaError {
        match self {
            Self::Coordinator(error) => *error,
            Self::Rules(error) => classic_code(error),
        }
    }
}

impl From<ClassicError> for Refused {
    fn from(error: ClassicError) -> Self {
        Self::Rules(error)
    }
}

impl From<WireError> for Refused {
    fn from(error: WireError) -> Self {
        Self::Coordinator(coordinator_code(&error))
    }
}

/// It decided something else than it was asked.
pub(super) const UNEXPECTED: Refused = Refused::Coordinator(KafkaError::UnknownServerError);

/// Asks whoever coordinates the group, if that is this broker.
pub(super) async fn ask(node: &Node, group: &str, command: GroupCommand) -> Result<GroupReply, Refused> {
    Ok(node.coordinators.groups.of(node, group)?.ask(node, &command).await?)
}

/// The same of Kafka's own calls.
pub(super) async fn ask_classic(node: &Node, group: &str, command: ClassicCommand) -> Result<ClassicReply, Refused> {
    match ask(node, group, GroupCommand::Classic(command)).await? {
        GroupReply::Classic(decided) => Ok((*decided)?),
        _ => Err(UNEXPECTED),
    }
}

/// How Kafka says what classic groups refuse.
pub(super) const fn classic_code(error: &ClassicError) -> KafkaError {
    match error {
        ClassicError::InvalidGroup => KafkaError::InvalidGroupId,
        ClassicError::InvalidSession => KafkaError::InvalidSessionTimeout,
        ClassicError::UnknownGroup => KafkaError::GroupIdNotFound,
        ClassicError::UnknownMember => KafkaError::UnknownMemberId,
        ClassicError::IllegalGeneration => KafkaError::IllegalGeneration,
        ClassicError::RebalanceInProgress => KafkaError::RebalanceInProgress,
        ClassicError::InconsistentProtocol => KafkaError::InconsistentGroupProtocol,
        ClassicError::MemberIdRequired(_) => KafkaError::MemberIdRequired,
        ClassicError::FencedInstance => KafkaError::FencedInstanceId,
        ClassicError::GroupFull => KafkaError::GroupMaxSizeReached,
    }
}

/// How Kafka says what coordinators refuse: clients look for the coordinator again, or wait for it, and know nothing of its partition.
pub(super) fn coordinator_code(error: &WireError) -> KafkaError {
    match error.code {
        ErrorCode::NotLeader | ErrorCode::LeadershipEnded | ErrorCode::ShuttingDown => KafkaError::NotCoordinator,
        ErrorCode::FencedEpoch | ErrorCode::UnknownEpoch => KafkaError::NotCoordinator,
        ErrorCode::NotEnoughReplicas | ErrorCode::Overloaded | ErrorCode::DeadlineExceeded | ErrorCode::NoQuorum => {
            KafkaError::CoordinatorNotAvailable
        }
        ErrorCode::StorageFull | ErrorCode::StorageFailed | ErrorCode::OutOfService | ErrorCode::CorruptLog => {
            KafkaError::CoordinatorNotAvailable
        }
        // A broker that is not upgraded yet stands in the way.
        ErrorCode::Unsupported => KafkaError::CoordinatorNotAvailable,
        _ => code(error),
    }
}

/// Partitions by the names of their topics, as the native calls want them: those that exist.
pub(super) fn named<'a>(
    image: &ClusterImage,
    asked: impl Iterator<Item = (&'a str, &'a [i32])>,
) -> Vec<TopicPartitions> {
    let of = |(name, indexes): (&str, &[i32])| {
        let topic_id = image.topic_named(name)?.id;
        let partitions = indexes.iter().filter_map(|index| u32::try_from(*index).ok().map(PartitionId)).collect();
        Some(TopicPartitions { topic_id, partitions })
    };
    asked.filter_map(of).collect()
}

/// Indexes as Kafka has them.
pub(super) fn indexes(partitions: &[PartitionId]) -> Vec<i32> {
    partitions.iter().filter_map(|partition| i32::try_from(partition.0).ok()).collect()
}

/// What is said of partitions, by the names of their topics; of topics that are gone nothing.
pub(super) fn by_topic<T>(image: &ClusterImage, said: impl Iterator<Item = (TopicId, T)>) -> Vec<(String, Vec<T>)> {
    let mut topics: Vec<(String, Vec<T>)> = Vec::new();
    let mut places: HashMap<TopicId, usize> = HashMap::new();
    for (topic_id, said) in said {
        let Some(topic) = image.topic(topic_id) else { continue };
        let place = *places.entry(topic_id).or_insert_with(|| {
            topics.push((topic.name.to_string(), Vec::new()));
            topics.len() - 1
        });
        topics[place].1.push(said);
    }
    topics
}
