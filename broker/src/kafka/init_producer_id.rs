//! InitProducerId: who a producer is.

use std::sync::Arc;

use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use tidelog_protocol::messages::{InitProducerIdRequest as Native, ProducerIdentity};
use tidelog_protocol::{ProducerEpoch, ProducerId};

use super::topics::code;
use super::transactions::{FENCED, OVER, transaction_code};
use super::{Asker, Handle};
use crate::node::Node;
use crate::operations::identity::next_identity;

/// From this version on producers know what it is to be fenced.
const KNOWS_FENCES: i16 = 4;

impl Handle for InitProducerIdRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> InitProducerIdResponse {
        let refused = |error: KafkaError| InitProducerIdResponse {
            error_code: error.code(),
            producer_epoch: -1,
            ..Default::default()
        };
        // Without a transactional id nobody looks at the timeout, and clients send -1.
        let timeout = u32::try_from(self.transaction_timeout_ms).ok().filter(|timeout| *timeout > 0);
        let is_transactional = self.transactional_id.is_some();
        if is_transactional && timeout.is_none() {
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
            Err(error) if is_transactional => {
                refused(transaction_code(&error, if asker.version < KNOWS_FENCES { OVER } else { FENCED }))
            }
            Err(error) => refused(code(&error)),
        }
    }
}
