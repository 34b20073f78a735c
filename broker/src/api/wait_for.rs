//! WaitFor: answers once a group has passed an offset.

use std::sync::Arc;

use tidelog_coordination::groups::{Groups, check_group};
use tidelog_protocol::WireError;
use tidelog_protocol::messages::{WaitForRequest, WaitForResponse};

use super::Handle;
use crate::node::Node;
use crate::session::Session;

impl Handle for WaitForRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<WaitForResponse, WireError> {
        // A partition that never was would be waited for for ever.
        let image = node.controllers.image();
        let topic =
            image.topic(self.topic_id).ok_or_else(|| crate::partition::refusals::unknown_topic(self.topic_id))?;
        if topic.partition(self.partition).is_none() {
            return Err(crate::partition::refusals::unknown_partition(topic, self.partition));
        }
        // It may wait for long, and what its request was lent is given back: nothing of it may be large.
        check_group(&self.group)?;
        let shard = node.coordinators.groups.of(node, &self.group)?;
        let passed = |committed: &tidelog_protocol::Offset| *committed > self.offset;
        let found = |groups: &Groups| groups.committed(&self.group, self.topic_id, self.partition).filter(passed);
        let committed = shard.watch(node, found).await?;
        Ok(WaitForResponse { committed })
    }
}
