//! DescribeConfigs: the configuration of topics, by this broker's own metadata, and its own.

use std::collections::HashSet;
use std::sync::Arc;

use tidelog_coordination::ClusterImage;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::configs::{BROKER, OF_DEFAULTS, Setting, TOPIC, of_broker, of_topic};
use super::topics::{NO_ID, Refused, find, missing};
use super::{Asker, Handle};
use crate::node::Node;

impl Handle for DescribeConfigsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> DescribeConfigsResponse {
        let image = node.controllers.image();
        let with = With { synonyms: self.include_synonyms, docs: self.include_documentation };
        let (mut results, mut told) = (Vec::new(), HashSet::new());
        for resource in self.resources {
            // Each once: an answer must not grow with how often something is asked for.
            if told.insert((resource.resource_type, resource.resource_name.clone())) {
                results.push(describe(node, &image, resource, with));
            }
        }
        DescribeConfigsResponse { results, ..Default::default() }
    }
}

/// What is said besides the values.
#[derive(Clone, Copy)]
struct With {
    synonyms: bool,
    docs: bool,
}

fn describe(node: &Node, image: &ClusterImage, resource: DescribeConfigsResource, with: With) -> DescribeConfigsResult {
    let DescribeConfigsResource { resource_type, resource_name, configuration_keys } = resource;
    let found = match resource_type {
        TOPIC => find(image, NO_ID, &resource_name).map(|topic| of_topic(&topic)).map_err(|_| missing(&resource_name)),
        BROKER => settings_of_broker(node, &resource_name),
        other => {
            let sentence = format!("resources of kind {other} have no configuration here; topics and brokers have");
            Err(Refused::new(KafkaError::InvalidRequest, sentence))
        }
    };
    let keys = configuration_keys.filter(|keys| !keys.is_empty());
    let is_asked = |setting: &Setting| keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == setting.name));
    let told = DescribeConfigsResult { resource_type, resource_name, ..Default::default() };
    match found {
        Ok(settings) => {
            let configs = settings.into_iter().filter(is_asked).map(|setting| shown(setting, with)).collect();
            DescribeConfigsResult { configs, ..told }
        }
        Err(Refused { error, sentence }) => {
            DescribeConfigsResult { error_code: error.code(), error_message: sentence, ..told }
        }
    }
}

/// Of all brokers together, which have no name, none has a configuration that a request could set.
fn settings_of_broker(node: &Node, name: &str) -> Result<Vec<Setting>, Refused> {
    if name.is_empty() {
        return Ok(Vec::new());
    }
    if name.parse() == Ok(node.broker_id.0) {
        return Ok(of_broker(&node.config));
    }
    let sentence = format!("this is broker {}, which knows its own configuration only", node.broker_id);
    Err(Refused::new(KafkaError::InvalidRequest, sentence))
}

fn shown(setting: Setting, with: With) -> DescribeConfigsResourceResult {
    let Setting { name, set_as, value, default, source, kind, read_only, doc } = setting;
    let synonym =
        |value: &str, source| DescribeConfigsSynonym { name: set_as.into(), value: Some(value.into()), source };
    let set = (source != OF_DEFAULTS).then(|| synonym(&value, source));
    let synonyms = set.into_iter().chain([synonym(&default, OF_DEFAULTS)]);
    DescribeConfigsResourceResult {
        name: name.into(),
        synonyms: if with.synonyms { synonyms.collect() } else { Vec::new() },
        value: Some(value),
        read_only,
        config_source: source,
        is_sensitive: false,
        config_type: kind,
        documentation: with.docs.then_some(doc),
    }
}
