//! DeleteRecords: of one partition; see `operations`.

use std::sync::Arc;

use tidelog_protocol::WireError;
use tidelog_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::Handle;
use crate::node::Node;
use crate::operations::delete_records::{OfOurOwn, delete_records};
use crate::session::Session;

impl Handle for DeleteRecordsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<DeleteRecordsResponse, WireError> {
        let (partition, _) = node.registry.find(self.topic_id, self.partition)?;
        let of_our_own = if self.accept_loss { OfOurOwn::DamageGivenUp } else { OfOurOwn::Refused };
        let log_start = delete_records(node, partition, self.before, of_our_own).await?;
        Ok(DeleteRecordsResponse { log_start })
    }
}
