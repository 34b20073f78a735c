//! Who an idempotent producer is: an id from the cluster, the same for all its partitions, and epochs of it where a partition needs another.
//! Knows nothing of batches.

use std::sync::atomic::{AtomicBool, Ordering};

use tidelog_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerIdentity};
use tidelog_protocol::{ErrorCode, ProducerEpoch, ProtocolVersion};
use tokio::sync::Mutex;

use super::lane::{LinkTerms, Wants, Who};
use crate::ClientError;
use crate::net::Connection;

/// The protocol version from which brokers know of idempotent producers.
const KNOWN_SINCE: ProtocolVersion = ProtocolVersion(3);

/// The producer's id, once it has one.
#[derive(Debug, Default)]
pub(super) struct Identity {
    first: Mutex<Option<Who>>,
    /// Some leader was of an older release.
    unavailable: AtomicBool,
}

impl Identity {
    /// True where records to some partition are not numbered, since its broker would not know what to do with that.
    pub(super) fn is_unavailable(&self) -> bool {
        self.unavailable.load(Ordering::Relaxed)
    }

    /// What a lane is told of its leader at the other end of `connection`.
    ///
    /// # Errors
    /// Those of asking; the lane asks again as long as they can pass.
    pub(super) async fn terms(&self, connection: &Connection, wants: Option<Wants>) -> Result<LinkTerms, ClientError> {
        let tells_twice = connection.version() >= KNOWN_SINCE;
        let identity = match wants {
            None => None,
            Some(Wants::Identity) if !tells_twice => {
                if !self.unavailable.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        version = %connection.version(),
                        "the broker's release knows no idempotent producers: records whose answer is lost may be written twice, and their receipts say so"
                    );
                }
                None
            }
            Some(Wants::Identity) => Some(self.first(connection).await?),
            Some(Wants::NextEpoch(current)) if !tells_twice => {
                // Nobody but this partition looks at it.
                let epoch = ProducerEpoch(current.epoch.0.checked_add(1).unwrap_or(0));
                Some(Who { epoch, ..current })
            }
            Some(Wants::NextEpoch(current)) => Some(ask(connection, Some(current)).await?),
        };
        Ok(LinkTerms { tells_twice, identity })
    }

    /// All partitions begin as the same.
    async fn first(&self, connection: &Connection) -> Result<Who, ClientError> {
        let mut first = self.first.lock().await;
        if let Some(identity) = *first {
            return Ok(identity);
        }
        let identity = ask(connection, None).await?;
        self.unavailable.store(false, Ordering::Relaxed);
        Ok(*first.insert(identity))
    }
}

async fn ask(connection: &Connection, current: Option<Who>) -> Result<Who, ClientError> {
    let current = current.map(|Who { id, epoch }| ProducerIdentity { producer_id: id, epoch });
    let request = InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: 0, current };
    match connection.call(&request).await {
        Ok(InitProducerIdResponse { producer_id: id, epoch }) => Ok(Who { id, epoch }),
        // A broker that lost its controller for a moment; batches wait as for a leader.
        Err(ClientError::Broker(error)) if error.code == ErrorCode::Unsupported => {
            Err(ClientError::Argument(format!("the broker gives out no producer ids: {}", error.message)))
        }
        Err(error) => Err(error),
    }
}
