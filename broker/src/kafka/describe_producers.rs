//! DescribeProducers: which idempotent producers the partitions know that this broker leads, and what they have open.

use std::collections::HashSet;
use std::sync::Arc;

use tidelog_coordination::TopicImage;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use tidelog_protocol::messages::ProducerStanding;

use super::topics::{NO_ID, Refused, find, missing, partition};
use super::{Asker, Handle};
use crate::node::Node;
use crate::partition::Serves;

impl Handle for DescribeProducersRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> DescribeProducersResponse {
        let (image, mut topics) = (node.controllers.image(), Vec::with_capacity(self.topics.len()));
        // Each once: an answer must not grow with how often something is asked for.
        let mut told = HashSet::new();
        for asked in self.topics {
            let topic = find(&image, NO_ID, &asked.name);
            let mut partitions = Vec::new();
            for index in asked.partition_indexes {
                if told.insert((asked.name.clone(), index)) {
                    partitions.push(describe(node, &topic, &asked.name, index));
                }
            }
            topics.push(TopicResponse { name: asked.name, partitions });
        }
        DescribeProducersResponse { topics, ..Default::default() }
    }
}

fn describe(node: &Node, topic: &Result<Arc<TopicImage>, KafkaError>, name: &str, index: i32) -> PartitionResponse {
    match producers(node, topic, name, index) {
        Ok(active_producers) => PartitionResponse { partition_index: index, active_producers, ..Default::default() },
        Err(refused) => {
            let (error, error_message) = refused.told();
            PartitionResponse { partition_index: index, error_code: error.code(), error_message, ..Default::default() }
        }
    }
}

fn producers(
    node: &Node,
    topic: &Result<Arc<TopicImage>, KafkaError>,
    name: &str,
    index: i32,
) -> Result<Vec<ProducerState>, Refused> {
    if topic.is_err() {
        return Err(missing(name));
    }
    let (handle, _) = partition(node, topic, index).map_err(|error| Refused { error, sentence: None })?;
    if let Some(refusal) = Serves::Leader.refusal(&handle.tail().borrow()) {
        return Err(refusal.into());
    }
    Ok(handle.reader().producers().iter().map(shown).collect())
}

fn shown(standing: &ProducerStanding) -> ProducerState {
    let last = standing.batches.last();
    ProducerState {
        producer_id: standing.producer_id.0,
        producer_epoch: standing.epoch.0.into(),
        last_sequence: last.map_or(-1, |batch| batch.last.0),
        last_timestamp: last.map_or(-1, |batch| batch.timestamp.0),
        // Is not kept with what a log knows of a producer.
        coordinator_epoch: -1,
        current_txn_start_offset: standing.transaction.as_ref().map_or(-1, |open| open.first_offset.signed()),
    }
}
