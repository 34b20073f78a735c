//! DeleteRecords: of the partitions that this broker leads, one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_coordination::TopicImage;
use tidelog_protocol::Offset;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult, HIGH_WATERMARK,
};
use tokio::time::timeout_at;

use super::topics::{NO_ID, code, find, partition};
use super::{Asker, Handle};
use crate::node::Node;
use crate::operations::delete_records::{OfOurOwn, delete_records};

/// Where nothing is known of the first offset.
const UNKNOWN: i64 = -1;

impl Handle for DeleteRecordsRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> DeleteRecordsResponse {
        let deadline = asker.arrived + Duration::from_millis(self.timeout_ms.max(0) as u64);
        let mut topics = Vec::with_capacity(self.topics.len());
        for asked in self.topics {
            let topic = find(&node.controllers.image(), NO_ID, &asked.name);
            let mut partitions = Vec::with_capacity(asked.partitions.len());
            for place in asked.partitions {
                let deleted = delete(node, &topic, &place, deadline).await;
                partitions.push(DeleteRecordsPartitionResult {
                    partition_index: place.partition_index,
                    low_watermark: deleted.map_or(UNKNOWN, Offset::signed),
                    error_code: deleted.err().unwrap_or(KafkaError::None).code(),
                });
            }
            topics.push(DeleteRecordsTopicResult { name: asked.name, partitions });
        }
        DeleteRecordsResponse { topics, ..Default::default() }
    }
}

async fn delete(
    node: &Arc<Node>,
    topic: &Result<Arc<TopicImage>, KafkaError>,
    place: &DeleteRecordsPartition,
    deadline: Instant,
) -> Result<Offset, KafkaError> {
    let (partition, _) = partition(node, topic, place.partition_index)?;
    let before = match place.offset {
        HIGH_WATERMARK => None,
        offset => Some(Offset::from_signed(offset).ok_or(KafkaError::OffsetOutOfRange)?),
    };
    let deletion = delete_records(node, partition, before, OfOurOwn::Refused);
    // What has begun goes on to its end all the same.
    let deleted = timeout_at(deadline.into(), deletion).await.map_err(|_| KafkaError::RequestTimedOut)?;
    deleted.map_err(|error| code(&error))
}
