//! DeleteRecords: the owner of the partition moves its log start, then the disk lets go of what is below. Of a partition that coordinators keep
//! their state in, only what is damaged can be given up.

use std::sync::Arc;

use tidelog_coordination::controller::INTERNAL_PREFIX;
use tidelog_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use tidelog_protocol::{ErrorCode, Offset, WireError};

use super::Handle;
use crate::node::Node;
use crate::partition;
use crate::session::Session;

impl Handle for DeleteRecordsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<DeleteRecordsResponse, WireError> {
        let (partition, _) = node.registry.find(self.topic_id, self.partition)?;
        let is_internal = partition.topic().as_str().starts_with(INTERNAL_PREFIX);
        if is_internal && !self.accept_loss {
            return Err(by_hand(&partition));
        }
        // In a task of its own: whoever stops waiting in the middle must not leave a start that holds only until the next one.
        let (deciding, before) = (node.clone(), self.before);
        let deletion = node.tasks.spawn(async move {
            match is_internal {
                true => give_up_damaged(&deciding, &partition, before).await,
                false => partition.delete_records(before).await,
            }
        });
        let deleted = deletion.await.unwrap_or_else(|_| {
            let sentence = "deleting records failed unexpectedly; whether they are gone is unknown";
            Err(WireError::new(ErrorCode::Internal, sentence))
        });
        Ok(DeleteRecordsResponse { log_start: deleted? })
    }
}

async fn give_up_damaged(
    node: &Node,
    partition: &partition::Handle,
    before: Option<Offset>,
) -> Result<Offset, WireError> {
    let given_up = node.coordinators.give_up_damaged(partition, before).await;
    given_up.unwrap_or_else(|| Err(by_hand(partition)))
}

fn by_hand(partition: &partition::Handle) -> WireError {
    let sentence = format!("topic '{}' belongs to the broker: its records are not deleted by hand", partition.topic());
    WireError::new(ErrorCode::InternalTopic, sentence)
}
