//! DeleteRecords: the owner of the partition moves its log start.

use std::sync::Arc;

use tidelog_protocol::WireError;
use tidelog_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::Handle;
use crate::node::Node;
use crate::session::Session;

impl Handle for DeleteRecordsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<DeleteRecordsResponse, WireError> {
        let (partition, _) = node.registry.find(self.topic_id, self.partition)?;
        let log_start = partition.delete_records(self.before).await?;
        Ok(DeleteRecordsResponse { log_start })
    }
}
