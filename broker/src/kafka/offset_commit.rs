//! OffsetCommit: how far a group has come, of either kind. What cannot be noted is told for each partition; all else is noted together.

use std::sync::Arc;

use tidelog_coordination::ClusterImage;
use tidelog_coordination::groups::GroupLimits;
use tidelog_coordination::groups::classic::{ClassicCaller, ClassicCommand};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use tidelog_protocol::messages::CommittedOffset;
use tidelog_protocol::{LeaderEpoch, Offset};

use super::groups::ask_classic;
use super::topics::{NO_ID, find, partition_id};
use super::{Asker, Handle};
use crate::node::Node;

impl Handle for OffsetCommitRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> OffsetCommitResponse {
        let image = node.controllers.image();
        let mut notes = Notes::new(&image);
        let mut topics = Vec::with_capacity(self.topics.len());
        for asked in self.topics {
            let mut partitions = Vec::with_capacity(asked.partitions.len());
            for partition in asked.partitions {
                let partition_index = partition.partition_index;
                let asked_for = Noted {
                    partition_index,
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata,
                };
                let error_code = notes.take(&asked.name, asked_for);
                partitions.push(OffsetCommitResponsePartition { partition_index, error_code });
            }
            topics.push(OffsetCommitResponseTopic { name: asked.name, partitions });
        }
        let caller = ClassicCaller {
            group: self.group_id.clone(),
            generation: self.generation_id_or_member_epoch,
            member_id: self.member_id,
            instance_id: self.group_instance_id,
        };
        let committed =
            ask_classic(node, &self.group_id, ClassicCommand::Commit { caller, offsets: notes.offsets }).await;
        if let Err(refused) = committed {
            let error = match refused.error() {
                // Only members commit while there are any.
                KafkaError::NonEmptyGroup => KafkaError::UnknownMemberId,
                error => error,
            };
            let open = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            open.filter(|partition| partition.error_code == 0)
                .for_each(|partition| partition.error_code = error.code());
        }
        OffsetCommitResponse { topics, ..Default::default() }
    }
}

/// How far a group has come in a partition, as it was asked for.
pub(super) struct Noted {
    pub(super) partition_index: i32,
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) metadata: Option<String>,
}

/// What a request asks to be noted, as far as it can be.
pub(super) struct Notes<'a> {
    image: &'a ClusterImage,
    pub(super) offsets: Vec<CommittedOffset>,
}

impl<'a> Notes<'a> {
    /// None yet.
    pub(super) fn new(image: &'a ClusterImage) -> Self {
        Self { image, offsets: Vec::new() }
    }

    /// Takes one more, or gives the error code that says why not.
    pub(super) fn take(&mut self, topic: &str, asked: Noted) -> i16 {
        match noted(self.image, topic, asked) {
            Ok(offset) => {
                self.offsets.push(offset);
                0
            }
            Err(error) => error.code(),
        }
    }
}

/// The same in words that groups know.
fn noted(image: &ClusterImage, topic: &str, asked: Noted) -> Result<CommittedOffset, KafkaError> {
    let topic = find(image, NO_ID, topic)?;
    let partition = partition_id(asked.partition_index)?;
    topic.partition(partition).ok_or(KafkaError::UnknownTopicOrPartition)?;
    let metadata = asked.metadata.unwrap_or_default();
    if metadata.len() > GroupLimits::default().metadata_bytes_max {
        return Err(KafkaError::OffsetMetadataTooLarge);
    }
    let offset = u64::try_from(asked.offset).map_err(|_| KafkaError::InvalidRequest)?;
    let leader_epoch = LeaderEpoch::from_signed(asked.leader_epoch);
    Ok(CommittedOffset { topic_id: topic.id, partition, offset: Offset(offset), leader_epoch, metadata })
}
