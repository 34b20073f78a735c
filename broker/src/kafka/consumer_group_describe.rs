//! ConsumerGroupDescribe (KIP-848): how native groups are. One that does not exist, or is of the other kind, is not found.

use std::sync::Arc;

use tidelog_coordination::ClusterImage;
use tidelog_coordination::groups::classic::ClassicCommand;
use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::consumer_group_describe::{
    ConsumerGroupDescribeAssignment, ConsumerGroupDescribeMember, ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse, ConsumerGroupDescribeTopicPartitions, ConsumerGroupDescribedGroup,
};
use tidelog_protocol::messages::{
    DescribeGroupRequest, DescribeGroupResponse, GroupState, MemberDescription, TopicPartitions,
};

use super::groups::{Refused, UNEXPECTED, ask, ask_classic, indexes};
use super::{Asker, Handle};
use crate::node::Node;

/// A member that speaks this protocol, or the native one.
const OF_THIS_PROTOCOL: i8 = 1;

impl Handle for ConsumerGroupDescribeRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> ConsumerGroupDescribeResponse {
        let mut groups = Vec::with_capacity(self.group_ids.len());
        for group_id in self.group_ids {
            let described = match described(node, &group_id).await {
                Ok(told) => shown(told, &node.controllers.image()),
                Err(refused) => {
                    let error = refused.error();
                    let is_missing = error == KafkaError::GroupIdNotFound;
                    let sentence = || format!("there is no consumer group '{}'", group_id.escape_debug());
                    ConsumerGroupDescribedGroup {
                        error_code: error.code(),
                        error_message: is_missing.then(sentence),
                        ..Default::default()
                    }
                }
            };
            groups.push(ConsumerGroupDescribedGroup { group_id, ..described });
        }
        ConsumerGroupDescribeResponse { groups, ..Default::default() }
    }
}

async fn described(node: &Node, group: &str) -> Result<DescribeGroupResponse, Refused> {
    match ask_classic(node, group, ClassicCommand::Describe { group: group.to_owned() }).await {
        // Clients ask for it once more by the other API.
        Ok(_) => return Err(Refused::Coordinator(KafkaError::GroupIdNotFound)),
        Err(refused) if refused.error() == KafkaError::GroupIdNotFound => {}
        Err(refused) => return Err(refused),
    }
    match ask(node, group, GroupCommand::Describe(DescribeGroupRequest { group: group.to_owned() })).await? {
        GroupReply::Described(told) => Ok(told),
        _ => Err(UNEXPECTED),
    }
}

fn shown(told: DescribeGroupResponse, image: &ClusterImage) -> ConsumerGroupDescribedGroup {
    let state = match told.state {
        GroupState::Empty => "Empty",
        GroupState::Reconciling => "Reconciling",
        GroupState::Stable => "Stable",
    };
    ConsumerGroupDescribedGroup {
        group_state: state.into(),
        group_epoch: told.epoch,
        assignment_epoch: told.target_epoch,
        assignor_name: told.assignor,
        members: told.members.into_iter().map(|member| shown_member(member, image)).collect(),
        ..Default::default()
    }
}

fn shown_member(member: MemberDescription, image: &ClusterImage) -> ConsumerGroupDescribeMember {
    ConsumerGroupDescribeMember {
        member_id: member.member_id,
        instance_id: member.instance_id,
        rack_id: member.rack,
        member_epoch: member.member_epoch,
        client_id: member.client_name.unwrap_or_default(),
        subscribed_topic_names: member.subscription.topics,
        subscribed_topic_regex: member.subscription.pattern,
        assignment: assignment(&member.owned, image),
        target_assignment: assignment(&member.target, image),
        member_type: OF_THIS_PROTOCOL,
        ..Default::default()
    }
}

/// Of topics that are gone nothing.
fn assignment(partitions: &[TopicPartitions], image: &ClusterImage) -> ConsumerGroupDescribeAssignment {
    let of = |said: &TopicPartitions| {
        let topic = image.topic(said.topic_id)?;
        Some(ConsumerGroupDescribeTopicPartitions {
            topic_id: said.topic_id.0,
            topic_name: topic.name.to_string(),
            partitions: indexes(&said.partitions),
        })
    };
    ConsumerGroupDescribeAssignment { topic_partitions: partitions.iter().filter_map(of).collect() }
}
