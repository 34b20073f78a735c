//! DeleteRecords: the owner of the partition moves its log start, then the disk lets go of what is below.

use std::sync::Arc;

use tidelog_coordination::controller::INTERNAL_PREFIX;
use tidelog_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use tidelog_protocol::{ErrorCode, WireError};

use super::Handle;
use crate::node::Node;
use crate::session::Session;

impl Handle for DeleteRecordsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<DeleteRecordsResponse, WireError> {
        let (partition, _) = node.registry.find(self.topic_id, self.partition)?;
        if partition.topic().as_str().starts_with(INTERNAL_PREFIX) {
            let sentence =
                format!("topic '{}' belongs to the broker: its records are not deleted by hand", partition.topic());
            return Err(WireError::new(ErrorCode::InternalTopic, sentence));
        }
        // In a task of its own: whoever stops waiting in the middle must not leave a start that holds only until the next one.
        let deletion = node.tasks.spawn(async move { partition.delete_records(self.before).await });
        let deleted = deletion.await.unwrap_or_else(|_| {
            let sentence = "deleting records failed unexpectedly; whether they are gone is unknown";
            Err(WireError::new(ErrorCode::Internal, sentence))
        });
        Ok(DeleteRecordsResponse { log_start: deleted? })
    }
}
