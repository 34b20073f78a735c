//! InitProducerId: a new producer, or the next epoch of one.

use std::sync::Arc;

use tidelog_protocol::WireError;
use tidelog_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::Handle;
use crate::node::Node;
use crate::operations::identity::next_identity;
use crate::session::Session;

impl Handle for InitProducerIdRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<InitProducerIdResponse, WireError> {
        next_identity(self, node).await
    }
}
