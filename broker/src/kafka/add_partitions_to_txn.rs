//! AddPartitionsToTxn: a transaction is about to write to partitions. All of them are taken in or none, so that its end finds them.

use std::sync::Arc;

use tidelog_coordination::ClusterImage;
use tidelog_coordination::transactions::TransactionCommand;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopicResult,
};
use tidelog_protocol::messages::{AddToTransactionRequest, TopicPartitions};

use super::topics::{NO_ID, find, partition_id};
use super::transactions::{ask, identity};
use super::{Asker, Handle};
use crate::node::Node;

impl Handle for AddPartitionsToTxnRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> AddPartitionsToTxnResponse {
        let image = node.controllers.image();
        let topics = self.v3_and_below_topics.iter().map(|topic| (&topic.name, &topic.partitions));
        let found = topics.map(|(name, indexes)| looked_up(&image, name, indexes)).collect::<Vec<_>>();
        let is_whole = found.iter().flat_map(|(_, errors)| errors).all(|error| *error == KafkaError::None);
        let result = if is_whole {
            let transactional_id = self.v3_and_below_transactional_id.clone();
            let command = TransactionCommand::Add(AddToTransactionRequest {
                transactional_id: transactional_id.clone(),
                identity: identity(self.v3_and_below_producer_id, self.v3_and_below_producer_epoch),
                partitions: found.iter().filter_map(|(partitions, _)| partitions.clone()).collect(),
                groups: Vec::new(),
                only_asks: false,
            });
            ask(node, &transactional_id, command, asker.version).await.err().unwrap_or(KafkaError::None)
        } else {
            KafkaError::OperationNotAttempted
        };
        let told = self.v3_and_below_topics.into_iter().zip(found).map(|(topic, (_, errors))| {
            let partitions = topic.partitions.into_iter().zip(errors);
            let results_by_partition = partitions.map(|(partition_index, error)| AddPartitionsToTxnPartitionResult {
                partition_index,
                partition_error_code: if error == KafkaError::None { result } else { error }.code(),
            });
            AddPartitionsToTxnTopicResult { name: topic.name, results_by_partition: results_by_partition.collect() }
        });
        AddPartitionsToTxnResponse { results_by_topic_v3_and_below: told.collect(), ..Default::default() }
    }
}

/// The partitions of a topic that exist, and what is wrong with each.
fn looked_up(image: &ClusterImage, name: &str, indexes: &[i32]) -> (Option<TopicPartitions>, Vec<KafkaError>) {
    let Ok(topic) = find(image, NO_ID, name) else {
        return (None, vec![KafkaError::UnknownTopicOrPartition; indexes.len()]);
    };
    let exists = |index: &i32| partition_id(*index).ok().filter(|partition| topic.partition(*partition).is_some());
    let partitions: Vec<_> = indexes.iter().map(exists).collect();
    let error = |found: &Option<_>| match found {
        Some(_) => KafkaError::None,
        None => KafkaError::UnknownTopicOrPartition,
    };
    let errors = partitions.iter().map(error).collect();
    let partitions = partitions.into_iter().flatten().collect();
    (Some(TopicPartitions { topic_id: topic.id, partitions }), errors)
}
