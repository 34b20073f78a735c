//! InitProducerId: a new producer, or the next epoch of one. For a producer without transactions every broker answers by itself: its id is its
//! own, and an epoch only has to be one that it has not used on a partition. With a transactional id its coordinator decides.

use std::sync::Arc;

use tidelog_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerIdentity};
use tidelog_protocol::{ErrorCode, ProducerEpoch, ProducerId, WireError};

use super::{Handle, transactions};
use crate::node::Node;
use crate::session::Session;

impl Handle for InitProducerIdRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<InitProducerIdResponse, WireError> {
        if self.transactional_id.is_some() {
            return transactions::init(self, node).await;
        }
        let (producer_id, epoch) = match self.current {
            Some(current) if current.producer_id < ProducerId(0) || current.epoch < ProducerEpoch(0) => {
                let sentence = format!("producer {} has no epoch {}", current.producer_id, current.epoch);
                return Err(WireError::new(ErrorCode::Malformed, sentence));
            }
            Some(ProducerIdentity { producer_id, epoch }) if epoch < ProducerEpoch(i16::MAX) => {
                (producer_id, ProducerEpoch(epoch.0 + 1))
            }
            _ => (node.producer_ids.next(node).await?, ProducerEpoch(0)),
        };
        Ok(InitProducerIdResponse { producer_id, epoch })
    }
}
