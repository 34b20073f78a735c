//! EndTxn: a transaction is committed or aborted, which holds once it is decided. Its producer goes on under the same epoch.

use std::sync::Arc;

use tidelog_coordination::transactions::TransactionCommand;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::end_txn::{EndTxnRequest, EndTxnResponse};
use tidelog_protocol::messages::EndTransactionRequest;

use super::transactions::{ask, identity};
use super::{Asker, Handle};
use crate::node::Node;

impl Handle for EndTxnRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> EndTxnResponse {
        let command = TransactionCommand::EndInEpoch(EndTransactionRequest {
            transactional_id: self.transactional_id.clone(),
            identity: identity(self.producer_id, self.producer_epoch),
            commit: self.committed,
        });
        let error = ask(node, &self.transactional_id, command, asker.version).await.err().unwrap_or(KafkaError::None);
        EndTxnResponse { error_code: error.code(), ..Default::default() }
    }
}
