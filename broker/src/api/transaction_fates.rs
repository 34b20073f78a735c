//! TransactionFates: the leader of a partition on another broker asks what became of transactions that are open there for long.

use std::sync::Arc;

use tidelog_protocol::messages::{TransactionFatesRequest, TransactionFatesResponse};
use tidelog_protocol::{ErrorCode, WireError};

use super::Handle;
use crate::coordinators::hanging::{ASKED_MAX, fates};
use crate::node::Node;
use crate::session::Session;

impl Handle for TransactionFatesRequest {
    async fn handle(self, node: &Arc<Node>, session: &Arc<Session>) -> Result<TransactionFatesResponse, WireError> {
        session.member()?;
        let count = self.identities.len();
        if count > ASKED_MAX {
            let sentence = format!("{count} transactions are asked about in one request; {ASKED_MAX} may be");
            return Err(WireError::new(ErrorCode::TooLarge, sentence));
        }
        Ok(fates(node, &self.identities).await)
    }
}
