//! The transaction that all lanes of a dispatch belong to: under which name and identity, and whether a record of it has failed. Knows nothing
//! of how a transaction ends.

use std::sync::{Arc, OnceLock};

use tidelog_protocol::ProtocolVersion;
use tidelog_protocol::messages::ProducerIdentity;

use super::SendError;
use super::lane::Who;
use crate::ClientError;
use crate::net::Connection;

/// The protocol version from which brokers know of transactions.
const KNOWN_SINCE: ProtocolVersion = ProtocolVersion(4);

/// A transaction as its lanes know it.
#[derive(Debug)]
pub(crate) struct Scope {
    id: Arc<str>,
    who: Who,
    failure: OnceLock<SendError>,
}

impl Scope {
    /// The transaction of this producer, which has no other under this identity.
    pub(crate) fn new(id: Arc<str>, identity: &ProducerIdentity) -> Self {
        let who = Who { id: identity.producer_id, epoch: identity.epoch };
        Self { id, who, failure: OnceLock::new() }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) const fn who(&self) -> Who {
        self.who
    }

    /// A record of it was not written, or may not have been; the first failure is the one that counts.
    pub(super) fn fail(&self, failure: &SendError) {
        let _ = self.failure.set(failure.clone());
    }

    pub(super) fn failure(&self) -> Option<&SendError> {
        self.failure.get()
    }

    /// A leader that does not know of transactions would take the records for anybody's.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), ClientError> {
        if connection.version() >= KNOWN_SINCE {
            return Ok(());
        }
        let reason = format!("its release knows no transactions (protocol {} of {KNOWN_SINCE})", connection.version());
        Err(ClientError::Incompatible { address: connection.address().clone(), reason })
    }
}
