//! AddOffsetsToTxn: a transaction is about to commit offsets of a group, which is to hear of its end.

use std::sync::Arc;

use tidelog_coordination::transactions::TransactionCommand;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use tidelog_protocol::messages::AddToTransactionRequest;

use super::transactions::{ask, identity};
use super::{Asker, Handle};
use crate::node::Node;

impl Handle for AddOffsetsToTxnRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> AddOffsetsToTxnResponse {
        let command = TransactionCommand::Add(AddToTransactionRequest {
            transactional_id: self.transactional_id.clone(),
            identity: identity(self.producer_id, self.producer_epoch),
            partitions: Vec::new(),
            groups: vec![self.group_id],
            only_asks: false,
        });
        let error = ask(node, &self.transactional_id, command, asker.version).await.err().unwrap_or(KafkaError::None);
        AddOffsetsToTxnResponse { error_code: error.code(), ..Default::default() }
    }
}
