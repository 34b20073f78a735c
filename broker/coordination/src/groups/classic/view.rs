//! A classic group as people see it, and as Kafka's own tools do. Knows nothing of how it came about.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::codec::Bytes;
use tidelog_protocol::kafka::consumer_protocol::{
    CONSUMER, ConsumerPartitions, ConsumerProtocolAssignment, ConsumerProtocolSubscription, read,
};
use tidelog_protocol::messages::{DescribeGroupResponse, GroupState, MemberDescription, Subscription, TopicPartitions};
use tidelog_protocol::{Monotonic, PartitionId};

use super::command::{ClassicDescription, ClassicMemberDescription};
use super::gathering::Gathering;
use super::state::ClassicState;
use crate::groups::partition_set::PartitionSet;
use crate::groups::records::{ClassicMemberValue, ClassicPhase};
use crate::image::ClusterImage;

/// How it is, in words that groups of both kinds have.
pub fn group_state(state: &ClassicState) -> GroupState {
    match state.phase() {
        ClassicPhase::Empty => GroupState::Empty,
        ClassicPhase::Preparing | ClassicPhase::Completing => GroupState::Reconciling,
        ClassicPhase::Stable => GroupState::Stable,
    }
}

/// For Kafka's tools.
pub fn description(state: &ClassicState) -> ClassicDescription {
    let is_stable = state.phase() == ClassicPhase::Stable;
    let member = |(id, member): (&str, &ClassicMemberValue)| ClassicMemberDescription {
        member_id: id.to_owned(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        metadata: if is_stable { state.metadata(member) } else { Bytes::new() },
        assignment: if is_stable { state.part(id) } else { Bytes::new() },
    };
    ClassicDescription {
        phase: state.phase(),
        protocol_type: state.protocol_type().to_owned(),
        protocol: state.protocol().filter(|_| is_stable).unwrap_or_default().to_owned(),
        members: state.members().map(member).collect(),
    }
}

/// For people: what consumers tell each other is read as far as it can be.
pub fn described(
    state: &ClassicState,
    gathering: Option<&Gathering>,
    image: &ClusterImage,
    now: Monotonic,
) -> DescribeGroupResponse {
    let reads = state.protocol_type() == CONSUMER;
    let is_stable = state.phase() == ClassicPhase::Stable;
    let member = |(id, member): (&str, &ClassicMemberValue)| {
        let said = member.protocols.iter().find(|protocol| Some(protocol.name.as_str()) == state.protocol());
        let said = said.or(member.protocols.first()).map(|protocol| &protocol.metadata).filter(|_| reads);
        let topics = said.and_then(|said| read::<ConsumerProtocolSubscription>(said).ok());
        let part = state.part(id);
        let part = Some(&part).filter(|_| reads && is_stable);
        let part = part.and_then(|part| read::<ConsumerProtocolAssignment>(part).ok());
        let owned = part.map(|part| partitions(&part.assigned_partitions, image)).unwrap_or_default();
        let heard = gathering.and_then(|gathering| gathering.heard(id));
        MemberDescription {
            member_id: id.to_owned(),
            instance_id: member.instance_id.clone(),
            client_name: Some(member.client_id.clone()).filter(|name| !name.is_empty()),
            rack: None,
            member_epoch: state.generation(),
            subscription: Subscription { topics: topics.map(|said| said.topics).unwrap_or_default(), pattern: None },
            owned: owned.clone(),
            letting_go: Vec::new(),
            target: owned,
            silent_ms: heard.map_or(0, |heard| u32::try_from(now.ms_since(heard)).unwrap_or(u32::MAX)),
            busy_ms: None,
        }
    };
    DescribeGroupResponse {
        state: group_state(state),
        epoch: state.generation(),
        target_epoch: state.generation(),
        assignor: state.protocol().map_or_else(|| String::from("-"), ToOwned::to_owned),
        members: state.members().map(member).collect(),
        offsets: Vec::new(),
    }
}

/// By identity; topics that do not exist are left out.
fn partitions(of: &[ConsumerPartitions], image: &ClusterImage) -> Vec<TopicPartitions> {
    let topic = |part: &ConsumerPartitions| {
        let topic_id = image.topic_named(&part.topic)?.id;
        let partitions = part.partitions.iter().filter_map(|index| u32::try_from(*index).ok().map(PartitionId));
        Some(TopicPartitions { topic_id, partitions: partitions.collect() })
    };
    // In order, each once.
    PartitionSet::from_wire(&of.iter().filter_map(topic).collect::<Vec<_>>()).to_wire()
}
