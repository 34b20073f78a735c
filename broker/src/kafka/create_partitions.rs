//! CreatePartitions: each topic is answered when this broker knows of its new partitions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use tidelog_protocol::messages::CreatePartitionsRequest as Native;

use super::topics::Refused;
use super::{Asker, Handle};
use crate::change::change;
use crate::node::Node;
use crate::operations::foresight::{catch_up, foresee};

impl Handle for CreatePartitionsRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> CreatePartitionsResponse {
        let deadline = asker.arrived + Duration::from_millis(self.timeout_ms.max(0) as u64);
        let mut named = HashMap::<_, usize>::new();
        for topic in &self.topics {
            *named.entry(topic.name.clone()).or_default() += 1;
        }
        let mut results = Vec::with_capacity(self.topics.len());
        for topic in self.topics {
            let name = topic.name.clone();
            let grown = match named.get(&name) {
                Some(2..) => {
                    let sentence = "the request names this topic more than once";
                    Err(Refused::new(KafkaError::InvalidRequest, sentence))
                }
                _ => grow(node, topic, self.validate_only, deadline).await,
            };
            let (error, error_message) = grown.map_or_else(Refused::told, |()| (KafkaError::None, None));
            results.push(CreatePartitionsTopicResult { name, error_code: error.code(), error_message });
        }
        CreatePartitionsResponse { results, ..Default::default() }
    }
}

async fn grow(
    node: &Arc<Node>,
    topic: CreatePartitionsTopic,
    validate_only: bool,
    deadline: Instant,
) -> Result<(), Refused> {
    let CreatePartitionsTopic { name, count, assignments } = topic;
    if assignments.is_some_and(|assignments| !assignments.is_empty()) {
        let sentence = "the controller chooses the brokers of new partitions; reassign them afterwards";
        return Err(Refused::new(KafkaError::InvalidReplicaAssignment, sentence));
    }
    let Ok(total) = u32::try_from(count) else {
        return Err(Refused::new(KafkaError::InvalidPartitions, format!("a topic cannot have {count} partitions")));
    };
    let request = Native { name, total };
    if validate_only {
        catch_up(node, &request.name, Some(deadline)).await?;
        foresee(node, request)?;
    } else {
        change(node, request, Some(deadline)).await?;
    }
    Ok(())
}
