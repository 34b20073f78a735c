//! IncrementalAlterConfigs: a topic sets what it is told, and keeps the rest as it is.

use std::sync::Arc;

use tidelog_coordination::TopicConfig;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::incremental_alter_configs::{
    APPEND, AlterConfigsResource, AlterableConfig, DELETE, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, SET, SUBTRACT,
};
use tidelog_protocol::messages::{AlterTopicRequest, ConfigEntry};

use super::alterations::{Resource, alter_each};
use super::configs::{appended, is_fixed, settable, subtracted};
use super::topics::{NO_ID, Refused, find, missing};
use super::{Asker, Handle};
use crate::node::Node;

impl Handle for IncrementalAlterConfigsRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> IncrementalAlterConfigsResponse {
        let resources = self.resources.into_iter().map(|resource| {
            let AlterConfigsResource { resource_type, resource_name, configs } = resource;
            (Resource { kind: resource_type, name: resource_name }, configs)
        });
        let responses = alter_each(node, asker, resources.collect(), self.validate_only, |name, configs| {
            let (mut set, mut reset) = (Vec::new(), Vec::new());
            for AlterableConfig { name: key, config_operation, value } in configs {
                match (config_operation, value) {
                    (DELETE, _) if is_fixed(&key) => {}
                    (DELETE, _) => reset.push(key),
                    (_, None) => {
                        let sentence = format!("{key} has no value");
                        return Err(Refused::new(KafkaError::InvalidRequest, sentence));
                    }
                    (SET, Some(value)) => set.push(ConfigEntry { key, value }),
                    (operation @ (APPEND | SUBTRACT), Some(words)) => {
                        let value = changed_list(node, name, &key, operation, &words)?;
                        set.push(ConfigEntry { key, value });
                    }
                    (other, _) => {
                        let sentence = format!("there is no operation {other}; 0 sets, 1 puts back, 2 adds, 3 takes");
                        return Err(Refused::new(KafkaError::InvalidRequest, sentence));
                    }
                }
            }
            let set = settable(set).map_err(|sentence| Refused::new(KafkaError::InvalidConfig, sentence))?;
            Ok(AlterTopicRequest { name: name.into(), set, reset })
        });
        IncrementalAlterConfigsResponse { responses: responses.await, ..Default::default() }
    }
}

/// A list of the topic with these words in it, or without them.
fn changed_list(node: &Node, topic: &str, key: &str, operation: i8, words: &str) -> Result<String, Refused> {
    let invalid = |sentence| Refused::new(KafkaError::InvalidConfig, sentence);
    let topic = find(&node.controllers.image(), NO_ID, topic).map_err(|_| missing(topic))?;
    let row = TopicConfig::key(key).map_err(|error| invalid(error.to_string()))?;
    let list = row.value_in(&topic.config);
    let changed = if operation == APPEND { appended } else { subtracted };
    changed(key, &list, words).map_err(invalid)
}
