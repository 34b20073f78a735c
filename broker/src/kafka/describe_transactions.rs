//! DescribeTransactions: how the transactional ids are that this broker coordinates.

use std::collections::HashSet;
use std::sync::Arc;

use tidelog_coordination::transactions::{TransactionCommand, TransactionReply};
use tidelog_protocol::ErrorCode;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, TopicData, TransactionState as Shown,
};
use tidelog_protocol::messages::{DescribeTransactionRequest as Native, DescribeTransactionResponse};

use super::groups::{by_topic, coordinator_code};
use super::transactions::state_name;
use super::{Asker, Handle};
use crate::coordinators::asking::ask;
use crate::node::Node;

impl Handle for DescribeTransactionsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> DescribeTransactionsResponse {
        let mut transaction_states = Vec::new();
        let mut told = HashSet::new();
        for id in self.transactional_ids {
            // Each once: an answer must not grow with how often something is asked for.
            if told.insert(id.clone()) {
                transaction_states.push(described(node, id).await);
            }
        }
        DescribeTransactionsResponse { transaction_states, ..Default::default() }
    }
}

async fn described(node: &Arc<Node>, transactional_id: String) -> Shown {
    let command = TransactionCommand::Describe(Native { transactional_id: transactional_id.clone() });
    let error = match ask(node, &transactional_id, &command).await {
        Ok(TransactionReply::Described(described)) => return shown(node, transactional_id, &described),
        Ok(_) => KafkaError::UnknownServerError,
        Err(error) if error.code == ErrorCode::UnknownTransaction => KafkaError::TransactionalIdNotFound,
        Err(error) => coordinator_code(&error),
    };
    Shown { error_code: error.code(), transactional_id, ..Default::default() }
}

fn shown(node: &Node, transactional_id: String, described: &DescribeTransactionResponse) -> Shown {
    let image = node.controllers.image();
    let partitions = described.partitions.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| (topic.topic_id, i32::try_from(partition.0).unwrap_or(i32::MAX)))
    });
    let topics = by_topic(&image, partitions).into_iter().map(|(topic, partitions)| TopicData { topic, partitions });
    Shown {
        error_code: KafkaError::None.code(),
        transactional_id,
        transaction_state: state_name(described.state).into(),
        transaction_timeout_ms: i32::try_from(described.timeout_ms).unwrap_or(i32::MAX),
        transaction_start_time_ms: described.began_at.map_or(-1, |began_at| began_at.0),
        producer_id: described.identity.producer_id.0,
        producer_epoch: described.identity.epoch.0,
        topics: topics.collect(),
    }
}
