//! DeleteRecords: of one partition; see `operations`.

use std::sync::Arc;

use tidelog_protocol::WireError;
use tidelog_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::Handle;
use crate::node::Node;
use crate::operations::delete_records::{OfOurOwn, delete_records, give_up_whole};
use crate::session::Session;

impl Handle for DeleteRecordsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<DeleteRecordsResponse, WireError> {
        let partition = match node.registry.find(self.topic_id, self.partition) {
            Ok((partition, _)) => partition,
            Err(refusal) if self.accept_loss => {
                let place = (self.topic_id, self.partition);
                let log_start = give_up_whole(node, place, self.before, refusal).await?;
                return Ok(DeleteRecordsResponse { log_start });
            }
            Err(refusal) => return Err(refusal),
        };
        let of_our_own = if self.accept_loss { OfOurOwn::DamageGivenUp } else { OfOurOwn::Refused };
        let log_start = delete_records(node, partition, self.before, of_our_own).await?;
        Ok(DeleteRecordsResponse { log_start })
    }
}
