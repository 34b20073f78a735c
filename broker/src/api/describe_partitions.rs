//! DescribePartitions: who holds what, by the metadata as this broker has them.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidelog_coordination::description;
use tidelog_protocol::WireError;
use tidelog_protocol::messages::{DescribePartitionsRequest, DescribePartitionsResponse};

use super::Handle;
use crate::node::Node;
use crate::session::Session;

impl Handle for DescribePartitionsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<DescribePartitionsResponse, WireError> {
        let image = node.controllers.image();
        let (mut partitions, mut unknown) = (Vec::new(), Vec::new());
        match self.topics {
            None => image.topics().for_each(|topic| partitions.extend(description::partitions(topic, self.filter))),
            // Each name once: an answer must not grow with how often it is asked for.
            Some(names) => {
                for name in BTreeSet::from_iter(names) {
                    match image.topic_named(name.as_str()) {
                        Some(topic) => partitions.extend(description::partitions(topic, self.filter)),
                        None => unknown.push(name),
                    }
                }
            }
        }
        Ok(DescribePartitionsResponse { as_of: image.as_of(), partitions, unknown })
    }
}
