//! AlterConfigs: a topic sets what it is told and nothing else any more.

use std::sync::Arc;

use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::alter_configs::{AlterConfigsRequest, AlterConfigsResource, AlterConfigsResponse};
use tidelog_protocol::messages::{AlterTopicRequest, ConfigEntry};

use super::alterations::{Resource, alter_each};
use super::configs::{is_fixed, settable};
use super::topics::{NO_ID, Refused, find, missing};
use super::{Asker, Handle};
use crate::node::Node;

impl Handle for AlterConfigsRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> AlterConfigsResponse {
        let resources = self.resources.into_iter().map(|resource| {
            let AlterConfigsResource { resource_type, resource_name, configs } = resource;
            (Resource { kind: resource_type, name: resource_name }, configs)
        });
        let responses = alter_each(node, asker, resources.collect(), self.validate_only, |name, configs| {
            let mut set = Vec::with_capacity(configs.len());
            for config in configs {
                let Some(value) = config.value else {
                    let sentence =
                        format!("{} has no value: leave it out, and it goes back to its default", config.name);
                    return Err(Refused::new(KafkaError::InvalidRequest, sentence));
                };
                set.push(ConfigEntry { key: config.name, value });
            }
            let set = settable(set).map_err(|sentence| Refused::new(KafkaError::InvalidConfig, sentence))?;
            let topic = find(&node.controllers.image(), NO_ID, name).map_err(|_| missing(name))?;
            let stays = |key: &String| set.iter().any(|entry| entry.key == *key) || is_fixed(key);
            let reset = topic.overrides.keys().filter(|key| !stays(key)).cloned().collect();
            Ok(AlterTopicRequest { name: name.into(), set, reset })
        });
        AlterConfigsResponse { responses: responses.await, ..Default::default() }
    }
}
