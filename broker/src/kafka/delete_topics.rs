//! DeleteTopics: each answered when nothing of it is served here any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use tidelog_protocol::messages::DeleteTopicRequest;

use super::topics::{NO_ID, code, find};
use super::{Asker, Handle};
use crate::change::change;
use crate::node::Node;

impl Handle for DeleteTopicsRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> DeleteTopicsResponse {
        let deadline = asker.arrived + Duration::from_millis(self.timeout_ms.max(0) as u64);
        let named = self.topic_names.into_iter().map(|name| DeleteTopicState { name: Some(name), topic_id: NO_ID });
        let topics: Vec<_> = named.chain(self.topics).collect();
        let mut responses = Vec::with_capacity(topics.len());
        for topic in topics {
            let name = topic.name.clone();
            let (name, topic_id, error) = delete(node, topic, deadline).await.map_or_else(
                |(error, sentence)| (name, NO_ID, Some((error, sentence))),
                |(name, id)| (Some(name), id, None),
            );
            let (error_code, error_message) =
                error.map_or((KafkaError::None.code(), None), |(error, sentence)| (error.code(), sentence));
            responses.push(DeletableTopicResult { name, topic_id, error_code, error_message });
        }
        DeleteTopicsResponse { responses, ..Default::default() }
    }
}

async fn delete(
    node: &Arc<Node>,
    topic: DeleteTopicState,
    deadline: Instant,
) -> Result<(String, [u8; 16]), (KafkaError, Option<String>)> {
    let image = node.controllers.image();
    let name = topic.name.unwrap_or_default();
    let found = find(&image, topic.topic_id, &name).map_err(|error| (error, None))?;
    let name = found.name.to_string();
    match change(node, DeleteTopicRequest { name: name.clone() }, Some(deadline)).await {
        Ok(_) => Ok((name, found.id.0)),
        Err(error) => Err((code(&error), Some(error.message))),
    }
}
