//! InitProducerId: who a producer is.

use std::sync::Arc;

use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use tidelog_protocol::messages::{InitProducerIdRequest as Native, ProducerIdentity};
use tidelog_protocol::{ProducerEpoch, ProducerId};

use super::topics::code;
use super::{Asker, Handle};
use crate::node::Node;
use crate::operations::identity::next_identity;

impl Handle for InitProducerIdRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> InitProducerIdResponse {
        let refused = |error: KafkaError| InitProducerIdResponse {
            error_code: error.code(),
            producer_epoch: -1,
            ..Default::default()
        };
        // Without a transactional id nobody looks at the timeout, and clients send -1.
        let timeout = u32::try_from(self.transaction_timeout_ms);
        if self.transactional_id.is_some() && timeout.is_err() {
            return refused(KafkaError::InvalidTransactionTimeout);
        }
        let (producer_id, epoch) = (ProducerId(self.producer_id), ProducerEpoch(self.producer_epoch));
        let is_known = producer_id >= ProducerId(0) && epoch >= ProducerEpoch(0);
        let request = Native {
            transactional_id: self.transactional_id,
            transaction_timeout_ms: timeout.unwrap_or(0),
            current: is_known.then_some(ProducerIdentity { producer_id, epoch }),
        };
        match next_identity(request, node).await {
            Ok(identity) => InitProducerIdResponse {
                producer_id: identity.producer_id.0,
                producer_epoch: identity.epoch.0,
                ..Default::default()
            },
            Err(error) => refused(code(&error)),
        }
    }
}
