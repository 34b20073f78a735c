//! ListOffsets: offsets by time, or of either end, with the leadership that wrote the record.

use std::sync::Arc;

use tidelog_protocol::Timestamp;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::list_offsets::{
    EARLIEST, EARLIEST_LOCAL, LATEST, ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest,
    ListOffsetsResponse, ListOffsetsTopicResponse, MAX_TIMESTAMP,
};
use tidelog_protocol::messages::{Isolation, Position};

use super::topics::{NO_ID, code, find, isolation, known_epoch, partition};
use super::{Asker, Handle};
use crate::node::Node;
use crate::operations::leaderships::check_epoch;
use crate::operations::look_up::look_up;
use crate::partition::{self as parts, Serves};

impl Handle for ListOffsetsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> ListOffsetsResponse {
        let isolation = isolation(self.isolation_level);
        let mut topics = Vec::with_capacity(self.topics.len());
        for asked in self.topics {
            let topic = find(&node.controllers.image(), NO_ID, &asked.name);
            let mut partitions = Vec::with_capacity(asked.partitions.len());
            for query in asked.partitions {
                let found = match partition(node, &topic, query.partition_index) {
                    Ok((handle, _)) => answer(&handle, &query, isolation).await,
                    Err(error) => Err(error),
                };
                partitions.push(found.unwrap_or_else(|error| ListOffsetsPartitionResponse {
                    partition_index: query.partition_index,
                    error_code: error.code(),
                    ..Default::default()
                }));
            }
            topics.push(ListOffsetsTopicResponse { name: asked.name, partitions });
        }
        ListOffsetsResponse { topics, ..Default::default() }
    }
}

async fn answer(
    handle: &parts::Handle,
    query: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<ListOffsetsPartitionResponse, KafkaError> {
    let current = handle.tail().borrow().leader_epoch;
    check_epoch(known_epoch(query.current_leader_epoch), current).map_err(|error| code(&error))?;
    let position = match query.timestamp {
        LATEST => Position::LATEST,
        EARLIEST | EARLIEST_LOCAL => Position::EARLIEST,
        MAX_TIMESTAMP => Position::MAX_TIMESTAMP,
        time @ 0.. => Position::timestamp(Timestamp(time)),
        _ => return Err(KafkaError::UnsupportedVersion),
    };
    let found = look_up(handle, position, Serves::Leader, isolation).await.map_err(|error| code(&error))?;
    let Some(offset) = found.offset else {
        return Ok(ListOffsetsPartitionResponse { partition_index: query.partition_index, ..Default::default() });
    };
    // The end is written by whoever leads next, as far as is known here.
    let written = if query.timestamp == LATEST { None } else { handle.reader().leader_epochs().epoch_at(offset) };
    Ok(ListOffsetsPartitionResponse {
        partition_index: query.partition_index,
        error_code: KafkaError::None.code(),
        timestamp: found.timestamp.0,
        offset: offset.signed(),
        leader_epoch: written.unwrap_or(current).signed(),
    })
}
