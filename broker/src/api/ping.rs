//! Ping: answers with the broker's clock.

use std::sync::Arc;

use tidelog_protocol::WireError;
use tidelog_protocol::messages::{PingRequest, PingResponse};

use super::Handle;
use crate::clock;
use crate::node::Node;
use crate::session::Session;

impl Handle for PingRequest {
    async fn handle(self, _: &Arc<Node>, _: &Arc<Session>) -> Result<PingResponse, WireError> {
        Ok(PingResponse { broker_time: clock::now() })
    }
}
